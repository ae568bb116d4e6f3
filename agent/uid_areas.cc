#include "agent/uid_areas.h"

#include <fcntl.h>
#include <sys/file.h>

#include <algorithm>
#include <cerrno>

#include "base/file.h"

namespace agent {

UidArea::UidArea(base::UniqueFd lock, std::uint32_t first_uid)
    : lock_(std::move(lock)), first_uid_(first_uid), taken_(kSlotsPerArea, false) {
  taken_[0] = true;
}

base::Result<UidArea> UidArea::claim(const std::string& lock_dir) {
  BROOD_CHECK(base::make_directories(lock_dir, 0700));
  BROOD_TRY(const base::UniqueFd directory,
            base::open_at(AT_FDCWD, lock_dir, O_RDONLY | O_DIRECTORY));
  for (std::uint32_t area = 0; area < kAreaCount; ++area) {
    BROOD_TRY(base::UniqueFd lock, base::open_at(directory.get(), std::to_string(area),
                                                 O_RDWR | O_CREAT | O_NOFOLLOW, 0600));
    if (::flock(lock.get(), LOCK_EX | LOCK_NB) == 0) {
      return UidArea(std::move(lock), kFirstArea + area * kUidsPerArea);
    }
  }
  return base::fail(
      base::Error("all " + std::to_string(kAreaCount) + " areas of sandbox uids are taken", EUSERS,
                  lock_dir, "use fewer runtimes, or stop another agent"));
}

std::uint32_t UidArea::take_slot() {
  for (std::uint32_t slot = lowest_free_; slot < kSlotsPerArea; ++slot) {
    if (!taken_[slot]) {
      taken_[slot] = true;
      lowest_free_ = slot + 1;
      return slot;
    }
  }
  return 0;
}

void UidArea::give_back(std::uint32_t slot) {
  taken_[slot] = false;
  lowest_free_ = std::min(lowest_free_, slot);
}

}  // namespace agent

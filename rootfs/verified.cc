#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/file.h"
#include "rootfs/image.h"
#include "rootfs/walk.h"

namespace rootfs {
namespace {

using base::fail_because;
using base::Result;
using base::Status;

constexpr char kBootId[] = "/proc/sys/kernel/random/boot_id";

// Two changes of a file closer together than this may get the same time: a tick of the kernel is 10
// ms at most, a network or FAT file system's time can be as coarse as two seconds.
constexpr std::int64_t kGrain = 3;  // seconds

struct State {
  std::string digest;
  std::int64_t changed = 0;  // the newest time of change in the tree, seconds since 1970
};

void add_number(std::string& record, std::uint64_t number) {
  record += std::to_string(number) + ' ';
}

void add_time(std::string& record, const timespec& time) {
  add_number(record, static_cast<std::uint64_t>(time.tv_sec));
  add_number(record, static_cast<std::uint64_t>(time.tv_nsec));
}

std::string record_of(const Entry& entry) {
  const struct stat& status = entry.status;
  std::string record;
  for (const std::uint64_t number :
       {std::uint64_t{status.st_dev}, std::uint64_t{status.st_ino}, std::uint64_t{status.st_mode},
        std::uint64_t{status.st_uid}, std::uint64_t{status.st_gid},
        static_cast<std::uint64_t>(status.st_size)}) {
    add_number(record, number);
  }
  add_time(record, status.st_mtim);
  add_time(record, status.st_ctim);
  record += entry.path;
  record += '\0';
  return record;
}

Result<State> state_of(const Image& image) {
  BROOD_TRY(const std::string boot, base::read_file(kBootId));
  BROOD_TRY(std::vector<Entry> entries, walk(image.root.get()));
  std::sort(entries.begin(), entries.end(),
            [](const Entry& a, const Entry& b) { return a.path < b.path; });
  State state;
  base::Sha256 sum;
  sum.update("brood-verified-1\n" + boot + image.manifest.digest + "\n");
  for (const Entry& entry : entries) {
    sum.update(record_of(entry));
    state.changed = std::max<std::int64_t>(state.changed, entry.status.st_ctim.tv_sec);
  }
  state.digest = sum.finish();
  return state;
}

}  // namespace

Status verify(const Image& image) {
  BROOD_TRY(const TreeDigest found, tree_digest(image.root.get()));
  if (found.digest != image.manifest.digest) {
    return fail_because("image '" + image.manifest.name + "' is not what was built: " +
                            found.digest + ", not " + image.manifest.digest,
                        "build it again: make -f Makefile.rootfs " + image.manifest.name);
  }
  return {};
}

Status verify_once(const Image& image, std::int64_t now) {
  BROOD_TRY(const State state, state_of(image));
  const auto noted = base::read_file_at(image.directory.get(), kVerifiedFile);
  if (noted && *noted == state.digest) {
    return {};
  }
  BROOD_CHECK(verify(image));
  if (state.changed + kGrain < now) {
    // Best effort: without it the tree is read again.
    (void)base::replace_file_at(image.directory.get(), kVerifiedFile, state.digest, 0600);
  }
  return {};
}

}  // namespace rootfs

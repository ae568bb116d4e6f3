// Host uids for sandboxes: each sandbox has a range of its own, and no two agents of a host share
// one.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace agent {

constexpr std::uint32_t kUidsPerSandbox = 1U << 16;
constexpr std::uint32_t kSlotsPerArea = 1U << 11;  // slot 0 belongs to the zygote
constexpr std::uint32_t kUidsPerArea = kUidsPerSandbox * kSlotsPerArea;
// Above what distributions and systemd hand out (systemd, "Users, Groups, UIDs and GIDs on systemd
// Systems": containers get 524288 to 1879048191), below 2^32 - 1.
constexpr std::uint32_t kFirstArea = 1U << 31;
constexpr std::uint32_t kAreaCount = 15;

// One runtime's stretch of host uids, held by a lock that the kernel drops with the agent. Slots
// are handed out lowest first and may be given back in any order.
class UidArea {
 public:
  // Claims a free area below `lock_dir` (made 0700 if need be). EUSERS: all are taken.
  static base::Result<UidArea> claim(const std::string& lock_dir);

  std::uint32_t first_uid() const { return first_uid_; }
  // A free slot (1 … kSlotsPerArea - 1), or 0 when there is none.
  std::uint32_t take_slot();
  void give_back(std::uint32_t slot);
  static std::uint32_t uid_within(std::uint32_t slot) { return slot * kUidsPerSandbox; }

 private:
  UidArea(base::UniqueFd lock, std::uint32_t first_uid);
  base::UniqueFd lock_;
  std::uint32_t first_uid_ = 0;
  std::vector<bool> taken_;
  std::uint32_t lowest_free_ = 1;
};

}  // namespace agent

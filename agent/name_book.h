// What the names of a policy stand for at present, and so what of them is open. Pure.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <map>
#include <string_view>
#include <utility>
#include <vector>

#include "netns/policy.h"

namespace agent {

constexpr std::size_t kMostLearned = 256;  // addresses at once, of names with the same ports
constexpr unsigned kLeastOpenSeconds = 30;
constexpr unsigned kMostOpenSeconds = 3600;
constexpr unsigned kOpenGraceSeconds = 10;  // for whoever connects when its time is just over

class NameBook {
 public:
  using Clock = std::chrono::steady_clock;
  explicit NameBook(std::vector<netns::NameGroup> groups)
      : groups_(std::move(groups)), open_(groups_.size()) {}

  const std::vector<netns::NameGroup>& groups() const { return groups_; }
  // What has to be done so that these addresses are open; nothing where they are for long enough.
  // Those that are not public are left out, and where there is no room those are closed that would
  // be next.
  std::vector<netns::Admission> learn(std::string_view name,
                                      const std::vector<netns::Prefix>& addresses, unsigned seconds,
                                      Clock::time_point now);
  // It could not be done.
  void forget(const std::vector<netns::Admission>& admissions);

 private:
  using Key = std::pair<int, std::array<std::uint8_t, 16>>;
  using Open = std::map<Key, Clock::time_point>;
  static void make_room(Open& open, std::size_t group, Clock::time_point now,
                        std::vector<netns::Admission>& into);

  const std::vector<netns::NameGroup> groups_;
  std::vector<Open> open_;  // by group: until when
};

}  // namespace agent

#include "agent/name_book.h"

#include <sys/socket.h>

#include <algorithm>

namespace agent {
namespace {

bool is_of(const netns::NameGroup& group, std::string_view name) {
  return std::any_of(
      group.names.begin(), group.names.end(),
      [&](const netns::NamePattern& pattern) { return netns::matches(pattern, name); });
}

}  // namespace

std::vector<netns::Admission> NameBook::learn(std::string_view name,
                                              const std::vector<netns::Prefix>& addresses,
                                              unsigned seconds, Clock::time_point now) {
  const unsigned lasts = std::clamp(seconds, kLeastOpenSeconds, kMostOpenSeconds);
  std::vector<netns::Admission> admissions;
  for (std::size_t group = 0; group < groups_.size(); ++group) {
    if (!is_of(groups_[group], name)) {
      continue;
    }
    Open& open = open_[group];
    for (const netns::Prefix& address : addresses) {
      const Key key{address.family, address.bytes};
      const auto found = open.find(key);
      if (!is_public(address) ||
          (found != open.end() && found->second >= now + std::chrono::seconds(lasts))) {
        continue;
      }
      if (found == open.end()) {
        make_room(open, group, now, admissions);
      }
      open[key] = now + std::chrono::seconds(lasts + kOpenGraceSeconds);
      admissions.push_back(
          {.group = group, .address = address, .seconds = lasts + kOpenGraceSeconds});
    }
  }
  return admissions;
}

// The kernel closes by itself what is over.
void NameBook::make_room(Open& open, std::size_t group, Clock::time_point now,
                         std::vector<netns::Admission>& into) {
  if (open.size() < kMostLearned) {
    return;
  }
  std::erase_if(open, [&](const auto& one) { return one.second <= now; });
  if (open.size() < kMostLearned) {
    return;
  }
  const auto next = std::min_element(
      open.begin(), open.end(), [](const auto& a, const auto& b) { return a.second < b.second; });
  const auto& [family, bytes] = next->first;
  into.push_back(
      {.group = group, .address = {family, bytes, family == AF_INET ? 32U : 128U}, .seconds = 0});
  open.erase(next);
}

void NameBook::forget(const std::vector<netns::Admission>& admissions) {
  for (const netns::Admission& one : admissions) {
    open_[one.group].erase({one.address.family, one.address.bytes});
  }
}

}  // namespace agent

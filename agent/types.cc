#include "agent/types.h"

#include <algorithm>
#include <array>

namespace agent {
namespace {

constexpr std::array<std::string_view, kEndingCount> kEndingNames{
    "ok",         "handler_error",     "init_error",
    "timeout",    "out_of_memory",     "pids_limit",
    "killed",     "payload_too_large", "response_too_large",
    "overloaded", "protocol_error",    "internal"};
constexpr std::array<int, kEndingCount> kHttpStatus{200, 500, 500, 504, 502, 502,
                                                    502, 413, 502, 429, 502, 500};
constexpr int kFirstFailureExit = 10;
constexpr std::array<std::string_view, kStageCount> kStageNames{
    "received", "queued", "assigned", "attached", "limited", "sent",
    "woken",    "loaded", "called",   "returned", "encoded", "answered"};

}  // namespace

std::string_view ending_name(Ending ending) {
  return kEndingNames[static_cast<std::size_t>(ending)];
}

std::optional<Ending> ending_of(std::string_view name) {
  const auto* found = std::find(kEndingNames.begin(), kEndingNames.end(), name);
  if (found == kEndingNames.end()) {
    return std::nullopt;
  }
  return static_cast<Ending>(found - kEndingNames.begin());
}

int http_status_of(Ending ending) {
  return kHttpStatus[static_cast<std::size_t>(ending)];
}

int exit_code_of(Ending ending) {
  return ending == Ending::ok ? 0 : kFirstFailureExit + static_cast<int>(ending);
}

std::string_view stage_name(Stage stage) {
  return kStageNames[static_cast<std::size_t>(stage)];
}

std::string validate_name(std::string_view name) {
  const auto fine = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '_' || c == '-';
  };
  if (name.empty() || name.size() > 63 || name.front() == '-' || name.front() == '_' ||
      !std::all_of(name.begin(), name.end(), fine)) {
    return "a name is 1 to 63 of a-z, 0-9, '-' and '_', and begins with a letter or a digit";
  }
  return {};
}

}  // namespace agent

#include "rootfs/archive.h"

#include <signal.h>
#include <string.h>

#include <array>
#include <nlohmann/json.hpp>
#include <vector>

#include "base/utf8.h"

namespace rootfs {
namespace {

using base::fail_because;
using nlohmann::json;

constexpr std::size_t kNameLimit = 255;  // NAME_MAX
constexpr std::size_t kReasonLimit = 1000;
constexpr std::size_t kVerdictLimit = 16 << 10;

bool is_control(char32_t c) {
  return c < 0x20 || (c >= 0x7f && c < 0xa0);
}

// Empty when every character may be part of a path.
std::string_view broken_rule(std::string_view text) {
  while (!text.empty()) {
    const base::CodePoint point = base::first_code_point(text);
    if (point.length == 0) {
      return "its name is not valid UTF-8";
    }
    if (is_control(point.value)) {
      return "its name has a control character";
    }
    text.remove_prefix(point.length);
  }
  return {};
}

// The components, without empty ones and ".".
std::vector<std::string_view> components(std::string_view path) {
  std::vector<std::string_view> parts;
  while (!path.empty()) {
    const std::string_view part = path.substr(0, path.find('/'));
    path.remove_prefix(std::min(path.size(), part.size() + 1));
    if (!part.empty() && part != ".") {
      parts.push_back(part);
    }
  }
  return parts;
}

std::string join(const std::vector<std::string_view>& parts) {
  std::string path;
  for (const std::string_view part : parts) {
    path += path.empty() ? "" : "/";
    path += part;
  }
  return path;
}

Status check_text(std::string_view text, const UnpackLimits& limits) {
  if (text.size() > limits.path) {
    return fail_because("its path is longer than " + std::to_string(limits.path) + " bytes");
  }
  if (const auto rule = broken_rule(text); !rule.empty()) {
    return fail_because(std::string(rule));
  }
  return {};
}

Status check_components(const std::vector<std::string_view>& parts, const UnpackLimits& limits) {
  if (parts.size() > limits.depth) {
    return fail_because("it lies more than " + std::to_string(limits.depth) + " folders deep");
  }
  for (const std::string_view part : parts) {
    if (part.size() > kNameLimit) {
      return fail_because("its name is longer than " + std::to_string(kNameLimit) + " bytes");
    }
  }
  return {};
}

std::string signal_name(int number) {
  const char* name = ::sigabbrev_np(number);
  return name != nullptr ? std::string("SIG") + name : "signal " + std::to_string(number);
}

Result<UnpackVerdict> verdict_of_death(int signal) {
  const std::string died = "the unpacker died of " + signal_name(signal);
  switch (signal) {
    case SIGKILL:
      return fail_because(died, "it was killed from outside: out of memory, or by hand");
    case SIGXCPU:
      return UnpackVerdict{.refusal = "unpacking it takes more processor time than is allowed",
                           .entry = {}};
    case SIGSYS:
      return UnpackVerdict{.refusal = died + ": reading it led to a forbidden system call",
                           .entry = {}};
    default:
      return UnpackVerdict{.refusal = died + " over it", .entry = {}};
  }
}

// A count that a hostile hand may have written.
bool read_count(const json& object, const char* key, std::uint64_t& value) {
  const auto at = object.find(key);
  if (at == object.end() || !at->is_number_unsigned()) {
    return false;
  }
  value = at->get<std::uint64_t>();
  return true;
}

std::string read_text(const json& object, const char* key) {
  const auto at = object.find(key);
  return at != object.end() && at->is_string() ? printable(at->get<std::string>(), kReasonLimit)
                                               : std::string();
}

std::string dump(const json& object) {
  return object.dump(-1, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace

Result<std::string> safe_entry_path(std::string_view name, const UnpackLimits& limits) {
  if (name.empty()) {
    return fail_because("it has no name");
  }
  BROOD_CHECK(check_text(name, limits));
  if (name.front() == '/') {
    return fail_because("its path is absolute");
  }
  const auto parts = components(name);
  BROOD_CHECK(check_components(parts, limits));
  for (const std::string_view part : parts) {
    if (part == "..") {
      return fail_because("its path has a '..'");
    }
  }
  return join(parts);
}

Result<std::string> safe_link_target(std::string_view link_path, std::string_view target,
                                     const UnpackLimits& limits) {
  if (target.empty()) {
    return fail_because("it is a link to nothing");
  }
  BROOD_CHECK(check_text(target, limits));
  if (target.front() == '/') {
    return fail_because("it is a link to an absolute path");
  }
  const auto parts = components(target);
  BROOD_CHECK(check_components(parts, limits));
  std::size_t ups = 0;
  while (ups < parts.size() && parts[ups] == "..") {
    ++ups;
  }
  const std::size_t folders = components(link_path).size() - (link_path.empty() ? 0 : 1);
  if (ups > folders) {
    return fail_because("it is a link that leads out of the archive");
  }
  for (std::size_t i = ups; i < parts.size(); ++i) {
    if (parts[i] == "..") {
      return fail_because("it is a link with a '..' behind a name");
    }
  }
  return parts.empty() ? std::string(".") : join(parts);
}

std::string printable(std::string_view name, std::size_t limit) {
  constexpr char kHex[] = "0123456789abcdef";
  std::string text;
  while (!name.empty()) {
    if (text.size() >= limit) {
      return text + "...";
    }
    const base::CodePoint point = base::first_code_point(name);
    if (point.length != 0 && !is_control(point.value)) {
      text += name.substr(0, point.length);
      name.remove_prefix(point.length);
      continue;
    }
    const auto byte = static_cast<unsigned char>(name.front());
    text += {'\\', 'x', kHex[byte >> 4], kHex[byte & 15]};
    name.remove_prefix(1);
  }
  return text;
}

std::string UnpackVerdict::message() const {
  if (accepted()) {
    return "the archive is accepted";
  }
  return "the archive is refused: " + (entry.empty() ? "" : "'" + entry + "': ") + refusal;
}

std::string format_verdict(const UnpackVerdict& verdict) {
  return verdict.accepted() ? dump({{"files", verdict.files}, {"bytes", verdict.bytes}})
                            : format_unable(verdict.refusal, verdict.entry);
}

std::string format_unable(std::string_view reason, std::string_view entry) {
  return dump({{"error", reason}, {"entry", entry}});
}

Result<UnpackVerdict> parse_verdict(std::string_view text, base::ProcessEnd end) {
  if (end.code != CLD_EXITED) {
    return verdict_of_death(end.status);
  }
  const json object =
      text.size() <= kVerdictLimit ? json::parse(text, nullptr, false) : json(json::value_t::null);
  if (!object.is_object()) {
    return fail_because("the unpacker left with status " + std::to_string(end.status) +
                        " and no verdict");
  }
  UnpackVerdict verdict;
  if (end.status == kUnpackAccepted && read_count(object, "files", verdict.files) &&
      read_count(object, "bytes", verdict.bytes)) {
    return verdict;
  }
  verdict.refusal = read_text(object, "error");
  verdict.entry = read_text(object, "entry");
  if (end.status == kUnpackRefused && !verdict.refusal.empty()) {
    return verdict;
  }
  if (end.status == kUnpackUnable && !verdict.refusal.empty()) {
    return fail_because("unpack: " + verdict.refusal +
                        (verdict.entry.empty() ? "" : " ('" + verdict.entry + "')"));
  }
  return fail_because("the unpacker's verdict does not fit its exit status " +
                      std::to_string(end.status));
}

}  // namespace rootfs

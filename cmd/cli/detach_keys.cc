#include "cmd/cli/detach_keys.h"

#include <algorithm>
#include <utility>

namespace cli {
namespace {

constexpr std::string_view kControl = "ctrl-";
constexpr unsigned kControlBits = 0x1f;

// 0 where it is no key.
char key_of(std::string_view text) {
  if (text.size() == 1) {
    return text[0];
  }
  if (text.size() != kControl.size() + 1 || text.substr(0, kControl.size()) != kControl) {
    return 0;
  }
  const char letter = text.back();
  const bool fine = (letter >= 'a' && letter <= 'z') ||
                    std::string_view("[\\]^_").find(letter) != std::string_view::npos;
  return fine ? static_cast<char>(static_cast<unsigned char>(letter) & kControlBits) : '\0';
}

}  // namespace

Outcome<std::string> parse_detach_keys(std::string_view text) {
  std::string keys;
  while (!text.empty()) {
    const auto comma = text.find(',');
    const char key = key_of(text.substr(0, comma));
    if (key == '\0') {
      return fail(Exit::usage, "--detach-keys: '" + std::string(text.substr(0, comma)) +
                                   "' is no key; such as ctrl-p,ctrl-q");
    }
    keys.push_back(key);
    text = comma == std::string_view::npos ? std::string_view{} : text.substr(comma + 1);
  }
  return keys;
}

bool DetachKeys::take(std::string& typed) {
  if (keys_.empty()) {
    return false;
  }
  std::string through;
  for (const char key : typed) {
    // The longest beginning of the keys that what was typed ends with.
    std::string tail = keys_.substr(0, seen_) + key;
    while (!tail.empty() && keys_.compare(0, tail.size(), tail) != 0) {
      through.push_back(tail.front());
      tail.erase(0, 1);
    }
    seen_ = tail.size();
    if (seen_ == keys_.size()) {
      seen_ = 0;
      typed = std::move(through);
      return true;
    }
  }
  typed = std::move(through);
  return false;
}

}  // namespace cli

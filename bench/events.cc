#include "bench/events.h"

#include <algorithm>
#include <string_view>

namespace bench {
namespace {

std::string digits(std::size_t number) {
  return std::to_string(Events::kFirst + (number - Events::kFirst) % Events::kMost);
}

}  // namespace

Events::Events(std::size_t size) {
  constexpr std::string_view kWords = "the quick brown fox jumps over the lazy dog ";
  const std::size_t frame = event(kFirst).size();
  while (frame + text_.size() < size) {
    text_ += kWords.substr(0, size - frame - text_.size());
  }
  for (std::size_t at = 0; at < text_.size(); ++at) {
    if (text_[at] != ' ' && (at == 0 || text_[at - 1] == ' ')) {
      ++words_;
      const std::string word = text_.substr(at, text_.find(' ', at) - at);
      if (std::find(different_.begin(), different_.end(), word) == different_.end()) {
        different_.push_back(word);
      }
    }
  }
}

std::string Events::event(std::size_t number) const {
  return "{\"number\":" + digits(number) + ",\"text\":\"" + text_ + "\"}";
}

std::string Events::answer(std::size_t number) const {
  return "{\"number\":" + digits(number) + ",\"words\":" + std::to_string(words_) +
         ",\"different\":" + std::to_string(different_.size()) + "}";
}

}  // namespace bench

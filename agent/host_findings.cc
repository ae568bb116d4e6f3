#include "agent/host_findings.h"

#include <unistd.h>

#include <algorithm>
#include <charconv>

#include "base/file.h"

namespace agent::host {

HostFinding good(std::string id, std::string title, std::string found) {
  return {.id = std::move(id),
          .title = std::move(title),
          .level = HostLevel::ok,
          .found = std::move(found),
          .meaning = {},
          .mend = {}};
}

HostFinding wanting(std::string id, std::string title, std::string found, Want want) {
  return {.id = std::move(id),
          .title = std::move(title),
          .level = want.level,
          .found = std::move(found),
          .meaning = std::move(want.meaning),
          .mend = std::move(want.mend)};
}

HostFinding tried(std::string id, std::string title, const Trial& trial, Want want) {
  return trial.works() ? good(std::move(id), std::move(title), trial.text())
                       : wanting(std::move(id), std::move(title), trial.text(), std::move(want));
}

std::optional<std::string> read_line(const std::string& path) {
  auto text = base::read_file(path);
  if (!text) {
    return std::nullopt;
  }
  return text->substr(0, text->find('\n'));
}

std::optional<std::string> read_setting(std::string name) {
  std::replace(name.begin(), name.end(), '.', '/');
  return read_line("/proc/sys/" + name);
}

bool path_exists(const std::string& path) {
  return ::access(path.c_str(), F_OK) == 0;
}

std::uint64_t to_number(const std::optional<std::string>& text, std::uint64_t otherwise,
                        int number_base) {
  std::uint64_t value = 0;
  if (!text || std::from_chars(text->data(), text->data() + text->size(), value, number_base).ec !=
                   std::errc()) {
    return otherwise;
  }
  return value;
}

std::string nearest_existing(std::string path) {
  while (path.size() > 1 && !path_exists(path)) {
    const std::size_t slash = path.rfind('/');
    path = slash == std::string::npos || slash == 0 ? "/" : path.substr(0, slash);
  }
  return path;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

}  // namespace agent::host

#include "rootfs/image_config.h"

#include <sys/utsname.h>

#include <algorithm>
#include <nlohmann/json.hpp>

namespace rootfs {
namespace {

using base::fail_because;
using base::Result;
using base::Status;
using nlohmann::json;

constexpr std::size_t kMostConfig = 4 << 20;  // bytes of JSON: it has the image's history, too
constexpr std::size_t kMostItems = 4096;
constexpr std::size_t kMostBytes = 64 << 10;  // of one value, with all its items

Status broken(const std::string& key, const char* rule) {
  return fail_because("image config: '" + key + "' " + rule);
}

Status take_text(const json& value, const std::string& key, std::string& into) {
  if (value.is_null()) {
    return {};
  }
  if (!value.is_string()) {
    return broken(key, "is no text");
  }
  into = value.get<std::string>();
  if (into.size() > kMostBytes || into.find('\0') != std::string::npos) {
    return broken(key, "is over 64 KiB, or has a NUL in it");
  }
  return {};
}

Status take_list(const json& value, const std::string& key, std::vector<std::string>& into) {
  if (value.is_null()) {
    return {};
  }
  if (!value.is_array() || value.size() > kMostItems) {
    return broken(key, "is no list of at most 4096 texts");
  }
  std::size_t bytes = 0;
  for (const json& item : value) {
    if (!item.is_string()) {
      return broken(key, "is no list of texts");
    }
    BROOD_CHECK(take_text(item, key, into.emplace_back()));
    bytes += into.back().size() + 1;
  }
  return bytes > kMostBytes ? broken(key, "is over 64 KiB") : Status{};
}

Status check(const ImageConfig& config) {
  for (const std::string& pair : config.environment) {
    if (pair.find('=') == std::string::npos || pair.front() == '=') {
      return broken("Env", "has an entry that is not KEY=VALUE");
    }
  }
  if (!config.directory.empty() && config.directory.front() != '/') {
    return broken("WorkingDir", "is no absolute path");
  }
  return {};
}

// As Go's runtime names them, and images with it.
std::string own_architecture() {
  utsname names{};
  if (::uname(&names) != 0) {
    return {};
  }
  const std::string machine = names.machine;
  return machine == "x86_64" ? "amd64" : machine == "aarch64" ? "arm64" : machine;
}

Status check_platform(const json& document) {
  const std::string system = document.value("os", "linux");
  const std::string processor = document.value("architecture", own_architecture());
  if (system != "linux") {
    return fail_because("the image is for " + system + ", and this is linux");
  }
  if (processor != own_architecture()) {
    return fail_because("the image is for " + processor + ", and this is " + own_architecture());
  }
  return {};
}

Result<json> parse_object(std::string_view text) {
  json document = json::parse(text, nullptr, /*allow_exceptions=*/false);
  if (text.size() > kMostConfig || document.is_discarded() || !document.is_object()) {
    return fail_because("image config: not a JSON object, or over 4 MiB");
  }
  return document;
}

struct Key {
  const char* name;
  std::vector<std::string> ImageConfig::*list;
  std::string ImageConfig::*text;
};
constexpr Key kOciKeys[] = {{"Entrypoint", &ImageConfig::entrypoint, nullptr},
                            {"Cmd", &ImageConfig::command, nullptr},
                            {"Env", &ImageConfig::environment, nullptr},
                            {"WorkingDir", nullptr, &ImageConfig::directory},
                            {"User", nullptr, &ImageConfig::user},
                            {"StopSignal", nullptr, &ImageConfig::stop_signal}};
constexpr Key kOwnKeys[] = {{"entrypoint", &ImageConfig::entrypoint, nullptr},
                            {"command", &ImageConfig::command, nullptr},
                            {"environment", &ImageConfig::environment, nullptr},
                            {"directory", nullptr, &ImageConfig::directory},
                            {"user", nullptr, &ImageConfig::user},
                            {"stop_signal", nullptr, &ImageConfig::stop_signal}};

Status take(const Key& key, const json& value, ImageConfig& into) {
  return key.list != nullptr ? take_list(value, key.name, into.*key.list)
                             : take_text(value, key.name, into.*key.text);
}

}  // namespace

Result<ImageConfig> parse_oci_config(std::string_view text) {
  BROOD_TRY(const json document, parse_object(text));
  for (const char* key : {"os", "architecture"}) {
    if (document.contains(key) && !document[key].is_string()) {
      return fail_because("image config: '" + std::string(key) + "' is no text");
    }
  }
  BROOD_CHECK(check_platform(document));
  ImageConfig config;
  const json wanted = document.value("config", json());
  if (!wanted.is_object()) {
    return wanted.is_null() ? Result<ImageConfig>(config)
                            : fail_because("image config: 'config' is no object");
  }
  for (const Key& key : kOciKeys) {
    if (const auto found = wanted.find(key.name); found != wanted.end()) {
      BROOD_CHECK(take(key, *found, config));
    }
  }
  BROOD_CHECK(check(config));
  return config;
}

Result<ImageConfig> parse_image_config(std::string_view json_object) {
  BROOD_TRY(const json document, parse_object(json_object));
  ImageConfig config;
  for (const auto& item : document.items()) {
    const std::string& name = item.key();
    const json& value = item.value();
    const auto* const key = std::find_if(std::begin(kOwnKeys), std::end(kOwnKeys),
                                         [&](const Key& one) { return name == one.name; });
    if (key == std::end(kOwnKeys)) {
      return fail_because("image config: '" + name + "' is not a key of it");
    }
    BROOD_CHECK(take(*key, value, config));
  }
  BROOD_CHECK(check(config));
  return config;
}

std::string format_image_config(const ImageConfig& config) {
  nlohmann::ordered_json document = nlohmann::ordered_json::object();
  for (const Key& key : kOwnKeys) {
    if (key.list != nullptr && !(config.*key.list).empty()) {
      document[key.name] = config.*key.list;
    } else if (key.text != nullptr && !(config.*key.text).empty()) {
      document[key.name] = config.*key.text;
    }
  }
  return document.dump();
}

}  // namespace rootfs

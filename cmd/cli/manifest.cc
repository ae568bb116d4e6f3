#include "cmd/cli/manifest.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "base/toml.h"

namespace cli {
namespace {

using Json = nlohmann::json;

tl::unexpected<Failure> refuse(const std::string& file, const toml::source_region& source,
                               const std::string& why) {
  return fail(Exit::usage, file + ", line " + std::to_string(source.begin.line) + ": " + why);
}

bool is_setting(std::string_view name) {
  return std::any_of(kSettings.begin(), kSettings.end(),
                     [name](const SettingName& setting) { return setting.name == name; });
}

// Empty when it is neither text, number nor boolean.
std::string json_of(const toml::node& node) {
  if (const auto text = node.value_exact<std::string>()) return Json(*text).dump();
  if (const auto number = node.value_exact<std::int64_t>()) return Json(*number).dump();
  if (const auto number = node.value_exact<double>()) return Json(*number).dump();
  if (const auto flag = node.value_exact<bool>()) return Json(*flag).dump();
  return {};
}

// A list of texts; empty when it is none.
std::string json_of_list(const toml::node& node) {
  Json list = Json::array();
  const toml::array* entries = node.as_array();
  if (entries == nullptr) return {};
  for (const toml::node& entry : *entries) {
    const auto text = entry.value_exact<std::string>();
    if (!text) return {};
    list.push_back(*text);
  }
  return list.dump();
}

Outcome<std::map<std::string, std::string>> environment_of(const toml::node& node,
                                                           const std::string& file) {
  std::map<std::string, std::string> environment;
  const toml::table* table = node.as_table();
  if (table == nullptr) {
    return refuse(file, node.source(), "'env' is not a table of KEY = \"VALUE\"");
  }
  for (const auto& [key, value] : *table) {
    const auto text = value.value_exact<std::string>();
    if (!text) {
      return refuse(file, key.source(), "'" + std::string(key.str()) + "' is not a string");
    }
    environment.emplace(key.str(), *text);
  }
  return environment;
}

// A list of texts, as JSON.
Outcome<std::string> names_of(const toml::node& node, const std::string& file) {
  const toml::array* array = node.as_array();
  Json names = Json::array();
  for (std::size_t i = 0; array != nullptr && i < array->size(); ++i) {
    const auto name = (*array)[i].value_exact<std::string>();
    if (!name) {
      return refuse(file, (*array)[i].source(), "a layer's name is a string");
    }
    names.push_back(*name);
  }
  return array != nullptr ? Outcome<std::string>(names.dump())
                          : refuse(file, node.source(), "'layers' is not a list of names");
}

// False for a value of the wrong type.
Outcome<bool> take(std::string_view key, const toml::node& node, const std::string& file,
                   Manifest& manifest) {
  if (key == "env") {
    CLI_TRY(manifest.environment, environment_of(node, file));
    return true;
  }
  if (key == "layers") {
    CLI_TRY(manifest.settings["layers"], names_of(node, file));
    return true;
  }
  if (key == "env_file") {
    manifest.env_file = node.value_exact<std::string>().value_or("");
    return !manifest.env_file.empty();
  }
  const std::string json = key == kListSetting ? json_of_list(node) : json_of(node);
  manifest.settings[std::string(key)] = json;
  return !json.empty();
}

}  // namespace

Outcome<Manifest> parse_manifest(std::string_view text, const std::string& file_name) {
  toml::table document;
  try {
    document = base::parse_toml(text, file_name);
  } catch (const toml::parse_error& error) {
    return refuse(file_name, error.source(), std::string(error.description()));
  }
  Manifest manifest;
  for (const auto& [key, value] : document) {
    const std::string name(key.str());
    if (!is_setting(name) && name != "env" && name != "env_file" && name != "layers") {
      return refuse(file_name, key.source(), "there is no setting '" + name + "'");
    }
    CLI_TRY(const bool taken, take(name, value, file_name, manifest));
    if (!taken) {
      return refuse(file_name, key.source(), "'" + name + "' has a value of the wrong type");
    }
  }
  return manifest;
}

}  // namespace cli

#include "tests/support/schema.h"

#include <algorithm>
#include <regex>
#include <set>
#include <sstream>

namespace tests {
namespace {

using Json = nlohmann::json;

bool has_type(const Json& value, const std::string& type) {
  if (type == "object") return value.is_object();
  if (type == "array") return value.is_array();
  if (type == "string") return value.is_string();
  if (type == "integer") return value.is_number_integer();
  if (type == "number") return value.is_number();
  if (type == "boolean") return value.is_boolean();
  return false;
}

class Validation {
 public:
  explicit Validation(const OpenApi& api) : api_(api) {}

  void check(const Json& value, const YAML::Node& schema, const std::string& at) {
    if (schema["$ref"]) {
      check(value, api_.resolve(schema), at);
    }
    for (const auto& entry : schema) {
      check_keyword(value, schema, entry.first.as<std::string>(), entry.second, at);
    }
  }

  std::vector<std::string> problems;

 private:
  void note(const std::string& at, const std::string& problem) {
    problems.push_back((at.empty() ? "/" : at) + ": " + problem);
  }

  void check_keyword(const Json& value, const YAML::Node& schema, const std::string& keyword,
                     const YAML::Node& rule, const std::string& at) {
    if (keyword == "type") {
      check_type(value, rule, at);
    } else if (keyword == "enum") {
      check_enum(value, rule, at);
    } else if (keyword == "required") {
      for (const auto& name : rule) {
        if (value.is_object() && !value.contains(name.as<std::string>())) {
          note(at, "lacks " + name.as<std::string>());
        }
      }
    } else if (keyword == "properties" || keyword == "additionalProperties") {
      check_members(value, schema, keyword, at);
    } else if (keyword == "items") {
      for (std::size_t i = 0; value.is_array() && i < value.size(); ++i) {
        check(value[i], rule, at + "/" + std::to_string(i));
      }
    } else {
      check_bound(value, keyword, rule, at);
    }
  }

  void check_type(const Json& value, const YAML::Node& rule, const std::string& at) {
    std::vector<std::string> types;
    if (rule.IsSequence()) {
      types = rule.as<std::vector<std::string>>();
    } else {
      types = {rule.as<std::string>()};
    }
    if (std::none_of(types.begin(), types.end(),
                     [&](const std::string& type) { return has_type(value, type); })) {
      note(at, "is no " + types.front() + ": " + value.dump());
    }
  }

  void check_enum(const Json& value, const YAML::Node& rule, const std::string& at) {
    const std::string text = value.is_string() ? value.get<std::string>() : value.dump();
    const auto allowed = rule.as<std::vector<std::string>>();
    if (std::find(allowed.begin(), allowed.end(), text) == allowed.end()) {
      note(at, "is not of the enumeration: " + text);
    }
  }

  // `properties` has the known members; `additionalProperties` the others.
  void check_members(const Json& value, const YAML::Node& schema, const std::string& keyword,
                     const std::string& at) {
    if (!value.is_object()) {
      return;
    }
    for (const auto& [name, member] : value.items()) {
      const YAML::Node known = schema["properties"] ? schema["properties"][name] : YAML::Node();
      const bool is_known = schema["properties"] && known.IsDefined() && !known.IsNull();
      const YAML::Node others = schema["additionalProperties"];
      if (keyword == "properties" && is_known) {
        check(member, known, at + "/" + name);
      } else if (keyword == "additionalProperties" && !is_known && others.IsMap()) {
        check(member, others, at + "/" + name);
      } else if (keyword == "additionalProperties" && !is_known) {
        note(at, "has the unknown member " + name);
      }
    }
  }

  void check_bound(const Json& value, const std::string& keyword, const YAML::Node& rule,
                   const std::string& at) {
    static const std::set<std::string> said{"description", "format", "default", "$ref"};
    if (keyword == "minimum") {
      if (value.is_number() && value.get<double>() < rule.as<double>()) note(at, "is too small");
    } else if (keyword == "maximum") {
      if (value.is_number() && value.get<double>() > rule.as<double>()) note(at, "is too large");
    } else if (keyword == "pattern") {
      if (value.is_string() &&
          !std::regex_search(value.get<std::string>(), std::regex(rule.as<std::string>()))) {
        note(at, "does not match " + rule.as<std::string>());
      }
    } else if (said.count(keyword) == 0) {
      note(at, "the validator does not know the keyword " + keyword);
    }
  }

  const OpenApi& api_;
};

}  // namespace

YAML::Node OpenApi::resolve(const YAML::Node& node) const {
  if (!node["$ref"]) {
    return node;
  }
  std::istringstream parts(node["$ref"].as<std::string>().substr(2));  // behind "#/"
  YAML::Node found = YAML::Clone(root_);
  for (std::string part; std::getline(parts, part, '/');) {
    const YAML::Node next = found[part];
    if (!next.IsDefined()) {
      throw std::runtime_error("$ref leads nowhere: " + node["$ref"].as<std::string>());
    }
    found.reset(next);
  }
  return found;
}

YAML::Node OpenApi::response(const std::string& path, const std::string& method, int status) const {
  const YAML::Node response = root_["paths"][path][method]["responses"][std::to_string(status)];
  return response.IsDefined() ? resolve(response) : response;
}

std::vector<std::string> OpenApi::problems(const nlohmann::json& value,
                                           const YAML::Node& schema) const {
  Validation validation(*this);
  validation.check(value, schema, "");
  return validation.problems;
}

}  // namespace tests

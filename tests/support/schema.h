// Holds JSON against the subset of JSON Schema that docs/openapi.yaml uses. A keyword outside of
// the subset is itself a problem: nothing is passed over in silence.
#pragma once

#include <yaml-cpp/yaml.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace tests {

class OpenApi {
 public:
  explicit OpenApi(const std::string& path) : root_(YAML::LoadFile(path)) {}

  const YAML::Node& root() const { return root_; }
  // The node, or what its $ref leads to.
  YAML::Node resolve(const YAML::Node& node) const;
  YAML::Node schema(const std::string& name) const { return root_["components"]["schemas"][name]; }

  // The answer of an operation with this status, resolved; undefined where the document has none.
  YAML::Node response(const std::string& path, const std::string& method, int status) const;
  // Every way in which `value` breaks `schema`, as "path: problem".
  std::vector<std::string> problems(const nlohmann::json& value, const YAML::Node& schema) const;

 private:
  YAML::Node root_;
};

}  // namespace tests

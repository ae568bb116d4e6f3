#include "rootfs/definition.h"

#include <algorithm>

#include "base/toml.h"

namespace rootfs {
namespace {

using base::fail_because;
using base::Result;
using base::Status;

constexpr std::size_t kMaxItems = 1024;
constexpr std::size_t kMaxChain = 8;
constexpr std::size_t kMaxText = 64 << 10;

using Rule = bool (*)(std::string_view);

Status read_text(const toml::node& node, const std::string& key, Rule rule, std::string& into) {
  const auto value = node.value_exact<std::string>();
  if (!value || !rule(*value)) {
    return fail_because("'" + key + "' is not a usable text");
  }
  into = *value;
  return {};
}

Status read_list(const toml::node& node, const std::string& key, Rule rule,
                 std::vector<std::string>& into) {
  const toml::array* list = node.as_array();
  if (list == nullptr || list->size() > kMaxItems) {
    return fail_because("'" + key + "' is not a list of at most " + std::to_string(kMaxItems));
  }
  for (const toml::node& item : *list) {
    std::string text;
    BROOD_CHECK(read_text(item, key, rule, text));
    into.push_back(std::move(text));
  }
  return {};
}

Status read_key(const std::string& key, const toml::node& node, Definition& into) {
  if (key == "from") {
    return read_text(node, key, is_image_name, into.from);
  }
  if (key == "suite") {
    return read_text(node, key, is_image_name, into.suite);
  }
  if (key == "interpreter") {
    return read_text(node, key, is_clean_absolute_path, into.interpreter);
  }
  if (key == "packages") {
    return read_list(node, key, is_package_name, into.packages);
  }
  if (key == "preload") {
    return read_list(node, key, is_module_name, into.preload);
  }
  return fail_because("'" + key + "' is not a key of an image definition",
                      "the keys are from, suite, packages, preload, interpreter");
}

Result<toml::table> parse_toml(const std::string& doing, std::string_view text) {
  try {
    return base::parse_toml(text);
  } catch (const toml::parse_error& error) {
    return fail_because(doing + ": line " + std::to_string(error.source().begin.line) + ": " +
                        std::string(error.description()));
  }
}

void put_before(const std::vector<std::string>& ancestors, std::vector<std::string>& own) {
  std::vector<std::string> joined = ancestors;
  for (std::string& item : own) {
    if (std::find(joined.begin(), joined.end(), item) == joined.end()) {
      joined.push_back(std::move(item));
    }
  }
  own = std::move(joined);
}

void inherit(const Definition& parent, Definition& child) {
  put_before(parent.packages, child.packages);
  put_before(parent.preload, child.preload);
  if (child.interpreter.empty()) {
    child.interpreter = parent.interpreter;
  }
  if (child.suite.empty()) {
    child.suite = parent.suite;
  }
}

}  // namespace

Result<Definition> parse_definition(std::string_view name, std::string_view text) {
  if (!is_image_name(name)) {
    return fail_because("'" + std::string(name) + "' is not a name for an image");
  }
  if (text.size() > kMaxText) {
    return fail_because("definition of '" + std::string(name) + "' is over 64 KiB");
  }
  const std::string doing = "definition of '" + std::string(name) + "'";
  BROOD_TRY(const toml::table table, parse_toml(doing, text));
  Definition definition;
  definition.name = name;
  for (const auto& [key, node] : table) {
    if (Status read = read_key(std::string(key.str()), node, definition); !read) {
      return base::fail(std::move(read.error()).within(doing));
    }
  }
  return definition;
}

Result<Definition> resolve_definition(const std::string& name, const TextOf& text_of) {
  std::vector<Definition> chain;
  for (std::string next = name; !next.empty();) {
    if (chain.size() == kMaxChain) {
      return fail_because("image '" + name + "' is derived over more than 8 steps, or from itself");
    }
    BROOD_TRY(const std::string text, text_of(next));
    BROOD_TRY(Definition definition, parse_definition(next, text));
    next = definition.from;
    chain.push_back(std::move(definition));
  }
  for (std::size_t i = chain.size() - 1; i > 0; --i) {
    inherit(chain[i], chain[i - 1]);
  }
  if (chain.front().suite.empty()) {
    return fail_because("image '" + name + "' names no suite of Debian");
  }
  return std::move(chain.front());
}

}  // namespace rootfs

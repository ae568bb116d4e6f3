#include <nlohmann/json.hpp>
#include <set>

#include "rootfs/definition.h"
#include "rootfs/image.h"

namespace rootfs {
namespace {

using base::fail_because;
using base::Result;
using base::Status;
using nlohmann::json;

constexpr std::size_t kMaxItems = 1024;

bool is_digest(std::string_view text) {
  constexpr std::string_view kPrefix = "sha256:";
  return text.size() == kPrefix.size() + 64 && text.starts_with(kPrefix) &&
         text.find_first_not_of("0123456789abcdef", kPrefix.size()) == std::string_view::npos;
}

bool is_version(std::string_view text) {
  return !text.empty() && text.size() <= 64 &&
         text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyz.+~-") ==
             std::string_view::npos;
}

bool is_source(std::string_view text) {
  return !text.empty() && text.size() <= 4096 && text.find('\0') == std::string_view::npos;
}

Status broken(const std::string& key) {
  return fail_because("image manifest: '" + key + "' is not what it must be");
}

using Rule = bool (*)(std::string_view);

Status read_text(const json& value, const std::string& key, Rule rule, std::string& into) {
  if (!value.is_string() || !rule(value.get_ref<const std::string&>())) {
    return broken(key);
  }
  into = value.get<std::string>();
  return {};
}

Status read_list(const json& value, const std::string& key, Rule rule,
                 std::vector<std::string>& into) {
  if (!value.is_array() || value.size() > kMaxItems) {
    return broken(key);
  }
  for (const json& item : value) {
    std::string text;
    BROOD_CHECK(read_text(item, key, rule, text));
    into.push_back(std::move(text));
  }
  return {};
}

Status read_count(const json& value, const std::string& key, std::uint64_t& into) {
  if (!value.is_number_unsigned()) {
    return broken(key);
  }
  into = value.get<std::uint64_t>();
  return {};
}

Status read_interpreter(const json& value, Manifest& into) {
  if (value.is_null()) {
    return {};
  }
  if (!value.is_object() || value.size() != 2 || !value.contains("path") ||
      !value.contains("version")) {
    return broken("interpreter");
  }
  BROOD_CHECK(read_text(value["path"], "path", is_clean_absolute_path, into.interpreter));
  return read_text(value["version"], "version", is_version, into.interpreter_version);
}

Status read_key(const std::string& key, const json& value, Manifest& into) {
  if (key == "schema") {
    return value == kManifestSchema
               ? Status{}
               : Status(fail_because("image manifest: only schema 1 is known",
                                     "build the image with this version of brood"));
  }
  if (key == "name") {
    return read_text(value, key, is_image_name, into.name);
  }
  if (key == "from") {
    return value.is_null() ? Status{} : read_text(value, key, is_image_name, into.from);
  }
  if (key == "suite") {
    return value.is_null() ? Status{} : read_text(value, key, is_image_name, into.suite);
  }
  if (key == "packages") {
    return read_list(value, key, is_package_name, into.packages);
  }
  if (key == "preload") {
    return read_list(value, key, is_module_name, into.preload);
  }
  if (key == "interpreter") {
    return read_interpreter(value, into);
  }
  if (key == "source") {
    return read_text(value, key, is_source, into.source);
  }
  if (key == "config") {
    BROOD_TRY(into.config, parse_image_config(value.dump()));
    return {};
  }
  if (key == "digest") {
    return read_text(value, key, is_digest, into.digest);
  }
  if (key == "size_bytes") {
    return read_count(value, key, into.size_bytes);
  }
  if (key == "files") {
    return read_count(value, key, into.files);
  }
  return fail_because("image manifest: '" + key + "' is not a key of schema 1");
}

// nlohmann keeps the last of two equal keys; two readers that keep different ones would disagree.
Result<json> parse_without_duplicates(std::string_view text) {
  std::set<std::pair<int, std::string>> seen;
  bool twice = false;
  json document = json::parse(
      text,
      [&](int depth, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::key) {
          twice |= !seen.emplace(depth, value.get<std::string>()).second;
        }
        return true;
      },
      /*allow_exceptions=*/false);
  if (document.is_discarded() || !document.is_object()) {
    return fail_because("image manifest: not a JSON object");
  }
  if (twice) {
    return fail_because("image manifest: a key is given twice");
  }
  return document;
}

}  // namespace

Result<Manifest> parse_manifest(std::string_view text) {
  if (text.size() > kManifestLimit) {
    return fail_because("image manifest: over 256 KiB");
  }
  BROOD_TRY(const json document, parse_without_duplicates(text));
  for (const char* key : {"schema", "name", "suite", "digest"}) {
    if (!document.contains(key)) {
      return fail_because("image manifest: '" + std::string(key) + "' is missing");
    }
  }
  Manifest manifest;
  for (const auto& [key, value] : document.items()) {
    BROOD_CHECK(read_key(key, value, manifest));
  }
  return manifest;
}

std::string format_manifest(const Manifest& manifest) {
  nlohmann::ordered_json document;
  document["schema"] = kManifestSchema;
  document["name"] = manifest.name;
  document["from"] = manifest.from.empty() ? json() : json(manifest.from);
  document["suite"] = manifest.suite.empty() ? json() : json(manifest.suite);
  document["packages"] = manifest.packages;
  document["preload"] = manifest.preload;
  document["interpreter"] =
      manifest.interpreter.empty()
          ? json()
          : json{{"path", manifest.interpreter}, {"version", manifest.interpreter_version}};
  if (!manifest.source.empty()) {
    document["source"] = manifest.source;
    document["config"] = nlohmann::ordered_json::parse(format_image_config(manifest.config));
  }
  document["digest"] = manifest.digest;
  document["size_bytes"] = manifest.size_bytes;
  document["files"] = manifest.files;
  // A path on this host need not be UTF-8.
  return document.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

}  // namespace rootfs

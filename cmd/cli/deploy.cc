// brood deploy
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "base/digest.h"
#include "base/fd.h"
#include "base/file.h"
#include "cmd/cli/client.h"
#include "cmd/cli/env_file.h"
#include "cmd/cli/io.h"
#include "cmd/cli/manifest.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"
#include "rootfs/pack.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr const char* kManifestName = "brood.toml";
constexpr std::size_t kPiece = 256 << 10;

struct DeployFlags {
  std::string name;
  std::string path;
  std::map<std::string, std::string> settings;  // by kSettings' names, as JSON text
  std::vector<std::string> env;
  std::string env_file;
  bool json = false;
};

tl::unexpected<Failure> refuse(const base::Error& error) {
  return fail(Exit::usage, error.message());
}

// --- what is deployed
// --------------------------------------------------------------------------------

struct Code {
  base::UniqueFd file;
  std::uint64_t size = 0;
  std::string digest;
  std::string file_name;  // a single file's; empty for an archive
};

// A file without a name: nothing is left, however this process ends.
Outcome<base::UniqueFd> scratch_file() {
  const char* folder = ::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe)
  auto file =
      base::open_at(AT_FDCWD, folder != nullptr ? folder : "/tmp", O_TMPFILE | O_RDWR, 0600);
  if (!file) {
    return fail(Exit::failed, file.error().message());
  }
  return std::move(*file);
}

Outcome<base::UniqueFd> open_code(const std::string& path, rootfs::CodeSource source) {
  if (source != rootfs::CodeSource::folder) {
    auto file = base::open_at(AT_FDCWD, path, O_RDONLY);
    return file ? Outcome<base::UniqueFd>(std::move(*file)) : refuse(file.error());
  }
  CLI_TRY(base::UniqueFd file, scratch_file());
  if (auto packed = rootfs::pack_folder(path, file.get()); !packed) {
    return refuse(packed.error());
  }
  return file;
}

Outcome<std::string> read_piece(int fd, std::uint64_t offset) {
  std::string piece(kPiece, '\0');
  const ssize_t size = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(offset));
  if (size < 0) {
    return fail(Exit::failed, base::Error::from_errno("read", "the code").message());
  }
  piece.resize(static_cast<std::size_t>(size));
  return piece;
}

// For an image that has its own program: an archive whose only entry says so.
Outcome<base::UniqueFd> no_code() {
  CLI_TRY(base::UniqueFd file, scratch_file());
  std::string folder = fs::temp_directory_path() / "brood-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return fail(Exit::failed, base::Error::from_errno("mkdtemp", folder).message());
  }
  auto done = base::replace_file_at(AT_FDCWD, folder + "/NO-CODE",
                                    "This function is its image's own program.\n", 0644);
  if (done) {
    if (const auto packed = rootfs::pack_folder(folder, file.get()); !packed) {
      done = base::fail(packed.error());
    }
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return done ? Outcome<base::UniqueFd>(std::move(file)) : refuse(done.error());
}

Outcome<rootfs::CodeSource> source_of(const std::string& path) {
  if (path.empty()) {
    return rootfs::CodeSource::folder;
  }
  const auto source = rootfs::code_source(path);
  if (!source) {
    return refuse(source.error());
  }
  return *source;
}

Outcome<Code> prepare_code(const std::string& path) {
  CLI_TRY(const rootfs::CodeSource source, source_of(path));
  Code code;
  CLI_TRY(code.file, path.empty() ? no_code() : open_code(path, source));
  if (source == rootfs::CodeSource::single_file) {
    code.file_name = fs::path(path).filename();
  }
  base::Sha256 digest;
  for (;;) {
    CLI_TRY(const std::string piece, read_piece(code.file.get(), code.size));
    if (piece.empty()) {
      break;
    }
    digest.update(piece);
    code.size += piece.size();
  }
  code.digest = "sha256:" + digest.finish();
  return code;
}

// --- how it is sent
// ------------------------------------------------------------------------------------

// Says how far an upload is, on a terminal, once it has taken more than a second.
class Progress {
 public:
  explicit Progress(std::uint64_t total) : total_(total) {}
  ~Progress() {
    if (shown_) {
      std::fprintf(stderr, "\r\x1b[K");
    }
  }
  void show(std::uint64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (!is_terminal(Standard::error) || now < next_) {
      return;
    }
    next_ = now + std::chrono::milliseconds(200);
    shown_ = true;
    std::fprintf(stderr, "\r\x1b[Kuploading %s of %s", rough_bytes(done).c_str(),
                 rough_bytes(total_).c_str());
  }

 private:
  std::uint64_t total_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_ =
      std::chrono::steady_clock::now() + std::chrono::seconds(1);
};

Outcome<std::string> upload(Client& client, const Code& code) {
  Request head;
  head.method = "POST";
  head.target = "/code" + (code.file_name.empty() ? "" : "?file=" + encode_segment(code.file_name));
  head.content_type = "application/octet-stream";
  Progress progress(code.size);
  std::uint64_t sent = 0;
  auto response = expect_success(client.upload(head, code.size, [&]() -> Outcome<std::string> {
    CLI_TRY(std::string piece, read_piece(code.file.get(), sent));
    sent += piece.size();
    progress.show(sent);
    return piece;
  }));
  if (!response) {
    return tl::unexpected<Failure>(std::move(response.error()));
  }
  return Json::parse(response->body).at("digest").get<std::string>();
}

// A single file's digest does not say its name, so only an archive can be known already.
Outcome<std::string> send_code(Client& client, const Code& code) {
  if (code.file_name.empty()) {
    CLI_TRY(const Response known, client.ask({"HEAD", "/code/" + code.digest, "", ""}));
    if (known.status == 200) {
      return code.digest;
    }
  }
  return upload(client, code);
}

// --- with what settings
// --------------------------------------------------------------------------------

Outcome<Manifest> manifest_of(const std::string& path) {
  if (path.empty()) {
    return Manifest{};
  }
  const fs::path file = fs::path(path) / kManifestName;
  if (!fs::is_regular_file(file)) {
    return Manifest{};
  }
  CLI_TRY(const std::string text, read_whole(file));
  CLI_TRY(Manifest manifest, parse_manifest(text, file));
  if (!manifest.env_file.empty()) {
    manifest.env_file = fs::path(path) / manifest.env_file;
  }
  return manifest;
}

Outcome<int> take_env_file(const std::string& path,
                           std::map<std::string, std::string>& environment) {
  if (path.empty()) {
    return 0;
  }
  CLI_TRY(const std::string text, read_whole(path));
  CLI_TRY(const auto parsed, parse_env_file(text, path));
  for (const auto& [key, value] : parsed) {
    environment[key] = value;
  }
  return 0;
}

// From the weakest word to the strongest: the manifest's [env], its env_file, --env-file, --env.
Outcome<std::map<std::string, std::string>> environment_of(const DeployFlags& flags,
                                                           const Manifest& manifest) {
  auto environment = manifest.environment;
  for (const std::string& file : {manifest.env_file, flags.env_file}) {
    CLI_TRY([[maybe_unused]] const int done, take_env_file(file, environment));
  }
  for (const std::string& pair : flags.env) {
    const auto equals = pair.find('=');
    if (equals == 0 || equals == std::string::npos) {
      return fail(Exit::usage, "--env takes KEY=VALUE, and '" + pair + "' is not that");
    }
    environment[pair.substr(0, equals)] = pair.substr(equals + 1);
  }
  return environment;
}

// What the kernel would run.
bool is_program(const Code& code) {
  char first[4] = {};
  const auto size = ::pread(code.file.get(), first, sizeof first, 0);
  const std::string_view begins(first, size > 0 ? static_cast<std::size_t>(size) : 0);
  return begins.starts_with(
             "\x7f"
             "ELF") ||
         begins.starts_with("#!");
}

// A single file names its module itself, and its language; a program is its own handler.
void default_handler(const Code& code, Json& document) {
  if (code.file_name.empty()) {
    return;
  }
  const fs::path file(code.file_name);
  const std::string kind = file.extension();
  const bool script = kind == ".js" || kind == ".mjs" || kind == ".cjs";
  if (script && !document.contains("runtime")) {
    document["runtime"] = "node";
  }
  if ((script || kind == ".py") && !document.contains("handler")) {
    document["handler"] = file.stem().string() + (script ? ".handler" : ".main");
  }
  if (!script && kind != ".py" && is_program(code)) {
    if (!document.contains("runtime")) {
      document["runtime"] = "native";
    }
    if (!document.contains("handler")) {
      document["handler"] = code.file_name;
    }
  }
}

Outcome<Json> document_of(const DeployFlags& flags, const Code& code) {
  CLI_TRY(const Manifest manifest, manifest_of(flags.path));
  CLI_TRY(const auto environment, environment_of(flags, manifest));
  auto settings = manifest.settings;
  for (const auto& [name, value] : flags.settings) {
    settings[name] = value;
  }
  Json document = Json::object();
  for (const auto& [name, value] : settings) {
    document[name] = Json::parse(value);
  }
  if (!environment.empty()) {
    document["environment"] = environment;
  }
  default_handler(code, document);
  return document;
}

void tell_deployed(const Json& answer) {
  for (const Json& warning : answer.at("warnings")) {
    tell("warning: " + escape_controls(warning.get<std::string>()));
  }
  const Json& function = answer.at("function");
  tell("deployed " + function.at("name").get<std::string>() + ", version " +
       std::to_string(function.at("version").get<std::uint64_t>()));
}

Outcome<int> deploy(const DeployFlags& flags, const Session& session) {
  if (flags.path.empty() && !flags.settings.contains("runtime")) {
    return fail(Exit::usage, "say where the code is, or with --runtime the image that needs none");
  }
  CLI_TRY(const Code code, prepare_code(flags.path));
  CLI_TRY(Json document, document_of(flags, code));
  Client client(session.socket);
  CLI_TRY(const std::string digest, send_code(client, code));
  document["code"] = digest;
  std::string body;
  try {
    body = document.dump();
  } catch (const Json::exception&) {
    return fail(Exit::usage, "a setting or a value of the environment is not UTF-8");
  }
  CLI_TRY(const Response response,
          expect_success(client.ask({"PUT", "/functions/" + encode_segment(flags.name),
                                     std::move(body), "application/json"})));
  if (flags.json) {
    return write_output(response.body + "\n");
  }
  tell_deployed(Json::parse(response.body));
  return 0;
}

// A flag's text as JSON: a bare number of processes is a number to the agent, a size is text.
std::string json_text(std::string_view name, const std::string& text) {
  const bool counts =
      name == "pids" || name == "concurrency" || name == "queue" || name == "network_connections";
  const bool digits = !text.empty() && text.size() < 10 &&
                      text.find_first_not_of("0123456789") == std::string::npos;
  return counts && digits ? std::to_string(std::stoul(text))
                          : Json(text).dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

void add_deploy(CLI::App& app, Session& session) {
  auto flags = std::make_shared<DeployFlags>();
  CLI::App* verb = app.add_subcommand(kDeploy.name, kDeploy.help);
  verb->add_option("name", flags->name, "the function")->required();
  verb->add_option("path", flags->path,
                   "its code: a folder, a file, a .zip or a .tar; none where the runtime is an "
                   "image with a program of its own");
  for (const SettingName& setting : kSettings) {
    const std::string name(setting.name);
    if (name == "reuse" || name == kListSetting) {
      continue;
    }
    std::string flag = name;
    std::replace(flag.begin(), flag.end(), '_', '-');
    verb->add_option_function<std::string>(
            "--" + flag,
            [flags, name](const std::string& text) {
              flags->settings[name] = json_text(name, text);
            },
            std::string(setting.help))
        ->type_name(std::string(setting.placeholder));
  }
  verb->add_option_function<std::vector<std::string>>(
          "--allow",
          [flags](const std::vector<std::string>& list) {
            flags->settings[std::string(kListSetting)] =
                Json(list).dump(-1, ' ', false, Json::error_handler_t::replace);
          },
          "network nat: this and nothing else; may be repeated")
      ->type_name("RANGE[:PORT]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_flag_callback(
      "--reuse", [flags] { flags->settings["reuse"] = "true"; },
      "keep an instance for the next invocation (the default)");
  verb->add_flag_callback(
      "--no-reuse", [flags] { flags->settings["reuse"] = "false"; },
      "give every invocation a sandbox of its own");
  verb->add_option("--env", flags->env, "a variable of its environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--env-file", flags->env_file, "KEY=VALUE lines")->type_name("FILE");
  verb->add_flag("--json", flags->json, "print the agent's own document");
  verb->callback(
      [flags, &session] { session.run = [flags, &session] { return deploy(*flags, session); }; });
}

}  // namespace cli

// brood runtime …: language environments of one's own, derived from those that brood comes with.
// Works on the folder of images itself, as root; an agent serves a new one at once.
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <climits>
#include <csignal>
#include <filesystem>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/config.h"
#include "agent/language.h"
#include "base/file.h"
#include "cmd/agent_process.h"
#include "cmd/cli/image_verbs.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"
#include "rootfs/confined_tool.h"
#include "rootfs/definition.h"
#include "rootfs/image.h"
#include "rootfs/image_store.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

// Beside the images, which a name that begins with a dot cannot be.
constexpr const char* kOwnDefinitions = "/.definitions";

struct RuntimeFlags {
  std::string images = agent::AgentConfig{}.images_dir;
  std::string name;
  std::vector<std::string> names;
  std::string from = "python3";
  std::vector<std::string> packages;
  std::vector<std::string> preload;
  bool replace = false;
  bool json = false;
};

// Installed (PREFIX/lib/brood beside PREFIX/share/brood), or as it was built (build/NAME/bin).
Outcome<std::string> part(std::initializer_list<const char*> places, const char* what) {
  std::string path = cmd::beside_program(places);
  if (path.empty()) {
    return fail(Exit::failed, std::string(what) + " did not come with it; install brood again");
  }
  return path;
}

std::string list_text(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) {
    text += (text.empty() ? "\"" : ", \"") + item + "\"";
  }
  return "[" + text + "]";
}

// Each is checked on its own before it is written between quotes.
Outcome<std::string> definition_of(const RuntimeFlags& flags) {
  if (!rootfs::is_image_name(flags.name)) {
    return fail(Exit::usage, "'" + escape_controls(flags.name) +
                                 "' is no name for a runtime: 1 to 63 of a-z, 0-9, '.', '-', '_'");
  }
  if (!rootfs::is_image_name(flags.from)) {
    return fail(Exit::usage, "--from: '" + escape_controls(flags.from) + "' is no runtime's name");
  }
  for (const std::string& package : flags.packages) {
    if (!rootfs::is_package_name(package)) {
      return fail(Exit::usage,
                  "--package: '" + escape_controls(package) + "' is no name of a Debian package");
    }
  }
  for (const std::string& module : flags.preload) {
    if (!rootfs::is_module_name(module)) {
      return fail(Exit::usage, "--preload: '" + escape_controls(module) + "' is no module's name");
    }
  }
  if (flags.packages.empty() && flags.preload.empty()) {
    return fail(Exit::usage, "there is nothing to add: give --package or --preload");
  }
  return "from = \"" + flags.from + "\"\npackages = " + list_text(flags.packages) +
         "\npreload = " + list_text(flags.preload) + "\n";
}

// A folder with brood's definitions and those of this host; goes with it.
class Definitions {
 public:
  explicit Definitions(std::string path) : path_(std::move(path)) {}
  ~Definitions() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);
  }
  Definitions(const Definitions&) = delete;
  Definitions& operator=(const Definitions&) = delete;
  const std::string& path() const { return path_; }

  base::Status take_all_of(const fs::path& folder) const {
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(folder, error)) {
      if (entry.path().extension() == ".toml") {
        BROOD_TRY(const std::string text, base::read_file(entry.path()));
        BROOD_CHECK(put(entry.path().stem(), text));
      }
    }
    return {};
  }
  base::Status put(const std::string& name, std::string_view text) const {
    return base::replace_file_at(AT_FDCWD, path_ + "/" + name + ".toml", text, 0644);
  }

 private:
  std::string path_;
};

Outcome<std::unique_ptr<Definitions>> all_definitions(const RuntimeFlags& flags) {
  CLI_TRY(const std::string own, part({"../../share/brood/rootfs/images", "../../../rootfs/images"},
                                      "the definitions of images (rootfs/images)"));
  std::string path = fs::temp_directory_path() / "brood-definitions-XXXXXX";
  if (::mkdtemp(path.data()) == nullptr) {
    return fail(Exit::failed, base::Error::from_errno("mkdtemp", path).message());
  }
  auto definitions = std::make_unique<Definitions>(path);
  for (const fs::path& folder : {fs::path(own), fs::path(flags.images + kOwnDefinitions)}) {
    if (const auto taken = definitions->take_all_of(folder); !taken) {
      return fail(Exit::failed, taken.error().message());
    }
  }
  return definitions;
}

// Its exit status as a shell has it. Its output is this program's standard error: what is printed
// on standard output is for programs.
Outcome<int> run_program(const std::vector<std::string>& arguments,
                         const std::vector<std::string>& environment) {
  std::vector<char*> list;
  list.reserve(arguments.size() + 1);
  for (const std::string& argument : arguments) {
    list.push_back(const_cast<char*>(argument.c_str()));
  }
  list.push_back(nullptr);
  const pid_t pid = ::fork();
  if (pid < 0) {
    return fail(Exit::failed, base::Error::from_errno("fork").message());
  }
  if (pid == 0) {
    for (const std::string& pair : environment) {
      // One thread, and a process of its own. NOLINTNEXTLINE(concurrency-mt-unsafe)
      ::putenv(const_cast<char*>(pair.c_str()));
    }
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) {
      ::signal(number, SIG_DFL);
    }
    ::dup2(STDERR_FILENO, STDOUT_FILENO);
    // What a careless parent left open would push the descriptors of mmdebstrap's hooks past 9,
    // which dash cannot name.
    ::close_range(STDERR_FILENO + 1, ~0U, 0);
    ::execv(list[0], list.data());
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    if (rootfs::interrupted()) {
      ::kill(pid, SIGTERM);  // it tidies up behind itself
    }
  }
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

Outcome<int> build(const RuntimeFlags& flags, const Definitions& definitions) {
  CLI_TRY(const std::string script,
          part({"../../share/brood/scripts/image/build", "../../../scripts/image/build"},
               "scripts/image"));
  CLI_TRY(const std::string tool, part({"../../bin/brood-image", "brood-image"}, "brood-image"));
  CLI_TRY(const int status, run_program({script, flags.name},
                                        {"DEFINITIONS=" + definitions.path(),
                                         "IMAGES=" + flags.images, "BROOD_IMAGE_TOOL=" + tool}));
  if (rootfs::interrupted()) {
    return fail(Exit::failed, "interrupted; nothing was added");
  }
  if (status != 0) {
    return fail(Exit::failed, "the image of runtime '" + flags.name +
                                  "' could not be made (see above); nothing was added");
  }
  return 0;
}

// Of the build (scripts/image/build).
void remove_lock(const RuntimeFlags& flags, const std::string& name) {
  std::error_code ignored;
  fs::remove(flags.images + "/." + name + ".lock", ignored);
}

void take_back(const RuntimeFlags& flags) {
  (void)rootfs::remove_image(flags.images, flags.name);
  remove_lock(flags, flags.name);
}

Outcome<int> add(const RuntimeFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("runtime add"));
  CLI_TRY(const std::string text, definition_of(flags));
  CLI_TRY(const auto definitions, all_definitions(flags));
  const bool known = fs::exists(definitions->path() + "/" + flags.name + ".toml");
  const bool own = fs::exists(flags.images + kOwnDefinitions + "/" + flags.name + ".toml");
  const bool there = rootfs::open_image(flags.images, flags.name).has_value();
  if ((known && !own) || ((own || there) && !flags.replace) || (there && !own)) {
    return fail(Exit::failed,
                "there is an image '" + flags.name + "' already" +
                    (own ? "; --replace puts this one in its place" : "; choose another name"));
  }
  if (!fs::exists(definitions->path() + "/" + flags.from + ".toml")) {
    return fail(Exit::not_found, "--from: there is no definition of '" + flags.from +
                                     "'; runtimes are derived from those that brood comes with, "
                                     "and from those added here");
  }
  if (const auto put = definitions->put(flags.name, text); !put) {
    return fail(Exit::failed, put.error().message());
  }
  rootfs::note_signals();
  if (auto built = build(flags, *definitions); !built) {
    if (!there) {
      remove_lock(flags, flags.name);
    }
    return built;
  }
  const auto image = rootfs::open_image(flags.images, flags.name);
  if (!image) {
    return fail(Exit::failed, image.error().message());
  }
  const std::string folder = flags.images + kOwnDefinitions;
  auto kept = base::make_directories(folder, 0755);
  if (kept) {
    kept = base::replace_file_at(AT_FDCWD, folder + "/" + flags.name + ".toml", text, 0644);
  }
  if (!kept) {
    take_back(flags);
    return fail(Exit::failed, kept.error().message());
  }
  const rootfs::Manifest& manifest = image->manifest;
  if (flags.json) {
    return write_output(rootfs::format_manifest(manifest) + "\n");
  }
  return write_output(summary_of(manifest));
}

const char* language_name(const rootfs::Manifest& manifest) {
  switch (agent::language_of(manifest.interpreter)) {
    case agent::Language::python:
      return "python";
    case agent::Language::node:
      return "node";
    default:
      return "native";
  }
}

Outcome<int> list(const RuntimeFlags& flags) {
  const auto images = rootfs::list_images(flags.images);
  if (!images) {
    return fail(Exit::failed, escape_controls(images.error().message()));
  }
  Json all = Json::array();
  Table table({"NAME", "LANGUAGE", "VERSION", "FROM", "PRELOAD"});
  for (const auto& image : *images) {
    if (!image.manifest) {
      continue;  // `brood image list` says why
    }
    const rootfs::Manifest& manifest = *image.manifest;
    all.push_back({{"name", manifest.name},
                   {"language", language_name(manifest)},
                   {"version", manifest.interpreter_version},
                   {"from", manifest.from},
                   {"packages", manifest.packages},
                   {"preload", manifest.preload}});
    const auto dash = [](const std::string& text) { return text.empty() ? "-" : text; };
    table.add({manifest.name, language_name(manifest), dash(manifest.interpreter_version),
               dash(manifest.from), std::to_string(manifest.preload.size()) + " modules"});
  }
  return write_output(flags.json ? all.dump(2) + "\n" : table.print());
}

Outcome<int> remove(const RuntimeFlags& flags) {
  CLI_TRY([[maybe_unused]] const int root, need_root("runtime remove"));
  for (const std::string& name : flags.names) {
    const std::string file = flags.images + kOwnDefinitions + "/" + name + ".toml";
    if (!rootfs::is_image_name(name) || !fs::exists(file)) {
      return fail(Exit::not_found, "no runtime '" + escape_controls(name) +
                                       "' was added here; brood image remove takes other images "
                                       "away");
    }
    const base::Status status = rootfs::remove_image(flags.images, name);
    if (!status && status.error().code() != ENOENT) {
      return fail(Exit::failed, escape_controls(status.error().message()));
    }
    std::error_code error;
    fs::remove(file, error);
    remove_lock(flags, name);
    fs::remove(flags.images + kOwnDefinitions, error);  // with the last of them
    CLI_TRY([[maybe_unused]] const int told, write_output(name + "\n"));
  }
  return 0;
}

using Verb = Outcome<int> (*)(const RuntimeFlags&);

CLI::App* add_verb(CLI::App& group, Session& session, const std::shared_ptr<RuntimeFlags>& flags,
                   const char* name, const char* help, Verb verb) {
  CLI::App* added = add_on_images(group, name, help, flags->images);
  added->callback(
      [flags, verb, &session] { session.run = [flags, verb] { return verb(*flags); }; });
  return added;
}

}  // namespace

void add_runtime(CLI::App& app, Session& session) {
  CLI::App* group = app.add_subcommand(kRuntime.name, kRuntime.help);
  group->require_subcommand(1);
  const auto flags = std::make_shared<RuntimeFlags>();

  CLI::App* verb = add_verb(*group, session, flags, "add",
                            "A runtime with more packages, and modules that its zygote has loaded "
                            "before anyone asks",
                            add);
  verb->add_option("name", flags->name, "what it is called")->required();
  verb->add_option("--from", flags->from, "the runtime it adds to")
      ->type_name("NAME")
      ->capture_default_str();
  verb->add_option("--package", flags->packages, "a Debian package; may be repeated")
      ->type_name("NAME")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--preload", flags->preload,
                   "a module that is imported beforehand; may be repeated")
      ->type_name("MODULE")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_flag("--replace", flags->replace, "take the place of one that was added before");
  verb->add_flag("--json", flags->json, "print what image.json says of it");

  verb = add_verb(*group, session, flags, "list", "What functions can run in", list);
  verb->alias("ls");
  verb->add_flag("--json", flags->json);

  verb = add_verb(*group, session, flags, "remove", "Take away what was added", remove);
  verb->alias("rm");
  verb->add_option("name", flags->names)->required();
}

}  // namespace cli

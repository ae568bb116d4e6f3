// brood run, exec
#include <fcntl.h>

#include <CLI/CLI.hpp>
#include <csignal>
#include <cstdlib>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/error.h"
#include "base/fd.h"
#include "base/units.h"
#include "cmd/cli/carry.h"
#include "cmd/cli/client.h"
#include "cmd/cli/detach_keys.h"
#include "cmd/cli/env_file.h"
#include "cmd/cli/io.h"
#include "cmd/cli/pump.h"
#include "cmd/cli/standalone.h"
#include "cmd/cli/text.h"
#include "cmd/cli/verbs.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;

constexpr int kBroodsFault = 125;                     // as docker has it: the command did not run
constexpr const char* kDetachKeys = "ctrl-p,ctrl-q";  // docker's

struct RunFlags {
  std::string sandbox;  // exec
  std::vector<std::string> command;
  std::string image = "base";
  std::optional<std::string> entrypoint;
  std::vector<std::string> env;
  std::string env_file;
  std::string user;
  std::string workdir;
  std::string memory;
  std::string cpu;
  std::string timeout;
  std::string file_size;
  std::string output_limit;
  std::string stats_json;
  unsigned pids = 0;
  unsigned cpu_seconds = 0;
  std::string images;  // standalone
  std::string limits;
  std::string cgroup_parent;
  bool standalone = false;
  bool interactive = false;
  bool terminal = false;
  std::vector<std::string> binds;
  std::vector<std::string> tmpfs;
  bool read_only = false;
  bool detach = false;
  bool remove = true;
  bool remove_said = false;
  bool no_input = false;  // attach
  std::string name;
  std::string stop_signal;
  std::string detach_keys = kDetachKeys;
  std::string network;
  std::vector<std::string> allow;
  std::vector<std::string> publish;
  std::string network_rate;
  unsigned network_connections = 0;
};

void put(Json& document, const char* key, const std::string& text) {
  if (!text.empty()) {
    document[key] = text;
  }
}

Outcome<Json> environment_of(const RunFlags& flags) {
  std::map<std::string, std::string> environment;
  if (!flags.env_file.empty()) {
    CLI_TRY(const std::string text, read_whole(flags.env_file));
    CLI_TRY(environment, parse_env_file(text, flags.env_file));
  }
  for (const std::string& pair : flags.env) {
    const auto equals = pair.find('=');
    const std::string key = pair.substr(0, equals);
    if (key.empty()) {
      return fail(Exit::usage, "--env takes KEY=VALUE or KEY, and '" + pair + "' is neither");
    }
    // As docker has it: a name alone is this process's own value.
    const char* own = ::getenv(key.c_str());  // NOLINT(concurrency-mt-unsafe)
    if (equals != std::string::npos) {
      environment[key] = pair.substr(equals + 1);
    } else if (own != nullptr) {
      environment[key] = own;
    }
  }
  return Json(environment);
}

// PATH[:SIZE] or PATH[:OPTION,…], as docker has it.
Outcome<Json> tmpfs_of(const std::string& text) {
  const auto colon = text.find(':');
  Json tmpfs{{"target", text.substr(0, colon)}};
  std::string options = colon == std::string::npos ? "" : text.substr(colon + 1);
  while (!options.empty()) {
    const auto comma = options.find(',');
    const std::string option = options.substr(0, comma);
    options = comma == std::string::npos ? "" : options.substr(comma + 1);
    if (option.rfind("size=", 0) == 0) {
      tmpfs["size"] = option.substr(5);
    } else if (option.rfind("mode=", 0) == 0) {
      tmpfs["mode"] = option.substr(5);
    } else if (option == "exec" || option == "noexec") {
      tmpfs["exec"] = option == "exec";
    } else if (base::parse_bytes(option)) {
      tmpfs["size"] = option;
    } else if (option != "rw" && option != "nosuid" && option != "nodev") {
      return fail(Exit::usage,
                  "--tmpfs takes PATH[:SIZE], or PATH: and size=, mode=, exec or "
                  "noexec, and '" +
                      option + "' is none of these");
    }
  }
  return tmpfs;
}

struct HostFolder {
  Json bind;
  base::UniqueFd descriptor;
};

// SOURCE:TARGET[:ro|rw]. The source is opened here, with the rights of whoever asks.
Outcome<HostFolder> folder_of(const std::string& text, std::size_t number) {
  const auto first = text.find(':');
  const auto second = first == std::string::npos ? first : text.find(':', first + 1);
  const std::string mode = second == std::string::npos ? "rw" : text.substr(second + 1);
  if (first == 0 || first == std::string::npos || (mode != "ro" && mode != "rw")) {
    return fail(Exit::usage, "--bind takes SOURCE:TARGET[:ro|rw], and '" + text + "' is not that");
  }
  const std::string source = text.substr(0, first);
  HostFolder folder;
  folder.descriptor.reset(::open(source.c_str(), O_PATH | O_CLOEXEC));
  if (!folder.descriptor) {
    return fail(Exit::usage, "--bind: " + base::Error::from_errno("open", source).message());
  }
  const std::size_t end = second == std::string::npos ? second : second - first - 1;
  folder.bind = {
      {"target", text.substr(first + 1, end)}, {"descriptor", number}, {"read_only", mode == "ro"}};
  return folder;
}

Outcome<int> add_mounts(const RunFlags& flags, Json& document,
                        std::vector<base::UniqueFd>& descriptors) {
  for (const std::string& text : flags.tmpfs) {
    CLI_TRY(Json tmpfs, tmpfs_of(text));
    document["tmpfs"].push_back(std::move(tmpfs));
  }
  for (const std::string& text : flags.binds) {
    CLI_TRY(HostFolder folder, folder_of(text, descriptors.size()));
    document["binds"].push_back(std::move(folder.bind));
    descriptors.push_back(std::move(folder.descriptor));
  }
  if (flags.read_only) {
    document["read_only"] = true;
  }
  return 0;
}

Outcome<std::string> document_of(const RunFlags& flags, std::vector<base::UniqueFd>& descriptors) {
  Json document{{"arguments", flags.command}};
  if (flags.sandbox.empty()) {
    document["image"] = flags.image;
    if (flags.entrypoint) {
      document["entrypoint"] = Json::array({*flags.entrypoint});
    }
  }
  CLI_TRY(document["environment"], environment_of(flags));
  CLI_TRY([[maybe_unused]] const int added, add_mounts(flags, document, descriptors));
  put(document, "name", flags.name);
  put(document, "stop_signal", flags.stop_signal);
  if (flags.detach) {
    document["detached"] = true;
    document["input"] = flags.interactive;
  }
  // Whoever lets it run alone wants to know how it ended.
  if (flags.remove_said ? !flags.remove : flags.detach) {
    document["keep"] = true;
  }
  put(document, "user", flags.user);
  put(document, "directory", flags.workdir);
  put(document, "memory", flags.memory);
  put(document, "cpu", flags.cpu);
  put(document, "timeout", flags.timeout);
  put(document, "file_size", flags.file_size);
  put(document, "network", flags.network);
  put(document, "network_rate", flags.network_rate);
  if (!flags.allow.empty()) {
    document["allow"] = flags.allow;
  }
  if (!flags.publish.empty()) {
    document["publish"] = flags.publish;
  }
  if (flags.network_connections > 0) {
    document["network_connections"] = flags.network_connections;
  }
  if (flags.pids > 0) {
    document["pids"] = flags.pids;
  }
  if (flags.cpu_seconds > 0) {
    document["cpu_seconds"] = flags.cpu_seconds;
  }
  if (flags.terminal) {
    const TerminalSize size = terminal_size();
    document["terminal"] = true;
    document["rows"] = size.rows;
    document["columns"] = size.columns;
    const char* term = ::getenv("TERM");  // NOLINT(concurrency-mt-unsafe)
    if (term != nullptr && !document["environment"].contains("TERM")) {
      document["environment"]["TERM"] = term;
    }
  }
  try {
    return document.dump();
  } catch (const Json::exception&) {
    return fail(Exit::usage, "an argument or a value of the environment is not UTF-8");
  }
}

Outcome<Ended> alone(const RunFlags& flags, std::uint64_t output_limit, std::string body,
                     std::vector<base::UniqueFd> descriptors) {
  Ended ended;
  StandaloneRequest request;
  request.body = std::move(body);
  request.descriptors = std::move(descriptors);
  request.images_dir = flags.images;
  request.limits = flags.limits;
  request.cgroup_parent = flags.cgroup_parent;
  request.terminal = flags.terminal;
  request.pump.read_input = flags.interactive || !is_terminal(Standard::input);
  request.pump.output_limit = output_limit;
  request.pump.over_limit = [&] { ended.over_limit = true; };
  CLI_TRY(const std::string line, run_standalone(std::move(request)));
  ended.end = Json::parse(line).at("end");
  return ended;
}

// What can be told from the flags alone; a failure where they make no sense.
Outcome<std::uint64_t> check(const RunFlags& flags) {
  if (flags.command.empty() && !flags.sandbox.empty()) {
    return fail(Exit::usage, "there is no command behind --");
  }
  if (flags.standalone && (flags.detach || !flags.name.empty() || !flags.remove)) {
    return fail(Exit::usage,
                "--detach, --name and --rm=false want an agent: --standalone has none that would "
                "know the command later");
  }
  if (flags.detach && (!flags.output_limit.empty() || !flags.stats_json.empty())) {
    return fail(Exit::usage,
                "--output-limit and --stats-json are of a command that is waited for; of a "
                "detached one `brood inspect` has the statistics");
  }
  if (flags.standalone && !flags.network.empty() && flags.network != "none") {
    return fail(Exit::usage, "--network wants an agent: --standalone has no router to join");
  }
  if (flags.terminal && !flags.detach && !is_terminal(Standard::input)) {
    return fail(Exit::usage, "-t wants a terminal, and standard input is none");
  }
  if (flags.output_limit.empty()) {
    return 0;
  }
  const auto bytes = base::parse_bytes(flags.output_limit);
  if (!bytes) {
    return fail(Exit::usage, "--output-limit: " + bytes.error().message());
  }
  return *bytes;
}

// Asks for it, and tells its id.
Outcome<int> leave_running(Client::Lines& lines) {
  CLI_TRY(const auto answer, lines.next());
  if (!answer) {
    return fail(Exit::failed, "the agent answered nothing");
  }
  return write_output(Json::parse(*answer).at("id").get<std::string>() + "\n");
}

tl::unexpected<Failure> broods_fault(Failure failure) {
  // 1 to 4 would be the command's own.
  return tl::unexpected<Failure>(Failure{kBroodsFault, std::move(failure.message)});
}

Outcome<int> run(const RunFlags& flags, const Session& session) {
  CLI_TRY(const std::uint64_t output_limit, check(flags));
  CLI_TRY(std::string keys, parse_detach_keys(flags.detach_keys));
  std::vector<base::UniqueFd> descriptors;
  CLI_TRY(std::string body, document_of(flags, descriptors));
  if (flags.standalone) {
    auto ended = alone(flags, output_limit, std::move(body), std::move(descriptors));
    return ended ? finish(flags.stats_json, flags.output_limit, *ended)
                 : broods_fault(std::move(ended.error()));
  }
  Client client(session.socket);
  const std::string path = flags.sandbox.empty()
                               ? "/commands"
                               : "/sandboxes/" + encode_segment(flags.sandbox) + "/commands";
  const auto lines =
      client.lines({"POST", path, std::move(body), "application/json", std::move(descriptors)});
  if (!lines) {
    return broods_fault(lines.error());
  }
  if (flags.detach) {
    return leave_running(**lines);
  }
  auto ended = carry({.terminal = flags.terminal,
                      .read_input = flags.interactive || !is_terminal(Standard::input),
                      .output_limit = output_limit,
                      .detach_keys = flags.sandbox.empty() ? std::move(keys) : std::string()},
                     session, **lines);
  return ended ? finish(flags.stats_json, flags.output_limit, *ended)
               : broods_fault(std::move(ended.error()));
}

Outcome<int> attach(const RunFlags& flags, const Session& session) {
  CLI_TRY(std::string keys, parse_detach_keys(flags.detach_keys));
  const std::string path = "/commands/" + encode_segment(flags.sandbox);
  Client asking(session.socket);
  CLI_TRY(const Response known, expect_success(asking.ask({"GET", path, "", ""})));
  const bool terminal = Json::parse(known.body).at("terminal").get<bool>();
  if (terminal && !is_terminal(Standard::input)) {
    return fail(Exit::usage, "the command has a terminal, and standard input is none");
  }
  Client client(session.socket);
  CLI_TRY(const auto lines, client.lines({"POST", path + "/attach", "", ""}));
  auto ended = carry({.terminal = terminal,
                      .read_input = !flags.no_input,
                      .detach_keys = std::move(keys),
                      .attached = true},
                     session, *lines);
  return ended ? finish("", "", *ended) : broods_fault(std::move(ended.error()));
}

}  // namespace

namespace {

constexpr const char* kExitStatus =
    "Exit status: the command's own; 128 and the number of the signal that killed it; 124 after a "
    "timeout; 137 out of memory; 125 when brood could not run it, 126 when the command cannot be "
    "executed, 127 when it is not found.";

void add_detach_keys(CLI::App& verb, RunFlags& flags) {
  verb.add_option("--detach-keys", flags.detach_keys,
                  "typed at a command's terminal, they leave it running; \"\" for none")
      ->type_name("KEYS")
      ->capture_default_str();
}

// What `run` and `exec` have in common.
void add_common(CLI::App& verb, RunFlags& flags) {
  verb.add_option("command", flags.command, "the command and its arguments, after --");
  verb.positionals_at_end();
  verb.add_flag("-i,--interactive", flags.interactive,
                "hand on standard input even where it is a terminal");
  verb.add_flag("-t,--tty", flags.terminal, "give it a terminal");
  verb.add_option("-e,--env", flags.env, "a variable of its environment; may be repeated")
      ->type_name("KEY=VALUE")
      ->take_all()
      ->allow_extra_args(false);
  verb.add_option("--env-file", flags.env_file, "KEY=VALUE lines")->type_name("FILE");
  verb.add_option("-w,--workdir", flags.workdir, "where it starts; where the image says, or /")
      ->type_name("DIR");
  verb.add_option("--timeout", flags.timeout, "killed after this long; never")->type_name("TIME");
  verb.add_option("--output-limit", flags.output_limit, "killed when it prints more than this")
      ->type_name("SIZE");
  verb.add_option("--stats-json", flags.stats_json,
                  "how it ended and what it used, to a file, or - for standard error")
      ->type_name("FILE");
  verb.footer(kExitStatus);
}

}  // namespace

void add_run(CLI::App& app, Session& session) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = app.add_subcommand(
      "run",
      "Run a command in a new sandbox that is gone afterwards; its exit status is the command's");
  add_common(*verb, *flags);
  verb->add_option("--image", flags->image, "what it finds as its root")->capture_default_str();
  verb->add_option("--entrypoint", flags->entrypoint,
                   "instead of the image's entrypoint and command; \"\" for none")
      ->type_name("PROGRAM");
  verb->add_option("-u,--user", flags->user, "who runs it inside; who the image says")
      ->type_name("USER[:GROUP]");
  verb->add_option("-m,--memory", flags->memory, "at most this much memory; 512MiB")
      ->type_name("SIZE");
  verb->add_option("--cpu,--cpus", flags->cpu, "at most this much of processors; 1")
      ->type_name("CPUS");
  verb->add_option("--pids,--pids-limit", flags->pids, "at most this many processes; 256")
      ->type_name("N");
  verb->add_option("-v,--volume,--bind", flags->binds,
                   "a folder or file of this host, which it finds at TARGET; may be repeated")
      ->type_name("SOURCE:TARGET[:ro|rw]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--tmpfs", flags->tmpfs,
                   "an empty folder in memory; options: size=, mode=, exec; may be repeated")
      ->type_name("PATH[:SIZE|:OPTIONS]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_flag("--read-only", flags->read_only,
                 "its root cannot be written to; /tmp, /dev/shm, binds and tmpfs can");
  verb->add_option("--network,--net", flags->network,
                   "none, nat, or host-loopback:PORT,…: services of this host; none")
      ->type_name("MODE");
  verb->add_option("--allow", flags->allow,
                   "network nat: this and nothing else; may be repeated; all that is public")
      ->type_name("RANGE|NAME|*.NAME[:PORT[/tcp|udp]]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("-p,--publish", flags->publish,
                   "network nat: a port of this host that leads to one of it; may be repeated")
      ->type_name("[ADDR:]HOSTPORT:PORT[/udp]")
      ->take_all()
      ->allow_extra_args(false);
  verb->add_option("--network-rate", flags->network_rate,
                   "network nat: at most this much a second, each way; no limit")
      ->type_name("SIZE");
  verb->add_option("--network-connections", flags->network_connections,
                   "network nat: at most this many at once; 1024")
      ->type_name("N");
  verb->add_option("--cpu-seconds", flags->cpu_seconds,
                   "killed after this much processor time; never")
      ->type_name("N");
  verb->add_flag("--standalone", flags->standalone,
                 "as root, without an agent: this process makes the sandbox by itself");
  verb->add_option("--images", flags->images, "standalone: the folder of images")->type_name("DIR");
  verb->add_option("--limits", flags->limits,
                   "standalone: enforce, or best-effort where the host cannot")
      ->type_name("MODE");
  verb->add_option("--cgroup-parent", flags->cgroup_parent,
                   "standalone: a cgroup without processes that may hold its own; this process's")
      ->type_name("PATH");
  verb->add_option("--file-size", flags->file_size, "the largest file that it may write")
      ->type_name("SIZE");
  verb->add_flag("-d,--detach", flags->detach,
                 "let it run alone and print its id; what it prints is in `brood logs`");
  verb->add_option("--name", flags->name, "what it can be called instead of its id")
      ->type_name("NAME");
  const CLI::Option* remove = verb->add_flag(
      "--rm", flags->remove,
      "forget it when it has ended; so unless it is detached, and --rm=false keeps how it ended "
      "until `brood rm`");
  verb->add_option("--stop-signal", flags->stop_signal,
                   "what `brood stop` sends first; what the image says, or TERM")
      ->type_name("SIGNAL");
  add_detach_keys(*verb, *flags);
  verb->callback([flags, remove, &session] {
    flags->remove_said = remove->count() > 0;
    session.run = [flags, &session] { return run(*flags, session); };
  });
}

void add_attach(CLI::App& app, Session& session) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = app.add_subcommand(
      "attach",
      "Take the streams of a command that runs detached; its exit status is the command's");
  verb->add_option("command", flags->sandbox, "its id or name")->required();
  verb->add_flag("--no-stdin", flags->no_input, "leave its standard input alone");
  add_detach_keys(*verb, *flags);
  verb->footer(kExitStatus);
  verb->callback(
      [flags, &session] { session.run = [flags, &session] { return attach(*flags, session); }; });
}

void add_exec(CLI::App& app, Session& session) {
  auto flags = std::make_shared<RunFlags>();
  CLI::App* verb = app.add_subcommand(
      "exec", "Run one more command in a sandbox that `brood run` has made; it ends with that");
  verb->add_option("sandbox", flags->sandbox,
                   "its id, as `brood ps` shows it, or a command's id or name")
      ->required();
  add_common(*verb, *flags);
  verb->callback([flags, &session] {
    // What follows the sandbox is taken as it is, the mark that ends options too.
    if (!flags->command.empty() && flags->command.front() == "--") {
      flags->command.erase(flags->command.begin());
    }
    session.run = [flags, &session] { return run(*flags, session); };
  });
}

}  // namespace cli

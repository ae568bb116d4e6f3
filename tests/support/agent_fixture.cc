#include "tests/support/agent_fixture.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <set>
#include <sstream>
#include <stdexcept>
#include <thread>

#define CATCH_CONFIG_EXTERNAL_INTERFACES
#include <catch2/catch.hpp>

#include "base/file.h"
#include "cgroups/hierarchy.h"
#include "tests/support/skip.h"

namespace tests {
namespace {

namespace fs = std::filesystem;

std::string from_environment(const char* name, const std::string& otherwise) {
  const char* value = ::getenv(name);
  return value != nullptr && *value != '\0' ? value : otherwise;
}

void must(const base::Status& status) {
  if (!status) {
    throw std::runtime_error(status.error().message());
  }
}

std::string source_dir() {
  return from_environment("BROOD_SOURCE_DIR", BROOD_BUILT_SOURCE_DIR);
}

// --- the agents' logs of a test case, printed when it fails --------------------------------------

std::string& kept_logs() {
  static std::string logs;
  return logs;
}

class LogPrinter : public Catch::TestEventListenerBase {
 public:
  using TestEventListenerBase::TestEventListenerBase;
  void testCaseStarting(const Catch::TestCaseInfo& /*info*/) override { kept_logs().clear(); }
  void testCaseEnded(const Catch::TestCaseStats& stats) override {
    if (stats.totals.assertions.failed > 0) {
      std::cout << "--- the agent's log ---\n" << kept_logs() << "---\n";
    }
  }
};
CATCH_REGISTER_LISTENER(LogPrinter)

// --- room for agents' cgroups --------------------------------------------------------------------

cgroups::Cgroup own_cgroup() {
  if (const auto named = from_environment("BROOD_TEST_CGROUP", ""); !named.empty()) {
    return cgroups::Cgroup::open(named).value();
  }
  const auto found = cgroups::locate(base::read_file("/proc/self/mountinfo", 16 << 20).value(),
                                     base::read_file("/proc/self/cgroup").value());
  if (!found.own_directory) {
    skip_because("no cgroup v2 mount shows this process");
  }
  return cgroups::Cgroup::open(*found.own_directory).value();
}

// A cgroup below which agents' cgroups have every controller there is. The test's own process lives
// beside them: with controllers on for its children, a cgroup may hold no process itself.
class Room {
 public:
  static const cgroups::Cgroup& get() {
    static const Room room;
    return room.parent_;
  }

 private:
  Room() : parent_(own_cgroup()) {
    const auto offered = parent_.controllers().value();
    const auto procs = parent_.procs().value_or(std::vector<pid_t>{});
    const bool alone = procs.empty() || procs == std::vector<pid_t>{::getpid()};
    if (!parent_.is_hierarchy_root() && !offered.empty()) {
      if (!alone) {
        return;  // others live here: without controllers, then
      }
      leaf_ = parent_.create("brood-test-" + std::to_string(::getpid())).value();
      must(leaf_.add_self());
    }
    for (const auto controller : offered.without(parent_.enabled().value()).members()) {
      if (parent_.enable(controller)) {
        switched_.add(controller);
      }
    }
  }
  ~Room() {
    if (!leaf_) {
      return;
    }
    for (const auto controller : switched_.members()) {
      (void)parent_.disable(controller);
    }
    (void)parent_.add_self();
    (void)leaf_.remove();
  }

  cgroups::Cgroup parent_;
  cgroups::Cgroup leaf_;
  cgroups::ControllerSet switched_;
};

constexpr cgroups::ControllerSet kLimits{cgroups::Controller::cpu, cgroups::Controller::memory,
                                         cgroups::Controller::pids};
constexpr std::string_view kCgroupPrefix = "brood-agent-";

// What test programs that were killed have left: their agents died with them.
void clear_earlier_runs() {
  for (const std::string& name : Room::get().children().value_or(std::vector<std::string>{})) {
    if (name.rfind(kCgroupPrefix, 0) != 0) {
      continue;
    }
    const pid_t owner = std::stoi(name.substr(kCgroupPrefix.size()));
    if (::kill(owner, 0) != 0 && errno == ESRCH) {
      (void)Room::get().open_child(name)->remove_tree(5s);
    }
  }
}

cgroups::Cgroup make_cgroup() {
  static int count = 0;
  clear_earlier_runs();
  return Room::get()
      .create(std::string(kCgroupPrefix) + std::to_string(::getpid()) + "-" +
              std::to_string(++count))
      .value();
}

// --- processes -----------------------------------------------------------------------------------

// pid and parent of every process.
std::map<pid_t, pid_t> parents() {
  std::map<pid_t, pid_t> all;
  for (const auto& entry : fs::directory_iterator("/proc")) {
    const std::string name = entry.path().filename();
    if (name.find_first_not_of("0123456789") != std::string::npos) {
      continue;
    }
    if (const auto stat = base::read_file("/proc/" + name + "/stat")) {
      std::istringstream rest(stat->substr(stat->rfind(')') + 2));
      std::string state;
      pid_t parent = 0;
      rest >> state >> parent;
      all[std::stoi(name)] = parent;
    }
  }
  return all;
}

std::string command_of(pid_t pid) {
  auto command = base::read_file("/proc/" + std::to_string(pid) + "/cmdline").value_or("");
  std::replace(command.begin(), command.end(), '\0', ' ');
  return command;
}

std::string describe_process(pid_t pid) {
  return "process " + std::to_string(pid) + " " + command_of(pid);
}

}  // namespace

bool soon(const std::function<bool()>& happened, std::chrono::milliseconds limit) {
  const auto end = std::chrono::steady_clock::now() +
                   std::chrono::duration_cast<std::chrono::milliseconds>(limit * slowness());
  while (!happened()) {
    if (std::chrono::steady_clock::now() >= end) {
      return false;
    }
    std::this_thread::sleep_for(10ms);
  }
  return true;
}

bool can_limit() {
  need_root();
  return kLimits.without(own_cgroup().controllers().value()).empty();
}

void need_limits() {
  if (!can_limit()) {
    skip_because("the cgroup v2 tree of this host lacks controllers: " +
                 kLimits.without(own_cgroup().controllers().value()).joined());
  }
}

double slowness() {
  return std::max(1.0, std::stod(from_environment("BROOD_TEST_SLOWNESS", "1")));
}

std::string images_dir() {
  return from_environment("BROOD_IMAGES", "/var/lib/brood/images");
}

std::string bin_dir() {
  return from_environment("BROOD_BIN_DIR", BROOD_BUILT_BIN_DIR);
}

std::string support_dir(Program program) {
  return program == Program::seam
             ? from_environment("BROOD_SEAM_SUPPORT_DIR", BROOD_BUILT_SEAM_SUPPORT_DIR)
             : from_environment("BROOD_SUPPORT_DIR", BROOD_BUILT_SUPPORT_DIR);
}

std::string function_source(const std::string& file) {
  return base::read_file(source_dir() + "/tests/functions/" + file).value();
}

// --- starting ------------------------------------------------------------------------------------

AgentFixture::AgentFixture(AgentOptions options) : options_(std::move(options)) {
  need_root();
  for (const std::string& runtime : options_.runtimes) {
    if (!fs::exists(images_dir() + "/" + runtime + "/image.json")) {
      skip_because("no image " + runtime + " in " + images_dir() +
                   "; build it: make -f Makefile.rootfs " + runtime);
    }
  }
  cgroup_ = make_cgroup();
  enforces_limits_ = kLimits.without(cgroup_.controllers().value()).empty();
  socket_ = scratch_.path() + "/brood.sock";
  // What an agent leaves running becomes a child of this process, and is seen.
  ::prctl(PR_SET_CHILD_SUBREAPER, 1);
  write_config();
  try {
    start();
  } catch (...) {
    (void)cgroup_.remove_tree(5s);
    throw;
  }
}

void AgentFixture::write_config() const {
  std::string text;
  for (const std::string& runtime : options_.runtimes) {
    text += "[runtimes." + runtime + "]\npool_min = " + std::to_string(options_.pool_min) +
            "\npool_max = " + std::to_string(options_.pool_max) + "\n";
  }
  must(base::replace_file_at(scratch_.fd(), "broodd.toml", text, 0600));
}

std::vector<std::string> AgentFixture::command() const {
  const bool seam = options_.program == Program::seam;
  std::vector<std::string> command{
      bin_dir() + (seam ? "/broodd-seam" : "/broodd"),
      "--config=" + scratch_.path() + "/broodd.toml",
      "--socket=" + socket_,
      "--state-dir=" + state_dir(),
      "--run-dir=" + run_dir(),
      "--images-dir=" + (options_.images_dir.empty() ? images_dir() : options_.images_dir),
      "--support-dir=" + support_dir(options_.program),
      "--unpack-program=" + bin_dir() + "/brood-unpack",
      "--cgroup-parent=" + cgroup_.path(),
      "--limits=" + (!options_.limits.empty() ? options_.limits
                     : enforces_limits_       ? std::string("enforce")
                                              : std::string("best-effort"))};
  command.insert(command.end(), options_.flags.begin(), options_.flags.end());
  return command;
}

void AgentFixture::start() {
  launch();
  wait_until_it_serves();
}

void AgentFixture::start(Program program, std::map<std::string, std::string> environment) {
  options_.program = program;
  options_.environment = std::move(environment);
  start();
}

std::pair<int, std::string> AgentFixture::start_in_vain() {
  const std::size_t before = log().size();
  launch();
  const int status = wait_for_its_end();
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, log().substr(before)};
}

void AgentFixture::launch() {
  const std::vector<std::string> words = command();
  std::vector<char*> argv;
  for (const std::string& word : words) {
    argv.push_back(const_cast<char*>(word.c_str()));
  }
  argv.push_back(nullptr);
  const std::string log = scratch_.path() + "/log";
  pid_ = ::fork();
  if (pid_ == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    ::dup2(::open("/dev/null", O_RDONLY), 0);
    ::dup2(::open(log.c_str(), O_WRONLY | O_CREAT | O_APPEND, 0600), 1);
    ::dup2(1, 2);
    for (const auto& [name, value] : options_.environment) {
      ::setenv(name.c_str(), value.c_str(), 1);
    }
    if (options_.in_child) {
      options_.in_child();
    }
    ::execv(argv[0], argv.data());
    ::_exit(127);
  }
}

void AgentFixture::wait_until_it_serves() {
  const bool serves = soon([this] {
    if (::waitpid(pid_, nullptr, WNOHANG) == pid_) {
      pid_ = -1;
      return true;
    }
    try {
      return client().ask("GET", "/version").status == 200;
    } catch (const std::exception&) {
      return false;
    }
  });
  if (pid_ == -1 || !serves) {
    if (pid_ > 0) {
      kill();
    }
    kept_logs() += log();
    throw std::runtime_error("the agent does not serve:\n" + log());
  }
}

// --- stopping ------------------------------------------------------------------------------------

AgentFixture::~AgentFixture() {
  if (pid_ > 0) {
    stop();
  }
  CHECK(leftovers() == std::vector<std::string>{});
  (void)cgroup_.remove_tree(5s);
  kept_logs() += log();
}

void AgentFixture::begin_stop() {
  if (std::exchange(stopping_, true)) {
    return;  // a second signal would end its patience
  }
  note_descendants();
  ::kill(pid_, SIGTERM);
}

void AgentFixture::stop() {
  begin_stop();
  const int status = wait_for_its_end();
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
  CHECK(leftovers() == std::vector<std::string>{});
}

void AgentFixture::kill() {
  note_descendants();
  ::kill(pid_, SIGKILL);
  wait_for_its_end();
}

int AgentFixture::wait_for_its_end() {
  int status = 0;
  const bool ended = soon([&] { return ::waitpid(pid_, &status, WNOHANG) == pid_; }, 45s);
  if (!ended) {
    ::kill(pid_, SIGKILL);
    ::waitpid(pid_, &status, 0);
  }
  pid_ = -1;
  stopping_ = false;
  CHECK(ended);
  return status;
}

void AgentFixture::note_descendants() {
  const auto all = parents();
  std::set<pid_t> found{pid_};
  for (bool grown = true; grown;) {
    grown = false;
    for (const auto& [pid, parent] : all) {
      grown |= found.count(parent) != 0 && found.insert(pid).second;
    }
  }
  found.erase(pid_);
  descendants_.assign(found.begin(), found.end());
}

void AgentFixture::reap_orphans() const {
  for (const pid_t pid : descendants_) {
    ::waitpid(pid, nullptr, WNOHANG);
  }
}

std::vector<std::string> AgentFixture::leftovers() const {
  std::vector<std::string> left;
  const auto look = [&] {
    left.clear();
    reap_orphans();
    for (const pid_t pid : descendants_) {
      if (::kill(pid, 0) == 0) {
        left.push_back(describe_process(pid));
      }
    }
    for (const auto& [pid, parent] : parents()) {
      if (command_of(pid).find("--state-dir=" + state_dir()) != std::string::npos) {
        left.push_back(describe_process(pid));
      }
    }
    for (const std::string& child : cgroup_.children().value_or(std::vector<std::string>{})) {
      left.push_back("cgroup " + cgroup_.path() + "/" + child);
    }
    std::istringstream mounts(base::read_file("/proc/self/mountinfo", 16 << 20).value());
    for (std::string line; std::getline(mounts, line);) {
      if (line.find(scratch_.path()) != std::string::npos) {
        left.push_back("mount " + line);
      }
    }
    for (const char* path : {"/brood.sock", "/state/slots/0"}) {
      if (fs::exists(scratch_.path() + path)) {
        left.push_back("file " + scratch_.path() + path);
      }
    }
    return left.empty();
  };
  soon(look, 5s);
  return left;
}

std::string AgentFixture::log() const {
  return base::read_file_at(scratch_.fd(), "log", 64 << 20).value_or("");
}

// --- asking --------------------------------------------------------------------------------------

Response AgentFixture::upload(std::string_view bytes, const std::string& file_name) {
  const std::string header = file_name.empty() ? "" : "Brood-File-Name: " + file_name + "\r\n";
  return client().ask("POST", "/code", bytes,
                      header + "Content-Type: application/octet-stream\r\n");
}

Response AgentFixture::put(const std::string& name, const std::string& digest, Json settings) {
  settings["code"] = digest;
  return client().ask("PUT", "/functions/" + name, settings.dump(),
                      "Content-Type: application/json\r\n");
}

Json AgentFixture::deploy_code(const std::string& name, std::string_view bytes,
                               const std::string& file_name, Json settings) {
  const Response uploaded = upload(bytes, file_name);
  INFO(uploaded.body);
  REQUIRE(uploaded.status == 201);
  const Response deployed = put(name, Json::parse(uploaded.body)["digest"], std::move(settings));
  INFO(deployed.body);
  REQUIRE((deployed.status == 200 || deployed.status == 201));
  return Json::parse(deployed.body);
}

Json AgentFixture::deploy(const std::string& name, std::string_view source, Json settings) {
  return deploy_code(name, source, "handler.py", std::move(settings));
}

void AgentFixture::remove(const std::string& name) {
  const Response removed = client().ask("DELETE", "/functions/" + name);
  INFO(removed.body);
  REQUIRE(removed.status == 200);
}

Invoked AgentFixture::invoke(const std::string& name, const Json& event) const {
  return invoke_bytes(name, event.dump(), "application/json");
}

Invoked AgentFixture::invoke_bytes(const std::string& name, std::string_view body,
                                   const std::string& content_type) const {
  Response response = client().ask("POST", "/functions/" + name + "/invocations", body,
                                   "Content-Type: " + content_type + "\r\n");
  Invoked invoked;
  invoked.status = response.status;
  invoked.ending = response.header("brood-ending");
  invoked.id = response.header("brood-invocation");
  invoked.start = response.header("brood-start");
  invoked.headers = std::move(response.headers);
  invoked.body = std::move(response.body);
  return invoked;
}

std::future<Invoked> AgentFixture::invoke_later(const std::string& name, const Json& event) const {
  return std::async(std::launch::async, [this, name, event] { return invoke(name, event); });
}

std::vector<Json> AgentFixture::sandboxes_of(const std::string& name) const {
  std::vector<Json> bound;
  for (Json& sandbox : sandboxes()) {
    if (sandbox["function"] == name) {
      bound.push_back(std::move(sandbox));
    }
  }
  return bound;
}

std::string AgentFixture::cgroup_of(const Json& sandbox) const {
  const std::string id = sandbox["id"];
  const std::vector<std::string> instances = cgroup_.children().value();
  if (!instances.empty()) {
    const std::string& instance = instances.front();
    std::string runtime = sandbox["runtime"];
    if (runtime.rfind("run.", 0) == 0) {
      runtime.replace(0, 4, "_");  // a cgroup's name has no dot
    }
    return cgroup_.path() + "/" + instance + "/" + runtime + "/sandbox-" +
           id.substr(id.rfind('-') + 1);
  }
  throw std::runtime_error("the agent has no cgroup");
}

std::vector<pid_t> AgentFixture::processes_of(const Json& sandbox) const {
  const auto cgroup = cgroups::Cgroup::open(cgroup_of(sandbox));
  return cgroup ? cgroup->procs().value_or(std::vector<pid_t>{}) : std::vector<pid_t>{};
}

Json AgentFixture::runtime(const std::string& name) const {
  Json document = client().get("/runtimes");  // named, so that it outlives the loop
  for (Json& runtime : document["runtimes"]) {
    if (runtime["name"] == name) {
      return std::move(runtime);
    }
  }
  throw std::runtime_error("the agent has no runtime " + name);
}

bool AgentFixture::pool_has(std::uint32_t count, const std::string& name) const {
  return soon([&] { return runtime(name)["pool_ready"].get<std::uint32_t>() >= count; });
}

std::vector<Json> AgentFixture::logs(const std::string& name, std::size_t tail) const {
  const Response response =
      client().ask("GET", "/functions/" + name + "/logs?tail=" + std::to_string(tail));
  if (response.status != 200) {
    throw std::runtime_error("logs of " + name + ": " + response.body);
  }
  std::vector<Json> lines;
  std::istringstream text(response.body);
  for (std::string line; std::getline(text, line);) {
    lines.push_back(Json::parse(line));
  }
  return lines;
}

std::vector<std::string> AgentFixture::log_of(const std::string& name,
                                              const std::string& invocation) const {
  std::vector<std::string> texts;
  for (const Json& line : logs(name)) {
    if (line.value("invocation", "") == invocation) {
      texts.push_back(line["text"]);
    }
  }
  return texts;
}

}  // namespace tests

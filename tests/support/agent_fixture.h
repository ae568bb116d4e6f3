// A real agent for a test: broodd as a child process, with a state directory, run directory, socket
// and cgroup of its own, and the host's images. When it goes, it is checked that nothing of it is
// left on the host; when the test fails, the agent's log is printed.
//
// Where things are: BROOD_BIN_DIR (broodd, brood, brood-unpack), BROOD_SUPPORT_DIR (python/…),
// BROOD_SOURCE_DIR (tests/functions) and BROOD_IMAGES in the environment win over the build's own
// places and /var/lib/brood/images. BROOD_TEST_CGROUP names a cgroup that may hold the agents'.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <functional>
#include <future>
#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "cgroups/cgroup.h"
#include "tests/support/http_client.h"
#include "tests/support/scratch.h"

namespace tests {

using Json = nlohmann::json;
using namespace std::chrono_literals;

// broodd, or broodd-seam with the runtimes that belong to it: tests/seam/README.md.
enum class Program { product, seam };

struct AgentOptions {
  std::vector<std::string> flags = {};  // beside those for its places, e.g. "--payload-limit=1MiB"
  std::uint32_t pool_min = 2;
  std::uint32_t pool_max = 8;
  std::vector<std::string> runtimes = {"python3"};  // each needs its image
  std::string run_dir = {};     // another agent's, to live beside it; empty: one of its own
  std::string images_dir = {};  // empty: the host's
  std::string limits = {};      // --limits; empty: enforce where the host can, else best-effort
  Program program = Program::product;
  std::map<std::string, std::string> environment = {};  // beside the test's own
  // Run in the agent's process before its program is: limits, namespaces. May only make system
  // calls.
  std::function<void()> in_child = {};
};

// What an invocation was answered with.
struct Invoked {
  int status = 0;
  std::string ending;  // Brood-Ending
  std::string id;      // Brood-Invocation
  std::string start;   // cold or warm
  std::map<std::string, std::string> headers;
  std::string body;

  bool ok() const { return ending == "ok" && status == 200; }
  Json json() const { return Json::parse(body); }            // of an answer
  Json error() const { return Json::parse(body)["error"]; }  // of a failure
};

class AgentFixture {
 public:
  // Starts the agent and waits until it serves; throws, with the agent's log, when it does not.
  // Skips the test without root or an image.
  explicit AgentFixture(AgentOptions options = {});
  // Stops the agent if it runs, and checks what it has left.
  ~AgentFixture();
  AgentFixture(const AgentFixture&) = delete;
  AgentFixture& operator=(const AgentFixture&) = delete;

  // SIGTERM; checks that it leaves with 0 and that nothing is left but its state directory.
  void stop();
  // SIGTERM, and no more: `stop` waits for the rest.
  void begin_stop();
  // SIGKILL: what it leaves is for the next one to clear away.
  void kill();
  // After `stop` or `kill`, on the same state directory.
  void start();
  // The same, and the program or the environment may be another's from now on.
  void start(Program program, std::map<std::string, std::string> environment = {});
  // After `stop` or `kill`: runs the agent where it is expected to end by itself, without serving.
  // Its exit status, and what it printed.
  std::pair<int, std::string> start_in_vain();

  pid_t pid() const { return pid_; }
  const std::string& socket() const { return socket_; }
  std::string state_dir() const { return scratch_.path() + "/state"; }
  std::string run_dir() const {
    return options_.run_dir.empty() ? scratch_.path() + "/run" : options_.run_dir;
  }
  const std::string& scratch() const { return scratch_.path(); }
  // The cgroup that holds brood-INSTANCE.
  const std::string& cgroup() const { return cgroup_.path(); }
  std::string log() const;
  // Whether this agent holds functions to their limits of memory, cpu and pids.
  bool enforces_limits() const { return enforces_limits_; }
  // Cgroups, mounts and processes of this agent, one line each. What is on its way out is waited
  // for.
  std::vector<std::string> leftovers() const;

  HttpClient client() const { return HttpClient(socket_); }
  // Fields of a PUT of a function but `code`; `source` is its handler.py.
  Json deploy(const std::string& name, std::string_view source, Json settings = Json::object());
  // The same for an archive, or for a file under this name.
  Json deploy_code(const std::string& name, std::string_view bytes, const std::string& file_name,
                   Json settings = Json::object());
  Response upload(std::string_view bytes, const std::string& file_name = "");
  Response put(const std::string& name, const std::string& digest, Json settings);
  void remove(const std::string& name);

  // From any thread.
  Invoked invoke(const std::string& name, const Json& event = nullptr) const;
  Invoked invoke_bytes(const std::string& name, std::string_view body,
                       const std::string& content_type = "application/octet-stream") const;

  // In a thread of its own.
  std::future<Invoked> invoke_later(const std::string& name, const Json& event = nullptr) const;

  Json status() const { return client().get("/status"); }
  Json describe(const std::string& name) const { return client().get("/functions/" + name); }
  std::vector<Json> sandboxes() const { return client().get("/sandboxes")["sandboxes"]; }
  // Those bound to this function.
  std::vector<Json> sandboxes_of(const std::string& name) const;
  // Its processes that are alive, as the host numbers them: those in its cgroup, which nobody
  // inside can leave.
  std::vector<pid_t> processes_of(const Json& sandbox) const;
  // The directory of its cgroup.
  std::string cgroup_of(const Json& sandbox) const;
  Json runtime(const std::string& name = "python3") const;
  // Waits for `count` sandboxes to be ready in the pool.
  bool pool_has(std::uint32_t count, const std::string& runtime = "python3") const;
  std::vector<Json> logs(const std::string& name, std::size_t tail = 1000) const;
  // The texts of those lines that belong to this invocation.
  std::vector<std::string> log_of(const std::string& name, const std::string& invocation) const;

 private:
  void write_config() const;
  std::vector<std::string> command() const;
  void launch();
  void wait_until_it_serves();
  int wait_for_its_end();
  void note_descendants();
  void reap_orphans() const;

  AgentOptions options_;
  ScratchDirectory scratch_;
  std::string socket_;
  cgroups::Cgroup cgroup_;
  bool enforces_limits_ = false;
  pid_t pid_ = -1;
  bool stopping_ = false;
  std::vector<pid_t> descendants_;  // when it was told to stop
};

// Whether an agent on this host could hold functions to their limits of memory, cpu and pids. Needs
// root, as does the next, which skips the test where not. Call before anything is made.
bool can_limit();
void need_limits();

// tests/functions/NAME
std::string function_source(const std::string& file);
std::string bin_dir();
std::string images_dir();  // the host's
std::string support_dir(Program program = Program::product);

// Waits for what happens soon; false when the time is up.
bool soon(const std::function<bool()>& happened, std::chrono::milliseconds limit = 20s);

// How much slower than an ordinary host this one runs: 1 or more (scripts/test-vm says).
double slowness();

}  // namespace tests

#include "cmd/cli/standalone.h"

#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <csignal>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "agent/agent.h"
#include "agent/config.h"
#include "agent/powers.h"
#include "api/json.h"
#include "base/file.h"
#include "cmd/agent_process.h"

namespace cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMostAtOnce = 64;

// A state directory, this process's alone for as long as it lives.
struct Place {
  std::string path;
  std::string lock_path;
  base::UniqueFd lock;
};

// Nothing where another has it. The lock goes with its user, so one that is got may be gone
// already.
std::optional<Place> try_place(const std::string& path) {
  Place place{path, path + ".lock", {}};
  auto lock = base::open_at(AT_FDCWD, place.lock_path, O_RDWR | O_CREAT, 0600);
  struct stat about {};
  if (!lock || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(lock->get(), &about) != 0 ||
      about.st_nlink == 0 || !base::make_directories(path, 0700)) {
    return std::nullopt;
  }
  place.lock = std::move(*lock);
  return place;
}

// Rather one that is there: its last user was killed, and an agent that takes a state directory
// clears away what an earlier one left.
Outcome<Place> take_place(const std::string& run_dir) {
  const std::string all = run_dir + "/standalone";
  if (const auto made = base::make_directories(run_dir, 0755); !made) {  // an agent's, too
    return fail(Exit::failed, made.error().message());
  }
  for (int i = 0; i < kMostAtOnce; ++i) {
    // Again each time: the last to leave takes it along.
    if (const auto made = base::make_directories(all, 0700); !made) {
      return fail(Exit::failed, made.error().message());
    }
    std::error_code error;
    for (const auto& entry : fs::directory_iterator(all, error)) {
      if (entry.path().extension() != ".lock") {
        if (auto place = try_place(entry.path())) {
          return std::move(*place);
        }
      }
    }
    if (auto place = try_place(all + "/" + std::to_string(i))) {
      return std::move(*place);
    }
  }
  return fail(Exit::failed, "as many commands run without an agent as can at once (" +
                                std::to_string(kMostAtOnce) + ")");
}

void log_to_standard_error() {
  auto logger =
      std::make_shared<spdlog::logger>("brood", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_pattern("brood: %v");
  logger->set_level(spdlog::level::err);
  spdlog::set_default_logger(std::move(logger));
}

Outcome<agent::AgentConfig> config_of(const StandaloneRequest& request) {
  agent::ConfigSources sources;
  if (!request.images_dir.empty()) {
    sources.flags.emplace_back("images_dir", request.images_dir);
  }
  if (!request.limits.empty()) {
    sources.flags.emplace_back("limits", request.limits);
  }
  if (!request.cgroup_parent.empty()) {
    sources.flags.emplace_back("cgroup_parent", request.cgroup_parent);
  }
  auto config = agent::load_config(sources);
  if (!config) {
    return fail(Exit::usage, config.error().message());
  }
  cmd::find_parts(*config);
  config->serves_one_command = true;
  return std::move(*config);
}

// The agent and the thread of its loop.
class Host {
 public:
  Host(agent::AgentConfig config, Place place)
      : config_(std::move(config)), place_(std::move(place)) {
    config_.state_dir = place_.path;
  }
  ~Host() { stop(); }
  Host(const Host&) = delete;
  Host& operator=(const Host&) = delete;

  Outcome<int> start() {
    auto started = agent::Agent::start(loop_, config_);
    if (!started) {
      return fail(Exit::failed, started.error().message());
    }
    agent_ = std::move(*started);
    // Signals are this thread's, which hands them to the command.
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    thread_ = std::thread([this] {
      const auto work = boost::asio::make_work_guard(loop_);
      loop_.run();
    });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    return 0;
  }

  template <typename Work>
  void post(Work work) {
    boost::asio::post(loop_, std::move(work));
  }
  agent::Agent& agent() { return *agent_; }

  void stop() {
    if (thread_.joinable()) {
      post([this] { agent_->drain(std::chrono::milliseconds(0), [this] { loop_.stop(); }); });
      thread_.join();
    }
    agent_.reset();
    std::error_code ignored;
    // The agent's own mount goes with the process otherwise, which is too late for its folder.
    (void)::umount2((config_.state_dir + "/slots").c_str(), MNT_DETACH);
    fs::remove_all(config_.state_dir, ignored);
    fs::remove(place_.lock_path, ignored);
    fs::remove(fs::path(config_.state_dir).parent_path(), ignored);  // of the last of them
  }

 private:
  agent::AgentConfig config_;
  Place place_;
  boost::asio::io_context loop_{1};
  std::unique_ptr<agent::Agent> agent_;
  std::thread thread_;
};

// What the loop's thread tells this one.
struct Course {
  std::promise<tl::expected<agent::CommandStarted, std::string>> started;
  bool has_started = false;  // the loop's alone
  std::promise<agent::CommandEnd> ended;
  base::UniqueFd end_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
  std::shared_ptr<agent::CommandHandle> handle;
};

void begin(Host& host, const std::shared_ptr<Course>& course, agent::CommandRequest command) {
  host.post([&host, course, command = std::move(command)]() mutable {
    auto handle = host.agent().run(std::move(command),
                                   {.started =
                                        [course](agent::CommandStarted started) {
                                          course->has_started = true;
                                          course->started.set_value(std::move(started));
                                        },
                                    .done =
                                        [course](agent::CommandEnd end) {
                                          if (!course->has_started) {
                                            course->started.set_value(tl::unexpected(end.message));
                                          }
                                          course->ended.set_value(std::move(end));
                                          const std::uint64_t one = 1;
                                          (void)!::write(course->end_event.get(), &one, sizeof one);
                                        }});
    if (!handle) {
      course->started.set_value(tl::unexpected(handle.error().message));
    } else {
      course->handle = std::move(*handle);
    }
  });
}

Outcome<std::string> carry(Host& host, StandaloneRequest& request, agent::CommandRequest command) {
  const auto course = std::make_shared<Course>();
  begin(host, course, std::move(command));
  auto started = course->started.get_future().get();
  if (!started) {
    return fail(Exit::failed, started.error());
  }
  auto ended = course->ended.get_future();
  const std::string sandbox = started->sandbox;
  const auto send = [&](int number) {
    host.post([&host, sandbox, number] { (void)host.agent().signal(sandbox, 0, number); });
  };
  PumpRequest& pumped = request.pump;
  pumped.streams = std::move(started->streams);
  pumped.until_fd = course->end_event.get();
  pumped.ended = [] { return true; };
  pumped.signal = send;
  pumped.over_limit = [&, over = std::move(pumped.over_limit)] {
    if (over) {
      over();
    }
    send(SIGKILL);
  };
  {
    std::optional<RawTerminal> raw;
    if (request.terminal) {
      raw.emplace();
    }
    CLI_TRY([[maybe_unused]] const Pumped done, pump(std::move(pumped)));
  }
  return api::command_end_json(ended.get());
}

}  // namespace

const bool kAtHomeForStandalone = true;

Outcome<std::string> run_standalone(StandaloneRequest request) {
  if (::geteuid() != 0) {
    return fail(Exit::failed,
                "without an agent, root alone can make a sandbox; ask an agent, or use sudo");
  }
  auto command = api::parse_command(request.body);
  if (!command) {
    return fail(Exit::usage, command.error().message());
  }
  log_to_standard_error();
  // Its threads allocate little: a heap for each would cost more than they wait for one.
  ::mallopt(M_ARENA_MAX, 1);
  cmd::allow_core_limit();
  CLI_TRY(agent::AgentConfig config, config_of(request));
  if (const auto given_up = agent::give_up_powers(); !given_up) {
    return fail(Exit::failed, given_up.error().message());
  }
  CLI_TRY(Place place, take_place(config.run_dir));
  Host host(std::move(config), std::move(place));
  CLI_TRY([[maybe_unused]] const int started, host.start());
  return carry(host, request, std::move(*command));
}

}  // namespace cli

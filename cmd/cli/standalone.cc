#include "cmd/cli/standalone.h"

#include <fcntl.h>
#include <pthread.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <csignal>
#include <filesystem>
#include <future>
#include <memory>
#include <thread>

#include "agent/agent.h"
#include "agent/config.h"
#include "agent/powers.h"
#include "api/json.h"
#include "base/file.h"

namespace cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMostAtOnce = 64;

std::string parts_directory() {
  std::error_code error;
  const fs::path own = fs::read_symlink("/proc/self/exe", error).parent_path();
  // Installed (lib/brood/brood-local beside lib/brood/runtimes), or as it was built.
  for (const char* place : {"runtimes", "../runtimes"}) {
    const fs::path path = (own / place).lexically_normal();
    if (fs::exists(path / "native", error)) {
      return path;
    }
  }
  return {};
}

bool is_free(const std::string& place) {
  const auto lock = base::open_at(AT_FDCWD, place + "/lock", O_RDWR | O_CREAT, 0600);
  return lock && ::flock(lock->get(), LOCK_EX | LOCK_NB) == 0;
}

// One that nobody uses, and rather one that is there: its last user was killed, and an agent that
// takes a state directory clears away what an earlier one left.
Outcome<std::string> take_place(const std::string& run_dir) {
  const std::string all = run_dir + "/standalone";
  if (const auto made = base::make_directories(run_dir, 0755); !made) {  // an agent's, too
    return fail(Exit::failed, made.error().message());
  }
  std::error_code error;
  for (const auto& entry : fs::directory_iterator(all, error)) {
    if (is_free(entry.path())) {
      return entry.path().string();
    }
  }
  for (int i = 0; i < kMostAtOnce; ++i) {
    const std::string place = all + "/" + std::to_string(i);
    if (const auto made = base::make_directories(place, 0700); !made) {
      return fail(Exit::failed, made.error().message());
    }
    if (is_free(place)) {
      return place;
    }
  }
  return fail(Exit::failed, "as many commands run without an agent as can at once (" +
                                std::to_string(kMostAtOnce) + ")");
}

// As broodd has them (cmd/broodd.cc).
void allow_core_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0) {
    limit.rlim_max = 1;
    ::setrlimit(RLIMIT_CORE, &limit);
  }
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
  auto config = agent::load_config(sources);
  if (!config) {
    return fail(Exit::usage, config.error().message());
  }
  config->support_dir = parts_directory();
  config->serves_one_command = true;
  CLI_TRY(config->state_dir, take_place(config->run_dir));
  return std::move(*config);
}

// The agent and the thread of its loop.
class Host {
 public:
  explicit Host(agent::AgentConfig config) : config_(std::move(config)) {}
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
    fs::remove(fs::path(config_.state_dir).parent_path(), ignored);  // of the last of them
  }

 private:
  agent::AgentConfig config_;
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
    CLI_TRY([[maybe_unused]] const int done, pump(std::move(pumped)));
  }
  return api::command_end_json(ended.get());
}

}  // namespace

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
  allow_core_limit();
  CLI_TRY(agent::AgentConfig config, config_of(request));
  if (const auto given_up = agent::give_up_powers(); !given_up) {
    return fail(Exit::failed, given_up.error().message());
  }
  Host host(std::move(config));
  CLI_TRY([[maybe_unused]] const int started, host.start());
  return carry(host, request, std::move(*command));
}

}  // namespace cli

#include "cmd/cli/standalone.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <malloc.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/executor_work_guard.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/post.hpp>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <future>
#include <memory>
#include <optional>
#include <thread>

#include "agent/config.h"
#include "agent/powers.h"
#include "agent/single_command.h"
#include "api/json.h"
#include "base/file.h"
#include "cmd/agent_process.h"
#include "cmd/cli/io.h"
#include "cmd/cli/other_program.h"
#include "cmd/own_zygote.h"

namespace cli {
namespace {

namespace fs = std::filesystem;

constexpr int kMostAtOnce = 64;

// A name for a cgroup, this process's alone for as long as it lives. The lock's file goes with it.
class Place {
 public:
  Place(std::string name, std::string lock_path, base::UniqueFd lock)
      : instance(std::move(name)), lock_path_(std::move(lock_path)), lock_(std::move(lock)) {}
  Place(Place&& other) noexcept = default;
  Place& operator=(Place&& other) = delete;
  ~Place() {
    if (lock_) {
      std::error_code ignored;
      fs::remove(lock_path_, ignored);
      fs::remove(fs::path(lock_path_).parent_path(), ignored);  // of the last of them
    }
  }
  std::string instance;

 private:
  std::string lock_path_;
  base::UniqueFd lock_;
};

// Nothing where another has it. The lock goes with its user, so one that is got may be gone
// already.
std::optional<Place> try_place(const std::string& directory, const std::string& name) {
  const std::string path = directory + "/" + name + ".lock";
  auto lock = base::open_at(AT_FDCWD, path, O_RDWR | O_CREAT, 0600);
  struct stat about {};
  if (!lock || ::flock(lock->get(), LOCK_EX | LOCK_NB) != 0 || ::fstat(lock->get(), &about) != 0 ||
      about.st_nlink == 0) {
    return std::nullopt;
  }
  return Place(name, path, std::move(*lock));
}

// Rather one that is there: its last user was killed, and whoever takes the name takes away the
// cgroup that was left under it.
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
      if (auto place = try_place(all, entry.path().stem())) {
        return std::move(*place);
      }
    }
    if (auto place = try_place(all, "standalone-" + std::to_string(i))) {
      return std::move(*place);
    }
  }
  return fail(Exit::failed, "as many commands run without an agent as can at once (" +
                                std::to_string(kMostAtOnce) + ")");
}

Outcome<agent::AgentConfig> config_of(const StandaloneRequest& request) {
  agent::AgentConfig config;
  if (!request.images_dir.empty()) {
    config.images_dir = request.images_dir;
  }
  if (request.limits == "best-effort") {
    config.limits = agent::LimitsMode::best_effort;
  } else if (!request.limits.empty() && request.limits != "enforce") {
    return fail(Exit::usage,
                "--limits is enforce or best-effort, and '" + request.limits + "' is neither");
  }
  config.cgroup_parent = request.cgroup_parent;
  return config;
}

// Reading an image takes what nothing else here does, so another program does it.
base::Status verify_elsewhere(const rootfs::Image& image) {
  std::error_code error;
  const fs::path directory =
      fs::read_symlink("/proc/self/fd/" + std::to_string(image.directory.get()), error);
  std::string words[] = {"brood",
                         "image",
                         "verify",
                         "--images",
                         directory.parent_path(),
                         "--quiet",
                         image.manifest.name};
  char* arguments[std::size(words) + 1] = {};
  std::transform(std::begin(words), std::end(words), arguments,
                 [](std::string& word) { return word.data(); });
  const auto done = run_program("brood-local", arguments);
  if (!done || *done != 0) {
    return base::fail_because(done ? "image '" + image.manifest.name + "' is not verified"
                                   : done.error().message);
  }
  return {};
}

// Who mounts something in the sandbox enters it by its pid 1, which is a copy of this process and
// so no less closed than root's own: an agent's sandboxes are copies of a zygote, whose master it
// is.
base::Status give_up_powers(const agent::CommandRequest& command) {
  return command.has_mounts() ? agent::give_up_powers({CAP_SYS_PTRACE}) : agent::give_up_powers();
}

// pid 1 of the sandbox is a copy of this process, and stays. What is in the environment is for none
// of both any more.
void forget_environment() {
  for (char** one = environ; one != nullptr && *one != nullptr; ++one) {
    ::explicit_bzero(*one, std::strlen(*one));
  }
}

// What the loop's thread tells this one.
struct Course {
  std::promise<tl::expected<agent::CommandStarted, std::string>> started;
  bool has_started = false;  // the loop's alone
  std::promise<agent::CommandEnd> ended;
  base::UniqueFd end_event{::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)};
};

agent::CommandCallbacks callbacks_of(const std::shared_ptr<Course>& course) {
  return {.started =
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
              }};
}

// A thread for the loop; signals are the other's, which hands them to the command.
class Loop {
 public:
  explicit Loop(boost::asio::io_context& loop) : work_(loop.get_executor()) {
    sigset_t all;
    sigset_t before;
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &before);
    thread_ = std::thread([&loop] { loop.run(); });
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  }
  ~Loop() {
    work_.reset();
    thread_.join();
  }
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

 private:
  boost::asio::executor_work_guard<boost::asio::io_context::executor_type> work_;
  std::thread thread_;
};

Outcome<Pumped> carry(boost::asio::io_context& loop, agent::SingleCommand& command,
                      StandaloneRequest& request, Course& course, agent::CommandStarted started) {
  const auto send = [&](int number) {
    boost::asio::post(loop, [&command, number] { command.signal(number); });
  };
  PumpRequest& pumped = request.pump;
  pumped.streams = std::move(started.streams);
  pumped.until_fd = course.end_event.get();
  pumped.ended = [] { return true; };
  pumped.signal = send;
  pumped.over_limit = [&, over = std::move(pumped.over_limit)] {
    if (over) {
      over();
    }
    send(SIGKILL);
  };
  std::optional<RawTerminal> raw;
  if (request.terminal) {
    raw.emplace();
  }
  return pump(std::move(pumped));
}

Outcome<std::string> run_in_loop(boost::asio::io_context& loop, agent::SingleCommand& command,
                                 StandaloneRequest& request) {
  const auto course = std::make_shared<Course>();
  auto ended = course->ended.get_future();
  const Loop thread(loop);
  boost::asio::post(loop, [&] { command.start(callbacks_of(course)); });
  auto started = course->started.get_future().get();
  if (!started) {
    return fail(Exit::failed, started.error());
  }
  const auto carried = carry(loop, command, request, *course, std::move(*started));
  if (!carried) {
    boost::asio::post(loop, [&] { command.cancel(); });
  }
  agent::CommandEnd end = ended.get();
  return carried ? Outcome<std::string>(api::command_end_json(end))
                 : tl::unexpected(carried.error());
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
  // Its threads allocate little: a heap for each would cost more than they wait for one.
  ::mallopt(M_ARENA_MAX, 1);  // NOLINT(concurrency-mt-unsafe): there is one yet
  command->descriptors =
      std::make_shared<const std::vector<base::UniqueFd>>(std::move(request.descriptors));
  cmd::allow_core_limit();
  CLI_TRY(const agent::AgentConfig config, config_of(request));
  if (const auto given_up = give_up_powers(*command); !given_up) {
    return fail(Exit::failed, given_up.error().message());
  }
  CLI_TRY(const Place place, take_place(config.run_dir));
  forget_environment();
  boost::asio::io_context loop(1);
  auto made = agent::SingleCommand::make(loop, config, place.instance,
                                         {.spawn = cmd::spawn_sandbox, .verify = verify_elsewhere},
                                         std::move(*command));
  if (!made) {
    return fail(Exit::failed, made.error().message());
  }
  auto ended = run_in_loop(loop, **made, request);
  if (const auto finished = (*made)->finish(); !finished) {
    tell(finished.error().message());
  }
  return ended;
}

}  // namespace cli

#include "agent/commands.h"

#include <spdlog/spdlog.h>

#include <algorithm>
#include <boost/asio/post.hpp>
#include <cerrno>

#include "agent/clock.h"
#include "agent/command_book.h"
#include "agent/command_runner.h"
#include "agent/execution.h"

namespace agent {
namespace {

using std::chrono::milliseconds;

// Sandboxes that wait for a command, once the first of an image has been run.
constexpr std::uint32_t kCommandPool = 2;
constexpr milliseconds kWindingPeriod{100};
constexpr std::int64_t kJustAsked = 50'000'000;  // whoever asked may not have claimed yet
constexpr milliseconds kLongestPeriod{30'000};

auto publish_by(Networks& networks) {
  return [&networks](const std::shared_ptr<const Wire>& wire,
                     std::shared_ptr<std::vector<Published>> sockets) {
    networks.publish(wire, std::move(sockets));
  };
}

auto count_by(Networks& networks) {
  return [&networks](const std::shared_ptr<const Wire>& wire,
                     std::function<void(netns::PortCounters)> done) {
    networks.count(wire, std::move(done));
  };
}

Failure invalid(std::string message) {
  return {400, "invalid_argument", std::move(message)};
}
Failure internal(const base::Error& error) {
  return {500, "internal", error.message()};
}

}  // namespace

Commands::Commands(CommandsContext context)
    : context_(std::move(context)), images_(context_.config.images_dir), timer_(context_.loop) {}

Commands::~Commands() = default;

// --- pools ---------------------------------------------------------------------------------------

RuntimePool& Commands::pool_of(const rootfs::Manifest& image, const Wanted& wanted) {
  const auto& [user, room, network] = wanted;
  wind_down_former(image);
  Pool& pool = pools_[{image.name, user, room, network == nullptr ? "" : network->key}];
  pool.used_ns = monotonic_ns();
  if (pool.pool == nullptr) {
    RuntimeConfig config;
    config.name = free_name(image, wanted);
    config.image = image.name;
    config.kind = RuntimeKind::commands;
    config.pool_min = kCommandPool;
    config.uid = user.uid;
    config.gid = user.gid;
    config.writable_root = writes_below_root(room, image);
    config.set_id_refused = room == Room::shared;
    config.network = network;
    pool.pool = context_.add_pool(config);
    look_again();
  }
  return *pool.pool;
}

// No image's name begins so, nor has a capital letter.
std::string Commands::free_name(const rootfs::Manifest& image, const Wanted& wanted) {
  const auto& [user, room, network] = wanted;
  std::string name = "run." + image.name;
  if (user != default_user(image)) {
    name += ".U" + std::to_string(user.uid) + "G" + std::to_string(user.gid);
  }
  name += room == Room::shared ? ".S" : room == Room::writable ? ".W" : "";
  name += network == nullptr ? "" : ".N" + network_tag(*network);
  return context_.has_pool(name) ? name + ".R" + std::to_string(++former_names_) : name;
}

// An image that was replaced has a pool of its own: what runs of the former one runs on.
void Commands::wind_down_former(const rootfs::Manifest& image) {
  std::erase_if(pools_, [&](const auto& kind_and_pool) {
    const auto& [kind, pool] = kind_and_pool;
    const std::string& digest = pool.pool->image_digest();
    const bool former = kind.image == image.name && !digest.empty() && digest != image.digest;
    if (former) {
      winding_down_.push_back(pool);
    }
    return former;
  });
  if (!winding_down_.empty()) {
    end_what_is_wound_down();
    look_again();
  }
}

void Commands::wind_down_idle() {
  const std::int64_t now = monotonic_ns();
  const std::int64_t idle =
      std::max(kJustAsked, std::chrono::nanoseconds(context_.config.command_idle).count());
  for (auto one = pools_.begin(); one != pools_.end();) {
    Pool& pool = one->second;
    if (pool.pool->in_use()) {
      pool.used_ns = now;
    }
    if (now - pool.used_ns < idle) {
      ++one;
      continue;
    }
    winding_down_.push_back(pool);
    one = pools_.erase(one);
  }
}

void Commands::end_what_is_wound_down() {
  for (Pool& one : winding_down_) {
    if (one.stopping) {
      continue;
    }
    one.pool->make_no_stock();
    if (one.pool->in_use()) {
      continue;
    }
    one.stopping = true;
    one.pool->stop([this, pool = one.pool] {
      boost::asio::post(context_.loop, [this, pool] {
        if (!stopped_) {
          winding_down_.remove_if([&](const Pool& ended) { return ended.pool == pool; });
          context_.drop_pool(pool->name());
        }
      });
    });
  }
}

bool Commands::free_area() {
  const auto on_its_way = [](const Pool& one) { return one.stopping || !one.pool->in_use(); };
  if (std::any_of(winding_down_.begin(), winding_down_.end(), on_its_way)) {
    return true;
  }
  const std::int64_t now = monotonic_ns();
  auto longest = pools_.end();
  for (auto one = pools_.begin(); one != pools_.end(); ++one) {
    const bool idles = one->second.pool->has_area() && !one->second.pool->in_use() &&
                       now - one->second.used_ns >= kJustAsked;
    if (idles && (longest == pools_.end() || one->second.used_ns < longest->second.used_ns)) {
      longest = one;
    }
  }
  if (longest == pools_.end()) {
    return false;
  }
  winding_down_.push_back(longest->second);
  pools_.erase(longest);
  end_what_is_wound_down();
  look_again();
  return true;
}

// As long as there is a pool that may become idle, or one that is to end.
void Commands::look_again() {
  if (stopped_ || (pools_.empty() && winding_down_.empty())) {
    return;
  }
  const bool soon = std::any_of(winding_down_.begin(), winding_down_.end(),
                                [](const Pool& one) { return !one.stopping; });
  const milliseconds calm =
      std::clamp(context_.config.command_idle / 10, kWindingPeriod, kLongestPeriod);
  timer_.expires_after(soon ? kWindingPeriod : calm);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !stopped_) {
      wind_down_idle();
      end_what_is_wound_down();
      look_again();
    }
  });
}

// --- what is asked -------------------------------------------------------------------------------

tl::expected<std::shared_ptr<CommandHandle>, Failure> Commands::run(CommandRequest request,
                                                                    CommandCallbacks callbacks) {
  if (stopped_) {
    return tl::unexpected(Failure{503, "draining", "the agent is stopping"});
  }
  const auto image = images_.manifest(request.image);
  if (!image) {
    const bool missing = image.error().code() == ENOENT;
    return tl::unexpected(missing ? Failure{404, "not_found",
                                            "there is no image '" + request.image + "' in " +
                                                context_.config.images_dir}
                                  : internal(image.error()));
  }
  request = resolve(std::move(request), (*image)->config);
  if (auto problem = validate_resolved(request); !problem.empty()) {
    return tl::unexpected(invalid(std::move(problem)));
  }
  const auto user = user_of(context_.config.images_dir, **image, request.user);
  if (!user) {
    return tl::unexpected(invalid("user: " + user.error().message()));
  }
  const auto network = network_of(request.network);
  if (!network) {
    return tl::unexpected(invalid(network.error().message()));
  }
  if (auto problem = *network != nullptr ? Networks::problem(**network) : ""; !problem.empty()) {
    return tl::unexpected(Failure{409, "conflict", std::move(problem)});
  }
  if (auto bound = bind_published(request.publish)) {
    request.published = std::move(*bound);
  } else {
    return tl::unexpected(Failure{409, "conflict", bound.error().message()});
  }
  Wanted wanted{.user = *user, .room = room_for(request, **image), .network = *network};
  if (!is_kept(request)) {
    return start(**image, wanted, std::move(request), std::move(callbacks));
  }
  return context_.book.run(std::move(request), std::move(callbacks),
                           [this, image = *image, wanted = std::move(wanted)](
                               CommandRequest entered, CommandCallbacks told) {
                             return start(*image, wanted, std::move(entered), std::move(told));
                           });
}

tl::expected<std::shared_ptr<CommandHandle>, Failure> Commands::start(const rootfs::Manifest& image,
                                                                      const Wanted& wanted,
                                                                      CommandRequest request,
                                                                      CommandCallbacks callbacks) {
  if (stopped_) {
    return tl::unexpected(Failure{503, "draining", "the agent is stopping"});
  }
  RuntimePool& pool = pool_of(image, wanted);
  pool.start();
  const auto runner = std::make_shared<CommandRunner>(
      CommandContext{.loop = context_.loop,
                     .soft_limits = context_.soft_limits(),
                     .count_running = context_.count_running,
                     .mounter = &context_.mounter,
                     .publish = publish_by(context_.networks),
                     .count_wire = count_by(context_.networks),
                     .host_mounts = context_.host_mounts,
                     .warn = [](const std::string& text) { spdlog::warn("{}", text); }},
      pool, std::move(request), std::move(callbacks));
  std::erase_if(running_, [](const auto& one) { return one.expired(); });
  running_.push_back(runner);
  runner->start();
  return runner;
}

tl::expected<std::shared_ptr<Sandbox>, Failure> Commands::sandbox_of(std::string_view id) const {
  const std::string kept = context_.book.sandbox_of(id);
  if (const auto sandbox = context_.find_sandbox(kept.empty() ? id : kept);
      sandbox != nullptr && !sandbox->command.empty()) {
    return sandbox;
  }
  return tl::unexpected(
      Failure{404, "not_found", "no sandbox '" + std::string(id) + "' runs a command"});
}

tl::expected<std::shared_ptr<CommandHandle>, Failure> Commands::execute(
    std::string_view sandbox, CommandRequest request, CommandCallbacks callbacks) {
  request =
      resolve(std::move(request), {});  // the image is the sandbox's: only what is said counts
  if (auto problem = validate_resolved(request); !problem.empty()) {
    return tl::unexpected(invalid(std::move(problem)));
  }
  const auto found = sandbox_of(sandbox);
  if (!found) {
    return tl::unexpected(found.error());
  }
  return Execution::start(context_.loop, *found, std::move(request), std::move(callbacks));
}

tl::expected<void, Failure> Commands::signal(std::string_view sandbox, std::uint32_t process,
                                             int number) {
  const auto found = sandbox_of(sandbox);
  if (!found) {
    return tl::unexpected(found.error());
  }
  number = number == 0 ? (*found)->stop_signal : number;
  const auto sent =
      process == 0 ? (*found)->signal_handler(number) : (*found)->signal_process(process, number);
  if (!sent) {
    return tl::unexpected(Failure{409, "conflict", sent.error().message()});
  }
  return {};
}

tl::expected<void, Failure> Commands::set_paused(std::string_view sandbox, bool paused) {
  const auto found = sandbox_of(sandbox);
  if (!found) {
    return tl::unexpected(found.error());
  }
  if (const auto done = (*found)->freeze(paused); !done) {
    return tl::unexpected(internal(done.error()));
  }
  return {};
}

void Commands::begin_to_stop() {
  // One that has just ended is one less to ask.
  context_.book.ask_to_end([this](const std::string& sandbox) { (void)signal(sandbox, 0, 0); });
}

void Commands::stop() {
  stopped_ = true;
  context_.book.stop();
  timer_.cancel();
  for (const auto& command : running_) {
    if (const auto runner = command.lock()) {
      runner->stop();
    }
  }
}

}  // namespace agent

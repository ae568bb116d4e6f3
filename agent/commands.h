// Commands: which pool their sandboxes come from, what runs, and what becomes of pools that nobody
// uses. All on the event loop.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <chrono>
#include <compare>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/command_place.h"
#include "agent/config.h"
#include "agent/image_cache.h"
#include "agent/runtime_pool.h"
#include "agent/service.h"

namespace agent {

class CommandBook;
class CommandRunner;

// What commands need of the agent. Everything outlives them.
struct CommandsContext {
  boost::asio::io_context& loop;
  const AgentConfig& config;
  CommandBook& book;  // of those that are kept
  Maker& mounter;     // blocks on folders of clients, and on nothing else
  Networks& networks;
  int host_mounts = -1;                    // the mount namespace that the agent was started in
  std::function<bool()> soft_limits;       // this host's cgroups cannot hold all limits
  std::function<void(int)> count_running;  // +1 and -1
  std::function<RuntimePool*(const RuntimeConfig&)> add_pool;
  std::function<bool(const std::string& name)> has_pool;
  std::function<void(const std::string& name)> drop_pool;                     // it has stopped
  std::function<std::shared_ptr<Sandbox>(std::string_view id)> find_sandbox;  // of all pools
};

class Commands {
 public:
  explicit Commands(CommandsContext context);
  ~Commands();
  Commands(const Commands&) = delete;
  Commands& operator=(const Commands&) = delete;

  // As the Service's of these names.
  tl::expected<std::shared_ptr<CommandHandle>, Failure> run(CommandRequest request,
                                                            CommandCallbacks callbacks);
  tl::expected<std::shared_ptr<CommandHandle>, Failure> execute(std::string_view sandbox,
                                                                CommandRequest request,
                                                                CommandCallbacks callbacks);
  tl::expected<void, Failure> signal(std::string_view sandbox, std::uint32_t process, int number);
  tl::expected<void, Failure> set_paused(std::string_view sandbox, bool paused);

  // Somebody needs an area of uids, and all are taken: the pool that has been idle for longest is
  // wound down. False when there is none to end, and none on its way out.
  bool free_area();

  // The agent is about to stop: what nobody waits for is asked to end.
  void begin_to_stop();
  // Ends what runs, which is told, and winds no pool down any more: the agent stops them all.
  void stop();

 private:
  struct Kind {  // a pool for each
    std::string image;
    rootfs::ImageUser user;
    Room room = Room::usual;
    std::string network{};  // Network::key; empty: none
    // What it expands to is not ours. NOLINTNEXTLINE(modernize-use-nullptr)
    auto operator<=>(const Kind&) const = default;
  };
  struct Pool {
    RuntimePool* pool = nullptr;
    std::int64_t used_ns = 0;  // when somebody last asked for it, or something last ran in it
    bool stopping = false;     // and winding down
  };
  struct Wanted {
    rootfs::ImageUser user;
    Room room = Room::usual;
    std::shared_ptr<const Network> network;
  };
  tl::expected<std::shared_ptr<CommandHandle>, Failure> start(const rootfs::Manifest& image,
                                                              const Wanted& wanted,
                                                              CommandRequest request,
                                                              CommandCallbacks callbacks);
  RuntimePool& pool_of(const rootfs::Manifest& image, const Wanted& wanted);
  std::string free_name(const rootfs::Manifest& image, const Wanted& wanted);
  void wind_down_former(const rootfs::Manifest& image);
  void wind_down_idle();
  void end_what_is_wound_down();
  void look_again();
  tl::expected<std::shared_ptr<Sandbox>, Failure> sandbox_of(std::string_view id) const;

  CommandsContext context_;
  ImageCache images_;
  std::map<Kind, Pool> pools_;
  std::list<Pool> winding_down_;  // of images that were replaced, or that nobody has used
  std::uint64_t former_names_ = 0;
  boost::asio::steady_timer timer_;
  std::vector<std::weak_ptr<CommandRunner>> running_;
  bool stopped_ = false;
};

}  // namespace agent

// One runtime: its zygote, the sandboxes that are ready before anyone asks, and who waits for one.
#pragma once

#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <deque>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "agent/config.h"
#include "agent/language.h"
#include "agent/maker.h"
#include "agent/metrics.h"
#include "agent/networks.h"
#include "agent/sandbox.h"
#include "agent/sandbox_source.h"
#include "agent/service.h"
#include "agent/uid_areas.h"
#include "agent/zygote.h"
#include "cgroups/subtree.h"
#include "isolate/spec.h"
#include "rootfs/image.h"
#include "rootfs/mounts.h"

namespace agent {

// What a sandbox is made for: somebody who waits, or the pool's stock, which leaves room for those.
enum class Need { claim, stock };

// What all pools of an agent share. Everything outlives the pools.
struct PoolContext {
  boost::asio::io_context& loop;
  Maker& maker;
  const AgentConfig& config;
  const cgroups::Subtree& cgroups;
  const isolate::Features& features;
  const isolate::Filter& sandbox_filter;
  const isolate::Filter& strict_filter;  // SetId::refused
  const isolate::Filter& zygote_filter;
  rootfs::CodeSlots& slots;  // used on the maker's thread only
  OutputTurns& output;
  Networks* networks = nullptr;     // none: no sandbox has a network
  std::function<bool()> busy;       // an invocation is under way: refill can wait
  std::function<bool(Need)> room;   // one more sandbox is allowed on this host
  std::function<void()> make_room;  // somebody waits, and there is none
  std::function<void(int)> count;   // sandboxes begun (+1) and gone (-1)
  // All areas of uids are taken. True: one will be free soon.
  std::function<bool()> free_area = [] { return false; };
  std::function<void()> restarted = [] {};  // a zygote has died
};

class RuntimePool : public SandboxOwner, public SandboxSource {
 public:
  RuntimePool(PoolContext context, RuntimeConfig config);
  ~RuntimePool() override;
  RuntimePool(const RuntimePool&) = delete;
  RuntimePool& operator=(const RuntimePool&) = delete;

  // Verifies the image (on the maker's thread), starts the zygote and fills the pool.
  void start();
  // Kills everything; `done` follows when nothing is left.
  void stop(std::function<void()> done);

  std::shared_ptr<Sandbox> take(SandboxOwner* owner) override;
  void claim(std::weak_ptr<Claimant> claimant) override;
  void retire(Sandbox& sandbox) override;

  RuntimeStatus status() const;
  SandboxCounts counts() const;
  void list(std::vector<SandboxStatus>& into) const;
  const std::string& name() const { return config_.name; }
  const std::string& image_name() const { return config_.image; }
  const std::string& image_digest() const { return digest_; }
  const RuntimeConfig& config() const { return config_; }
  Language language() const;
  // By its id, among all that live; nothing where none has it.
  std::shared_ptr<Sandbox> find(std::string_view id) const;
  bool owns(const Sandbox& sandbox) const { return sandboxes_.contains(sandbox.number()); }
  std::size_t ready() const { return ready_.size(); }
  // Who waits for a sandbox that this pool could make, if there were room.
  std::size_t waiting() const { return phase_ == Phase::ready ? claims_.size() : 0; }
  // A sandbox of this host has gone, of whatever runtime.
  void room_came() { refill_soon(); }
  // Nothing is made for the stock any more, and what is in it goes.
  void make_no_stock();
  bool has_claims() const { return !claims_.empty(); }
  // Gives up one of its stock.
  void end_one_ready();
  // Somebody waits for a sandbox, or has one that has not ended.
  bool in_use() const;
  bool has_area() const { return area_.has_value(); }

  void on_ready(Sandbox& sandbox) override;
  void on_loaded(Sandbox& sandbox) override;
  void on_answer(Sandbox& sandbox, Frame frame) override;
  void on_output(Sandbox& sandbox, std::string_view bytes) override;
  void on_gone(Sandbox& sandbox) override;

 private:
  enum class Phase { stopped, starting, ready, backing_off, stopping };
  base::Status claim_resources();
  base::Result<std::unique_ptr<Zygote>> spawn_zygote();
  base::Status start_zygote();
  void zygote_booted(const std::string& version);
  void zygote_died(const std::string& problem);
  void back_off(const std::string& problem);
  void start_failed(const base::Error& error);
  void retry_after(std::chrono::milliseconds pause);
  void refuse_claims(const std::string& problem);
  void reap_former();
  void remove_lingering_soon();
  void reap_when_ended(const base::PidRef& init);
  void watch();
  void end_what_hangs();

  std::size_t wanted() const;
  std::uint32_t most_deferrals() const;
  void refill();
  void refill_soon();
  bool make_one();
  void order(SandboxParts parts);
  void connect(const std::shared_ptr<Sandbox>& sandbox);
  void connected(const std::shared_ptr<Sandbox>& sandbox,
                 base::Result<std::shared_ptr<const Wire>> wire);
  void setup_failed(const std::string& problem);
  void give(std::shared_ptr<Sandbox> sandbox);
  void stop_if_empty();

  PoolContext context_;
  RuntimeConfig config_;
  std::string interpreter_;  // of the image
  std::string digest_;
  std::optional<rootfs::Image> image_;
  std::optional<UidArea> area_;
  bool map_ids_ = false;
  std::optional<cgroups::Cgroup> cgroup_;         // of the runtime
  std::optional<cgroups::Cgroup> zygote_cgroup_;  // of the current zygote
  std::unique_ptr<Zygote> zygote_;
  struct Former {  // an earlier zygote's pid namespace, in which sandboxes may still run
    base::OwnedPid init;
    cgroups::Cgroup cgroup;
  };
  std::vector<Former> former_;
  std::vector<cgroups::Cgroup> lingering_;  // of sandboxes that are gone
  bool removal_planned_ = false;
  isolate::Plan zygote_plan_{};
  isolate::Plan sandbox_plan_{};

  Phase phase_ = Phase::stopped;
  std::string problem_;
  std::uint64_t restarts_ = 0;
  std::uint32_t failures_ = 0;        // of the zygote, in a row
  std::uint32_t area_waits_ = 0;      // for an area that will be free soon, in a row
  std::uint32_t setup_failures_ = 0;  // of sandboxes, in a row
  std::int64_t spawned_ns_ = 0;       // when the zygote's process was started
  std::int64_t booted_ns_ = 0;        // 0: the zygote is not up
  boost::asio::steady_timer retry_;
  boost::asio::steady_timer refill_timer_;
  boost::asio::steady_timer watch_timer_;
  boost::asio::steady_timer lingering_timer_;
  bool watching_ = false;
  bool refill_planned_ = false;
  std::uint32_t deferred_ = 0;
  std::size_t target_ = 0;         // ready sandboxes to hold, between the pool's min and max
  std::int64_t exhausted_ns_ = 0;  // when somebody last found the pool empty

  std::map<std::uint64_t, std::shared_ptr<Sandbox>> sandboxes_;  // all that are alive, by number
  std::deque<std::shared_ptr<Sandbox>> ready_;
  std::deque<std::weak_ptr<Claimant>> claims_;
  std::set<std::uint64_t> ordered_;  // from the current zygote, which has not answered yet
  std::uint64_t next_number_ = 1;
  std::set<std::uint64_t> starting_;  // begun, and neither ready nor gone
  std::size_t making_ = 0;            // on the maker's thread
  std::size_t unmaking_ = 0;
  std::function<void()> stopped_;
};

}  // namespace agent

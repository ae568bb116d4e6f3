#include "agent/runtime_pool.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <algorithm>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <climits>
#include <csignal>
#include <ctime>

#include "agent/clock.h"
#include "agent/layers.h"
#include "base/file.h"
#include "isolate/spec.h"
#include "rootfs/image_store.h"
#include "rootfs/mounts.h"

namespace agent {
namespace {

using std::chrono::milliseconds;

constexpr milliseconds kFirstRetry{100};
constexpr milliseconds kLongestRetry{30'000};
constexpr std::uint32_t kFailuresBeforeRefusing = 3;
constexpr std::int64_t kSecond = 1'000'000'000;
constexpr std::int64_t kCalmAfter = 60 * kSecond;     // then the pool shrinks back to its min
constexpr std::int64_t kHealthyAfter = 10 * kSecond;  // a zygote that lived this long starts afresh
constexpr milliseconds kDeferral{1};                  // refill waits for running invocations …
constexpr std::uint32_t kMostDeferrals = 50;          // … but not for ever, …
constexpr std::uint32_t kFewDeferrals = 5;            // … and not for long where stock is low
constexpr std::size_t kLowStock = 4;                  // the part of the target that is low
constexpr std::size_t kStartingAtOnce = 2;
constexpr milliseconds kAreaWait{20};  // between two looks whether an area of uids is free …
constexpr std::uint32_t kMostAreaWaits =
    500;  // … which is killed for, and takes far less than that
// What takes longer hangs: far above what a slow and busy host needs (tens of milliseconds here).
constexpr std::int64_t kBootLimit = 20 * kSecond;
constexpr std::int64_t kSetupLimit = 10 * kSecond;
constexpr milliseconds kWatchPeriod{500};
constexpr milliseconds kLingering{1000};             // between two attempts to remove a busy cgroup
constexpr std::uint64_t kPoolMemory = 128ULL << 20;  // until a function's own limit is written
constexpr std::uint32_t kPoolPids = 64;
// Of the zygote's cgroup and of each sandbox's until it is bound: where processors are short, what
// is made for later waits for what runs now.
constexpr std::uint32_t kRefillWeight = 20;

milliseconds back_off_time(std::uint32_t failures) {
  const auto shift = std::min<std::uint32_t>(failures, 9) - 1;
  return std::min(kLongestRetry, kFirstRetry * (1 << shift));
}

std::string resolver_of(const RuntimeConfig& config) {
  const bool resolves =
      config.network != nullptr && config.network->policy && may_resolve(*config.network->policy);
  return resolves ? address_text(netns::gateway4()) : "";
}

// No image's name begins with an underscore or has a capital letter, and no cgroup's may have a
// dot.
std::string cgroup_name(const RuntimeConfig& config) {
  std::string name = config.kind == RuntimeKind::commands
                         ? "_" + config.name.substr(config.name.find('.') + 1)
                         : config.name;
  std::replace(name.begin(), name.end(), '.', 'D');
  return name;
}

}  // namespace

RuntimePool::RuntimePool(PoolContext context, RuntimeConfig config)
    : context_(std::move(context)),
      config_(std::move(config)),
      retry_(context_.loop),
      refill_timer_(context_.loop),
      watch_timer_(context_.loop),
      lingering_timer_(context_.loop),
      target_(config_.pool_min) {
  // Known before the first start, because what was compiled for a function is kept under it.
  if (const auto image = rootfs::open_image(context_.config.images_dir, config_.image)) {
    digest_ = image->manifest.digest;
    interpreter_ = image->manifest.interpreter;
  }
}

RuntimePool::~RuntimePool() = default;

// --- the zygote ----------------------------------------------------------------------------------

void RuntimePool::start() {
  if (phase_ != Phase::stopped) {
    return;
  }
  phase_ = Phase::starting;
  struct Opened {
    base::Result<rootfs::Image> image;
    base::Status verified;
  };
  context_.maker.run(
      [images = context_.config.images_dir, image = config_.image] {
        Opened opened{rootfs::use_image(images, image), {}};
        if (opened.image) {
          opened.verified = rootfs::verify_once(*opened.image, std::time(nullptr));
        }
        return opened;
      },
      [this](Opened opened) {
        if (phase_ == Phase::stopping) {
          return stop_if_empty();
        }
        if (!opened.image || !opened.verified) {
          return back_off(
              (opened.image ? opened.verified.error() : opened.image.error()).message());
        }
        image_ = std::move(*opened.image);
        digest_ = image_->manifest.digest;
        interpreter_ = image_->manifest.interpreter;
        if (const auto status = start_zygote(); !status) {
          start_failed(status.error());
        }
      });
}

base::Status RuntimePool::claim_resources() {
  if (area_) {
    return {};
  }
  BROOD_TRY(
      sandbox_plan_,
      isolate::plan_sandbox(
          {.uid = config_.uid,
           .gid = config_.gid,
           .layers = config_.kind == RuntimeKind::functions && takes_layers(image_->root.get()),
           .writable_root = config_.writable_root,
           .resolver = resolver_of(config_),
           .filter = config_.set_id_refused ? context_.strict_filter : context_.sandbox_filter},
          context_.features));
  if (const auto able = rootfs::can_map_ids(image_->root.get()); able) {
    map_ids_ = true;
  } else {
    spdlog::warn("runtime {}: the image's files belong to nobody inside: {}", config_.name,
                 able.error().message());
  }
  BROOD_TRY(zygote_plan_,
            isolate::plan_zygote({.filter = context_.zygote_filter}, context_.features));
  BROOD_TRY(UidArea area, UidArea::claim(context_.config.run_dir + "/areas"));
  BROOD_TRY(cgroups::Cgroup cgroup,
            context_.cgroups.create_inner(context_.cgroups.root(), cgroup_name(config_)));
  // A zygote may put its children into their cgroups: the kernel asks for write permission on
  // cgroup.procs of the nearest common ancestor, which is this one.
  BROOD_CHECK(cgroup.chown_procs(area.first_uid()));
  cgroup_ = std::move(cgroup);
  area_ = std::move(area);
  area_waits_ = 0;
  return {};
}

base::Result<std::unique_ptr<Zygote>> RuntimePool::spawn_zygote() {
  constexpr rootfs::MountFlags read_only{.read_only = true, .nosuid = true, .nodev = true};
  BROOD_TRY(const base::UniqueFd image, rootfs::clone_tree(image_->root.get(), read_only));
  BROOD_TRY(const base::UniqueFd lower, rootfs::clone_tree(image_->root.get(), read_only));
  BROOD_TRY(
      const base::UniqueFd support_dir,
      base::open_at(AT_FDCWD,
                    context_.config.support_dir + "/" + std::string(support_folder(language())),
                    O_RDONLY | O_DIRECTORY));
  BROOD_TRY(const base::UniqueFd support, rootfs::clone_tree(support_dir.get(), read_only));
  BROOD_TRY(const base::UniqueFd devices, rootfs::device_tmpfs());
  BROOD_TRY(const base::UniqueFd run, rootfs::run_tmpfs({"brood", "image"}));
  BROOD_TRY(zygote_cgroup_, cgroup_->create("zygote-" + std::to_string(restarts_)));
  BROOD_CHECK(zygote_cgroup_->set_limits({.cpu_weight = kRefillWeight}));

  std::vector<std::string> preload = image_->manifest.preload;
  preload.insert(preload.end(), config_.preload.begin(), config_.preload.end());
  const ZygoteSetup setup{
      .runtime = config_.name,
      .arguments = zygote_arguments(language(), image_->manifest.interpreter, preload),
      .image_fd = image.get(),
      .lower_fd = lower.get(),
      .dev_fd = devices.get(),
      .run_fd = run.get(),
      .support_fd = support.get(),
      .cgroup_fd = zygote_cgroup_->fd(),
      .ids = {.first = area_->first_uid(), .count = kUidsPerArea},
      .zygote_plan = &zygote_plan_,
      .sandbox_plan = &sandbox_plan_};
  ZygoteEvents events{
      .booted = [this](const std::string& version) { zygote_booted(version); },
      .spawned =
          [this](std::uint64_t number, base::UniqueFd pidfd) {
            ordered_.erase(number);
            if (const auto found = sandboxes_.find(number); found != sandboxes_.end()) {
              const auto sandbox = found->second;
              sandbox->spawned(std::move(pidfd));
              connect(sandbox);
            }
          },
      .spawn_failed =
          [this](std::uint64_t number, std::string problem) {
            ordered_.erase(number);
            if (const auto found = sandboxes_.find(number); found != sandboxes_.end()) {
              const auto sandbox = found->second;
              sandbox->spawn_failed(std::move(problem));
            }
          },
      .printed =
          [name = config_.name](std::string_view text) {
            spdlog::warn("zygote {}: {}", name, printable(text, 2048));
          },
      .died = [this](const std::string& problem) { zygote_died(problem); }};
  return Zygote::start(context_.loop, setup, std::move(events));
}

base::Status RuntimePool::start_zygote() {
  phase_ = Phase::starting;
  BROOD_CHECK(claim_resources());
  auto zygote = spawn_zygote();
  if (!zygote) {
    if (zygote_cgroup_) {
      (void)zygote_cgroup_->remove_tree(milliseconds(100));
      zygote_cgroup_.reset();
    }
    return base::fail(
        std::move(zygote.error()).within("start the zygote of runtime " + config_.name));
  }
  zygote_ = std::move(*zygote);
  spawned_ns_ = monotonic_ns();
  watch();
  return {};
}

// --- what hangs ----------------------------------------------------------------------------------

// Looks now and then, while something is being made, for what neither comes nor fails: somebody
// waits for it.
void RuntimePool::watch() {
  if (std::exchange(watching_, true)) {
    return;
  }
  watch_timer_.expires_after(kWatchPeriod);
  watch_timer_.async_wait([this](const boost::system::error_code& error) {
    watching_ = false;
    if (error || phase_ == Phase::stopping) {
      return;
    }
    end_what_hangs();
    if (!starting_.empty() || (zygote_ != nullptr && booted_ns_ == 0)) {
      watch();
    }
  });
}

void RuntimePool::end_what_hangs() {
  const std::int64_t now = monotonic_ns();
  if (zygote_ != nullptr && booted_ns_ == 0 && now - spawned_ns_ > kBootLimit) {
    return zygote_died("the zygote did not boot in time");
  }
  for (const std::uint64_t number : std::set(starting_)) {
    const auto& sandbox = sandboxes_.at(number);
    if (now - sandbox->born_ns() <= kSetupLimit) {
      continue;
    }
    if (ordered_.contains(number)) {
      return zygote_died("the zygote does not answer");
    }
    sandbox->kill();
  }
}

void RuntimePool::zygote_booted(const std::string& version) {
  spdlog::info("runtime {}: zygote ready, interpreter {}", config_.name, version);
  phase_ = Phase::ready;
  problem_.clear();
  booted_ns_ = monotonic_ns();
  // Those of an earlier zygote served while there was no other; now they are replaced.
  const auto old = std::exchange(ready_, {});
  for (const auto& sandbox : old) {
    sandbox->kill();
  }
  refill();
}

void RuntimePool::zygote_died(const std::string& problem) {
  if (phase_ == Phase::stopping || zygote_ == nullptr) {
    return;
  }
  if (booted_ns_ != 0 && monotonic_ns() - booted_ns_ > kHealthyAfter) {
    failures_ = 0;
  }
  booted_ns_ = 0;
  phase_ = Phase::backing_off;  // what was ordered fails with its zygote, not by a fault of its own
  zygote_->kill();              // one that broke the protocol, or hangs, still lives
  reap_when_ended(zygote_->init());
  // Inside one of its own calls: the object goes when the loop is back.
  former_.push_back({zygote_->release_init(), std::move(*zygote_cgroup_)});
  boost::asio::post(context_.loop, [zygote = std::shared_ptr<Zygote>(std::move(zygote_))] {});
  zygote_cgroup_.reset();
  for (const std::uint64_t number : std::exchange(ordered_, {})) {
    if (const auto found = sandboxes_.find(number); found != sandboxes_.end()) {
      const auto sandbox = found->second;
      sandbox->spawn_failed(problem);
    }
  }
  ++restarts_;
  context_.restarted();
  back_off(problem);
}

void RuntimePool::back_off(const std::string& problem) {
  phase_ = Phase::backing_off;
  problem_ = problem;
  ++failures_;
  const milliseconds pause = back_off_time(failures_);
  spdlog::error("runtime {}: {}; trying again in {} ms", config_.name, problem, pause.count());
  if (failures_ >= kFailuresBeforeRefusing) {
    refuse_claims(problem);
  }
  retry_after(pause);
}

// A full host is no fault of the runtime's, where one that is not used can make way.
void RuntimePool::start_failed(const base::Error& error) {
  if (error.code() == EUSERS && area_waits_ < kMostAreaWaits && context_.free_area()) {
    ++area_waits_;
    phase_ = Phase::backing_off;
    return retry_after(kAreaWait);
  }
  area_waits_ = 0;
  back_off(error.message());
}

void RuntimePool::retry_after(milliseconds pause) {
  retry_.expires_after(pause);
  retry_.async_wait([this](const boost::system::error_code& error) {
    if (error || phase_ != Phase::backing_off) {
      return;
    }
    if (!image_) {
      phase_ = Phase::stopped;
      return start();
    }
    if (const auto status = start_zygote(); !status) {
      start_failed(status.error());
    }
  });
}

void RuntimePool::refuse_claims(const std::string& problem) {
  for (const auto& claim : std::exchange(claims_, {})) {
    if (const auto claimant = claim.lock()) {
      claimant->refuse("runtime " + config_.name + " cannot make sandboxes: " + problem);
    }
  }
}

// Its last sandbox may end long after the zygote, while nothing else happens here.
void RuntimePool::reap_when_ended(const base::PidRef& init) {
  using boost::asio::posix::stream_descriptor;
  const auto end = std::make_shared<stream_descriptor>(context_.loop);
  base::UniqueFd copy(::fcntl(init.fd(), F_DUPFD_CLOEXEC, 0));
  if (!copy) {
    return;  // no descriptor is left: the next refill reaps it
  }
  end->assign(copy.release());
  end->async_wait(stream_descriptor::wait_read,
                  [this, end](const boost::system::error_code& error) {
                    if (!error) {
                      reap_former();
                    }
                  });
}

void RuntimePool::reap_former() {
  for (auto former = former_.begin(); former != former_.end();) {
    if (!former->init.ref().ended()) {
      ++former;
      continue;
    }
    (void)former->init.wait();
    context_.maker.run([cgroup = std::make_shared<cgroups::Cgroup>(std::move(former->cgroup))] {
      (void)cgroup->remove_tree(milliseconds(500));
    });
    former = former_.erase(former);
  }
}

// --- refill --------------------------------------------------------------------------------------

std::size_t RuntimePool::wanted() const {
  const std::size_t waiting = claims_.size();
  const std::size_t have = ready_.size() + starting_.size() + making_;
  const std::size_t want = target_ + waiting;
  return want > have ? want - have : 0;
}

// Called often; makes at most a few at a time, and goes on as each is ready.
void RuntimePool::refill() {
  reap_former();
  if (phase_ != Phase::ready || refill_planned_) {
    return;
  }
  if (target_ > config_.pool_min && monotonic_ns() - exhausted_ns_ > kCalmAfter) {
    target_ = config_.pool_min;
  }
  const bool waited_for = !claims_.empty();
  const Need need = waited_for ? Need::claim : Need::stock;
  while (wanted() > 0 && starting_.size() + making_ < kStartingAtOnce && context_.room(need)) {
    if (!waited_for && context_.busy() && deferred_ < most_deferrals()) {
      ++deferred_;
      return refill_soon();
    }
    deferred_ = 0;
    if (!make_one()) {
      return;
    }
  }
  if (waited_for && wanted() > 0 && !context_.room(need)) {
    context_.make_room();
  }
}

// What is made costs others' processors: with enough in stock it waits until they are done.
std::uint32_t RuntimePool::most_deferrals() const {
  return ready_.size() * kLowStock > target_ ? kMostDeferrals : kFewDeferrals;
}

void RuntimePool::make_no_stock() {
  config_.pool_min = 0;
  config_.pool_max = 0;
  target_ = 0;
  while (!ready_.empty()) {
    end_one_ready();
  }
}

void RuntimePool::end_one_ready() {
  if (!ready_.empty()) {
    const auto sandbox = std::move(ready_.front());
    ready_.pop_front();
    sandbox->kill();
  }
}

void RuntimePool::refill_soon() {
  if (refill_planned_) {
    return;
  }
  refill_planned_ = true;
  refill_timer_.expires_after(kDeferral);
  refill_timer_.async_wait([this](const boost::system::error_code& error) {
    refill_planned_ = false;
    if (!error) {
      refill();
    }
  });
}

bool RuntimePool::make_one() {
  const std::uint32_t slot = area_->take_slot();
  if (slot == 0) {
    return false;  // every range of uids is in use: the next sandbox that goes brings one
  }
  context_.count(1);
  ++making_;
  PartsRequest request{.number = next_number_++,
                       .slot = slot,
                       .parent = &*cgroup_,
                       .zygote_uid = area_->first_uid(),
                       .slots = &context_.slots,
                       .map_ids = map_ids_,
                       .image_fd = image_->root.get(),
                       .host_uid = area_->first_uid() + UidArea::uid_within(slot),
                       .limits = {}};
  request.limits.memory_bytes = kPoolMemory;
  request.limits.cpu_weight = kRefillWeight;
  request.limits.pids = kPoolPids;
  context_.maker.run([request = std::move(request)] { return make_parts(request); },
                     [this, slot](base::Result<SandboxParts> parts) {
                       --making_;
                       if (!parts) {
                         area_->give_back(slot);
                         context_.count(-1);
                         return setup_failed(parts.error().message());
                       }
                       order(std::move(*parts));
                     });
  return true;
}

void RuntimePool::order(SandboxParts parts) {
  const std::uint64_t number = parts.number;
  const std::uint32_t uid_first = UidArea::uid_within(parts.slot);
  const auto sandbox =
      std::make_shared<Sandbox>(context_.loop, config_.name, area_->first_uid() + uid_first,
                                std::move(parts), context_.config.response_limit, context_.output);
  sandbox->inside_uid = config_.uid;
  sandbox->inside_gid = config_.gid;
  sandboxes_.emplace(number, sandbox);
  starting_.insert(number);
  watch();
  sandbox->listen(this);
  if (zygote_ == nullptr || phase_ != Phase::ready) {
    return sandbox->spawn_failed("the zygote is not running");
  }
  ordered_.insert(number);
  zygote_->spawn(
      {.sandbox = number,
       .uid_first = uid_first,
       .uid_count = kUidsPerSandbox,
       .hostname = std::string_view(sandbox->id()).substr(0, HOST_NAME_MAX - 1),
       .purpose = claims_.size() >= starting_.size() ? Purpose::awaited : Purpose::stock},
      sandbox->descriptors_for_zygote());
  sandbox->close_zygote_copies();
}

// While the sandbox is made: what it has of the network is there when it says that it is ready, or
// soon after.
void RuntimePool::connect(const std::shared_ptr<Sandbox>& sandbox) {
  if (config_.network == nullptr) {
    return;
  }
  base::UniqueFd pidfd(::fcntl(sandbox->pidfd(), F_DUPFD_CLOEXEC, 0));
  context_.networks->attach(config_.network, std::move(pidfd),
                            [this, sandbox](base::Result<std::shared_ptr<const Wire>> wire) {
                              connected(sandbox, std::move(wire));
                            });
}

void RuntimePool::connected(const std::shared_ptr<Sandbox>& sandbox,
                            base::Result<std::shared_ptr<const Wire>> wire) {
  if (!sandboxes_.contains(sandbox->number())) {
    if (wire) {
      context_.networks->detach(*wire);
    }
    return;
  }
  if (!wire) {
    sandbox->spawn_failed("its network: " + wire.error().message());
    return sandbox->kill();
  }
  sandbox->wire = *wire;
  if (sandbox->state() == Sandbox::State::pool) {
    on_ready(*sandbox);
  }
}

void RuntimePool::setup_failed(const std::string& problem) {
  if (phase_ != Phase::ready) {
    return stop_if_empty();
  }
  ++setup_failures_;
  spdlog::error("runtime {}: {}", config_.name, problem);
  problem_ = problem;
  if (setup_failures_ >= kFailuresBeforeRefusing) {
    refuse_claims(problem);
  }
  refill_planned_ = true;  // a pause instead of a spin
  refill_timer_.expires_after(back_off_time(setup_failures_));
  refill_timer_.async_wait([this](const boost::system::error_code& error) {
    refill_planned_ = false;
    if (!error) {
      refill();
    }
  });
}

// --- giving out ----------------------------------------------------------------------------------

std::shared_ptr<Sandbox> RuntimePool::take(SandboxOwner* owner) {
  // Killed from outside a moment ago, and not heard of yet: the loop is about to be told.
  while (!ready_.empty() && ready_.front()->has_ended()) {
    ready_.pop_front();
  }
  if (!claims_.empty() || ready_.empty()) {
    exhausted_ns_ = monotonic_ns();
    target_ = std::min<std::size_t>(config_.pool_max, std::max<std::size_t>(1, 2 * target_));
    return nullptr;  // those who wait come first
  }
  auto sandbox = std::move(ready_.front());
  ready_.pop_front();
  sandbox->set_owner(owner);
  refill_soon();
  return sandbox;
}

void RuntimePool::claim(std::weak_ptr<Claimant> claimant) {
  const bool stopping = phase_ == Phase::stopping;
  if (stopping || (phase_ == Phase::backing_off && failures_ >= kFailuresBeforeRefusing)) {
    const std::string why = stopping ? "the runtime is stopping" : problem_;
    boost::asio::post(context_.loop, [claimant = std::move(claimant), problem = why] {
      if (const auto waiting = claimant.lock()) {
        waiting->refuse(problem);
      }
    });
    return;
  }
  claims_.push_back(std::move(claimant));
  start();  // nothing, where it has been started
  if (!ready_.empty()) {
    auto sandbox = std::move(ready_.front());
    ready_.pop_front();
    give(std::move(sandbox));
  }
  refill();
}

// To whoever has waited longest and still wants it; into the pool otherwise.
void RuntimePool::give(std::shared_ptr<Sandbox> sandbox) {
  if (sandbox->has_ended()) {
    return;  // what it said last may be read after its end; `on_gone` follows
  }
  while (!claims_.empty()) {
    const auto claimant = claims_.front().lock();
    claims_.pop_front();
    if (claimant != nullptr && claimant->offer(sandbox)) {
      return;
    }
  }
  ready_.push_back(std::move(sandbox));
}

void RuntimePool::on_ready(Sandbox& sandbox) {
  if (config_.network != nullptr && sandbox.wire == nullptr) {
    return;
  }
  starting_.erase(sandbox.number());
  failures_ = 0;
  setup_failures_ = 0;
  problem_.clear();
  give(sandbox.shared_from_this());
  refill();
}

void RuntimePool::on_loaded(Sandbox& /*sandbox*/) {}

void RuntimePool::on_answer(Sandbox& sandbox, Frame /*frame*/) {
  sandbox.kill();
}

void RuntimePool::on_output(Sandbox& sandbox, std::string_view bytes) {
  spdlog::warn("sandbox {} printed before it was bound: {}", sandbox.id(), printable(bytes, 2048));
}

void RuntimePool::on_gone(Sandbox& sandbox) {
  std::erase_if(ready_, [&](const auto& ready) { return ready.get() == &sandbox; });
  const bool unfinished = starting_.erase(sandbox.number()) != 0;
  const std::string problem = sandbox.setup_problem();
  retire(sandbox);
  if (unfinished) {
    setup_failed(problem.empty() ? "a sandbox ended while it was made" : problem);
  }
}

void RuntimePool::retire(Sandbox& sandbox) {
  const auto self = sandbox.shared_from_this();
  if (sandboxes_.erase(sandbox.number()) == 0) {
    return;
  }
  if (const auto wire = std::exchange(sandbox.wire, nullptr)) {
    context_.networks->detach(wire);
  }
  ++unmaking_;
  const std::uint32_t slot = sandbox.slot();
  context_.maker.run([parts = std::make_shared<SandboxParts>(
                          sandbox.release_parts())] { return unmake_parts(std::move(*parts)); },
                     [this, slot](std::optional<cgroups::Cgroup> busy) {
                       --unmaking_;
                       if (busy) {
                         lingering_.push_back(std::move(*busy));
                         remove_lingering_soon();
                       }
                       area_->give_back(slot);
                       context_.count(-1);
                       reap_former();
                       phase_ == Phase::stopping ? stop_if_empty() : refill_soon();
                     });
}

// Cgroups that were still busy: something in them does not end, or somebody has put something
// there.
void RuntimePool::remove_lingering_soon() {
  if (std::exchange(removal_planned_, true)) {
    return;
  }
  lingering_timer_.expires_after(kLingering);
  lingering_timer_.async_wait([this](const boost::system::error_code& error) {
    if (error || phase_ == Phase::stopping) {
      return;
    }
    context_.maker.run(
        [all = std::make_shared<std::vector<cgroups::Cgroup>>(std::move(lingering_))] {
          std::erase_if(*all, [](const cgroups::Cgroup& one) {
            (void)one.kill();
            const auto removed = one.remove();
            return !removed || *removed == cgroups::Removed::yes;
          });
          return std::move(*all);
        },
        [this](std::vector<cgroups::Cgroup> busy) {
          removal_planned_ = false;
          for (cgroups::Cgroup& one : busy) {
            lingering_.push_back(std::move(one));
          }
          if (!lingering_.empty()) {
            remove_lingering_soon();
          }
        });
    lingering_.clear();
  });
}

// --- the end -------------------------------------------------------------------------------------

void RuntimePool::stop(std::function<void()> done) {
  stopped_ = std::move(done);
  phase_ = Phase::stopping;
  retry_.cancel();
  refill_timer_.cancel();
  watch_timer_.cancel();
  lingering_timer_.cancel();  // what lingers goes with the runtime's cgroup
  refuse_claims("the agent is stopping");
  const auto all = sandboxes_;
  for (const auto& [number, sandbox] : all) {
    sandbox->kill();
  }
  if (zygote_ != nullptr) {
    (void)zygote_->init().signal(SIGKILL);
    former_.push_back({zygote_->release_init(), std::move(*zygote_cgroup_)});
    zygote_.reset();
    zygote_cgroup_.reset();
  }
  for (const std::uint64_t number : std::exchange(ordered_, {})) {
    if (const auto found = sandboxes_.find(number); found != sandboxes_.end()) {
      const auto sandbox = found->second;
      sandbox->spawn_failed("the agent is stopping");
    }
  }
  stop_if_empty();
}

void RuntimePool::stop_if_empty() {
  if (phase_ != Phase::stopping || !sandboxes_.empty() || making_ + unmaking_ > 0 || !stopped_) {
    return;
  }
  // Their sandboxes are gone and they have been killed: this does not wait for long.
  for (Former& former : former_) {
    (void)former.init.ref().signal(SIGKILL);
    (void)former.init.wait();
  }
  image_.reset();  // and with it the mark that it is in use
  area_.reset();
  context_.maker.run(
      [former = std::make_shared<std::vector<Former>>(std::move(former_)),
       cgroup = std::make_shared<std::optional<cgroups::Cgroup>>(std::move(cgroup_))] {
        for (const Former& one : *former) {
          (void)one.cgroup.remove_tree(milliseconds(500));
        }
        if (*cgroup) {
          (void)(*cgroup)->remove_tree(milliseconds(500));
        }
        return true;
      },
      [done = std::exchange(stopped_, nullptr)](bool) { done(); });
}

// --- what there is -------------------------------------------------------------------------------

RuntimeStatus RuntimePool::status() const {
  constexpr const char* kPhases[] = {"stopped", "starting", "ready", "backing_off", "stopping"};
  RuntimeStatus status;
  status.name = config_.name;
  status.image_digest = digest_;
  status.state = kPhases[static_cast<int>(phase_)];
  status.problem = problem_;
  status.zygote_pid = zygote_ != nullptr ? zygote_->pid() : 0;
  status.pool_ready = static_cast<std::uint32_t>(ready_.size());
  status.pool_min = config_.pool_min;
  status.pool_max = config_.pool_max;
  status.zygote_restarts = restarts_;
  return status;
}

SandboxCounts RuntimePool::counts() const {
  SandboxCounts counts;
  for (const auto& [number, sandbox] : sandboxes_) {
    switch (sandbox->state()) {
      case Sandbox::State::starting:
        ++counts.starting;
        break;
      case Sandbox::State::pool:
        ++counts.pool;
        break;
      case Sandbox::State::idle:
        ++counts.idle;
        break;
      case Sandbox::State::running:
        ++counts.running;
        break;
      case Sandbox::State::ending:
      case Sandbox::State::gone:
        ++counts.ending;
        break;
    }
  }
  return counts;
}

Language RuntimePool::language() const {
  return config_.kind == RuntimeKind::commands ? Language::command : language_of(interpreter_);
}

std::shared_ptr<Sandbox> RuntimePool::find(std::string_view id) const {
  const auto found = std::find_if(sandboxes_.begin(), sandboxes_.end(),
                                  [&](const auto& one) { return one.second->id() == id; });
  return found == sandboxes_.end() ? nullptr : found->second;
}

bool RuntimePool::in_use() const {
  const auto lives = [](const auto& numbered) {
    const auto state = numbered.second->state();
    return state == Sandbox::State::pool || state == Sandbox::State::idle ||
           state == Sandbox::State::running;
  };
  const auto alive = std::count_if(sandboxes_.begin(), sandboxes_.end(), lives);
  return has_claims() || static_cast<std::size_t>(alive) > ready_.size();
}

void RuntimePool::list(std::vector<SandboxStatus>& into) const {
  for (const auto& [number, sandbox] : sandboxes_) {
    into.push_back(sandbox->status());
    if (sandbox->wire != nullptr) {
      into.back().network = context_.networks->counters(*sandbox->wire);
    }
  }
}

}  // namespace agent

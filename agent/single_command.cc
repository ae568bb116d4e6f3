#include "agent/single_command.h"

#include <fcntl.h>
#include <sys/utsname.h>

#include <climits>
#include <cstdlib>

#include "agent/command_place.h"
#include "base/file.h"
#include "isolate/seccomp.h"
#include "isolate/spec.h"
#include "rootfs/id_map.h"
#include "rootfs/image.h"
#include "rootfs/image_store.h"

namespace agent {
namespace {

using base::Result;
using base::Status;

constexpr std::chrono::seconds kSetupLimit{10};  // as a pool's
constexpr std::uint32_t kSlot = 1;               // of its area, which is its own

// Since then an overlay takes what is idmapped (rootfs/id_map.h); whether the file system can be is
// seen when it is.
bool kernel_overlays_idmaps() {
  utsname name{};
  char* rest = nullptr;
  if (::uname(&name) != 0) {
    return false;
  }
  const long major = std::strtol(name.release, &rest, 10);
  const long minor = *rest == '.' ? std::strtol(rest + 1, nullptr, 10) : 0;
  return major > 5 || (major == 5 && minor >= 19);
}

}  // namespace

Result<std::unique_ptr<SingleCommand>> SingleCommand::make(boost::asio::io_context& loop,
                                                           const AgentConfig& config,
                                                           const std::string& instance,
                                                           const OwnWays& ways,
                                                           CommandRequest request) {
  std::unique_ptr<SingleCommand> single(new SingleCommand(loop, config, ways, std::move(request)));
  BROOD_CHECK(single->resolve_request());
  BROOD_TRY(single->limits_, take_cgroups(instance, config));
  BROOD_TRY(single->area_, UidArea::claim(config.run_dir + "/areas"));
  BROOD_CHECK(single->plan());
  BROOD_CHECK(single->make_sandbox());
  return single;
}

SingleCommand::~SingleCommand() {
  (void)finish();
}

Status SingleCommand::finish() {
  if (init_) {
    (void)init_.kill();
    init_ = {};
  }
  if (sandbox_ != nullptr) {
    left_ = sandbox_->release_parts();
    sandbox_ = nullptr;
  }
  if (left_) {
    (void)unmake_parts(std::move(*left_));
    left_.reset();
  }
  mounter_.reset();
  BROOD_TRY(const cgroups::Removed removed, limits_.cgroups.remove());
  return removed == cgroups::Removed::busy
             ? base::fail_because("its cgroup is left: something in it does not end")
             : Status();
}

// --- what it shall be ----------------------------------------------------------------------------

Status SingleCommand::resolve_request() {
  auto image = rootfs::use_image(config_.images_dir, request_.image);
  if (!image) {
    return image.error().code() != ENOENT
               ? base::fail(image.error())
               : base::fail_because("there is no image '" + request_.image + "' in " +
                                    config_.images_dir);
  }
  image_ = std::move(*image);
  if (!rootfs::verified_since_boot(image_)) {
    BROOD_CHECK(ways_.verify(image_));
  }
  request_ = resolve(std::move(request_), image_.manifest.config);
  if (auto problem = validate_resolved(request_); !problem.empty()) {
    return base::fail_because(std::move(problem));
  }
  BROOD_TRY(user_, user_of(config_.images_dir, image_.manifest, request_.user));
  BROOD_TRY(const auto network, network_of(request_.network));
  if (network != nullptr) {
    return base::fail_because("network: a command without an agent has none");
  }
  if (request_.keep || request_.detached || !request_.name.empty()) {
    return base::fail_because("name, detached, keep: no command is kept here");
  }
  name_ = "run." + image_.manifest.name;
  return {};
}

Status SingleCommand::plan() {
  const isolate::Features features = isolate::probe_features();
  const Room room = room_for(request_, image_.manifest);
  BROOD_TRY(plan_,
            isolate::plan_sandbox(
                {.uid = user_.uid,
                 .gid = user_.gid,
                 .writable_root = writes_below_root(room, image_.manifest),
                 .filter = isolate::sandbox_filter(
                     features.seccomp_notify ? isolate::Deadly::notify : isolate::Deadly::kill,
                     room == Room::shared ? isolate::SetId::refused : isolate::SetId::allowed)},
                features));
  return {};
}

// --- making it -----------------------------------------------------------------------------------

Result<SandboxParts> SingleCommand::parts() const {
  PartsRequest request{.number = 1,
                       .slot = kSlot,
                       .parent = &limits_.cgroups.root(),
                       .map_ids = true,
                       .image_fd = image_.root.get(),
                       .host_uid = area_->first_uid() + UidArea::uid_within(kSlot),
                       .limits = {.memory_bytes = request_.memory_bytes, .pids = request_.pids}};
  if (kernel_overlays_idmaps()) {
    if (auto made = make_parts(request)) {
      return made;
    }
  }
  // Why it failed, or whether it would later, is looked for only now: that takes longer than making
  // one.
  request.map_ids = static_cast<bool>(rootfs::can_map_ids(image_.root.get()));
  return make_parts(request);
}

Status SingleCommand::make_sandbox() {
  BROOD_TRY(SandboxParts made, parts());
  if (const auto spawned = spawn(std::move(made)); !spawned) {
    return base::fail(base::Error(spawned.error()).within("make a sandbox"));
  }
  return {};
}

Status SingleCommand::spawn(SandboxParts parts) {
  sandbox_ =
      std::make_shared<Sandbox>(loop_, name_, area_->first_uid() + UidArea::uid_within(kSlot),
                                std::move(parts), config_.response_limit, turns_);
  sandbox_->inside_uid = user_.uid;
  sandbox_->inside_gid = user_.gid;
  BROOD_TRY(init_,
            ways_.spawn(plan_,
                        {.sandbox = sandbox_->number(),
                         .uid_first = sandbox_->host_uid(),
                         .uid_count = kUidsPerSandbox,
                         .hostname = std::string_view(sandbox_->id()).substr(0, HOST_NAME_MAX - 1)},
                        sandbox_->descriptors_for_zygote()));
  sandbox_->close_zygote_copies();
  return {};
}

// --- the rest ------------------------------------------------------------------------------------

void SingleCommand::start(CommandCallbacks callbacks) {
  sandbox_->listen(this);
  sandbox_->spawned(base::UniqueFd(::fcntl(init_.ref().fd(), F_DUPFD_CLOEXEC, 0)));
  setup_limit_.expires_after(kSetupLimit);
  setup_limit_.async_wait([this](const boost::system::error_code& error) {
    if (!error && sandbox_ != nullptr && sandbox_->state() == Sandbox::State::starting) {
      sandbox_->kill();
    }
  });
  if (request_.has_mounts()) {
    mounter_ = std::make_unique<Maker>(loop_);
    if (auto own = base::open_at(AT_FDCWD, "/proc/self/ns/mnt", O_RDONLY)) {
      host_mounts_ = std::move(*own);
    }
  }
  runner_ = std::make_shared<CommandRunner>(CommandContext{.loop = loop_,
                                                           .soft_limits = !limits_.missing.empty(),
                                                           .count_running = [](int) {},
                                                           .mounter = mounter_.get(),
                                                           .host_mounts = host_mounts_.get()},
                                            *this, request_, std::move(callbacks));
  runner_->start();
}

void SingleCommand::signal(int number) {
  if (sandbox_ != nullptr) {
    (void)sandbox_->signal_handler(number);
  }
}

void SingleCommand::cancel() {
  runner_->cancel();
}

std::shared_ptr<Sandbox> SingleCommand::take(SandboxOwner* owner) {
  if (sandbox_ == nullptr || sandbox_->state() != Sandbox::State::pool) {
    return nullptr;
  }
  sandbox_->set_owner(owner);
  return sandbox_;
}

void SingleCommand::claim(std::weak_ptr<Claimant> claimant) {
  claimant_ = std::move(claimant);
}

void SingleCommand::on_ready(Sandbox& sandbox) {
  setup_limit_.cancel();
  if (const auto claimant = std::exchange(claimant_, {}).lock()) {
    if (!claimant->offer(sandbox.shared_from_this())) {
      sandbox.kill();
    }
  }
}

void SingleCommand::on_loaded(Sandbox& sandbox) {
  sandbox.kill();
}
void SingleCommand::on_answer(Sandbox& sandbox, Frame /*frame*/) {
  sandbox.kill();
}
void SingleCommand::on_output(Sandbox& /*sandbox*/, std::string_view /*bytes*/) {}

// Before anybody had it.
void SingleCommand::on_gone(Sandbox& sandbox) {
  const std::string problem = sandbox.setup_problem();
  retire(sandbox);
  if (const auto claimant = std::exchange(claimant_, {}).lock()) {
    claimant->refuse(problem.empty() ? "the sandbox ended while it was made" : problem);
  }
}

void SingleCommand::retire(Sandbox& sandbox) {
  setup_limit_.cancel();
  left_ = sandbox.release_parts();
  sandbox_ = nullptr;
}

}  // namespace agent

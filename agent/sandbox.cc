#include "agent/sandbox.h"

#include <fcntl.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <cstring>

#include "agent/clock.h"
#include "agent/command_streams.h"
#include "agent/uid_areas.h"
#include "base/file.h"
#include "isolate/seccomp.h"
#include "isolate/step.h"

namespace agent {
namespace {

using boost::asio::posix::stream_descriptor;

// What a handler may have printed and not been read yet; a multiple of the page. Small, because all
// of it is read at once when the handler answers, and every byte of it may be a line of its own.
constexpr int kLogPipe = 16 << 10;
constexpr std::uint32_t kBoundWeight = 100;  // the kernel's default
constexpr std::size_t kLogPiece = 512;       // is read between two looks at the clock
// Room for a typical payload in one write; the kernel doubles it for its own bookkeeping.
constexpr int kSocketBuffer = 256 << 10;
// How long a sandbox that closed its socket has to end by itself.
// Generous: on a loaded host pid 1 may not run for a while after its handler was killed.
constexpr auto kGrace = std::chrono::seconds(2);

struct Ends {
  base::UniqueFd ours;
  base::UniqueFd theirs;
};

base::Result<Ends> socket_ends(int type) {
  int ends[2];
  if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  Ends result{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
    return base::fail_errno("fcntl O_NONBLOCK");
  }
  return result;
}

short ready_events(int fd) {
  pollfd asked{fd, POLLIN, 0};
  return ::poll(&asked, 1, 0) > 0 ? asked.revents : short{0};
}

base::Result<Ends> stream_ends() {
  BROOD_TRY(Ends ends, socket_ends(SOCK_STREAM));
  for (const int fd : {ends.ours.get(), ends.theirs.get()}) {
    if (::setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer) != 0) {
      return base::fail_errno("setsockopt SO_SNDBUFFORCE");
    }
  }
  return ends;
}

base::Result<Ends> log_ends() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return base::fail_errno("pipe2");
  }
  Ends result{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 || ::fcntl(ends[0], F_SETPIPE_SZ, kLogPipe) < 0) {
    return base::fail_errno("fcntl", "a log pipe");
  }
  return result;
}

// None where the controller is not there. A sandbox is not made without its counters for any other
// reason: they say how an invocation ended.
base::Result<base::UniqueFd> open_events(const cgroups::Cgroup& cgroup, const char* file) {
  auto opened = base::open_at(cgroup.fd(), file, O_RDONLY);
  if (!opened && opened.error().code() == ENOENT) {
    return base::UniqueFd();
  }
  return opened;
}

std::uint64_t read_counter(const base::UniqueFd& file, std::string_view key) {
  char text[512];
  const ssize_t got = file ? ::pread(file.get(), text, sizeof text, 0) : 0;
  return got <= 0 ? 0 : cgroups::find_key({text, static_cast<std::size_t>(got)}, key).value_or(0);
}

std::string status_name(Sandbox::State state) {
  constexpr const char* kNames[] = {"starting", "pool", "idle", "running", "ending", "gone"};
  return kNames[static_cast<int>(state)];
}

}  // namespace

namespace {

base::Result<base::UniqueFd> lower_layer(const PartsRequest& request) {
  constexpr rootfs::MountFlags kFlags{.read_only = true, .nosuid = true, .nodev = true};
  return request.map_ids
             ? rootfs::clone_tree_as(request.image_fd, kFlags, request.host_uid, kUidsPerSandbox)
             : rootfs::clone_tree(request.image_fd, kFlags);
}

// A command has no code and no layers: nothing will ever be shown there.
base::Status take_places(const PartsRequest& request, SandboxParts& parts) {
  if (request.slots == nullptr) {
    BROOD_TRY(parts.code_slave, rootfs::run_tmpfs({}));
    BROOD_TRY(parts.layers_slave, rootfs::run_tmpfs({}));
    return {};
  }
  BROOD_TRY(parts.code_slot, request.slots->slot());
  BROOD_TRY(parts.code_slave, parts.code_slot.slave());
  BROOD_TRY(parts.layers_slave, parts.code_slot.layers_slave());
  return {};
}

}  // namespace

base::Result<SandboxParts> make_parts(const PartsRequest& request) {
  SandboxParts parts;
  parts.number = request.number;
  parts.slot = request.slot;
  const std::string name = "sandbox-" + std::to_string(request.number);
  BROOD_TRY(parts.cgroup, request.parent->create(name));
  const auto fill = [&]() -> base::Status {
    BROOD_CHECK(parts.cgroup.chown_procs(request.zygote_uid));
    BROOD_CHECK(parts.cgroup.set_limits(request.limits));
    BROOD_TRY(parts.limits, cgroups::LimitWriter::open(parts.cgroup));
    BROOD_TRY(parts.memory_events, open_events(parts.cgroup, "memory.events"));
    BROOD_TRY(parts.pids_events, open_events(parts.cgroup, "pids.events"));
    BROOD_CHECK(take_places(request, parts));
    BROOD_TRY(parts.lower_theirs, lower_layer(request));
    BROOD_TRY(Ends conn, stream_ends());
    BROOD_TRY(Ends supervisor, socket_ends(SOCK_SEQPACKET));
    BROOD_TRY(Ends log, log_ends());
    parts.conn = std::move(conn.ours);
    parts.conn_theirs = std::move(conn.theirs);
    parts.supervisor = std::move(supervisor.ours);
    parts.supervisor_theirs = std::move(supervisor.theirs);
    parts.log = std::move(log.ours);
    parts.log_theirs = std::move(log.theirs);
    return {};
  };
  if (auto status = fill(); !status) {
    (void)unmake_parts(std::move(parts));  // no process has been in it: it is not busy
    return base::fail(status.error());
  }
  return parts;
}

std::optional<cgroups::Cgroup> unmake_parts(SandboxParts parts) {
  (void)parts.code_slot.close();
  if (!parts.cgroup) {
    return std::nullopt;
  }
  // A cgroup stays busy for a moment after its last process has ended. The pauses add up to 13 ms:
  // others wait for this thread.
  (void)parts.cgroup.kill();
  for (long pause_us = 100; pause_us < 10'000; pause_us *= 2) {
    const auto removed = parts.cgroup.remove();
    if (!removed || *removed == cgroups::Removed::yes) {
      return std::nullopt;
    }
    const timespec pause{0, pause_us * 1000};
    ::nanosleep(&pause, nullptr);
  }
  return std::move(parts.cgroup);
}

Sandbox::Sandbox(boost::asio::io_context& loop, std::string runtime, std::uint32_t host_uid,
                 SandboxParts parts, std::uint64_t response_limit, OutputTurns& turns)
    : runtime_(std::move(runtime)),
      id_(runtime_ + "-" + std::to_string(parts.number)),
      host_uid_(host_uid),
      born_ns_(monotonic_ns()),
      parts_(std::move(parts)),
      conn_(loop, parts_.conn.release()),
      supervisor_(loop, parts_.supervisor.release()),
      log_(loop, parts_.log.release()),
      turns_(turns),
      rest_(loop),
      listener_(loop),
      end_(loop),
      grace_(loop),
      reader_(response_limit) {}

void Sandbox::listen(SandboxOwner* owner) {
  owner_ = owner;
  wait_conn();
  wait_supervisor();
  wait_output();
}

std::array<int, BROOD_SPAWN_FD_COUNT> Sandbox::descriptors_for_zygote() const {
  std::array<int, BROOD_SPAWN_FD_COUNT> list{};
  list[BROOD_FD_CONN] = parts_.conn_theirs.get();
  list[BROOD_FD_SUPERVISOR] = parts_.supervisor_theirs.get();
  list[BROOD_FD_LOG] = parts_.log_theirs.get();
  list[BROOD_FD_CODE] = parts_.code_slave.get();
  list[BROOD_FD_CGROUP] = parts_.cgroup.fd();
  list[BROOD_FD_LOWER] = parts_.lower_theirs.get();
  list[BROOD_FD_LAYERS] = parts_.layers_slave.get();
  return list;
}

void Sandbox::close_zygote_copies() {
  parts_.conn_theirs.reset();
  parts_.supervisor_theirs.reset();
  parts_.log_theirs.reset();
  parts_.code_slave.reset();
  parts_.layers_slave.reset();
  parts_.lower_theirs.reset();
}

void Sandbox::spawned(base::UniqueFd pidfd) {
  const pid_t pid = base::pid_of(pidfd.get());
  init_ = base::PidRef(pid, std::move(pidfd));
  base::UniqueFd end(::fcntl(init_.fd(), F_DUPFD_CLOEXEC, 0));
  if (!end) {
    return end_unwatched();
  }
  end_.assign(end.release());
  wait_end();
  if (state_ == State::ending) {
    (void)init_.signal(SIGKILL);
  }
}

// No descriptor is left to be told of its end by: it ends now, and is looked at until it has.
void Sandbox::end_unwatched() {
  constexpr std::chrono::milliseconds kLook{10};
  (void)init_.signal(SIGKILL);
  grace_.expires_after(kLook);
  grace_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && self->state_ != State::gone) {
      self->init_.ended() ? self->gone() : self->end_unwatched();
    }
  });
}

void Sandbox::spawn_failed(std::string problem) {
  if (setup_problem_.empty()) {
    setup_problem_ = std::move(problem);
  }
  if (!init_) {
    gone();
  }
}

base::Status Sandbox::attach(const rootfs::HeldMount& code) {
  return parts_.code_slot.attach(code);
}

base::Status Sandbox::attach_layers(const rootfs::HeldMount& layers) {
  return parts_.code_slot.attach_layers(layers);
}

base::Status Sandbox::limit(const FunctionSettings& settings) {
  BROOD_CHECK(parts_.limits.set_memory(settings.memory_bytes));
  BROOD_CHECK(parts_.limits.set_cpu(settings.milli_cpu));
  BROOD_CHECK(parts_.limits.set_cpu_weight(kBoundWeight));
  return parts_.limits.set_pids(settings.pids);
}

// --- the stream socket ---------------------------------------------------------------------------

void Sandbox::send(std::shared_ptr<const void> payload) {
  payload_ = std::move(payload);
  flush();
}

void Sandbox::send_command(std::shared_ptr<const void> payload,
                           std::array<base::UniqueFd, 3> streams) {
  streams_ = std::move(streams);
  runs_command_ = true;
  send(std::move(payload));
}

void Sandbox::flush() {
  while (gather_.size() > 0) {
    const auto pieces = gather_.pieces();
    msghdr header{};
    header.msg_iov = const_cast<iovec*>(pieces.data());
    header.msg_iovlen = pieces.size();
    alignas(cmsghdr) char room[CMSG_SPACE(3 * sizeof(int))] = {};
    if (streams_[0]) {
      attach_descriptors(header, room, streams_);
    }
    const ssize_t put = ::sendmsg(conn_.native_handle(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0) {
      if (errno == EINTR) {
        continue;
      }
      if (errno == EAGAIN) {
        wait_writable();
        return;
      }
      break;  // it has gone: the reading side tells why
    }
    streams_ = {};
    gather_.wrote(static_cast<std::size_t>(put));
  }
  gather_.clear();
  payload_.reset();
}

void Sandbox::wait_writable() {
  if (std::exchange(writing_, true)) {
    return;
  }
  conn_.async_wait(stream_descriptor::wait_write,
                   [self = shared_from_this()](const boost::system::error_code& error) {
                     self->writing_ = false;
                     if (!error && self->state_ != State::gone) {
                       self->flush();
                     }
                   });
}

void Sandbox::wait_conn() {
  conn_.async_wait(stream_descriptor::wait_read,
                   [self = shared_from_this()](const boost::system::error_code& error) {
                     if (!error && self->state_ != State::gone) {
                       self->read_conn();
                     }
                   });
}

void Sandbox::read_conn() {
  for (;;) {
    const auto space = reader_.space();
    const ssize_t got = ::recv(conn_.native_handle(), space.data(), space.size(), MSG_DONTWAIT);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0 && errno == EAGAIN) {
      break;
    }
    if (got <= 0) {
      return conn_closed();
    }
    reader_.filled(static_cast<std::size_t>(got));
    for (;;) {
      auto frame = reader_.next();
      if (!frame) {
        return broken(frame.error().message());
      }
      if (!*frame) {
        break;
      }
      if (!handle_frame(std::move(**frame))) {
        return;
      }
    }
    if (static_cast<std::size_t>(got) < space.size()) {
      break;  // the socket is empty
    }
  }
  wait_conn();
}

bool Sandbox::handle_frame(Frame frame) {
  switch (frame.kind) {
    case BROOD_FRAME_READY:
      if (state_ == State::starting) {
        state_ = State::pool;
        owner_->on_ready(*this);
        return state_ != State::gone;
      }
      break;
    case BROOD_FRAME_LOADED:
      if (state_ == State::running) {
        owner_->on_loaded(*this);
        return state_ != State::gone;
      }
      break;
    case BROOD_FRAME_RESULT:
    case BROOD_FRAME_COMPILED:
      if (state_ == State::running) {
        owner_->on_answer(*this, std::move(frame));
        return state_ != State::gone;
      }
      break;
    default:
      break;
  }
  if (state_ != State::ending) {
    broken("a frame of kind " + std::to_string(frame.kind) + " while " + status_name(state_));
  }
  return false;
}

void Sandbox::broken(std::string rule) {
  if (evidence_.broken_rule.empty() && state_ != State::ending) {
    evidence_.broken_rule = std::move(rule);
  }
  kill();
}

// The process has ended, or closed its socket and goes on: pid 1 or the grace time tells which.
void Sandbox::conn_closed() {
  if (state_ == State::ending || runs_command_) {
    return;
  }
  grace_.expires_after(kGrace);
  grace_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (error || self->state_ == State::gone) {
      return;
    }
    // pid 1 may have told, and be on its way out.
    self->evidence_.handler_ended
        ? self->kill()
        : self->broken("it closed its socket without an answer and went on running");
  });
}

// --- pid 1's socket ------------------------------------------------------------------------------

void Sandbox::wait_supervisor() {
  supervisor_.async_wait(stream_descriptor::wait_read,
                         [self = shared_from_this()](const boost::system::error_code& error) {
                           if (!error && self->state_ != State::gone) {
                             self->read_supervisor();
                           }
                         });
}

void Sandbox::read_supervisor() {
  for (;;) {
    char message[sizeof(brood_setup_report) + 1];
    alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
    iovec piece{message, sizeof message};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = room;
    header.msg_controllen = sizeof room;
    const ssize_t got =
        ::recvmsg(supervisor_.native_handle(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && errno == EINTR) {
      continue;
    }
    if (got < 0 && errno == EAGAIN) {
      return wait_supervisor();
    }
    if (got <= 0) {
      return;  // pid 1 has gone; its pidfd tells
    }
    base::UniqueFd descriptor;
    if (const cmsghdr* rights = CMSG_FIRSTHDR(&header); rights != nullptr &&
                                                        rights->cmsg_type == SCM_RIGHTS &&
                                                        rights->cmsg_len == CMSG_LEN(sizeof(int))) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(rights), sizeof fd);
      descriptor.reset(fd);
    }
    handle_supervisor({message, static_cast<std::size_t>(got)}, std::move(descriptor));
  }
}

void Sandbox::handle_supervisor(std::string_view bytes, base::UniqueFd descriptor) {
  auto message = decode_supervisor(bytes);
  if (!message) {
    return broken(message.error().message());
  }
  if (const auto* report = std::get_if<brood_setup_report>(&*message)) {
    if (report->error != 0) {
      const auto step = static_cast<isolate::Step>(report->step);
      setup_problem_ =
          base::Error(std::string("making a sandbox: step ") + isolate::step_name(step),
                      report->error)
              .message();
    } else if (descriptor && !listener_.is_open()) {
      listener_.assign(descriptor.release());
      wait_listener();
    }
    return;
  }
  const auto& end = std::get<brood_handler_end>(*message);
  if (end.process != 0) {
    auto process = processes_.extract(end.process);
    return process ? process.mapped()(&end)
                   : broken("the end of a process that it was not asked for");
  }
  evidence_.handler_ended = true;
  evidence_.handler_signal = end.code == CLD_EXITED ? 0 : end.status;
  evidence_.handler_status = end.code == CLD_EXITED ? end.status : 0;
  evidence_.user_us = end.user_us;
  evidence_.system_us = end.system_us;
  evidence_.max_rss_kib = end.max_rss_kib;
}

// --- seccomp's notifications ---------------------------------------------------------------------

void Sandbox::wait_listener() {
  listener_.async_wait(stream_descriptor::wait_read,
                       [self = shared_from_this()](const boost::system::error_code& error) {
                         if (!error && self->state_ != State::gone) {
                           self->read_listener();
                         }
                       });
}

// The ioctl blocks where no notification was ever queued, whatever the descriptor's flags; one that
// was queued and withdrawn is an ENOENT. So the kernel is asked first: what woke the loop may have
// been the end of the filter's last user, or an event of a descriptor that had this number before.
void Sandbox::read_listener() {
  const short events = ready_events(listener_.native_handle());
  if ((events & POLLIN) == 0) {
    if ((events & (POLLHUP | POLLERR | POLLNVAL)) == 0) {
      wait_listener();
    }
    return;
  }
  seccomp_notif notification{};
  if (::ioctl(listener_.native_handle(), SECCOMP_IOCTL_NOTIF_RECV, &notification) != 0) {
    wait_listener();  // ENOENT: its caller has been killed meanwhile, others may still come
    return;
  }
  if (evidence_.refused_call.empty()) {
    evidence_.refused_call = isolate::syscall_name(notification.data.nr);
  }
  kill();  // the call is never answered
}

// --- what it prints ------------------------------------------------------------------------------

void Sandbox::wait_output() {
  log_.async_wait(stream_descriptor::wait_read,
                  [self = shared_from_this()](const boost::system::error_code& error) {
                    if (!error && self->state_ != State::gone) {
                      self->take_output_turn();
                    }
                  });
}

void Sandbox::take_output_turn() {
  const std::int64_t began = monotonic_ns();
  const std::int64_t last = began + OutputTurns::kLongestNs;
  for (int bytes = 0; bytes < kLogPipe && monotonic_ns() < last && read_output(kLogPiece);
       bytes += kLogPiece) {
  }
  if (!log_.is_open()) {
    return;
  }
  const std::int64_t now = monotonic_ns();
  rest_.expires_after(std::chrono::nanoseconds(turns_.next(began, now) - now));
  rest_.async_wait([self = shared_from_this()](const boost::system::error_code& error) {
    if (!error && self->log_.is_open()) {
      self->wait_output();
    }
  });
}

void Sandbox::drain_output() {
  (void)read_output(kLogPipe);
}

// One read, of `most` bytes; false when the pipe had no more.
bool Sandbox::read_output(std::size_t most) {
  if (!log_.is_open()) {
    return false;
  }
  char buffer[kLogPipe];
  const ssize_t got = ::read(log_.native_handle(), buffer, std::min(most, sizeof buffer));
  if (got > 0) {
    owner_->on_output(*this, {buffer, static_cast<std::size_t>(got)});
  }
  if (got == 0) {
    log_.close();
  }
  return got == static_cast<ssize_t>(most);
}

// --- its end -------------------------------------------------------------------------------------

void Sandbox::kill() {
  if (state_ == State::ending || state_ == State::gone) {
    return;
  }
  state_ = State::ending;
  if (init_) {
    (void)init_.signal(SIGKILL);  // pid 1: the kernel kills the rest of its namespace with it
  } else {
    (void)parts_.cgroup.kill();
  }
}

base::Status Sandbox::order(const brood_order& order, int descriptor) {
  iovec piece{const_cast<brood_order*>(&order), sizeof order};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int))] = {};
  if (descriptor >= 0) {
    header.msg_control = room;
    header.msg_controllen = sizeof room;
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof descriptor);
    std::memcpy(CMSG_DATA(rights), &descriptor, sizeof descriptor);
  }
  if (::sendmsg(supervisor_.native_handle(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    return base::fail_errno("sendmsg to pid 1");
  }
  return {};
}

base::Result<std::uint32_t> Sandbox::start_process(int conn, ProcessEnded ended) {
  const std::uint32_t process = ++last_process_;
  BROOD_CHECK(order({BROOD_ORDER_MAGIC, BROOD_EXEC, process, 0}, conn));
  processes_.emplace(process, std::move(ended));
  return process;
}

base::Status Sandbox::signal_process(std::uint32_t process, int number) {
  if (!processes_.contains(process)) {
    return base::fail(base::Error("signal the process", ESRCH));
  }
  return order({BROOD_ORDER_MAGIC, BROOD_SIGNAL, process, number}, -1);
}

// pid 1's first child, by a pidfd that is held against pid 1 before it is used: a number that the
// kernel lists now may be somebody else's a moment later.
base::Status Sandbox::signal_handler(int number) const {
  const std::string directory = "/proc/" + std::to_string(init_.pid());
  BROOD_TRY(const std::string listed,
            base::read_file(directory + "/task/" + std::to_string(init_.pid()) + "/children"));
  const pid_t pid = static_cast<pid_t>(std::strtol(listed.c_str(), nullptr, 10));
  if (pid <= 0 || init_.ended()) {
    return base::fail(base::Error("signal the command", ESRCH));
  }
  const base::PidRef handler(pid,
                             base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, pid, 0))));
  BROOD_TRY(const std::string again,
            base::read_file(directory + "/task/" + std::to_string(init_.pid()) + "/children"));
  if (!handler || std::strtol(again.c_str(), nullptr, 10) != pid) {
    return base::fail(base::Error("signal the command", ESRCH));
  }
  return handler.signal(number);
}

base::Status Sandbox::freeze(bool frozen) {
  BROOD_CHECK(parts_.cgroup.freeze(frozen ? cgroups::Freeze::frozen : cgroups::Freeze::thawed));
  frozen_ = frozen;
  return {};
}

void Sandbox::wait_end() {
  end_.async_wait(stream_descriptor::wait_read,
                  [self = shared_from_this()](const boost::system::error_code& error) {
                    if (error) {
                      return;
                    }
                    // Asked again: the loop may hand out an event of an earlier descriptor.
                    self->init_.ended() ? self->gone() : self->wait_end();
                  });
}

Sandbox::Counters Sandbox::counters() const {
  return {.oom_kills = read_counter(parts_.memory_events, "oom_kill"),
          .pids_refusals = read_counter(parts_.pids_events, "max")};
}

void Sandbox::mark_counters() {
  marked_ = counters();
}

void Sandbox::count_evidence() {
  const Counters now = counters();
  evidence_.oom_kills = now.oom_kills - marked_.oom_kills;
  evidence_.pids_refusals = now.pids_refusals - marked_.pids_refusals;
}

void Sandbox::gone() {
  if (state_ == State::gone) {
    return;
  }
  const auto self = shared_from_this();
  read_supervisor();
  drain_output();
  count_evidence();
  state_ = State::gone;
  boost::system::error_code ignored;
  grace_.cancel();
  rest_.cancel();
  for (Descriptor* descriptor : {&conn_, &supervisor_, &log_, &listener_, &end_}) {
    descriptor->close(ignored);
  }
  gather_.clear();
  payload_.reset();
  for (const auto& [process, ended] : std::exchange(processes_, {})) {
    ended(nullptr);
  }
  owner_->on_gone(*this);
}

SandboxStatus Sandbox::status() const {
  SandboxStatus status;
  status.id = id_;
  status.runtime = runtime_;
  status.function = function;
  status.command = command;
  status.name = name;
  status.state = frozen_ ? "paused" : status_name(state_);
  status.pid = init_.pid();
  status.host_uid = host_uid_;
  if (wire != nullptr && wire->port) {
    status.addresses.push_back(address_text(wire->port->plan.address4));
    if (wire->port->plan.address6.family != 0) {
      status.addresses.push_back(address_text(wire->port->plan.address6));
    }
  }
  status.age_ms = (monotonic_ns() - born_ns_) / 1'000'000;
  if (const auto usage = parts_.cgroup ? parts_.cgroup.usage()
                                       : base::Result<cgroups::Usage>(base::fail_because("gone"));
      usage) {
    status.memory_bytes = usage->memory_bytes.value_or(0);
    status.cpu_us = usage->cpu.usage_us;
  }
  return status;
}

}  // namespace agent

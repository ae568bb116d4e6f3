#include "agent/execution.h"

#include <fcntl.h>
#include <sys/socket.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <utility>

#include "agent/clock.h"

namespace agent {
namespace {

using boost::asio::posix::stream_descriptor;
constexpr int kSocketBuffer = 256 << 10;  // a RUN fits at once, mostly

struct Ends {
  base::UniqueFd ours;
  base::UniqueFd theirs;
};

base::Result<Ends> conn_ends() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  Ends result{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0 ||
      ::setsockopt(ends[0], SOL_SOCKET, SO_SNDBUFFORCE, &kSocketBuffer, sizeof kSocketBuffer) !=
          0) {
    return base::fail_errno("set up", "a socket");
  }
  return result;
}

}  // namespace

Execution::Execution(boost::asio::io_context& loop, const std::shared_ptr<Sandbox>& sandbox,
                     CommandRequest request, CommandCallbacks callbacks)
    : sandbox_(sandbox),
      request_(std::move(request)),
      callbacks_(std::move(callbacks)),
      conn_(loop),
      timeout_(loop) {}

std::shared_ptr<Execution> Execution::start(boost::asio::io_context& loop,
                                            const std::shared_ptr<Sandbox>& sandbox,
                                            CommandRequest request, CommandCallbacks callbacks) {
  std::shared_ptr<Execution> one(
      new Execution(loop, sandbox, std::move(request), std::move(callbacks)));
  one->self_ = one;
  boost::asio::post(loop, [one] {
    if (one->self_ == nullptr) {
      return;  // cancelled meanwhile
    }
    if (const base::Status begun = one->begin(); !begun) {
      one->give_up(begun.error().message());
    }
  });
  return one;
}

base::Status Execution::begin() {
  const auto sandbox = sandbox_.lock();
  if (sandbox == nullptr || sandbox->state() != Sandbox::State::running) {
    return base::fail_because("the sandbox has ended");
  }
  BROOD_TRY(Ends ends, conn_ends());
  BROOD_TRY(process_,
            sandbox->start_process(
                ends.theirs.get(),
                [self = shared_from_this()](const brood_handler_end* end) { self->ended(end); }));
  conn_.assign(ends.ours.release());
  wait_until_ready();
  return {};
}

void Execution::wait_until_ready() {
  conn_.async_wait(
      stream_descriptor::wait_read, [self = self_](const boost::system::error_code& error) {
        if (error || self->self_ == nullptr) {
          return;
        }
        brood_frame_head head{};
        const ssize_t got = ::recv(self->conn_.native_handle(), &head, sizeof head, MSG_DONTWAIT);
        if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
          return self->wait_until_ready();
        }
        // At its end, pid 1 tells how it ended.
        if (got == static_cast<ssize_t>(sizeof head) && head.kind == BROOD_FRAME_READY) {
          if (const base::Status sent = self->send_run(); !sent) {
            self->give_up(sent.error().message());
          }
        }
      });
}

base::Status Execution::send_run() {
  const auto sandbox = sandbox_.lock();
  if (sandbox == nullptr) {
    return base::fail_because("the sandbox has ended");
  }
  const std::uint32_t uid = sandbox->host_uid() + sandbox->inside_uid;
  BROOD_TRY(streams_, request_.terminal ? make_terminal(uid, request_.rows, request_.columns)
                                        : make_pipes(uid));
  arguments_ = command_arguments(request_);
  environment_ = command_environment(request_);
  BROOD_CHECK(gather_.run({.arguments = arguments_,
                           .environment = environment_,
                           .directory = request_.directory,
                           .terminal = request_.terminal}));
  began_ns_ = monotonic_ns();
  if (request_.timeout.count() > 0) {
    timeout_.expires_after(request_.timeout);
    timeout_.async_wait([self = self_](const boost::system::error_code& error) {
      if (const auto there = self->sandbox_.lock(); there && !error) {
        self->evidence_.timed_out = true;
        (void)there->signal_process(self->process_, SIGKILL);
      }
    });
  }
  auto outside = std::move(streams_.outside);
  flush();
  callbacks_.started(
      {.sandbox = sandbox->id(), .streams = std::move(outside), .process = process_});
  return {};
}

void Execution::flush() {
  while (gather_.size() > 0) {
    const auto pieces = gather_.pieces();
    msghdr header{};
    header.msg_iov = const_cast<iovec*>(pieces.data());
    header.msg_iovlen = pieces.size();
    alignas(cmsghdr) char room[CMSG_SPACE(3 * sizeof(int))] = {};
    if (streams_.inside[0]) {
      attach_descriptors(header, room, streams_.inside);
    }
    const ssize_t put = ::sendmsg(conn_.native_handle(), &header, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (put < 0 && errno == EAGAIN) {
      return conn_.async_wait(stream_descriptor::wait_write,
                              [self = self_](const boost::system::error_code& error) {
                                if (!error && self->self_ != nullptr) {
                                  self->flush();
                                }
                              });
    }
    if (put < 0 && errno != EINTR) {
      break;  // it has gone: pid 1 tells why
    }
    if (put > 0) {
      streams_.inside = {};
      gather_.wrote(static_cast<std::size_t>(put));
    }
  }
  streams_.inside = {};
}

void Execution::cancel() {
  evidence_.cancelled = true;
  if (const auto sandbox = sandbox_.lock(); sandbox != nullptr && process_ != 0) {
    (void)sandbox->signal_process(process_, SIGKILL);
  } else {
    finish(judge_command(evidence_, request_));
  }
}

void Execution::ended(const brood_handler_end* end) {
  if (end != nullptr) {
    evidence_.handler_ended = true;
    evidence_.handler_signal = end->code == CLD_EXITED ? 0 : end->status;
    evidence_.handler_status = end->code == CLD_EXITED ? end->status : 0;
  }
  CommandEnd told = judge_command(evidence_, request_);
  told.wall_us = began_ns_ == 0 ? 0 : static_cast<std::uint64_t>(monotonic_ns() - began_ns_) / 1000;
  if (end != nullptr) {
    told.user_us = end->user_us;
    told.system_us = end->system_us;
    told.memory_peak_bytes = end->max_rss_kib << 10;
  }
  finish(std::move(told));
}

void Execution::give_up(const std::string& problem) {
  evidence_.own_fault = problem;
  finish(judge_command(evidence_, request_));
}

void Execution::finish(CommandEnd end) {
  const auto self = std::exchange(self_, nullptr);
  if (self == nullptr) {
    return;
  }
  timeout_.cancel();
  boost::system::error_code ignored;
  conn_.close(ignored);
  streams_ = {};
  const auto callbacks = std::exchange(callbacks_, {});
  callbacks.done(std::move(end));
}

}  // namespace agent

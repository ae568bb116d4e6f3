#include "agent/zygote.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#include <boost/asio/post.hpp>
#include <cerrno>
#include <csignal>
#include <cstring>

#include "base/file.h"

namespace agent {
namespace {

using boost::asio::posix::stream_descriptor;

struct Pair {
  base::UniqueFd ours;
  base::UniqueFd theirs;
};

base::Result<Pair> control_pair() {
  int ends[2];
  if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0) {
    return base::fail_errno("socketpair");
  }
  Pair pair{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  const int on = 1;
  if (::setsockopt(pair.ours.get(), SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0) {
    return base::fail_errno("setsockopt SO_PASSCRED");
  }
  return pair;
}

base::Result<Pair> output_pipe() {
  int ends[2];
  if (::pipe2(ends, O_CLOEXEC) != 0) {
    return base::fail_errno("pipe2");
  }
  Pair pipe{base::UniqueFd(ends[0]), base::UniqueFd(ends[1])};
  if (::fcntl(ends[0], F_SETFL, O_NONBLOCK) != 0) {
    return base::fail_errno("fcntl O_NONBLOCK");
  }
  return pipe;
}

// A sealed memory file: what the zygote maps can no longer change under it.
base::Result<base::UniqueFd> sealed(const isolate::Plan& plan) {
  base::UniqueFd memory(::memfd_create("brood-plan", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!memory) {
    return base::fail_errno("memfd_create");
  }
  BROOD_CHECK(base::write_all(memory.get(), {reinterpret_cast<const char*>(&plan), sizeof plan}));
  if (::fcntl(memory.get(), F_ADD_SEALS,
              F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) != 0) {
    return base::fail_errno("fcntl F_ADD_SEALS");
  }
  return memory;
}

}  // namespace

base::Result<std::unique_ptr<Zygote>> Zygote::start(boost::asio::io_context& loop,
                                                    const ZygoteSetup& setup, ZygoteEvents events) {
  BROOD_TRY(Pair control, control_pair());
  BROOD_TRY(Pair output, output_pipe());
  BROOD_TRY(const base::UniqueFd null, base::open_at(AT_FDCWD, "/dev/null", O_RDONLY));
  isolate::SpawnRequest request;
  request.plan = setup.zygote_plan;
  request.ids = setup.ids;
  request.cgroup_fd = setup.cgroup_fd;
  request.root_fd = setup.image_fd;
  request.lower_fd = setup.lower_fd;
  request.dev_fd = setup.dev_fd;
  request.run_fd = setup.run_fd;
  request.support_fd = setup.support_fd;
  request.hostname = "zygote";
  request.arguments = setup.arguments;
  request.environment = {"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8", "HOME=/tmp"};
  request.descriptors = {null.get(), output.theirs.get(), output.theirs.get(),
                         control.theirs.get()};
  BROOD_TRY(base::OwnedPid init, isolate::spawn(request));
  std::unique_ptr<Zygote> zygote(new Zygote(loop, std::move(events), std::move(init),
                                            std::move(control.ours), std::move(output.ours)));
  BROOD_CHECK(zygote->configure(*setup.sandbox_plan));
  zygote->wait_for_message();
  zygote->wait_for_output();
  return zygote;
}

Zygote::Zygote(boost::asio::io_context& loop, ZygoteEvents events, base::OwnedPid init,
               base::UniqueFd control, base::UniqueFd output)
    : events_(std::move(events)),
      init_(std::move(init)),
      control_(loop, control.release()),
      output_(loop, output.release()) {}

Zygote::~Zygote() {
  *alive_ = false;
}

base::Status Zygote::configure(const isolate::Plan& plan) {
  BROOD_TRY(const base::UniqueFd memory, sealed(plan));
  const int descriptor = memory.get();
  return send(control_message(BROOD_CONFIGURE), &descriptor, 1);
}

base::Status Zygote::send(const brood_control& message, const int* descriptors, std::size_t count) {
  alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int) * BROOD_SPAWN_FD_COUNT)] = {};
  iovec piece{const_cast<brood_control*>(&message), sizeof message};
  msghdr header{};
  header.msg_iov = &piece;
  header.msg_iovlen = 1;
  if (count > 0) {
    header.msg_control = room;
    header.msg_controllen = CMSG_SPACE(sizeof(int) * count);
    cmsghdr* rights = CMSG_FIRSTHDR(&header);
    rights->cmsg_level = SOL_SOCKET;
    rights->cmsg_type = SCM_RIGHTS;
    rights->cmsg_len = CMSG_LEN(sizeof(int) * count);
    std::memcpy(CMSG_DATA(rights), descriptors, sizeof(int) * count);
  }
  if (::sendmsg(control_.native_handle(), &header, MSG_DONTWAIT | MSG_NOSIGNAL) < 0) {
    return base::fail_errno("sendmsg to the zygote");
  }
  return {};
}

void Zygote::spawn(const SpawnOrder& order,
                   const std::array<int, BROOD_SPAWN_FD_COUNT>& descriptors) {
  const auto message = spawn_message(order);
  const base::Status sent = message ? send(*message, descriptors.data(), descriptors.size())
                                    : base::Status(base::fail(message.error()));
  if (!sent) {
    // A full socket (EAGAIN) is a zygote that does not keep up: this sandbox is not made.
    boost::asio::post(control_.get_executor(), [this, alive = alive_, sandbox = order.sandbox,
                                                problem = sent.error().message()] {
      if (*alive && !dead_) {
        events_.spawn_failed(sandbox, problem);
      }
    });
  }
}

void Zygote::kill() {
  dead_ = true;
  // Before it has booted nothing else is in its pid namespace.
  (void)(process_ ? process_ : init_.ref()).signal(SIGKILL);
}

void Zygote::wait_for_message() {
  control_.async_wait(stream_descriptor::wait_read,
                      [this, alive = alive_](const boost::system::error_code& error) {
                        if (*alive && !error) {
                          read_messages();
                        }
                      });
}

// The descriptor that came with a message. The kernel tells who sent it: the zygote's pid, which
// the agent cannot have from its own clone (that is pid 1, the zygote's parent).
base::UniqueFd Zygote::take_ancillary(msghdr& header) {
  base::UniqueFd descriptor;
  for (const cmsghdr* part = CMSG_FIRSTHDR(&header); part != nullptr;
       part = CMSG_NXTHDR(&header, const_cast<cmsghdr*>(part))) {
    if (part->cmsg_level != SOL_SOCKET) {
      continue;
    }
    if (part->cmsg_type == SCM_RIGHTS && part->cmsg_len == CMSG_LEN(sizeof(int))) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
      descriptor.reset(fd);
    } else if (part->cmsg_type == SCM_CREDENTIALS && part->cmsg_len == CMSG_LEN(sizeof(ucred))) {
      ucred sender{};
      std::memcpy(&sender, CMSG_DATA(part), sizeof sender);
      zygote_pid_ = sender.pid;
    }
  }
  return descriptor;
}

void Zygote::read_messages() {
  const auto alive = alive_;
  while (*alive && !dead_) {
    brood_control message{};
    alignas(cmsghdr) char room[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(ucred))] = {};
    iovec piece{&message, sizeof message};
    msghdr header{};
    header.msg_iov = &piece;
    header.msg_iovlen = 1;
    header.msg_control = room;
    header.msg_controllen = sizeof room;
    const ssize_t got =
        ::recvmsg(control_.native_handle(), &header, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
      wait_for_message();
      return;
    }
    if (got <= 0) {
      fail("the zygote has ended");
      return;
    }
    base::UniqueFd descriptor = take_ancillary(header);
    auto decoded =
        decode_control({reinterpret_cast<const char*>(&message), static_cast<std::size_t>(got)});
    if (!decoded) {
      fail("the zygote broke the protocol: " + decoded.error().message());
      return;
    }
    handle(*decoded, std::move(descriptor));
  }
}

void Zygote::handle(const brood_control& message, base::UniqueFd descriptor) {
  switch (message.kind) {
    case BROOD_BOOTED:
      if (message.value != BROOD_WIRE_VERSION) {
        return fail(
            "the zygote speaks another version of the protocol: reinstall brood's runtimes");
      }
      process_ = base::PidRef(
          zygote_pid_, base::UniqueFd(static_cast<int>(::syscall(SYS_pidfd_open, zygote_pid_, 0))));
      return events_.booted(message.text);
    case BROOD_SPAWNED:
      if (!descriptor) {
        return fail("the zygote broke the protocol: SPAWNED without a pidfd");
      }
      return events_.spawned(message.sandbox, std::move(descriptor));
    case BROOD_SPAWN_FAILED:
      return events_.spawn_failed(
          message.sandbox, base::Error(message.text, static_cast<int>(message.value)).message());
    default:
      return;  // EXITED: the pidfd has told already
  }
}

void Zygote::wait_for_output() {
  output_.async_wait(stream_descriptor::wait_read,
                     [this, alive = alive_](const boost::system::error_code& error) {
                       if (!*alive || error) {
                         return;
                       }
                       char buffer[4096];
                       const ssize_t got = ::read(output_.native_handle(), buffer, sizeof buffer);
                       if (got > 0) {
                         events_.printed({buffer, static_cast<std::size_t>(got)});
                       }
                       if (got > 0 || (got < 0 && errno == EAGAIN)) {
                         wait_for_output();
                       }
                     });
}

void Zygote::fail(std::string problem) {
  if (!dead_) {
    dead_ = true;
    events_.died(std::move(problem));
  }
}

}  // namespace agent

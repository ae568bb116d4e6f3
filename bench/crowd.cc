#include "bench/crowd.h"

#include <sys/epoll.h>

#include <array>
#include <cerrno>

#include "base/fd.h"
#include "bench/clock.h"

namespace bench {
namespace {

constexpr int kPatienceMs = 60'000;

// The clients whose answers come.
class Waiting {
 public:
  base::Status watch(std::size_t client, int fd) {
    if (!epoll_) {
      epoll_ = base::UniqueFd(::epoll_create1(EPOLL_CLOEXEC));
    }
    epoll_event event{};
    event.events = EPOLLIN;
    event.data.u64 = client;
    if (::epoll_ctl(epoll_.get(), EPOLL_CTL_ADD, fd, &event) != 0) {
      return base::fail_errno("epoll_ctl", "the agent's socket");
    }
    return {};
  }

  // Calls `hear` for each whose answer has come; waits until there is one.
  template <typename Hear>
  base::Status next(Hear hear) {
    const int count = ::epoll_wait(epoll_.get(), events_.data(), events_.size(), kPatienceMs);
    if (interrupted()) {
      return base::fail_because("interrupted");
    }
    if (count == 0) {
      return base::fail_because("the agent has not answered for 60 s");
    }
    if (count < 0 && errno != EINTR) {
      return base::fail_errno("epoll_wait");
    }
    for (int i = 0; i < count; ++i) {
      BROOD_CHECK(hear(events_[static_cast<std::size_t>(i)].data.u64));
    }
    return {};
  }

 private:
  base::UniqueFd epoll_;
  std::array<epoll_event, 64> events_{};
};

}  // namespace

base::Result<Crowd> Crowd::connect(const std::string& socket_path, const std::string& function,
                                   std::size_t clients, std::size_t payload_bytes) {
  Crowd crowd(function, payload_bytes);
  for (std::size_t i = 0; i < clients; ++i) {
    BROOD_TRY(Connection connection, Connection::open(socket_path));
    crowd.clients_.push_back({.connection = std::move(connection)});
  }
  return crowd;
}

base::Status Crowd::ask(std::size_t client) {
  Client& one = clients_[client];
  one.asked = next_number_++;
  return one.connection.send(
      request_of("POST", target_, events_.event(one.asked), "Content-Type: application/json\r\n"));
}

base::Status Crowd::hear(std::size_t client, CrowdRun& run) {
  Client& one = clients_[client];
  BROOD_TRY(const Answer answer, one.connection.receive());
  if (answer.status != 200 || answer.body != events_.answer(one.asked)) {
    return base::fail_because("an invocation was answered with status " +
                              std::to_string(answer.status) + " and '" + std::string(answer.body) +
                              "'");
  }
  run.invocations.add(answer.took_ns);
  run.cold += answer.header("Brood-Start") == "cold" ? 1 : 0;
  return {};
}

base::Result<CrowdRun> Crowd::burst() {
  Waiting waiting;
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    BROOD_CHECK(waiting.watch(i, clients_[i].connection.fd()));
  }
  CrowdRun run;
  const std::int64_t began = monotonic_ns();
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    BROOD_CHECK(ask(i));
  }
  while (run.invocations.count() < clients_.size()) {
    BROOD_CHECK(waiting.next([&](std::size_t client) { return hear(client, run); }));
  }
  run.span_ns = monotonic_ns() - began;
  return run;
}

base::Result<CrowdRun> Crowd::keep_asking(std::uint32_t seconds) {
  Waiting waiting;
  CrowdRun run;
  const std::int64_t began = monotonic_ns();
  const std::int64_t end = began + seconds * 1'000'000'000LL;
  for (std::size_t i = 0; i < clients_.size(); ++i) {
    BROOD_CHECK(waiting.watch(i, clients_[i].connection.fd()));
    BROOD_CHECK(ask(i));
  }
  for (std::size_t asking = clients_.size(); asking > 0;) {
    const base::Status heard = waiting.next([&](std::size_t client) -> base::Status {
      BROOD_CHECK(hear(client, run));
      if (monotonic_ns() < end) {
        return ask(client);
      }
      --asking;
      return {};
    });
    BROOD_CHECK(heard);
  }
  run.span_ns = monotonic_ns() - began;
  return run;
}

}  // namespace bench

#include "api/server.h"

#include <spdlog/spdlog.h>
#include <sys/socket.h>

#include <algorithm>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/posix/stream_descriptor.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/steady_timer.hpp>
#include <cerrno>
#include <optional>
#include <unordered_map>
#include <utility>
#include <vector>

#include "agent/clock.h"
#include "api/connection.h"
#include "api/listener.h"
#include "api/reply.h"

namespace api {
namespace {

namespace asio = boost::asio;
using boost::system::error_code;

// So that a storm of clients does not hold up the others: few are taken at a time, and after that
// none for a multiple of the time that it took.
constexpr int kAcceptsAtOnce = 4;
constexpr int kAcceptRest = 2;
constexpr std::chrono::milliseconds kAcceptBackOff{100};

unsigned uid_of_peer(int socket) {
  ucred peer{};
  socklen_t size = sizeof peer;
  // Nobody's uid when the kernel does not say: never root's by default.
  return ::getsockopt(socket, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? peer.uid : 65534;
}

// The sweep's own clock: often enough for the shortest timeout, seldom enough to cost nothing.
std::chrono::milliseconds sweep_period(const ServerOptions& options) {
  const auto shortest =
      std::min({options.idle_timeout, options.head_timeout, options.body_timeout});
  return std::clamp(shortest / 4, std::chrono::milliseconds(5), std::chrono::milliseconds(1000));
}

}  // namespace

class Server::Core : public std::enable_shared_from_this<Server::Core> {
 public:
  Core(asio::io_context& loop, agent::Service& service, ServerOptions options)
      : loop_(loop),
        service_(service),
        options_(std::move(options)),
        acceptor_(loop),
        sweep_(loop),
        back_off_(loop) {}

  base::Status start();
  void drain(std::function<void()> done);
  void stop();
  std::size_t connections() const { return connections_.size(); }

 private:
  void wait_for_clients();
  void accept_clients();
  void accept_after(std::chrono::nanoseconds pause);
  void on_accept_error(int code);
  void admit(base::UniqueFd socket);
  bool make_room();
  void turn_away(const base::UniqueFd& socket) const;
  void forget(Connection& connection);
  void sweep();
  void sweep_later();
  void close_listener();
  std::vector<std::shared_ptr<Connection>> snapshot() const;

  asio::io_context& loop_;
  agent::Service& service_;
  const ServerOptions options_;
  std::optional<Listener> listener_;
  asio::posix::stream_descriptor acceptor_;  // the listener's descriptor, lent
  asio::steady_timer sweep_;
  bool sweep_planned_ = false;
  asio::steady_timer back_off_;
  std::unordered_map<Connection*, std::shared_ptr<Connection>> connections_;
  std::function<void()> drained_;
};

base::Status Server::Core::start() {
  BROOD_TRY(auto listener, Listener::open(options_.socket_path, options_.group));
  listener_.emplace(std::move(listener));
  acceptor_.assign(listener_->fd());
  wait_for_clients();
  return {};
}

void Server::Core::wait_for_clients() {
  if (!listener_) {
    return;
  }
  acceptor_.async_wait(asio::posix::stream_descriptor::wait_read,
                       [self = shared_from_this()](error_code error) {
                         if (!error && self->listener_) {
                           self->accept_clients();
                         }
                       });
}

void Server::Core::accept_clients() {
  const std::int64_t began = agent::monotonic_ns();
  for (int i = 0; i < kAcceptsAtOnce; ++i) {
    // Not asio's accept: that one leaves the descriptor open across exec.
    base::UniqueFd socket(
        ::accept4(listener_->fd(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
    if (!socket) {
      const int code = errno;
      if (code == EINTR || code == ECONNABORTED) {
        continue;
      }
      if (code != EAGAIN) {
        return on_accept_error(code);
      }
      break;
    }
    admit(std::move(socket));
  }
  accept_after(std::chrono::nanoseconds(kAcceptRest * (agent::monotonic_ns() - began)));
}

void Server::Core::accept_after(std::chrono::nanoseconds pause) {
  back_off_.expires_after(pause);
  back_off_.async_wait([self = shared_from_this()](error_code error) {
    if (!error) {
      self->wait_for_clients();
    }
  });
}

// Out of descriptors or memory: the client stays in the backlog, and the loop must not spin on it.
void Server::Core::on_accept_error(int code) {
  spdlog::warn("{}; {} connections are open", base::Error("accept", code).message(),
               connections_.size());
  accept_after(kAcceptBackOff);
}

void Server::Core::admit(base::UniqueFd socket) {
  if (connections_.size() >= options_.max_connections && !make_room()) {
    return turn_away(socket);
  }
  const unsigned uid = uid_of_peer(socket.get());
  Connection::Host host{service_, options_, [this](Connection& connection) { forget(connection); }};
  auto connection = Connection::open(loop_, std::move(socket), uid, std::move(host));
  Connection* key = connection.get();
  connections_.emplace(key, std::move(connection));
  sweep_later();
}

// Clients that hold connections without using them do not keep others out.
bool Server::Core::make_room() {
  Connection* oldest = nullptr;
  for (const auto& [connection, owner] : connections_) {
    if (connection->idle() &&
        (oldest == nullptr || connection->idle_since() < oldest->idle_since())) {
      oldest = connection;
    }
  }
  if (oldest == nullptr) {
    return false;
  }
  oldest->abort();
  return true;
}

void Server::Core::turn_away(const base::UniqueFd& socket) const {
  Reply reply = reply_of(agent::Failure{503, "unavailable",
                                        "the agent has as many connections as "
                                        "it may have; try again later"});
  std::string bytes;
  append_head(reply, Framing::length, Persistence::close, bytes);
  bytes += reply.body;
  (void)::send(socket.get(), bytes.data(), bytes.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
}

void Server::Core::forget(Connection& connection) {
  connections_.erase(&connection);
  if (connections_.empty() && drained_) {
    asio::post(loop_, std::exchange(drained_, nullptr));
  }
}

void Server::Core::sweep() {
  const std::int64_t now = agent::monotonic_ns();
  for (const auto& connection : snapshot()) {
    connection->check_deadline(now);
  }
  if (!connections_.empty()) {
    sweep_later();
  }
}

// Only while there is somebody to look after: an agent that nobody talks to sleeps.
void Server::Core::sweep_later() {
  if (std::exchange(sweep_planned_, true)) {
    return;
  }
  sweep_.expires_after(sweep_period(options_));
  sweep_.async_wait([self = shared_from_this()](error_code error) {
    self->sweep_planned_ = false;
    if (!error) {
      self->sweep();
    }
  });
}

std::vector<std::shared_ptr<Connection>> Server::Core::snapshot() const {
  std::vector<std::shared_ptr<Connection>> all;
  all.reserve(connections_.size());
  for (const auto& [key, connection] : connections_) {
    all.push_back(connection);
  }
  return all;
}

void Server::Core::close_listener() {
  if (!listener_) {
    return;
  }
  (void)acceptor_.release();
  back_off_.cancel();
  listener_.reset();
}

void Server::Core::drain(std::function<void()> done) {
  close_listener();
  drained_ = std::move(done);
  for (const auto& connection : snapshot()) {
    connection->drain();
  }
  if (connections_.empty() && drained_) {
    asio::post(loop_, std::exchange(drained_, nullptr));
  }
}

void Server::Core::stop() {
  close_listener();
  sweep_.cancel();
  for (const auto& connection : snapshot()) {
    connection->abort();
  }
}

Server::Server(asio::io_context& loop, agent::Service& service, ServerOptions options)
    : core_(std::make_shared<Core>(loop, service, std::move(options))) {}

Server::~Server() {
  stop();
}

base::Status Server::start() {
  return core_->start();
}

void Server::drain(std::function<void()> done) {
  core_->drain(std::move(done));
}

void Server::stop() {
  core_->stop();
}

std::size_t Server::connections() const {
  return core_->connections();
}

}  // namespace api

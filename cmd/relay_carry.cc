#include "cmd/relay_carry.h"

#include <array>
#include <boost/asio/buffer.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/asio/write.hpp>
#include <chrono>
#include <list>

namespace cmd {
namespace {

namespace asio = boost::asio;
using asio::ip::tcp;
using asio::ip::udp;
using Code = boost::system::error_code;

constexpr std::size_t kPiece = 16 << 10;
constexpr std::size_t kDatagram = 65'535;

// One connection. Ends when both directions have, or one has failed.
class Session : public std::enable_shared_from_this<Session> {
 public:
  Session(tcp::socket inside, std::function<void(Session*)> ended)
      : inside_(std::move(inside)), outside_(inside_.get_executor()), ended_(std::move(ended)) {}
  ~Session() { ended_(this); }
  Session(const Session&) = delete;
  Session& operator=(const Session&) = delete;

  void start(const RelayAddress& target) {
    outside_.async_connect({target.address, target.port},
                           [self = shared_from_this()](const Code& error) {
                             if (error) {
                               return self->reset();
                             }
                             self->pump(self->inside_, self->outside_, self->out_);
                             self->pump(self->outside_, self->inside_, self->in_);
                           });
  }
  void close() {
    Code ignored;
    inside_.close(ignored);
    outside_.close(ignored);
  }

 private:
  using Piece = std::array<char, kPiece>;

  // Whoever connected is told as a refused connection would be.
  void reset() {
    Code ignored;
    inside_.set_option(asio::socket_base::linger(true, 0), ignored);
    close();
  }

  void pump(tcp::socket& from, tcp::socket& to, Piece& piece) {
    from.async_read_some(asio::buffer(piece), [self = shared_from_this(), &from, &to, &piece](
                                                  const Code& error, std::size_t got) {
      if (error == asio::error::eof) {
        Code ignored;
        to.shutdown(tcp::socket::shutdown_send, ignored);
        return;
      }
      if (error) {
        return self->close();
      }
      asio::async_write(to, asio::buffer(piece.data(), got),
                        [self, &from, &to, &piece](const Code& failed, std::size_t) {
                          failed ? self->close() : self->pump(from, to, piece);
                        });
    });
  }

  tcp::socket inside_;
  tcp::socket outside_;
  std::function<void(Session*)> ended_;
  Piece out_{};
  Piece in_{};
};

class TcpCarrier : public Carrier, public std::enable_shared_from_this<TcpCarrier> {
 public:
  explicit TcpCarrier(const CarryRequest& request)
      : listener_(request.loop, request.ipv6 ? tcp::v6() : tcp::v4(), request.socket),
        rest_(request.loop),
        target_(request.target) {}

  void start() {
    listener_.async_accept([self = shared_from_this()](const Code& error, tcp::socket socket) {
      if (!self->listener_.is_open()) {
        return;
      }
      if (error) {
        return self->rest();
      }
      self->take(std::move(socket));
      self->start();
    });
  }
  void close() override {
    Code ignored;
    listener_.close(ignored);
    rest_.cancel();
    for (Session* one : sessions_) {
      one->close();
    }
  }

 private:
  void take(tcp::socket socket) {
    if (sessions_.size() >= kMostSessions) {
      return;  // closed
    }
    const auto session = std::make_shared<Session>(
        std::move(socket),
        [self = shared_from_this()](Session* one) { self->sessions_.remove(one); });
    sessions_.push_back(session.get());
    session->start(target_());
  }

  // Out of descriptors: those that are carried bring some.
  void rest() {
    rest_.expires_after(std::chrono::milliseconds(50));
    rest_.async_wait([self = shared_from_this()](const Code& error) {
      if (!error && self->listener_.is_open()) {
        self->start();
      }
    });
  }

  tcp::acceptor listener_;
  asio::steady_timer rest_;
  std::function<RelayAddress()> target_;
  std::list<Session*> sessions_;
};

class UdpCarrier : public Carrier, public std::enable_shared_from_this<UdpCarrier> {
 public:
  explicit UdpCarrier(const CarryRequest& request)
      : loop_(request.loop),
        socket_(request.loop, request.ipv6 ? udp::v6() : udp::v4(), request.socket),
        timer_(request.loop),
        target_(request.target) {
    socket_.non_blocking(true);
  }

  void start() {
    receive();
    end_idle_later();
  }
  void close() override {
    Code ignored;
    socket_.close(ignored);
    timer_.cancel();
    flows_.clear();
  }

 private:
  using Clock = std::chrono::steady_clock;
  struct Flow {
    Flow(asio::io_context& loop, udp::endpoint who) : client(std::move(who)), outside(loop) {}
    udp::endpoint client;
    udp::socket outside;
    Clock::time_point used = Clock::now();
  };

  void receive() {
    socket_.async_receive_from(asio::buffer(piece_), from_,
                               [self = shared_from_this()](const Code& error, std::size_t got) {
                                 if (!self->socket_.is_open()) {
                                   return;
                                 }
                                 if (!error) {
                                   self->hand_on(got);
                                 }
                                 self->receive();
                               });
  }

  void hand_on(std::size_t size) {
    const auto flow = flow_of(from_);
    if (flow == nullptr) {
      return;
    }
    flow->used = Clock::now();
    Code ignored;
    flow->outside.send(asio::buffer(piece_.data(), size), 0, ignored);
  }

  std::shared_ptr<Flow> flow_of(const udp::endpoint& client) {
    if (const auto found = flows_.find(client); found != flows_.end()) {
      return found->second;
    }
    const auto first = flows_.lower_bound({client.address(), 0});
    const auto last = flows_.upper_bound({client.address(), 65'535});
    const auto has = static_cast<std::size_t>(std::distance(first, last));
    if (has >= kMostFlows || flows_.size() >= kMostFlowsInAll) {
      return nullptr;
    }
    const RelayAddress target = target_();
    const auto flow = std::make_shared<Flow>(loop_, client);
    Code error;
    flow->outside.open(target.address.is_v6() ? udp::v6() : udp::v4(), error);
    if (!error) {
      flow->outside.connect({target.address, target.port}, error);
    }
    if (!error) {
      flow->outside.non_blocking(true, error);
    }
    if (error) {
      return nullptr;
    }
    flows_.emplace(client, flow);
    answer(flow);
    return flow;
  }

  void answer(const std::shared_ptr<Flow>& flow) {
    flow->outside.async_wait(
        udp::socket::wait_read, [self = shared_from_this(), flow](const Code& error) {
          if (error || !flow->outside.is_open() || !self->socket_.is_open()) {
            return;
          }
          Code failed;
          const std::size_t got = flow->outside.receive(asio::buffer(self->back_), 0, failed);
          if (!failed) {
            self->socket_.send_to(asio::buffer(self->back_.data(), got), flow->client, 0, failed);
          }
          self->answer(flow);
        });
  }

  void end_idle_later() {
    timer_.expires_after(std::chrono::seconds(1));
    timer_.async_wait([self = shared_from_this()](const Code& error) {
      if (error || !self->socket_.is_open()) {
        return;
      }
      const auto oldest = Clock::now() - std::chrono::seconds(kFlowIdleSeconds);
      std::erase_if(self->flows_, [&](const auto& one) {
        if (one.second->used >= oldest) {
          return false;
        }
        Code ignored;
        one.second->outside.close(ignored);
        return true;
      });
      self->end_idle_later();
    });
  }

  asio::io_context& loop_;
  udp::socket socket_;
  asio::steady_timer timer_;
  std::function<RelayAddress()> target_;
  udp::endpoint from_;
  std::array<char, kDatagram> piece_{};
  std::array<char, kDatagram> back_{};
  std::map<udp::endpoint, std::shared_ptr<Flow>> flows_;
};

}  // namespace

std::shared_ptr<Carrier> carry_tcp(const CarryRequest& request) {
  const auto carrier = std::make_shared<TcpCarrier>(request);
  carrier->start();
  return carrier;
}

std::shared_ptr<Carrier> carry_udp(const CarryRequest& request) {
  const auto carrier = std::make_shared<UdpCarrier>(request);
  carrier->start();
  return carrier;
}

}  // namespace cmd

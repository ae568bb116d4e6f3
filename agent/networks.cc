#include "agent/networks.h"

#include <fcntl.h>
#include <netinet/in.h>
#include <spdlog/spdlog.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <optional>
#include <sstream>

#include "agent/names.h"
#include "agent/publish.h"
#include "agent/relay.h"
#include "base/file.h"
#include "netns/namespace.h"

namespace agent {
namespace {

using base::Result;
using base::Status;
using netns::Prefix;

constexpr std::chrono::milliseconds kCountPeriod{1000};
// Between two times that the rules are changed for what names stand for, so that a sandbox whose
// names are never twice the same does not keep the thread from others.
constexpr std::chrono::milliseconds kReportsRest{10};
constexpr std::uint64_t kResolver = 0;  // the group of what is relayed for all; wires are from 1
constexpr std::uint16_t kDns = 53;

// The first that the host asks; where it names none, its own, as resolv.conf(5) says.
RelayTarget host_resolver() {
  RelayTarget target{netns::prefix("127.0.0.1"), kDns};
  const auto text = base::read_file("/etc/resolv.conf");
  std::istringstream lines(text ? *text : "");
  for (std::string line; std::getline(lines, line);) {
    std::istringstream words(line);
    std::string key;
    std::string address;
    if (words >> key >> address && key == "nameserver") {
      if (const auto parsed = netns::parse_prefix(address)) {
        target.address = *parsed;
        break;
      }
    }
  }
  return target;
}

std::uint16_t port_of(int socket) {
  sockaddr_in bound{};
  socklen_t size = sizeof bound;
  return ::getsockname(socket, reinterpret_cast<sockaddr*>(&bound), &size) == 0
             ? ntohs(bound.sin_port)
             : std::uint16_t{0};
}

}  // namespace

// What the thread works on. Ends with the last job that has it.
class Networks::Ground {
 public:
  explicit Ground(NetworksOptions options)
      : options_(std::move(options)),
        relay_(confined(options_.relay_program, -1)),
        reports_(::epoll_create1(EPOLL_CLOEXEC)) {}
  // Drained, and with all its wires detached; or at the end of a process that has failed.
  ~Ground() {
    if (router_ != nullptr) {
      router_.reset();
      (void)::unlink(options_.mark.c_str());
    }
  }
  Ground(const Ground&) = delete;
  Ground& operator=(const Ground&) = delete;

  // What one that was killed has left. A host that never had a router is not asked for its tables.
  void clear() const {
    if (::access(options_.mark.c_str(), F_OK) != 0) {
      return;
    }
    if (const auto cleared = netns::Router::clear(options_.instance); !cleared) {
      spdlog::warn("networks: what an earlier agent left: {}", cleared.error().message());
      return;
    }
    (void)::unlink(options_.mark.c_str());
  }

  Result<std::shared_ptr<const Wire>> attach(const std::shared_ptr<const Network>& network,
                                             std::uint64_t number, int pidfd) {
    const auto wire = std::make_shared<Wire>();
    wire->network = network;
    wire->number = number;
    BROOD_TRY(base::UniqueFd netns, netns::open_of_pidfd(pidfd));
    if (network->policy) {
      BROOD_CHECK(make_router());
      BROOD_TRY(Rules* const rules, rules_of(*network));
      BROOD_TRY(wire->port, router_->attach(netns.get(), rules->number));
      ++rules->wires;
    }
    if (auto status = relay_host_ports(*wire, netns.get()); !status) {
      detach(*wire);
      return base::fail(status.error());
    }
    if (wire->port) {
      wire->netns = std::move(netns);
    }
    return wire;
  }

  // From the router to the sandbox: that is a relay of its own, which connects there and nowhere
  // else.
  void publish(const Wire& wire, std::vector<Published>& sockets) {
    if (router_ == nullptr || !wire.port) {
      return;
    }
    if (!inward_) {
      inward_.emplace(confined(options_.relay_program, router_->netns_fd()));
    }
    for (Published& one : sockets) {
      const auto served =
          inward_->serve(one.udp ? RelayKind::udp : RelayKind::tcp, wire.number,
                         {wire.port->plan.address4, one.port}, std::move(one.socket));
      if (!served) {
        spdlog::error("networks: {}", served.error().message());
      }
    }
  }

  void detach(const Wire& wire) {
    relay_.forget(wire.number);
    if (inward_) {
      inward_->forget(wire.number);
    }
    if (!wire.port) {
      return;
    }
    router_->detach(*wire.port);
    const auto rules = rules_.find(wire.network->key);
    if (--rules->second.wires == 0) {
      if (const auto removed = router_->remove_policy(rules->second.number); !removed) {
        spdlog::warn("networks: a policy's rules stay: {}", removed.error().message());
      }
      rules_.erase(rules);
    }
  }

  std::optional<netns::PortCounters> count(const Wire& wire) {
    if (router_ == nullptr || !wire.port) {
      return std::nullopt;
    }
    auto counted = router_->counters(*wire.port);
    if (!counted) {
      spdlog::warn("networks: {}", counted.error().message());
      return std::nullopt;
    }
    return *counted;
  }

  base::UniqueFd reports() const {
    return base::UniqueFd(::fcntl(reports_.get(), F_DUPFD_CLOEXEC, 0));
  }

  // True: the rules were changed for it.
  bool hear() {
    bool changed = false;
    for (auto& [key, rules] : rules_) {
      if (rules.names == nullptr || rules.names->control() < 0) {
        continue;
      }
      rules.names->hear(
          [&, number = rules.number](const std::vector<netns::Admission>& admissions) {
            changed = true;
            return router_->admit(number, admissions);
          });
    }
    return changed;
  }

  std::map<std::string, netns::PortCounters> look() {
    for (Relay* relay : {&relay_, inward_ ? &*inward_ : nullptr}) {
      if (const auto alive = relay != nullptr ? relay->look_after() : Status{}; !alive) {
        spdlog::error("networks: {}", alive.error().message());
      }
    }
    if (router_ == nullptr) {
      return {};
    }
    look_after_names();
    follow_resolver();
    auto counted = router_->counters();
    if (!counted) {
      spdlog::warn("networks: {}", counted.error().message());
      return {};
    }
    return std::move(*counted);
  }

 private:
  struct Rules {
    unsigned number = 0;
    std::size_t wires = 0;
    std::unique_ptr<Names> names{};  // where the list has some
  };

  ConfinedOptions confined(const std::string& program, int netns_fd) const {
    return {.program = program,
            .empty_dir = options_.empty_dir,
            .uid = options_.relay_uid,
            .netns_fd = netns_fd};
  }

  Status make_router() {
    if (router_ != nullptr) {
      return {};
    }
    BROOD_CHECK(base::open_at(AT_FDCWD, options_.mark, O_WRONLY | O_CREAT, 0600));
    const bool ipv6 = netns::forwards(AF_INET6);
    auto made = netns::Router::make({.instance = options_.instance, .ipv6 = ipv6});
    if (!made) {
      return base::fail(std::move(made.error()).within("make the router of network nat"));
    }
    router_ = std::move(*made);
    if (auto status = serve_names(); !status) {
      router_.reset();
      relay_.forget(kResolver);
      return base::fail(std::move(status.error()).within("make the resolver of network nat"));
    }
    spdlog::info("networks: sandboxes leave by {} as {}{}", router_->host_interface(),
                 address_text(router_->outside4()),
                 ipv6 ? " and by IPv6"
                      : "; no IPv6: this host does not forward it (net.ipv6.conf.all.forwarding)");
    return {};
  }

  Status serve_names() {
    resolver_ = host_resolver();
    for (const int type : {SOCK_DGRAM, SOCK_STREAM}) {
      base::UniqueFd socket;
      const auto bind = [&]() -> Status {
        BROOD_TRY(socket, bound_socket(netns::gateway4(), kDns, type, Absent::refused));
        return {};
      };
      BROOD_CHECK(netns::run_inside(router_->netns_fd(), bind));
      BROOD_CHECK(relay_.serve(type == SOCK_DGRAM ? RelayKind::udp : RelayKind::tcp, kResolver,
                               resolver_, std::move(socket)));
    }
    return {};
  }

  // Hosts move: a laptop's resolver is another one on another network.
  void follow_resolver() {
    const RelayTarget now = host_resolver();
    if (now.address == resolver_.address) {
      return;
    }
    resolver_ = now;
    const auto told = [](const Status& status) {
      if (!status) {
        spdlog::error("networks: {}", status.error().message());
      }
    };
    told(relay_.set_target(kResolver, now));
    for (const auto& [key, rules] : rules_) {
      told(rules.names != nullptr ? rules.names->set_resolver(now) : Status{});
    }
  }

  void look_after_names() {
    for (const auto& [key, rules] : rules_) {
      auto again = rules.names != nullptr ? rules.names->look_after() : Result<bool>(false);
      if (again && *again) {
        again = listen_to(*rules.names);
      }
      if (!again) {
        spdlog::error("networks: {}", again.error().message());
      }
    }
  }

  Result<Rules*> rules_of(const Network& network) {
    if (const auto found = rules_.find(network.key); found != rules_.end()) {
      return &found->second;
    }
    const auto groups = name_groups(*network.policy);
    if (groups.empty()) {
      BROOD_TRY(const unsigned number, router_->add_policy(*network.policy));
      return &(rules_[network.key] = {.number = number});
    }
    base::UniqueFd socket;
    const auto bind = [&]() -> Status {
      BROOD_TRY(socket, bound_socket(netns::gateway4(), 0, SOCK_DGRAM, Absent::refused));
      return {};
    };
    BROOD_CHECK(netns::run_inside(router_->netns_fd(), bind));
    const std::uint16_t port = port_of(socket.get());
    auto names =
        std::make_unique<Names>(confined(options_.names_program, -1), groups, std::move(socket));
    BROOD_CHECK(names->start(resolver_));
    BROOD_CHECK(listen_to(*names));
    BROOD_TRY(const unsigned number, router_->add_policy(*network.policy, port));
    return &(rules_[network.key] = {.number = number, .wires = 0, .names = std::move(names)});
  }

  // Until its control is closed.
  Result<bool> listen_to(const Names& names) {
    epoll_event event{};
    event.events = EPOLLIN;
    if (::epoll_ctl(reports_.get(), EPOLL_CTL_ADD, names.control(), &event) != 0) {
      return base::fail_errno("epoll_ctl", "of a brood-names");
    }
    return true;
  }

  Status relay_host_ports(const Wire& wire, int netns_fd) {
    for (const std::uint16_t port : wire.network->host_ports) {
      for (const char* address : {"127.0.0.1", "::1"}) {
        base::UniqueFd socket;
        const auto bind = [&]() -> Status {
          BROOD_TRY(socket, bound_socket(netns::prefix(address), port, SOCK_STREAM, Absent::taken));
          return {};
        };
        BROOD_CHECK(netns::run_inside(netns_fd, bind));
        BROOD_CHECK(relay_.serve(RelayKind::tcp, wire.number, {netns::prefix("127.0.0.1"), port},
                                 std::move(socket)));
      }
    }
    return {};
  }

  const NetworksOptions options_;
  std::unique_ptr<netns::Router> router_;
  std::map<std::string, Rules> rules_;  // by Network::key
  Relay relay_;
  std::optional<Relay> inward_;
  RelayTarget resolver_;
  const base::UniqueFd reports_;  // the controls of all brood-names
};

Networks::Networks(boost::asio::io_context& loop, NetworksOptions options)
    : ground_(std::make_shared<Ground>(std::move(options))),
      timer_(loop),
      reports_(loop),
      rest_(loop),
      thread_(loop) {
  thread_.run([ground = ground_] { ground->clear(); });
}

Networks::~Networks() {
  finish();
}

std::string Networks::problem(const Network& network) {
  return network.policy && !netns::forwards(AF_INET)
             ? "network nat: this host hands no packets on (net.ipv4.ip_forward is 0): "
               "sysctl -w net.ipv4.ip_forward=1, and see 'brood check'"
             : std::string();
}

void Networks::attach(std::shared_ptr<const Network> network, base::UniqueFd pidfd, Attached done) {
  ++wires_;
  thread_.run([ground = ground_, network = std::move(network), number = ++last_wire_,
               pidfd = std::make_shared<base::UniqueFd>(
                   std::move(pidfd))] { return ground->attach(network, number, pidfd->get()); },
              [this, done = std::move(done)](Result<std::shared_ptr<const Wire>> wire) {
                wires_ -= wire ? 0 : 1;
                count_later();
                if (wire && !reports_.is_open() && !finished_ && (*wire)->port &&
                    (*wire)->port->plan.resolver_port != 0) {
                  reports_.assign(ground_->reports().release());
                  hear_later();
                }
                done(std::move(wire));
              });
}

void Networks::detach(std::shared_ptr<const Wire> wire) {
  --wires_;
  thread_.run([ground = ground_, wire = std::move(wire)] { ground->detach(*wire); });
}

void Networks::publish(std::shared_ptr<const Wire> wire,
                       std::shared_ptr<std::vector<Published>> sockets) {
  thread_.run([ground = ground_, wire = std::move(wire), sockets = std::move(sockets)] {
    ground->publish(*wire, *sockets);
  });
}

netns::PortCounters Networks::counters(const Wire& wire) const {
  const auto found = wire.port ? counted_.find(wire.port->plan.interface) : counted_.end();
  return found == counted_.end() ? netns::PortCounters{} : found->second;
}

void Networks::count(const std::shared_ptr<const Wire>& wire,
                     std::function<void(netns::PortCounters)> done) {
  if (finished_) {
    return done(counters(*wire));
  }
  thread_.run([ground = ground_, wire] { return ground->count(*wire); },
              [before = counters(*wire), done = std::move(done)](
                  std::optional<netns::PortCounters> counted) { done(counted.value_or(before)); });
}

void Networks::hear_later() {
  reports_.async_wait(boost::asio::posix::stream_descriptor::wait_read,
                      [this](const boost::system::error_code& error) {
                        if (!error && !finished_) {
                          hear();
                        }
                      });
}

void Networks::hear() {
  thread_.run([ground = ground_] { return ground->hear(); },
              [this](bool changed) {
                if (finished_) {
                  return;
                }
                if (!changed) {
                  return hear_later();
                }
                rest_.expires_after(kReportsRest);
                rest_.async_wait([this](const boost::system::error_code& error) {
                  if (!error && !finished_) {
                    hear_later();
                  }
                });
              });
}

void Networks::count_later() {
  if (finished_ || wires_ == 0 || std::exchange(counting_, true)) {
    return;
  }
  timer_.expires_after(kCountPeriod);
  timer_.async_wait([this](const boost::system::error_code& error) {
    if (!error && !finished_) {
      count();
    }
  });
}

void Networks::count() {
  thread_.run([ground = ground_] { return ground->look(); },
              [this](std::map<std::string, netns::PortCounters> counted) {
                counted_ = std::move(counted);
                counting_ = false;
                count_later();
              });
}

void Networks::finish() {
  if (std::exchange(finished_, true)) {
    return;
  }
  timer_.cancel();
  rest_.cancel();
  if (reports_.is_open()) {
    reports_.close();
  }
  thread_.run([ground = ground_] {});
  thread_.finish();
  ground_.reset();
}

}  // namespace agent

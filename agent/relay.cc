#include "agent/relay.h"

#include <spdlog/spdlog.h>

#include <cstring>

namespace agent {

using base::Status;

namespace {

RelayOrder order_of(RelayKind kind, std::uint64_t group, const RelayTarget& target) {
  RelayOrder order{};
  order.kind = kind;
  order.group = group;
  order.port = target.port;
  order.family = static_cast<std::uint32_t>(target.address.family);
  std::memcpy(order.address, target.address.bytes.data(), sizeof order.address);
  return order;
}

}  // namespace

Status Relay::serve(RelayKind kind, std::uint64_t group, const RelayTarget& target,
                    base::UniqueFd socket) {
  services_.push_back({order_of(kind, group, target), std::move(socket)});
  return send_or_restart(services_.back().order, services_.back().socket.get());
}

Status Relay::set_target(std::uint64_t group, const RelayTarget& target) {
  for (Service& service : services_) {
    if (service.order.group == group) {
      service.order = order_of(service.order.kind, group, target);
    }
  }
  return send_or_restart(order_of(RelayKind::target, group, target), -1);
}

void Relay::forget(std::uint64_t group) {
  const auto erased =
      std::erase_if(services_, [&](const Service& one) { return one.order.group == group; });
  if (erased > 0) {
    (void)send(order_of(RelayKind::forget, group, {}), -1);
  }
}

Status Relay::look_after() {
  if (services_.empty() || (program_.process && !program_.process.ref().ended())) {
    return {};
  }
  spdlog::warn("brood-relay has ended; it is started again");
  return start();
}

// Everything is told again: a new one knows nothing.
Status Relay::start() {
  BROOD_TRY(program_, start_confined(options_));
  for (const Service& service : services_) {
    BROOD_CHECK(send(service.order, service.socket.get()));
  }
  return {};
}

Status Relay::send_or_restart(const RelayOrder& order, int fd) {
  return program_.control && send(order, fd) ? Status{} : start();
}

Status Relay::send(const RelayOrder& order, int fd) {
  return send_message(program_.control.get(), &order, sizeof order, fd, WhenFull::wait);
}

}  // namespace agent

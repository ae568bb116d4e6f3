#include "agent/network.h"

#include <algorithm>
#include <charconv>

namespace agent {
namespace {

constexpr std::string_view kLoopbackMode = "host-loopback:";
constexpr std::size_t kMostPorts = 16;
constexpr std::size_t kMostAllowed = 64;

base::Result<std::vector<std::uint16_t>> ports_of(std::string_view text) {
  std::vector<std::uint16_t> ports;
  for (;;) {
    const auto comma = text.find(',');
    const std::string_view one = text.substr(0, comma);
    std::uint16_t port = 0;
    const auto [end, error] = std::from_chars(one.data(), one.data() + one.size(), port);
    if (error != std::errc{} || end != one.data() + one.size() || port == 0) {
      return base::fail_because("network: host-loopback takes ports, such as " +
                                std::string(kLoopbackMode) + "5432,6379");
    }
    ports.push_back(port);
    if (comma == std::string_view::npos) {
      break;
    }
    text.remove_prefix(comma + 1);
  }
  std::sort(ports.begin(), ports.end());
  ports.erase(std::unique(ports.begin(), ports.end()), ports.end());
  if (ports.size() > kMostPorts) {
    return base::fail_because("network: host-loopback takes at most 16 ports");
  }
  return ports;
}

base::Result<netns::Policy> policy_of(const NetworkSettings& settings) {
  netns::Policy policy;
  if (settings.allow.size() > kMostAllowed) {
    return base::fail_because("allow: at most 64 entries");
  }
  for (const std::string& text : settings.allow) {
    auto destination = netns::parse_destination(text);
    if (!destination) {
      return base::fail(std::move(destination.error()).within("allow"));
    }
    policy.allow.push_back(*destination);
  }
  if (settings.rate != 0 && settings.rate < netns::kLeastRate) {
    return base::fail_because("network_rate: from 128KiB a second, or 0 for no limit");
  }
  if (settings.connections < 1 || settings.connections > 65'535) {
    return base::fail_because("network_connections: from 1 to 65535");
  }
  policy.bytes_per_second = settings.rate;
  policy.connections = settings.connections;
  return policy;
}

}  // namespace

base::Result<std::shared_ptr<const Network>> network_of(const NetworkSettings& settings) {
  const auto network = std::make_shared<Network>();
  if (settings.mode == "nat") {
    BROOD_TRY(network->policy, policy_of(settings));
    network->key = key_of(*network->policy);
    return network;
  }
  if (!settings.allow.empty() || settings.rate != 0) {
    return base::fail_because("allow, network_rate: they are for network nat");
  }
  if (settings.mode == "none") {
    return nullptr;
  }
  if (!settings.mode.starts_with(kLoopbackMode)) {
    return base::fail_because(
        "network must be none, nat, or host-loopback: and ports of this host");
  }
  BROOD_TRY(network->host_ports,
            ports_of(std::string_view(settings.mode).substr(kLoopbackMode.size())));
  network->key = "host-loopback";
  for (const std::uint16_t port : network->host_ports) {
    network->key += " " + std::to_string(port);
  }
  return network;
}

}  // namespace agent

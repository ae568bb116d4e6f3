#include "agent/host_settings.h"

#include <algorithm>
#include <charconv>
#include <string_view>

namespace agent {

namespace {

// Which values are good.
enum class Want { zero, at_least_one, at_least_two, not_one, no_pipe };

struct Setting {
  const char* name;
  Want want;
  const char* good_value;
  HostLevel otherwise;
  HostLevel if_absent;  // ok: a kernel without the setting is without what it governs, too
  const char* meaning;
};

constexpr Setting kSettings[] = {
    {"kernel.unprivileged_bpf_disabled", Want::at_least_one, "2", HostLevel::warning, HostLevel::ok,
     "any local user can load BPF programs, the verifier's bugs have been a way into the kernel; "
     "sandboxes are refused bpf(2) by their seccomp filter all the same"},
    {"kernel.io_uring_disabled", Want::at_least_one, "1", HostLevel::info, HostLevel::ok,
     "processes outside of sandboxes can use io_uring, a large kernel surface; sandboxes are "
     "refused it by their seccomp filter"},
    {"vm.unprivileged_userfaultfd", Want::zero, "0", HostLevel::warning, HostLevel::ok,
     "unprivileged processes can stop the kernel in the middle of a copy, which makes races in it "
     "easy to win; sandboxes are refused userfaultfd(2) by their seccomp filter"},
    {"kernel.kptr_restrict", Want::at_least_one, "1", HostLevel::warning, HostLevel::info,
     "kernel addresses can be read from /proc, which saves an exploit its search"},
    {"kernel.dmesg_restrict", Want::at_least_one, "1", HostLevel::warning, HostLevel::info,
     "any user can read the kernel log, with addresses and other tenants' crashes in it"},
    {"kernel.yama.ptrace_scope", Want::at_least_one, "1", HostLevel::info, HostLevel::info,
     "a process may trace any other one of its user; sandboxes have a user and a pid namespace "
     "each, so this is about the host's own processes"},
    {"kernel.perf_event_paranoid", Want::at_least_two, "2", HostLevel::warning, HostLevel::ok,
     "unprivileged processes can profile the kernel; sandboxes are refused perf_event_open(2) by "
     "their seccomp filter"},
    {"kernel.core_pattern", Want::no_pipe, "core", HostLevel::warning, HostLevel::ok,
     "a crash starts this program as root on bytes that an attacker chose; sandboxes have the "
     "RLIMIT_CORE of 1 that keeps the kernel from it, and cannot change it"},
    {"fs.protected_symlinks", Want::at_least_one, "1", HostLevel::warning, HostLevel::warning,
     "links that others plant in /tmp are followed, also by root"},
    {"fs.protected_hardlinks", Want::at_least_one, "1", HostLevel::warning, HostLevel::warning,
     "users can make hard links to files that they cannot read, and wait for root to touch them"},
    {"fs.protected_fifos", Want::at_least_one, "1", HostLevel::info, HostLevel::info,
     "a program that means to create a file in /tmp can be handed another user's fifo"},
    {"fs.protected_regular", Want::at_least_one, "1", HostLevel::info, HostLevel::info,
     "a program that means to create a file in /tmp can be handed another user's file"},
    {"fs.suid_dumpable", Want::not_one, "0", HostLevel::warning, HostLevel::ok,
     "programs that changed their privileges leave core files with what they held in memory"},
    {"net.ipv4.ip_forward", Want::at_least_one, "1", HostLevel::info, HostLevel::info,
     "this host hands no packets on, so network nat is refused; other networks need nothing of it"},
    {"net.ipv6.conf.all.forwarding", Want::at_least_one, "1", HostLevel::info, HostLevel::info,
     "sandboxes with network nat have no IPv6; to forward it, a host that learns its own routes "
     "from "
     "router advertisements needs accept_ra=2 besides"},
    {"dev.tty.legacy_tiocsti", Want::zero, "0", HostLevel::info, HostLevel::info,
     "a program can type into the terminal that it was started from; sandboxes have no terminal, "
     "this is about commands that are run by hand"},
};

std::optional<long> number_of(std::string_view text) {
  long value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  return error == std::errc() && end == text.data() + text.size() ? std::optional(value)
                                                                  : std::nullopt;
}

bool is_good(Want want, const std::string& value) {
  if (want == Want::no_pipe) {
    return value.empty() || value.front() != '|';
  }
  const auto number = number_of(value);
  if (!number) {
    return false;
  }
  switch (want) {
    case Want::zero:
      return *number == 0;
    case Want::at_least_one:
      return *number >= 1;
    case Want::at_least_two:
      return *number >= 2;
    case Want::not_one:
      return *number != 1;
    case Want::no_pipe:
      break;
  }
  return false;
}

std::string mend_of(const std::string& name, const std::string& value) {
  return "sysctl -w " + name + "=" + value + ", and the same line in /etc/sysctl.d/60-brood.conf";
}

HostFinding judge(const Setting& setting, const SettingReader& read) {
  HostFinding finding{.id = std::string("sysctl.") + setting.name,
                      .title = std::string("setting ") + setting.name,
                      .level = HostLevel::ok,
                      .found = {},
                      .meaning = {},
                      .mend = {}};
  const auto value = read(setting.name);
  finding.found = value.value_or("this kernel does not have it");
  if (value && is_good(setting.want, *value)) {
    return finding;
  }
  finding.level = value ? setting.otherwise : setting.if_absent;
  if (finding.level != HostLevel::ok) {
    finding.meaning = setting.meaning;
    finding.mend = value ? mend_of(setting.name, setting.good_value)
                         : std::string("a kernel that has the setting ") + setting.name;
  }
  return finding;
}

struct InterfaceSetting {
  const char* name;
  Want want;
  const char* good_value;
  const char* meaning;
};

constexpr InterfaceSetting kInterfaceSettings[] = {
    {"rp_filter", Want::at_least_one, "1",
     "packets with a forged source address are taken in; sandboxes have a network namespace with a "
     "loopback only, so theirs do not arrive"},
    {"accept_redirects", Want::zero, "0",
     "a neighbour on the network can turn this host's routes to itself"},
    {"route_localnet", Want::zero, "0",
     "what listens on 127.0.0.1 only can be reached from the network"},
};

bool holds_for(const InterfaceSetting& setting, const SettingReader& read,
               const std::string& interface) {
  const std::string prefix = "net.ipv4.conf.";
  const auto own = read(prefix + interface + "." + setting.name);
  if (!own || is_good(setting.want, *own)) {
    return true;
  }
  // The kernel takes the greater of the interface's own rp_filter and that of "all".
  const auto all = read(prefix + "all." + setting.name);
  return setting.want == Want::at_least_one && all && is_good(setting.want, *all);
}

HostFinding judge_interfaces(const InterfaceSetting& setting, const SettingReader& read,
                             const std::vector<std::string>& interfaces) {
  HostFinding finding{.id = std::string("sysctl.net.ipv4.conf.") + setting.name,
                      .title = std::string("setting net.ipv4.conf.*.") + setting.name,
                      .level = HostLevel::ok,
                      .found = "as it should be on every interface",
                      .meaning = {},
                      .mend = {}};
  std::string wrong;
  for (const std::string& interface : interfaces) {
    if (interface != "lo" && !holds_for(setting, read, interface)) {
      wrong += (wrong.empty() ? "" : ", ") + interface;
      finding.mend += (finding.mend.empty() ? "sysctl -w" : "");
      finding.mend += " net.ipv4.conf." + interface + "." + setting.name + "=" + setting.good_value;
    }
  }
  if (!wrong.empty()) {
    finding.level = HostLevel::info;
    finding.found = "not " + std::string(setting.good_value) + " on " + wrong;
    finding.meaning = setting.meaning;
  }
  return finding;
}

}  // namespace

std::vector<HostFinding> judge_settings(const SettingReader& read,
                                        const std::vector<std::string>& interfaces) {
  std::vector<HostFinding> findings;
  for (const Setting& setting : kSettings) {
    findings.push_back(judge(setting, read));
  }
  for (const InterfaceSetting& setting : kInterfaceSettings) {
    findings.push_back(judge_interfaces(setting, read, interfaces));
  }
  return findings;
}

}  // namespace agent

#include "agent/host_check.h"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <map>
#include <optional>
#include <set>

#include "agent/host_probe.h"
#include "agent/host_settings.h"
#include "base/file.h"
#include "cgroups/cgroup.h"
#include "cgroups/hierarchy.h"
#include "tests/support/skip.h"

using agent::HostFinding;
using agent::HostLevel;

namespace {

const HostFinding& finding(const std::vector<HostFinding>& all, const std::string& id) {
  const auto found =
      std::find_if(all.begin(), all.end(), [&](const HostFinding& one) { return one.id == id; });
  INFO(id);
  REQUIRE(found != all.end());
  return *found;
}

cgroups::Hierarchy own_hierarchy() {
  return cgroups::locate(base::read_file("/proc/self/mountinfo").value(),
                         base::read_file("/proc/self/cgroup").value());
}

std::vector<std::string> cgroups_beside_this_process() {
  const auto directory = own_hierarchy().own_directory;
  std::vector<std::string> names;
  if (directory) {
    names = cgroups::Cgroup::open(*directory)->children().value();
  }
  std::erase_if(names, [](const std::string& name) { return !name.starts_with("brood-check"); });
  return names;
}

// The settings of a host on which every one is as it should be.
std::map<std::string, std::string> good_settings() {
  return {{"kernel.unprivileged_bpf_disabled", "2"},
          {"kernel.io_uring_disabled", "2"},
          {"vm.unprivileged_userfaultfd", "0"},
          {"kernel.kptr_restrict", "1"},
          {"kernel.dmesg_restrict", "1"},
          {"kernel.yama.ptrace_scope", "1"},
          {"kernel.perf_event_paranoid", "3"},
          {"kernel.core_pattern", "core"},
          {"fs.protected_symlinks", "1"},
          {"fs.protected_hardlinks", "1"},
          {"fs.protected_fifos", "2"},
          {"fs.protected_regular", "2"},
          {"fs.suid_dumpable", "2"},
          {"net.ipv4.ip_forward", "1"},
          {"net.ipv6.conf.all.forwarding", "1"},
          {"dev.tty.legacy_tiocsti", "0"},
          {"net.ipv4.conf.all.rp_filter", "1"},
          {"net.ipv4.conf.eth0.rp_filter", "0"},
          {"net.ipv4.conf.eth0.accept_redirects", "0"},
          {"net.ipv4.conf.eth0.route_localnet", "0"}};
}

std::vector<HostFinding> judge(const std::map<std::string, std::string>& settings) {
  return agent::judge_settings(
      [&](const std::string& name) -> std::optional<std::string> {
        const auto found = settings.find(name);
        return found == settings.end() ? std::nullopt : std::optional(found->second);
      },
      {"all", "eth0", "lo"});
}

}  // namespace

TEST_CASE("every finding that is not ok says what it costs and how it is mended") {
  std::set<std::string> ids;
  for (const HostFinding& one : agent::check_host()) {
    INFO(one.id);
    CHECK(ids.insert(one.id).second);
    CHECK_FALSE(one.title.empty());
    CHECK_FALSE(one.found.empty());
    if (one.level != HostLevel::ok) {
      CHECK_FALSE(one.meaning.empty());
      CHECK_FALSE(one.mend.empty());
    }
  }
  CHECK(ids.size() > 40);
}

TEST_CASE("a controller is found exactly where the kernel lists it") {
  const auto hierarchy = own_hierarchy();
  if (!hierarchy.own_directory) {
    tests::skip_because("no cgroup v2 mount shows this process");
  }
  const auto offered = cgroups::Cgroup::open(*hierarchy.own_directory)->controllers().value();
  const auto all = agent::check_host();
  for (const cgroups::Controller controller : cgroups::kControllers) {
    const auto& found = finding(all, "cgroup." + std::string(cgroups::controller_name(controller)));
    INFO(found.id << ": " << found.found);
    CHECK((found.level == HostLevel::ok) == offered.has(controller));
  }
}

TEST_CASE("controllers that cgroup v1 holds are missing, and the mend is a pure v2 boot") {
  const auto hierarchy = own_hierarchy();
  const auto& held = hierarchy.v1_controllers;
  if (std::find(held.begin(), held.end(), "memory") == held.end()) {
    tests::skip_because("no v1 hierarchy holds the memory controller here");
  }
  const auto all = agent::check_host();
  for (const char* id : {"cgroup.cpu", "cgroup.memory", "cgroup.pids"}) {
    CHECK(finding(all, id).level == HostLevel::missing);
    CHECK(finding(all, id).mend.find("cgroup_no_v1=all") != std::string::npos);
    CHECK(finding(all, id).mend.find("--limits=best-effort") != std::string::npos);
  }
  CHECK(finding(all, "cgroup.layout").level != HostLevel::ok);
}

TEST_CASE("a check leaves no mount, no cgroup and no process behind") {
  const auto mounts_before = base::read_file("/proc/self/mountinfo").value();
  const auto namespace_before = base::read_file("/proc/self/uid_map").value();
  const auto cgroup_before = base::read_file("/proc/self/cgroup").value();
  (void)agent::check_host();
  CHECK(base::read_file("/proc/self/mountinfo").value() == mounts_before);
  CHECK(base::read_file("/proc/self/uid_map").value() == namespace_before);
  CHECK(base::read_file("/proc/self/cgroup").value() == cgroup_before);
  CHECK(cgroups_beside_this_process().empty());
  CHECK(::waitpid(-1, nullptr, WNOHANG) == -1);
  CHECK(errno == ECHILD);
  // A mount made over the scratch directory would hide what is put there now.
  CHECK(::access("/tmp/lower", F_OK) != 0);
}

TEST_CASE("what the reference kernel can do is found to work") {
  tests::need_root();
  const auto all = agent::check_host();
  for (const char* id : {"mount.detached", "mount.propagation", "mount.overlay", "userns.nested"}) {
    const HostFinding& one = finding(all, id);
    INFO(one.id << ": " << one.found);
    CHECK(one.level == HostLevel::ok);
  }
}

TEST_CASE("a trial names the call that failed, and why") {
  const agent::Trial trial = agent::try_detached_mount("/no/such/directory");
  CHECK_FALSE(trial.works());
  CHECK_FALSE(trial.text().empty());
  if (::geteuid() == 0) {
    CHECK(trial.text() == "mount tmpfs: No such file or directory (ENOENT)");
  }
  CHECK(agent::try_clone_into_cgroup(-1).step == "clone3");
}

TEST_CASE("a caller without privileges is told so, and nothing breaks") {
  tests::need_root();
  const pid_t pid = ::fork();
  if (pid == 0) {
    if (::setresgid(65534, 65534, 65534) != 0 || ::setresuid(65534, 65534, 65534) != 0) {
      ::_exit(1);
    }
    const auto all = agent::check_host();
    const auto capabilities = std::find_if(all.begin(), all.end(), [](const HostFinding& one) {
      return one.id == "privilege.capabilities";
    });
    ::_exit(capabilities->level == HostLevel::missing &&
                    capabilities->found.find("CAP_SYS_ADMIN") != std::string::npos
                ? 0
                : 2);
  }
  int status = -1;
  REQUIRE(::waitpid(pid, &status, 0) == pid);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("a named cgroup that is not there is told") {
  const auto all = agent::check_host({.cgroup = "/no/such/cgroup"});
  CHECK(finding(all, "cgroup.place").level == HostLevel::missing);
  CHECK(finding(all, "cgroup.place").found.find("/no/such/cgroup") != std::string::npos);
}

TEST_CASE("a state directory that cannot be there is told by the place that is wanting") {
  const auto all = agent::check_host({.state_dir = "/proc/brood", .run_dir = "/proc/brood"});
  CHECK(finding(all, "host.disk").level == HostLevel::missing);
}

TEST_CASE("good settings have nothing said against them") {
  for (const HostFinding& one : judge(good_settings())) {
    INFO(one.id << " = " << one.found);
    CHECK(one.level == HostLevel::ok);
  }
}

TEST_CASE("each setting that is off is told with the command that mends it") {
  const std::map<std::string, std::string> bad = {{"kernel.unprivileged_bpf_disabled", "0"},
                                                  {"kernel.io_uring_disabled", "0"},
                                                  {"vm.unprivileged_userfaultfd", "1"},
                                                  {"kernel.kptr_restrict", "0"},
                                                  {"kernel.dmesg_restrict", "0"},
                                                  {"kernel.yama.ptrace_scope", "0"},
                                                  {"kernel.perf_event_paranoid", "1"},
                                                  {"kernel.core_pattern", "|/usr/bin/handler %p"},
                                                  {"fs.protected_symlinks", "0"},
                                                  {"fs.protected_hardlinks", "0"},
                                                  {"fs.protected_fifos", "0"},
                                                  {"fs.protected_regular", "0"},
                                                  {"fs.suid_dumpable", "1"},
                                                  {"net.ipv4.ip_forward", "0"},
                                                  {"net.ipv6.conf.all.forwarding", "0"},
                                                  {"dev.tty.legacy_tiocsti", "1"}};
  for (const auto& [name, value] : bad) {
    INFO(name);
    auto settings = good_settings();
    settings[name] = value;
    const auto all = judge(settings);
    const HostFinding& one = finding(all, "sysctl." + name);
    CHECK(one.level != HostLevel::ok);
    CHECK(one.found == value);
    CHECK(one.mend.find("sysctl -w " + name + "=") == 0);
    CHECK(std::count_if(all.begin(), all.end(), [](const HostFinding& other) {
            return other.level != HostLevel::ok;
          }) == 1);
  }
}

TEST_CASE("a value that is no number is not taken for a good one") {
  auto settings = good_settings();
  settings["kernel.perf_event_paranoid"] = "many";
  CHECK(finding(judge(settings), "sysctl.kernel.perf_event_paranoid").level != HostLevel::ok);
}

TEST_CASE("an interface that differs is named, and loopback is left alone") {
  auto settings = good_settings();
  settings["net.ipv4.conf.all.rp_filter"] = "0";
  settings["net.ipv4.conf.lo.rp_filter"] = "0";
  settings["net.ipv4.conf.eth0.route_localnet"] = "1";
  const auto all = judge(settings);
  const HostFinding& filter = finding(all, "sysctl.net.ipv4.conf.rp_filter");
  CHECK(filter.found == "not 1 on all, eth0");
  CHECK(filter.mend == "sysctl -w net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.eth0.rp_filter=1");
  CHECK(finding(all, "sysctl.net.ipv4.conf.route_localnet").found == "not 0 on eth0");
}

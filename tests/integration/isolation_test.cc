// What holds inside a sandbox, told by probes that run there and held against what is promised
// (docs/steps.md).
#include <arpa/inet.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/statvfs.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <cerrno>
#include <filesystem>
#include <set>

#include "base/file.h"
#include "tests/support/agent_fixture.h"

namespace {

using namespace tests;
namespace fs = std::filesystem;

const std::vector<std::string> kNamespaces = {"user", "mnt", "pid", "net", "ipc", "uts", "cgroup"};
const std::vector<std::string> kMasked = {"/proc/kcore",
                                          "/proc/keys",
                                          "/proc/key-users",
                                          "/proc/kallsyms",
                                          "/proc/kmsg",
                                          "/proc/timer_list",
                                          "/proc/sched_debug",
                                          "/proc/interrupts",
                                          "/proc/latency_stats",
                                          "/proc/sysrq-trigger",
                                          "/proc/modules",
                                          "/proc/config.gz",
                                          "/proc/cmdline",
                                          "/proc/locks",
                                          "/proc/acpi",
                                          "/proc/asound",
                                          "/proc/scsi",
                                          "/proc/bus",
                                          "/proc/fs",
                                          "/proc/irq",
                                          "/proc/driver",
                                          "/proc/tty"};

Json value_of(const Invoked& answer) {
  INFO(answer.body);
  REQUIRE(answer.ok());
  return answer.json();
}

std::string link_of(const std::string& path) {
  return fs::read_symlink(path);
}

std::string namespace_of(pid_t pid, const std::string& name) {
  return link_of("/proc/" + std::to_string(pid) + "/ns/" + name);
}

// uid_map or gid_map, as the host sees it: first inside, first outside, count.
std::vector<std::uint64_t> map_of(pid_t pid, const std::string& file) {
  std::istringstream text(base::read_file("/proc/" + std::to_string(pid) + "/" + file).value());
  std::vector<std::uint64_t> numbers;
  for (std::uint64_t number = 0; text >> number;) {
    numbers.push_back(number);
  }
  return numbers;
}

bool contains(const Json& list, const std::string& text) {
  return std::find(list.begin(), list.end(), text) != list.end();
}

TEST_CASE("a sandbox has an identity, capabilities and limits that mean nothing outside") {
  AgentFixture agent;
  agent.deploy("probe", function_source("probe.py"), {{"environment", {{"KEY", "a value"}}}});
  const Json probe = value_of(agent.invoke("probe"));
  const Json status = probe["status"];
  CHECK(status["Uid"] == "1000\t1000\t1000\t1000");
  CHECK(status["Gid"] == "1000\t1000\t1000\t1000");
  CHECK(status["Groups"] == "");
  CHECK(probe["groups"].empty());
  for (const char* set : {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"}) {
    INFO(set);
    CHECK(status[set] == "0000000000000000");
  }
  // NOROOT, NO_SETUID_FIXUP_LOCKED, KEEP_CAPS_LOCKED, NO_CAP_AMBIENT_RAISE, each locked.
  CHECK(probe["securebits"] == 0xeb);
  CHECK(status["NoNewPrivs"] == "1");
  CHECK(status["Seccomp"] == "2");
  CHECK(status["Seccomp_filters"] == "3");  // the agent's, the zygote's and its own
  CHECK(status["SigBlk"] == "0000000000000000");
  CHECK(status["Threads"] == "1");
  CHECK(status["TracerPid"] == "0");
  CHECK(status["CoreDumping"] == "0");
  CHECK(probe["pid"] == 2);
  CHECK(probe["ppid"] == 1);
  CHECK(probe["session"] == 1);
  CHECK(probe["processes"] == Json::array({2}));  // pid 1 hides
  CHECK(probe["limits"] == Json{{"CORE", {1, 1}},
                                {"NOFILE", {1024, 1024}},
                                {"MEMLOCK", {65536, 65536}},
                                {"MSGQUEUE", {65536, 65536}},
                                {"SIGPENDING", {1024, 1024}},
                                {"RTPRIO", {0, 0}},
                                {"NICE", {0, 0}}});
  CHECK(probe["umask"] == 022);
  CHECK(probe["directory"] == "/");
  CHECK(probe["hostname"] == agent.sandboxes_of("probe")[0]["id"]);
  CHECK(probe["environment"] ==
        Json{{"PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
             {"HOME", "/tmp"},
             {"TMPDIR", "/tmp"},
             {"LANG", "C.UTF-8"},
             {"BROOD_FUNCTION", "probe"},
             {"BROOD_FUNCTION_VERSION", "1"},
             {"BROOD_MEMORY_BYTES", std::to_string(128 << 20)},
             {"KEY", "a value"}});
  CHECK(probe["argv"] == Json::array({""}));
  // What the kernel keeps of the start of the interpreter is the zygote's: nothing of the host.
  CHECK(probe["initial_environment"].get<std::string>().find("BROOD_") == std::string::npos);
  CHECK(probe["command"].get<std::string>().find(agent.scratch()) == std::string::npos);
}

TEST_CASE("a sandbox has namespaces and host uids of its own") {
  AgentFixture agent;
  agent.deploy("one", function_source("probe.py"));
  agent.deploy("two", function_source("probe.py"));
  const Json one = value_of(agent.invoke("one"));
  const Json two = value_of(agent.invoke("two"));
  const Json first = agent.sandboxes_of("one")[0];
  const Json second = agent.sandboxes_of("two")[0];
  const pid_t zygote = agent.runtime()["zygote_pid"];
  for (const std::string& name : kNamespaces) {
    INFO(name);
    const std::string own = one["namespaces"][name];
    CHECK(own == namespace_of(first["pid"], name));
    CHECK(own != two["namespaces"][name]);
    CHECK(own != namespace_of(agent.pid(), name));
    CHECK(own != namespace_of(zygote, name));
    CHECK(own != link_of("/proc/self/ns/" + name));
  }
  constexpr std::uint64_t kCount = 65'536;
  for (const Json& sandbox : {first, second}) {
    const std::uint64_t host_uid = sandbox["host_uid"];
    CHECK(host_uid >= 1ULL << 31);
    for (const char* file : {"uid_map", "gid_map"}) {
      CHECK(map_of(sandbox["pid"], file) == std::vector<std::uint64_t>{0, host_uid, kCount});
    }
  }
  // No host uid is in both, nor in the zygote's own.
  const auto begin_of = [](const Json& sandbox) {
    return sandbox["host_uid"].get<std::uint64_t>();
  };
  CHECK((begin_of(first) + kCount <= begin_of(second) ||
         begin_of(second) + kCount <= begin_of(first)));
  CHECK(map_of(zygote, "uid_map")[1] + kCount <= std::min(begin_of(first), begin_of(second)));
  CHECK(one["uid_map"][2] == "65536");
  CHECK(contains(one["cgroup"], "0::/"));
}

TEST_CASE("a sandbox sees the mounts that it was given, with their flags, and no other") {
  AgentFixture agent;
  agent.deploy("probe", function_source("probe.py"));
  const Json probe = value_of(agent.invoke("probe"));

  std::multiset<std::string> expected{"/",    "/dev",      "/dev/shm",  "/proc", "/proc/sys",
                                      "/tmp", "/function", "/function", "/opt"};
  for (const std::string& path : kMasked) {
    if (fs::exists(path)) {
      expected.insert(path);
    }
  }
  std::multiset<std::string> found;
  for (const Json& mount : probe["mounts"]) {
    INFO(mount.dump());
    const std::string point = mount["point"];
    found.insert(point);
    const Json& options = mount["options"];
    const bool devices = mount["type"] == "tmpfs" && mount["source"] == "brood" &&
                         (point == "/dev" || mount["root"] == "/null");
    CHECK(contains(options, "nosuid"));
    CHECK(contains(options, "nodev") != devices);
    const bool writable =
        point == "/" || point == "/dev/shm" || point == "/tmp" || point == "/proc";
    CHECK(contains(options, writable ? "rw" : "ro"));
    const bool programs =
        point == "/" || point == "/tmp" || (point == "/function" && mount["type"] == "overlay");
    CHECK(contains(options, "noexec") != programs);
    // Nothing goes out; only the code and its layers come in.
    for (const std::string tag : mount["propagation"]) {
      CHECK((point == "/function" || point == "/opt"));
      CHECK(tag.rfind("master:", 0) == 0);
    }
    if (point == "/tmp" || point == "/dev/shm") {
      CHECK(mount["type"] == "tmpfs");
      CHECK(mount["super"].get<std::string>().find("size=65536k,nr_inodes=16384") !=
            std::string::npos);
    }
    if (point == "/proc") {
      CHECK(mount["type"] == "proc");
      CHECK(mount["super"] == "rw,hidepid=invisible");
    }
  }
  CHECK(found == expected);
  // Where things are on the host is nobody's business.
  const std::string all = probe["mounts"].dump();
  CHECK(all.find(agent.scratch()) == std::string::npos);
  CHECK(all.find("/var/lib") == std::string::npos);

  CHECK(probe["root"] == Json{"bin",   "boot",  "dev", "etc", "function", "home", "lib",
                              "lib64", "media", "mnt", "opt", "proc",     "root", "run",
                              "sbin",  "srv",   "sys", "tmp", "usr",      "var"});
  CHECK(probe["sys"].empty());
  CHECK(probe["run"].empty());
  CHECK(probe["code"] == Json{"handler.py"});
  CHECK(probe["devices"] == Json{{"/dev/null", "c 1:3 666"},
                                 {"/dev/zero", "c 1:5 666"},
                                 {"/dev/full", "c 1:7 666"},
                                 {"/dev/random", "c 1:8 666"},
                                 {"/dev/urandom", "c 1:9 666"},
                                 {"/dev/tty", "c 5:0 666"},
                                 {"/dev/stdin", "/proc/self/fd/0"},
                                 {"/dev/stdout", "/proc/self/fd/1"},
                                 {"/dev/stderr", "/proc/self/fd/2"},
                                 {"/dev/fd", "/proc/self/fd"}});

  const Json masked = value_of(agent.invoke("probe", {{"masked", kMasked}}));
  for (const auto& [path, content] : masked.items()) {
    INFO(path);
    CHECK(content == (fs::exists(path) ? "empty" : "absent"));
  }
}

TEST_CASE("a handler has four descriptors, one interface, and no way out") {
  AgentFixture agent;
  agent.deploy("probe", function_source("probe.py"));
  const Json probe = value_of(agent.invoke("probe"));
  const Json descriptors = probe["descriptors"];
  CHECK(descriptors.size() == 4);
  CHECK(descriptors["0"] == "/dev/null");
  CHECK(descriptors["1"].get<std::string>().rfind("pipe:", 0) == 0);
  CHECK(descriptors["2"] == descriptors["1"]);
  CHECK(descriptors["3"].get<std::string>().rfind("socket:", 0) == 0);
  CHECK(probe["stdin"] == "");
  constexpr int kUpLoopbackRunning = 0x1 | 0x8 | 0x40;
  CHECK(probe["interfaces"] == Json{{"lo", kUpLoopbackRunning}});
  CHECK(probe["routes"].empty());
}

TEST_CASE("every sandbox of a zygote draws its own random values") {
  AgentFixture agent;
  agent.deploy("probe", function_source("probe.py"), {{"reuse", false}});
  std::map<std::string, std::set<std::string>> drawn;
  constexpr std::size_t kSandboxes = 4;
  for (std::size_t i = 0; i < kSandboxes; ++i) {
    const Json values = value_of(agent.invoke("probe", {{"random", true}}));
    for (const auto& [what, value] : values.items()) {
      drawn[what].insert(value.get<std::string>());
    }
  }
  REQUIRE(drawn.size() == 6);
  for (const auto& [what, values] : drawn) {
    INFO(what);
    CHECK(values.size() == kSandboxes);
  }
}

TEST_CASE("nothing that one function leaves behind is there for another") {
  AgentFixture agent;
  agent.deploy("one", function_source("traces.py"));
  agent.deploy("two", function_source("traces.py"));
  const Json nothing{{"tmp", Json::array()},
                     {"shm", Json::array()},
                     {"environment", Json::array()},
                     {"builtins", nullptr},
                     {"modules", nullptr},
                     {"directory", "/"},
                     {"abstract", false},
                     {"shared memory", Json::array()}};
  CHECK(value_of(agent.invoke("one", "one")) == nothing);
  CHECK(value_of(agent.invoke("two", "two")) == nothing);
  // The same function's own are still there: its instance is kept.
  const Json kept = value_of(agent.invoke("one"));
  CHECK(kept["tmp"] == Json{"one"});
  CHECK(kept["shm"] == Json{"one"});
  CHECK(kept["environment"] == Json{"TRACE_one"});
  CHECK(kept["builtins"] == "one");
  CHECK(kept["abstract"] == true);
  // And a sandbox made after all of that has none.
  agent.deploy("three", function_source("traces.py"));
  CHECK(value_of(agent.invoke("three")) == nothing);
}

TEST_CASE(
    "reuse keeps the module of the same function, and without it every invocation has its own") {
  AgentFixture agent;
  agent.deploy("kept", function_source("probe.py"), {{"reuse", true}});
  agent.deploy("fresh", function_source("probe.py"), {{"reuse", false}});
  for (std::size_t i = 1; i <= 4; ++i) {
    const Invoked kept = agent.invoke("kept", {{"state", true}});
    CHECK(value_of(kept).size() == i);
    CHECK(kept.start == (i == 1 ? "cold" : "warm"));
    const Invoked fresh = agent.invoke("fresh", {{"state", true}});
    CHECK(value_of(fresh).size() == 1);
    CHECK(value_of(fresh)[0] == fresh.id);
    CHECK(fresh.start == "cold");
  }
}

std::uintmax_t size_of_tree(const std::string& path) {
  std::uintmax_t size = 0;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    size += entry.is_regular_file() ? entry.file_size() : 0;
  }
  return size;
}

std::uint64_t free_bytes(const char* path) {
  struct statvfs status {};
  REQUIRE(::statvfs(path, &status) == 0);
  return status.f_bfree * status.f_frsize;
}

TEST_CASE("what can be written is bounded, and is not the host's") {
  AgentFixture agent;
  const auto source = function_source("hostile.py");
  constexpr std::uint64_t kScratch = 64 << 20;
  const std::pair<const char*, const char*> orders[] = {{"/tmp", "/dev/shm"}, {"/dev/shm", "/tmp"}};
  for (const auto& [first, second] : orders) {
    INFO(first);
    agent.deploy("hostile", source, {{"memory", "256MiB"}});
    const std::uint64_t before = free_bytes("/dev/shm");
    const Json filled = value_of(agent.invoke("hostile", {{"do", "fill"}, {"folder", first}}));
    CHECK(filled["errno"] == ENOSPC);
    CHECK(filled["bytes"].get<std::uint64_t>() <= kScratch);
    CHECK(filled["bytes"].get<std::uint64_t>() >= kScratch - (4 << 20));
    // The instance still has it all.
    CHECK(size_of_tree(agent.state_dir()) < 4U << 20);
    CHECK(free_bytes("/dev/shm") + kScratch / 2 > before);
    const Json more = value_of(agent.invoke("hostile", {{"do", "fill"}, {"folder", second}}));
    CHECK(more == Json{{"errno", ENOSPC}, {"bytes", 0}});
  }
  agent.deploy("hostile", source);
  const Json files =
      value_of(agent.invoke("hostile", {{"do", "fill with files"}, {"folder", "/tmp"}}));
  CHECK(files["errno"] == ENOSPC);
  CHECK(files["files"].get<int>() < 16'384);
  CHECK(files["files"].get<int>() > 16'000);
}

// --- hostile probes ------------------------------------------------------------------------------

Json attempts(const AgentFixture& agent, const std::string& what) {
  return value_of(agent.invoke("hostile", {{"do", what}}));
}

void check_each(const Json& found, const std::map<std::string, std::set<int>>& exceptions,
                int otherwise) {
  for (const auto& [what, error] : found.items()) {
    INFO(what << ": " << error);
    const auto exception = exceptions.find(what);
    if (exception != exceptions.end()) {
      CHECK(exception->second.count(error.get<int>()) == 1);
    } else {
      CHECK(error == otherwise);
    }
  }
  for (const auto& [what, errors] : exceptions) {
    INFO(what);
    CHECK(found.contains(what));
  }
}

TEST_CASE("hostile: system calls that make, enter or change what isolates are refused") {
  AgentFixture agent;
  agent.deploy("hostile", function_source("hostile.py"));
  const Json found = attempts(agent, "calls");
  CHECK(found.size() == 65);
  check_each(found,
             {{"clone3", {ENOSYS}},
              {"io_uring_setup", {ENOSYS}},
              {"personality", {ENOSYS}},
              {"unknown", {ENOSYS}},
              {"prctl securebits", {ENOSYS}},
              {"prctl ambient", {ENOSYS}},
              {"prctl mm", {ENOSYS}},
              {"prctl bounding set", {ENOSYS}}},
             EPERM);
}

TEST_CASE("hostile: nobody becomes somebody else, and no limit is raised") {
  AgentFixture agent;
  agent.deploy("hostile", function_source("hostile.py"));
  check_each(attempts(agent, "identity"),
             {{"lock memory", {ENOMEM, EPERM}}, {"oom score", {EACCES, EPERM}}}, EPERM);
}

TEST_CASE("hostile: files that are not the sandbox's own cannot be written or found") {
  AgentFixture agent;
  agent.deploy("hostile", function_source("hostile.py"));
  check_each(attempts(agent, "files"),
             {{"create in /dev", {EROFS, EACCES}},
              {"create in /function", {EROFS}},
              {"create in /proc", {ENOENT, EACCES}},
              {"write the handler", {EROFS, EACCES}},
              {"remove the handler", {EROFS}},
              {"chmod the handler", {EROFS}},
              {"move /function", {EXDEV, EACCES, EBUSY}},
              {"sysctl hostname", {EACCES, EROFS}},
              {"sysctl core_pattern", {EACCES, EROFS}},
              {"sysctl ip_forward", {EACCES, EROFS, ENOENT}},
              {"pid 1 memory", {ENOENT}},
              {"pid 1 environment", {ENOENT}},
              {"pid 1 root", {ENOENT}},
              {"terminal", {ENXIO}},
              {"physical memory", {ENOENT}},
              {"kernel memory", {ENOENT, ENODATA}},
              {"disk", {ENOENT}},
              {"cgroups", {ENOENT}},
              {"debugfs", {ENOENT}}},
             EACCES);
  const Json probe = attempts(agent, "files");
  CHECK(probe["create in "] == EACCES);
}

TEST_CASE("hostile: no socket reaches the host, and few kinds can be made") {
  AgentFixture agent;
  agent.deploy("hostile", function_source("hostile.py"));
  // Both are open to anyone in the host's network namespace.
  const base::UniqueFd abstract(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  const std::string name = "brood-test-" + std::to_string(::getpid());
  sockaddr_un path{};
  path.sun_family = AF_UNIX;
  name.copy(path.sun_path + 1, sizeof path.sun_path - 1);
  const auto size = static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + 1 + name.size());
  REQUIRE(::bind(abstract.get(), reinterpret_cast<sockaddr*>(&path), size) == 0);
  REQUIRE(::listen(abstract.get(), 1) == 0);
  const base::UniqueFd local(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
  sockaddr_in port{};
  socklen_t port_size = sizeof port;
  port.sin_family = AF_INET;
  port.sin_addr.s_addr = ::htonl(INADDR_LOOPBACK);
  REQUIRE(::bind(local.get(), reinterpret_cast<sockaddr*>(&port), sizeof port) == 0);
  REQUIRE(::listen(local.get(), 1) == 0);
  REQUIRE(::getsockname(local.get(), reinterpret_cast<sockaddr*>(&port), &port_size) == 0);

  const Json found = value_of(agent.invoke(
      "hostile",
      {{"do", "sockets"}, {"abstract", name}, {"port", static_cast<int>(::ntohs(port.sin_port))}}));
  check_each(found,
             {{"unix", {0}},
              {"inet", {0}},
              {"route netlink", {0}},
              {"raw", {EPERM}},
              {"netfilter netlink", {EPROTONOSUPPORT}},
              {"audit netlink", {EPROTONOSUPPORT}},
              {"uevent netlink", {EPROTONOSUPPORT}},
              // Landlock, where it knows of abstract sockets, refuses before the namespace does.
              {"host's abstract socket", {ECONNREFUSED, EPERM}},
              {"host's port", {ECONNREFUSED}},
              {"outside", {ENETUNREACH}}},
             EAFNOSUPPORT);
}

TEST_CASE("hostile: pid 1 cannot be ended or stopped from inside, and nobody else is there") {
  AgentFixture agent;
  agent.deploy("hostile", function_source("hostile.py"));
  check_each(attempts(agent, "processes"), {{"kill pid 1", {0, EPERM}}, {"stop pid 1", {0, EPERM}}},
             ESRCH);
  const Json sandbox = agent.sandboxes_of("hostile")[0];
  const std::string stat =
      base::read_file("/proc/" + std::to_string(sandbox["pid"].get<pid_t>()) + "/stat").value();
  CHECK(stat[stat.rfind(')') + 2] == 'S');
  CHECK(agent.invoke("hostile", {{"do", "processes"}}).start == "warm");
}

}  // namespace

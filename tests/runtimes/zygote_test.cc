// A real zygote that forks real clones, with a plan of few steps: enough to see processes, sockets
// and descriptors. What the whole plan isolates is tests/integration's to see.
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <csignal>
#include <cstring>
#include <fstream>
#include <map>
#include <string>

#include "base/file.h"
#include "isolate/plan.h"
#include "tests/runtimes/python_process.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

using Catch::Contains;

namespace {

struct Received {
  std::string bytes;
  base::UniqueFd fd;
};

Received receive(int socket) {
  pollfd poll{.fd = socket, .events = POLLIN, .revents = 0};
  if (::poll(&poll, 1, 10'000) != 1) {
    throw std::runtime_error("nothing came on a control socket");
  }
  char bytes[1024];
  alignas(cmsghdr) char ancillary[CMSG_SPACE(sizeof(int))];
  iovec piece{bytes, sizeof bytes};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  message.msg_control = ancillary;
  message.msg_controllen = sizeof ancillary;
  const ssize_t got = ::recvmsg(socket, &message, MSG_CMSG_CLOEXEC);
  Received received{std::string(bytes, got > 0 ? static_cast<std::size_t>(got) : 0), {}};
  if (const cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr) {
    int fd = -1;
    std::memcpy(&fd, CMSG_DATA(part), sizeof fd);
    received.fd.reset(fd);
  }
  return received;
}

void send_control(int socket, const brood_control& control, const std::vector<int>& fds) {
  iovec piece{const_cast<brood_control*>(&control), sizeof control};
  alignas(cmsghdr) char ancillary[CMSG_SPACE(BROOD_SPAWN_FD_COUNT * sizeof(int))]{};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  if (!fds.empty()) {
    message.msg_control = ancillary;
    message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
    cmsghdr* part = CMSG_FIRSTHDR(&message);
    part->cmsg_level = SOL_SOCKET;
    part->cmsg_type = SCM_RIGHTS;
    part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
    std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
  }
  REQUIRE(::sendmsg(socket, &message, MSG_NOSIGNAL) == sizeof control);
}

// The cgroup that this process is in: joining it changes nothing.
base::UniqueFd own_cgroup() {
  std::string path;
  std::string line;
  for (std::ifstream file("/proc/self/cgroup"); std::getline(file, line);) {
    if (line.rfind("0::", 0) == 0) {
      path = line.substr(3);
    }
  }
  for (const char* root : {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"}) {
    if (::access((std::string(root) + "/cgroup.controllers").c_str(), F_OK) == 0) {
      return base::UniqueFd(::open((root + path).c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
    }
  }
  return {};
}

base::UniqueFd sealed(const isolate::Plan& plan) {
  base::UniqueFd fd(::memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  REQUIRE(::write(fd.get(), &plan, sizeof plan) == sizeof plan);
  REQUIRE(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW) == 0);
  return fd;
}

isolate::Plan small_plan() {
  isolate::Plan plan{};
  plan.magic = isolate::kPlanMagic;
  plan.version = isolate::kPlanVersion;
  plan.clone_flags = CLONE_NEWUSER | CLONE_NEWPID | CLONE_NEWUTS;
  for (const isolate::Step step :
       {isolate::Step::identity, isolate::Step::session, isolate::Step::hostname,
        isolate::Step::no_new_privileges, isolate::Step::undumpable}) {
    plan.steps[plan.step_count++] = step;
  }
  return plan;
}

// The agent's ends of one sandbox.
struct Sandbox {
  base::UniqueFd supervisor;
  base::UniqueFd log;
  base::UniqueFd pidfd;
  std::optional<tests::Conn> conn;
};

class Zygote {
 public:
  explicit Zygote(const std::vector<std::string>& arguments = {BROOD_PYTHON_SUPPORT "/zygote.py"}) {
    const base::UniqueFd null(::open("/dev/null", O_RDONLY | O_CLOEXEC));
    tests::Pair control = tests::socket_pair(SOCK_SEQPACKET);
    tests::Pair output = tests::pipe_pair();
    python_ = tests::start_python(
        arguments, {null.get(), output.theirs.get(), output.theirs.get(), control.theirs.get()});
    control_ = std::move(control.ours);
    output_ = std::move(output.ours);
  }

  void boot() {
    const brood_control booted = next().first;
    REQUIRE(booted.kind == BROOD_BOOTED);
    CHECK(booted.value == BROOD_WIRE_VERSION);
    CHECK_THAT(std::string(booted.text), Contains("3."));
    const base::UniqueFd plan = sealed(small_plan());
    send_control(control_.get(), agent::control_message(BROOD_CONFIGURE), {plan.get()});
  }

  std::pair<brood_control, base::UniqueFd> next() {
    Received received = receive(control_.get());
    auto decoded = agent::decode_control(received.bytes);
    if (!decoded) {
      throw std::runtime_error(decoded.error().message() + ": " + output());
    }
    return {*decoded, std::move(received.fd)};
  }

  // Orders a sandbox; the caller takes the zygote's answer.
  Sandbox order(std::uint64_t number, int cgroup) {
    tests::Pair conn = tests::socket_pair(SOCK_STREAM);
    tests::Pair supervisor = tests::socket_pair(SOCK_SEQPACKET);
    tests::Pair log = tests::pipe_pair();
    const base::UniqueFd code(::open("/", O_PATH | O_CLOEXEC));
    const auto message = agent::spawn_message(
        {.sandbox = number, .uid_first = 200'000, .uid_count = 1000, .hostname = "unit"});
    send_control(control_.get(), message.value(),
                 {conn.theirs.get(), supervisor.theirs.get(), log.theirs.get(), code.get(), cgroup,
                  code.get(), code.get()});
    return {std::move(supervisor.ours), std::move(log.ours), {}, tests::Conn(std::move(conn.ours))};
  }

  // A sandbox that is ready to be bound.
  Sandbox spawn(std::uint64_t number) {
    const base::UniqueFd cgroup = own_cgroup();
    Sandbox sandbox = order(number, cgroup.get());
    auto [answer, pidfd] = next();
    INFO(answer.text);
    REQUIRE(answer.kind == BROOD_SPAWNED);
    CHECK(answer.sandbox == number);
    sandbox.pidfd = std::move(pidfd);
    const auto report = agent::decode_supervisor(receive(sandbox.supervisor.get()).bytes);
    REQUIRE(report);
    CHECK(std::get<brood_setup_report>(*report).steps_done == small_plan().step_count);
    REQUIRE(sandbox.conn->next().kind == BROOD_FRAME_READY);
    return sandbox;
  }

  void send(const brood_control& control, const std::vector<int>& fds = {}) {
    send_control(control_.get(), control, fds);
  }
  void close_control() { control_.reset(); }
  base::ProcessEnd wait() { return python_.wait().value(); }
  std::string output() {
    return tests::read_until_quiet(output_.get(), std::chrono::milliseconds(100));
  }

 private:
  base::OwnedPid python_;
  base::UniqueFd control_;
  base::UniqueFd output_;
};

// Binds `sandbox` to a handler of this source and calls it once; its answer or its error's text.
std::string call(Sandbox& sandbox, const std::string& source) {
  const std::string code = tests::marshalled(source, "/function/handler.py");
  agent::Gather gather;
  REQUIRE(gather.bind(
      {.function = "f",
       .handler = "handler.main",
       .environment = {},
       .code = code,
       .limits = {.memory_bytes = 1 << 26, .response_bytes = 1 << 20, .pids = 9, .version = 1}}));
  REQUIRE(gather.invoke({.invocation = 1,
                         .deadline_ns = 1LL << 62,
                         .id = "i",
                         .content_type = "application/json",
                         .payload = "1",
                         .flags = BROOD_FLAG_JSON}));
  sandbox.conn->send(gather);
  REQUIRE(sandbox.conn->next().kind == BROOD_FRAME_LOADED);
  return sandbox.conn->next().parts[1];
}

brood_handler_end end_of(const Sandbox& sandbox) {
  const auto end = agent::decode_supervisor(receive(sandbox.supervisor.get()).bytes);
  REQUIRE(end);
  return std::get<brood_handler_end>(*end);
}

// Writing the maps of a child needs CAP_SETUID.
void need_namespaces() {
  tests::need_root();
  if (!own_cgroup()) {
    tests::skip_because("needs a cgroup2 hierarchy");
  }
}

}  // namespace

TEST_CASE("a zygote boots, and stops when told to or when its agent is gone") {
  Zygote zygote;
  zygote.boot();
  SECTION("told") {
    zygote.send(agent::control_message(BROOD_STOP));
  }
  SECTION("alone") {
    zygote.close_control();
  }
  CHECK(zygote.wait().exited_with(0));
}

TEST_CASE("a zygote refuses a plan that is none, or that could change under it") {
  Zygote zygote;
  REQUIRE(zygote.next().first.kind == BROOD_BOOTED);
  SECTION("none") {
    isolate::Plan plan = small_plan();
    plan.version += 1;
    const base::UniqueFd fd = sealed(plan);
    zygote.send(agent::control_message(BROOD_CONFIGURE), {fd.get()});
    CHECK_THAT(zygote.output(), Contains("not a plan of this version"));
  }
  SECTION("unsealed") {
    const base::UniqueFd fd(::memfd_create("plan", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    const isolate::Plan plan = small_plan();
    REQUIRE(::write(fd.get(), &plan, sizeof plan) == sizeof plan);
    zygote.send(agent::control_message(BROOD_CONFIGURE), {fd.get()});
    CHECK_THAT(zygote.output(), Contains("not sealed"));
  }
  CHECK(zygote.wait().exited_with(1));
}

TEST_CASE("a preload that an image lacks ends the zygote and is named") {
  Zygote zygote({BROOD_PYTHON_SUPPORT "/zygote.py", "--preload", "no_such_module"});
  CHECK(zygote.wait().exited_with(1));
  CHECK_THAT(zygote.output(), Contains("No module named 'no_such_module'"));
}

TEST_CASE("a zygote with a thread refuses to fork and says why", "[root]") {
  need_namespaces();
  const tests::ScratchDirectory modules;
  REQUIRE(base::replace_file_at(
      modules.fd(), "threaded.py",
      "import threading, time\n"
      "threading.Thread(target=time.sleep, args=(60,), daemon=True).start()\n",
      0644));
  Zygote zygote({"-c",
                 "import sys, runpy\n"
                 "sys.path.insert(0, sys.argv[1])\n"
                 "program = sys.argv[2]\n"
                 "sys.argv = [program, '--preload', 'threaded']\n"
                 "runpy.run_path(program, run_name='__main__')\n",
                 modules.path(), BROOD_PYTHON_SUPPORT "/zygote.py"});
  zygote.boot();
  const base::UniqueFd cgroup = own_cgroup();
  const Sandbox sandbox = zygote.order(8, cgroup.get());
  const brood_control answer = zygote.next().first;
  CHECK(answer.kind == BROOD_SPAWN_FAILED);
  CHECK(answer.sandbox == 8);
  CHECK(answer.value == EBUSY);
  CHECK_THAT(std::string(answer.text), Contains("has 2 threads"));
}

TEST_CASE("a fork that fails is told, and the next one works", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  const base::UniqueFd no_cgroup(::open("/dev/null", O_RDONLY | O_CLOEXEC));
  const Sandbox failed = zygote.order(8, no_cgroup.get());
  const brood_control answer = zygote.next().first;
  CHECK(answer.kind == BROOD_SPAWN_FAILED);
  CHECK(answer.value == EBADF);
  CHECK_THAT(std::string(answer.text), Contains("cgroup"));
  Sandbox sandbox = zygote.spawn(9);
  CHECK(call(sandbox, "def main(e, c): return 5\n") == "5");
}

TEST_CASE("a sandbox's handler is process 2 of its namespace, with its own socket and nothing else",
          "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  Sandbox sandbox = zygote.spawn(1);
  CHECK(call(sandbox,
             "import os, signal\n"
             "def main(e, c):\n"
             "    fds = sorted(int(n) for n in os.listdir('/proc/self/fd'))\n"
             "    names = [os.readlink('/proc/self/fd/%d' % n).split(':')[0] for n in fds[:4]]\n"
             "    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])\n"
             "    return [os.getpid(), os.getppid(), os.uname().nodename, names, len(fds),\n"
             "            os.get_inheritable(3), sorted(mask)]\n") ==
        R"([2,1,"unit",["/dev/null","pipe","pipe","socket"],5,false,[]])");
}

TEST_CASE("pid 1 tells how the handler's process ended, and leaves", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  Sandbox sandbox = zygote.spawn(3);
  std::string source;
  int code = 0;
  int status = 0;
  SECTION("by itself") {
    source = "import os\ndef main(e, c): os._exit(7)\n";
    code = CLD_EXITED;
    status = 7;
  }
  SECTION("by a signal") {
    source = "import os\ndef main(e, c): os.kill(os.getpid(), 9)\n";
    code = CLD_KILLED;
    status = SIGKILL;
  }
  SECTION("leaving children behind") {
    source =
        "import os, time\n"
        "def main(e, c):\n"
        "    if os.fork() == 0: time.sleep(60)\n"
        "    os._exit(0)\n";
    code = CLD_EXITED;
  }
  CHECK_THROWS_WITH(call(sandbox, source), Contains("closed its socket"));
  const brood_handler_end end = end_of(sandbox);
  CHECK(end.code == code);
  CHECK(end.status == status);
  CHECK(end.max_rss_kib > 1000);
  const brood_control exited = zygote.next().first;
  CHECK(exited.kind == BROOD_EXITED);
  CHECK(exited.sandbox == 3);
  CHECK(exited.value == 0);
  CHECK(base::PidRef(0, std::move(sandbox.pidfd)).ended());
}

TEST_CASE("a handler can neither end nor trace its pid 1", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  Sandbox sandbox = zygote.spawn(4);
  CHECK(call(sandbox,
             "import ctypes, errno, os, signal\n"
             "def main(e, c):\n"
             "    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV, signal.SIGINT):\n"
             "        os.kill(1, number)\n"
             "    libc = ctypes.CDLL(None, use_errno=True)\n"
             "    attached = libc.ptrace(16, 1, None, None)\n"
             "    return [attached, ctypes.get_errno() == errno.EPERM]\n") == "[-1,true]");
}

TEST_CASE("forks of one zygote share no randomness", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  const std::string source =
      "import random, uuid, ssl, tempfile, os\n"
      "def main(e, c):\n"
      "    return [random.random(), str(uuid.uuid4()), uuid.getnode(), ssl.RAND_bytes(8).hex(),\n"
      "            next(tempfile._get_candidate_names()), os.urandom(8).hex()]\n";
  Sandbox first = zygote.spawn(1);
  Sandbox second = zygote.spawn(2);
  const std::string program =
      "import json, sys\n"
      "a, b = (json.loads(text) for text in sys.argv[1:])\n"
      // the node is the host's where a card is in sight: same network namespace here
      "sys.exit(','.join(str(i) for i, (x, y) in enumerate(zip(a, b)) if x == y and i != 2) or "
      "0)\n";
  const tests::Finished compared =
      tests::run_python({"-c", program, call(first, source), call(second, source)});
  INFO(compared.output);
  CHECK(compared.end.exited_with(0));
}

TEST_CASE("sandboxes outlive the zygote that made them", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  Sandbox sandbox = zygote.spawn(1);
  zygote.send(agent::control_message(BROOD_STOP));
  CHECK(zygote.wait().exited_with(0));
  CHECK(call(sandbox, "def main(e, c): return 'alive'\n") == "\"alive\"");
  sandbox.conn->close();
  CHECK(end_of(sandbox).code == CLD_EXITED);
}

TEST_CASE("a set-up that fails is reported with its step", "[root]") {
  need_namespaces();
  Zygote zygote;
  zygote.boot();
  isolate::Plan plan = small_plan();
  plan.steps[2] = isolate::Step::attach_root;  // of a descriptor that is none
  const base::UniqueFd fd = sealed(plan);
  zygote.send(agent::control_message(BROOD_CONFIGURE), {fd.get()});
  const base::UniqueFd cgroup = own_cgroup();
  Sandbox sandbox = zygote.order(6, cgroup.get());
  CHECK(zygote.next().first.kind == BROOD_SPAWNED);
  const auto report = agent::decode_supervisor(receive(sandbox.supervisor.get()).bytes);
  REQUIRE(report);
  CHECK(std::get<brood_setup_report>(*report).step ==
        static_cast<std::uint32_t>(isolate::Step::attach_root));
  CHECK(std::get<brood_setup_report>(*report).error != 0);
  CHECK(zygote.next().first.kind == BROOD_EXITED);
}

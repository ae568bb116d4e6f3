#include "rootfs/mounts.h"

#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <chrono>
#include <cstring>
#include <functional>
#include <sstream>

#include "base/file.h"
#include "base/process.h"
#include "base/syscalls.h"
#include "tests/support/scratch.h"
#include "tests/support/skip.h"

namespace {

using base::UniqueFd;

// Every case has mounts of its own, which end with it even where it fails.
void need_own_mounts() {
  tests::need_root();
  const auto entered = rootfs::enter_own_mount_namespace();
  if (!entered) {
    tests::skip_because(entered.error().message());
  }
}

int errno_of_create(int dir_fd, const char* name) {
  const UniqueFd file(::openat(dir_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
  return file ? 0 : errno;
}

unsigned long mount_flags(int fd) {
  struct statvfs status {};
  REQUIRE(::fstatvfs(fd, &status) == 0);
  return status.f_flag;
}

// A child in user and mount namespaces of its own, as a sandbox has them. `body` runs there and
// prints what it sees; it is root of its user namespace, more than any sandbox's tenant.
class Inside {
 public:
  using Body = std::function<void(std::ostream& out, const std::function<void()>& wait)>;

  explicit Inside(const Body& body) {
    REQUIRE(::pipe2(to_child_, O_CLOEXEC) == 0);
    REQUIRE(::pipe2(from_child_, O_CLOEXEC) == 0);
    const pid_t pid = ::fork();
    REQUIRE(pid >= 0);
    if (pid == 0) {
      run(body);
    }
    child_ = base::OwnedPid(pid, UniqueFd(base::pidfd_open(pid)));
    ::close(to_child_[0]);
    ::close(from_child_[1]);
    char ready = 0;
    REQUIRE(::read(from_child_[0], &ready, 1) == 1);
  }
  ~Inside() {
    ::close(to_child_[1]);
    ::close(from_child_[0]);
  }
  Inside(const Inside&) = delete;
  Inside& operator=(const Inside&) = delete;

  // Lets the child go on, and returns everything that it printed.
  std::string finish() {
    REQUIRE(::write(to_child_[1], "g", 1) == 1);
    std::string text;
    char buffer[4096];
    for (ssize_t got = 0; (got = ::read(from_child_[0], buffer, sizeof buffer)) > 0;) {
      text.append(buffer, static_cast<std::size_t>(got));
    }
    const auto end = child_.wait();
    REQUIRE(end);
    CHECK(end->exited_with(0));
    return text;
  }

 private:
  [[noreturn]] void run(const Body& body) {
    if (::unshare(CLONE_NEWUSER | CLONE_NEWNS) != 0 ||
        !base::write_control_at(AT_FDCWD, "/proc/self/setgroups", "deny") ||
        !base::write_control_at(AT_FDCWD, "/proc/self/uid_map", "0 0 1") ||
        !base::write_control_at(AT_FDCWD, "/proc/self/gid_map", "0 0 1")) {
      ::_exit(101);
    }
    std::ostringstream out;
    body(out, [this] {
      char go = 0;
      if (::write(from_child_[1], "r", 1) != 1 || ::read(to_child_[0], &go, 1) != 1) {
        ::_exit(102);
      }
    });
    const bool told = base::write_all(from_child_[1], out.str()).has_value();
    ::_exit(told ? 0 : 103);
  }

  int to_child_[2]{};
  int from_child_[2]{};
  base::OwnedPid child_;
};

void move_to(int mount_fd, const std::string& place) {
  if (::move_mount(mount_fd, "", AT_FDCWD, place.c_str(), MOVE_MOUNT_F_EMPTY_PATH) != 0) {
    ::_exit(104);
  }
}

void drop_all_capabilities() {
  __user_cap_header_struct header{_LINUX_CAPABILITY_VERSION_3, 0};
  const __user_cap_data_struct none[2]{};
  if (::syscall(SYS_capset, &header, none) != 0) {
    ::_exit(105);
  }
}

std::string mountinfo_of(const std::string& place) {
  std::istringstream lines(base::read_file("/proc/self/mountinfo").value());
  std::string found;
  for (std::string line; std::getline(lines, line);) {
    if (line.find(" " + place + " ") != std::string::npos) {
      found += line + "\n";
    }
  }
  return found;
}

// A code directory with one file, the place for slots, and the code held there.
struct Bench {
  tests::ScratchDirectory scratch;
  UniqueFd code_directory;
  rootfs::CodeSlots slots;
  rootfs::HeldMount code;
  std::string inside;  // where the sandbox puts its end

  Bench() : slots(make_slots()) {
    REQUIRE(base::replace_file_at(scratch.fd(), "store/handler.py", "x = 1\n", 0644));
    code_directory = base::open_at(scratch.fd(), "store", O_PATH | O_DIRECTORY).value();
    auto made = slots.code(code_directory.get());
    INFO((made ? "" : made.error().message()));
    REQUIRE(made);
    code = std::move(*made);
    inside = scratch.path() + "/inside";
  }

 private:
  rootfs::CodeSlots make_slots() const {
    for (const char* name : {"store", "slots", "inside", "neighbour"}) {
      REQUIRE(::mkdirat(scratch.fd(), name, 0755) == 0);
    }
    return rootfs::CodeSlots::make(scratch.path() + "/slots").value();
  }
};

}  // namespace

TEST_CASE("the device file system has the devices that work, and takes no others") {
  need_own_mounts();
  const auto mount = rootfs::device_tmpfs();
  INFO((mount ? "" : mount.error().message()));
  REQUIRE(mount);
  const UniqueFd null = base::open_at(mount->get(), "null", O_RDWR).value();
  CHECK(::write(null.get(), "x", 1) == 1);
  char byte = 1;
  const UniqueFd zero = base::open_at(mount->get(), "zero", O_RDONLY).value();
  CHECK(::read(zero.get(), &byte, 1) == 1);
  CHECK(byte == 0);
  for (const char* name : {"null", "zero", "full", "random", "urandom", "tty"}) {
    struct stat status {};
    INFO(name);
    REQUIRE(::fstatat(mount->get(), name, &status, 0) == 0);
    CHECK(status.st_mode == (S_IFCHR | 0666));
  }
  for (const char* name : {"ptmx", "pts", "console", "mem", "kmsg"}) {
    INFO(name);
    CHECK(::faccessat(mount->get(), name, F_OK, AT_SYMLINK_NOFOLLOW) != 0);
  }
  CHECK(errno_of_create(mount->get(), "new") == EROFS);
  CHECK(::mknodat(mount->get(), "sda", S_IFBLK | 0600, makedev(8, 0)) != 0);
  CHECK((mount_flags(mount->get()) & (ST_NOSUID | ST_NOEXEC | ST_RDONLY)) ==
        (ST_NOSUID | ST_NOEXEC | ST_RDONLY));
}

TEST_CASE("the run file system has the mount points asked for and cannot be written") {
  need_own_mounts();
  const auto mount = rootfs::run_tmpfs({"brood", "lock"});
  REQUIRE(mount);
  CHECK(base::open_at(mount->get(), "brood", O_RDONLY | O_DIRECTORY));
  CHECK(base::open_at(mount->get(), "lock", O_RDONLY | O_DIRECTORY));
  CHECK(errno_of_create(mount->get(), "brood/file") == EROFS);
  CHECK((mount_flags(mount->get()) & ST_NODEV) != 0);
}

TEST_CASE("a cloned tree has the flags it was asked for, and its original keeps its own") {
  need_own_mounts();
  const tests::ScratchDirectory scratch;
  const auto clone = rootfs::clone_tree(
      scratch.fd(), {.read_only = true, .nosuid = true, .nodev = true, .noexec = true});
  REQUIRE(clone);
  constexpr unsigned long kAll = ST_RDONLY | ST_NOSUID | ST_NODEV | ST_NOEXEC;
  CHECK((mount_flags(clone->get()) & kAll) == kAll);
  CHECK(errno_of_create(clone->get(), "a") == EROFS);
  CHECK(errno_of_create(scratch.fd(), "a") == 0);
  CHECK(base::open_at(clone->get(), "a", O_RDONLY));
}

TEST_CASE("code that is attached appears in a sandbox that runs already") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    const std::string file = bench.inside + "/handler.py";
    out << "before " << ::access(file.c_str(), F_OK) << "\n";
    wait();
    out << "after " << base::read_file(file).value_or("nothing");
    const UniqueFd directory = base::open_at(AT_FDCWD, bench.inside, O_RDONLY).value();
    out << "create " << errno_of_create(directory.get(), "new") << "\n";
    out << "write " << errno_of_create(directory.get(), "handler.py") << "\n";
  });
  REQUIRE(slot.attach(bench.code));
  const std::string seen = sandbox.finish();
  CHECK(seen == "before -1\nafter x = 1\ncreate " + std::to_string(EROFS) + "\nwrite " +
                    std::to_string(EROFS) + "\n");
}

TEST_CASE("root of a sandbox's own namespaces cannot make its code writable") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    wait();
    out << "remount "
        << ::mount(nullptr, bench.inside.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr) << "\n";
    for (const std::uint64_t flag : {MOUNT_ATTR_RDONLY, MOUNT_ATTR_NOSUID, MOUNT_ATTR_NODEV}) {
      struct mount_attr attributes {};
      attributes.attr_clr = flag;
      out << "clear "
          << ::mount_setattr(AT_FDCWD, bench.inside.c_str(), 0, &attributes, sizeof attributes)
          << "\n";
    }
    const UniqueFd directory = base::open_at(AT_FDCWD, bench.inside, O_RDONLY).value();
    out << "create " << errno_of_create(directory.get(), "new") << "\n";
  });
  REQUIRE(slot.attach(bench.code));
  CHECK(sandbox.finish() ==
        "remount -1\nclear -1\nclear -1\nclear -1\ncreate " + std::to_string(EROFS) + "\n");
}

TEST_CASE("a sandbox without capabilities cannot take its code off") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    drop_all_capabilities();
    wait();
    out << "umount " << ::umount2(bench.inside.c_str(), 0) << "\n";
    out << "detach " << ::umount2(bench.inside.c_str(), MNT_DETACH) << "\n";
    out << "still " << ::access((bench.inside + "/handler.py").c_str(), F_OK) << "\n";
  });
  REQUIRE(slot.attach(bench.code));
  CHECK(sandbox.finish() == "umount -1\ndetach -1\nstill 0\n");
}

TEST_CASE("a sandbox's list of mounts shows no path of the host") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    wait();
    out << mountinfo_of(bench.inside);
  });
  REQUIRE(slot.attach(bench.code));
  std::istringstream seen(sandbox.finish());
  int mounts = 0;
  for (std::string line; std::getline(seen, line); ++mounts) {
    INFO(line);
    std::istringstream fields(line);
    std::string id, parent, device, root, place, rest;
    fields >> id >> parent >> device >> root >> place;
    std::getline(fields, rest);
    CHECK((root == "/" || root == "/code"));  // of the slot's own file system
    CHECK(rest.find(bench.scratch.path()) == std::string::npos);
    CHECK(rest.find("store") == std::string::npos);
  }
  CHECK(mounts == 2);
}

TEST_CASE("layers are merged, the later over the earlier, and appear beside the code") {
  need_own_mounts();
  Bench bench;
  for (const auto& [file, text] :
       {std::pair{"low/both", "low"}, {"low/one", "low"}, {"high/both", "high"}}) {
    ::mkdirat(bench.scratch.fd(), std::string(file).substr(0, std::string(file).find('/')).c_str(),
              0755);
    REQUIRE(base::replace_file_at(bench.scratch.fd(), file, text, 0644));
  }
  const UniqueFd low = base::open_at(bench.scratch.fd(), "low", O_PATH | O_DIRECTORY).value();
  const UniqueFd high = base::open_at(bench.scratch.fd(), "high", O_PATH | O_DIRECTORY).value();
  const int dirs[] = {low.get(), high.get()};
  const rootfs::HeldMount layers = bench.slots.layers(dirs).value();
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd code_slave = slot.slave().value();
  const UniqueFd layers_slave = slot.layers_slave().value();
  const std::string place = bench.scratch.path() + "/neighbour";
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(code_slave.get(), bench.inside);
    move_to(layers_slave.get(), place);
    wait();
    out << base::read_file(place + "/both").value_or("-") << " "
        << base::read_file(place + "/one").value_or("-") << " "
        << base::read_file(bench.inside + "/handler.py").value_or("-");
    const UniqueFd directory = base::open_at(AT_FDCWD, place, O_RDONLY).value();
    out << (errno_of_create(directory.get(), "new") == EROFS) << " "
        << ::mount(nullptr, place.c_str(), nullptr, MS_REMOUNT | MS_BIND, nullptr);
  });
  REQUIRE(slot.attach(bench.code));
  REQUIRE(slot.attach_layers(layers));
  CHECK(sandbox.finish() == "high low x = 1\n1 -1");
  CHECK(slot.close());
}

TEST_CASE("code attached for one sandbox is not seen by its neighbour") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot mine = bench.slots.slot().value();
  rootfs::CodeSlot other = bench.slots.slot().value();
  const UniqueFd slave = other.slave().value();
  const std::string place = bench.scratch.path() + "/neighbour";
  Inside neighbour([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), place);
    wait();
    out << ::access((place + "/handler.py").c_str(), F_OK);
  });
  REQUIRE(mine.attach(bench.code));
  CHECK(neighbour.finish() == "-1");
}

TEST_CASE("a slot that ends takes the code out of the sandbox") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    wait();
    out << ::access((bench.inside + "/handler.py").c_str(), F_OK);
  });
  REQUIRE(slot.attach(bench.code));
  REQUIRE(slot.close());
  CHECK(sandbox.finish() == "-1");
}

TEST_CASE("code that is replaced stays with the sandbox that has it") {
  need_own_mounts();
  Bench bench;
  rootfs::CodeSlot slot = bench.slots.slot().value();
  const UniqueFd slave = slot.slave().value();
  Inside sandbox([&](std::ostream& out, const std::function<void()>& wait) {
    move_to(slave.get(), bench.inside);
    wait();
    out << ::access((bench.inside + "/handler.py").c_str(), F_OK);
  });
  REQUIRE(slot.attach(bench.code));
  REQUIRE(bench.code.release());
  CHECK(sandbox.finish() == "0");
}

TEST_CASE("slots and code leave no mount and no directory") {
  need_own_mounts();
  const tests::ScratchDirectory scratch;
  REQUIRE(::mkdirat(scratch.fd(), "store", 0755) == 0);
  REQUIRE(::mkdirat(scratch.fd(), "slots", 0755) == 0);
  {
    const UniqueFd store = base::open_at(scratch.fd(), "store", O_PATH | O_DIRECTORY).value();
    rootfs::CodeSlots slots = rootfs::CodeSlots::make(scratch.path() + "/slots").value();
    const rootfs::HeldMount code = slots.code(store.get()).value();
    rootfs::CodeSlot slot = slots.slot().value();
    REQUIRE(slot.attach(code));
    const UniqueFd slave = slot.slave().value();
  }
  CHECK(base::read_file("/proc/self/mountinfo").value().find(scratch.path()) == std::string::npos);
  CHECK(::unlinkat(scratch.fd(), "slots", AT_REMOVEDIR) == 0);
}

TEST_CASE("making slots tells the host's mount namespace nothing") {
  need_own_mounts();
  Bench bench;
  const rootfs::CodeSlot slot = bench.slots.slot().value();
  CHECK(base::read_file("/proc/self/mountinfo").value().find(bench.scratch.path()) !=
        std::string::npos);
  CHECK(base::read_file("/proc/1/mountinfo").value().find(bench.scratch.path()) ==
        std::string::npos);
}

TEST_CASE("what a slot costs", "[.][cost]") {
  need_own_mounts();
  Bench bench;
  constexpr int kRounds = 500;
  using Clock = std::chrono::steady_clock;
  std::chrono::duration<double, std::micro> make{}, attach{}, close{}, hold{};
  for (int i = 0; i < kRounds; ++i) {
    const auto t0 = Clock::now();
    rootfs::CodeSlot slot = bench.slots.slot().value();
    UniqueFd slave = slot.slave().value();
    const auto t1 = Clock::now();
    REQUIRE(slot.attach(bench.code));
    const auto t2 = Clock::now();
    slave.reset();
    const auto t3 = Clock::now();
    REQUIRE(slot.close());
    const auto t4 = Clock::now();
    const auto code = bench.slots.code(bench.code_directory.get());
    const auto t5 = Clock::now();
    make += t1 - t0, attach += t2 - t1, close += t4 - t3, hold += t5 - t4;
  }
  std::printf("slot+slave %.1f us, attach %.1f us, close %.1f us, hold code %.1f us\n",
              make.count() / kRounds, attach.count() / kRounds, close.count() / kRounds,
              hold.count() / kRounds);
}

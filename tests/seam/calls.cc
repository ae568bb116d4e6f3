// Kernel calls of a test agent that fail as the environment wants it (README.md): those that are
// made inside of one of the functions below, and by no other thread.
#include <fcntl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <fstream>
#include <string>
#include <string_view>

#include "agent/sandbox.h"
#include "agent/zygote.h"
#include "rootfs/mounts.h"

namespace seam {
namespace {

struct Armed {
  pid_t owner =
      -1;  // a child that was forked meanwhile has this value too, and its calls are not counted
  unsigned left = 0;  // calls until the one that fails; 0: none will
  int error = 0;
};
thread_local Armed armed;

const char* order_file() {
  return std::getenv("BROOD_SEAM_CALLS");
}

// The calls made while one of these lives are counted, where the order is for its scope.
class Scope {
 public:
  explicit Scope(std::string_view name) {
    if (order_file() == nullptr) {
      return;
    }
    std::ifstream order(order_file());
    std::string scope;
    Armed wanted{.owner = ::getpid()};
    if (order >> scope >> wanted.left >> wanted.error && scope == name) {
      armed = wanted;
    }
  }
  ~Scope() { armed = {}; }
  Scope(const Scope&) = delete;
  Scope& operator=(const Scope&) = delete;
};

bool fails(const char* call) {
  if (armed.left == 0 || armed.owner != ::getpid() || --armed.left > 0) {
    return false;
  }
  const int error = armed.error;
  std::ofstream(std::string(order_file()) + ".told") << call << "\n";
  errno = error;
  return true;
}

}  // namespace

// What --wrap makes of a call (CMakeLists.txt): libc's own, and what is called instead.
#define BROOD_SEAM_CALL(name, parameters, arguments)              \
  extern "C" int real_##name parameters __asm__("__real_" #name); \
  extern "C" int seam_##name parameters __asm__("__wrap_" #name); \
  int seam_##name parameters {                                    \
    return fails(#name) ? -1 : real_##name arguments;             \
  }

BROOD_SEAM_CALL(socketpair, (int domain, int type, int protocol, int* ends),
                (domain, type, protocol, ends))
BROOD_SEAM_CALL(setsockopt, (int fd, int level, int option, const void* value, socklen_t size),
                (fd, level, option, value, size))
BROOD_SEAM_CALL(pipe2, (int* ends, int flags), (ends, flags))
BROOD_SEAM_CALL(mkdirat, (int directory, const char* path, mode_t mode), (directory, path, mode))
BROOD_SEAM_CALL(fchownat, (int directory, const char* path, uid_t uid, gid_t gid, int flags),
                (directory, path, uid, gid, flags))
BROOD_SEAM_CALL(memfd_create, (const char* name, unsigned flags), (name, flags))
BROOD_SEAM_CALL(open_tree, (int directory, const char* path, unsigned flags),
                (directory, path, flags))
BROOD_SEAM_CALL(mount_setattr,
                (int directory, const char* path, unsigned flags, mount_attr* attributes,
                 std::size_t size),
                (directory, path, flags, attributes, size))
BROOD_SEAM_CALL(move_mount,
                (int from, const char* from_path, int to, const char* to_path, unsigned flags),
                (from, from_path, to, to_path, flags))
BROOD_SEAM_CALL(fsopen, (const char* type, unsigned flags), (type, flags))
BROOD_SEAM_CALL(fsconfig,
                (int fd, unsigned command, const char* key, const void* value, int number),
                (fd, command, key, value, number))
BROOD_SEAM_CALL(fsmount, (int fd, unsigned flags, unsigned attributes), (fd, flags, attributes))
#undef BROOD_SEAM_CALL

// Those with a return value, or a count of arguments, of their own.
extern "C" {
ssize_t real_write(int fd, const void* bytes, std::size_t size) __asm__("__real_write");
ssize_t seam_write(int fd, const void* bytes, std::size_t size) __asm__("__wrap_write");
int real_openat(int directory, const char* path, int flags, ...) __asm__("__real_openat");
int seam_openat(int directory, const char* path, int flags, mode_t mode) __asm__("__wrap_openat");
int real_fcntl(int fd, int command, ...) __asm__("__real_fcntl");
int seam_fcntl(int fd, int command, long argument) __asm__("__wrap_fcntl");
long real_syscall(long number, ...) __asm__("__real_syscall");
long seam_syscall(long number, long a, long b, long c, long d, long e,
                  long f) __asm__("__wrap_syscall");
}

ssize_t seam_write(int fd, const void* bytes, std::size_t size) {
  return fails("write") ? -1 : real_write(fd, bytes, size);
}
int seam_openat(int directory, const char* path, int flags, mode_t mode) {
  return fails("openat") ? -1 : real_openat(directory, path, flags, mode);
}
int seam_fcntl(int fd, int command, long argument) {
  return fails("fcntl") ? -1 : real_fcntl(fd, command, argument);
}
// In this agent: clone3.
long seam_syscall(long number, long a, long b, long c, long d, long e, long f) {
  return fails("syscall") ? -1 : real_syscall(number, a, b, c, d, e, f);
}

}  // namespace seam

// --- the functions that order their calls to fail
// -------------------------------------------------

namespace agent {

using MadeParts = base::Result<SandboxParts>;
MadeParts real_make_parts(const PartsRequest& request) __asm__(
    "__real__ZN5agent10make_partsERKNS_12PartsRequestE");
MadeParts seam_make_parts(const PartsRequest& request) __asm__(
    "__wrap__ZN5agent10make_partsERKNS_12PartsRequestE");
MadeParts seam_make_parts(const PartsRequest& request) {
  const seam::Scope scope("parts");
  return real_make_parts(request);
}

#define BROOD_SEAM_ZYGOTE_START \
  "_ZN5agent6Zygote5startERN5boost4asio10io_contextERKNS_11ZygoteSetupENS_12ZygoteEventsE"
using StartedZygote = base::Result<std::unique_ptr<Zygote>>;
StartedZygote real_start(boost::asio::io_context& loop, const ZygoteSetup& setup,
                         ZygoteEvents events) __asm__("__real_" BROOD_SEAM_ZYGOTE_START);
StartedZygote seam_start(boost::asio::io_context& loop, const ZygoteSetup& setup,
                         ZygoteEvents events) __asm__("__wrap_" BROOD_SEAM_ZYGOTE_START);
StartedZygote seam_start(boost::asio::io_context& loop, const ZygoteSetup& setup,
                         ZygoteEvents events) {
  const seam::Scope scope("zygote");
  return real_start(loop, setup, std::move(events));
}

// A member function: its object comes first.
base::Status real_attach(Sandbox* sandbox, const rootfs::HeldMount& code) __asm__(
    "__real__ZN5agent7Sandbox6attachERKN6rootfs9HeldMountE");
base::Status seam_attach(Sandbox* sandbox, const rootfs::HeldMount& code) __asm__(
    "__wrap__ZN5agent7Sandbox6attachERKN6rootfs9HeldMountE");
base::Status seam_attach(Sandbox* sandbox, const rootfs::HeldMount& code) {
  const seam::Scope scope("attach");
  return real_attach(sandbox, code);
}

}  // namespace agent

namespace rootfs {

base::Result<HeldMount> real_code(CodeSlots* slots,
                                  int directory) __asm__("__real__ZN6rootfs9CodeSlots4codeEi");
base::Result<HeldMount> seam_code(CodeSlots* slots,
                                  int directory) __asm__("__wrap__ZN6rootfs9CodeSlots4codeEi");
base::Result<HeldMount> seam_code(CodeSlots* slots, int directory) {
  const seam::Scope scope("code");
  return real_code(slots, directory);
}

}  // namespace rootfs

#include "agent/powers.h"

#include <seccomp.h>
#include <sys/capability.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <catch2/catch.hpp>
#include <cerrno>
#include <regex>
#include <set>
#include <thread>

#include "base/file.h"
#include "tests/support/skip.h"

namespace {

// What `work` returns in a child of one thread: an exit status.
template <typename Work>
int in_child(Work work) {
  const pid_t child = ::fork();
  if (child == 0) {
    ::_exit(work());
  }
  int status = 0;
  REQUIRE(::waitpid(child, &status, 0) == child);
  INFO("wait status " << status);
  REQUIRE(WIFEXITED(status));
  return WEXITSTATUS(status);
}

// Arguments with which each fails for another reason, whoever calls it: nothing may happen where
// the filter is missing.
long call_in_vain(const char* name) {
  const long bad = -1;
  return ::syscall(::seccomp_syscall_resolve_name(name), bad, bad, bad, bad, bad, bad);
}

TEST_CASE("a call that the agent never makes does not exist for it, nor for what it starts") {
  tests::need_root();
  const auto refused = [](const char* name) {
    return in_child([&] {
      if (!agent::give_up_powers()) {
        return 2;
      }
      const pid_t grandchild = ::fork();
      if (grandchild == 0) {
        ::_exit(call_in_vain(name) == -1 && errno == ENOSYS ? 0 : 1);
      }
      int status = 1;
      ::waitpid(grandchild, &status, 0);
      return status == 0 && call_in_vain(name) == -1 && errno == ENOSYS ? 0 : 1;
    });
  };
  for (const char* name :
       {"init_module", "finit_module", "delete_module", "kexec_load", "bpf", "swapon", "acct",
        "open_by_handle_at", "name_to_handle_at", "settimeofday", "perf_event_open", "keyctl",
        "add_key", "process_vm_readv", "process_vm_writev", "userfaultfd", "quotactl", "reboot"}) {
    INFO(name);
    CHECK(refused(name) == 0);
  }
  CHECK(in_child([] { return call_in_vain("swapon") == -1 && errno != ENOSYS ? 0 : 1; }) == 0);
}

TEST_CASE("what is given up does not come back by an exec") {
  tests::need_root();
  CHECK(in_child([] {
          if (!agent::give_up_powers()) {
            return 2;
          }
          const std::uint64_t lost = std::uint64_t{1} << CAP_SYS_MODULE | 1ULL << CAP_SYS_PTRACE |
                                     1ULL << CAP_SYS_RAWIO | 1ULL << CAP_DAC_READ_SEARCH;
          const std::string check =
              "while read -r name value; do case $name in CapPrm:|CapEff:|CapBnd:) "
              "[ $((0x$value & " +
              std::to_string(lost) + ")) = 0 ] || exit 3;; esac; done </proc/self/status";
          ::execl("/bin/sh", "sh", "-c", check.c_str(), nullptr);
          return 4;
        }) == 0);
}

TEST_CASE("powers are not given up for one thread of many") {
  tests::need_root();
  CHECK(in_child([] {
          int status = 0;
          std::thread([&status] { status = agent::give_up_powers() ? 1 : 0; }).join();
          return status;
        }) == 0);
}

TEST_CASE("docs/security.md gives the reason of every capability that is kept, and of no other") {
  const std::string text = base::read_file(BROOD_SOURCE_DIR "/docs/security.md").value();
  std::set<std::string> documented;
  const std::regex row("\\n\\| `(CAP_[A-Z_]+)` \\|");
  for (auto at = std::sregex_iterator(text.begin(), text.end(), row); at != std::sregex_iterator();
       ++at) {
    documented.insert((*at)[1]);
  }
  std::set<std::string> kept;
  for (const cap_value_t capability : agent::kKeptCapabilities) {
    char* name = ::cap_to_name(capability);
    REQUIRE(name != nullptr);
    std::string upper = name;
    std::transform(upper.begin(), upper.end(), upper.begin(), ::toupper);
    kept.insert(upper);
    ::cap_free(name);
  }
  CHECK(documented == kept);
}

}  // namespace

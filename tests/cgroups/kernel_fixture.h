// Scratch cgroups in the tree of the host that runs the tests, and processes to put into them. All
// of it goes away with the scope, also after a failed assertion.
#pragma once

#include <sys/mman.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <new>
#include <string>
#include <thread>

#include "base/file.h"
#include "base/process.h"
#include "base/syscalls.h"
#include "cgroups/cgroup.h"
#include "cgroups/hierarchy.h"
#include "cgroups/subtree.h"
#include "tests/support/skip.h"

namespace tests {

using namespace std::chrono_literals;

// The cgroup of this process; skips where there is none that can have children.
inline cgroups::Cgroup own_cgroup() {
  need_root();
  const auto found = cgroups::locate(base::read_file("/proc/self/mountinfo").value(),
                                     base::read_file("/proc/self/cgroup").value());
  if (!found.own_directory) {
    skip_because("no cgroup v2 mount shows this process");
  }
  if (::access((*found.own_directory + "/cgroup.procs").c_str(), W_OK) != 0) {
    skip_because("the cgroup v2 tree cannot be written");
  }
  return cgroups::Cgroup::open(*found.own_directory).value();
}

inline std::string scratch_name() {
  static int count = 0;
  return "test-" + std::to_string(::getpid()) + "-" + std::to_string(++count);
}

class ScratchCgroup {
 public:
  ScratchCgroup() : cgroup_(own_cgroup().create(scratch_name()).value()) {}
  ~ScratchCgroup() { (void)cgroup_.remove_tree(5s); }
  ScratchCgroup(const ScratchCgroup&) = delete;
  ScratchCgroup& operator=(const ScratchCgroup&) = delete;
  const cgroups::Cgroup& operator*() const { return cgroup_; }
  const cgroups::Cgroup* operator->() const { return &cgroup_; }

 private:
  cgroups::Cgroup cgroup_;
};

// A subtree with the controllers that a test is about; skips, with the reason, where the host does
// not have one of them.
inline cgroups::Subtree limited_subtree(cgroups::ControllerSet needed) {
  need_root();
  auto subtree = cgroups::Subtree::open(scratch_name());
  if (!subtree) {
    skip_because(subtree.error().message());
  }
  for (const auto& missing : subtree->missing()) {
    if (needed.has(missing.controller)) {
      const std::string reason = "no " + std::string(cgroups::controller_name(missing.controller)) +
                                 " controller: " + missing.reason;
      (void)subtree->remove();
      skip_because(reason);
    }
  }
  return std::move(*subtree);
}

// Runs `body` in a child, which leaves with what it returns. The child lives no longer than the
// answer.
inline base::OwnedPid child_that(const std::function<int()>& body) {
  const pid_t pid = ::fork();
  if (pid == 0) {
    ::_exit(body());
  }
  return base::OwnedPid(pid, base::UniqueFd(base::pidfd_open(pid)));
}

inline base::OwnedPid sleeping_child() {
  return child_that([] {
    for (;;) {
      ::pause();
    }
    return 0;
  });
}

// A number that a child and the test both see.
class SharedCounter {
 public:
  SharedCounter()
      : value_(new (::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1,
                           0)) std::atomic<std::uint64_t>(0)) {}
  ~SharedCounter() { ::munmap(value_, 4096); }
  SharedCounter(const SharedCounter&) = delete;
  SharedCounter& operator=(const SharedCounter&) = delete;
  std::atomic<std::uint64_t>& operator*() const { return *value_; }

 private:
  std::atomic<std::uint64_t>* value_;
};

// Waits for what happens soon: false after ten seconds.
template <typename Predicate>
bool soon(Predicate happened) {
  for (int tries = 0; tries < 1000; ++tries) {
    if (happened()) {
      return true;
    }
    std::this_thread::sleep_for(10ms);
  }
  return false;
}

}  // namespace tests

// One cgroup v2 directory by descriptor: make it, put processes in, limit, read, freeze, kill,
// remove. Runs in the agent, as root or as the owner of a delegated subtree. A Cgroup owns its
// descriptor, not the directory: dropping it leaves the cgroup in place, `remove` takes it away.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "base/fd.h"
#include "cgroups/controllers.h"
#include "cgroups/limits.h"
#include "cgroups/stats.h"

namespace cgroups {

enum class Freeze { frozen, thawed };

// Whether a cgroup is gone. `busy` is ordinary: a process lives in it, or a cgroup below it.
enum class Removed { yes, busy };

// Absent: the controller is not enabled, or the kernel is older than the file.
struct Usage {
  CpuStat cpu;  // counted by the kernel even without the cpu controller
  std::optional<std::uint64_t> memory_bytes;
  std::optional<std::uint64_t> memory_peak_bytes;  // kernel 5.19
  std::optional<MemoryEvents> memory_events;
  std::optional<std::uint64_t> pids;
  std::optional<std::uint64_t> pids_peak;     // kernel 6.11
  std::optional<std::uint64_t> pids_refused;  // forks refused for pids.max
};

class Cgroup {
 public:
  Cgroup() = default;

  // An existing directory; `path` may lead through links. Fails where it is not on cgroup v2.
  static base::Result<Cgroup> open(const std::string& path);

  // Makes, or opens, the child `name`: 1 to 200 of [A-Za-z0-9_-], so that it can be no control file
  // of the kernel. create: EEXIST where it is there already.
  base::Result<Cgroup> create(const std::string& name) const;
  base::Result<Cgroup> open_child(const std::string& name) const;
  base::Result<std::vector<std::string>> children() const;

  explicit operator bool() const { return static_cast<bool>(directory_); }
  // O_PATH | O_DIRECTORY: good for CLONE_INTO_CGROUP and for …at() calls; nothing can be read or
  // written through it alone.
  int fd() const { return directory_.get(); }
  const std::string& path() const { return path_; }
  std::string name() const;

  // Which controllers may be enabled for children, and which are.
  base::Result<ControllerSet> controllers() const;
  base::Result<ControllerSet> enabled() const;
  // For children made below. EBUSY while a process lives here and this is not the tree's root.
  base::Status enable(Controller controller) const;
  base::Status disable(Controller controller) const;
  // The root of the whole hierarchy, which alone may hold processes and controlled children at
  // once, and has no limits of its own. The root of a cgroup namespace is not it.
  bool is_hierarchy_root() const;

  // Moves a whole process here. ESRCH: it has ended; EBUSY: controllers are enabled for children.
  base::Status add(pid_t pid) const;
  base::Status add_self() const;
  base::Result<std::vector<pid_t>> procs() const;
  // Lets `uid` put processes here: by CLONE_INTO_CGROUP the kernel asks for write permission on
  // cgroup.procs of the target and of the nearest common ancestor of the parent's cgroup and the
  // target, so a confined zygote needs it for both. Nothing else becomes writable.
  base::Status chown_procs(uid_t uid) const;

  // Writes each limit whose control file is there; answers those asked for that are not enforced.
  // A memory limit below what is in use reclaims, and may kill, before this returns.
  base::Result<ControllerSet> set_limits(const Limits& limits) const;

  base::Result<Usage> usage() const;
  base::Result<CpuStat> cpu() const;
  base::Result<Events> events() const;
  base::Result<bool> populated() const;
  // A descriptor of cgroup.events: poll(2) reports POLLPRI on each change, after it has been read.
  base::Result<base::UniqueFd> events_fd() const;
  // Waits for the last living process to be gone; false when the time is up.
  base::Result<bool> wait_until_empty(std::chrono::milliseconds limit) const;

  // Asks only: processes stop on their own time; `events().frozen` tells when all have.
  base::Status freeze(Freeze state) const;
  // SIGKILL to every process here and below, also to frozen ones and to those being forked. Does
  // not wait. Through cgroup.kill (kernel 5.14), else as kill_each_process does.
  base::Status kill() const;
  // Freezes so that nothing can fork away, kills one by one, thaws.
  base::Status kill_each_process() const;

  // rmdir. A cgroup that is gone already counts as removed.
  base::Result<Removed> remove() const;
  // Kills what lives here and below, waits up to `limit` for it to be gone, and removes from the
  // leaves up. `busy` where the time did not do. Any child name is taken, also one not made here.
  base::Result<Removed> remove_tree(std::chrono::milliseconds limit) const;

 private:
  Cgroup(base::UniqueFd directory, std::string path)
      : directory_(std::move(directory)), path_(std::move(path)) {}
  base::Result<Cgroup> open_any_child(const std::string& name) const;
  base::Status write(const char* file, std::string_view text) const;
  base::Result<bool> write_if_exists(const char* file, std::string_view text) const;
  base::Result<std::string> read(const char* file) const;
  base::Result<std::optional<std::string>> read_if_exists(const char* file) const;
  base::Error with_path(const base::Error& error) const;
  base::Status kill_members(int depth) const;
  base::Result<Removed> remove_empty_tree(int depth) const;

  base::UniqueFd directory_;
  std::string path_;
};

// [A-Za-z0-9_-]{1,200}
bool is_child_name(std::string_view name);

}  // namespace cgroups

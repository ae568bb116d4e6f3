// The part of the host's cgroup tree that one agent owns: `brood-INSTANCE`, directly below the
// agent's own cgroup (or a parent that is named). Nothing outside of it is touched but what the
// kernel asks for on the way there:
//   - controllers are enabled in the parent's cgroup.subtree_control;
//   - a parent with controllers enabled for its children may not hold processes itself (but for the
//     root of the hierarchy), so an agent that lives in the parent first moves into the leaf
//     `PARENT/agent`, as systemd wants it of a service with Delegate=yes.
// `remove` undoes that, except that controllers stay enabled in a parent the agent never lived in:
// others may have come to count on them.
#pragma once

#include <sys/types.h>

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/error.h"
#include "cgroups/cgroup.h"
#include "cgroups/hierarchy.h"

namespace cgroups {

// A directory of our name that is there already was left by an agent that was killed. Only one
// agent of an instance may run: its caller holds the lock that makes it so.
enum class Leftovers { clear, refuse };

struct SubtreeOptions {
  // Where `brood-INSTANCE` goes: a directory of a cgroup2 mount, or a path as /proc/PID/cgroup
  // prints it. Empty: the caller's own cgroup.
  std::string parent = {};
  ControllerSet wanted = ControllerSet::all();
  Leftovers leftovers = Leftovers::clear;
  std::chrono::milliseconds patience{5000};  // for what was killed to be gone
  // cpu.weight of the leaf that this process moves into, where it does and the controller is there.
  std::optional<std::uint32_t> own_cpu_weight = {};
};

struct MissingController {
  Controller controller;
  std::string reason;  // one sentence: why it is not there, and what would bring it
};

class Subtree {
 public:
  // Finds the parent, makes room, enables controllers, makes the instance's directory. A controller
  // that cannot be had is no error; `missing` tells it. Errors: no cgroup2 mount shows the process;
  // other processes live in the parent; no permission; leftovers that are refused or do not die.
  // `instance` is as is_child_name has it. Call before the process makes threads or children.
  static base::Result<Subtree> open(const std::string& instance,
                                    const SubtreeOptions& options = {});

  Subtree() = default;
  Subtree(Subtree&& other) noexcept;
  Subtree& operator=(Subtree&& other) noexcept;
  Subtree(const Subtree&) = delete;
  Subtree& operator=(const Subtree&) = delete;
  ~Subtree();  // as remove, but tells nobody

  // `brood-INSTANCE`. Its children have every available controller; it holds no process itself.
  const Cgroup& root() const { return root_; }
  ControllerSet available() const { return available_; }
  const std::vector<MissingController>& missing() const { return missing_; }
  Layout layout() const { return layout_; }
  // A child of `parent` (root() or another inner node) whose own children can be limited.
  base::Result<Cgroup> create_inner(const Cgroup& parent, const std::string& name) const;

  // Kills and removes everything below root(), and root(); moves the process back if it was moved.
  // busy: something did not die in time; everything is then left as it is, and may be tried again.
  base::Result<Removed> remove();
  // Leaves everything in place, for another agent to take over.
  void release() { owner_ = -1; }

 private:
  base::Status vacate();
  void enable_in_parent(ControllerSet wanted);
  void note_missing(Controller controller, std::string reason);
  base::Status make_root(const std::string& instance, const SubtreeOptions& options);
  base::Status undo_vacate();

  Layout layout_ = Layout::none;
  std::vector<std::string> v1_controllers_;
  Cgroup parent_;
  Cgroup leaf_;             // PARENT/agent, if this process was moved into it
  ControllerSet switched_;  // enabled in the parent by us
  Cgroup root_;
  ControllerSet available_;
  std::vector<MissingController> missing_;
  std::chrono::milliseconds patience_{5000};
  pid_t owner_ = -1;
};

}  // namespace cgroups

#include "cgroups/subtree.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/file.h"

namespace cgroups {

using base::Result;
using base::Status;

namespace {

constexpr const char* kLeaf = "agent";
constexpr const char* kHowToStart =
    "start it through a systemd unit with Delegate=yes, or name an empty cgroup with "
    "--cgroup-parent PATH";

Result<Hierarchy> locate_self() {
  BROOD_TRY(const std::string mountinfo,
            base::read_file("/proc/self/mountinfo", std::size_t{16} << 20));
  BROOD_TRY(const std::string membership, base::read_file("/proc/self/cgroup"));
  return locate(mountinfo, membership);
}

Result<Cgroup> open_named(const Hierarchy& hierarchy, const std::string& parent) {
  auto as_directory = Cgroup::open(parent);
  if (as_directory || !hierarchy.mount || parent.front() != '/') {
    return as_directory;
  }
  auto below_mount = Cgroup::open(hierarchy.mount->point + parent);
  return below_mount ? std::move(below_mount) : std::move(as_directory);
}

Result<Cgroup> open_parent(const Hierarchy& hierarchy, const std::string& parent) {
  if (!parent.empty()) {
    return open_named(hierarchy, parent);
  }
  if (!hierarchy.mount) {
    return base::fail_because(
        "no cgroup v2 hierarchy is mounted",
        "boot with systemd.unified_cgroup_hierarchy=1, or: mount -t cgroup2 none /sys/fs/cgroup");
  }
  if (!hierarchy.own_directory) {
    return base::fail_because("the cgroup of this process, '" + hierarchy.own_path +
                                  "', is not below the mount at '" + hierarchy.mount->point + "'",
                              "name a directory of that mount with --cgroup-parent PATH");
  }
  return Cgroup::open(*hierarchy.own_directory);
}

std::string listed(const std::vector<pid_t>& pids) {
  std::string text;
  for (std::size_t i = 0; i < pids.size() && i < 5; ++i) {
    text += (i == 0 ? "" : ", ") + std::to_string(pids[i]);
  }
  return text + (pids.size() > 5 ? ", …" : "");
}

std::string why_absent(Controller controller, const Cgroup& parent,
                       const std::vector<std::string>& v1_controllers) {
  // The v1 name of io is blkio.
  const std::string v1_name =
      controller == Controller::io ? "blkio" : std::string(controller_name(controller));
  if (std::find(v1_controllers.begin(), v1_controllers.end(), v1_name) != v1_controllers.end()) {
    return "a cgroup v1 hierarchy holds it; boot with systemd.unified_cgroup_hierarchy=1 "
           "cgroup_no_v1=all";
  }
  if (parent.is_hierarchy_root()) {
    return "the kernel does not have it, or it is switched off on its command line";
  }
  return "it is not enabled for '" + parent.path() + "'; " + kHowToStart;
}

}  // namespace

Result<Subtree> Subtree::open(const std::string& instance, const SubtreeOptions& options) {
  if (!is_child_name(instance)) {
    return base::fail_because("'" + instance + "' is no instance name",
                              "use letters, digits, - and _");
  }
  Subtree subtree;
  BROOD_TRY(const Hierarchy hierarchy, locate_self());
  subtree.layout_ = hierarchy.layout;
  subtree.v1_controllers_ = hierarchy.v1_controllers;
  subtree.patience_ = options.patience;
  BROOD_TRY(subtree.parent_, open_parent(hierarchy, options.parent));
  BROOD_TRY(const ControllerSet offered, subtree.parent_.controllers());
  BROOD_TRY(const ControllerSet enabled, subtree.parent_.enabled());
  // With nothing to switch on the kernel lets processes and children live side by side.
  if (!options.wanted.both(offered).without(enabled).empty()) {
    BROOD_CHECK(subtree.vacate());
  }
  subtree.owner_ = ::getpid();
  subtree.enable_in_parent(options.wanted);
  if (subtree.leaf_ && options.own_cpu_weight) {
    BROOD_TRY(const ControllerSet unweighted,
              subtree.leaf_.set_limits({.cpu_weight = options.own_cpu_weight}));
    (void)unweighted;  // missing() has the controller
  }
  BROOD_CHECK(subtree.make_root(instance, options));
  return subtree;
}

Status Subtree::vacate() {
  if (parent_.is_hierarchy_root()) {
    return {};
  }
  BROOD_TRY(std::vector<pid_t> members, parent_.procs());
  const pid_t self = ::getpid();
  const bool holds_self = std::erase(members, self) > 0;
  if (!members.empty()) {
    return base::fail_because("'" + parent_.path() + "' holds other processes (" + listed(members) +
                                  "), so its children cannot be limited",
                              kHowToStart);
  }
  if (!holds_self) {
    return {};
  }
  auto leaf = parent_.create(kLeaf);
  if (!leaf && leaf.error().code() == EEXIST) {
    leaf = parent_.open_child(kLeaf);
  }
  if (!leaf) {
    return base::fail(std::move(leaf.error()).advise(kHowToStart));
  }
  BROOD_CHECK(leaf->add_self());
  leaf_ = std::move(*leaf);
  owner_ = self;
  return {};
}

void Subtree::enable_in_parent(ControllerSet wanted) {
  const ControllerSet offered = parent_.controllers().value_or(ControllerSet());
  const ControllerSet before = parent_.enabled().value_or(ControllerSet());
  for (const Controller controller : wanted.members()) {
    if (!offered.has(controller)) {
      note_missing(controller, why_absent(controller, parent_, v1_controllers_));
      continue;
    }
    if (!before.has(controller)) {
      if (const Status enabled = parent_.enable(controller); !enabled) {
        note_missing(controller, enabled.error().message());
        continue;
      }
      switched_.add(controller);
    }
    available_.add(controller);
  }
}

void Subtree::note_missing(Controller controller, std::string reason) {
  available_.remove(controller);
  missing_.push_back({.controller = controller, .reason = std::move(reason)});
}

Status Subtree::make_root(const std::string& instance, const SubtreeOptions& options) {
  const std::string name = "brood-" + instance;
  auto made = parent_.create(name);
  if (!made && made.error().code() == EEXIST && options.leftovers == Leftovers::clear) {
    BROOD_TRY(const Cgroup old, parent_.open_child(name));
    BROOD_TRY(const Removed removed, old.remove_tree(options.patience));
    if (removed == Removed::busy) {
      return base::fail_because("what an earlier agent left in '" + old.path() + "' does not die",
                                "look for processes in state D there");
    }
    made = parent_.create(name);
  }
  if (!made) {
    return base::fail(std::move(made.error())
                          .advise(made.error().code() == EEXIST
                                      ? "an agent of this instance runs, or left it behind"
                                      : kHowToStart));
  }
  root_ = std::move(*made);
  for (const Controller controller : available_.members()) {
    if (const Status enabled = root_.enable(controller); !enabled) {
      note_missing(controller, enabled.error().message());
    }
  }
  return {};
}

Result<Cgroup> Subtree::create_inner(const Cgroup& parent, const std::string& name) const {
  BROOD_TRY(Cgroup inner, parent.create(name));
  for (const Controller controller : available_.members()) {
    if (Status enabled = inner.enable(controller); !enabled) {
      (void)inner.remove();
      return base::fail(std::move(enabled.error()));
    }
  }
  return inner;
}

Result<Removed> Subtree::remove() {
  if (root_) {
    BROOD_TRY(const Removed removed, root_.remove_tree(patience_));
    if (removed == Removed::busy) {
      return removed;
    }
    root_ = Cgroup();
  }
  BROOD_CHECK(undo_vacate());
  return Removed::yes;
}

Status Subtree::undo_vacate() {
  if (!leaf_) {
    return {};
  }
  // A cgroup takes no process while controllers are on for its children.
  for (const Controller controller : switched_.members()) {
    BROOD_CHECK(parent_.disable(controller));
    switched_.remove(controller);
  }
  BROOD_CHECK(parent_.add_self());
  BROOD_TRY(const Removed removed, leaf_.remove());
  if (removed == Removed::busy) {
    return base::fail(base::Error("rmdir", EBUSY, leaf_.path()));
  }
  leaf_ = Cgroup();
  return {};
}

Subtree::Subtree(Subtree&& other) noexcept {
  *this = std::move(other);
}

Subtree& Subtree::operator=(Subtree&& other) noexcept {
  if (this != &other) {
    std::swap(layout_, other.layout_);
    std::swap(v1_controllers_, other.v1_controllers_);
    std::swap(parent_, other.parent_);
    std::swap(leaf_, other.leaf_);
    std::swap(switched_, other.switched_);
    std::swap(root_, other.root_);
    std::swap(available_, other.available_);
    std::swap(missing_, other.missing_);
    std::swap(patience_, other.patience_);
    std::swap(owner_, other.owner_);
  }
  return *this;
}

// A forked copy of the agent that runs its destructors must not take the agent's subtree down.
Subtree::~Subtree() {
  if (owner_ == ::getpid()) {
    (void)remove();
  }
}

}  // namespace cgroups

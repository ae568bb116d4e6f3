#include "agent/command_mounts.h"

#include <algorithm>
#include <cstdio>

#include "rootfs/inside_mounts.h"

namespace agent {
namespace {

std::string octal(std::uint32_t mode) {
  char text[16];
  std::snprintf(text, sizeof text, "%04o", mode);
  return text;
}

rootfs::InsideMount tmpfs_of(const Tmpfs& wanted) {
  rootfs::InsideMount mount;
  mount.target = wanted.target;
  mount.size = std::to_string(wanted.bytes);
  mount.mode = octal(wanted.mode);
  mount.noexec = !wanted.exec;
  return mount;
}

base::Result<rootfs::InsideMount> bind_of(const Bind& wanted, const CommandMounts& all) {
  const auto& descriptors = all.request.descriptors;
  if (descriptors == nullptr || wanted.descriptor >= descriptors->size()) {
    return base::fail_because("no descriptor came for it");
  }
  BROOD_TRY(
      rootfs::HostTree tree,
      rootfs::clone_host_tree((*descriptors)[wanted.descriptor].get(), all.host_mounts,
                              {.read_only = wanted.read_only, .nosuid = true, .nodev = true},
                              {all.request.client_uid, all.request.client_gid, all.uid, all.gid}));
  if (!tree.unmapped.empty()) {
    all.warn(
        "bind at " + wanted.target +
        ": its file system does not map owners, all of its files are nobody's: " + tree.unmapped);
  }
  rootfs::InsideMount mount;
  mount.target = wanted.target;
  mount.mount = std::move(tree.mount);
  mount.is_directory = tree.is_directory;
  return mount;
}

}  // namespace

base::Status make_mounts(const CommandMounts& wanted) {
  rootfs::InsidePlan plan;
  plan.read_only_root = wanted.request.read_only;
  for (const Tmpfs& tmpfs : wanted.request.tmpfs) {
    plan.mounts.push_back(tmpfs_of(tmpfs));
  }
  for (const Bind& bind : wanted.request.binds) {
    auto mount = bind_of(bind, wanted);
    if (!mount) {
      return base::fail(std::move(mount.error()).within("bind at " + bind.target));
    }
    plan.mounts.push_back(std::move(*mount));
  }
  std::sort(plan.mounts.begin(), plan.mounts.end(),
            [](const auto& one, const auto& other) { return one.target < other.target; });
  return rootfs::mount_inside(wanted.pidfd.get(), plan);
}

}  // namespace agent

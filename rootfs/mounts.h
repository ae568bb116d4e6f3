// Detached mounts for sandboxes, by descriptor, and the slot through which a function's code
// appears in a sandbox that runs already.
//
// Everything here runs in the agent, as root (CAP_SYS_ADMIN in the initial user namespace; the
// device tmpfs needs CAP_MKNOD), on Linux 5.15 or later. A detached mount is in no namespace:
// whoever gets its descriptor may move it to a place of its own, and it goes away with its last
// descriptor.
//
// What a sandbox can read about its mounts (/proc/self/mountinfo) shows no path of the host: a bind
// would show its place in its file system, so code is shown through an overlay, and all else is
// made of file systems that are made here and begin at their own root.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/error.h"
#include "base/fd.h"

namespace rootfs {

struct MountFlags {
  bool read_only = false;
  bool nosuid = false;
  bool nodev = false;
  bool noexec = false;
};

// Moves the calling process to a mount namespace of its own, which hears of the host's mounts but
// tells the host of none. The agent does so once, before it opens directories and makes slots: its
// mounts then end with it, however it ends, and a descriptor opened earlier belongs to the old
// namespace and cannot be cloned. Must be called while the process has one thread.
base::Status enter_own_mount_namespace();

// A detached mount of the directory behind `dir_fd` (O_PATH will do) and of nothing that is mounted
// below it, private, with these flags from its first moment.
base::Result<base::UniqueFd> clone_tree(int dir_fd, MountFlags flags);

// /dev: null zero full random urandom tty (mode 0666), the links fd stdin stdout stderr, an empty
// directory shm for a mount that comes later; no pts, no ptmx. Read-only, nosuid, noexec.
// EPERM is worded: the agent may not make devices.
base::Result<base::UniqueFd> device_tmpfs();

// A tmpfs with these empty directories (mode 0755) in it and nothing else; read-only, nosuid,
// nodev, noexec. The names are mount points for the sandbox.
base::Result<base::UniqueFd> run_tmpfs(const std::vector<std::string>& names);

// A read-only, nosuid, nodev mount that shows what is in `code_dir_fd`. It is an overlay over a
// second, empty directory (without an upper layer an overlay wants two lower ones), with the layers
// named by descriptor, so that mountinfo inside reads lowerdir=/proc/self/fd/7:/proc/self/fd/8. The
// descriptors may be closed afterwards; the directory must not change while the mount lives.
base::Result<base::UniqueFd> code_overlay(int code_dir_fd, int empty_dir_fd);

// The same of several directories, of which a later one lies over those before it. At least one.
base::Result<base::UniqueFd> layers_overlay(std::span<const int> dir_fds, int empty_dir_fd);

// A mount in the agent's own namespace, at a directory made for it; both go away with it. Kernels
// before 6.15 clone a mount only where it is attached, so whatever is cloned often is held so.
class HeldMount {
 public:
  // Moves a detached mount to PARENT/NAME. `parent_fd` is borrowed and outlives the mount.
  static base::Result<HeldMount> hold(int parent_fd, std::string name, base::UniqueFd detached);

  HeldMount() = default;
  HeldMount(HeldMount&& other) noexcept;
  HeldMount& operator=(HeldMount&& other) noexcept;
  HeldMount(const HeldMount&) = delete;
  HeldMount& operator=(const HeldMount&) = delete;
  ~HeldMount() { (void)release(); }

  explicit operator bool() const { return static_cast<bool>(mount_); }
  // Root of the mount, O_PATH.
  int fd() const { return mount_.get(); }
  const std::string& name() const { return name_; }
  // Unmounts it with everything on it, and removes the directory. EBUSY is not an outcome: who
  // still uses the mount keeps it until they are done.
  base::Status release();

 private:
  HeldMount(int parent_fd, std::string name, base::UniqueFd mount)
      : parent_fd_(parent_fd), name_(std::move(name)), mount_(std::move(mount)) {}

  int parent_fd_ = -1;
  std::string name_;
  base::UniqueFd mount_;
};

// One sandbox's places for code and for layers: the agent's end of mounts that come in pairs, both
// in one small file system. What is mounted on this end (the master) appears on the sandbox's end
// (the slave), in its mount namespace, without any doing of the sandbox. The copy inside comes from
// a more privileged user namespace, so its flags cannot be lifted there, not even by root of the
// sandbox's namespaces; to unmount it takes CAP_SYS_ADMIN in them, which no bound sandbox has (and
// which would only cost the sandbox its own code).
class CodeSlot {
 public:
  CodeSlot() = default;

  explicit operator bool() const { return static_cast<bool>(master_); }

  // The sandbox's ends: detached, empty, read-only directories that the sandbox moves to where its
  // code and its layers shall be.
  base::Result<base::UniqueFd> slave() const;
  base::Result<base::UniqueFd> layers_slave() const;

  // Shows a clone of `code` (its flags are kept) through the slave. On the path of a cold
  // invocation: about 10 us. At most once.
  base::Status attach(const HeldMount& code);
  // The same for what CodeSlots::layers made; before or after the code.
  base::Status attach_layers(const HeldMount& layers);

  // Takes both out of the sandbox, where it still lives, and leaves no mount and no directory;
  // so does the destructor. Unmounting waits for the kernel (about 0.15 ms): not for the path.
  base::Status close() { return master_.release(); }

 private:
  friend class CodeSlots;
  explicit CodeSlot(HeldMount master) : master_(std::move(master)) {}
  base::Result<base::UniqueFd> slave_at(const char* place) const;
  base::Status attach_at(const char* place, const HeldMount& mount);

  HeldMount master_;
};

// The agent's directory for masters and for the code that is shown through them. Outlives both.
// `slot` and `code` may be called from any thread.
class CodeSlots {
 public:
  // `directory` exists, is empty and the caller's alone, and is in a mount that is not shared (see
  // enter_own_mount_namespace): else each slot would be told to other namespaces.
  static base::Result<CodeSlots> make(const std::string& directory);

  base::Result<CodeSlot> slot();
  // A function's code, ready to be attached any number of times: held from `deploy` on, so that
  // nothing but a clone is left for an invocation. See code_overlay for what may be closed.
  base::Result<HeldMount> code(int code_dir_fd);
  // The layers of one function, merged (layers_overlay); the same holds for it.
  base::Result<HeldMount> layers(std::span<const int> dir_fds);

 private:
  CodeSlots(base::UniqueFd directory, HeldMount seed, base::UniqueFd empty)
      : directory_(std::move(directory)), seed_(std::move(seed)), empty_(std::move(empty)) {}

  base::UniqueFd directory_;
  HeldMount seed_;        // a read-only file system with the two places, which all masters are
                          // clones of
  base::UniqueFd empty_;  // one of them
  std::unique_ptr<std::atomic<std::uint64_t>> next_ =
      std::make_unique<std::atomic<std::uint64_t>>(0);
  std::string next_name(const char* kind) { return kind + std::to_string((*next_)++); }
};

}  // namespace rootfs

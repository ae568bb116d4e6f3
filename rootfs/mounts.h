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

#include <cstdint>
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
// tells the host of none. The agent does so once, before it makes slots: its mounts then end with
// it, however it ends. Must be called while the process has one thread.
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

// One sandbox's place for code: the agent's end of a pair of mounts. What is mounted on this end
// (the master) appears on the sandbox's end (the slave), in its mount namespace, without any doing
// of the sandbox. The copy inside comes from a more privileged user namespace, so its flags cannot
// be lifted there, not even by root of the sandbox's namespaces; to unmount it takes CAP_SYS_ADMIN
// in them, which no bound sandbox has (and which would only cost the sandbox its own code).
class CodeSlot {
 public:
  CodeSlot() = default;
  CodeSlot(CodeSlot&& other) noexcept;
  CodeSlot& operator=(CodeSlot&& other) noexcept;
  CodeSlot(const CodeSlot&) = delete;
  CodeSlot& operator=(const CodeSlot&) = delete;
  ~CodeSlot() { (void)close(); }

  explicit operator bool() const { return static_cast<bool>(master_); }

  // The sandbox's end: a detached, empty, read-only directory that the sandbox moves to where its
  // code shall be.
  base::Result<base::UniqueFd> slave() const;

  // Shows a clone of a detached mount (of `code_overlay`; its flags are kept) through every slave.
  // On the path of a cold invocation. At most once.
  base::Status attach(int code_mount_fd);

  // Takes the code out of the sandbox, where it still lives, and leaves no mount and no directory.
  base::Status close();

 private:
  friend class CodeSlots;
  CodeSlot(int parent_fd, std::string name, base::UniqueFd master)
      : parent_fd_(parent_fd), name_(std::move(name)), master_(std::move(master)) {}

  int parent_fd_ = -1;  // of the CodeSlots
  std::string name_;
  base::UniqueFd master_;
};

// The directory where the masters are, and the empty file system that they are clones of. Outlives
// its slots. For one thread.
class CodeSlots {
 public:
  // `directory` exists, is the caller's alone, and is in a mount that is not shared (see
  // enter_own_mount_namespace): else each slot would be told to other namespaces.
  static base::Result<CodeSlots> make(const std::string& directory);

  base::Result<CodeSlot> slot();

 private:
  CodeSlots(base::UniqueFd directory, base::UniqueFd seed)
      : directory_(std::move(directory)), seed_(std::move(seed)) {}

  base::UniqueFd directory_;
  base::UniqueFd seed_;
  std::uint64_t next_ = 0;
};

}  // namespace rootfs

// Archives are unpacked by brood-unpack, a small program that gives up everything before it reads
// their first byte. This is the agent's side of it: start it, hear its verdict, look again.
//
//   auto process = start_unpack({.program = …, .archive_fd = …, .directory_fd = …, …});
//   // poll process->verdict until it ends, then wait for process->child
//   auto verdict = parse_verdict(text, end);              // rootfs/archive.h
//   if (verdict && verdict->accepted()) accept_tree(directory_fd);
//
// The directory is made by the caller, empty and owned by `uid`; after anything but acceptance the
// caller removes it with what is in it.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/fd.h"
#include "base/process.h"
#include "rootfs/archive.h"

namespace rootfs {

struct UnpackJob {
  std::string program;    // path of brood-unpack
  int archive_fd = -1;    // a regular file, read from its beginning; stays the caller's
  int directory_fd = -1;  // stays the caller's
  uid_t uid = 0;          // an unprivileged host uid and gid that nothing else runs as; never 0
  gid_t gid = 0;
  // A mount namespace for the child to begin in instead of the caller's, which may have a mount for
  // each function, all of which the child would have to copy to have its own; -1: the caller's.
  int mounts_fd = -1;
  std::string single_file{};  // not empty: the body is no archive but the file of this name
  UnpackLimits limits;
};

struct UnpackProcess {
  base::OwnedPid child;    // its pidfd is readable once it has ended; killed when dropped
  base::UniqueFd verdict;  // non-blocking; at its end the child has left or is about to
};

// Spawns without blocking on the child's work. Needs root, and /proc. Processor time is limited,
// time is not: the caller's timer drops the process. The child has descriptors 0 to 4 (and 5, the
// mount namespace) and no other, an environment of two variables, and dies with the thread that
// called this: call it from one that lives on.
Result<UnpackProcess> start_unpack(const UnpackJob& job);

// Reads the verdict to its end (at most 64 KiB), waits, and parses: for callers that may block.
Result<UnpackVerdict> finish_unpack(UnpackProcess process);

// Walks what has been unpacked, by descriptors and without following a link, and holds it again
// against the rules of rootfs/archive.h: nothing but regular files of mode 0644 or 0755,
// directories of mode 0755 and links that stay inside, on one file system, within the limits. The
// directory itself may have any mode.
Status accept_tree(int directory_fd, const UnpackLimits& limits = {});

}  // namespace rootfs

// What an archive may hold, and what its unpacker may say: pure rules, no descriptor, no
// libarchive. cmd/brood-unpack holds every entry against them while it unpacks, rootfs/unpack.h
// holds the finished tree against them again, and rootfs/pack.h refuses before it is sent what they
// refuse.
//
// An archive is a tar (ustar, pax, GNU), plain or in gzip or zstd, or a zip with stored or deflated
// entries. It may hold regular files, directories, symbolic links that stay inside, and hard links
// to a regular file that came before. Modes become 0644, 0755 for what its owner may execute and
// for directories; owners, times, set-id and sticky bits, ACLs and extended attributes are dropped.
#pragma once

#include <sys/types.h>

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/process.h"

namespace rootfs {

using base::Result;
using base::Status;

struct UnpackLimits {
  std::uint64_t bytes = 256ULL << 20;  // all files together, holes and hard links counted in full
  std::uint32_t files = 20'000;        // entries, and directories that only a path implies
  std::uint32_t depth = 32;            // components of a path
  std::uint32_t path = 1024;           // bytes of a path, or of a link's target
  std::uint32_t cpu_seconds = 60;
};

// The path of an entry below the root of its tree, without "." components, doubled or trailing
// slashes; empty for the root itself ("./"). Refuses, with a sentence that fits behind the entry's
// name: an absolute path, a "..", a name that is empty, over 255 bytes, not UTF-8, or that has a
// control character, and a path that is over the limits.
Result<std::string> safe_entry_path(std::string_view name, const UnpackLimits& limits = {});

// The target of the symbolic link at `link_path` (as safe_entry_path gave it). A target is relative
// and may go up only at its beginning, and not above the root: since no entry lies below a link,
// such a target stays inside whatever other links it passes through. Refuses all others.
Result<std::string> safe_link_target(std::string_view link_path, std::string_view target,
                                     const UnpackLimits& limits = {});

// 0755 for what its owner may execute, else 0644.
constexpr mode_t kDirectoryMode = 0755;
constexpr mode_t file_mode(mode_t archived) {
  return (archived & 0100) != 0 ? 0755 : 0644;
}

// A name out of an archive, fit for a message: control characters and bytes that are not UTF-8 as
// \xNN, cut after `limit` bytes.
std::string printable(std::string_view name, std::size_t limit = 200);

// What became of an archive. `refusal` says what is wrong with it (empty: nothing is), `entry`
// which of its entries is at fault (empty: the whole).
struct UnpackVerdict {
  std::uint64_t files = 0;
  std::uint64_t bytes = 0;
  std::string refusal;
  std::string entry;
  bool accepted() const { return refusal.empty(); }
  // "the archive is refused: 'a/../../b': …"
  std::string message() const;
};

// How brood-unpack leaves: its verdict is one line of JSON, {"files":n,"bytes":n} or
// {"error":"…","entry":"…"}.
constexpr int kUnpackAccepted = 0;
constexpr int kUnpackRefused = 1;  // the archive's fault
constexpr int kUnpackUnable = 2;   // the host's fault: could not confine itself, disk full, …

std::string format_verdict(const UnpackVerdict& verdict);
std::string format_unable(std::string_view reason, std::string_view entry);

// Makes of both a verdict, or an error where the unpacker could not do its work. The text comes
// from a process that has read a hostile archive, and is trusted no further than the archive: its
// size, shape and characters are checked, and only together with the fitting exit status does it
// count. A process that died over the archive (SIGSYS, SIGXCPU, SIGSEGV, …) is a refusal that says
// so; SIGKILL is an error, because it comes from outside.
Result<UnpackVerdict> parse_verdict(std::string_view text, base::ProcessEnd end);

}  // namespace rootfs

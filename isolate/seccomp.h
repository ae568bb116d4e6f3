// The seccomp profiles, as instructions that children load. profile.cc says what they hold; the
// build compiles it.
#pragma once

#include <string>
#include <string_view>

#include "isolate/spec.h"

namespace isolate {

// What a refused system call does.
//   allow-list: everything else is ENOSYS, so that programs fall back as on an older kernel;
//   calls that exist for programs like these but are refused: EPERM;
//   calls that only an attacker makes (kexec, modules, reboot, open_by_handle_at, …): death, told
//   to the agent by name through seccomp's user notification where the kernel has it; any other ABI
//   (i386, x32): death.
enum class Deadly { notify, kill };

// Whether a program may make a file whose program runs as its owner (set-uid and set-gid bits).
// Refused, for sandboxes that write to a folder of the host: chmod and its kin, and open and creat,
// answer EPERM where a mode has one of these bits, and openat2, whose mode no filter can see,
// ENOSYS.
enum class SetId { allowed, refused };

// The filter of a sandbox. brood is built for x86_64 and aarch64 alone.
Filter sandbox_filter(Deadly deadly, SetId set_id = SetId::allowed);

// The filter of a zygote: its children still have to mount and to drop powers, so it refuses
// (EPERM) what neither they nor it ever need. Filters add up, so it is in force in sandboxes too.
Filter zygote_filter();

// The filter of an agent itself: what it never calls does not exist for it (ENOSYS).
Filter agent_filter();

// The name of a system call of the native ABI; its number where there is none.
std::string syscall_name(int number);

}  // namespace isolate

// What a seccomp filter says to a call, found without the kernel.
#pragma once

#include <linux/seccomp.h>

#include <cstdint>

#include "isolate/spec.h"

namespace tests {

// Walks `filter` as the kernel does, for the instructions that seccomp filters are made of: its
// SECCOMP_RET_* value. Throws std::runtime_error at an instruction that is none of them, or where
// the filter has no end.
std::uint32_t filter_verdict(const isolate::Filter& filter, const seccomp_data& data);

}  // namespace tests

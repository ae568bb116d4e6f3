// What an agent holds at a quiet moment, in figures that a soak watches: of the agent's processes,
// of the kernel objects that it has made, of its disk, and of the kernel's own memory.
#pragma once

#include <sys/types.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

namespace soak {

// How much a figure may grow between a tenth of a soak and its end: a share of what it was, and
// something on top.
struct Growth {
  std::uint64_t percent;
  std::uint64_t plus;
};

struct Figure {
  const char* name;
  Growth allowed;
  const char* reason;  // for the growth
};

inline constexpr const char* kOne =
    "each is made for a sandbox or a client, and their number is the same";
inline constexpr const char* kHeap = "what an allocator keeps settles with the first spikes";
inline constexpr const char* kHost = "all programs of the host share it";

constexpr std::size_t kFigures = 16;
inline constexpr std::array<Figure, kFigures> kCounted{{
    {"agent RSS (KiB)", {5, 2048}, kHeap},
    {"agent PSS, anon (KiB)", {5, 2048}, kHeap},
    {"agent descriptors", {0, 0}, kOne},
    {"agent threads", {0, 0}, kOne},
    {"agent mounts", {0, 0}, kOne},
    {"cgroups below", {0, 0}, kOne},
    {"dying cgroups", {0, 200}, "the kernel frees them in its own time"},
    {"processes below", {0, 0}, kOne},
    {"zygote RSS (KiB)", {5, 2048}, kHeap},
    {"state (KiB)", {0, 64}, "the registry's journal"},
    {"logs (KiB)", {0, 5 * 4200}, "four files of 1 MiB are kept of each function"},
    {"slab SUnreclaim (KiB)", {0, 64 << 10}, kHost},
    {"slab net_namespace", {0, 500}, kHost},
    {"slab pid_namespace", {0, 500}, kHost},
    {"slab mnt_cache", {0, 10'000}, kHost},
    {"slab task_struct", {0, 1'000}, kHost},
}};

// Where to look.
struct Subject {
  pid_t agent = -1;
  pid_t zygote = -1;
  std::string cgroup;     // that holds the agent's
  std::string state_dir;  // with logs/ in it
};

using Counts = std::array<std::uint64_t, kFigures>;

struct Census {
  std::uint64_t invocations = 0;  // answered by then
  Counts counts{};
};

// Reads /proc, the cgroup tree and the state directory. Needs root; what cannot be read is 0.
Counts count(const Subject& subject);

// Whether the two tell of the same kernel objects: what was being unmade between them is gone.
bool same_objects(const Counts& one, const Counts& other);

// A line for each figure that has grown by more than it may.
std::vector<std::string> grown(const Counts& before, const Counts& after);

// One row a figure, one column a census.
std::string table_of(const std::vector<Census>& all);

// "slabinfo" of /proc: how many objects of this cache are in use.
std::uint64_t objects_in_use(const std::string& slabinfo, const std::string& cache);

}  // namespace soak

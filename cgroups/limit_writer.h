// Limits that change while a request waits. The files are opened when the sandbox is made, so that
// a changed limit costs one write(2), and an unchanged one nothing.
#pragma once

#include <cstdint>
#include <optional>

#include "base/error.h"
#include "base/fd.h"
#include "cgroups/cgroup.h"

namespace cgroups {

class LimitWriter {
 public:
  LimitWriter() = default;
  // A controller whose file is missing is no error: `missing` has it, and its setter does nothing.
  static base::Result<LimitWriter> open(const Cgroup& cgroup);

  ControllerSet missing() const;

  // As Limits has them. memory.swap.max and memory.oom.group are set_limits's part, beforehand.
  base::Status set_memory(std::uint64_t bytes);
  base::Status set_cpu(std::uint32_t milli_cpu);
  base::Status set_cpu_weight(std::uint32_t weight);
  base::Status set_pids(std::uint64_t count);

 private:
  struct File {
    base::UniqueFd fd;
    std::optional<std::uint64_t> written;
  };
  template <typename Format>
  base::Status set(File& file, const char* name, std::uint64_t value, Format format);

  File memory_;
  File cpu_;
  File weight_;
  File pids_;
};

}  // namespace cgroups

#include "cmd/agent_process.h"

#include <sys/resource.h>

#include <filesystem>

namespace cmd {

std::string beside_program(std::initializer_list<const char*> candidates) {
  std::error_code ignored;
  const auto directory = std::filesystem::read_symlink("/proc/self/exe", ignored).parent_path();
  for (const char* candidate : candidates) {
    const auto path = (directory / candidate).lexically_normal();
    if (std::filesystem::exists(path, ignored)) {
      return path;
    }
  }
  return {};
}

// In PREFIX/sbin or PREFIX/lib/brood; or as it was built.
void find_parts(agent::AgentConfig& config) {
  if (config.support_dir.empty()) {
    config.support_dir = beside_program({"../lib/brood/runtimes", "runtimes", "../runtimes"});
  }
  if (config.unpack_program.empty()) {
    config.unpack_program = beside_program({"../lib/brood/brood-unpack", "brood-unpack"});
  }
}

void raise_descriptor_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_NOFILE, &limit) == 0) {
    limit.rlim_cur = limit.rlim_max;
    ::setrlimit(RLIMIT_NOFILE, &limit);
  }
}

void allow_core_limit() {
  rlimit limit{};
  if (::getrlimit(RLIMIT_CORE, &limit) == 0 && limit.rlim_max == 0) {
    limit.rlim_max = 1;
    ::setrlimit(RLIMIT_CORE, &limit);
  }
}

}  // namespace cmd

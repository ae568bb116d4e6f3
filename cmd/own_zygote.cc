#include "cmd/own_zygote.h"

#include <unistd.h>

#include <algorithm>
#include <string>

#include "rootfs/mounts.h"

extern "C" {
#include "runtimes/common/sandbox_maker.h"
#include "runtimes/native/command.h"
}

namespace cmd {

base::Result<base::OwnedPid> spawn_sandbox(
    const isolate::Plan& plan, const agent::SpawnOrder& order,
    const std::array<int, BROOD_SPAWN_FD_COUNT>& descriptors) {
  if (const int error = brood_use_plan(&plan, sizeof plan); error != 0) {
    return base::fail(base::Error("use the plan", error));
  }
  BROOD_TRY(const base::UniqueFd devices, rootfs::device_tmpfs());
  brood_more_process = brood_be_command;
  const std::string hostname(order.hostname);
  brood_launch launch{};
  launch.uid_first = order.uid_first;
  launch.uid_count = order.uid_count;
  launch.hostname = hostname.c_str();
  launch.devices = devices.get();
  std::copy(descriptors.begin(), descriptors.end(), launch.fds);
  int pidfd = -1;
  const char* failed = nullptr;
  const pid_t pid = brood_spawn_sandbox(&launch, &pidfd, &failed);
  if (pid == 0) {
    ::_exit(brood_be_command(BROOD_CONN_FD));
  }
  if (pid < 0) {
    return base::fail_errno(failed);
  }
  return base::OwnedPid(pid, base::UniqueFd(pidfd));
}

}  // namespace cmd

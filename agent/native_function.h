// What a native function's sandbox is told to run. Pure.
#pragma once

#include <string>

#include "agent/types.h"
#include "base/error.h"
#include "rootfs/image_config.h"

namespace agent {

struct NativeProgram {
  std::string handler;      // as BROOD_BIND_HANDLER says of native functions
  std::string environment;  // KEY=VALUE, each ended by NUL
};

// A handler is a program of the code, called without arguments, in the code's folder; without one,
// the image's entrypoint and command run in its directory. The environment is what every command
// finds, under the image's own, under the function's. Fails where there is nothing to run.
base::Result<NativeProgram> native_program(const FunctionSettings& settings,
                                           const rootfs::ImageConfig& image);

}  // namespace agent

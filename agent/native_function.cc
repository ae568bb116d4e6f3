#include "agent/native_function.h"

#include "agent/command.h"
#include "agent/layers.h"
#include "isolate/wire.h"

namespace agent {

base::Result<NativeProgram> native_program(const FunctionSettings& settings,
                                           const rootfs::ImageConfig& image) {
  CommandRequest request;
  request.environment = settings.environment;
  if (!settings.handler.empty()) {
    request.entrypoint = {std::string(BROOD_CODE_DIR "/") + settings.handler};
    request.directory = BROOD_CODE_DIR;
  }
  request = resolve(std::move(request), image);
  if (!settings.layers.empty()) {
    // The image's own PATH stays before the layers'.
    if (const auto path = request.environment.find("PATH");
        path != request.environment.end() && !settings.environment.contains("PATH")) {
      path->second += ":" BROOD_LAYERS_DIR "/bin";
    }
    add_layers_environment(Language::native, request.environment);
  }
  if (request.arguments.empty()) {
    return base::fail_because(
        "handler: image '" + settings.runtime + "' has no entrypoint and no command",
        "say which program of the code is run: --handler PROGRAM");
  }
  NativeProgram program;
  for (const std::string& word : {request.directory, settings.listen}) {
    program.handler.append(word).push_back('\0');
  }
  program.handler += command_arguments(request);
  program.environment = command_environment(request);
  return program;
}

}  // namespace agent

#include "bench/image.h"

#include <nlohmann/json.hpp>

#include "base/file.h"
#include "bench/programs.h"

namespace bench {

base::Result<ForkImport> start_fork_import(const std::string& images_dir,
                                           const std::string& runtime, const std::string& digest) {
  using Json = nlohmann::json;
  const std::string image = images_dir + "/" + runtime;
  BROOD_TRY(const std::string text, base::read_file(image + "/image.json"));
  const Json manifest = Json::parse(text, nullptr, false);
  const Json interpreter = manifest.is_object() ? manifest.value("interpreter", Json()) : Json();
  if (!interpreter.is_object()) {
    return base::fail_because(image + "/image.json names no interpreter");
  }
  if (!digest.empty() && digest.find(manifest.value("digest", "?")) == std::string::npos &&
      manifest.value("digest", "").find(digest) == std::string::npos) {
    return base::fail_because(image + " is not the image of the agent's runtime " + runtime +
                                  ", which has digest " + digest,
                              "name the agent's images with --images-dir");
  }
  return ForkImport::start({.root = image + "/rootfs",
                            .interpreter = interpreter.value("path", ""),
                            .handler = std::string(kHandlerSource)});
}

}  // namespace bench

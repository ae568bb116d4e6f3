// Layers: trees that functions share, published under a name and merged below BROOD_LAYERS_DIR in
// the sandboxes of the functions that name them.
//
// A layer's tree lies in the code store, under its digest. A function keeps the digests that its
// layers' names stood for when it was deployed, so publishing a name anew changes no function until
// that is deployed again. All on the event loop; what blocks runs on the disk thread.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/code_store.h"
#include "agent/language.h"
#include "agent/maker.h"
#include "agent/registry.h"
#include "agent/service.h"
#include "agent/types.h"
#include "rootfs/mounts.h"

namespace agent {

// Whether an image leaves BROOD_LAYERS_DIR to layers: it has no such folder, or an empty one. What
// an image has there is never hidden.
bool takes_layers(int image_root_fd);

// What a handler of this language finds of its layers by its environment, put under what
// `environment` says already: PATH, LD_LIBRARY_PATH, and for Node.js NODE_PATH. Pure.
void add_layers_environment(Language language, std::map<std::string, std::string>& environment);

class Layers {
 public:
  // All are borrowed and outlive it. `functions` names those that use a layer.
  struct Context {
    Registry& registry;
    const CodeStore& code;
    Maker& disk;
    std::function<std::vector<std::string>(std::string_view layer)> functions;
  };
  static base::Result<std::unique_ptr<Layers>> open(Context context);

  void publish(const Layer& layer, Completion<Layer> done);
  // 409, naming them, while functions use it.
  void remove(const std::string& name, Completion<Layer> done);
  std::vector<LayerStatus> list() const;
  // What the names stand for now, in their order; 400 where there is no such layer.
  tl::expected<std::vector<std::string>, Failure> resolve(
      const std::vector<std::string>& names) const;

 private:
  explicit Layers(Context context) : context_(std::move(context)) {}
  void answer(Completion<Layer> done, Failure failure);

  Context context_;
  std::map<std::string, Layer, std::less<>> layers_;
};

// The trees of `digests`, a later one over those before it, ready to be attached.
base::Result<rootfs::HeldMount> hold_layers(rootfs::CodeSlots& slots, const CodeStore& code,
                                            const std::vector<std::string>& digests);

}  // namespace agent

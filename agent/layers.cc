#include "agent/layers.h"

#include <dirent.h>
#include <fcntl.h>

#include <algorithm>
#include <cerrno>
#include <string_view>
#include <utility>

#include "agent/command.h"
#include "base/file.h"
#include "isolate/wire.h"

namespace agent {
namespace {

bool is_empty(int dir_fd) {
  DIR* directory = ::fdopendir(dir_fd);
  if (directory == nullptr) {
    return false;
  }
  bool empty = true;
  while (const dirent* entry = ::readdir(directory)) {  // NOLINT(concurrency-mt-unsafe)
    const std::string_view name = entry->d_name;
    empty = empty && (name == "." || name == "..");
  }
  ::closedir(directory);
  return empty;
}

std::string joined(const std::vector<std::string>& names) {
  std::string text;
  for (const std::string& name : names) {
    text += (text.empty() ? "" : ", ") + name;
  }
  return text;
}

}  // namespace

bool takes_layers(int image_root_fd) {
  constexpr const char* kBelowRoot = BROOD_LAYERS_DIR + 1;
  auto opened = base::open_at(image_root_fd, kBelowRoot, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  return opened ? is_empty(opened->release()) : opened.error().code() == ENOENT;
}

void add_layers_environment(Language language, std::map<std::string, std::string>& environment) {
  environment.try_emplace("PATH", std::string(kDefaultPath).append(":" BROOD_LAYERS_DIR "/bin"));
  environment.try_emplace("LD_LIBRARY_PATH", BROOD_LAYERS_DIR "/lib");
  if (language == Language::node) {
    environment.try_emplace("NODE_PATH", BROOD_LAYERS_DIR "/nodejs/node_modules");
  }
}

base::Result<std::unique_ptr<Layers>> Layers::open(Context context) {
  BROOD_TRY(const std::vector<Layer> stored, context.registry.load_layers());
  std::unique_ptr<Layers> layers(new Layers(std::move(context)));
  for (const Layer& layer : stored) {
    layers->layers_.emplace(layer.name, layer);
  }
  return layers;
}

void Layers::answer(Completion<Layer> done, Failure failure) {
  context_.disk.run([] { return true; }, [done = std::move(done), failure = std::move(failure)](
                                             bool) { done(tl::unexpected(failure)); });
}

void Layers::publish(const Layer& layer, Completion<Layer> done) {
  if (auto problem = validate_name(layer.name); !problem.empty()) {
    return answer(std::move(done), {400, "invalid_argument", "name: " + problem});
  }
  if (!context_.code.has(layer.digest)) {
    return answer(
        std::move(done),
        {400, "code_not_found", "there is no code sha256:" + layer.digest + "; upload it first"});
  }
  context_.disk.run(
      [this, layer] { return context_.registry.put_layer(layer); },
      [this, layer, done = std::move(done)](base::Status stored) {
        if (!stored) {
          return done(tl::unexpected(Failure{500, "internal", stored.error().message()}));
        }
        layers_[layer.name] = layer;
        done(layer);
      });
}

void Layers::remove(const std::string& name, Completion<Layer> done) {
  const auto found = layers_.find(name);
  if (found == layers_.end()) {
    return answer(std::move(done), {404, "not_found", "there is no layer '" + name + "'"});
  }
  if (const auto users = context_.functions(name); !users.empty()) {
    return answer(std::move(done),
                  {409, "conflict", "layer '" + name + "' is used by " + joined(users)});
  }
  const Layer layer = found->second;
  layers_.erase(found);  // no function takes it from here on
  context_.disk.run(
      [this, name] { return context_.registry.remove_layer(name); },
      [this, layer, done = std::move(done)](base::Status removed) {
        if (!removed) {
          layers_.emplace(layer.name, layer);
          return done(tl::unexpected(Failure{500, "internal", removed.error().message()}));
        }
        done(layer);
      });
}

std::vector<LayerStatus> Layers::list() const {
  std::vector<LayerStatus> all;
  for (const auto& [name, layer] : layers_) {
    all.push_back({layer, context_.functions(name)});
  }
  return all;
}

tl::expected<std::vector<std::string>, Failure> Layers::resolve(
    const std::vector<std::string>& names) const {
  std::vector<std::string> digests;
  for (const std::string& name : names) {
    const auto found = layers_.find(name);
    if (found == layers_.end()) {
      return tl::unexpected(
          Failure{400, "invalid_argument",
                  "layers: there is no layer '" + name + "'; publish it with brood layer publish"});
    }
    digests.push_back(found->second.digest);
  }
  return digests;
}

base::Result<rootfs::HeldMount> hold_layers(rootfs::CodeSlots& slots, const CodeStore& code,
                                            const std::vector<std::string>& digests) {
  std::vector<base::UniqueFd> trees;
  std::vector<int> fds;
  for (const std::string& digest : digests) {
    BROOD_TRY(base::UniqueFd tree, code.open_tree(digest));
    fds.push_back(tree.get());
    trees.push_back(std::move(tree));
  }
  return slots.layers(fds);
}

}  // namespace agent

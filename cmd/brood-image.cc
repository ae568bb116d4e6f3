// brood-image: what Makefile.rootfs and people do with images; see rootfs/image.h for the words.
#include <fcntl.h>
#include <linux/fs.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <CLI/CLI.hpp>
#include <cerrno>
#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "base/units.h"
#include "rootfs/definition.h"
#include "rootfs/image.h"

namespace {

using base::Result;
using base::Status;
using base::UniqueFd;

Result<rootfs::Definition> read_definition(const std::string& directory, const std::string& name) {
  return rootfs::resolve_definition(name, [&](const std::string& wanted) {
    return base::read_file(directory + "/" + wanted + ".toml");
  });
}

std::string joined(const std::vector<std::string>& items) {
  std::string text;
  for (const std::string& item : items) {
    text += (text.empty() ? "" : ",") + item;
  }
  return text;
}

Result<UniqueFd> open_directory(const std::string& path) {
  return base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

Status print_digest(const std::string& directory) {
  BROOD_TRY(const UniqueFd fd, open_directory(directory));
  BROOD_TRY(const rootfs::TreeDigest digest, rootfs::tree_digest(fd.get()));
  std::printf("%s\n", digest.digest.c_str());
  return {};
}

// The lines that scripts/image/build reads.
Status print_definition(const std::string& directory, const std::string& name) {
  BROOD_TRY(const rootfs::Definition definition, read_definition(directory, name));
  std::printf("suite=%s\npackages=%s\ninterpreter=%s\npreload=%s\n", definition.suite.c_str(),
              joined(definition.packages).c_str(), definition.interpreter.c_str(),
              joined(definition.preload).c_str());
  return {};
}

Status seal(const std::string& directory, const std::string& definitions, const std::string& name,
            const std::string& interpreter_version) {
  BROOD_TRY(rootfs::Definition definition, read_definition(definitions, name));
  BROOD_TRY(const UniqueFd image, open_directory(directory));
  BROOD_TRY(const UniqueFd tree, base::open_at(image.get(), rootfs::kTreeDirectory,
                                               O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  BROOD_CHECK(rootfs::strip_privileges(tree.get()));
  BROOD_CHECK(rootfs::check_contract(tree.get()));
  BROOD_TRY(const rootfs::TreeDigest digest, rootfs::tree_digest(tree.get()));
  rootfs::Manifest manifest;
  manifest.name = name;
  manifest.from = std::move(definition.from);
  manifest.suite = std::move(definition.suite);
  manifest.packages = std::move(definition.packages);
  manifest.preload = std::move(definition.preload);
  manifest.interpreter = std::move(definition.interpreter);
  manifest.interpreter_version = interpreter_version;
  manifest.digest = digest.digest;
  manifest.size_bytes = digest.size_bytes;
  manifest.files = digest.files;
  const std::string text = rootfs::format_manifest(manifest);
  BROOD_CHECK(rootfs::parse_manifest(text));
  BROOD_CHECK(base::replace_file_at(image.get(), rootfs::kManifestFile, text, 0644));
  std::printf("%s  %s  %llu files, %.1f MiB\n", name.c_str(), digest.digest.c_str(),
              static_cast<unsigned long long>(digest.files),
              static_cast<double>(digest.size_bytes) / (1 << 20));
  return {};
}

// Puts a finished build in its place in one step. What was there is moved to where the build was:
// zygotes that still use it keep their files until the next build.
Status install(const std::string& from, const std::string& to) {
  const auto rename = [&](unsigned flags) {
    return ::syscall(SYS_renameat2, AT_FDCWD, from.c_str(), AT_FDCWD, to.c_str(), flags);
  };
  if (rename(RENAME_NOREPLACE) == 0) {
    return {};
  }
  if (errno == EEXIST && rename(RENAME_EXCHANGE) == 0) {
    return {};
  }
  return base::fail_errno("renameat2", to);
}

Status verify(const std::string& directory) {
  const std::filesystem::path path = std::filesystem::absolute(directory).lexically_normal();
  const std::filesystem::path own = path.has_filename() ? path : path.parent_path();
  BROOD_TRY(const rootfs::Image image,
            rootfs::open_image(own.parent_path().string(), own.filename().string()));
  BROOD_CHECK(rootfs::verify(image));
  std::printf("%s is what was built\n", image.manifest.name.c_str());
  return {};
}

void print_as_text(const std::vector<rootfs::ListedImage>& images) {
  for (const rootfs::ListedImage& image : images) {
    if (image.manifest) {
      std::printf("%-20s %8.1f MiB  %6llu files  %s\n", image.name.c_str(),
                  static_cast<double>(image.manifest->size_bytes) / (1 << 20),
                  static_cast<unsigned long long>(image.manifest->files),
                  image.manifest->digest.c_str());
    } else {
      std::printf("%-20s unusable: %s\n", image.name.c_str(),
                  image.manifest.error().message().c_str());
    }
  }
}

void print_as_json(const std::vector<rootfs::ListedImage>& images) {
  auto list = nlohmann::ordered_json::array();
  for (const rootfs::ListedImage& image : images) {
    if (image.manifest) {
      list.push_back(nlohmann::ordered_json::parse(rootfs::format_manifest(*image.manifest)));
    } else {
      list.push_back({{"name", image.name}, {"problem", image.manifest.error().message()}});
    }
  }
  std::printf("%s\n", list.dump(2).c_str());
}

using Printer = void (*)(const std::vector<rootfs::ListedImage>&);

Status list(const std::string& directory, Printer print) {
  BROOD_TRY(const std::vector<rootfs::ListedImage> images, rootfs::list_images(directory));
  print(images);
  return {};
}

int report(const Status& status) {
  if (!status) {
    std::fprintf(stderr, "brood-image: %s\n", status.error().message().c_str());
    return 1;
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  CLI::App app("Describe, seal and verify brood's images");
  app.require_subcommand(1);
  std::string directory;
  std::string name;
  std::string definitions = "rootfs/images";
  std::string version;
  std::string target;
  bool as_json = false;
  Status outcome;

  auto* digest = app.add_subcommand("digest", "Print the digest of any tree");
  digest->add_option("DIR", directory)->required();
  digest->callback([&] { outcome = print_digest(directory); });

  auto* define = app.add_subcommand("definition", "Print a definition with all it is derived from");
  define->add_option("DEFINITIONS", definitions)->required();
  define->add_option("NAME", name)->required();
  define->callback([&] { outcome = print_definition(definitions, name); });

  auto* sealing = app.add_subcommand("seal", "Check DIR/rootfs and write DIR/image.json");
  sealing->add_option("DIR", directory)->required();
  sealing->add_option("--name", name)->required();
  sealing->add_option("--definitions", definitions, "Folder of definitions")->required();
  sealing->add_option("--interpreter-version", version);
  sealing->callback([&] { outcome = seal(directory, definitions, name, version); });

  auto* placing = app.add_subcommand("install", "Exchange a finished build with what is in place");
  placing->add_option("FROM", directory)->required();
  placing->add_option("TO", target)->required();
  placing->callback([&] { outcome = install(directory, target); });

  auto* verifying = app.add_subcommand("verify", "Hold IMAGES/NAME against its manifest");
  verifying->add_option("DIR", directory)->required();
  verifying->callback([&] { outcome = verify(directory); });

  auto* listing = app.add_subcommand("list", "List the images in a folder");
  listing->add_option("DIR", directory)->required();
  listing->add_flag("--json", as_json);
  listing->callback([&] { outcome = list(directory, as_json ? print_as_json : print_as_text); });

  CLI11_PARSE(app, argc, argv);
  return report(outcome);
}

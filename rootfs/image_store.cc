#include "rootfs/image_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <sys/file.h>
#include <sys/sendfile.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <memory>

#include "base/file.h"
#include "rootfs/confined_tool.h"
#include "rootfs/definition.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;

constexpr char kImporting[] = ".import-";
constexpr char kReplaced[] = ".gone-";
constexpr std::size_t kDeepest = 256;  // levels; as rootfs/walk.h has it

constexpr char kSkopeo[] = "/usr/bin/skopeo";
constexpr char kUmoci[] = "/usr/bin/umoci";
constexpr char kTar[] = "/usr/bin/tar";

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

Result<std::vector<std::string>> names_in(int dir_fd) {
  // Of its own: a copy would share its position.
  BROOD_TRY(UniqueFd fd, base::open_at(dir_fd, ".", O_RDONLY | O_DIRECTORY));
  Directory directory(::fdopendir(fd.get()));
  if (!directory) {
    return fail_errno("fdopendir");
  }
  (void)fd.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(directory.get())) {  // NOLINT(concurrency-mt-unsafe)
    if (const std::string name = entry->d_name; name != "." && name != "..") {
      names.push_back(name);
    }
  }
  return names;
}

Status require(const char* program) {
  if (::access(program, X_OK) != 0) {
    return fail_because(std::string(program) + " is not there",
                        "install it: apt-get install skopeo umoci");
  }
  return {};
}

// --- a place for an import -----------------------------------------------------------------------

// IMAGES/.import-XXXXXX, locked; removed with everything in it.
class WorkPlace {
 public:
  static Result<WorkPlace> make(const std::string& images_dir) {
    BROOD_CHECK(base::make_directories(images_dir, 0755));
    WorkPlace place;
    BROOD_TRY(place.images_, base::open_at(AT_FDCWD, images_dir, O_RDONLY | O_DIRECTORY));
    for (int i = 0; i < kTries && !place.lock_; ++i) {
      BROOD_CHECK(place.take(images_dir + "/" + kImporting + "XXXXXX"));
    }
    if (!place.lock_) {
      return fail_because("no place for an import is kept in " + images_dir);
    }
    BROOD_CHECK(base::make_directories(place.files(), 0755));
    return place;
  }

  WorkPlace() = default;
  WorkPlace(WorkPlace&&) noexcept = default;
  WorkPlace& operator=(WorkPlace&&) noexcept = default;
  WorkPlace(const WorkPlace&) = delete;
  WorkPlace& operator=(const WorkPlace&) = delete;
  ~WorkPlace() {
    if (images_ && !name_.empty()) {
      (void)base::remove_tree_at(images_.get(), name_);
    }
  }

  const std::string& path() const { return path_; }
  std::string files() const { return path_ + "/files"; }  // what a tool sees as /work
  int images() const { return images_.get(); }

 private:
  // Leaves `lock_` empty where somebody's prune was quicker, which takes what is not locked.
  Status take(std::string path) {
    if (::mkdtemp(path.data()) == nullptr) {
      return fail_errno("mkdtemp", path);
    }
    auto opened = base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
    if (opened && ::flock(opened->get(), LOCK_EX | LOCK_NB) == 0 &&
        ::access(path.c_str(), F_OK) == 0) {
      lock_ = std::move(*opened);
      path_ = path;
      name_ = path.substr(path.rfind('/') + 1);
    }
    return {};
  }

  static constexpr int kTries = 8;
  UniqueFd images_;
  UniqueFd lock_;
  std::string path_;
  std::string name_;
};

// --- from a source to a tree ---------------------------------------------------------------------

// Where skopeo finds it, in its tool's root.
std::string skopeo_source(const ImportRequest& request) {
  const std::string reference = request.reference.empty() ? "" : ":" + request.reference;
  switch (request.kind) {
    case SourceKind::oci_layout:
      return "oci:/input" + reference;
    case SourceKind::oci_archive:
      return "oci-archive:/input" + reference;
    case SourceKind::docker_archive:
      return "docker-archive:/input" + reference;
    case SourceKind::registry:
    case SourceKind::tree_archive:
      break;
  }
  return "docker://" + request.source;
}

Status fetch(const ImportRequest& request, const WorkPlace& place) {
  const bool registry = request.kind == SourceKind::registry;
  ToolRun run{.arguments = {kSkopeo, "--tmpdir", "/work", "copy", "--quiet"},
              .work = place.files(),
              .input = registry ? "" : request.source,
              .credentials = request.credentials,
              .network = registry ? ToolNetwork::host : ToolNetwork::none,
              .capabilities = {CAP_DAC_OVERRIDE}};
  if (!request.credentials.empty()) {
    run.arguments.insert(run.arguments.end(), {"--authfile", "/credentials"});
  }
  if (registry && !request.tls) {
    run.arguments.emplace_back("--src-tls-verify=false");
  }
  run.arguments.insert(run.arguments.end(), {skopeo_source(request), "oci:/work/layout:image"});
  BROOD_TRY([[maybe_unused]] const std::string said, run_confined(run));
  return {};
}

Result<ImageConfig> read_config(const WorkPlace& place) {
  BROOD_TRY(const std::string text,
            run_confined({.arguments = {kSkopeo, "inspect", "--config", "oci:/work/layout:image"},
                          .work = place.files(),
                          .capabilities = {CAP_DAC_OVERRIDE}}));
  return parse_oci_config(text);
}

// What it takes to write files of any owner and mode; devices are made, and cannot be opened.
const std::vector<int> kUnpackPowers{CAP_CHOWN,  CAP_DAC_OVERRIDE, CAP_FOWNER,
                                     CAP_FSETID, CAP_MKNOD,        CAP_SETFCAP};

Result<std::string> unpack_layers(const WorkPlace& place) {
  BROOD_TRY([[maybe_unused]] const std::string said,
            run_confined(
                {.arguments = {kUmoci, "unpack", "--image", "/work/layout:image", "/work/bundle"},
                 .work = place.files(),
                 .capabilities = kUnpackPowers}));
  return place.files() + "/bundle/rootfs";
}

Result<std::string> unpack_tree(const ImportRequest& request, const WorkPlace& place) {
  BROOD_CHECK(base::make_directories(place.files() + "/rootfs", 0755));
  BROOD_TRY(
      [[maybe_unused]] const std::string said,
      run_confined({.arguments = {kTar, "--extract", "--file=/input", "--directory=/work/rootfs",
                                  "--numeric-owner", "--same-owner", "--preserve-permissions",
                                  "--sparse", "--xattrs", "--xattrs-include=user.*"},
                    .work = place.files(),
                    .input = request.source,
                    .capabilities = kUnpackPowers}));
  return place.files() + "/rootfs";
}

// --- from a tree to an image ---------------------------------------------------------------------

Status drop_special_files(int dir_fd, std::size_t depth) {
  if (depth > kDeepest) {
    return fail_because("the image has more than 256 levels of directories");
  }
  BROOD_TRY(const std::vector<std::string> names, names_in(dir_fd));
  for (const std::string& name : names) {
    struct stat about {};
    if (::fstatat(dir_fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
      return fail_errno("fstatat", name);
    }
    if (S_ISDIR(about.st_mode)) {
      BROOD_TRY(const UniqueFd child,
                base::open_at(dir_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
      BROOD_CHECK(drop_special_files(child.get(), depth + 1));
    } else if (!S_ISREG(about.st_mode) && !S_ISLNK(about.st_mode) &&
               ::unlinkat(dir_fd, name.c_str(), 0) != 0) {
      return fail_errno("unlinkat", name);
    }
  }
  return {};
}

Status make_empty(int root_fd, const char* name, mode_t mode) {
  BROOD_CHECK(base::remove_tree_at(root_fd, name));
  if (::mkdirat(root_fd, name, mode) != 0 || ::fchmodat(root_fd, name, mode, 0) != 0) {
    return fail_errno("mkdirat", name);
  }
  return {};
}

Status keep_contract(int root_fd) {
  for (const char* name : {"proc", "dev", "sys", "run"}) {
    BROOD_CHECK(make_empty(root_fd, name, 0755));
  }
  BROOD_CHECK(make_empty(root_fd, "tmp", 01777));
  // A root that only its owner may enter is of no use to whoever is not: in a sandbox, everybody.
  if (::fchmod(root_fd, 0755) != 0) {
    return fail_errno("fchmod", "/");
  }
  BROOD_CHECK(drop_special_files(root_fd, 0));
  BROOD_CHECK(strip_privileges(root_fd));
  return check_contract(root_fd);
}

Result<Manifest> seal(const ImportRequest& request, const std::string& image_path,
                      ImageConfig config) {
  BROOD_TRY(const UniqueFd image, base::open_at(AT_FDCWD, image_path, O_RDONLY | O_DIRECTORY));
  BROOD_TRY(const UniqueFd tree,
            base::open_at(image.get(), kTreeDirectory, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  BROOD_CHECK(keep_contract(tree.get()));
  BROOD_TRY(const TreeDigest digest, tree_digest(tree.get()));
  Manifest manifest;
  manifest.name = request.name;
  manifest.source = request.source;
  manifest.config = std::move(config);
  manifest.digest = digest.digest;
  manifest.size_bytes = digest.size_bytes;
  manifest.files = digest.files;
  const std::string text = format_manifest(manifest);
  BROOD_TRY(manifest, parse_manifest(text));
  BROOD_CHECK(base::replace_file_at(image.get(), kManifestFile, text, 0644));
  return manifest;
}

long rename_with(int dir_fd, const std::string& from, const std::string& to, unsigned flags) {
  return ::syscall(SYS_renameat2, dir_fd, from.c_str(), dir_fd, to.c_str(), flags);
}

bool try_lock(const UniqueFd& directory, int how) {
  return ::flock(directory.get(), how | LOCK_NB) == 0;
}

// The one before is removed, or kept aside for as long as somebody uses it.
Status put_in_place(const ImportRequest& request, const WorkPlace& place) {
  const std::string from = place.path().substr(place.path().rfind('/') + 1) + "/image";
  if (rename_with(place.images(), from, request.name, RENAME_NOREPLACE) == 0) {
    return {};
  }
  if (errno != EEXIST) {
    return fail_errno("renameat2", request.name);
  }
  if (!request.replace) {
    return fail_because("there is an image '" + request.name + "' already",
                        "replace it with --replace, or give another --name");
  }
  if (rename_with(place.images(), from, request.name, RENAME_EXCHANGE) != 0) {
    return fail_errno("renameat2", request.name);
  }
  BROOD_TRY(const UniqueFd former,
            base::open_at(place.images(), from, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  if (try_lock(former, LOCK_EX)) {
    return {};  // goes with the work place
  }
  const std::string aside = kReplaced + place.path().substr(place.path().rfind('-') + 1);
  return rename_with(place.images(), from, aside, RENAME_NOREPLACE) == 0
             ? Status{}
             : Status(fail_errno("renameat2", aside));
}

// --- from an image to an archive -----------------------------------------------------------------

Status run_tool(const WorkPlace& place, std::vector<std::string> arguments) {
  BROOD_TRY([[maybe_unused]] const std::string said,
            run_confined({.arguments = std::move(arguments),
                          .work = place.files(),
                          .capabilities = {CAP_DAC_OVERRIDE}}));
  return {};
}

std::vector<std::string> config_arguments(const ImageConfig& config) {
  std::vector<std::string> arguments{kUmoci, "config", "--image", "/work/layout:image"};
  const auto each = [&](const char* flag, const std::vector<std::string>& values) {
    for (const std::string& value : values) {
      arguments.push_back(std::string(flag) + "=" + value);
    }
  };
  const auto one = [&](const char* flag, const std::string& value) {
    if (!value.empty()) {
      arguments.push_back(std::string(flag) + "=" + value);
    }
  };
  each("--config.entrypoint", config.entrypoint);
  each("--config.cmd", config.command);
  each("--config.env", config.environment);
  one("--config.workingdir", config.directory);
  one("--config.user", config.user);
  one("--config.stopsignal", config.stop_signal);
  return arguments;
}

// Of /work/image.tar, as its only layer.
Status make_layout(const WorkPlace& place, const ImageConfig& config) {
  for (const char* program : {kSkopeo, kUmoci}) {
    BROOD_CHECK(require(program));
  }
  BROOD_CHECK(run_tool(place, {kUmoci, "init", "--layout", "/work/layout"}));
  BROOD_CHECK(run_tool(place, {kUmoci, "new", "--image", "/work/layout:image"}));
  BROOD_CHECK(run_tool(
      place, {kUmoci, "raw", "add-layer", "--image", "/work/layout:image", "/work/image.tar"}));
  return run_tool(place, config_arguments(config));
}

Status make_archive(const WorkPlace& place, const std::string& destination) {
  return run_tool(place, {kSkopeo, "--tmpdir", "/work", "copy", "--quiet", "oci:/work/layout:image",
                          destination});
}

Status copy_out(const std::string& made, const std::string& file) {
  BROOD_TRY(const UniqueFd from, base::open_at(AT_FDCWD, made, O_RDONLY | O_NOFOLLOW));
  BROOD_TRY(const UniqueFd to, base::open_at(AT_FDCWD, file, O_WRONLY | O_CREAT | O_EXCL, 0644));
  for (;;) {
    // Not copy_file_range: that stays within one kind of file system.
    const ssize_t copied = ::sendfile(to.get(), from.get(), nullptr, 64 << 20);
    if (copied == 0) {
      return {};
    }
    if (interrupted() || (copied < 0 && errno != EINTR)) {
      Status failed = interrupted() ? Status(fail_because("interrupted"))
                                    : Status(fail_errno("sendfile", file));
      ::unlink(file.c_str());
      return failed;
    }
  }
}

std::uint64_t size_of(int dir_fd, const std::string& name) {
  const auto text = base::read_file_at(dir_fd, name + "/" + kManifestFile, kManifestLimit);
  const auto manifest = text ? parse_manifest(*text) : fail(text.error());
  return manifest ? manifest->size_bytes : 0;
}

}  // namespace

Result<SourceKind> source_kind(const std::string& images_dir, const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) {
    return fail_errno("stat", path);
  }
  if (S_ISDIR(about.st_mode)) {
    if (::access((path + "/oci-layout").c_str(), F_OK) != 0) {
      return fail_because(
          "'" + path + "' is a folder, but no OCI image layout (no oci-layout in it)",
          "make a tar of a root file system: tar -C " + path + " -cf IMAGE.tar .");
    }
    return SourceKind::oci_layout;
  }
  if (!S_ISREG(about.st_mode)) {
    return fail_because("'" + path + "' is neither a file nor a folder");
  }
  BROOD_TRY(const WorkPlace place, WorkPlace::make(images_dir));
  // Exit status 2 where one of them is not in it, so a failure by itself says nothing: what the
  // file is of no use for is told by the import.
  const auto whole =
      run_confined({.arguments = {"/usr/bin/sh", "-c",
                                  "tar --list --file=/input oci-layout ./oci-layout manifest.json "
                                  "./manifest.json 2>/dev/null || :"},
                    .work = place.files(),
                    .input = path,
                    .capabilities = {CAP_DAC_OVERRIDE}});
  if (!whole) {
    return fail(whole.error());
  }
  if (whole->find("oci-layout\n") != std::string::npos) {
    return SourceKind::oci_archive;
  }
  return whole->find("manifest.json\n") != std::string::npos ? SourceKind::docker_archive
                                                             : SourceKind::tree_archive;
}

Result<Manifest> import_image(const ImportRequest& request) {
  if (!is_image_name(request.name)) {
    return fail_because("'" + request.name + "' is not a name for an image",
                        "lower case letters, digits, '.', '_' and '-', at most 63: --name");
  }
  for (const char* program : {kSkopeo, kUmoci}) {
    BROOD_CHECK(require(program));
  }
  BROOD_TRY([[maybe_unused]] const std::uint64_t freed, prune_images(request.images_dir));
  if (!request.replace && ::access((request.images_dir + "/" + request.name).c_str(), F_OK) == 0) {
    return fail_because("there is an image '" + request.name + "' already",
                        "replace it with --replace, or give another --name");
  }
  BROOD_TRY(const WorkPlace place, WorkPlace::make(request.images_dir));
  ImageConfig config;
  std::string tree;
  if (request.kind == SourceKind::tree_archive) {
    request.progress("unpacking");
    BROOD_TRY(tree, unpack_tree(request, place));
  } else {
    request.progress(request.kind == SourceKind::registry ? "fetching" : "reading");
    BROOD_CHECK(fetch(request, place));
    BROOD_TRY(config, read_config(place));
    request.progress("unpacking");
    BROOD_TRY(tree, unpack_layers(place));
  }
  BROOD_CHECK(base::make_directories(place.path() + "/image", 0755));
  const std::string image = place.path() + "/image";
  if (::rename(tree.c_str(), (image + "/" + kTreeDirectory).c_str()) != 0) {
    return fail_errno("rename", tree);
  }
  request.progress("sealing");
  BROOD_TRY(Manifest manifest, seal(request, image, std::move(config)));
  if (interrupted()) {
    return fail_because("interrupted");
  }
  BROOD_CHECK(put_in_place(request, place));
  return manifest;
}

std::string name_of_source(const std::string& source) {
  std::string name = source;
  while (name.size() > 1 && name.back() == '/') {
    name.pop_back();
  }
  name = name.substr(name.rfind('/') + 1);
  name = name.substr(0, name.find_first_of(":@"));
  for (const char* ending : {".zst", ".xz", ".bz2", ".gz", ".tgz", ".tar"}) {
    if (name.ends_with(ending)) {
      name.resize(name.size() - std::string_view(ending).size());
    }
  }
  std::transform(name.begin(), name.end(), name.begin(),
                 [](unsigned char letter) { return std::tolower(letter); });
  return is_image_name(name) ? name : "";
}

Status remove_image(const std::string& images_dir, const std::string& name) {
  if (!is_image_name(name)) {
    return fail_because("'" + name + "' is not a name for an image");
  }
  BROOD_TRY(const UniqueFd images, base::open_at(AT_FDCWD, images_dir, O_RDONLY | O_DIRECTORY));
  auto image = base::open_at(images.get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!image) {
    return image.error().code() == ENOENT
               ? fail(base::Error("remove", ENOENT, name, "brood image list shows what there is"))
               : fail(std::move(image.error()));
  }
  if (!try_lock(*image, LOCK_EX)) {
    return fail(base::Error("remove", EBUSY, name,
                            "an agent uses it: remove its functions and end what runs of it, or "
                            "stop the agent"));
  }
  // Out of sight first: it is there whole or not at all.
  const std::string aside = kReplaced + name + "-" + std::to_string(::getpid());
  if (rename_with(images.get(), name, aside, RENAME_NOREPLACE) != 0) {
    return fail_errno("renameat2", name);
  }
  return base::remove_tree_at(images.get(), aside);
}

Result<std::uint64_t> prune_images(const std::string& images_dir) {
  auto images = base::open_at(AT_FDCWD, images_dir, O_RDONLY | O_DIRECTORY);
  if (!images) {
    return images.error().code() == ENOENT ? Result<std::uint64_t>(0) : fail(images.error());
  }
  BROOD_TRY(const std::vector<std::string> names, names_in(images->get()));
  std::uint64_t freed = 0;
  for (const std::string& name : names) {
    if (!name.starts_with(kImporting) && !name.starts_with(kReplaced)) {
      continue;
    }
    const auto opened = base::open_at(images->get(), name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (!opened || !try_lock(*opened, LOCK_EX)) {
      continue;  // in use
    }
    const std::uint64_t bytes = size_of(images->get(), name);
    BROOD_CHECK(base::remove_tree_at(images->get(), name));
    freed += bytes;
  }
  return freed;
}

Status export_image(const std::string& images_dir, const std::string& name, const std::string& file,
                    ExportFormat format) {
  BROOD_TRY(const Image image, use_image(images_dir, name));
  BROOD_TRY(const WorkPlace place, WorkPlace::make(images_dir));
  BROOD_TRY(
      [[maybe_unused]] const std::string said,
      run_confined({.arguments = {kTar, "--create", "--file=/work/image.tar", "--directory=/input",
                                  "--numeric-owner", "--sparse", "--xattrs", "--sort=name", "."},
                    .work = place.files(),
                    .input = images_dir + "/" + name + "/" + kTreeDirectory,
                    .capabilities = {CAP_DAC_OVERRIDE}}));
  if (format != ExportFormat::tree) {
    BROOD_CHECK(make_layout(place, image.manifest.config));
    BROOD_CHECK(make_archive(place, format == ExportFormat::oci
                                        ? "oci-archive:/work/whole.tar:" + name
                                        : "docker-archive:/work/whole.tar:" + name + ":latest"));
  }
  return copy_out(place.files() + (format == ExportFormat::tree ? "/image.tar" : "/whole.tar"),
                  file);
}

}  // namespace rootfs

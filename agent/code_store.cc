#include "agent/code_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <ctime>

#include "base/digest.h"
#include "base/file.h"
#include "rootfs/archive.h"
#include "rootfs/unpack.h"

namespace agent {
namespace {

constexpr std::size_t kDigestLength = 64;
constexpr std::time_t kUnusedFor = 3600;

bool is_digest(std::string_view text) {
  return text.size() == kDigestLength &&
         text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

base::Result<base::UniqueFd> open_directory(const std::string& path, mode_t mode) {
  BROOD_CHECK(base::make_directories(path, mode));
  return base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

std::string module_path(std::string_view handler) {
  std::string path(handler.substr(0, handler.rfind('.')));
  for (char& c : path) {
    c = c == '.' ? '/' : c;
  }
  return path;
}

bool is_file(int dir_fd, const std::string& path) {
  struct stat info {};
  return ::fstatat(dir_fd, path.c_str(), &info, 0) == 0 && S_ISREG(info.st_mode);
}

std::string compiled_name(std::string_view digest, std::string_view handler,
                          std::string_view image) {
  return std::string(digest) + "-" +
         base::sha256_hex(std::string(handler) + "\n" + std::string(image)).substr(0, 32);
}

Failure refusal(std::string message) {
  return {400, "invalid_archive", std::move(message)};
}
Failure trouble(const base::Error& error) {
  return {500, "internal", "storing code: " + error.message()};
}

template <typename Visit>
void for_each_entry(int dir_fd, Visit visit) {
  DIR* directory = ::fdopendir(::openat(dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory == nullptr) {
    return;
  }
  while (const dirent* entry = ::readdir(directory)) {  // NOLINT(concurrency-mt-unsafe)
    const std::string name = entry->d_name;
    if (name != "." && name != "..") {
      visit(name);
    }
  }
  ::closedir(directory);
}

}  // namespace

// A body on its way in: a file in staging, hashed as it grows.
class FileUpload : public Upload {
 public:
  FileUpload(CodeStore& store, std::string name, base::UniqueFd file)
      : store_(store), name_(std::move(name)), file_(std::move(file)) {}
  ~FileUpload() override { discard(store_, name_); }

  bool write(std::string_view bytes) override {
    size_ += bytes.size();
    if (size_ > store_.config_.archive_limit) {
      return false;
    }
    sum_.update(bytes);
    if (status_) {
      status_ = base::write_all(file_.get(), bytes);
    }
    return true;
  }

  void finish(std::string file_name, Completion<std::string> done) override {
    if (!file_name.empty()) {
      // The same bytes as an archive and as a file are two different things.
      sum_.update("\nfile:" + file_name);
    }
    const std::string digest = sum_.finish();
    if (!status_) {
      return later(std::move(done), tl::unexpected(trouble(status_.error())));
    }
    if (store_.has(digest)) {
      return later(std::move(done), digest);
    }
    unpack(digest, std::move(file_name), std::move(done));
  }

 private:
  static void discard(CodeStore& store, const std::string& name) {
    (void)base::remove_tree_at(store.staging_.get(), name);
  }

  void later(Completion<std::string> done, tl::expected<std::string, Failure> result) {
    store_.disk_.run([result = std::move(result)] { return result; },
                     [done = std::move(done)](tl::expected<std::string, Failure> value) {
                       done(std::move(value));
                     });
  }

  base::Result<base::UniqueFd> make_target(const std::string& name) const {
    const int staging = store_.staging_.get();
    if (::mkdirat(staging, name.c_str(), 0755) != 0) {
      return base::fail_errno("mkdirat", name);
    }
    if (::fchownat(staging, name.c_str(), store_.unpack_uid_, store_.unpack_uid_,
                   AT_SYMLINK_NOFOLLOW) != 0) {
      return base::fail_errno("fchownat", name);
    }
    return base::open_at(staging, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  }

  void unpack(const std::string& digest, std::string file_name, Completion<std::string> done) {
    const std::string target = name_ + ".tree";
    auto directory = make_target(target);
    if (!directory) {
      return later(std::move(done), tl::unexpected(trouble(directory.error())));
    }
    const rootfs::UnpackLimits limits{.bytes = store_.config_.unpacked_limit,
                                      .files = store_.config_.unpacked_files};
    // On the event loop's thread, which lives as long as the agent: the child dies with its
    // starter.
    auto process = rootfs::start_unpack({.program = store_.config_.unpack_program,
                                         .archive_fd = file_.get(),
                                         .directory_fd = directory->get(),
                                         .uid = store_.unpack_uid_,
                                         .gid = store_.unpack_uid_,
                                         .mounts_fd = store_.mounts_fd_,
                                         .single_file = std::move(file_name),
                                         .limits = limits});
    if (!process) {
      discard(store_, target);
      return later(std::move(done), tl::unexpected(trouble(process.error())));
    }
    struct Job {
      CodeStore& store;
      rootfs::UnpackProcess process;
      base::UniqueFd directory;
      rootfs::UnpackLimits limits;
      std::string target;
      std::string digest;
    };
    auto job = std::make_shared<Job>(
        Job{store_, std::move(*process), std::move(*directory), limits, target, digest});
    store_.disk_.run(
        [job] {
          auto result = settle(job->store, std::move(job->process), job->directory.get(),
                               job->limits, job->target, job->digest);
          if (!result) {
            discard(job->store, job->target);
          }
          return result;
        },
        [done = std::move(done)](tl::expected<std::string, Failure> result) {
          done(std::move(result));
        });
  }

  // Waits for the unpacker, looks its work over, and puts it in its place, durably.
  static tl::expected<std::string, Failure> settle(CodeStore& store, rootfs::UnpackProcess process,
                                                   int directory,
                                                   const rootfs::UnpackLimits& limits,
                                                   const std::string& target,
                                                   const std::string& digest) {
    const auto verdict = rootfs::finish_unpack(std::move(process));
    if (!verdict) {
      return tl::unexpected(trouble(verdict.error()));
    }
    if (!verdict->accepted()) {
      return tl::unexpected(refusal(verdict->message()));
    }
    if (const auto accepted = rootfs::accept_tree(directory, limits); !accepted) {
      return tl::unexpected(refusal(accepted.error().message()));
    }
    if (::syncfs(directory) != 0) {
      return tl::unexpected(trouble(base::Error::from_errno("syncfs")));
    }
    if (::renameat(store.staging_.get(), target.c_str(), store.code_.get(), digest.c_str()) != 0 &&
        errno != EEXIST && errno != ENOTEMPTY) {  // somebody else has stored the same meanwhile
      return tl::unexpected(trouble(base::Error::from_errno("rename", digest)));
    }
    ::fsync(store.code_.get());
    discard(store, target);
    return digest;
  }

  CodeStore& store_;
  std::string name_;
  base::UniqueFd file_;
  base::Sha256 sum_;
  base::Status status_;
  std::uint64_t size_ = 0;
};

// Answers every call with the error that kept it from being begun.
class FailedUpload : public Upload {
 public:
  FailedUpload(Maker& disk, base::Error error) : disk_(disk), error_(std::move(error)) {}
  bool write(std::string_view /*bytes*/) override { return true; }
  void finish(std::string /*file_name*/, Completion<std::string> done) override {
    disk_.run([] { return true; }, [done = std::move(done), failure = trouble(error_)](
                                       bool) { done(tl::unexpected(failure)); });
  }

 private:
  Maker& disk_;
  base::Error error_;
};

CodeStore::CodeStore(const AgentConfig& config, std::uint32_t unpack_uid, int mounts_fd,
                     Maker& disk)
    : config_(config), unpack_uid_(unpack_uid), mounts_fd_(mounts_fd), disk_(disk) {}

base::Result<std::unique_ptr<CodeStore>> CodeStore::open(const AgentConfig& config,
                                                         std::uint32_t unpack_uid, int mounts_fd,
                                                         Maker& disk) {
  std::unique_ptr<CodeStore> store(new CodeStore(config, unpack_uid, mounts_fd, disk));
  const std::string& state = config.state_dir;
  BROOD_CHECK(base::remove_tree_at(AT_FDCWD, state + "/staging"));
  BROOD_TRY(store->code_, open_directory(state + "/code", 0700));
  BROOD_TRY(store->compiled_, open_directory(state + "/compiled", 0700));
  BROOD_TRY(store->staging_, open_directory(state + "/staging", 0700));
  return store;
}

bool CodeStore::has(std::string_view digest) const {
  return is_digest(digest) &&
         ::faccessat(code_.get(), std::string(digest).c_str(), F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

std::unique_ptr<Upload> CodeStore::begin_upload() {
  std::string name = "upload-" + std::to_string(++next_);
  auto file = base::open_at(staging_.get(), name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW, 0600);
  if (!file) {
    return std::make_unique<FailedUpload>(disk_, file.error());
  }
  return std::make_unique<FileUpload>(*this, std::move(name), std::move(*file));
}

base::Result<base::UniqueFd> CodeStore::open_tree(std::string_view digest) const {
  return base::open_at(code_.get(), std::string(digest), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
}

std::optional<std::string> CodeStore::module_file(std::string_view digest, std::string_view handler,
                                                  Language language) const {
  const auto tree =
      base::open_at(code_.get(), std::string(digest), O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
  if (!tree) {
    return std::nullopt;
  }
  const std::string path =
      language == Language::native ? std::string(handler) : module_path(handler);
  for (const std::string& candidate : module_candidates(language, path)) {
    if (is_file(tree->get(), candidate)) {
      return candidate;
    }
  }
  return std::nullopt;
}

std::string CodeStore::compiled(std::string_view digest, std::string_view handler,
                                std::string_view image) const {
  constexpr std::size_t kMost = 4 << 20;
  return base::read_file_at(compiled_.get(), compiled_name(digest, handler, image), kMost)
      .value_or(std::string{});
}

base::Status CodeStore::keep_compiled(std::string_view digest, std::string_view handler,
                                      std::string_view image, std::string_view code) const {
  return base::replace_file_at(compiled_.get(), compiled_name(digest, handler, image), code, 0600);
}

void CodeStore::collect(const std::set<std::string>& used) const {
  const std::time_t now = ::time(nullptr);
  for (const int dir_fd : {code_.get(), compiled_.get()}) {
    for_each_entry(dir_fd, [&](const std::string& name) {
      struct stat info {};
      if (used.contains(name.substr(0, kDigestLength)) ||
          ::fstatat(dir_fd, name.c_str(), &info, AT_SYMLINK_NOFOLLOW) != 0 ||
          now - info.st_ctime < kUnusedFor) {
        return;
      }
      if (const auto removed = base::remove_tree_at(dir_fd, name); !removed) {
        spdlog::warn("removing unused code {}: {}", name, removed.error().message());
      }
    });
  }
}

}  // namespace agent

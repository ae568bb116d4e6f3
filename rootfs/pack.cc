#include "rootfs/pack.h"

#include <archive.h>
#include <archive_entry.h>
#include <dirent.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <sys/stat.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <memory>

#include "base/fd.h"
#include "base/file.h"

namespace rootfs {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::UniqueFd;

constexpr const char* kIgnoreFile = ".broodignore";

std::string_view last_name(std::string_view path) {
  return path.substr(path.rfind('/') + 1);  // npos + 1 is 0: the whole
}

bool never_deployed(std::string_view name) {
  constexpr std::array<std::string_view, 5> kNames{".git", ".hg", ".svn", "__pycache__",
                                                   kIgnoreFile};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end() || name.ends_with(".pyc");
}

std::string_view trimmed(std::string_view line) {
  while (!line.empty() && (line.back() == ' ' || line.back() == '\t' || line.back() == '\r')) {
    line.remove_suffix(1);
  }
  return line;
}

using Directory = std::unique_ptr<DIR, decltype([](DIR* dir) { ::closedir(dir); })>;

Result<std::vector<std::string>> sorted_names(int directory_fd, const std::string& path) {
  BROOD_TRY(UniqueFd fd, base::open_at(directory_fd, ".", O_RDONLY | O_DIRECTORY));
  const Directory entries(::fdopendir(fd.get()));
  if (!entries) {
    return fail_errno("fdopendir", path);
  }
  (void)fd.release();
  std::vector<std::string> names;
  while (const dirent* entry = ::readdir(entries.get())) {  // NOLINT(concurrency-mt-unsafe)
    const std::string name = entry->d_name;
    if (name != "." && name != "..") {
      names.push_back(name);
    }
  }
  std::sort(names.begin(), names.end());
  return names;
}

Result<IgnoreRules> read_ignore_rules(int root_fd) {
  const auto text = base::read_file_at(root_fd, kIgnoreFile);
  if (!text) {
    return text.error().code() == ENOENT ? Result<IgnoreRules>(IgnoreRules())
                                         : fail(base::Error(text.error()));
  }
  return IgnoreRules::parse(*text);
}

using Entry = std::unique_ptr<archive_entry,
                              decltype([](archive_entry* entry) { ::archive_entry_free(entry); })>;

// The tar being written. libarchive hands its blocks to `write`, whose error is kept, because all
// that comes back through libarchive is an errno.
class TarWriter {
 public:
  explicit TarWriter(int out_fd) : out_fd_(out_fd) {}

  Status open() {
    archive* a = archive_.get();
    // GNU's form keeps names as bytes whatever the locale, and has no headers with times of their
    // own.
    if (a == nullptr || ::archive_write_set_format_gnutar(a) != ARCHIVE_OK ||
        ::archive_write_add_filter_none(a) != ARCHIVE_OK ||
        ::archive_write_set_bytes_in_last_block(a, 1) != ARCHIVE_OK ||
        ::archive_write_open2(a, this, nullptr, &TarWriter::put, nullptr, nullptr) != ARCHIVE_OK) {
      return failed("start the archive");
    }
    return {};
  }

  Status add(const std::string& path, mode_t type, mode_t mode, std::int64_t size,
             const std::string& target) {
    const Entry entry(::archive_entry_new());
    ::archive_entry_copy_pathname(entry.get(), path.c_str());
    ::archive_entry_set_filetype(entry.get(), type);
    ::archive_entry_set_perm(entry.get(), mode);
    ::archive_entry_set_size(entry.get(), size);
    ::archive_entry_set_mtime(entry.get(), 0, 0);
    if (!target.empty()) {
      ::archive_entry_copy_symlink(entry.get(), target.c_str());
    }
    return ::archive_write_header(archive_.get(), entry.get()) == ARCHIVE_OK ? Status{}
                                                                             : failed("pack", path);
  }

  Status data(const std::string& path, std::string_view bytes) {
    const la_ssize_t put = ::archive_write_data(archive_.get(), bytes.data(), bytes.size());
    return put == static_cast<la_ssize_t>(bytes.size()) ? Status{} : failed("pack", path);
  }

  Status close() {
    return ::archive_write_close(archive_.get()) == ARCHIVE_OK ? Status{}
                                                               : failed("finish the archive");
  }

 private:
  using Archive = std::unique_ptr<archive, decltype([](archive* a) { ::archive_write_free(a); })>;

  static la_ssize_t put(archive* a, void* self, const void* bytes, std::size_t size) {
    auto* writer = static_cast<TarWriter*>(self);
    writer->status_ = base::write_all(writer->out_fd_, {static_cast<const char*>(bytes), size});
    if (!writer->status_) {
      ::archive_set_error(a, writer->status_.error().code(), "write");
      return -1;
    }
    return static_cast<la_ssize_t>(size);
  }

  Status failed(const std::string& doing, const std::string& path = {}) {
    if (!status_) {
      return fail(base::Error(status_.error()).within(doing + (path.empty() ? "" : " " + path)));
    }
    const char* why = archive_ ? ::archive_error_string(archive_.get()) : "out of memory";
    return fail_because(doing + " '" + path +
                        "': " + (why == nullptr ? "libarchive refused" : why));
  }

  const int out_fd_;
  Status status_;
  Archive archive_{::archive_write_new()};
};

class Packing {
 public:
  Packing(int out_fd, const UnpackLimits& limits) : limits_(limits), tar_(out_fd) {}

  Result<PackSummary> run(const std::string& folder) {
    BROOD_TRY(const UniqueFd root, base::open_at(AT_FDCWD, folder, O_RDONLY | O_DIRECTORY));
    auto rules = read_ignore_rules(root.get());
    if (!rules) {
      return fail(std::move(rules.error()).within(folder + "/" + kIgnoreFile));
    }
    rules_ = std::move(*rules);
    BROOD_CHECK(tar_.open());
    BROOD_CHECK(directory(root.get(), ""));
    if (summary_.files == 0) {
      return fail_because("the folder '" + folder + "' has nothing to deploy");
    }
    BROOD_CHECK(tar_.close());
    return summary_;
  }

 private:
  // `prefix` is "" for the folder itself, else ends with a slash.
  Status directory(int fd, const std::string& prefix) {
    BROOD_TRY(const auto names, sorted_names(fd, prefix));
    for (const std::string& name : names) {
      struct stat about {};
      if (::fstatat(fd, name.c_str(), &about, AT_SYMLINK_NOFOLLOW) != 0) {
        return fail_errno("fstatat", prefix + name);
      }
      const bool folder = S_ISDIR(about.st_mode);
      if (!rules_.ignores(prefix + name,
                          folder ? IgnoreRules::Kind::directory : IgnoreRules::Kind::other)) {
        BROOD_CHECK(one(fd, name, prefix + name, about));
      }
    }
    return {};
  }

  Status one(int fd, const std::string& name, const std::string& path, const struct stat& about) {
    if (auto safe = safe_entry_path(path, limits_); !safe) {
      return refuse(path, safe.error().message());
    }
    if (++summary_.files > limits_.files) {
      return refuse(path, "the folder has more than " + std::to_string(limits_.files) + " entries");
    }
    switch (about.st_mode & S_IFMT) {
      case S_IFREG:
        return file(fd, name, path);
      case S_IFLNK:
        return link(fd, name, path);
      case S_IFDIR: {
        BROOD_CHECK(tar_.add(path, AE_IFDIR, kDirectoryMode, 0, {}));
        BROOD_TRY(const UniqueFd below,
                  base::open_at(fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
        return directory(below.get(), path + "/");
      }
      default:
        return refuse(path, "it is neither file, directory nor link");
    }
  }

  Status file(int directory_fd, const std::string& name, const std::string& path) {
    // Not blocking: between the look and the opening it may have become a named pipe.
    auto opened = base::open_at(directory_fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK);
    if (!opened) {
      return fail(base::Error("open", opened.error().code(), path));
    }
    struct stat about {};
    if (::fstat(opened->get(), &about) != 0) {
      return fail_errno("fstat", path);
    }
    if (!S_ISREG(about.st_mode)) {
      return refuse(path, "it changed while it was packed");
    }
    summary_.bytes += static_cast<std::uint64_t>(about.st_size);
    if (summary_.bytes > limits_.bytes) {
      return refuse(path, "the folder is larger than " + std::to_string(limits_.bytes) + " bytes");
    }
    BROOD_CHECK(tar_.add(path, AE_IFREG, file_mode(about.st_mode), about.st_size, {}));
    return contents(opened->get(), path, static_cast<std::uint64_t>(about.st_size));
  }

  Status contents(int fd, const std::string& path, std::uint64_t size) {
    std::array<char, 64 << 10> buffer;
    while (size > 0) {
      const ssize_t got = ::read(fd, buffer.data(), std::min<std::uint64_t>(size, buffer.size()));
      if (got < 0 && errno != EINTR) {
        return fail_errno("read", path);
      }
      if (got == 0) {
        return refuse(path, "it changed while it was packed");
      }
      if (got > 0) {
        BROOD_CHECK(tar_.data(path, {buffer.data(), static_cast<std::size_t>(got)}));
        size -= static_cast<std::uint64_t>(got);
      }
    }
    return {};
  }

  Status link(int directory_fd, const std::string& name, const std::string& path) {
    std::string target(limits_.path + 1, '\0');
    const ssize_t length = ::readlinkat(directory_fd, name.c_str(), target.data(), target.size());
    if (length < 0) {
      return fail_errno("readlinkat", path);
    }
    target.resize(static_cast<std::size_t>(length));
    if (auto safe = safe_link_target(path, target, limits_); !safe) {
      return refuse(path, safe.error().message());
    }
    return tar_.add(path, AE_IFLNK, 0777, 0, target);
  }

  static Status refuse(const std::string& path, const std::string& why) {
    return fail_because("cannot deploy '" + printable(path) + "': " + why,
                        "remove it or name it in .broodignore");
  }

  const UnpackLimits& limits_;
  TarWriter tar_;
  IgnoreRules rules_;
  PackSummary summary_;
};

}  // namespace

Result<CodeSource> code_source(const std::string& path) {
  struct stat about {};
  if (::stat(path.c_str(), &about) != 0) {
    return fail_errno("stat", path);
  }
  if (S_ISDIR(about.st_mode)) {
    return CodeSource::folder;
  }
  if (!S_ISREG(about.st_mode)) {
    return fail_because("'" + path + "' is neither a folder nor a file");
  }
  std::string name(last_name(path));
  std::transform(name.begin(), name.end(), name.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c + 32) : c; });
  for (const char* ending : {".zip", ".tar", ".tar.gz", ".tgz", ".tar.zst"}) {
    if (name.ends_with(ending)) {
      return CodeSource::archive;
    }
  }
  return CodeSource::single_file;
}

Result<IgnoreRules> IgnoreRules::parse(std::string_view text) {
  IgnoreRules rules;
  for (int number = 1; !text.empty(); ++number) {
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(text.size(), line.size() + 1));
    line = trimmed(line);
    if (line.empty() || line.front() == '#') {
      continue;
    }
    Rule rule;
    rule.takes_back = line.front() == '!';
    line.remove_prefix(rule.takes_back ? 1 : 0);
    rule.directories_only = line.ends_with('/');
    line.remove_suffix(rule.directories_only ? 1 : 0);
    rule.anchored = line.find('/') != std::string_view::npos;
    line.remove_prefix(line.starts_with('/') ? 1 : 0);
    if (line.empty() || line.find("**") != std::string_view::npos) {
      return fail_because("line " + std::to_string(number) + " is no pattern",
                          "'**' is not known; a pattern without '/' matches at every depth");
    }
    rule.pattern = line;
    rules.rules_.push_back(std::move(rule));
  }
  return rules;
}

bool IgnoreRules::ignores(const std::string& path, Kind kind) const {
  const std::string name(last_name(path));
  if (never_deployed(name)) {
    return true;
  }
  bool ignored = false;
  for (const Rule& rule : rules_) {
    const std::string& subject = rule.anchored ? path : name;
    if ((kind == Kind::directory || !rule.directories_only) &&
        ::fnmatch(rule.pattern.c_str(), subject.c_str(), FNM_PATHNAME) == 0) {
      ignored = !rule.takes_back;
    }
  }
  return ignored;
}

Result<PackSummary> pack_folder(const std::string& path, int out_fd, const UnpackLimits& limits) {
  return Packing(out_fd, limits).run(path);
}

}  // namespace rootfs

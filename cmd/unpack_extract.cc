#include "cmd/unpack_extract.h"

#include <archive.h>
#include <archive_entry.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <clocale>
#include <cstdlib>
#include <cstring>
#include <string_view>
#include <unordered_map>

#include "base/fd.h"
#include "base/file.h"

namespace cmd {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using base::UniqueFd;
using rootfs::UnpackLimits;
using rootfs::UnpackVerdict;

constexpr std::uint64_t kTarBlock = 512;

// An Error without an errno is a refusal, the archive's fault; one with an errno is the host's.
Status refuse(std::string why) {
  return fail_because(std::move(why));
}

int open_beneath(int root_fd, const char* path, int flags, mode_t mode) {
  open_how how{};
  how.flags = static_cast<std::uint64_t>(flags) | O_CLOEXEC | O_NOFOLLOW;
  how.mode = mode;
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV;
  return static_cast<int>(::syscall(SYS_openat2, root_fd, path, &how, sizeof how));
}

// The tree as it grows. Remembers what it has made, so that a refusal can say what is wrong, and so
// that nothing is ever replaced.
class Tree {
 public:
  Tree(int root_fd, const UnpackLimits& limits) : root_fd_(root_fd), limits_(limits) {}

  Status make_directory(const std::string& path) {
    if (path.empty()) {
      return {};
    }
    if (const auto known = made_.find(path); known != made_.end()) {
      return known->second.kind == Kind::directory
                 ? Status{}
                 : refuse("it is a directory in the place of an earlier entry");
    }
    BROOD_CHECK(make_parents(path));
    return make_one_directory(path);
  }

  Result<UniqueFd> make_file(const std::string& path, mode_t mode) {
    BROOD_CHECK(claim(path, Kind::file));
    UniqueFd file(
        open_beneath(root_fd_, path.c_str(), O_WRONLY | O_CREAT | O_EXCL, rootfs::file_mode(mode)));
    if (!file) {
      return fail_errno("create");
    }
    return file;
  }

  Status make_link(const std::string& path, const std::string& target) {
    BROOD_CHECK(claim(path, Kind::link));
    BROOD_TRY(const UniqueFd parent, open_parent(path));
    if (::symlinkat(target.c_str(), parent.get(), leaf(path)) != 0) {
      return fail_errno("symlinkat");
    }
    return {};
  }

  Status make_hard_link(const std::string& path, const std::string& earlier) {
    const auto source = made_.find(earlier);
    if (source == made_.end() || source->second.kind != Kind::file) {
      return refuse("it is a hard link to what is no earlier file of the archive");
    }
    const std::uint64_t size = source->second.size;
    BROOD_CHECK(claim(path, Kind::file));
    BROOD_CHECK(grow(path, size));
    BROOD_TRY(const UniqueFd from, open_parent(earlier));
    BROOD_TRY(const UniqueFd to, open_parent(path));
    if (::linkat(from.get(), leaf(earlier), to.get(), leaf(path), 0) != 0) {
      return fail_errno("linkat");
    }
    return {};
  }

  // Before the bytes are written.
  Status grow(const std::string& path, std::uint64_t bytes) {
    if (bytes > limits_.bytes - bytes_) {
      return too_large();
    }
    bytes_ += bytes;
    made_[path].size += bytes;
    return {};
  }

  Status too_large() const {
    return refuse("unpacked, the archive is larger than " + std::to_string(limits_.bytes) +
                  " bytes");
  }

  UnpackVerdict verdict() const {
    return {.files = made_.size(), .bytes = bytes_, .refusal = {}, .entry = {}};
  }

 private:
  enum class Kind { directory, file, link };
  struct Node {
    Kind kind = Kind::directory;
    std::uint64_t size = 0;
  };

  static const char* leaf(const std::string& path) {
    const auto slash = path.rfind('/');
    return path.c_str() + (slash == std::string::npos ? 0 : slash + 1);
  }

  Result<UniqueFd> open_parent(const std::string& path) const {
    const auto slash = path.rfind('/');
    const std::string parent = slash == std::string::npos ? "." : path.substr(0, slash);
    UniqueFd fd(open_beneath(root_fd_, parent.c_str(), O_PATH | O_DIRECTORY, 0));
    if (!fd) {
      return fail_errno("open the parent of");
    }
    return fd;
  }

  Status count(const std::string& path, Kind kind) {
    if (made_.size() >= limits_.files) {
      return refuse("the archive has more than " + std::to_string(limits_.files) + " entries");
    }
    made_.emplace(path, Node{.kind = kind});
    return {};
  }

  Status claim(const std::string& path, Kind kind) {
    if (path.empty()) {
      return refuse("it would replace the root of the archive");
    }
    if (made_.contains(path)) {
      return refuse("it is in the archive twice");
    }
    BROOD_CHECK(make_parents(path));
    return count(path, kind);
  }

  Status make_parents(const std::string& path) {
    for (auto slash = path.find('/'); slash != std::string::npos;
         slash = path.find('/', slash + 1)) {
      const std::string parent = path.substr(0, slash);
      const auto known = made_.find(parent);
      if (known == made_.end()) {
        BROOD_CHECK(make_one_directory(parent));
      } else if (known->second.kind == Kind::link) {
        return refuse("it lies below the link '" + rootfs::printable(parent) + "'");
      } else if (known->second.kind == Kind::file) {
        return refuse("it lies below the file '" + rootfs::printable(parent) + "'");
      }
    }
    return {};
  }

  Status make_one_directory(const std::string& path) {
    BROOD_CHECK(count(path, Kind::directory));
    BROOD_TRY(const UniqueFd parent, open_parent(path));
    if (::mkdirat(parent.get(), leaf(path), rootfs::kDirectoryMode) != 0) {
      return fail_errno("mkdirat");
    }
    return {};
  }

  const int root_fd_;
  const UnpackLimits& limits_;
  std::unordered_map<std::string, Node> made_;
  std::uint64_t bytes_ = 0;
};

// One file's contents, written in order; holes become zeros, which count like any other byte.
class FileWriter {
 public:
  FileWriter(Tree& tree, const std::string& path, int fd) : tree_(tree), path_(path), fd_(fd) {}

  Status write_at(std::uint64_t offset, std::string_view bytes) {
    if (offset < position_) {
      return refuse("its pieces overlap");
    }
    BROOD_CHECK(pad_to(offset));
    BROOD_CHECK(tree_.grow(path_, bytes.size()));
    position_ += bytes.size();
    return base::write_all(fd_, bytes);
  }

  Status pad_to(std::uint64_t offset) {
    static constexpr std::array<char, 16384> kZeros{};
    const std::uint64_t gap = offset > position_ ? offset - position_ : 0;
    BROOD_CHECK(tree_.grow(path_, gap));
    for (std::uint64_t left = gap; left > 0;) {
      const std::size_t piece = std::min<std::uint64_t>(left, kZeros.size());
      BROOD_CHECK(base::write_all(fd_, {kZeros.data(), piece}));
      left -= piece;
    }
    position_ += gap;
    return {};
  }

  std::uint64_t position() const { return position_; }

 private:
  Tree& tree_;
  const std::string& path_;
  const int fd_;
  std::uint64_t position_ = 0;
};

std::string_view kind_name(mode_t type) {
  switch (type) {
    case AE_IFCHR:
    case AE_IFBLK:
      return "a device";
    case AE_IFIFO:
      return "a named pipe";
    case AE_IFSOCK:
      return "a socket";
    default:
      return "neither file, directory nor link";
  }
}

class Extraction {
 public:
  Extraction(int root_fd, const UnpackLimits& limits) : limits_(limits), tree_(root_fd, limits) {}

  Status run(int archive_fd) {
    BROOD_CHECK(open(archive_fd));
    for (;;) {
      entry_.clear();
      archive_entry* entry = nullptr;
      const std::uint64_t before = consumed();
      const int got = ::archive_read_next_header(archive_.get(), &entry);
      if (got == ARCHIVE_EOF) {
        return check_end(before);
      }
      if (got != ARCHIVE_OK) {
        entry_ = name_of(entry);
        return broken();
      }
      BROOD_CHECK(take(entry));
    }
  }

  const std::string& entry() const { return entry_; }
  UnpackVerdict verdict() const { return tree_.verdict(); }

 private:
  using Archive = std::unique_ptr<archive, decltype([](archive* a) { ::archive_read_free(a); })>;

  Status open(int archive_fd) {
    archive* a = archive_.get();
    if (a == nullptr) {
      return fail(base::Error("archive_read_new", ENOMEM));
    }
    // Anything but OK would mean an external program (ARCHIVE_WARN) or a library without it.
    if (::archive_read_support_format_tar(a) != ARCHIVE_OK ||
        ::archive_read_support_format_zip_seekable(a) != ARCHIVE_OK ||
        ::archive_read_support_filter_gzip(a) != ARCHIVE_OK ||
        ::archive_read_support_filter_zstd(a) != ARCHIVE_OK) {
      return fail(base::Error("set up libarchive for tar, zip, gzip and zstd", ENOSYS));
    }
    if (::archive_read_open_fd(a, archive_fd, 64 << 10) != ARCHIVE_OK) {
      return broken();
    }
    // The last filter is the plain one that ends the chain.
    if (::archive_filter_count(a) > 2) {
      return refuse("it is compressed more than once");
    }
    return {};
  }

  // Bytes of the decompressed archive that have been read so far.
  std::uint64_t consumed() const {
    return static_cast<std::uint64_t>(
        std::max<la_int64_t>(0, ::archive_filter_bytes(archive_.get(), 0)));
  }

  static std::string name_of(archive_entry* entry) {
    const char* name = entry == nullptr ? nullptr : ::archive_entry_pathname(entry);
    return name == nullptr ? std::string() : std::string(name).substr(0, 4096);
  }

  Status broken() const {
    const char* why = ::archive_error_string(archive_.get());
    return refuse("the archive is damaged, cut short or of an unknown kind (" +
                  rootfs::printable(why == nullptr ? "no reason given" : why) + ")");
  }

  // libarchive takes the end of the bytes for the end of a tar wherever a header could begin, so a
  // tar that was cut there would pass: insist on the block of zeros that ends one.
  Status check_end(std::uint64_t before) const {
    const bool tar =
        (::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_TAR;
    const std::uint64_t end_of_entry = (before + kTarBlock - 1) / kTarBlock * kTarBlock;
    if (tar && consumed() < end_of_entry + kTarBlock) {
      return refuse("the archive is cut short: it has no end marker");
    }
    return {};
  }

  Status take(archive_entry* entry) {
    entry_ = name_of(entry);
    if (++headers_ > limits_.files) {
      return refuse("the archive has more than " + std::to_string(limits_.files) + " entries");
    }
    BROOD_CHECK(check_method(entry));
    BROOD_TRY(const std::string path, rootfs::safe_entry_path(entry_, limits_));
    if (::archive_entry_hardlink(entry) != nullptr) {
      return take_hard_link(entry, path);
    }
    switch (const mode_t type = ::archive_entry_filetype(entry)) {
      case AE_IFREG:
        return take_file(entry, path);
      case AE_IFDIR:
        return has_contents(entry) ? refuse("it is a directory with contents")
                                   : tree_.make_directory(path);
      case AE_IFLNK:
        return take_link(entry, path);
      default:
        return refuse("it is " + std::string(kind_name(type)));
    }
  }

  // Where there should be none, libarchive would skip them: hours of decompression that no limit on
  // bytes would see.
  static bool has_contents(archive_entry* entry) {
    return ::archive_entry_size_is_set(entry) != 0 && ::archive_entry_size(entry) != 0;
  }

  Status check_method(archive_entry* entry) const {
    if (::archive_entry_is_encrypted(entry) != 0) {
      return refuse("it is encrypted");
    }
    const bool zip =
        (::archive_format(archive_.get()) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_ZIP;
    const char* name = ::archive_format_name(archive_.get());
    const std::string_view format = name == nullptr ? "" : name;
    if (zip && !format.ends_with("(uncompressed)") && !format.ends_with("(deflation)")) {
      return refuse("it is neither stored nor deflated");
    }
    return {};
  }

  Status take_file(archive_entry* entry, const std::string& path) {
    const bool sized = ::archive_entry_size_is_set(entry) != 0;
    const la_int64_t size = sized ? ::archive_entry_size(entry) : 0;
    if (size < 0) {
      return refuse("its size is negative");
    }
    if (static_cast<std::uint64_t>(size) > limits_.bytes) {
      return tree_.too_large();
    }
    BROOD_TRY(const UniqueFd file, tree_.make_file(path, ::archive_entry_perm(entry)));
    FileWriter writer(tree_, path, file.get());
    BROOD_CHECK(copy_data(writer));
    if (sized && ::archive_entry_sparse_count(entry) > 0) {
      BROOD_CHECK(writer.pad_to(static_cast<std::uint64_t>(size)));
    }
    if (sized && writer.position() != static_cast<std::uint64_t>(size)) {
      return refuse("it is not as long as it says");
    }
    return {};
  }

  Status copy_data(FileWriter& writer) {
    for (;;) {
      const void* bytes = nullptr;
      std::size_t size = 0;
      la_int64_t offset = 0;
      const int got = ::archive_read_data_block(archive_.get(), &bytes, &size, &offset);
      if (got == ARCHIVE_EOF) {
        return {};
      }
      if (got != ARCHIVE_OK || offset < 0) {
        return broken();
      }
      BROOD_CHECK(writer.write_at(static_cast<std::uint64_t>(offset),
                                  {static_cast<const char*>(bytes), size}));
    }
  }

  Status take_link(archive_entry* entry, const std::string& path) {
    const char* target = ::archive_entry_symlink(entry);
    BROOD_TRY(const std::string safe,
              rootfs::safe_link_target(path, target == nullptr ? "" : target, limits_));
    return tree_.make_link(path, safe);
  }

  Status take_hard_link(archive_entry* entry, const std::string& path) {
    if (has_contents(entry)) {
      return refuse("it is a hard link with contents");
    }
    const auto earlier = rootfs::safe_entry_path(::archive_entry_hardlink(entry), limits_);
    if (!earlier) {
      return refuse("it is a hard link out of the archive");
    }
    return tree_.make_hard_link(path, *earlier);
  }

  const UnpackLimits& limits_;
  Tree tree_;
  Archive archive_{::archive_read_new()};
  std::string entry_;
  std::uint64_t headers_ = 0;
};

Status copy_body(int body_fd, FileWriter& writer) {
  std::array<char, 64 << 10> buffer;
  for (;;) {
    const ssize_t got = ::read(body_fd, buffer.data(), buffer.size());
    if (got == 0) {
      return {};
    }
    if (got < 0 && errno != EINTR) {
      return fail_errno("read", "the body");
    }
    if (got > 0) {
      BROOD_CHECK(
          writer.write_at(writer.position(), {buffer.data(), static_cast<std::size_t>(got)}));
    }
  }
}

Status copy_single_file(int body_fd, Tree& tree, const std::string& name,
                        const UnpackLimits& limits) {
  BROOD_TRY(const std::string path, rootfs::safe_entry_path(name, limits));
  if (path.find('/') != std::string::npos) {
    return refuse("a single file's name has no folder");
  }
  // A body has no mode: what begins as a program does is one.
  char first[4];
  std::size_t size = 0;
  while (size < sizeof first) {
    const ssize_t got = ::read(body_fd, first + size, sizeof first - size);
    if (got < 0 && errno != EINTR) {
      return fail_errno("read", "the body");
    }
    if (got == 0) {
      break;
    }
    size += got > 0 ? static_cast<std::size_t>(got) : 0;
  }
  const std::string_view begins(first, size);
  const bool program = begins.starts_with(
                           "\x7f"
                           "ELF") ||
                       begins.starts_with("#!");
  BROOD_TRY(const UniqueFd file, tree.make_file(path, program ? 0755 : 0644));
  FileWriter writer(tree, path, file.get());
  BROOD_CHECK(writer.write_at(0, begins));
  return copy_body(body_fd, writer);
}

Result<UnpackVerdict> judge(const Status& status, UnpackVerdict verdict, const std::string& entry) {
  if (status) {
    return verdict;
  }
  if (status.error().code() != 0) {
    return fail(base::Error(status.error().operation(), status.error().code(),
                            rootfs::printable(entry), status.error().advice()));
  }
  verdict.refusal = status.error().message();
  verdict.entry = rootfs::printable(entry);
  return verdict;
}

}  // namespace

base::Status prepare_libraries() {
  // NOLINTBEGIN(concurrency-mt-unsafe): the program has one thread.
  if (std::setlocale(LC_ALL, "C.UTF-8") == nullptr) {
    return fail_because("the host has no locale C.UTF-8");
  }
  if (::setenv("TZ", "UTC0", 1) != 0) {
    return fail_errno("setenv", "TZ");
  }
  // NOLINTEND(concurrency-mt-unsafe)
  ::tzset();
  return {};
}

Result<UnpackVerdict> extract_archive(int archive_fd, int root_fd, const UnpackLimits& limits) {
  Extraction extraction(root_fd, limits);
  const Status status = extraction.run(archive_fd);
  return judge(status, extraction.verdict(), extraction.entry());
}

Result<UnpackVerdict> extract_single_file(int body_fd, int root_fd, const std::string& name,
                                          const UnpackLimits& limits) {
  Tree tree(root_fd, limits);
  const Status status = copy_single_file(body_fd, tree, name, limits);
  return judge(status, tree.verdict(), name);
}

}  // namespace cmd

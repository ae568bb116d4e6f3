// brood-unpack: unpacks one archive, confined. Started by the agent (rootfs/unpack.h), not by
// people: as root, with the archive (a regular file) on descriptor 0, an empty directory on 3, and
// a pipe for the verdict on 4, and perhaps a mount namespace on 5. Its exit status and verdict are
// described in rootfs/archive.h.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <charconv>
#include <cstdio>
#include <string>
#include <string_view>

#include "base/file.h"
#include "cmd/unpack_confine.h"
#include "cmd/unpack_extract.h"
#include "rootfs/archive.h"

namespace {

using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;

constexpr int kArchiveFd = 0;
constexpr int kDirectoryFd = 3;
constexpr int kVerdictFd = 4;
constexpr int kMountsFd = 5;  // where there is one

struct Options {
  std::uint32_t uid = 0;
  std::uint32_t gid = 0;
  std::string single_file;
  rootfs::UnpackLimits limits;
};

template <typename Number>
bool parse_number(std::string_view text, Number& number) {
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  return error == std::errc{} && rest == text.data() + text.size();
}

bool set_option(Options& options, std::string_view name, std::string_view value) {
  const std::array<std::pair<std::string_view, std::uint32_t*>, 6> numbers{{
      {"--uid", &options.uid},
      {"--gid", &options.gid},
      {"--max-files", &options.limits.files},
      {"--max-depth", &options.limits.depth},
      {"--max-path", &options.limits.path},
      {"--max-cpu", &options.limits.cpu_seconds},
  }};
  for (const auto& [known, number] : numbers) {
    if (name == known) {
      return parse_number(value, *number);
    }
  }
  if (name == "--single-file") {
    options.single_file = value;
    return !value.empty();
  }
  return name == "--max-bytes" && parse_number(value, options.limits.bytes);
}

Result<Options> parse_options(int argc, char** argv) {
  Options options;
  for (int i = 1; i < argc; ++i) {
    const std::string_view argument = argv[i];
    const auto equals = argument.find('=');
    if (equals == std::string_view::npos ||
        !set_option(options, argument.substr(0, equals), argument.substr(equals + 1))) {
      return fail_because("'" + std::string(argument) + "' is not an option");
    }
  }
  if (options.uid == 0 || options.gid == 0) {
    return fail_because("--uid and --gid must name an unprivileged user");
  }
  return options;
}

Status check_descriptors() {
  struct stat archive {};
  struct stat directory {};
  struct stat verdict {};
  if (::fstat(kArchiveFd, &archive) != 0 || ::fstat(kDirectoryFd, &directory) != 0 ||
      ::fstat(kVerdictFd, &verdict) != 0) {
    return fail_errno("fstat", "descriptors 0, 3 and 4");
  }
  if (!S_ISREG(archive.st_mode) || !S_ISDIR(directory.st_mode) || !S_ISFIFO(verdict.st_mode)) {
    return fail_because("wants a file on descriptor 0, a directory on 3, a pipe on 4");
  }
  if (::lseek(kArchiveFd, 0, SEEK_SET) != 0) {
    return fail_errno("lseek", "the archive");
  }
  if (::close_range(kMountsFd + 1, ~0U, 0) != 0) {
    return fail_errno("close_range");
  }
  ::umask(0);
  return {};
}

Result<rootfs::UnpackVerdict> unpack(int argc, char** argv) {
  BROOD_TRY(const Options options, parse_options(argc, argv));
  BROOD_CHECK(check_descriptors());
  BROOD_CHECK(cmd::prepare_libraries());
  const bool has_mounts = ::fcntl(kMountsFd, F_GETFD) >= 0;
  BROOD_CHECK(cmd::confine({.mounts_fd = has_mounts ? kMountsFd : -1,
                            .root_fd = kDirectoryFd,
                            .uid = options.uid,
                            .gid = options.gid,
                            .file_bytes = options.limits.bytes,
                            .cpu_seconds = options.limits.cpu_seconds}));
  if (!options.single_file.empty()) {
    return cmd::extract_single_file(kArchiveFd, kDirectoryFd, options.single_file, options.limits);
  }
  return cmd::extract_archive(kArchiveFd, kDirectoryFd, options.limits);
}

}  // namespace

int main(int argc, char** argv) {
  const auto verdict = unpack(argc, argv);
  const std::string text = verdict ? rootfs::format_verdict(*verdict)
                                   : rootfs::format_unable(verdict.error().message(), "");
  const int status = !verdict              ? rootfs::kUnpackUnable
                     : verdict->accepted() ? rootfs::kUnpackAccepted
                                           : rootfs::kUnpackRefused;
  // At once: what runs at a normal exit may want system calls that are forbidden by now.
  ::_exit(base::write_all(kVerdictFd, text) ? status : rootfs::kUnpackUnable);
}

#include "cmd/cli/code.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "base/digest.h"
#include "base/file.h"
#include "cmd/cli/io.h"
#include "cmd/cli/text.h"
#include "rootfs/pack.h"

namespace cli {
namespace {

using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

constexpr std::size_t kPiece = 256 << 10;

tl::unexpected<Failure> refuse(const base::Error& error) {
  return fail(Exit::usage, error.message());
}

// A file without a name: nothing is left, however this process ends.
Outcome<base::UniqueFd> scratch_file() {
  const char* folder = ::getenv("TMPDIR");  // NOLINT(concurrency-mt-unsafe)
  auto file =
      base::open_at(AT_FDCWD, folder != nullptr ? folder : "/tmp", O_TMPFILE | O_RDWR, 0600);
  if (!file) {
    return fail(Exit::failed, file.error().message());
  }
  return std::move(*file);
}

Outcome<base::UniqueFd> open_code(const std::string& path, rootfs::CodeSource source) {
  if (source != rootfs::CodeSource::folder) {
    auto file = base::open_at(AT_FDCWD, path, O_RDONLY);
    return file ? Outcome<base::UniqueFd>(std::move(*file)) : refuse(file.error());
  }
  CLI_TRY(base::UniqueFd file, scratch_file());
  if (auto packed = rootfs::pack_folder(path, file.get()); !packed) {
    return refuse(packed.error());
  }
  return file;
}

Outcome<std::string> read_piece(int fd, std::uint64_t offset) {
  std::string piece(kPiece, '\0');
  const ssize_t size = ::pread(fd, piece.data(), piece.size(), static_cast<off_t>(offset));
  if (size < 0) {
    return fail(Exit::failed, base::Error::from_errno("read", "the code").message());
  }
  piece.resize(static_cast<std::size_t>(size));
  return piece;
}

// For an image that has its own program: an archive whose only entry says so.
Outcome<base::UniqueFd> no_code() {
  CLI_TRY(base::UniqueFd file, scratch_file());
  std::string folder = fs::temp_directory_path() / "brood-XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) {
    return fail(Exit::failed, base::Error::from_errno("mkdtemp", folder).message());
  }
  auto done = base::replace_file_at(AT_FDCWD, folder + "/NO-CODE",
                                    "This function is its image's own program.\n", 0644);
  if (done) {
    if (const auto packed = rootfs::pack_folder(folder, file.get()); !packed) {
      done = base::fail(packed.error());
    }
  }
  std::error_code ignored;
  fs::remove_all(folder, ignored);
  return done ? Outcome<base::UniqueFd>(std::move(file)) : refuse(done.error());
}

Outcome<rootfs::CodeSource> source_of(const std::string& path) {
  if (path.empty()) {
    return rootfs::CodeSource::folder;
  }
  const auto source = rootfs::code_source(path);
  if (!source) {
    return refuse(source.error());
  }
  return *source;
}

// --- how it is sent
// ------------------------------------------------------------------------------------

// Says how far an upload is, on a terminal, once it has taken more than a second.
class Progress {
 public:
  explicit Progress(std::uint64_t total) : total_(total) {}
  ~Progress() {
    if (shown_) {
      std::fprintf(stderr, "\r\x1b[K");
    }
  }
  void show(std::uint64_t done) {
    const auto now = std::chrono::steady_clock::now();
    if (!is_terminal(Standard::error) || now < next_) {
      return;
    }
    next_ = now + std::chrono::milliseconds(200);
    shown_ = true;
    std::fprintf(stderr, "\r\x1b[Kuploading %s of %s", rough_bytes(done).c_str(),
                 rough_bytes(total_).c_str());
  }

 private:
  std::uint64_t total_;
  bool shown_ = false;
  std::chrono::steady_clock::time_point next_ =
      std::chrono::steady_clock::now() + std::chrono::seconds(1);
};

Outcome<std::string> upload(Client& client, const Code& code) {
  Request head;
  head.method = "POST";
  head.target = "/code" + (code.file_name.empty() ? "" : "?file=" + encode_segment(code.file_name));
  head.content_type = "application/octet-stream";
  Progress progress(code.size);
  std::uint64_t sent = 0;
  auto response = expect_success(client.upload(head, code.size, [&]() -> Outcome<std::string> {
    CLI_TRY(std::string piece, read_piece(code.file.get(), sent));
    sent += piece.size();
    progress.show(sent);
    return piece;
  }));
  if (!response) {
    return tl::unexpected<Failure>(std::move(response.error()));
  }
  return Json::parse(response->body).at("digest").get<std::string>();
}

}  // namespace

Outcome<Code> prepare_code(const std::string& path) {
  CLI_TRY(const rootfs::CodeSource source, source_of(path));
  Code code;
  CLI_TRY(code.file, path.empty() ? no_code() : open_code(path, source));
  if (source == rootfs::CodeSource::single_file) {
    code.file_name = fs::path(path).filename();
  }
  base::Sha256 digest;
  for (;;) {
    CLI_TRY(const std::string piece, read_piece(code.file.get(), code.size));
    if (piece.empty()) {
      break;
    }
    digest.update(piece);
    code.size += piece.size();
  }
  code.digest = "sha256:" + digest.finish();
  return code;
}

// A single file's digest does not say its name, so only an archive can be known already.
Outcome<std::string> send_code(Client& client, const Code& code) {
  if (code.file_name.empty()) {
    CLI_TRY(const Response known, client.ask({"HEAD", "/code/" + code.digest, "", ""}));
    if (known.status == 200) {
      return code.digest;
    }
  }
  return upload(client, code);
}

}  // namespace cli

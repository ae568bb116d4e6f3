// The agent's side of isolate/wire.h: what it sends, as gather lists that copy no payload, and what
// comes back, decoded with every byte taken for hostile. Pure: no descriptor, no clock, no I/O.
#pragma once

#include <sys/uio.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/error.h"
#include "isolate/wire.h"

namespace agent {

// --- agent -> sandbox ----------------------------------------------------------------------------

enum class SoftLimits { unneeded, wanted };  // wanted: the host's cgroups cannot hold them

struct BindRequest {
  std::string_view function;
  std::string_view handler;      // "module.function"
  std::string_view environment;  // KEY=VALUE, each ended by NUL
  std::string_view code;         // marshalled code object; empty: the sandbox imports by itself
  brood_bind_limits limits{};
  SoftLimits soft_limits = SoftLimits::unneeded;
  bool layers = false;  // BROOD_FLAG_LAYERS
};

struct InvokeRequest {
  std::uint64_t invocation = 0;
  std::int64_t deadline_ns = 0;  // CLOCK_MONOTONIC
  std::string_view id;
  std::string_view content_type;
  std::string_view payload;
  std::uint32_t flags = 0;  // BROOD_FLAG_JSON or 0
};

// A command for a native sandbox (BROOD_FRAME_RUN). Its streams go with it as descriptors.
struct RunFrame {
  std::string_view arguments;    // each ended by NUL
  std::string_view environment;  // KEY=VALUE, each ended by NUL
  std::string_view directory;
  brood_run_limits limits{};
  SoftLimits soft_limits = SoftLimits::unneeded;
  bool terminal = false;
};

// Up to two frames, ready for writev(2) or an Asio scatter write. Small parts are copied in; a part
// over kCopyBelow is only pointed at, and has to live until the gather is done. Neither copies nor
// moves: its pieces point into itself.
class Gather {
 public:
  static constexpr std::size_t kCopyBelow = 256;
  static constexpr std::size_t kMaxFrames = 2;

  Gather() = default;
  Gather(const Gather&) = delete;
  Gather& operator=(const Gather&) = delete;

  // Each fails, and adds nothing, when a third frame is added or when the parts are over 4 GiB
  // together.
  base::Status bind(const BindRequest& request);
  base::Status invoke(const InvokeRequest& request);
  // `flags`: BROOD_FLAG_IMPORTS or 0. `path` is below BROOD_CODE_DIR, without a leading slash.
  base::Status compile(std::uint64_t invocation, std::string_view path, std::uint32_t flags = 0);
  base::Status run(const RunFrame& request);

  std::size_t size() const;               // bytes still to be written
  std::span<const iovec> pieces() const;  // what they are; empty when done
  void wrote(std::size_t bytes);          // at most size()
  void clear();

 private:
  static constexpr std::size_t kSmallBytes =
      kMaxFrames *
      (sizeof(brood_frame_head) + BROOD_MAX_PARTS * (sizeof(std::uint32_t) + kCopyBelow));
  static constexpr std::size_t kMaxPieces = kMaxFrames * (2 * BROOD_MAX_PARTS + 1);

  base::Status add(brood_frame_head head, std::span<const std::string_view> parts);
  void copy_in(const void* bytes, std::size_t size);
  void point_at(std::string_view bytes);

  std::array<char, kSmallBytes> small_;
  std::array<iovec, kMaxPieces> pieces_;
  std::size_t small_used_ = 0;
  std::size_t first_ = 0;  // pieces before it are written
  std::size_t count_ = 0;
  std::size_t frames_ = 0;
};

// --- sandbox -> agent ----------------------------------------------------------------------------

// A frame of a sandbox that kept the form of isolate/wire.h. Whether it fits the moment (a RESULT
// without an INVOKE, another invocation's number) is the caller's to check.
struct Frame {
  brood_frame_kind kind = BROOD_FRAME_READY;  // READY, LOADED, RESULT or COMPILED
  std::uint32_t flags = 0;                    // only those that `kind` may carry
  std::uint64_t invocation = 0;
  std::array<std::int64_t, 5> stage_ns{};  // the sandbox's word: not clamped yet
  // As many as the kind and its flags ask for, else empty. An error's parts are well-formed UTF-8
  // without control characters other than newline and tab; RESULT's content type is printable
  // ASCII; a body or code is whatever it is.
  std::array<std::string, 3> parts;

  bool is_error() const { return (flags & BROOD_FLAG_ERROR) != 0; }
};

// Decodes what one sandbox sends, however it is cut. Memory follows the bytes that have come, never
// the size that a frame claims. The first error is final: the sandbox is to be killed.
//
//   auto space = reader.space();
//   reader.filled(read(fd, space.data(), space.size()));
//   while (auto frame = reader.next()) { if (!*frame) break; … }
class FrameReader {
 public:
  // What a frame may carry beside the body: lengths, content type; or an error's three texts.
  static constexpr std::size_t kSlack = 256 << 10;

  // `body_limit`: bytes of the longest answer that is taken.
  explicit FrameReader(std::uint64_t body_limit) : body_limit_(body_limit) {}
  void set_body_limit(std::uint64_t bytes) { body_limit_ = bytes; }

  // Where the next bytes go; never empty. Valid until the next call of anything here.
  std::span<char> space();
  void filled(std::size_t bytes);  // at most space().size()
  // The next frame that is complete; nothing when more bytes are needed; or what is wrong.
  base::Result<std::optional<Frame>> next();

  // True between frames: an end of file here is orderly.
  bool at_boundary() const { return state_ == State::head && begin_ == end_; }

 private:
  enum class State { head, length, part, failed };
  static constexpr std::size_t kBuffer = 16 << 10;
  static constexpr std::size_t kStep = 64 << 10;  // grown ahead of a part's bytes, at first

  std::size_t buffered() const { return end_ - begin_; }
  // The rest of a part goes to where it will stay, past the buffer.
  bool is_direct() const {
    return state_ == State::part && buffered() == 0 && part_have_ < part_size_;
  }
  void take(void* into, std::size_t size);
  void grow_part();
  bool fill_part();
  base::Result<bool> advance();
  base::Status begin_frame();
  base::Status begin_part();
  base::Status finish_frame();
  Frame take_frame();
  tl::unexpected<base::Error> broken(std::string what);

  std::uint64_t body_limit_;
  State state_ = State::head;
  std::string problem_;
  brood_frame_head head_{};
  Frame frame_;
  std::uint32_t part_ = 0;       // the part being read
  std::uint32_t part_size_ = 0;  // its claimed length
  std::size_t part_have_ = 0;    // its bytes that have come
  std::uint64_t left_ = 0;       // of the body, not yet claimed by a part
  std::size_t begin_ = 0;
  std::size_t end_ = 0;
  std::array<char, kBuffer> buffer_;
};

// Well-formed UTF-8 of at most `limit` bytes: what is not, and every control character but newline
// and tab, becomes U+FFFD, so that a handler's words can be shown on a terminal.
std::string printable(std::string_view text, std::size_t limit);

// --- agent <-> zygote ----------------------------------------------------------------------------

enum class Purpose { stock, awaited };  // awaited: an invocation waits for it

struct SpawnOrder {
  std::uint64_t sandbox = 0;
  std::uint32_t uid_first = 0;  // in the zygote's user namespace
  std::uint32_t uid_count = 0;
  std::string_view hostname;  // at most 63 bytes, no NUL
  Purpose purpose = Purpose::stock;
};

brood_control control_message(brood_control_kind kind);
// Fails when the host name does not fit or the range is empty.
base::Result<brood_control> spawn_message(const SpawnOrder& order);
// What one recvmsg(2) brought from a zygote: BOOTED, SPAWNED, SPAWN_FAILED or EXITED. Both texts of
// the result end in NUL, and `text` is printable.
base::Result<brood_control> decode_control(std::string_view bytes);

// --- pid 1 -> agent ------------------------------------------------------------------------------

using SupervisorMessage = std::variant<brood_setup_report, brood_handler_end>;
// What one recvmsg(2) brought from a sandbox's supervisor. Checked: sizes, magics, steps, and that
// an end is one that waitid(2) could have told.
base::Result<SupervisorMessage> decode_supervisor(std::string_view bytes);

}  // namespace agent

#include "agent/protocol.h"

#include <algorithm>
#include <csignal>
#include <cstring>
#include <limits>
#include <utility>

#include "base/utf8.h"

namespace agent {
namespace {

constexpr std::size_t kMaxContentType = 255;
constexpr std::size_t kMaxErrorType = 256;
constexpr std::size_t kMaxMessage = 16 << 10;
constexpr std::size_t kMaxTrace = 64 << 10;
constexpr int kMaxErrno = 4095;

constexpr std::uint32_t kErrorFlags = BROOD_FLAG_INIT | BROOD_FLAG_MEMORY | BROOD_FLAG_TOO_LARGE;

// What a kind of frame from a sandbox looks like.
struct Form {
  brood_frame_kind kind;
  const char* name;
  std::uint32_t flags;  // allowed
  std::uint32_t parts;  // without FLAG_ERROR
};
constexpr Form kForms[] = {
    {BROOD_FRAME_READY, "READY", 0, 0},
    {BROOD_FRAME_LOADED, "LOADED", 0, 0},
    {BROOD_FRAME_RESULT, "RESULT", BROOD_FLAG_JSON | BROOD_FLAG_ERROR | kErrorFlags,
     BROOD_RESULT_PARTS},
    {BROOD_FRAME_COMPILED, "COMPILED", BROOD_FLAG_ERROR | BROOD_FLAG_INIT | BROOD_FLAG_MEMORY, 1},
};

const Form* form_of(std::uint32_t kind) {
  const auto* found = std::find_if(std::begin(kForms), std::end(kForms),
                                   [kind](const Form& form) { return form.kind == kind; });
  return found == std::end(kForms) ? nullptr : found;
}

// The first rule that a head breaks; empty when it is fine.
std::string check_head(const brood_frame_head& head, std::uint64_t body_limit) {
  const Form* form = form_of(head.kind);
  if (form == nullptr) {
    return "frame of unknown kind " + std::to_string(head.kind);
  }
  const std::string name = form->name;
  if ((head.flags & ~form->flags) != 0) {
    return name + " frame with flags " + std::to_string(head.flags);
  }
  const bool error = (head.flags & BROOD_FLAG_ERROR) != 0;
  if (error ? (head.flags & BROOD_FLAG_JSON) != 0 : (head.flags & kErrorFlags) != 0) {
    return name + " frame with flags that exclude each other: " + std::to_string(head.flags);
  }
  const std::uint32_t parts = error ? static_cast<std::uint32_t>(BROOD_ERROR_PARTS) : form->parts;
  if (head.part_count != parts) {
    return name + " frame of " + std::to_string(head.part_count) + " parts, not " +
           std::to_string(parts);
  }
  const std::uint64_t limit = parts == 0 ? 0 : body_limit + FrameReader::kSlack;
  if (head.body_size > limit) {
    return name + " frame of " + std::to_string(head.body_size) + " bytes, over the limit of " +
           std::to_string(limit);
  }
  return {};
}

bool is_printable_ascii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return c >= ' ' && c <= '~'; });
}

bool is_shown(const base::CodePoint& point) {
  if (point.length == 0) {
    return false;
  }
  const char32_t c = point.value;
  return c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f && !(c >= 0x80 && c < 0xa0));
}

template <typename T>
T read_as(std::string_view bytes) {
  T value;
  std::memcpy(&value, bytes.data(), sizeof value);
  return value;
}

template <std::size_t N>
bool is_terminated(const char (&text)[N]) {
  return std::memchr(text, '\0', N) != nullptr;
}

}  // namespace

// --- Gather --------------------------------------------------------------------------------------

base::Status Gather::bind(const BindRequest& request) {
  const std::string_view limits(reinterpret_cast<const char*>(&request.limits),
                                sizeof request.limits);
  const std::array<std::string_view, BROOD_BIND_PARTS> parts{
      request.function, request.handler, request.environment, request.code, limits};
  brood_frame_head head{};
  head.kind = BROOD_FRAME_BIND;
  head.flags = (request.soft_limits == SoftLimits::wanted ? BROOD_FLAG_SOFT_LIMITS : 0U) |
               (request.layers ? BROOD_FLAG_LAYERS : 0U);
  head.deadline_ns = static_cast<std::int64_t>(request.limits.response_bytes);
  return add(head, parts);
}

base::Status Gather::invoke(const InvokeRequest& request) {
  const std::array<std::string_view, BROOD_INVOKE_PARTS> parts{request.id, request.content_type,
                                                               request.payload};
  brood_frame_head head{};
  head.kind = BROOD_FRAME_INVOKE;
  head.flags = request.flags;
  head.invocation = request.invocation;
  head.deadline_ns = request.deadline_ns;
  return add(head, parts);
}

base::Status Gather::compile(std::uint64_t invocation, std::string_view path, std::uint32_t flags) {
  brood_frame_head head{};
  head.flags = flags;
  head.kind = BROOD_FRAME_COMPILE;
  head.invocation = invocation;
  return add(head, std::span(&path, 1));
}

base::Status Gather::run(const RunFrame& request) {
  const std::string_view limits(reinterpret_cast<const char*>(&request.limits),
                                sizeof request.limits);
  const std::array<std::string_view, BROOD_RUN_PARTS> parts{request.arguments, request.environment,
                                                            request.directory, limits};
  brood_frame_head head{};
  head.kind = BROOD_FRAME_RUN;
  head.flags = (request.soft_limits == SoftLimits::wanted ? BROOD_FLAG_SOFT_LIMITS : 0U) |
               (request.terminal ? BROOD_FLAG_TERMINAL : 0U);
  return add(head, parts);
}

base::Status Gather::add(brood_frame_head head, std::span<const std::string_view> parts) {
  if (frames_ == kMaxFrames) {
    return base::fail_because("a gather takes two frames at most");
  }
  std::uint64_t body = 0;
  for (const std::string_view part : parts) {
    body += sizeof(std::uint32_t) + part.size();
  }
  if (body > std::numeric_limits<std::uint32_t>::max()) {
    return base::fail_because("a frame of " + std::to_string(body) + " bytes is over 4 GiB");
  }
  head.part_count = static_cast<std::uint32_t>(parts.size());
  head.body_size = static_cast<std::uint32_t>(body);
  copy_in(&head, sizeof head);
  for (const std::string_view part : parts) {
    const auto length = static_cast<std::uint32_t>(part.size());
    copy_in(&length, sizeof length);
    if (part.size() > kCopyBelow) {
      point_at(part);
    } else {
      copy_in(part.data(), part.size());
    }
  }
  ++frames_;
  return {};
}

void Gather::copy_in(const void* bytes, std::size_t size) {
  if (size == 0) {
    return;
  }
  char* to = small_.data() + small_used_;
  std::memcpy(to, bytes, size);
  small_used_ += size;
  if (count_ > first_) {
    iovec& last = pieces_[count_ - 1];
    if (static_cast<char*>(last.iov_base) + last.iov_len == to) {
      last.iov_len += size;
      return;
    }
  }
  pieces_[count_++] = {to, size};
}

void Gather::point_at(std::string_view bytes) {
  pieces_[count_++] = {const_cast<char*>(bytes.data()), bytes.size()};
}

std::span<const iovec> Gather::pieces() const {
  return std::span(pieces_).subspan(first_, count_ - first_);
}

std::size_t Gather::size() const {
  std::size_t sum = 0;
  for (const iovec& piece : pieces()) {
    sum += piece.iov_len;
  }
  return sum;
}

void Gather::wrote(std::size_t bytes) {
  while (bytes > 0 && first_ < count_) {
    iovec& piece = pieces_[first_];
    if (bytes < piece.iov_len) {
      piece.iov_base = static_cast<char*>(piece.iov_base) + bytes;
      piece.iov_len -= bytes;
      return;
    }
    bytes -= piece.iov_len;
    ++first_;
  }
}

void Gather::clear() {
  small_used_ = first_ = count_ = frames_ = 0;
}

// --- FrameReader ---------------------------------------------------------------------------------

std::span<char> FrameReader::space() {
  if (is_direct()) {
    grow_part();
    std::string& part = frame_.parts[part_];
    return {part.data() + part_have_, part.size() - part_have_};
  }
  if (begin_ > 0) {
    std::memmove(buffer_.data(), buffer_.data() + begin_, buffered());
    end_ -= begin_;
    begin_ = 0;
  }
  if (end_ == kBuffer) {
    (void)broken("bytes that nobody took: next() was not called until it had nothing");
    end_ = 0;
  }
  return {buffer_.data() + end_, kBuffer - end_};
}

void FrameReader::filled(std::size_t bytes) {
  if (is_direct()) {
    part_have_ += bytes;
  } else {
    end_ += bytes;
  }
}

base::Result<std::optional<Frame>> FrameReader::next() {
  for (;;) {
    BROOD_TRY(const bool more, advance());
    if (!more) {
      return std::nullopt;
    }
    if (state_ == State::length && part_ == head_.part_count) {
      BROOD_CHECK(finish_frame());
      state_ = State::head;
      return take_frame();
    }
  }
}

// One step as far as the bytes go; false when they do not reach for it.
base::Result<bool> FrameReader::advance() {
  switch (state_) {
    case State::head:
      if (buffered() < sizeof head_) {
        return false;
      }
      BROOD_CHECK(begin_frame());
      return true;
    case State::length:
      if (left_ < sizeof part_size_) {
        return broken("frame whose parts are longer than its body");
      }
      if (buffered() < sizeof part_size_) {
        return false;
      }
      BROOD_CHECK(begin_part());
      return true;
    case State::part:
      return fill_part();
    case State::failed:
      break;
  }
  return broken(problem_);
}

base::Status FrameReader::begin_frame() {
  take(&head_, sizeof head_);
  if (std::string wrong = check_head(head_, body_limit_); !wrong.empty()) {
    return broken(std::move(wrong));
  }
  frame_ = Frame{};
  frame_.kind = static_cast<brood_frame_kind>(head_.kind);
  frame_.flags = head_.flags;
  frame_.invocation = head_.invocation;
  std::copy(std::begin(head_.stage_ns), std::end(head_.stage_ns), frame_.stage_ns.begin());
  part_ = 0;
  left_ = head_.body_size;
  state_ = State::length;
  if (head_.part_count == 0 && left_ != 0) {
    return broken("frame with a body and no parts");
  }
  return {};
}

base::Status FrameReader::begin_part() {
  take(&part_size_, sizeof part_size_);
  left_ -= sizeof part_size_;
  if (part_size_ > left_) {
    return broken("part " + std::to_string(part_) + " of " + std::to_string(part_size_) +
                  " bytes where " + std::to_string(left_) + " are left");
  }
  left_ -= part_size_;
  part_have_ = 0;
  state_ = State::part;
  return {};
}

// Room for what is buffered or, with nothing buffered, for the next read: never more than doubles
// what has come, so a sandbox pays for the agent's memory in bytes sent.
void FrameReader::grow_part() {
  std::string& part = frame_.parts[part_];
  if (part.size() > part_have_) {
    return;
  }
  const std::size_t ahead = std::max({kStep, part_have_, buffered()});
  part.resize(part_have_ + std::min<std::size_t>(ahead, part_size_ - part_have_));
}

bool FrameReader::fill_part() {
  while (part_have_ < part_size_ && buffered() > 0) {
    grow_part();
    std::string& part = frame_.parts[part_];
    const std::size_t size = std::min(buffered(), part.size() - part_have_);
    take(part.data() + part_have_, size);
    part_have_ += size;
  }
  if (part_have_ < part_size_) {
    return false;
  }
  ++part_;
  state_ = State::length;
  return true;
}

base::Status FrameReader::finish_frame() {
  if (left_ != 0) {
    return broken("frame with " + std::to_string(left_) + " bytes after its last part");
  }
  if (frame_.is_error()) {
    std::string& type = frame_.parts[BROOD_ERROR_TYPE];
    std::string& message = frame_.parts[BROOD_ERROR_MESSAGE];
    std::string& trace = frame_.parts[BROOD_ERROR_TRACE];
    type = printable(type, kMaxErrorType);
    message = printable(message, kMaxMessage);
    trace = printable(trace, kMaxTrace);
    return {};
  }
  if (frame_.kind == BROOD_FRAME_RESULT) {
    const std::string& type = frame_.parts[BROOD_RESULT_CONTENT_TYPE];
    // It becomes a header of the answer.
    if (type.empty() || type.size() > kMaxContentType || !is_printable_ascii(type)) {
      return broken("RESULT frame whose content type is no header's value");
    }
    if (frame_.parts[BROOD_RESULT_BODY].size() > body_limit_) {
      return broken("RESULT frame whose body is over the limit of " + std::to_string(body_limit_) +
                    " bytes");
    }
  }
  return {};
}

Frame FrameReader::take_frame() {
  return std::exchange(frame_, Frame{});
}

void FrameReader::take(void* into, std::size_t size) {
  std::memcpy(into, buffer_.data() + begin_, size);
  begin_ += size;
}

tl::unexpected<base::Error> FrameReader::broken(std::string what) {
  state_ = State::failed;
  frame_ = Frame{};
  problem_ = std::move(what);
  return base::fail_because(problem_);
}

std::string printable(std::string_view text, std::size_t limit) {
  constexpr std::string_view kReplacement = "\xef\xbf\xbd";
  std::string clean;
  clean.reserve(std::min(text.size(), limit));
  while (!text.empty()) {
    const base::CodePoint point = base::first_code_point(text);
    const bool shown = is_shown(point);
    const std::string_view piece = shown ? text.substr(0, point.length) : kReplacement;
    if (clean.size() + piece.size() > limit) {
      break;
    }
    clean += piece;
    text.remove_prefix(std::max<std::size_t>(point.length, 1));
  }
  return clean;
}

// --- control -------------------------------------------------------------------------------------

brood_control control_message(brood_control_kind kind) {
  brood_control message{};
  message.kind = kind;
  return message;
}

base::Result<brood_control> spawn_message(const SpawnOrder& order) {
  brood_control message = control_message(BROOD_SPAWN);
  if (order.hostname.size() >= sizeof message.hostname ||
      order.hostname.find('\0') != std::string_view::npos) {
    return base::fail_because("host name '" + std::string(order.hostname) +
                              "' does not fit 63 bytes");
  }
  if (order.uid_count == 0) {
    return base::fail_because("a sandbox needs at least one uid");
  }
  message.sandbox = order.sandbox;
  message.uid_first = order.uid_first;
  message.uid_count = order.uid_count;
  message.value = order.purpose == Purpose::awaited ? BROOD_AWAITED : 0;
  order.hostname.copy(message.hostname, sizeof message.hostname - 1);
  return message;
}

base::Result<brood_control> decode_control(std::string_view bytes) {
  if (bytes.size() != sizeof(brood_control)) {
    return base::fail_because("control message of " + std::to_string(bytes.size()) +
                              " bytes, not " + std::to_string(sizeof(brood_control)));
  }
  auto message = read_as<brood_control>(bytes);
  if (message.kind < BROOD_BOOTED || message.kind > BROOD_EXITED) {
    return base::fail_because("control message of unknown kind " + std::to_string(message.kind));
  }
  if (!is_terminated(message.hostname) || !is_terminated(message.text)) {
    return base::fail_because("control message with a text that does not end");
  }
  const std::string text = printable(message.text, sizeof message.text - 1);
  std::memset(message.text, 0, sizeof message.text);
  text.copy(message.text, sizeof message.text - 1);
  return message;
}

namespace {

base::Result<SupervisorMessage> decode_report(std::string_view bytes) {
  const auto report = read_as<brood_setup_report>(bytes);
  if (report.steps_done > BROOD_MAX_STEPS || report.step > BROOD_MAX_STEPS) {
    return base::fail_because(
        "set-up report of steps that there are not: " + std::to_string(report.steps_done) +
        " done, at " + std::to_string(report.step));
  }
  if (report.error < 0 || report.error > kMaxErrno || (report.step != 0 && report.error == 0)) {
    return base::fail_because("set-up report with error " + std::to_string(report.error));
  }
  return report;
}

base::Result<SupervisorMessage> decode_end(std::string_view bytes) {
  const auto end = read_as<brood_handler_end>(bytes);
  const bool exited = end.code == CLD_EXITED && end.status >= 0 && end.status <= 255;
  const bool killed = (end.code == CLD_KILLED || end.code == CLD_DUMPED) && end.status >= 1 &&
                      end.status <= SIGRTMAX;
  if (!exited && !killed) {
    return base::fail_because("handler's end with code " + std::to_string(end.code) +
                              " and status " + std::to_string(end.status));
  }
  return end;
}

}  // namespace

base::Result<SupervisorMessage> decode_supervisor(std::string_view bytes) {
  const std::uint32_t magic =
      bytes.size() >= sizeof(std::uint32_t) ? read_as<std::uint32_t>(bytes) : 0;
  if (magic == BROOD_SETUP_MAGIC && bytes.size() == sizeof(brood_setup_report)) {
    return decode_report(bytes);
  }
  if (magic == BROOD_HANDLER_MAGIC && bytes.size() == sizeof(brood_handler_end)) {
    return decode_end(bytes);
  }
  return base::fail_because("supervisor message of " + std::to_string(bytes.size()) +
                            " bytes that is neither a report nor an end");
}

}  // namespace agent

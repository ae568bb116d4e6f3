#include "agent/log_store.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <nlohmann/json.hpp>

#include "agent/types.h"
#include "base/file.h"

namespace agent {
namespace {

using base::fail;
using base::fail_because;
using base::fail_errno;
using base::Result;
using base::Status;
using nlohmann::json;

constexpr const char* kCurrent = "current.jsonl";
constexpr std::size_t kHeldLimit = 128 << 10;

std::string rotated_name(std::uint32_t number) {
  return number == 0 ? kCurrent : std::to_string(number) + ".jsonl";
}

bool needs_escape(char byte) {
  return byte < ' ' || byte > '~' || byte == '"' || byte == '\\';
}

// Most text is plain. A line of it costs a tenth of what the library takes, and a function decides
// how many lines there are.
void add_quoted(std::string& to, std::string_view text) {
  if (std::any_of(text.begin(), text.end(), needs_escape)) {
    to += json(text).dump(-1, ' ', false, json::error_handler_t::replace);
    return;
  }
  to.append("\"").append(text).append("\"");
}

void add_encoded(std::string& to, const LogLine& line) {
  to.append(R"({"sequence":)").append(std::to_string(line.sequence));
  to.append(R"(,"time_ms":)").append(std::to_string(line.time_ms));
  to.append(R"(,"invocation_id":)");
  add_quoted(to, line.origin);
  to.append(R"(,"text":)");
  add_quoted(to, line.text);
  to.append(line.cut ? ",\"cut\":true}\n" : "}\n");
}

std::optional<LogLine> decode(std::string_view text) {
  const json object = json::parse(text, nullptr, false);
  if (!object.is_object()) {
    return std::nullopt;
  }
  const auto number = [&](const char* key) {
    const auto at = object.find(key);
    return at != object.end() && at->is_number_integer() ? at->get<std::int64_t>() : 0;
  };
  const auto string = [&](const char* key) {
    const auto at = object.find(key);
    return at != object.end() && at->is_string() ? at->get<std::string>() : std::string();
  };
  const auto cut = object.find("cut");
  LogLine line{.sequence = static_cast<std::uint64_t>(number("sequence")),
               .time_ms = number("time_ms"),
               .origin = string("invocation_id"),
               .text = string("text"),
               .cut = cut != object.end() && *cut == true};
  return line.sequence == 0 ? std::nullopt : std::optional(std::move(line));
}

// Takes the last line off `text`, which ends in a newline or is empty.
std::string_view take_last_line(std::string_view& text) {
  const std::string_view whole = text.substr(0, text.size() - 1);
  const std::size_t start = whole.rfind('\n') + 1;  // npos + 1 is 0
  const std::string_view line = whole.substr(start);
  text = text.substr(0, start);
  return line;
}

std::string_view whole_lines(std::string_view text) {
  return text.substr(0, text.rfind('\n') + 1);
}

// The end of a file, long enough for its last line whatever that holds.
Result<std::string> read_end(int fd, const LogLimits& limits) {
  struct stat about {};
  if (::fstat(fd, &about) != 0) {
    return fail_errno("fstat", kCurrent);
  }
  constexpr std::size_t kLongestEscape = 6;  // "\u0001"
  const std::size_t window = 2 * (kLongestEscape * limits.line_bytes + 1024);
  const auto size = static_cast<std::size_t>(about.st_size);
  std::string text(std::min(size, window), '\0');
  const ssize_t got = ::pread(fd, text.data(), text.size(), static_cast<off_t>(size - text.size()));
  if (got < 0) {
    return fail_errno("pread", kCurrent);
  }
  text.resize(static_cast<std::size_t>(got));
  return text;
}

std::uint64_t last_sequence_in(std::string_view text) {
  text = whole_lines(text);
  while (!text.empty()) {
    if (const auto line = decode(take_last_line(text))) {
      return line->sequence;
    }
  }
  return 0;
}

// Takes from the end of a file's text; false once no older line is wanted.
bool collect(std::string_view text, std::size_t tail, std::uint64_t after,
             std::vector<LogLine>& newest_first) {
  text = whole_lines(text);
  while (!text.empty()) {
    auto line = decode(take_last_line(text));
    if (!line) {
      continue;
    }
    if (newest_first.size() >= tail || line->sequence <= after) {
      return false;
    }
    newest_first.push_back(std::move(*line));
  }
  return true;
}

// Without the character that the limit has cut in two.
std::string_view without_half_character(std::string_view text) {
  for (std::size_t back = 1; back <= std::min<std::size_t>(3, text.size()); ++back) {
    const auto byte = static_cast<unsigned char>(text[text.size() - back]);
    if ((byte & 0xc0U) == 0xc0U) {
      const std::size_t length = byte >= 0xf0 ? 4 : byte >= 0xe0 ? 3 : 2;
      return length > back ? text.substr(0, text.size() - back) : text;
    }
    if (byte < 0x80) {
      break;
    }
  }
  return text;
}

}  // namespace

LineSplitter::Line LineSplitter::take(std::string_view text, bool cut) {
  if (partial_.empty()) {
    return {.text = text, .cut = cut};
  }
  partial_ += text;
  ready_.swap(partial_);
  partial_.clear();
  return {.text = ready_, .cut = cut};
}

std::optional<LineSplitter::Line> LineSplitter::next(std::string_view& bytes) {
  const std::size_t newline = bytes.find('\n');
  const bool complete = newline != std::string_view::npos;
  std::string_view text = bytes.substr(0, newline);
  bytes.remove_prefix(complete ? newline + 1 : bytes.size());
  if (dropping_) {
    dropping_ = !complete;
    return std::nullopt;
  }
  if (const std::size_t room = limit_ - partial_.size(); text.size() > room) {
    dropping_ = !complete;
    Line line = take(text.substr(0, room), true);
    line.text = without_half_character(line.text);
    return line;
  }
  if (!complete) {
    partial_ += text;
    return std::nullopt;
  }
  return take(text, false);
}

// --- which are open ------------------------------------------------------------------------------

void OpenLogs::used(FunctionLog& log) {
  if (!logs_.empty() && logs_.front() == &log) {
    return;
  }
  logs_.remove(&log);
  logs_.push_front(&log);
  if (logs_.size() > kMost) {
    logs_.back()->directory_.reset();
    logs_.back()->current_.reset();
    logs_.pop_back();
  }
}

void OpenLogs::forget(const FunctionLog& log) {
  logs_.remove_if([&](const FunctionLog* one) { return one == &log; });
}

// --- one function's ------------------------------------------------------------------------------

FunctionLog::FunctionLog(std::shared_ptr<OpenLogs> open, std::string name, const LogLimits& limits)
    : open_(std::move(open)), name_(std::move(name)), limits_(limits) {}

FunctionLog::~FunctionLog() {
  (void)flush();
  open_->forget(*this);
}

Status FunctionLog::be_open() {
  if (!directory_) {
    BROOD_TRY(directory_,
              base::open_at(open_->directory(), name_, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  }
  open_->used(*this);
  return current_ ? Status() : open_current();
}

void FunctionLog::append(LogSource& source, std::string_view bytes, std::string_view origin,
                         std::int64_t time_ms) {
  if (source.origin_ != origin) {
    end(source, time_ms);
    source.origin_ = origin;
  }
  source.splitter_.feed(bytes, [&](LineSplitter::Line line) { add_line(source, line, time_ms); });
}

void FunctionLog::end(LogSource& source, std::int64_t time_ms) {
  source.splitter_.finish([&](LineSplitter::Line line) { add_line(source, line, time_ms); });
}

void FunctionLog::add_line(const LogSource& source, LineSplitter::Line line, std::int64_t time_ms) {
  add_encoded(buffer_, {.sequence = next_sequence_++,
                        .time_ms = time_ms,
                        .origin = source.origin_,
                        .text = std::string(line.text),
                        .cut = line.cut});
  ++held_lines_;
  if (buffer_.size() >= std::min<std::uint64_t>(kHeldLimit, limits_.file_bytes / 2)) {
    if (auto status = write_out(); !status) {
      failure_ = std::move(status.error());
    }
  }
}

Status FunctionLog::flush() {
  Status status = write_out();
  if (status && failure_) {
    status = fail(std::move(*failure_));
  }
  failure_.reset();
  return status;
}

Status FunctionLog::write_out() {
  const std::string lines = std::exchange(buffer_, {});
  const std::uint64_t count = std::exchange(held_lines_, 0);
  if (lines.empty() || removed_) {
    return {};
  }
  lost_lines_ += count;  // until they are written
  BROOD_CHECK(be_open());
  if (size_ > 0 && size_ + lines.size() > limits_.file_bytes) {
    BROOD_CHECK(rotate());
  }
  const ssize_t put = ::write(current_.get(), lines.data(), lines.size());
  if (put != static_cast<ssize_t>(lines.size())) {
    auto error = put < 0 ? base::Error::from_errno("write", kCurrent)
                         : base::Error("write", ENOSPC, kCurrent);
    // Half a line would spoil the next one. Should this fail too, the reader skips the spoilt line.
    (void)!::ftruncate(current_.get(), static_cast<off_t>(size_));
    return fail(std::move(error));
  }
  size_ += lines.size();
  lost_lines_ -= count;
  return {};
}

Status FunctionLog::rotate() {
  for (std::uint32_t number = limits_.files - 1; number > 0; --number) {
    const std::string from = rotated_name(number - 1);
    const std::string to = rotated_name(number);
    if (::renameat(directory_.get(), from.c_str(), directory_.get(), to.c_str()) != 0 &&
        errno != ENOENT) {
      return fail_errno("rename", from);
    }
  }
  if (limits_.files <= 1 && ::unlinkat(directory_.get(), kCurrent, 0) != 0 && errno != ENOENT) {
    return fail_errno("unlink", kCurrent);
  }
  return open_current();
}

Status FunctionLog::open_current() {
  BROOD_TRY(current_, base::open_at(directory_.get(), kCurrent,
                                    O_RDWR | O_CREAT | O_APPEND | O_NOFOLLOW, 0600));
  struct stat about {};
  if (::fstat(current_.get(), &about) != 0) {
    return fail_errno("fstat", kCurrent);
  }
  size_ = static_cast<std::uint64_t>(about.st_size);
  return {};
}

Status FunctionLog::drop_half_line() {
  BROOD_TRY(const std::string end, read_end(current_.get(), limits_));
  const std::uint64_t half = end.size() - whole_lines(end).size();
  if (half == 0) {
    return {};
  }
  if (::ftruncate(current_.get(), static_cast<off_t>(size_ - half)) != 0) {
    return fail_errno("ftruncate", kCurrent);
  }
  size_ -= half;
  return {};
}

Status FunctionLog::recover() {
  BROOD_CHECK(be_open());
  BROOD_CHECK(drop_half_line());
  for (std::uint32_t number = 0; number < limits_.files; ++number) {
    const auto file = base::open_at(directory_.get(), rotated_name(number), O_RDONLY | O_NOFOLLOW);
    if (!file) {
      continue;
    }
    BROOD_TRY(const std::string end, read_end(file->get(), limits_));
    if (const std::uint64_t last = last_sequence_in(end); last > 0) {
      next_sequence_ = last + 1;
      return {};
    }
  }
  return {};
}

Result<std::vector<LogLine>> FunctionLog::read(std::size_t tail, std::uint64_t after_sequence) {
  (void)write_out();  // lines that cannot be written are a gap
  std::vector<LogLine> lines;
  if (removed_) {
    return lines;
  }
  BROOD_CHECK(be_open());
  // A file is a little over its limit at most, but the limit may have been higher before.
  const std::size_t limit = std::max<std::size_t>(64 << 20, 2 * limits_.file_bytes);
  for (std::uint32_t number = 0; number < limits_.files && lines.size() < tail; ++number) {
    const auto text = base::read_file_at(directory_.get(), rotated_name(number), limit);
    if (!text && text.error().code() == ENOENT) {
      continue;
    }
    if (!text) {
      return fail(base::Error(text.error()));
    }
    if (!collect(*text, tail, after_sequence, lines)) {
      break;
    }
  }
  std::reverse(lines.begin(), lines.end());
  return lines;
}

Result<LogStore> LogStore::open(const std::string& path, const LogLimits& limits) {
  if (limits.files < 1 || limits.line_bytes < 4 || limits.file_bytes < 1) {
    return fail_because("a log needs at least one file, and 4 bytes a line");
  }
  BROOD_CHECK(base::make_directories(path, 0700));
  BROOD_TRY(base::UniqueFd directory, base::open_at(AT_FDCWD, path, O_RDONLY | O_DIRECTORY));
  return LogStore(std::make_shared<OpenLogs>(std::move(directory)), limits);
}

Result<std::shared_ptr<FunctionLog>> LogStore::open_log(const std::string& function) const {
  if (const std::string rule = validate_name(function); !rule.empty()) {
    return fail_because(rule);
  }
  if (::mkdirat(open_->directory(), function.c_str(), 0700) != 0 && errno != EEXIST) {
    return fail_errno("mkdir", function);
  }
  const std::shared_ptr<FunctionLog> log(new FunctionLog(open_, function, limits_));
  BROOD_CHECK(log->recover());
  return log;
}

Result<std::shared_ptr<FunctionLog>> LogStore::writer(std::string_view function) {
  if (const auto known = logs_.find(function); known != logs_.end()) {
    if (auto log = known->second.lock()) {
      return log;
    }
  }
  BROOD_TRY(std::shared_ptr<FunctionLog> log, open_log(std::string(function)));
  logs_[std::string(function)] = log;
  return log;
}

Result<std::vector<LogLine>> LogStore::read(std::string_view function, std::size_t tail,
                                            std::uint64_t after_sequence) const {
  if (const auto known = logs_.find(function); known != logs_.end()) {
    if (const auto log = known->second.lock()) {
      return log->read(tail, after_sequence);
    }
  }
  struct stat about {};
  const std::string name(function);
  if (!validate_name(name).empty() || ::fstatat(open_->directory(), name.c_str(), &about, 0) != 0) {
    return std::vector<LogLine>{};
  }
  BROOD_TRY(const std::shared_ptr<FunctionLog> log, open_log(name));
  return log->read(tail, after_sequence);
}

Status LogStore::remove(std::string_view function) {
  const std::string name(function);
  if (const std::string rule = validate_name(name); !rule.empty()) {
    return fail_because(rule);
  }
  if (const auto known = logs_.find(function); known != logs_.end()) {
    if (const auto log = known->second.lock()) {
      log->removed_ = true;
    }
    logs_.erase(known);
  }
  return base::remove_tree_at(open_->directory(), name);
}

}  // namespace agent

// What functions and kept commands print, as JSON lines on disk: <directory>/<name>/current.jsonl,
// and behind it 1.jsonl (newest) to N.jsonl (oldest), which are rotated by rename.
//
// What a function prints is hostile: a line has a limit beyond which it is cut, a function's files
// have one together, and text is made valid UTF-8. Other control characters, terminal escapes among
// them, are kept: whoever prints a log to a terminal takes care of them. Logs are not synced; after
// a crash a half-written last line is dropped and sequences go on behind the last whole one. One
// thread.
#pragma once

#include <cstdint>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/service.h"
#include "base/error.h"
#include "base/fd.h"

namespace agent {

struct LogLimits {
  std::uint64_t file_bytes = 1 << 20;  // at which a file is rotated
  std::uint32_t files = 4;             // per function, the current one included; at least 1
  std::size_t line_bytes = 16 << 10;   // of text, before it is encoded; at least 4
};

// Cuts a stream into lines. Holds at most `limit` bytes however long a line is: at that length it
// is given, marked as cut and ending in a whole character, and the rest of it is dropped. Pure.
class LineSplitter {
 public:
  struct Line {
    std::string_view text;  // without its newline; valid until the sink returns
    bool cut = false;
  };

  explicit LineSplitter(std::size_t limit) : limit_(limit) {}

  // Calls `sink(Line)` for each line that `bytes` completes.
  template <typename Sink>
  void feed(std::string_view bytes, Sink sink) {
    while (!bytes.empty()) {
      if (const auto line = next(bytes)) {
        sink(*line);
      }
    }
  }
  // What is left without a newline, as a line of its own.
  template <typename Sink>
  void finish(Sink sink) {
    dropping_ = false;
    if (!partial_.empty()) {
      ready_.swap(partial_);
      partial_.clear();
      sink(Line{.text = ready_});
    }
  }
  bool holds_partial() const { return !partial_.empty(); }

 private:
  std::optional<Line> next(std::string_view& bytes);
  Line take(std::string_view text, bool cut);

  const std::size_t limit_;
  std::string partial_;
  std::string ready_;
  bool dropping_ = false;
};

// One writer of a log: the pipe of one sandbox. Lines of different sources never mix.
class LogSource {
 public:
  explicit LogSource(const LogLimits& limits) : splitter_(limits.line_bytes) {}

 private:
  friend class FunctionLog;
  LineSplitter splitter_;
  std::string origin_;
};

// The log of one function, open for appending.
class OpenLogs;

class FunctionLog {
 public:
  ~FunctionLog();
  FunctionLog(const FunctionLog&) = delete;
  FunctionLog& operator=(const FunctionLog&) = delete;

  LogSource source() const { return LogSource(limits_); }

  // What a source printed, and what LogLine::origin says of it. Text without a newline
  // waits for the rest of its line; when the origin changes it becomes a line of the old one.
  // Lines are held in memory until `flush`, or until there are 128 KiB of them.
  void append(LogSource& source, std::string_view bytes, std::string_view origin,
              std::int64_t time_ms);
  // The source will print no more: what it left without a newline becomes a line.
  void end(LogSource& source, std::int64_t time_ms);

  // Writes what is held, by one write(2) unless there is nothing. A failure (of a write since the
  // last flush, too) costs the lines held, which are then a gap in the sequence: a full disk
  // neither blocks nor grows the agent.
  base::Status flush();
  bool holds_lines() const { return !buffer_.empty(); }

  std::uint64_t last_sequence() const { return next_sequence_ - 1; }
  std::uint64_t lost_lines() const { return lost_lines_; }

 private:
  friend class LogStore;
  friend class OpenLogs;
  FunctionLog(std::shared_ptr<OpenLogs> open, std::string name, const LogLimits& limits);

  base::Status recover();
  base::Status be_open();
  base::Status open_current();
  base::Status drop_half_line();
  base::Status rotate();
  base::Status write_out();
  void add_line(const LogSource& source, LineSplitter::Line line, std::int64_t time_ms);
  base::Result<std::vector<LogLine>> read(std::size_t tail, std::uint64_t after_sequence);

  const std::shared_ptr<OpenLogs> open_;
  const std::string name_;
  const LogLimits limits_;
  base::UniqueFd directory_;  // both only while it is among the open ones
  base::UniqueFd current_;
  std::uint64_t size_ = 0;  // of the current file
  std::uint64_t next_sequence_ = 1;
  std::string buffer_;  // whole lines
  std::uint64_t held_lines_ = 0;
  std::uint64_t lost_lines_ = 0;
  std::optional<base::Error> failure_;
  bool removed_ = false;
};

// The logs that hold descriptors: those used last. A host may have more functions than descriptors,
// and few of them print.
class OpenLogs {
 public:
  static constexpr std::size_t kMost = 64;

  explicit OpenLogs(base::UniqueFd directory) : directory_(std::move(directory)) {}
  int directory() const { return directory_.get(); }
  void used(FunctionLog& log);
  void forget(const FunctionLog& log);

 private:
  base::UniqueFd directory_;      // the store's
  std::list<FunctionLog*> logs_;  // the last used first
};

class LogStore {
 public:
  // Makes the directory (mode 0700) where it is missing.
  static base::Result<LogStore> open(const std::string& path, const LogLimits& limits = {});

  // The function's log, the same for all who ask while one of them holds it.
  base::Result<std::shared_ptr<FunctionLog>> writer(std::string_view function);

  // The last `tail` of the lines after `after_sequence`, oldest first; held lines are flushed
  // before. Empty for a function that has not printed.
  base::Result<std::vector<LogLine>> read(std::string_view function, std::size_t tail,
                                          std::uint64_t after_sequence) const;

  // The function's files are gone; whoever still holds its log writes into nothing.
  base::Status remove(std::string_view function);

 private:
  LogStore(std::shared_ptr<OpenLogs> open, const LogLimits& limits)
      : open_(std::move(open)), limits_(limits) {}

  base::Result<std::shared_ptr<FunctionLog>> open_log(const std::string& function) const;

  std::shared_ptr<OpenLogs> open_;
  LogLimits limits_;
  std::map<std::string, std::weak_ptr<FunctionLog>, std::less<>> logs_;
};

}  // namespace agent

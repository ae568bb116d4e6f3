#include "agent/command_log.h"

#include <fcntl.h>
#include <spdlog/spdlog.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

#include "agent/clock.h"

namespace agent {
namespace {

using boost::asio::posix::stream_descriptor;
constexpr std::size_t kPiece = 512;         // is read between two looks at the clock
constexpr std::size_t kMostAtOnce = 16384;  // in one turn

}  // namespace

CommandLog::CommandLog(boost::asio::io_context& loop, OutputTurns& turns,
                       std::shared_ptr<FunctionLog> log)
    : loop_(loop), turns_(turns), log_(std::move(log)) {}

base::Status CommandLog::read(const base::UniqueFd& stream, std::string origin) {
  const int copy = ::fcntl(stream.get(), F_DUPFD_CLOEXEC, 0);
  if (copy < 0) {
    return base::fail_errno("copy", "a command's stream");
  }
  const auto place = std::make_shared<Stream>(Stream{.descriptor = stream_descriptor(loop_, copy),
                                                     .rest = boost::asio::steady_timer(loop_),
                                                     .lines = log_->source(),
                                                     .origin = std::move(origin)});
  streams_.push_back(place);
  wait(place);
  return {};
}

void CommandLog::wait(const Place& stream) {
  stream->descriptor.async_wait(
      stream_descriptor::wait_read,
      [self = shared_from_this(), stream](const boost::system::error_code& error) {
        if (!error && stream->descriptor.is_open()) {
          self->take_turn(stream);
        }
      });
}

void CommandLog::take_turn(const Place& stream) {
  const std::int64_t began = monotonic_ns();
  const std::int64_t last = began + OutputTurns::kLongestNs;
  for (std::size_t bytes = 0;
       bytes < kMostAtOnce && monotonic_ns() < last && read_piece(*stream, kPiece);
       bytes += kPiece) {
  }
  flush();
  if (!stream->descriptor.is_open()) {
    return close(stream);
  }
  const std::int64_t now = monotonic_ns();
  stream->rest.expires_after(std::chrono::nanoseconds(turns_.next(began, now) - now));
  stream->rest.async_wait(
      [self = shared_from_this(), stream](const boost::system::error_code& error) {
        if (!error && stream->descriptor.is_open()) {
          self->wait(stream);
        }
      });
}

// False when there was no more; at the stream's end it is closed.
bool CommandLog::read_piece(Stream& stream, std::size_t most) {
  const int fd = stream.descriptor.native_handle();
  const int flags = ::fcntl(fd, F_GETFL);
  if ((flags & O_NONBLOCK) == 0 && ::fcntl(fd, F_SETFL, flags | O_NONBLOCK) != 0) {
    stream.descriptor.close();
    return false;
  }
  char buffer[kMostAtOnce];
  const ssize_t got = ::read(fd, buffer, std::min(most, sizeof buffer));
  if (got > 0) {
    log_->append(stream.lines, {buffer, static_cast<std::size_t>(got)}, stream.origin, unix_ms());
    return static_cast<std::size_t>(got) == most;
  }
  if (got == 0 || (errno != EAGAIN && errno != EINTR)) {  // a terminal without users is an EIO
    stream.descriptor.close();
  }
  return false;
}

void CommandLog::close(const Place& stream) {
  boost::system::error_code ignored;
  stream->rest.cancel();
  stream->descriptor.close(ignored);
  log_->end(stream->lines, unix_ms());
  flush();
  streams_.remove(stream);
  if (streams_.empty() && drained_) {
    std::exchange(drained_, nullptr)();
  }
}

void CommandLog::leave() {
  const auto self = shared_from_this();
  for (const Place& stream : std::list(streams_)) {
    close(stream);
  }
}

void CommandLog::when_drained(std::function<void()> done) {
  if (streams_.empty()) {
    return done();
  }
  drained_ = std::move(done);
}

void CommandLog::finish() {
  for (const Place& stream : streams_) {
    if (stream->descriptor.is_open()) {
      (void)read_piece(*stream, kMostAtOnce);
    }
  }
  leave();
}

void CommandLog::flush() {
  if (!log_->holds_lines()) {
    return;
  }
  if (const auto flushed = log_->flush(); !flushed) {
    spdlog::warn("a command's log: {}", flushed.error().message());
  }
  tell_followers();
}

std::shared_ptr<void> CommandLog::follow(std::function<void()> more) {
  const auto place = followers_.insert(followers_.end(), std::move(more));
  return {nullptr, [weak = weak_from_this(), place](void*) {
            if (const auto self = weak.lock()) {
              self->followers_.erase(place);
            }
          }};
}

void CommandLog::tell_followers() {
  for (const auto& more : std::list(followers_)) {
    more();
  }
}

}  // namespace agent

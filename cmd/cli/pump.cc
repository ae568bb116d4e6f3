#include "cmd/cli/pump.h"

#include <fcntl.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <csignal>
#include <cstring>
#include <string>
#include <utility>

#include "base/error.h"
#include "cmd/cli/detach_keys.h"
#include "cmd/cli/io.h"

namespace cli {
namespace {

constexpr std::size_t kPiece = 64 << 10;
constexpr int kForwarded[] = {SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

termios saved_terminal;
bool terminal_is_raw = false;

// One direction. What has been read and not been written yet is at most a piece.
class Channel {
 public:
  Channel() = default;
  Channel(int from, int to) : from_(from), to_(to) {}

  bool open() const { return from_ >= 0 || !pending_.empty(); }
  bool wants_input() const { return from_ >= 0 && pending_.empty(); }
  bool wants_output() const { return !pending_.empty(); }
  int from() const { return from_; }
  int to() const { return to_; }

  // Bytes taken; 0 at the end.
  std::size_t read() {
    std::array<char, kPiece> buffer;
    const ssize_t got = ::read(from_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EINTR || errno == EAGAIN)) {
      return 0;
    }
    if (got <= 0) {  // a terminal whose last user has gone is an EIO
      from_ = -1;
      return 0;
    }
    pending_.assign(buffer.data(), static_cast<std::size_t>(got));
    return pending_.size();
  }
  // False when nobody reads any more.
  bool write() {
    const ssize_t put = ::write(to_, pending_.data(), pending_.size());
    if (put < 0) {
      if (errno == EINTR || errno == EAGAIN) {
        return true;
      }
      stop();
      return false;
    }
    pending_.erase(0, static_cast<std::size_t>(put));
    return true;
  }
  void stop() {
    from_ = -1;
    pending_.clear();
  }
  std::string& pending() { return pending_; }
  void cut(std::size_t bytes) { pending_.resize(std::min(pending_.size(), bytes)); }

 private:
  int from_ = -1;
  int to_ = -1;
  std::string pending_;
};

class Pump {
 public:
  explicit Pump(PumpRequest request)
      : request_(std::move(request)), keys_(std::exchange(request_.detach_keys, {})) {}
  Outcome<Pumped> run();

 private:
  enum Direction { input, output, error, directions };
  bool is_terminal() const { return request_.streams.size() == 1; }
  void connect();
  void take_signals();
  void close_input_when_done();
  bool terminal_is_gone() const;
  void move(Direction direction, short readable, short writable);
  void hold_to_limit(Channel& channel, std::size_t size);

  PumpRequest request_;
  std::array<Channel, directions> channels_;
  base::UniqueFd signals_;
  std::uint64_t printed_ = 0;
  bool ended_ = false;
  bool hung_up_ = false;
  DetachKeys keys_;
  bool detached_ = false;
};

// This side's pipes do not block: a command that does not read its input does not keep its output
// from being carried.
void Pump::connect() {
  for (const base::UniqueFd& stream : request_.streams) {
    (void)::fcntl(stream.get(), F_SETFL, O_NONBLOCK | ::fcntl(stream.get(), F_GETFL));
  }
  const int in = request_.streams[0].get();
  channels_[input] = Channel(request_.read_input ? STDIN_FILENO : -1, in);
  channels_[output] = Channel(is_terminal() ? in : request_.streams[1].get(), STDOUT_FILENO);
  if (!is_terminal()) {
    channels_[error] = Channel(request_.streams[2].get(), STDERR_FILENO);
  }
}

void Pump::take_signals() {
  signalfd_siginfo one{};
  while (::read(signals_.get(), &one, sizeof one) == static_cast<ssize_t>(sizeof one)) {
    const int number = static_cast<int>(one.ssi_signo);
    if (number == SIGHUP && is_terminal()) {
      hung_up_ = true;
    } else if (number != SIGWINCH) {
      request_.signal(number);
    } else if (is_terminal()) {
      winsize size{};
      if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) == 0) {
        (void)::ioctl(request_.streams[0].get(), TIOCSWINSZ, &size);
      }
    }
  }
}

// The end of our input is the end of the command's; a terminal's has its own sign for that.
void Pump::close_input_when_done() {
  if (!channels_[input].open() && !is_terminal()) {
    request_.streams[0].reset();
  }
}

// Whoever sat at it has left: nobody can end the command but the agent, once this process is gone.
bool Pump::terminal_is_gone() const {
  return is_terminal() && !ended_ &&
         (hung_up_ || (request_.read_input && !channels_[input].open()));
}

void Pump::hold_to_limit(Channel& channel, std::size_t size) {
  if (request_.output_limit == 0) {
    return;
  }
  const std::uint64_t room = request_.output_limit - std::min(printed_, request_.output_limit);
  printed_ += size;
  if (size > room) {
    channel.cut(static_cast<std::size_t>(room));
    if (const auto tell = std::exchange(request_.over_limit, nullptr)) {
      tell();
    }
  }
}

void Pump::move(Direction direction, short readable, short writable) {
  Channel& channel = channels_[direction];
  if (readable != 0 && channel.wants_input()) {
    const std::size_t size = channel.read();
    if (direction != input) {
      hold_to_limit(channel, size);
    } else if (is_terminal() && keys_.take(channel.pending())) {
      detached_ = request_.detach && request_.detach();
    }
  }
  if (channel.wants_output() && (writable != 0 || readable != 0) && !channel.write() &&
      direction != input && !is_terminal()) {
    request_.streams[static_cast<std::size_t>(direction)]
        .reset();  // the command is told as we were
  }
}

Outcome<Pumped> Pump::run() {
  sigset_t wanted;
  sigset_t before;
  sigemptyset(&wanted);
  for (const int number : kForwarded) {
    sigaddset(&wanted, number);
  }
  ::pthread_sigmask(SIG_BLOCK, &wanted, &before);
  std::signal(SIGPIPE, SIG_IGN);
  signals_.reset(::signalfd(-1, &wanted, SFD_CLOEXEC | SFD_NONBLOCK));
  connect();
  while (!detached_ && (!ended_ || channels_[output].open() || channels_[error].open())) {
    std::array<pollfd, 2 + 2 * std::size_t{directions}> polled{};
    polled[0] = {signals_.get(), POLLIN, 0};
    polled[1] = {ended_ ? -1 : request_.until_fd, POLLIN, 0};
    for (std::size_t i = 0; i < directions; ++i) {
      const Channel& channel = channels_[i];
      const bool idle = i == input && ended_;
      polled[2 + 2 * i] = {channel.wants_input() && !idle ? channel.from() : -1, POLLIN, 0};
      polled[3 + 2 * i] = {channel.wants_output() && !idle ? channel.to() : -1, POLLOUT, 0};
    }
    if (::poll(polled.data(), polled.size(), -1) < 0 && errno != EINTR) {
      return fail(Exit::failed, base::Error::from_errno("poll").message());
    }
    if (polled[0].revents != 0) {
      take_signals();
    }
    for (std::size_t i = 0; i < directions; ++i) {
      move(static_cast<Direction>(i), polled[2 + 2 * i].revents, polled[3 + 2 * i].revents);
    }
    close_input_when_done();
    if (terminal_is_gone()) {
      return fail(Exit::failed, "the terminal has gone, and the command with it");
    }
    if (polled[1].revents != 0) {
      ended_ = request_.ended();
    }
  }
  return detached_ ? Pumped::detached : Pumped::ended;
}

void restore_terminal() {
  if (std::exchange(terminal_is_raw, false)) {
    (void)::tcsetattr(STDIN_FILENO, TCSADRAIN, &saved_terminal);
  }
}

}  // namespace

Outcome<Pumped> pump(PumpRequest request) {
  return Pump(std::move(request)).run();
}

RawTerminal::RawTerminal() {
  if (::tcgetattr(STDIN_FILENO, &saved_terminal) != 0) {
    return;
  }
  termios raw = saved_terminal;
  ::cfmakeraw(&raw);
  terminal_is_raw = ::tcsetattr(STDIN_FILENO, TCSADRAIN, &raw) == 0;
}

RawTerminal::~RawTerminal() {
  restore_terminal();
}

TerminalSize terminal_size() {
  winsize size{};
  if (::ioctl(STDIN_FILENO, TIOCGWINSZ, &size) != 0 || size.ws_row == 0 || size.ws_col == 0) {
    return {};
  }
  return {size.ws_row, size.ws_col};
}

}  // namespace cli

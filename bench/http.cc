#include "bench/http.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <cerrno>
#include <charconv>
#include <csignal>
#include <cstring>

#include "base/file.h"
#include "bench/clock.h"

namespace bench {
namespace {

constexpr std::size_t kBuffer = 64 << 10;
constexpr timeval kPatience{60, 0};
constexpr std::string_view kHeadEnd = "\r\n\r\n";

volatile std::sig_atomic_t g_interrupted = 0;

std::size_t number_of(std::string_view text) {
  std::size_t number = 0;
  std::from_chars(text.data(), text.data() + text.size(), number);
  return number;
}

std::string advice_for(int code) {
  if (code == EACCES) {
    return "its users are root and the members of its group (usually brood)";
  }
  return "start one with 'systemctl start broodd' or, as root, 'broodd', or name its socket with "
         "--socket or $BROOD_SOCKET";
}

}  // namespace

void catch_interrupts() {
  struct sigaction action {};  // without SA_RESTART: a blocked read returns
  action.sa_handler = [](int) { g_interrupted = 1; };
  ::sigaction(SIGINT, &action, nullptr);
  ::sigaction(SIGTERM, &action, nullptr);
}

bool interrupted() {
  return g_interrupted != 0;
}

std::string_view Answer::header(std::string_view name) const {
  for (std::size_t at = head.find("\r\n"); at != std::string_view::npos;
       at = head.find("\r\n", at + 2)) {
    const std::string_view line = head.substr(at + 2, head.find("\r\n", at + 2) - at - 2);
    if (line.size() > name.size() + 1 && line.substr(0, name.size()) == name &&
        line.substr(name.size(), 2) == ": ") {
      return line.substr(name.size() + 2);
    }
  }
  return {};
}

base::Result<Connection> Connection::open(const std::string& socket_path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (socket_path.empty() || socket_path.size() >= sizeof address.sun_path) {
    return base::fail_because("'" + socket_path + "' is no path of a Unix socket",
                              "name the agent's socket with --socket");
  }
  std::memcpy(address.sun_path, socket_path.data(), socket_path.size());
  base::UniqueFd socket(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!socket) {
    return base::fail_errno("socket");
  }
  ::setsockopt(socket.get(), SOL_SOCKET, SO_RCVTIMEO, &kPatience, sizeof kPatience);
  if (::connect(socket.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
    const int code = errno;
    return base::fail(
        base::Error("no agent answers: connect", code, socket_path, advice_for(code)));
  }
  return Connection(std::move(socket));
}

base::Status Connection::fill() {
  if (buffer_.size() - used_ < kBuffer / 2) {
    buffer_.resize(buffer_.size() + kBuffer);
  }
  for (;;) {
    const ssize_t got = ::recv(socket_.get(), buffer_.data() + used_, buffer_.size() - used_, 0);
    if (got > 0) {
      used_ += static_cast<std::size_t>(got);
      return {};
    }
    if (got == 0) {
      return base::fail_because("the agent closed the connection before it had answered");
    }
    if (errno == EAGAIN) {
      return base::fail_because("the agent has not answered for 60 s");
    }
    if (errno != EINTR) {
      return base::fail_errno("recv", "the agent's socket");
    }
    if (interrupted()) {
      return base::fail_because("interrupted");
    }
  }
}

base::Result<Answer> Connection::ask(std::string_view request) {
  BROOD_CHECK(send(request));
  return receive();
}

base::Status Connection::send(std::string_view request) {
  used_ = 0;
  sent_ns_ = monotonic_ns();
  return base::write_all(socket_.get(), request);
}

base::Result<Answer> Connection::receive() {
  std::size_t head_end = std::string_view::npos;
  std::size_t scanned = 0;
  while (head_end == std::string_view::npos) {
    BROOD_CHECK(fill());
    head_end = std::string_view(buffer_.data(), used_).find(kHeadEnd, scanned);
    scanned = used_ < kHeadEnd.size() ? 0 : used_ - kHeadEnd.size() + 1;
  }
  Answer answer;
  answer.head = {buffer_.data(), head_end + 2};
  const std::size_t body_begin = head_end + kHeadEnd.size();
  const std::size_t body_size = number_of(answer.header("Content-Length"));
  while (used_ < body_begin + body_size) {
    BROOD_CHECK(fill());
  }
  answer.took_ns = monotonic_ns() - sent_ns_;
  answer.head = {buffer_.data(), head_end + 2};  // the buffer may have moved
  answer.body = {buffer_.data() + body_begin, body_size};
  answer.status = static_cast<int>(number_of(answer.head.substr(std::strlen("HTTP/1.1 "), 3)));
  if (used_ != body_begin + body_size) {
    return base::fail_because("the agent sent more than one answer to a request");
  }
  return answer;
}

std::string request_of(std::string_view method, std::string_view target, std::string_view body,
                       std::string_view headers) {
  std::string request(method);
  request.append(" ").append(target).append(" HTTP/1.1\r\nHost: brood\r\n").append(headers);
  if (!body.empty() || method != "GET") {
    request.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  }
  return request.append("\r\n").append(body);
}

}  // namespace bench

#include "tests/support/raw_client.h"

#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#include <algorithm>
#include <cctype>
#include <cstring>
#include <stdexcept>

namespace tests {
namespace {

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return text;
}

void parse_head(std::string_view head, Response& response) {
  response.status = std::stoi(std::string(head.substr(9, 3)));
  auto line_end = head.find("\r\n");
  while (line_end != std::string_view::npos && line_end + 2 < head.size()) {
    head.remove_prefix(line_end + 2);
    line_end = head.find("\r\n");
    const std::string_view line = head.substr(0, line_end);
    const auto colon = line.find(": ");
    response.headers[lower(std::string(line.substr(0, colon)))] = line.substr(colon + 2);
  }
}

}  // namespace

RawClient::RawClient(const std::string& socket_path, std::chrono::seconds patience)
    : socket_(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  std::strncpy(address.sun_path, socket_path.c_str(), sizeof address.sun_path - 1);
  if (::connect(socket_.get(), reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) {
    throw std::runtime_error("connect " + socket_path + ": " + std::strerror(errno));
  }
  const timeval limit{patience.count(), 0};
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof limit);
  ::setsockopt(socket_.get(), SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof limit);
}

bool RawClient::send(std::string_view bytes) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent <= 0) {
      return false;
    }
    bytes.remove_prefix(static_cast<std::size_t>(sent));
  }
  return true;
}

bool RawClient::fill() {
  char piece[65536];
  const ssize_t size = ::recv(socket_.get(), piece, sizeof piece, 0);
  if (size <= 0) {
    return false;
  }
  buffer_.append(piece, static_cast<std::size_t>(size));
  return true;
}

Response RawClient::receive(BodyExpected body) {
  Response response;
  std::size_t end = 0;
  while ((end = buffer_.find("\r\n\r\n")) == std::string::npos) {
    if (!fill()) {
      return response;
    }
  }
  parse_head(std::string_view(buffer_).substr(0, end), response);
  buffer_.erase(0, end + 4);
  const std::size_t length = body == BodyExpected::no || response.header("content-length").empty()
                                 ? 0
                                 : std::stoul(response.header("content-length"));
  while (buffer_.size() < length) {
    if (!fill()) {
      return response;
    }
  }
  response.body = buffer_.substr(0, length);
  buffer_.erase(0, length);
  response.whole = true;
  return response;
}

bool RawClient::is_closed_by_peer() {
  for (;;) {
    char piece[4096];
    const ssize_t size = ::recv(socket_.get(), piece, sizeof piece, 0);
    if (size <= 0) {
      return size == 0 || errno == ECONNRESET;
    }
  }
}

std::string RawClient::read_some() {
  if (buffer_.empty()) {
    fill();
  }
  return std::exchange(buffer_, {});
}

void RawClient::stop_sending() {
  ::shutdown(socket_.get(), SHUT_WR);
}

std::string request_of(std::string_view method, std::string_view target, std::string_view body,
                       std::string_view headers) {
  std::string request;
  request.append(method).append(" ").append(target).append(" HTTP/1.1\r\nHost: brood\r\n");
  request.append(headers);
  if (!body.empty()) {
    request.append("Content-Length: ").append(std::to_string(body.size())).append("\r\n");
  }
  request.append("\r\n").append(body);
  return request;
}

}  // namespace tests

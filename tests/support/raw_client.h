// Bytes to and from a Unix socket, so that a test can say what no well-behaved client says.
#pragma once

#include <chrono>
#include <map>
#include <string>
#include <string_view>

#include "base/fd.h"

namespace tests {

struct Response {
  int status = 0;
  std::map<std::string, std::string> headers;  // names in lower case
  std::string body;
  bool whole = false;  // false: the connection ended or nothing came for the client's patience

  std::string header(const std::string& name) const {
    const auto found = headers.find(name);
    return found == headers.end() ? std::string() : found->second;
  }
};

class RawClient {
 public:
  explicit RawClient(const std::string& socket_path,
                     std::chrono::seconds patience = std::chrono::seconds(5));

  // False when the peer has closed.
  bool send(std::string_view bytes);
  enum class BodyExpected { yes, no };
  Response receive(BodyExpected body = BodyExpected::yes);
  Response ask(std::string_view bytes) {
    send(bytes);
    return receive();
  }
  // Whether the peer closes within the patience, whatever it still sends.
  bool is_closed_by_peer();
  // What comes next, at most one read's worth; empty at the end or after the patience.
  std::string read_some();
  void stop_sending();
  void close() { socket_.reset(); }

 private:
  bool fill();

  base::UniqueFd socket_;
  std::string buffer_;
};

// A request with a Host header and, where there is a body, its Content-Length.
std::string request_of(std::string_view method, std::string_view target, std::string_view body = "",
                       std::string_view headers = "");

}  // namespace tests

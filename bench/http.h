// One HTTP/1.1 connection to the agent, as cheap as a client can be: one write and, for a small
// answer, one read for each request. It understands what the agent sends (docs/openapi.yaml) and no
// more: a status, Content-Length, a body.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/error.h"
#include "base/fd.h"

namespace bench {

// Views into the connection's buffer: gone with the next request.
struct Answer {
  int status = 0;
  std::string_view head;
  std::string_view body;
  std::int64_t took_ns = 0;  // CLOCK_MONOTONIC, from before the write to the last byte read

  // The value of the header `name`, as the agent spells it; empty when there is none.
  std::string_view header(std::string_view name) const;
};

class Connection {
 public:
  // Fails with the errno of connect(2), and with what to do about it.
  static base::Result<Connection> open(const std::string& socket_path);

  // `request` is the whole of it, head and body. Fails when the agent does not answer for a minute,
  // or when `interrupted()` is set.
  base::Result<Answer> ask(std::string_view request);

  // The same in two halves, for a client of several connections. `receive` blocks until the answer
  // is whole; `took_ns` counts from `send`.
  base::Status send(std::string_view request);
  base::Result<Answer> receive();
  int fd() const { return socket_.get(); }  // readable once an answer has begun to come

 private:
  explicit Connection(base::UniqueFd socket) : socket_(std::move(socket)) {}
  base::Status fill();

  base::UniqueFd socket_;
  std::string buffer_;
  std::size_t used_ = 0;
  std::int64_t sent_ns_ = 0;
};

std::string request_of(std::string_view method, std::string_view target, std::string_view body = {},
                       std::string_view headers = {});

// SIGINT and SIGTERM from here on only set the flag, so that what was deployed is removed.
void catch_interrupts();
bool interrupted();

}  // namespace bench

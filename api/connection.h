// One client's connection: reads a request, has it served, writes the answer, again. Here and in
// http_head.h alone is Beast known.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "agent/service.h"
#include "api/server.h"
#include "base/fd.h"

namespace api {

class Connection {
 public:
  // What a connection is given of its server; all of it outlives the connection's being open.
  struct Host {
    agent::Service& service;
    const ServerOptions& options;
    // Called once, when the connection is closed by whichever side.
    std::function<void(Connection&)> closed;
  };

  // Takes a connected, non-blocking socket. `client_uid` is who connected, by SO_PEERCRED.
  static std::shared_ptr<Connection> open(boost::asio::io_context& loop, base::UniqueFd socket,
                                          unsigned client_uid, Host host);
  virtual ~Connection() = default;

  // Closes when what it waits for is overdue: a request's head, its body, the next request, the
  // client's taking of an answer. Running invocations have deadlines of their own.
  virtual void check_deadline(std::int64_t now) = 0;
  // Answers what is in flight, then closes; closes at once when nothing is.
  virtual void drain() = 0;
  // Closes at once. A running invocation is cancelled.
  virtual void abort() = 0;
  // Between two requests, nothing of the next one read; since when.
  virtual bool idle() const = 0;
  virtual std::int64_t idle_since() const = 0;
};

}  // namespace api

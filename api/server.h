// The agent's HTTP surface on a Unix stream socket: HTTP/1.1, kept-alive connections, one request
// at a time on each. Everything runs on the io_context's one thread, and nothing here blocks.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "agent/service.h"
#include "base/error.h"

namespace api {

// Every resource that a client can hold has a bound here.
struct ServerOptions {
  std::string socket_path = "/run/brood/brood.sock";
  std::string group = "brood";  // may use the socket; where there is no such group, only root may
  std::size_t max_connections = 1024;
  std::uint64_t archive_limit = 256ULL << 20;      // bytes of POST /code
  std::uint64_t document_limit = 1ULL << 20;       // bytes of PUT /functions/{name}
  std::chrono::milliseconds idle_timeout{60'000};  // between two requests
  std::chrono::milliseconds head_timeout{10'000};  // from a request's first byte to its head's end
  // A body gets this long, and a second more for each 256 KiB that came. A reply not taken within
  // this long by its client is given up.
  std::chrono::milliseconds body_timeout{30'000};
};

class Server {
 public:
  // `loop` and `service` outlive the server.
  Server(boost::asio::io_context& loop, agent::Service& service, ServerOptions options);
  ~Server();  // stops
  Server(const Server&) = delete;
  Server& operator=(const Server&) = delete;

  // Makes the socket and begins to accept. Fails when another agent listens there.
  base::Status start();

  // Accepts no more and removes the socket file, closes idle connections and log streams, lets
  // requests in flight be answered; then calls `done` on the loop.
  void drain(std::function<void()> done);

  // Closes everything at once; invocations whose clients are cut off are cancelled.
  void stop();

  std::size_t connections() const;

 private:
  class Core;
  std::shared_ptr<Core> core_;
};

}  // namespace api

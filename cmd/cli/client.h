// A small blocking HTTP client for the agent's socket. One connection for as long as it is kept.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <string_view>

#include "cmd/cli/outcome.h"

namespace cli {

struct Request {
  std::string method = "GET";
  std::string target;
  std::string body;
  std::string content_type;  // empty: none is sent
};

struct Response {
  int status = 0;
  std::string content_type;
  std::map<std::string, std::string> brood;  // Brood-* headers, by name without the prefix
  std::string body;
};

// The bytes of an upload, one piece after the other; empty at the end.
using Source = std::function<Outcome<std::string>()>;

class Client {
 public:
  // Connects when first asked.
  explicit Client(std::string socket_path);
  ~Client();
  Client(const Client&) = delete;
  Client& operator=(const Client&) = delete;

  // Any answer, whatever its status. Fails with Exit::unreachable when nobody answers the socket,
  // saying what to do about it, and with Exit::failed when the agent leaves in the middle.
  Outcome<Response> ask(const Request& request);
  // The same with a body of `size` bytes from `source`. An agent that refuses in the middle is
  // heard.
  Outcome<Response> upload(const Request& head, std::uint64_t size, const Source& source);
  // Gives each line of the answer as it comes. An answer that is not 200 comes back whole.
  Outcome<Response> follow(const Request& request,
                           const std::function<void(std::string_view)>& line);

 private:
  struct Connection;
  Outcome<Connection*> connection();

  std::string socket_path_;
  std::unique_ptr<Connection> connection_;
};

// The answer when its status is 2xx; else the failure that its error document tells.
Outcome<Response> expect_success(Outcome<Response>&& response);
Failure failure_of(const Response& response);

}  // namespace cli

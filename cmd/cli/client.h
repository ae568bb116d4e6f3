// A small blocking HTTP client for the agent's socket. One connection for as long as it is kept.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "cmd/cli/outcome.h"

namespace cli {

struct Request {
  std::string method = "GET";
  std::string target;
  std::string body;
  std::string content_type;                   // empty: none is sent
  std::vector<base::UniqueFd> descriptors{};  // go with the body; of `Client::lines` alone
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
  // An answer of lines that come with time, the first perhaps with descriptors. One that is not 2xx
  // is a failure. The client may not be used for anything else as long as they are read.
  class Lines;
  Outcome<std::unique_ptr<Lines>> lines(const Request& request);

 private:
  struct Connection;
  Outcome<Connection*> connection();

  std::string socket_path_;
  std::unique_ptr<Connection> connection_;
};

class Client::Lines {
 public:
  ~Lines();
  // Came with the first line; the caller's.
  std::vector<base::UniqueFd> take_descriptors() { return std::move(descriptors_); }
  // The next line, without its newline; nothing at the end. Waits for it.
  Outcome<std::optional<std::string>> next();
  // Readable when there is more.
  int fd() const;

 private:
  friend class Client;
  struct State;
  explicit Lines(Connection& connection);
  Outcome<int> begin();

  std::unique_ptr<State> state_;
  std::vector<base::UniqueFd> descriptors_;
};

// The answer when its status is 2xx; else the failure that its error document tells.
Outcome<Response> expect_success(Outcome<Response>&& response);
Failure failure_of(const Response& response);

}  // namespace cli

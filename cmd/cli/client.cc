#include "cmd/cli/client.h"

#include <grp.h>
#include <sys/socket.h>

#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/write.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <boost/beast/http/empty_body.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <cerrno>
#include <cstring>
#include <nlohmann/json.hpp>
#include <optional>
#include <utility>

#include "base/descriptors.h"

namespace cli {
namespace {

namespace asio = boost::asio;
namespace http = boost::beast::http;
using boost::system::error_code;
using Stream = asio::local::stream_protocol;
using Parser = http::response_parser<http::string_body>;

constexpr std::string_view kBroodPrefix = "Brood-";

std::string head_of(const Request& request, std::uint64_t body_size) {
  std::string head = request.method + " " + request.target + " HTTP/1.1\r\nHost: brood\r\n";
  head += "User-Agent: brood/" BROOD_VERSION "\r\nBrood-Api-Version: 1\r\n";
  if (!request.content_type.empty()) {
    head += "Content-Type: " + request.content_type + "\r\n";
  }
  if (!request.descriptors.empty()) {
    head +=
        "Expect: 100-continue\r\nBrood-Descriptors: " + std::to_string(request.descriptors.size()) +
        "\r\n";
  }
  if (body_size > 0 || request.method == "POST" || request.method == "PUT") {
    head += "Content-Length: " + std::to_string(body_size) + "\r\n";
  }
  return head + "\r\n";
}

Response response_of(Parser& parser) {
  Response response;
  auto& message = parser.get();
  response.status = static_cast<int>(message.result_int());
  response.content_type = std::string(message[http::field::content_type]);
  for (const auto& field : message) {
    const std::string name(field.name_string());
    if (name.rfind(kBroodPrefix, 0) == 0) {
      response.brood[name.substr(kBroodPrefix.size())] = std::string(field.value());
    }
  }
  response.body = std::move(message.body());
  return response;
}

Failure unreachable(const std::string& path, const error_code& error) {
  std::string message = "no agent answers on " + path + ": " + error.message();
  if (error.value() == EACCES) {
    message +=
        "; its users are root and the members of its group (usually brood: usermod -aG brood "
        "USER, then log in again)";
  } else {
    message +=
        "; start one with 'systemctl start broodd' or, as root, 'broodd', or name its socket "
        "with --socket or $BROOD_SOCKET";
  }
  return {static_cast<int>(Exit::unreachable), std::move(message)};
}

tl::unexpected<Failure> broken(const error_code& error) {
  return fail(Exit::failed, error == http::error::end_of_stream || error == asio::error::eof ||
                                    error == http::error::partial_message
                                ? "the agent closed the connection before it had answered"
                                : "the connection to the agent broke: " + error.message());
}

// Takes the whole lines off the front of `text`.
void give_lines(std::string& text, const std::function<void(std::string_view)>& line) {
  std::size_t begin = 0;
  for (auto end = text.find('\n'); end != std::string::npos; end = text.find('\n', begin)) {
    line(std::string_view(text).substr(begin, end - begin));
    begin = end + 1;
  }
  text.erase(0, begin);
}

}  // namespace

struct Client::Connection {
  asio::io_context loop{1};
  Stream::socket socket{loop};
  boost::beast::flat_buffer input;

  error_code send(std::string_view head, std::string_view body) {
    error_code error;
    asio::write(socket,
                std::array<asio::const_buffer, 2>{asio::buffer(head.data(), head.size()),
                                                  asio::buffer(body.data(), body.size())},
                error);
    return error;
  }

  // The body, with descriptors on its first byte, once the agent asks for it. Where it answers
  // something else, that is left in `input`.
  error_code send_invited(std::string_view head, std::string_view body,
                          const std::vector<base::UniqueFd>& descriptors) {
    constexpr std::string_view kContinue = "HTTP/1.1 100 Continue\r\n\r\n";
    error_code error = send(head, {});
    std::size_t got = 0;
    while (!error && got < kContinue.size()) {
      const auto space = input.prepare(kContinue.size() - got);
      const std::size_t more = socket.read_some(space, error);
      input.commit(more);
      got += more;
    }
    const std::string_view answer(static_cast<const char*>(input.data().data()), input.size());
    if (error || answer != kContinue) {
      return error;
    }
    input.consume(got);
    const ssize_t put = base::send_with_descriptors(socket.native_handle(), body, descriptors, 0);
    if (put < 0) {
      return {errno, boost::system::system_category()};
    }
    return send(body.substr(static_cast<std::size_t>(put)), {});
  }

  Outcome<Response> receive(const Request& request) {
    Parser parser;
    parser.body_limit(boost::none);
    parser.skip(request.method == "HEAD");
    error_code error;
    http::read(socket, input, parser, error);
    if (error) {
      return broken(error);
    }
    return response_of(parser);
  }
};

Client::Client(std::string socket_path) : socket_path_(std::move(socket_path)) {}
Client::~Client() = default;

Outcome<Client::Connection*> Client::connection() {
  if (connection_) {
    return connection_.get();
  }
  if (socket_path_.empty() || socket_path_.size() > 107) {
    return fail(Exit::usage, "the socket's path has 1 to 107 bytes, and '" + socket_path_ +
                                 "' has " + std::to_string(socket_path_.size()));
  }
  auto made = std::make_unique<Connection>();
  error_code error;
  made->socket.connect(Stream::endpoint(socket_path_), error);
  if (error) {
    return tl::unexpected<Failure>(unreachable(socket_path_, error));
  }
  connection_ = std::move(made);
  return connection_.get();
}

Outcome<Response> Client::ask(const Request& request) {
  CLI_TRY(Connection* const agent, connection());
  // An agent that refuses early closes its side: what it said is worth more than our EPIPE.
  const error_code error = agent->send(head_of(request, request.body.size()), request.body);
  auto response = agent->receive(request);
  if (error || !response) {
    connection_.reset();
  }
  return response;
}

Outcome<Response> Client::upload(const Request& head, std::uint64_t size, const Source& source) {
  CLI_TRY(Connection* const agent, connection());
  error_code error = agent->send(head_of(head, size), {});
  while (!error) {
    CLI_TRY(const std::string piece, source());
    if (piece.empty()) {
      break;
    }
    error = agent->send(piece, {});
  }
  auto response = agent->receive(head);
  if (error || !response || response->status >= 400) {
    connection_.reset();
  }
  return response;
}

Outcome<Response> Client::follow(const Request& request,
                                 const std::function<void(std::string_view)>& line) {
  CLI_TRY(Connection* const agent, connection());
  if (const error_code error = agent->send(head_of(request, 0), {})) {
    return broken(error);
  }
  Parser parser;
  parser.body_limit(boost::none);
  error_code error;
  http::read_header(agent->socket, agent->input, parser, error);
  std::string pending;
  while (!error && !parser.is_done()) {
    http::read_some(agent->socket, agent->input, parser, error);
    if (parser.get().result_int() == 200) {
      pending += std::exchange(parser.get().body(), {});
      give_lines(pending, line);
    }
  }
  connection_.reset();
  if (error) {
    return broken(error);
  }
  return response_of(parser);
}

// --- lines that come with time -------------------------------------------------------------------

struct Client::Lines::State {
  explicit State(Connection& made) : connection(made) { parser.body_limit(boost::none); }
  Connection& connection;
  Parser parser;
  std::string pending;
};

Client::Lines::Lines(Connection& connection) : state_(std::make_unique<State>(connection)) {}
Client::Lines::~Lines() = default;

int Client::Lines::fd() const {
  return state_->connection.socket.native_handle();
}

// The first bytes of the answer, as only recvmsg takes them: with what was sent along.
Outcome<int> Client::Lines::begin() {
  constexpr std::size_t kFirst = 4096;
  constexpr std::size_t kMost = 3;
  auto& input = state_->connection.input;
  const auto space = input.prepare(kFirst);
  const ssize_t got =
      base::receive_with_descriptors(fd(), space.data(), space.size(), kMost, descriptors_, 0);
  if (got <= 0) {
    return broken(got == 0 ? error_code(asio::error::eof)
                           : error_code(errno, boost::system::system_category()));
  }
  input.commit(static_cast<std::size_t>(got));
  error_code error;
  http::read_header(state_->connection.socket, input, state_->parser, error);
  const auto fine = [this] { return state_->parser.get().result_int() / 100 == 2; };
  if (!error && !fine()) {
    http::read(state_->connection.socket, input, state_->parser, error);
  }
  if (error) {
    return broken(error);
  }
  if (!fine()) {
    return tl::unexpected<Failure>(failure_of(response_of(state_->parser)));
  }
  return 0;
}

Outcome<std::optional<std::string>> Client::Lines::next() {
  std::string& pending = state_->pending;
  for (;;) {
    if (const auto end = pending.find('\n'); end != std::string::npos) {
      std::string line = pending.substr(0, end);
      pending.erase(0, end + 1);
      return line;
    }
    if (state_->parser.is_done()) {
      return pending.empty() ? std::nullopt : std::optional(std::exchange(pending, {}));
    }
    error_code error;
    http::read_some(state_->connection.socket, state_->connection.input, state_->parser, error);
    if (error) {
      return broken(error);
    }
    pending += std::exchange(state_->parser.get().body(), {});
  }
}

Outcome<std::unique_ptr<Client::Lines>> Client::lines(const Request& request) {
  CLI_TRY(Connection* const agent, connection());
  const std::string head = head_of(request, request.body.size());
  const error_code error = request.descriptors.empty()
                               ? agent->send(head, request.body)
                               : agent->send_invited(head, request.body, request.descriptors);
  if (error) {
    return broken(error);
  }
  std::unique_ptr<Lines> lines(new Lines(*agent));
  CLI_TRY([[maybe_unused]] const int begun, lines->begin());
  return lines;
}

Failure failure_of(const Response& response) {
  const auto document = nlohmann::json::parse(response.body, nullptr, false);
  std::string message = "the agent answered with status " + std::to_string(response.status);
  if (document.is_object() && document.contains("error") && document["error"].is_object()) {
    message = document["error"].value("message", message);
  }
  const Exit exit = response.status == 404  ? Exit::not_found
                    : response.status < 500 ? Exit::refused
                                            : Exit::failed;
  return {static_cast<int>(exit), std::move(message)};
}

Outcome<Response> expect_success(Outcome<Response>&& response) {
  if (response && response->status / 100 != 2) {
    return tl::unexpected<Failure>(failure_of(*response));
  }
  return std::move(response);
}

}  // namespace cli

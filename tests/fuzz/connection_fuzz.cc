// One client's connection from its first byte to its last: what it writes, cut as the first byte
// says, through the agent's own api::Connection to a service that answers by script. Aborts when an
// answer is not HTTP, or when a promise of api/connection.h or agent/service.h does not hold.
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <boost/asio/buffer.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/beast/http.hpp>
#include <string>

#include "api/connection.h"
#include "tests/fuzz/promise.h"
#include "tests/support/fake_service.h"

namespace {

namespace http = boost::beast::http;
using fuzz::require;

class Client {
 public:
  explicit Client(boost::asio::io_context& loop, api::Connection::Host host) : loop_(loop) {
    int ends[2];
    require(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
    ours_.reset(ends[0]);
    connection_ = api::Connection::open(loop, base::UniqueFd(ends[1]), 1000, std::move(host));
  }

  // False when the other side has closed.
  bool write(std::string_view bytes) {
    while (!bytes.empty()) {
      const ssize_t sent = ::send(ours_.get(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
      if (sent < 0) {
        return false;
      }
      bytes.remove_prefix(static_cast<std::size_t>(sent));
      run();
    }
    return true;
  }
  void finish() {
    ::shutdown(ours_.get(), SHUT_WR);
    run();
    connection_->drain();
    run();
  }
  void hang_up() {
    ours_.reset();
    run();
    connection_->abort();
    run();
  }
  const std::string& answers() const { return answers_; }

 private:
  void run() {
    loop_.restart();
    while (loop_.poll() > 0) {
      take();
    }
    take();
  }
  void take() {
    char bytes[16 << 10];
    for (ssize_t got = 1; ours_ && got > 0;) {
      got = ::recv(ours_.get(), bytes, sizeof bytes, MSG_DONTWAIT);
      answers_.append(bytes, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    }
  }

  boost::asio::io_context& loop_;
  base::UniqueFd ours_;
  std::shared_ptr<api::Connection> connection_;
  std::string answers_;
};

bool is_known_status(unsigned status) {
  constexpr unsigned kKnown[] = {100, 200, 201, 202, 204, 400, 404, 405, 408, 409, 413,
                                 415, 417, 429, 431, 500, 501, 502, 503, 504, 505, 507};
  return std::find(std::begin(kKnown), std::end(kKnown), status) != std::end(kKnown);
}

// Every whole answer is one that a strict reader takes. The answer to a HEAD has no body, which
// only the asker knows: reading ends there.
void check_answers(std::string_view bytes) {
  while (!bytes.empty()) {
    http::response_parser<http::string_body> parser;
    parser.body_limit(boost::none);
    parser.eager(true);
    boost::system::error_code error;
    std::size_t used = 0;
    while (used < bytes.size() && !parser.is_done() && !error) {
      const std::size_t step =
          parser.put(boost::asio::buffer(bytes.data() + used, bytes.size() - used), error);
      used += step;
      if (step == 0) {
        break;
      }
    }
    require(!error || error == http::error::need_more);
    if (!parser.is_done()) {
      return;
    }
    require(is_known_status(parser.get().result_int()));
    bytes.remove_prefix(used);
  }
}

void check_service(const tests::FakeService& service) {
  for (const auto& invocation : service.invocations) {
    require(invocation.body.size() <= service.payload_limit_);
    require(agent::validate_name(invocation.function).empty());
    require(invocation.client_uid == 1000);
  }
  for (const auto& deployment : service.deployments) {
    require(agent::validate_name(deployment.name).empty());
    require(agent::validate(deployment.settings).empty());
    require(deployment.code_digest.size() == 64);
  }
  for (const auto& [digest, bytes] : service.code) {
    require(bytes.size() <= service.archive_limit_);
  }
  for (const std::string& name : service.uploaded_names) {
    require(name.find('/') == std::string::npos && name != "..");
  }
}

void talk(Client& client, std::string_view bytes, std::size_t cut) {
  while (!bytes.empty()) {
    const std::string_view piece = bytes.substr(0, cut);
    bytes.remove_prefix(piece.size());
    if (!client.write(piece)) {
      return;
    }
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  std::string_view bytes = fuzz::text_of(data, size);
  const std::size_t cut = fuzz::take_byte(bytes) + 1U;
  const bool asks_head = bytes.find("HEAD") != std::string_view::npos;
  boost::asio::io_context loop{1};
  tests::FakeService service(loop);
  for (const char* name : {"echo", "hold", "end-timeout", "logger"}) {
    service.add_function(name);
  }
  service.payload_limit_ = service.archive_limit_ = 8 << 10;
  api::ServerOptions options;
  options.archive_limit = service.archive_limit_;
  options.document_limit = 8 << 10;
  int closed = 0;
  {
    Client client(loop, {service, options, [&](api::Connection&) { ++closed; }});
    talk(client, bytes, cut);
    client.finish();
    client.hang_up();
    if (!asks_head) {
      check_answers(client.answers());
    }
  }
  require(closed == 1);
  require(service.followers == 0);
  check_service(service);
  return 0;
}

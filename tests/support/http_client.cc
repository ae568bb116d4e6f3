#include "tests/support/http_client.h"

#include <stdexcept>
#include <utility>

namespace tests {

HttpClient::HttpClient(std::string socket_path, std::chrono::seconds patience)
    : socket_path_(std::move(socket_path)), patience_(patience) {}

Response HttpClient::ask(std::string_view method, std::string_view target, std::string_view body,
                         std::string_view headers) {
  if (connection_ == nullptr) {
    connection_ = std::make_unique<RawClient>(socket_path_, patience_);
  }
  // An agent that refuses a body may close before it has taken all of it: what it says still
  // counts.
  connection_->send(request_of(method, target, body, headers));
  Response response = connection_->receive();
  if (!response.whole || response.header("connection") == "close") {
    connection_.reset();
  }
  if (!response.whole) {
    throw std::runtime_error(std::string(method) + " " + std::string(target) +
                             ": no whole answer came");
  }
  return response;
}

nlohmann::json HttpClient::get(std::string_view target) {
  const Response response = ask("GET", target);
  if (response.status != 200) {
    throw std::runtime_error("GET " + std::string(target) + ": " + response.body);
  }
  return nlohmann::json::parse(response.body);
}

}  // namespace tests

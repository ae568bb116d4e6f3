// The way of a request into the agent: Beast's parser of the head, the router, the documents of
// deployments and commands. The input is what a client writes. Aborts when a promise of
// api/router.h or api/json.h does not hold.
#include <boost/asio/buffer.hpp>
#include <boost/beast/http.hpp>
#include <string>

#include "agent/types.h"
#include "api/json.h"
#include "api/router.h"
#include "tests/fuzz/promise.h"

namespace {

namespace http = boost::beast::http;
using fuzz::require;

void check_route(const api::Route& route) {
  if (!route.name.empty()) {
    require(agent::validate_name(route.name).empty());
  }
  require(route.digest.empty() || route.digest.size() == 64);
  require(route.file.find('/') == std::string::npos && route.file.find('\0') == std::string::npos);
  require(route.logs.tail <= api::kMaxLogTail);
  require(route.signal >= 1 && route.signal <= 64);
  require(route.sandbox.size() <= 128 && route.sandbox.find('/') == std::string::npos);
}

void check_command(const base::Result<agent::CommandRequest>& request) {
  if (!request) {
    return require(!request.error().message().empty());
  }
  require(agent::validate(*request).empty());
  const std::string arguments = agent::command_arguments(*request);
  require(!arguments.empty() && arguments.back() == '\0');
  require(agent::command_environment(*request).back() == '\0');
}

void check_deployment(const std::string& body) {
  const auto request = api::parse_deploy("name", body);
  if (request) {
    require(request->code_digest.size() == 64);
  } else {
    require(!request.error().message().empty());
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  http::request_parser<http::string_body> parser;
  parser.header_limit(16 << 10);
  parser.body_limit(64 << 10);
  parser.eager(true);
  boost::system::error_code error;
  std::size_t used = 0;
  while (used < size && !parser.is_done() && !error) {
    const std::size_t step = parser.put(boost::asio::buffer(data + used, size - used), error);
    if (step == 0) {
      break;
    }
    used += step;
  }
  if (!parser.is_header_done()) {
    return 0;
  }
  const auto& request = parser.get();
  const auto method = request.method_string();
  const auto target = request.target();
  const auto route = api::route({method.data(), method.size()}, {target.data(), target.size()});
  if (!route) {
    require(route.error().status >= 400 && route.error().status < 600 &&
            !route.error().code.empty());
    return 0;
  }
  check_route(*route);
  if (route->endpoint == api::Endpoint::deploy) {
    check_deployment(request.body());
  } else if (route->endpoint == api::Endpoint::run) {
    check_command(api::parse_command(request.body()));
  } else if (route->endpoint == api::Endpoint::execute) {
    check_command(api::parse_execution(request.body()));
  }
  return 0;
}

#include "api/http_head.h"

#include <boost/beast/core/string.hpp>
#include <charconv>
#include <utility>

#include "agent/command.h"
#include "api/json.h"

namespace api {
namespace {

namespace http = boost::beast::http;
using boost::system::error_code;

void take_unknown_field(std::string_view name, std::string_view value, Head& head) {
  if (boost::beast::iequals(name, "Brood-File-Name")) {
    head.file_name = value;
  } else if (boost::beast::iequals(name, "Brood-Api-Version")) {
    head.api_version = value;
  } else if (boost::beast::iequals(name, "Brood-Descriptors")) {
    head.descriptors = value;
  }
}

}  // namespace

std::string_view view(boost::beast::string_view text) {
  return {text.data(), text.size()};
}

Head read_head(const Parser& parser) {
  Head head;
  for (const auto& field : parser.get()) {
    const std::string_view value = view(field.value());
    switch (field.name()) {
      case http::field::content_type:
        head.content_type = value;
        break;
      case http::field::transfer_encoding:
        head.transfer_encoding = value;
        break;
      case http::field::expect:
        head.expect = value;
        break;
      case http::field::host:
        ++head.hosts;
        break;
      case http::field::unknown:
        take_unknown_field(view(field.name_string()), value, head);
        break;
      default:
        break;
    }
  }
  return head;
}

Refusal bad_request(std::string message) {
  return {400, "bad_request", std::move(message), {}};
}

std::optional<Refusal> check_head(const Parser& parser, const Head& head) {
  const bool http11 = parser.get().version() == 11;
  if (!head.transfer_encoding.empty() &&
      !(http11 && parser.chunked() && boost::beast::iequals(head.transfer_encoding, "chunked"))) {
    return Refusal{501, "not_implemented", "the only transfer encoding is chunked", {}};
  }
  if (head.hosts > 1 || (http11 && head.hosts == 0)) {
    return bad_request("a request has one Host header");
  }
  if (!head.expect.empty() && !boost::beast::iequals(head.expect, "100-continue")) {
    return Refusal{417, "expectation_failed", "the only expectation is 100-continue", {}};
  }
  if (!head.api_version.empty() && head.api_version != kApiVersion) {
    return Refusal{400,
                   "unsupported_version",
                   "this agent speaks version " + std::string(kApiVersion) + " of the API",
                   {}};
  }
  return std::nullopt;
}

Refusal refusal_of(error_code error) {
  if (error == http::error::header_limit) {
    return {431, "headers_too_large", "a request's head has at most 16 KiB", {}};
  }
  if (error == http::error::bad_version) {
    return {505, "http_version", "the agent speaks HTTP/1.1", {}};
  }
  return bad_request("the request is not HTTP: " + error.message());
}

Refusal too_large(BodyUse use, std::uint64_t limit) {
  // An invocation's payload has an ending of that name; the others share the word.
  const char* what = use == BodyUse::payload   ? "the payload"
                     : use == BodyUse::archive ? "the archive"
                                               : "the document";
  return {413,
          "payload_too_large",
          std::string(what) + " is over the limit of " + std::to_string(limit) + " bytes",
          {}};
}

std::optional<std::size_t> descriptor_count(std::string_view text) {
  std::size_t count = 0;
  const auto [rest, error] = std::from_chars(text.data(), text.data() + text.size(), count);
  if (error != std::errc{} || rest != text.data() + text.size() || count == 0 ||
      count > agent::kMostBinds) {
    return std::nullopt;
  }
  return count;
}

}  // namespace api

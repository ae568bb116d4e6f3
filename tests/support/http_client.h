// Requests to an agent from a test: one blocking HTTP connection, JSON in and out. May be used from
// any thread, by one at a time; asserts nothing, so that a test's threads may use it.
#pragma once

#include <chrono>
#include <memory>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "tests/support/raw_client.h"

namespace tests {

class HttpClient {
 public:
  // Connects when first asked.
  explicit HttpClient(std::string socket_path,
                      std::chrono::seconds patience = std::chrono::seconds(60));

  // `headers` are whole lines, each with its CRLF. Throws when no whole answer comes.
  Response ask(std::string_view method, std::string_view target, std::string_view body = "",
               std::string_view headers = "");
  // The answer's document; throws when the status is not 2xx or the body is not JSON.
  nlohmann::json get(std::string_view target);

 private:
  std::string socket_path_;
  std::chrono::seconds patience_;
  std::unique_ptr<RawClient> connection_;
};

}  // namespace tests

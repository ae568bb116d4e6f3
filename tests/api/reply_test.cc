#include "api/reply.h"

#include <catch2/catch.hpp>

namespace {

std::string head_of(const api::Reply& reply) {
  std::string head;
  api::append_head(reply, api::Framing::length, api::Persistence::keep, head);
  return head;
}

agent::Outcome ok_outcome() {
  agent::Outcome outcome;
  outcome.ending = agent::Ending::ok;
  outcome.body = "42";
  outcome.invocation_id = "id-1";
  outcome.sandbox = "sandbox-1";
  return outcome;
}

}  // namespace

TEST_CASE("the handler's answer is passed on with the invocation's headers") {
  agent::Outcome outcome = ok_outcome();
  outcome.cold = true;
  outcome.stages[agent::Stage::received] = 1'000'000;
  outcome.stages[agent::Stage::assigned] = 1'012'340;
  const api::Reply reply = api::reply_of(std::move(outcome));
  CHECK(reply.status == 200);
  CHECK(reply.body == "42");
  const std::string head = head_of(reply);
  for (const char* line :
       {"HTTP/1.1 200 OK\r\n", "\r\nContent-Length: 2\r\n", "\r\nBrood-Invocation: id-1\r\n",
        "\r\nBrood-Ending: ok\r\n", "\r\nBrood-Start: cold\r\n",
        "\r\nBrood-Trace: assigned=12.3\r\n", "\r\nBrood-Api-Version: 1\r\n",
        "\r\nContent-Type: application/json\r\n"}) {
    CHECK_THAT(head, Catch::Contains(line));
  }
}

TEST_CASE("an invocation that had no sandbox began neither cold nor warm") {
  agent::Outcome outcome;
  outcome.ending = agent::Ending::overloaded;
  const std::string head = head_of(api::reply_of(std::move(outcome)));
  CHECK_THAT(head, Catch::Contains("\r\nBrood-Ending: overloaded\r\n"));
  CHECK_THAT(head, !Catch::Contains("Brood-Start"));
}

TEST_CASE("a content type that a header cannot carry does not reach the client") {
  for (const std::string& type :
       {std::string("text/plain\r\nBrood-Ending: killed"), std::string(), std::string("a\0b", 3),
        std::string(300, 'a'), std::string("text/\xc3\xa9")}) {
    agent::Outcome outcome = ok_outcome();
    outcome.content_type = type;
    CHECK(api::reply_of(std::move(outcome)).content_type == "application/octet-stream");
  }
}

TEST_CASE("an ending that is not ok carries the error's document, never the body") {
  agent::Outcome outcome = ok_outcome();
  outcome.ending = agent::Ending::timeout;
  outcome.message = "the handler ran longer than 5s";
  const api::Reply reply = api::reply_of(std::move(outcome));
  CHECK(reply.status == 504);
  CHECK_THAT(reply.body, Catch::Contains("\"ending\":\"timeout\""));
  CHECK_THAT(head_of(reply), Catch::Contains("\r\nBrood-Ending: timeout\r\n"));
}

TEST_CASE("a trace leaves out what did not happen, and no time is negative") {
  agent::StageTimes stages;
  CHECK(api::format_trace(stages).empty());
  stages[agent::Stage::received] = 5000;
  stages[agent::Stage::queued] = 4000;
  stages[agent::Stage::answered] = 1'005'000;
  CHECK(api::format_trace(stages) == "queued=0.0,answered=1000.0");
}

TEST_CASE("a chunk tells its size in hexadecimal") {
  CHECK(api::chunk_of(std::string(26, 'x')) == "1a\r\n" + std::string(26, 'x') + "\r\n");
}

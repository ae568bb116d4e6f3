// Answers as values, and their heads as bytes. Pure.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "agent/service.h"
#include "api/router.h"

namespace api {

struct Reply {
  int status = 200;
  std::string content_type = "application/json";
  std::string body;
  std::string headers;  // further lines, each ended by CRLF; nothing hostile may be in them
};

// How the body's end is told.
enum class Framing { length, chunked, until_close };
enum class Persistence { keep, close };

Reply reply_of(const Refusal& refusal);
Reply reply_of(const agent::Failure& failure);
// The handler's answer, or the error's document; both with Brood-Invocation, -Ending, -Start and
// -Trace. A content type that a header cannot carry becomes application/octet-stream: it is the
// sandbox's word.
Reply reply_of(agent::Outcome&& outcome);

// "queued=1.5,assigned=2.0,…": microseconds from `received` to each later stage that happened.
std::string format_trace(const agent::StageTimes& stages);

// Appends the status line and all header lines, the empty one included. `framing` says whether
// Content-Length, chunked encoding or neither is announced.
void append_head(const Reply& reply, Framing framing, Persistence persistence, std::string& out);

// One piece of a chunked body; `text` is not empty. `kLastChunk` ends the body.
std::string chunk_of(std::string_view text);
constexpr std::string_view kLastChunk = "0\r\n\r\n";

}  // namespace api

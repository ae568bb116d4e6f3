#include "api/reply.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstdio>
#include <utility>

#include "api/json.h"

namespace api {
namespace {

constexpr std::string_view kOctetStream = "application/octet-stream";
constexpr std::size_t kMaxContentType = 200;

std::string_view reason_of(int status) {
  constexpr std::array<std::pair<int, std::string_view>, 22> kReasons{{
      {200, "OK"},
      {201, "Created"},
      {400, "Bad Request"},
      {403, "Forbidden"},
      {404, "Not Found"},
      {405, "Method Not Allowed"},
      {408, "Request Timeout"},
      {409, "Conflict"},
      {413, "Content Too Large"},
      {415, "Unsupported Media Type"},
      {417, "Expectation Failed"},
      {422, "Unprocessable Content"},
      {429, "Too Many Requests"},
      {431, "Request Header Fields Too Large"},
      {500, "Internal Server Error"},
      {501, "Not Implemented"},
      {502, "Bad Gateway"},
      {503, "Service Unavailable"},
      {504, "Gateway Timeout"},
      {505, "HTTP Version Not Supported"},
      {507, "Insufficient Storage"},
      {204, "No Content"},
  }};
  const auto* found = std::find_if(kReasons.begin(), kReasons.end(),
                                   [status](const auto& entry) { return entry.first == status; });
  return found == kReasons.end() ? "Unknown" : found->second;
}

void append_number(std::string& out, std::uint64_t number) {
  std::array<char, 24> digits{};
  const auto end = std::to_chars(digits.data(), digits.data() + digits.size(), number).ptr;
  out.append(digits.data(), end);
}

// Tenths of a microsecond are what a warm invocation's stages differ by.
void append_microseconds(std::string& out, std::int64_t nanoseconds) {
  const auto tenths = static_cast<std::uint64_t>(std::max<std::int64_t>(nanoseconds, 0) / 100);
  append_number(out, tenths / 10);
  out += '.';
  out += static_cast<char>('0' + tenths % 10);
}

bool is_header_value(std::string_view text) {
  return !text.empty() && text.size() <= kMaxContentType &&
         std::all_of(text.begin(), text.end(), [](char c) { return c >= 0x20 && c < 0x7f; });
}

void append_line(std::string& out, std::string_view name, std::string_view value) {
  out.append(name).append(": ").append(value).append("\r\n");
}

std::string invocation_headers(const agent::Outcome& outcome) {
  std::string headers;
  headers.reserve(384);
  if (is_header_value(outcome.invocation_id)) {
    append_line(headers, "Brood-Invocation", outcome.invocation_id);
  }
  append_line(headers, "Brood-Ending", agent::ending_name(outcome.ending));
  if (!outcome.sandbox.empty()) {
    append_line(headers, "Brood-Start", outcome.cold ? "cold" : "warm");
  }
  if (std::string trace = format_trace(outcome.stages); !trace.empty()) {
    append_line(headers, "Brood-Trace", trace);
  }
  return headers;
}

}  // namespace

Reply reply_of(const Refusal& refusal) {
  Reply reply;
  reply.status = refusal.status;
  reply.body = error_json({refusal.code, refusal.message, nullptr});
  if (!refusal.allow.empty()) {
    append_line(reply.headers, "Allow", refusal.allow);
  }
  return reply;
}

Reply reply_of(const agent::Failure& failure) {
  Reply reply;
  reply.status = failure.status;
  reply.body = error_json({failure.code, failure.message, nullptr});
  return reply;
}

Reply reply_of(agent::Outcome&& outcome) {
  Reply reply;
  reply.status = agent::http_status_of(outcome.ending);
  reply.headers = invocation_headers(outcome);
  if (outcome.ending != agent::Ending::ok) {
    reply.body = error_json({agent::ending_name(outcome.ending), outcome.message, &outcome});
    return reply;
  }
  reply.body = std::move(outcome.body);
  reply.content_type = is_header_value(outcome.content_type) ? std::move(outcome.content_type)
                                                             : std::string(kOctetStream);
  return reply;
}

std::string format_trace(const agent::StageTimes& stages) {
  const std::int64_t received = stages[agent::Stage::received];
  std::string trace;
  for (std::size_t i = 1; i < agent::kStageCount; ++i) {
    const auto stage = static_cast<agent::Stage>(i);
    if (stages[stage] == 0 || received == 0) {
      continue;
    }
    trace.append(trace.empty() ? "" : ",").append(agent::stage_name(stage)).append("=");
    append_microseconds(trace, stages[stage] - received);
  }
  return trace;
}

void append_head(const Reply& reply, Framing framing, Persistence persistence, std::string& out) {
  out.append("HTTP/1.1 ");
  append_number(out, static_cast<std::uint64_t>(reply.status));
  out.append(" ").append(reason_of(reply.status)).append("\r\n");
  append_line(out, "Server", "brood/" BROOD_VERSION);
  append_line(out, "Brood-Api-Version", kApiVersion);
  append_line(out, "Content-Type", reply.content_type);
  if (framing == Framing::length) {
    out.append("Content-Length: ");
    append_number(out, reply.body.size());
    out.append("\r\n");
  } else if (framing == Framing::chunked) {
    append_line(out, "Transfer-Encoding", "chunked");
  }
  append_line(out, "Connection", persistence == Persistence::keep ? "keep-alive" : "close");
  out.append(reply.headers).append("\r\n");
}

std::string chunk_of(std::string_view text) {
  std::array<char, 20> size{};
  const auto end = std::to_chars(size.data(), size.data() + size.size(), text.size(), 16).ptr;
  std::string chunk;
  chunk.reserve(text.size() + 24);
  chunk.append(size.data(), end).append("\r\n").append(text).append("\r\n");
  return chunk;
}

}  // namespace api

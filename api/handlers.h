// What a route asks of the service, without the socket: the calls that answer at once, and the
// reading of a log piece by piece.
#pragma once

#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/service.h"
#include "api/reply.h"
#include "api/router.h"

namespace api {

// What the body of a request may be.
enum class BodyUse {
  none,      // a body is refused
  document,  // JSON
  payload,   // an invocation's
  archive,   // streamed into agent::Upload
};
BodyUse body_use(Endpoint endpoint);

// Whether `content_type` (empty: none was given) fits. application/x-www-form-urlencoded is what
// `curl -d` says when it is told nothing, so it counts as nothing.
bool accepts(BodyUse use, std::string_view content_type);
agent::ContentKind payload_kind(std::string_view content_type);

// The endpoints that answer from the service's memory and change nothing: all that are a GET or a
// HEAD, but logs.
Reply answer(const Route& route, const agent::Service& service);

// Why an invocation was not taken: there is no such function, or the agent is stopping.
Reply uninvoked_reply(std::string_view name, const agent::Service& service);

// The answers to what completes later.
Reply uploaded_reply(tl::expected<std::string, agent::Failure>&& digest);
Reply deployed_reply(const tl::expected<agent::Deployed, agent::Failure>& deployed);
Reply layer_reply(const tl::expected<agent::Layer, agent::Failure>& layer);
Reply done_reply(const tl::expected<void, agent::Failure>& done);
Reply removed_reply(const tl::expected<agent::Function, agent::Failure>& removed);
Reply command_reply(const tl::expected<agent::KeptCommand, agent::Failure>& command,
                    int status = 200);

// Reads a log, of a function or of a kept command, from where a query begins, as
// application/x-ndjson.
class LogReader {
 public:
  LogReader(agent::Service& service, const Route& route);

  // The lines that the query asks for.
  tl::expected<std::string, agent::Failure> first();
  // The lines that came since; empty when there are none, or it is gone.
  std::string next();
  // As the service's. Nothing where no more can come.
  std::shared_ptr<void> follow(std::function<void()> more);
  // No line will come any more: the command has ended.
  bool ended() const;

 private:
  tl::expected<std::vector<agent::LogLine>, agent::Failure> read(std::size_t tail,
                                                                 std::uint64_t after) const;
  std::string print(const std::vector<agent::LogLine>& lines);

  agent::Service& service_;
  const bool of_command_;
  std::string name_;
  LogQuery query_;
  std::uint64_t last_ = 0;  // the last line that was given
};

}  // namespace api

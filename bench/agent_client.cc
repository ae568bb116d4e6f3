#include "bench/agent_client.h"

#include <cstdio>
#include <nlohmann/json.hpp>

#include "bench/clock.h"

namespace bench {
namespace {

using Json = nlohmann::json;

constexpr std::int64_t kPollUs = 1000;
constexpr std::uint32_t kQueue = 10'000;  // a benchmark waits, and is not turned away

std::string message_of(const Answer& answer) {
  const Json document = Json::parse(answer.body, nullptr, false);
  if (document.is_object() && document.contains("error") && document["error"].is_object()) {
    return document["error"].value("message", "");
  }
  return std::string(answer.body);
}

base::Result<Json> ask(Connection& agent, std::string_view what, const std::string& request) {
  BROOD_TRY(const Answer answer, agent.ask(request));
  if (answer.status / 100 != 2) {
    return base::fail_because(std::string(what) + ": the agent answered with status " +
                              std::to_string(answer.status) + ": " + message_of(answer));
  }
  Json document = Json::parse(answer.body, nullptr, false);
  if (!document.is_object()) {
    return base::fail_because(std::string(what) + ": the agent's answer is no JSON object");
  }
  return document;
}

}  // namespace

base::Result<AgentState> agent_state(Connection& agent) {
  BROOD_TRY(const Json status, ask(agent, "status", request_of("GET", "/status")));
  return AgentState{
      .version = status.value("version", ""),
      .limits = status.value("limits", ""),
      .limits_not_enforced = status.value("limits_not_enforced", std::vector<std::string>()),
      .pid = status.value("pid", 0),
  };
}

base::Result<RuntimeState> runtime_state(Connection& agent, const std::string& runtime) {
  static const std::string request = request_of("GET", "/runtimes");
  BROOD_TRY(const Json list, ask(agent, "runtimes", request));
  std::string known;
  for (const Json& one : list.value("runtimes", Json::array())) {
    if (one.value("name", "") == runtime) {
      return RuntimeState{.image_digest = one.value("image_digest", ""),
                          .state = one.value("state", ""),
                          .pool_ready = one.value("pool_ready", 0U),
                          .pool_min = one.value("pool_min", 0U),
                          .zygote_pid = one.value("zygote_pid", 0)};
    }
    known += (known.empty() ? "" : ", ") + one.value("name", "");
  }
  return base::fail_because("the agent has no runtime " + runtime,
                            "it has: " + (known.empty() ? "none" : known));
}

base::Status wait_for_pool(Connection& agent, const std::string& runtime,
                           std::chrono::seconds patience) {
  const std::int64_t last = monotonic_ns() + std::chrono::nanoseconds(patience).count();
  for (;;) {
    BROOD_TRY(const RuntimeState state, runtime_state(agent, runtime));
    if (state.pool_min == 0) {
      return base::fail_because("runtime " + runtime + " keeps no sandboxes ready (pool_min = 0)",
                                "set pool_min in the agent's configuration");
    }
    if (state.pool_ready >= state.pool_min) {
      return {};
    }
    if (interrupted()) {
      return base::fail_because("interrupted");
    }
    if (monotonic_ns() > last) {
      return base::fail_because("the pool of runtime " + runtime + " has " +
                                std::to_string(state.pool_ready) + " of " +
                                std::to_string(state.pool_min) + " sandboxes after " +
                                std::to_string(patience.count()) + " s");
    }
    sleep_us(kPollUs);
  }
}

base::Result<DeployedFunction> DeployedFunction::deploy(const std::string& socket_path,
                                                        const Deployment& deployment) {
  BROOD_TRY(Connection agent, Connection::open(socket_path));
  BROOD_TRY(const Json code, ask(agent, "upload of the handler",
                                 request_of("POST", "/code", deployment.source,
                                            "Content-Type: application/octet-stream\r\n"
                                            "Brood-File-Name: handler.py\r\n")));
  const Json settings = {{"code", code.value("digest", "")},
                         {"runtime", deployment.runtime},
                         {"handler", "handler.main"},
                         {"reuse", deployment.reuse == Reuse::yes},
                         {"concurrency", deployment.concurrency},
                         {"queue", kQueue},
                         {"timeout", "10s"}};
  // From here on it is there to be removed, even if the answer gets lost.
  DeployedFunction function(socket_path, deployment.name);
  BROOD_TRY(const Json deployed,
            ask(agent, "deploy " + deployment.name,
                request_of("PUT", "/functions/" + deployment.name, settings.dump(),
                           "Content-Type: application/json\r\n")));
  for (const Json& warning : deployed.value("warnings", Json::array())) {
    return base::fail_because("deploy " + deployment.name + ": " + warning.get<std::string>());
  }
  return function;
}

DeployedFunction::~DeployedFunction() {
  if (name_.empty()) {
    return;
  }
  // A connection of its own: that of the measurement may have broken in the middle of an answer.
  auto agent = Connection::open(socket_path_);
  const auto removed =
      agent ? ask(*agent, "remove " + name_, request_of("DELETE", "/functions/" + name_))
            : base::Result<Json>(base::fail(agent.error()));
  if (!removed) {
    std::fprintf(stderr, "brood-bench: function %s is still deployed: %s\n", name_.c_str(),
                 removed.error().message().c_str());
  }
}

}  // namespace bench

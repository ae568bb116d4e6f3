// The agent's program: reads the configuration, wires the parts, waits for the end. Nothing is
// decided here.
#include <signal.h>
#include <spdlog/pattern_formatter.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/resource.h>
#include <systemd/sd-daemon.h>
#include <unistd.h>

#include <boost/asio/io_context.hpp>
#include <boost/asio/signal_set.hpp>
#include <cstdio>
#include <filesystem>
#include <initializer_list>
#include <memory>
#include <nlohmann/json.hpp>

#include "agent/agent.h"
#include "agent/powers.h"
#include "api/server.h"
#include "base/slice.h"
#include "cmd/agent_process.h"
#include "cmd/broodd_flags.h"

namespace {

constexpr int kFailed = 1;

// A message as the inside of a JSON string: what it quotes comes from all over.
class JsonMessage : public spdlog::custom_flag_formatter {
 public:
  void format(const spdlog::details::log_msg& message, const std::tm& /*time*/,
              spdlog::memory_buf_t& into) override {
    const std::string text =
        nlohmann::json(std::string(message.payload.data(), message.payload.size()))
            .dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
    into.append(text.data(), text.data() + text.size());
  }
  std::unique_ptr<custom_flag_formatter> clone() const override {
    return std::make_unique<JsonMessage>();
  }
};

void start_logging(const agent::AgentConfig& config) {
  auto logger =
      std::make_shared<spdlog::logger>("broodd", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  logger->set_level(spdlog::level::from_str(config.log_level));
  if (config.log_format == "json") {
    auto formatter = std::make_unique<spdlog::pattern_formatter>();
    formatter->add_flag<JsonMessage>('*').set_pattern(
        R"({"time":"%Y-%m-%dT%H:%M:%S.%e%z","level":"%l","message":%*})");
    logger->set_formatter(std::move(formatter));
  } else {
    logger->set_pattern("%Y-%m-%dT%H:%M:%S.%e%z %l %v");
  }
  spdlog::set_default_logger(std::move(logger));
}

// Ahead of the functions that it serves, and none of that for what it starts. Where the host
// refuses, all that is lost is time.
void answer_soon() {
  constexpr int kHigherPriority = -10;
  if (brood_set_slice(BROOD_AGENT_SLICE_NS, kHigherPriority, BROOD_RESET_ON_FORK) != 0) {
    (void)brood_set_slice(BROOD_AGENT_SLICE_NS, 0, BROOD_RESET_ON_FORK);
  }
}

int give_up(const base::Error& error) {
  std::fprintf(stderr, "broodd: %s\n", error.message().c_str());
  return kFailed;
}

// From the first SIGTERM or SIGINT on: what runs is let finish. A second one ends it at once.
class Stopper {
 public:
  Stopper(boost::asio::io_context& loop, agent::Agent& agent, api::Server& server,
          std::chrono::milliseconds patience)
      : loop_(loop),
        agent_(agent),
        server_(server),
        patience_(patience),
        signals_(loop, SIGTERM, SIGINT) {
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) {
        drain();
      }
    });
  }

 private:
  void drain() {
    spdlog::info("draining: running invocations have {} ms", patience_.count());
    ::sd_notify(0, "STOPPING=1\nSTATUS=draining");
    server_.drain([] {});
    agent_.drain(patience_, [this] {
      server_.stop();
      spdlog::info("stopped");
      loop_.stop();
    });
    signals_.async_wait([this](const boost::system::error_code& error, int) {
      if (!error) {
        spdlog::warn("a second signal: killing what still runs");
        agent_.hurry();
      }
    });
  }

  boost::asio::io_context& loop_;
  agent::Agent& agent_;
  api::Server& server_;
  std::chrono::milliseconds patience_;
  boost::asio::signal_set signals_;
};

int serve(const agent::AgentConfig& config) {
  boost::asio::io_context loop{1};  // one thread
  auto agent = agent::Agent::start(loop, config);
  if (!agent) {
    return give_up(agent.error());
  }
  api::ServerOptions options;
  options.socket_path = config.socket;
  options.group = config.group;
  options.max_connections = config.max_connections;
  options.archive_limit = config.archive_limit;
  api::Server server(loop, **agent, options);
  if (const auto started = server.start(); !started) {
    (*agent)->drain(std::chrono::milliseconds(0), [&] { loop.stop(); });
    loop.run();
    return give_up(started.error());
  }
  const Stopper stopper(loop, **agent, server, config.drain_timeout);
  spdlog::info("broodd {} serves on {}", BROOD_VERSION, config.socket);
  ::sd_notify(0, "READY=1\nSTATUS=serving");
  loop.run();
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  auto parsed = parse_broodd_flags(argc, argv);
  if (const int* status = std::get_if<int>(&parsed)) {
    return *status;
  }
  auto& config = std::get<agent::AgentConfig>(parsed);
  cmd::find_parts(config);
  if (::geteuid() != 0) {
    return give_up(base::Error::because(
        "the agent makes namespaces, cgroups and mounts, and so has to run as root",
        "run it with sudo or as a systemd unit"));
  }
  ::signal(SIGPIPE, SIG_IGN);
  start_logging(config);
  cmd::raise_descriptor_limit();
  cmd::allow_core_limit();
  answer_soon();
  if (const auto given_up = agent::give_up_powers(); !given_up) {
    return give_up(given_up.error());
  }
  return serve(config);
}

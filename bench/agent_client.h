// What a measurement asks of the agent beside invocations: its function is there, its pool is full,
// and what holds the figures back is known.
#pragma once

#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/error.h"
#include "bench/http.h"

namespace bench {

struct RuntimeState {
  std::string image_digest;
  std::string state;
  std::uint32_t pool_ready = 0;
  std::uint32_t pool_min = 0;
  int zygote_pid = 0;
};

struct AgentState {
  std::string version;
  std::string limits;  // enforce or best-effort
  std::vector<std::string> limits_not_enforced;
  int pid = 0;
};

base::Result<AgentState> agent_state(Connection& agent);
base::Result<RuntimeState> runtime_state(Connection& agent, const std::string& runtime);

// Waits until the runtime's pool has `pool_min` sandboxes again.
base::Status wait_for_pool(Connection& agent, const std::string& runtime,
                           std::chrono::seconds patience);

enum class Reuse { no, yes };

struct Deployment {
  std::string name;
  std::string runtime;
  std::string source;  // handler.py; its handler is main
  Reuse reuse = Reuse::no;
  std::uint32_t concurrency = 8;  // instances at once
};

// A function that lives as long as this does. One of the same name is replaced.
class DeployedFunction {
 public:
  static base::Result<DeployedFunction> deploy(const std::string& socket_path,
                                               const Deployment& deployment);
  DeployedFunction(DeployedFunction&& other) noexcept
      : socket_path_(std::move(other.socket_path_)), name_(std::exchange(other.name_, {})) {}
  DeployedFunction& operator=(DeployedFunction&&) = delete;
  DeployedFunction(const DeployedFunction&) = delete;
  DeployedFunction& operator=(const DeployedFunction&) = delete;
  ~DeployedFunction();
  // It stays when this ends.
  void keep() { name_.clear(); }

 private:
  DeployedFunction(std::string socket_path, std::string name)
      : socket_path_(std::move(socket_path)), name_(std::move(name)) {}

  std::string socket_path_;
  std::string name_;  // empty: moved from
};

}  // namespace bench

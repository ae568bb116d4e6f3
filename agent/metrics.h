// What the agent counts, for Prometheus.
//
// A function's and a runtime's series are looked up once, when its handle is made; counting is then
// a pointer away. When the last copy of a handle is dropped its series are gone, so a removed
// function costs no scrape any more (and counts from 0 when it is deployed again). All handles are
// dropped before their Metrics. Counting and scraping are safe from any thread; making and dropping
// handles is for one thread.
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <string>

#include "agent/types.h"

namespace prometheus {
class Counter;
class Gauge;
class Histogram;
}  // namespace prometheus

namespace agent {

enum class Start { cold, warm };

class Metrics;

class FunctionMetrics {
 public:
  ~FunctionMetrics();
  FunctionMetrics(const FunctionMetrics&) = delete;
  FunctionMetrics& operator=(const FunctionMetrics&) = delete;

  // An invocation that had a sandbox: brood_invocations_total, brood_invocation_duration_seconds.
  void ended(Ending ending, Start start, std::chrono::nanoseconds duration);
  // One that ended without (overloaded, payload_too_large, …): brood_invocations_total alone.
  void refused(Ending ending);
  void set_queue(std::uint64_t length);  // brood_queue_length

 private:
  friend class Metrics;
  FunctionMetrics() = default;

  Metrics* metrics_ = nullptr;
  std::string name_;
  std::array<prometheus::Counter*, kEndingCount> endings_{};
  std::array<prometheus::Histogram*, 2> durations_{};
  prometheus::Gauge* queue_ = nullptr;
};

// The sandboxes of a runtime by state, as of now.
struct SandboxCounts {
  std::uint64_t starting = 0;
  std::uint64_t pool = 0;
  std::uint64_t idle = 0;
  std::uint64_t running = 0;
  std::uint64_t ending = 0;
};

class RuntimeMetrics {
 public:
  ~RuntimeMetrics();
  RuntimeMetrics(const RuntimeMetrics&) = delete;
  RuntimeMetrics& operator=(const RuntimeMetrics&) = delete;

  void set_sandboxes(const SandboxCounts& counts);  // brood_sandboxes, brood_pool_ready
  void zygote_restarted();                          // brood_zygote_restarts_total

 private:
  friend class Metrics;
  RuntimeMetrics() = default;

  Metrics* metrics_ = nullptr;
  std::array<prometheus::Gauge*, 5> states_{};
  prometheus::Gauge* ready_ = nullptr;
  prometheus::Counter* restarts_ = nullptr;
};

class Metrics {
 public:
  Metrics();
  ~Metrics();
  Metrics(const Metrics&) = delete;
  Metrics& operator=(const Metrics&) = delete;

  // The same handle for all who ask while one of them holds it. Names are validated ones.
  std::shared_ptr<FunctionMetrics> function(const std::string& name);
  std::shared_ptr<RuntimeMetrics> runtime(const std::string& name);
  // Nobody will scrape any more: handles that are dropped from now on leave their series, of which
  // each would be looked for among all.
  void close();

  // brood_stage_seconds: for each stage that happened, the time since the one before it that did.
  void observe_stages(const StageTimes& stages);

  // All of it in Prometheus's text format 0.0.4, with the process's own figures read now.
  std::string text();

 private:
  friend class FunctionMetrics;
  friend class RuntimeMetrics;
  struct Families;
  std::unique_ptr<Families> families_;
};

}  // namespace agent

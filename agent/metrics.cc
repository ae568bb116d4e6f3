#include "agent/metrics.h"

#include <dirent.h>
#include <prometheus/counter.h>
#include <prometheus/gauge.h>
#include <prometheus/histogram.h>
#include <prometheus/registry.h>
#include <prometheus/text_serializer.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include <map>
#include <sstream>

#include "base/file.h"

namespace agent {
namespace {

using prometheus::Counter;
using prometheus::Family;
using prometheus::Gauge;
using prometheus::Histogram;

constexpr std::array<const char*, 2> kStartNames{"cold", "warm"};
constexpr std::array<const char*, 5> kStateNames{"starting", "pool", "idle", "running", "ending"};

// Seconds. An invocation takes 50 us (warm) to minutes; a stage may take one.
const Histogram::BucketBoundaries kInvocationBuckets{
    50e-6, 100e-6, 200e-6, 300e-6, 500e-6, 1e-3, 2e-3, 5e-3, 10e-3, 25e-3,
    50e-3, 0.1,    0.25,   0.5,    1,      2.5,  5,    10,   30,    60};
const Histogram::BucketBoundaries kStageBuckets{1e-6,   2e-6,   5e-6, 10e-6, 20e-6, 50e-6, 100e-6,
                                                200e-6, 500e-6, 1e-3, 10e-3, 0.1,   1,     10};

double seconds(std::chrono::nanoseconds span) {
  return std::chrono::duration<double>(span).count();
}

double process_cpu_seconds() {
  timespec used{};
  ::clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &used);
  return static_cast<double>(used.tv_sec) + static_cast<double>(used.tv_nsec) * 1e-9;
}

double resident_bytes() {
  const auto statm = base::read_file("/proc/self/statm");
  std::uint64_t total = 0;
  std::uint64_t resident = 0;
  std::istringstream(statm.value_or("")) >> total >> resident;
  return static_cast<double>(resident) * static_cast<double>(::sysconf(_SC_PAGESIZE));
}

double open_fds() {
  DIR* directory = ::opendir("/proc/self/fd");
  if (directory == nullptr) {
    return 0;
  }
  int count = -3;                            // ".", "..", and the directory's own
  while (::readdir(directory) != nullptr) {  // NOLINT(concurrency-mt-unsafe)
    ++count;
  }
  ::closedir(directory);
  return count;
}

double max_fds() {
  rlimit limit{};
  ::getrlimit(RLIMIT_NOFILE, &limit);
  return static_cast<double>(limit.rlim_cur);
}

// Seconds since 1970. The kernel tells a process's start in ticks since boot.
double start_time() {
  const auto stat = base::read_file("/proc/self/stat");
  const std::string text = stat.value_or("");
  // The name, in parentheses, may hold spaces; "starttime" is the 20th field behind it.
  std::istringstream fields(text.substr(std::min(text.size(), text.rfind(')') + 1)));
  std::string skipped;
  for (int i = 0; i < 19; ++i) {
    fields >> skipped;
  }
  double ticks = 0;
  fields >> ticks;
  timespec since_boot{};
  timespec now{};
  ::clock_gettime(CLOCK_BOOTTIME, &since_boot);
  ::clock_gettime(CLOCK_REALTIME, &now);
  const double boot = static_cast<double>(now.tv_sec - since_boot.tv_sec) +
                      static_cast<double>(now.tv_nsec - since_boot.tv_nsec) * 1e-9;
  return boot + ticks / static_cast<double>(::sysconf(_SC_CLK_TCK));
}

template <typename Builder>
auto& make_family(Builder builder, const char* name, const char* help,
                  prometheus::Registry& registry) {
  return builder.Name(name).Help(help).Register(registry);
}

template <typename Handle>
using Handles = std::map<std::string, std::weak_ptr<Handle>>;

template <typename Handle>
std::shared_ptr<Handle> held(const Handles<Handle>& handles, const std::string& name) {
  const auto known = handles.find(name);
  return known == handles.end() ? nullptr : known->second.lock();
}

}  // namespace

struct Metrics::Families {
  Families() {
    make_family(prometheus::BuildGauge(), "brood_build_info", "The running version; always 1.",
                registry)
        .Add({{"version", BROOD_VERSION}})
        .Set(1);
    process_start.Set(start_time());
    for (std::size_t i = 0; i < kStageCount; ++i) {
      stages[i] = &stage_seconds.Add({{"stage", std::string(stage_name(static_cast<Stage>(i)))}},
                                     kStageBuckets);
    }
  }

  void read_process() {
    const double cpu = process_cpu_seconds();
    process_cpu.Increment(std::max(0.0, cpu - process_cpu.Value()));
    process_resident.Set(resident_bytes());
    process_open_fds.Set(open_fds());
    process_max_fds.Set(max_fds());
  }

  prometheus::Registry registry;
  Family<Counter>& invocations =
      make_family(prometheus::BuildCounter(), "brood_invocations_total",
                  "Invocations by function and by how they ended.", registry);
  Family<Histogram>& durations =
      make_family(prometheus::BuildHistogram(), "brood_invocation_duration_seconds",
                  "Time from an invocation's request to its answer.", registry);
  Family<Gauge>& queue = make_family(prometheus::BuildGauge(), "brood_queue_length",
                                     "Invocations that wait for an instance.", registry);
  Family<Histogram>& stage_seconds =
      make_family(prometheus::BuildHistogram(), "brood_stage_seconds",
                  "Time from an invocation's stage before to this one.", registry);
  Family<Gauge>& sandboxes = make_family(prometheus::BuildGauge(), "brood_sandboxes",
                                         "Sandboxes by runtime and state.", registry);
  Family<Gauge>& pool_ready =
      make_family(prometheus::BuildGauge(), "brood_pool_ready",
                  "Sandboxes that are complete and wait to be bound.", registry);
  Family<Counter>& restarts = make_family(prometheus::BuildCounter(), "brood_zygote_restarts_total",
                                          "Zygotes that died and were started again.", registry);
  Counter& process_cpu = make_family(prometheus::BuildCounter(), "process_cpu_seconds_total",
                                     "Processor time of the agent.", registry)
                             .Add({});
  Gauge& process_resident = make_family(prometheus::BuildGauge(), "process_resident_memory_bytes",
                                        "Resident memory of the agent.", registry)
                                .Add({});
  Gauge& process_open_fds = make_family(prometheus::BuildGauge(), "process_open_fds",
                                        "Open file descriptors of the agent.", registry)
                                .Add({});
  Gauge& process_max_fds = make_family(prometheus::BuildGauge(), "process_max_fds",
                                       "File descriptors that the agent may open.", registry)
                               .Add({});
  Gauge& process_start = make_family(prometheus::BuildGauge(), "process_start_time_seconds",
                                     "When the agent started, in Unix time.", registry)
                             .Add({});
  std::array<Histogram*, kStageCount> stages{};
  Handles<FunctionMetrics> functions;
  Handles<RuntimeMetrics> runtimes;
  bool closed = false;
};

FunctionMetrics::~FunctionMetrics() {
  Metrics::Families& families = *metrics_->families_;
  if (families.closed) {
    return;
  }
  if (const auto known = families.functions.find(name_);
      known != families.functions.end() && known->second.expired()) {
    families.functions.erase(known);
  }
  for (Counter* counter : endings_) {
    families.invocations.Remove(counter);
  }
  for (Histogram* histogram : durations_) {
    families.durations.Remove(histogram);
  }
  families.queue.Remove(queue_);
}

void FunctionMetrics::ended(Ending ending, Start start, std::chrono::nanoseconds duration) {
  refused(ending);
  durations_[static_cast<std::size_t>(start)]->Observe(seconds(duration));
}

void FunctionMetrics::refused(Ending ending) {
  endings_[static_cast<std::size_t>(ending)]->Increment();
}

void FunctionMetrics::set_queue(std::uint64_t length) {
  queue_->Set(static_cast<double>(length));
}

RuntimeMetrics::~RuntimeMetrics() {
  Metrics::Families& families = *metrics_->families_;
  for (Gauge* gauge : states_) {
    families.sandboxes.Remove(gauge);
  }
  families.pool_ready.Remove(ready_);
  families.restarts.Remove(restarts_);
}

void RuntimeMetrics::set_sandboxes(const SandboxCounts& counts) {
  const std::array values{counts.starting, counts.pool, counts.idle, counts.running, counts.ending};
  for (std::size_t i = 0; i < values.size(); ++i) {
    states_[i]->Set(static_cast<double>(values[i]));
  }
  ready_->Set(static_cast<double>(counts.pool));
}

void RuntimeMetrics::zygote_restarted() {
  restarts_->Increment();
}

Metrics::Metrics() : families_(std::make_unique<Families>()) {}
Metrics::~Metrics() = default;

std::shared_ptr<FunctionMetrics> Metrics::function(const std::string& name) {
  if (auto known = held(families_->functions, name)) {
    return known;
  }
  std::shared_ptr<FunctionMetrics> made(new FunctionMetrics());
  made->metrics_ = this;
  made->name_ = name;
  for (std::size_t i = 0; i < kEndingCount; ++i) {
    made->endings_[i] = &families_->invocations.Add(
        {{"function", name}, {"ending", std::string(ending_name(static_cast<Ending>(i)))}});
  }
  for (std::size_t i = 0; i < kStartNames.size(); ++i) {
    made->durations_[i] = &families_->durations.Add({{"function", name}, {"start", kStartNames[i]}},
                                                    kInvocationBuckets);
  }
  made->queue_ = &families_->queue.Add({{"function", name}});
  families_->functions[name] = made;
  return made;
}

std::shared_ptr<RuntimeMetrics> Metrics::runtime(const std::string& name) {
  if (auto known = held(families_->runtimes, name)) {
    return known;
  }
  std::shared_ptr<RuntimeMetrics> made(new RuntimeMetrics());
  made->metrics_ = this;
  for (std::size_t i = 0; i < kStateNames.size(); ++i) {
    made->states_[i] = &families_->sandboxes.Add({{"runtime", name}, {"state", kStateNames[i]}});
  }
  made->ready_ = &families_->pool_ready.Add({{"runtime", name}});
  made->restarts_ = &families_->restarts.Add({{"runtime", name}});
  families_->runtimes[name] = made;
  return made;
}

void Metrics::close() {
  families_->closed = true;
}

void Metrics::observe_stages(const StageTimes& stages) {
  std::int64_t before = 0;
  for (std::size_t i = 0; i < kStageCount; ++i) {
    const std::int64_t at = stages.at[i];
    if (at == 0) {
      continue;
    }
    if (before != 0) {
      families_->stages[i]->Observe(
          seconds(std::chrono::nanoseconds(std::max<std::int64_t>(0, at - before))));
    }
    before = at;
  }
}

std::string Metrics::text() {
  families_->read_process();
  return prometheus::TextSerializer().Serialize(families_->registry.Collect());
}

}  // namespace agent

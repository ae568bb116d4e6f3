#include "agent/metrics.h"

#include <fcntl.h>
#include <time.h>

#include <algorithm>
#include <catch2/catch.hpp>
#include <sstream>

#include "base/file.h"

namespace {

using agent::Ending;
using agent::Metrics;
using agent::Stage;
using agent::Start;
using namespace std::chrono_literals;

// The value of one series, as the text has it; "" where there is no such series.
std::string value_of(const std::string& text, const std::string& series) {
  std::istringstream lines(text);
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with(series + " ")) {
      return line.substr(series.size() + 1);
    }
  }
  return "";
}

}  // namespace

TEST_CASE("invocations are counted by function and ending") {
  Metrics metrics;
  const auto f = metrics.function("f");
  const auto g = metrics.function("g");
  f->ended(Ending::ok, Start::cold, 400us);
  f->ended(Ending::ok, Start::warm, 80us);
  f->ended(Ending::handler_error, Start::warm, 3s);
  g->refused(Ending::overloaded);
  const std::string text = metrics.text();
  CHECK(value_of(text, R"(brood_invocations_total{ending="ok",function="f"})") == "2");
  CHECK(value_of(text, R"(brood_invocations_total{ending="handler_error",function="f"})") == "1");
  CHECK(value_of(text, R"(brood_invocations_total{ending="timeout",function="f"})") == "0");
  CHECK(value_of(text, R"(brood_invocations_total{ending="ok",function="g"})") == "0");
  CHECK(value_of(text, R"(brood_invocations_total{ending="overloaded",function="g"})") == "1");
  const std::string g_count =
      R"(brood_invocation_duration_seconds_count{function="g",start="cold"})";
  CHECK(value_of(text, g_count) == "0");
}

TEST_CASE("durations fall into buckets, cold and warm apart") {
  Metrics metrics;
  const auto f = metrics.function("f");
  f->ended(Ending::ok, Start::cold, 400us);
  f->ended(Ending::ok, Start::warm, 80us);
  f->ended(Ending::ok, Start::warm, 120s);
  const std::string text = metrics.text();
  const auto bucket = [&](const std::string& start, const std::string& le) {
    return value_of(text, R"(brood_invocation_duration_seconds_bucket{function="f",start=")" +
                              start + R"(",le=")" + le + R"("})");
  };
  CHECK(bucket("cold", "0.0003") == "0");
  CHECK(bucket("cold", "0.0005") == "1");
  CHECK(bucket("warm", "5e-05") == "0");
  CHECK(bucket("warm", "0.0001") == "1");
  CHECK(bucket("warm", "60") == "1");
  CHECK(bucket("warm", "+Inf") == "2");
}

TEST_CASE("a removed function's series are gone, and only its own") {
  Metrics metrics;
  auto f = metrics.function("f");
  auto again = metrics.function("f");
  const auto g = metrics.function("g");
  CHECK(again == f);
  f->refused(Ending::ok);
  f.reset();
  CHECK(metrics.text().find("function=\"f\"") != std::string::npos);
  again.reset();
  CHECK(metrics.text().find("function=\"f\"") == std::string::npos);
  CHECK(metrics.text().find("function=\"g\"") != std::string::npos);
  const auto anew = metrics.function("f");
  anew->refused(Ending::ok);
  CHECK(value_of(metrics.text(), R"(brood_invocations_total{ending="ok",function="f"})") == "1");
}

TEST_CASE("a function's queue shows its present length") {
  Metrics metrics;
  const auto f = metrics.function("f");
  f->set_queue(7);
  CHECK(value_of(metrics.text(), R"(brood_queue_length{function="f"})") == "7");
  f->set_queue(0);
  CHECK(value_of(metrics.text(), R"(brood_queue_length{function="f"})") == "0");
}

TEST_CASE("a runtime shows its sandboxes by state, its pool and its zygote's restarts") {
  Metrics metrics;
  const auto python = metrics.runtime("python3");
  python->set_sandboxes({.starting = 1, .pool = 2, .idle = 3, .running = 4, .ending = 5});
  python->zygote_restarted();
  const std::string text = metrics.text();
  CHECK(value_of(text, R"(brood_sandboxes{runtime="python3",state="starting"})") == "1");
  CHECK(value_of(text, R"(brood_sandboxes{runtime="python3",state="pool"})") == "2");
  CHECK(value_of(text, R"(brood_sandboxes{runtime="python3",state="idle"})") == "3");
  CHECK(value_of(text, R"(brood_sandboxes{runtime="python3",state="running"})") == "4");
  CHECK(value_of(text, R"(brood_sandboxes{runtime="python3",state="ending"})") == "5");
  CHECK(value_of(text, R"(brood_pool_ready{runtime="python3"})") == "2");
  CHECK(value_of(text, R"(brood_zygote_restarts_total{runtime="python3"})") == "1");
}

TEST_CASE("a stage's time is counted from the stage before it that happened") {
  Metrics metrics;
  agent::StageTimes stages;
  stages[Stage::received] = 1'000'000;
  stages[Stage::queued] = 1'003'000;
  stages[Stage::sent] = 1'103'000;   // warm: no assigned, attached, limited
  stages[Stage::woken] = 1'102'000;  // before the one before it: nothing, not a negative time
  metrics.observe_stages(stages);
  const std::string text = metrics.text();
  const auto stage = [&](const std::string& kind, const std::string& name) {
    return value_of(text, "brood_stage_seconds_" + kind + "{stage=\"" + name + "\"}");
  };
  CHECK(stage("count", "received") == "0");
  CHECK(stage("count", "queued") == "1");
  CHECK(std::stod(stage("sum", "queued")) == Approx(3e-6));
  CHECK(stage("count", "attached") == "0");
  CHECK(std::stod(stage("sum", "sent")) == Approx(100e-6));
  CHECK(stage("count", "woken") == "1");
  CHECK(std::stod(stage("sum", "woken")) == 0);
}

TEST_CASE("the text says which version runs and what the process uses") {
  Metrics metrics;
  const auto number = [&](const std::string& name) {
    return std::stod(value_of(metrics.text(), name));
  };
  CHECK(value_of(metrics.text(), "brood_build_info{version=\"" BROOD_VERSION "\"}") == "1");
  CHECK(number("process_resident_memory_bytes") > 1e6);
  CHECK(number("process_max_fds") > number("process_open_fds"));
  const double start = number("process_start_time_seconds");
  const auto now = static_cast<double>(::time(nullptr));
  CHECK(start <= now + 1);
  CHECK(start > now - 600);
  const double fds = number("process_open_fds");
  const auto one_more = base::open_at(AT_FDCWD, "/dev/null", O_RDONLY).value();
  CHECK(number("process_open_fds") == fds + 1);
  const double cpu = number("process_cpu_seconds_total");
  CHECK(cpu > 0);
  while (::clock() < static_cast<clock_t>((cpu + 0.05) * CLOCKS_PER_SEC)) {
  }
  CHECK(number("process_cpu_seconds_total") >= cpu + 0.04);
}

TEST_CASE("each family has its help and type once") {
  Metrics metrics;
  const auto f = metrics.function("f");
  const auto g = metrics.function("g");
  const std::string text = metrics.text();
  const auto count = [&](const std::string& line) {
    std::size_t found = 0;
    for (auto at = text.find(line); at != std::string::npos; at = text.find(line, at + 1)) {
      ++found;
    }
    return found;
  };
  CHECK(count("# TYPE brood_invocations_total counter\n") == 1);
  CHECK(count("# TYPE brood_invocation_duration_seconds histogram\n") == 1);
  CHECK(count("# TYPE brood_stage_seconds histogram\n") == 1);
  CHECK(count("# TYPE brood_queue_length gauge\n") == 1);
  CHECK(count("# HELP brood_invocations_total ") == 1);
}

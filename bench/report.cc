#include "bench/report.h"

#include <array>
#include <cstdio>
#include <nlohmann/json.hpp>

namespace bench {
namespace {

using Json = nlohmann::ordered_json;

template <typename... Values>
std::string print(const char* format, Values... values) {
  std::array<char, 512> text{};
  std::snprintf(text.data(), text.size(), format, values...);
  return text.data();
}

// Three significant digits are more than a machine repeats; a tenth of a microsecond is kept.
double rounded(double value) {
  return std::round(value * 10) / 10;
}

Json p50_or_null(Samples& samples) {
  return samples.empty() ? Json() : Json(rounded(samples.p50_us()));
}

Json ratio(double of, double to) {
  return to > 0 ? Json(std::round(of / to * 100) / 100) : Json();
}

Json thousandths(double of, double to) {
  return to > 0 ? Json(std::round(of / to * 1000) / 1000) : Json();
}

Json microseconds(const Samples& samples) {
  Json list = Json::array();
  for (const std::int64_t ns : samples.nanoseconds()) {
    list.push_back(rounded(static_cast<double>(ns) / 1000));
  }
  return list;
}

std::string joined(const std::vector<std::string>& words) {
  std::string text;
  for (const std::string& word : words) {
    text += (text.empty() ? "" : ", ") + word;
  }
  return text;
}

}  // namespace

std::string as_json(const Options& options, Measured& measured, const Machine& machine) {
  Samples& all = measured.invocations;
  Json stages = Json::object();
  Json slow_stages = Json::object();
  for (auto& [name, samples] : measured.stages) {
    stages[name] = rounded(samples.p50_us());
    slow_stages[name] = rounded(samples.quantile_us(0.99));
  }
  Json report = {
      {"mode", mode_name(options.mode)},
      {"count", all.count()},
      {"p50_us", rounded(all.p50_us())},
      {"p90_us", rounded(all.quantile_us(0.9))},
      {"p99_us", rounded(all.quantile_us(0.99))},
      {"max_us", rounded(all.max_us())},
      {"fork_import_p50_us", p50_or_null(measured.fork_import)},
      {"unix_rtt_p50_us", p50_or_null(measured.unix_echo)},
      {"two_hops_p50_us", p50_or_null(measured.two_hops)},
      {"fork_import_to_p50", ratio(measured.fork_import.p50_us(), all.p50_us())},
      {"p50_to_unix_rtt", ratio(all.p50_us(), measured.unix_echo.p50_us())},
      {"p50_to_two_hops", ratio(all.p50_us(), measured.two_hops.p50_us())},
      {"p50_to_fork_import", thousandths(all.p50_us(), measured.fork_import.p50_us())},
      {"exhausted", measured.exhausted},
      {"stages_p50_us", stages},
      {"stages_p99_us", slow_stages},
      {"fork_import_count", measured.fork_import.count()},
      {"unix_rtt_count", measured.unix_echo.count()},
      {"warmup", options.warmup},
      {"payload_bytes", options.payload_bytes},
      {"pause_ms", options.pause_ms ? Json(*options.pause_ms) : Json()},
      {"runtime", options.runtime},
      {"image", measured.runtime.image_digest},
      {"agent", measured.agent.version},
      {"limits", measured.agent.limits},
      {"limits_not_enforced", measured.agent.limits_not_enforced},
      {"in_force", measured.in_force},
      {"machine",
       {{"cpus", machine.cpus},
        {"cpu_model", machine.cpu_model},
        {"kernel", machine.kernel},
        {"load_1m", machine.load}}},
  };
  if (!measured.fork_import_problem.empty()) {
    report["fork_import_problem"] = measured.fork_import_problem;
  }
  if (options.samples == SamplesToo::yes) {
    report["samples_us"] = {{"invocations", microseconds(all)},
                            {"fork_import", microseconds(measured.fork_import)},
                            {"two_hops", microseconds(measured.two_hops)}};
  }
  return report.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n";
}

std::string as_text(const Options& options, Measured& measured, const Machine& machine) {
  Samples& all = measured.invocations;
  std::string text =
      print("%zu %s invocations, one at a time, %zu bytes each\n\n", all.count(),
            mode_name(options.mode).c_str(), options.payload_bytes) +
      print("  %10s %10s %10s %10s\n  %10.1f %10.1f %10.1f %10.1f  us\n\n", "p50", "p90", "p99",
            "max", all.p50_us(), all.quantile_us(0.9), all.quantile_us(0.99), all.max_us());
  if (measured.exhausted > 0) {
    text += print("  %zu of them found the pool empty and waited for a sandbox to be made\n\n",
                  measured.exhausted);
  }
  if (measured.fork_import_problem.empty()) {
    text +=
        print("  %-44s %10.1f us  %6.2f times p50\n", "fork of a booted interpreter, import, call",
              measured.fork_import.p50_us(), measured.fork_import.p50_us() / all.p50_us());
  } else {
    text += "  fork of a booted interpreter: not measured: " + measured.fork_import_problem + "\n";
  }
  text += print("  %-44s %10.1f us  %6.2f times p50\n", "Unix socket round trip, 128 bytes",
                measured.unix_echo.p50_us(), measured.unix_echo.p50_us() / all.p50_us());
  text += print("  %-44s %10.1f us  %6.2f times p50\n\n", "the same through a process between",
                measured.two_hops.p50_us(), measured.two_hops.p50_us() / all.p50_us());
  text += "  the time up to each stage from the one before, p50 and p99\n";
  for (auto& [name, samples] : measured.stages) {
    text += print("    %-12s %10.1f %10.1f us\n", name.c_str(), samples.p50_us(),
                  samples.quantile_us(0.99));
  }
  text += print("\n  %ld CPUs, %s, Linux %s, load %.2f\n", machine.cpus, machine.cpu_model.c_str(),
                machine.kernel.c_str(), machine.load);
  text += "  brood " + measured.agent.version + ", runtime " + options.runtime + ", limits " +
          measured.agent.limits;
  if (!measured.agent.limits_not_enforced.empty()) {
    text += " (not enforced here: " + joined(measured.agent.limits_not_enforced) + ")";
  }
  return text + "\n  in force in the sandbox: " + joined(measured.in_force) + "\n";
}

std::string as_lines(const nlohmann::ordered_json& figures) {
  std::string text;
  for (const auto& [name, value] : figures.items()) {
    text += print("  %-34s ", name.c_str()) +
            (value.is_string() ? value.get<std::string>() : value.dump()) + "\n";
  }
  return text;
}

}  // namespace bench

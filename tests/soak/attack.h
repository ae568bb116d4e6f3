// What a neighbour does to a host, one resource at a time, from inside a sandbox or at the agent's
// door; and a latency that is measured meanwhile.
#pragma once

#include <array>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <thread>

namespace soak {

enum class From {
  sandbox,  // a function does it for as long as it runs
  cold,     // invocations that each need a sandbox and fail
  client    // connections to the agent that say nothing, opened and closed
};
// On a host that holds no function to its limits some attacks would be on the host itself.
enum class Needs { nothing, limits };

// What is not within the promise yet is measured and printed, and fails nothing.
enum class Promise { held, not_yet };

struct Attack {
  const char* name;
  const char* does;  // tests/functions/noise.py
  From from = From::sandbox;
  Needs needs = Needs::nothing;
  const char* ending = "ok";
  Promise promise = Promise::held;
};

inline constexpr std::array kAttacks{
    Attack{"cpu, 16 busy processes", "spin", From::sandbox, Needs::limits},
    Attack{"memory, below its limit", "memory", From::sandbox, Needs::limits},
    Attack{"memory, over its limit", "too_much_memory", From::sandbox, Needs::limits,
           "out_of_memory"},
    Attack{"fork bomb", "fork_bomb", From::sandbox, Needs::limits},
    Attack{"scratch space, filled", "files"},
    Attack{"pipe and socket buffers", "buffers", From::sandbox, Needs::limits},
    Attack{"output, long lines", "output"},
    Attack{"output, empty lines", "short_lines"},
    Attack{"descriptors", "descriptors"},
    Attack{"inotify and epoll", "watches", From::sandbox, Needs::limits},
    Attack{"System V ipc", "ipc", From::sandbox, Needs::limits},
    Attack{"connections", "", From::client},
    Attack{"cold starts that fail", "fail", From::cold, Needs::nothing, "handler_error",
           Promise::not_yet},
};

// The function that attacks from inside, and the one that is cold each time.
inline constexpr const char* kNoise = "noise";
inline constexpr const char* kColdNoise = "noise-cold";

// The attack, from now until this goes: at most a second after it is told. One client.
class Attacker {
 public:
  Attacker(const Attack& attack, std::string socket_path);
  ~Attacker() { stop(); }
  Attacker(const Attacker&) = delete;
  Attacker& operator=(const Attacker&) = delete;

  void stop();
  // How often it was carried out as it was meant to be; how it ended when it was not.
  std::uint64_t done() const { return done_; }
  const std::string& problem() const { return problem_; }  // after `stop`

 private:
  void invoke_again_and_again();
  void flood_with_connections();

  const Attack& attack_;
  const std::string socket_path_;
  std::atomic<bool> stopping_{false};
  std::atomic<std::uint64_t> done_{0};
  std::string problem_;
  std::thread thread_;
};

}  // namespace soak

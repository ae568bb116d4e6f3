// What a soak is made of: kinds of invocations, how many of each, and what the answer to each must
// be. Pure.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace soak {

enum class Kind : std::uint8_t { warm, raising, oversized, overloaded, cold, late, killed, hungry };
constexpr std::size_t kKinds = 8;

struct Recipe {
  const char* name;
  const char* function;    // which of the deployed ones
  const char* does;        // "end" of the event, tests/functions/soak.py
  std::uint32_t parts;     // of a million
  const char* ending;      // Brood-Ending
  const char* start;       // Brood-Start; empty: no sandbox is used, so it is not there
  std::string_view proof;  // what the body holds, with "TAG" for the invocation's own
};

// A sandbox that ends costs its host some fifty times what a warm invocation does, so nearly all
// are warm: a million would otherwise be an hour's work.
inline constexpr std::array<Recipe, kKinds> kRecipes{{
    {"warm", "soak-warm", "value", 979'600, "ok", "warm", "\"TAG\""},
    {"raising", "soak-warm", "raise", 10'000, "handler_error", "warm", "TAG"},
    {"oversized", "soak-warm", "large", 1'000, "response_too_large", "warm", "response_too_large"},
    {"overloaded", "soak-full", "value", 4'000, "overloaded", "", "overloaded"},
    {"cold", "soak-cold", "value", 4'000, "ok", "cold", "\"TAG\""},
    {"late", "soak-late", "sleep", 400, "timeout", "cold", "timeout"},
    {"killed", "soak-cold", "signal", 600, "killed", "cold", "SIGKILL"},
    {"hungry", "soak-hungry", "memory", 400, "out_of_memory", "cold", "out_of_memory"},
}};

constexpr const Recipe& recipe_of(Kind kind) {
  return kRecipes[static_cast<std::size_t>(kind)];
}

// `count` kinds in their proportions, at least one of each, in an order that `seed` decides.
std::vector<Kind> deal(std::uint64_t count, std::uint64_t seed);

// The request for one invocation, head and body.
std::string request_for(Kind kind, const std::string& tag);

struct Seen {
  std::string_view ending;
  std::string_view start;
  std::string_view body;
};
// What is wrong with the answer to the invocation of this tag; empty: nothing.
std::string judge(Kind kind, const std::string& tag, const Seen& seen);

}  // namespace soak

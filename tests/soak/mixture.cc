#include "tests/soak/mixture.h"

#include <algorithm>
#include <random>

#include "bench/http.h"

namespace soak {
namespace {

constexpr std::uint64_t kMillion = 1'000'000;
constexpr std::string_view kTag = "TAG";

std::string proof_of(const Recipe& recipe, const std::string& tag) {
  std::string proof(recipe.proof);
  if (const auto at = proof.find(kTag); at != std::string::npos) {
    proof.replace(at, kTag.size(), tag);
  }
  return proof;
}

}  // namespace

std::vector<Kind> deal(std::uint64_t count, std::uint64_t seed) {
  std::vector<Kind> kinds;
  kinds.reserve(count);
  for (std::size_t i = 1; i < kKinds; ++i) {
    const std::uint64_t share = (count * kRecipes[i].parts + kMillion - 1) / kMillion;
    kinds.insert(kinds.end(), share, static_cast<Kind>(i));
  }
  kinds.resize(std::max<std::uint64_t>(count, kinds.size()), Kind::warm);
  std::mt19937_64 random(seed);
  std::shuffle(kinds.begin(), kinds.end(), random);
  return kinds;
}

std::string request_for(Kind kind, const std::string& tag) {
  const Recipe& recipe = recipe_of(kind);
  const std::string body = R"({"end":")" + std::string(recipe.does) + R"(","tag":")" + tag + "\"}";
  return bench::request_of("POST", "/functions/" + std::string(recipe.function) + "/invocations",
                           body, "Content-Type: application/json\r\n");
}

std::string judge(Kind kind, const std::string& tag, const Seen& seen) {
  const Recipe& recipe = recipe_of(kind);
  const std::string proof = proof_of(recipe, tag);
  const bool started = seen.start == recipe.start;
  const bool whole = seen.ending != "ok" || seen.body == proof;
  if (seen.ending == recipe.ending && started && whole &&
      seen.body.find(proof) != std::string_view::npos) {
    return {};
  }
  return tag + " (" + recipe.name + "): " + std::string(seen.ending) + " " +
         std::string(seen.start) + ": " + std::string(seen.body.substr(0, 200));
}

}  // namespace soak

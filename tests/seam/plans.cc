// The plans of a test agent: those of the product, changed by the environment (README.md).
#include <cstdio>
#include <cstdlib>
#include <string>
#include <string_view>

#include "isolate/spec.h"

namespace isolate {

// What --wrap makes of the two (CMakeLists.txt): the product's own, and what is called instead.
base::Result<Plan> real_plan_sandbox(const SandboxSpec& spec, const Features& features) __asm__(
    "__real__ZN7isolate12plan_sandboxERKNS_11SandboxSpecERKNS_8FeaturesE");
base::Result<Plan> real_plan_zygote(const ZygoteSpec& spec, const Features& features) __asm__(
    "__real__ZN7isolate11plan_zygoteERKNS_10ZygoteSpecERKNS_8FeaturesE");
base::Result<Plan> seam_plan_sandbox(const SandboxSpec& spec, const Features& features) __asm__(
    "__wrap__ZN7isolate12plan_sandboxERKNS_11SandboxSpecERKNS_8FeaturesE");
base::Result<Plan> seam_plan_zygote(const ZygoteSpec& spec, const Features& features) __asm__(
    "__wrap__ZN7isolate11plan_zygoteERKNS_10ZygoteSpecERKNS_8FeaturesE");

namespace {

[[noreturn]] void refuse(std::string_view variable, std::string_view word) {
  std::fprintf(stderr, "broodd-seam: %.*s: there is no step '%.*s' in the plan\n",
               static_cast<int>(variable.size()), variable.data(), static_cast<int>(word.size()),
               word.data());
  std::exit(2);
}

template <typename Use>
void for_each_word(const char* variable, Use use) {
  const char* text = std::getenv(variable);
  std::string_view rest = text != nullptr ? text : "";
  while (!rest.empty()) {
    const auto comma = rest.find(',');
    use(rest.substr(0, comma));
    rest = comma == std::string_view::npos ? "" : rest.substr(comma + 1);
  }
}

std::uint32_t place_of(const Plan& plan, const char* variable, std::string_view name) {
  for (std::uint32_t i = 0; i < plan.step_count; ++i) {
    if (name == step_name(plan.steps[i])) {
      return i;
    }
  }
  refuse(variable, name);
}

void skip_steps(Plan& plan, const char* variable) {
  for_each_word(variable, [&](std::string_view name) {
    for (std::uint32_t i = place_of(plan, variable, name) + 1; i < plan.step_count; ++i) {
      plan.steps[i - 1] = plan.steps[i];
    }
    --plan.step_count;
  });
}

void fail_steps(Plan& plan, const char* variable) {
  for_each_word(variable, [&](std::string_view word) {
    const auto colon = word.find(':');
    const int error = colon == std::string_view::npos
                          ? 0
                          : std::atoi(std::string(word.substr(colon + 1)).c_str());
    if (error <= 0) {
      refuse(variable, word);
    }
    Step& step = plan.steps[place_of(plan, variable, word.substr(0, colon))];
    step = static_cast<Step>(static_cast<std::uint32_t>(step) | static_cast<std::uint32_t>(error)
                                                                    << 16);
  });
}

}  // namespace

base::Result<Plan> seam_plan_sandbox(const SandboxSpec& spec, const Features& features) {
  BROOD_TRY(Plan plan, real_plan_sandbox(spec, features));
  skip_steps(plan, "BROOD_SEAM_SKIP");
  fail_steps(plan, "BROOD_SEAM_FAIL");
  return plan;
}

base::Result<Plan> seam_plan_zygote(const ZygoteSpec& spec, const Features& features) {
  BROOD_TRY(Plan plan, real_plan_zygote(spec, features));
  fail_steps(plan, "BROOD_SEAM_FAIL_ZYGOTE");
  return plan;
}

}  // namespace isolate

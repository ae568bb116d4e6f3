// The plans of a test agent: those of the product, changed by the environment (README.md).
#include <sched.h>

#include <cstdio>
#include <cstdlib>
#include <cstring>
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
  std::fprintf(stderr, "broodd-seam: %.*s: '%.*s' is nothing that the plan has\n",
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

struct Namespace {
  const char* name;
  std::uint64_t flag;
};
constexpr Namespace kNamespaces[] = {
    {"net", CLONE_NEWNET}, {"ipc", CLONE_NEWIPC}, {"uts", CLONE_NEWUTS}};

// Left out of the clone, so that the process stays in its parent's.
void share_namespaces(Plan& plan, const char* variable) {
  for_each_word(variable, [&](std::string_view name) {
    for (const Namespace& known : kNamespaces) {
      if (name == known.name) {
        plan.clone_flags &= ~known.flag;
        return;
      }
    }
    refuse(variable, name);
  });
}

template <std::size_t size>
void replace_text(char (&text)[size], const char* variable) {
  const char* other = std::getenv(variable);
  if (other == nullptr) {
    return;
  }
  if (std::strlen(other) >= size) {
    refuse(variable, other);
  }
  std::strcpy(text, other);
}

}  // namespace

base::Result<Plan> seam_plan_sandbox(const SandboxSpec& spec, const Features& features) {
  BROOD_TRY(Plan plan, real_plan_sandbox(spec, features));
  skip_steps(plan, "BROOD_SEAM_SKIP");
  fail_steps(plan, "BROOD_SEAM_FAIL");
  share_namespaces(plan, "BROOD_SEAM_SHARE");
  replace_text(plan.scratch_options, "BROOD_SEAM_SCRATCH");
  replace_text(plan.proc_options, "BROOD_SEAM_PROC");
  return plan;
}

base::Result<Plan> seam_plan_zygote(const ZygoteSpec& spec, const Features& features) {
  BROOD_TRY(Plan plan, real_plan_zygote(spec, features));
  skip_steps(plan, "BROOD_SEAM_SKIP_ZYGOTE");
  fail_steps(plan, "BROOD_SEAM_FAIL_ZYGOTE");
  share_namespaces(plan, "BROOD_SEAM_SHARE_ZYGOTE");
  return plan;
}

}  // namespace isolate

#include <sys/resource.h>

#include <algorithm>
#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <cstring>
#include <memory>
#include <set>
#include <string>

#include "isolate/child.h"
#include "isolate/spec.h"

using isolate::Step;

namespace {

const isolate::Features kModern{.landlock_abi = 6, .last_capability = 40, .seccomp_notify = true};
const isolate::Filter kFilter(10, sock_filter{});

isolate::Plan sandbox_plan(isolate::Features features = kModern) {
  return isolate::plan_sandbox({.filter = kFilter}, features).value();
}

std::size_t place(const isolate::Plan& plan, Step step) {
  const auto* end = plan.steps + plan.step_count;
  return static_cast<std::size_t>(std::find(plan.steps, end, step) - plan.steps);
}

bool has(const isolate::Plan& plan, Step step) {
  return place(plan, step) < plan.step_count;
}

}  // namespace

TEST_CASE("a sandbox's plan makes every step once") {
  const isolate::Plan plan = sandbox_plan();
  const std::set<Step> steps(plan.steps, plan.steps + plan.step_count);
  CHECK(steps.size() == plan.step_count);
  CHECK_FALSE(steps.contains(Step::none));
}

TEST_CASE("a place for layers is made where it is asked for, before the root is entered") {
  CHECK(place(sandbox_plan(), Step::layers) == sandbox_plan().step_count);
  const isolate::Plan with =
      isolate::plan_sandbox({.layers = true, .filter = kFilter}, kModern).value();
  CHECK(place(with, Step::layers) == place(with, Step::code) + 1);
  CHECK(place(with, Step::layers) < place(with, Step::enter_root));
}

TEST_CASE("what needs a power comes before the power is dropped") {
  const isolate::Plan plan = sandbox_plan();
  for (const Step mount : {Step::scratch, Step::overlay, Step::devices, Step::proc, Step::mask_proc,
                           Step::code, Step::enter_root, Step::hostname, Step::loopback}) {
    INFO(isolate::step_name(mount));
    CHECK(place(plan, mount) < place(plan, Step::bounding_set));
  }
  CHECK(place(plan, Step::bounding_set) < place(plan, Step::final_identity));
  CHECK(place(plan, Step::final_identity) < place(plan, Step::capabilities));
  CHECK(place(plan, Step::no_new_privileges) < place(plan, Step::landlock));
  CHECK(place(plan, Step::landlock) < place(plan, Step::seccomp));
  CHECK(place(plan, Step::seccomp) == plan.step_count - 1);
}

TEST_CASE("the proc of the new namespace is mounted while a whole one is still in sight") {
  const isolate::Plan plan = sandbox_plan();
  CHECK(place(plan, Step::proc) < place(plan, Step::enter_root));
  CHECK(place(plan, Step::proc) < place(plan, Step::mask_proc));
}

TEST_CASE("a sandbox keeps no capability, a zygote the two that map its sandboxes' users") {
  CHECK(sandbox_plan().keep_capabilities == 0);
  const isolate::Plan zygote = isolate::plan_zygote({.filter = kFilter}, kModern).value();
  CHECK(zygote.keep_capabilities == ((1ULL << 6) | (1ULL << 7)));  // CAP_SETGID, CAP_SETUID
  CHECK(zygote.steps[zygote.step_count - 1] == Step::die_with_agent);
  // With nsdelegate it could not put a sandbox into a cgroup beside its own.
  CHECK_FALSE(has(zygote, Step::cgroup_namespace));
  CHECK(has(sandbox_plan(), Step::cgroup_namespace));
}

TEST_CASE("no process of brood's starts the host's core dump helper") {
  // 0 would not do: the kernel takes only 1 as "none" for a core_pattern that is a pipe.
  for (const isolate::Plan& plan :
       {sandbox_plan(), isolate::plan_zygote({.filter = kFilter}, kModern).value()}) {
    const auto* end = plan.rlimits + plan.rlimit_count;
    const auto* core = std::find_if(plan.rlimits, end, [](const isolate::Rlimit& limit) {
      return limit.resource == RLIMIT_CORE;
    });
    REQUIRE(core != end);
    CHECK(core->soft == 1);
    CHECK(core->hard == 1);
  }
}

TEST_CASE("a kernel without Landlock gets a plan without that step") {
  CHECK(has(sandbox_plan(), Step::landlock));
  CHECK_FALSE(has(sandbox_plan({.landlock_abi = 0, .last_capability = 40, .seccomp_notify = true}),
                  Step::landlock));
}

TEST_CASE("Landlock is asked only for what the kernel's version knows") {
  const auto handled = [](std::uint32_t abi) {
    return sandbox_plan({.landlock_abi = abi, .last_capability = 40, .seccomp_notify = true})
        .landlock.handled;
  };
  CHECK(handled(1) == (1ULL << 13) - 1);
  CHECK(handled(2) == (1ULL << 14) - 1);
  CHECK(handled(3) == (1ULL << 15) - 1);
  CHECK(handled(5) == (1ULL << 16) - 1);
  CHECK(sandbox_plan({.landlock_abi = 5, .last_capability = 40}).landlock.scoped == 0);
  CHECK(sandbox_plan().landlock.scoped == 3);
}

TEST_CASE("a specification without a bound is refused") {
  CHECK_FALSE(isolate::plan_sandbox({.scratch_bytes = 0, .filter = kFilter}, kModern));
  CHECK_FALSE(isolate::plan_sandbox({.filter = {}}, kModern));
  CHECK_FALSE(isolate::plan_sandbox({.filter = isolate::Filter(isolate::kMaxFilter + 1)}, kModern));
}

TEST_CASE("a resolver is an address, and has a step only where there is one") {
  CHECK_FALSE(has(sandbox_plan(), Step::resolver));
  const auto plan =
      isolate::plan_sandbox({.resolver = "10.231.0.1", .filter = kFilter}, kModern).value();
  CHECK(has(plan, Step::resolver));
  CHECK(std::string(plan.resolver) == "nameserver 10.231.0.1\n");
  for (const char* address : {"10.0.0.1\noptions x", "example.com", "10.0.0.1 "}) {
    CHECK_FALSE(isolate::plan_sandbox({.resolver = address, .filter = kFilter}, kModern));
  }
  CHECK_FALSE(
      isolate::plan_sandbox({.resolver = std::string(80, '1'), .filter = kFilter}, kModern));
}

TEST_CASE("bytes that are no plan are refused before any step") {
  brood_child_values values{};
  brood_setup_report report{};
  isolate::Plan plan = sandbox_plan();
  CHECK(brood_enter(&plan, sizeof plan - 1, &values, &report) == EINVAL);
  plan.magic ^= 1;
  CHECK(brood_enter(&plan, sizeof plan, &values, &report) == EINVAL);
  plan = sandbox_plan();
  plan.step_count = BROOD_MAX_STEPS + 1;
  CHECK(brood_enter(&plan, sizeof plan, &values, &report) == EINVAL);
  CHECK(report.steps_done == 0);
}

TEST_CASE("the child side needs nothing of libc but system calls") {
  const std::set<std::string> allowed = {"__errno_location", "syscall", "strlen", "memset",
                                         "memcpy"};
  const std::unique_ptr<FILE, int (*)(FILE*)> nm(::popen("nm -u " BROOD_CHILD_ARCHIVE, "r"),
                                                 ::pclose);
  REQUIRE(nm != nullptr);
  std::array<char, 256> line{};
  int seen = 0;
  while (std::fgets(line.data(), line.size(), nm.get()) != nullptr) {
    const std::string text = line.data();
    const auto at = text.find(" U ");
    if (at == std::string::npos) {
      continue;
    }
    const std::string symbol = text.substr(at + 3, text.find('\n') - at - 3);
    INFO(symbol);
    CHECK(allowed.contains(symbol));
    ++seen;
  }
  CHECK(seen >= 2);
}

#include "agent/powers.h"

#include <linux/filter.h>
#include <linux/seccomp.h>
#include <sys/capability.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "isolate/seccomp.h"

namespace agent {
namespace {

using base::fail_because;
using base::fail_errno;
using base::Status;

Status check_alone() {
  std::error_code error;
  const std::filesystem::directory_iterator threads("/proc/self/task", error);
  if (error || std::distance(begin(threads), end(threads)) != 1) {
    return fail_because("powers are given up by one thread, before there are others");
  }
  return {};
}

using Kept = std::vector<cap_value_t>;

Status shrink_bounding_set(const Kept& all_kept) {
  for (cap_value_t capability = 0; CAP_IS_SUPPORTED(capability); ++capability) {
    const bool kept = std::find(all_kept.begin(), all_kept.end(), capability) != all_kept.end();
    if (!kept && ::cap_drop_bound(capability) != 0) {
      return fail_errno("drop from the bounding set", std::to_string(capability));
    }
  }
  return {};
}

using Capabilities = std::unique_ptr<_cap_struct, decltype([](cap_t caps) { ::cap_free(caps); })>;

// Only what is there is kept: root of a container may lack some, and then says so when it is asked
// for what needs it.
Status shrink_sets(const Kept& all_kept) {
  const Capabilities have(::cap_get_proc());
  const Capabilities kept(::cap_init());
  if (!have || !kept) {
    return fail_errno("cap_get_proc");
  }
  for (const cap_value_t capability : all_kept) {
    cap_flag_value_t permitted = CAP_CLEAR;
    if (::cap_get_flag(have.get(), capability, CAP_PERMITTED, &permitted) == 0 &&
        permitted == CAP_SET) {
      ::cap_set_flag(kept.get(), CAP_PERMITTED, 1, &capability, CAP_SET);
      ::cap_set_flag(kept.get(), CAP_EFFECTIVE, 1, &capability, CAP_SET);
    }
  }
  if (::cap_reset_ambient() != 0) {
    return fail_errno("cap_reset_ambient");
  }
  if (::cap_set_proc(kept.get()) != 0) {
    return fail_errno("cap_set_proc");
  }
  return {};
}

Status filter_calls() {
  isolate::Filter filter = isolate::agent_filter();
  const sock_fprog program{static_cast<unsigned short>(filter.size()), filter.data()};
  if (::prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) != 0) {
    return fail_errno("load the agent's seccomp filter");
  }
  return {};
}

}  // namespace

Status give_up_powers(std::initializer_list<int> besides) {
  Kept kept(kKeptCapabilities.begin(), kKeptCapabilities.end());
  kept.insert(kept.end(), besides.begin(), besides.end());
  BROOD_CHECK(check_alone());
  BROOD_CHECK(shrink_bounding_set(kept));
  BROOD_CHECK(shrink_sets(kept));
  if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
    return fail_errno("prctl", "PR_SET_NO_NEW_PRIVS");
  }
  return filter_calls();
}

}  // namespace agent

// The filter that an agent loads for itself, left out where a test says so (README.md).
#include <linux/filter.h>
#include <linux/seccomp.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

#include "isolate/seccomp.h"

// What --wrap makes of isolate::agent_filter (CMakeLists.txt).
isolate::Filter real_agent_filter() __asm__("__real__ZN7isolate12agent_filterEv");
isolate::Filter wrapped_agent_filter() __asm__("__wrap__ZN7isolate12agent_filterEv");

isolate::Filter wrapped_agent_filter() {
  const char* text = std::getenv("BROOD_SEAM_SKIP_AGENT");
  const std::string_view skipped = text != nullptr ? text : "";
  if (skipped.empty()) {
    return real_agent_filter();
  }
  if (skipped != "seccomp") {
    std::fprintf(stderr, "broodd-seam: BROOD_SEAM_SKIP_AGENT: '%s' is not 'seccomp'\n", text);
    std::exit(2);
  }
  return {sock_filter BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW)};
}

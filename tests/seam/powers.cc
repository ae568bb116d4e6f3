// The filter that an agent loads for itself, left out where a test says so (README.md).
#include <seccomp.h>

#include <cstdio>
#include <cstdlib>
#include <string_view>

// What --wrap makes of seccomp_load (CMakeLists.txt). The filters of sandboxes and zygotes are not
// loaded by it: theirs are steps of a plan.
extern "C" {
int __real_seccomp_load(scmp_filter_ctx filter);
int __wrap_seccomp_load(scmp_filter_ctx filter);
}

extern "C" int __wrap_seccomp_load(scmp_filter_ctx filter) {
  const char* text = std::getenv("BROOD_SEAM_SKIP_AGENT");
  const std::string_view skipped = text != nullptr ? text : "";
  if (skipped.empty()) {
    return __real_seccomp_load(filter);
  }
  if (skipped != "seccomp") {
    std::fprintf(stderr, "broodd-seam: BROOD_SEAM_SKIP_AGENT: '%s' is not 'seccomp'\n", text);
    std::exit(2);
  }
  return 0;
}

#include "cmd/give_up.h"

#include <grp.h>
#include <sys/capability.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <string>

namespace cmd {

using base::fail_because;
using base::fail_errno;
using base::Status;

namespace {

using Filter = std::unique_ptr<void, decltype([](scmp_filter_ctx ctx) { ::seccomp_release(ctx); })>;

Status empty_bounding_set() {
  for (cap_value_t cap = 0; CAP_IS_SUPPORTED(cap); ++cap) {
    if (::cap_drop_bound(cap) != 0) {
      return fail_errno("drop from the bounding set", std::to_string(cap));
    }
  }
  return {};
}

Status become_user(uid_t uid, gid_t gid) {
  if (::setgroups(0, nullptr) != 0) {
    return fail_errno("setgroups");
  }
  if (::setresgid(gid, gid, gid) != 0) {
    return fail_errno("setresgid", std::to_string(gid));
  }
  if (::setresuid(uid, uid, uid) != 0) {
    return fail_errno("setresuid", std::to_string(uid));
  }
  return {};
}

using Capabilities = std::unique_ptr<_cap_struct, decltype([](cap_t caps) { ::cap_free(caps); })>;

Status drop_capabilities() {
  const Capabilities none(::cap_init());
  if (!none || ::cap_set_proc(none.get()) != 0) {
    return fail_errno("cap_set_proc");
  }
  if (::cap_reset_ambient() != 0) {
    return fail_errno("cap_reset_ambient");
  }
  const Capabilities left(::cap_get_proc());
  if (!left || ::cap_compare(left.get(), none.get()) != 0 || ::setresuid(0, 0, 0) == 0) {
    return fail_because("privileges are left after all were dropped");
  }
  return {};
}

}  // namespace

Status lower_limit(__rlimit_resource_t resource, const char* name, rlim_t soft, rlim_t hard) {
  rlimit current{};
  if (::getrlimit(resource, &current) != 0) {
    return fail_errno("getrlimit", name);
  }
  const rlimit wanted{.rlim_cur = std::min(soft, current.rlim_max),
                      .rlim_max = std::min(hard, current.rlim_max)};
  if (::setrlimit(resource, &wanted) != 0) {
    return fail_errno("setrlimit", name);
  }
  return {};
}

Status enter_root(int root_fd) {
  if (::fchdir(root_fd) != 0) {
    return fail_errno("fchdir", "the root that it was given");
  }
  if (::chroot(".") != 0) {
    return fail_errno("chroot", "the root that it was given");
  }
  return {};
}

Status allow_only(int (*fill)(scmp_filter_ctx filter)) {
  const Filter filter(::seccomp_init(SCMP_ACT_KILL_PROCESS));
  if (!filter) {
    return fail_because("seccomp_init failed");
  }
  if (const int error = fill(filter.get()); error != 0) {
    return base::fail(base::Error("build the seccomp filter", -error));
  }
  if (const int error = ::seccomp_load(filter.get()); error != 0) {
    return base::fail(base::Error("load the seccomp filter", -error));
  }
  return {};
}

Status become_powerless(uid_t uid, gid_t gid) {
  BROOD_CHECK(empty_bounding_set());
  BROOD_CHECK(become_user(uid, gid));
  return drop_capabilities();
}

}  // namespace cmd

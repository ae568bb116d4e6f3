// Prints the compiled seccomp profiles, and what calls are named, as C++, for seccomp.cc. Run by
// the build; not installed.
#include <cstdio>
#include <cstdlib>

#include "isolate/profile.h"

namespace {

void print(const char* name, const base::Result<isolate::Filter>& filter) {
  if (!filter || filter->empty()) {
    std::fprintf(stderr, "brood-filters: %s: %s\n", name,
                 filter ? "it is empty" : filter.error().message().c_str());
    std::exit(1);  // NOLINT(concurrency-mt-unsafe): there is one
  }
  std::printf("constexpr sock_filter %s[] = {\n", name);
  for (const sock_filter& one : *filter) {
    std::printf("{%u, %u, %u, %u},\n", one.code, one.jt, one.jf, one.k);
  }
  std::printf("};\n");
}

}  // namespace

int main() {
  using isolate::Deadly;
  using isolate::SetId;
  print("kNotify", isolate::compile_sandbox_filter(Deadly::notify, SetId::allowed));
  print("kNotifyStrict", isolate::compile_sandbox_filter(Deadly::notify, SetId::refused));
  print("kKill", isolate::compile_sandbox_filter(Deadly::kill, SetId::allowed));
  print("kKillStrict", isolate::compile_sandbox_filter(Deadly::kill, SetId::refused));
  print("kZygote", isolate::compile_zygote_filter());
  print("kAgent", isolate::compile_agent_filter());
  std::printf("constexpr const char* kCallNames[] = {\n");
  for (const std::string& name : isolate::call_names()) {
    std::printf("\"%s\",\n", name.c_str());
  }
  std::printf("};\n");
  return std::fflush(stdout) == 0 ? 0 : 1;
}

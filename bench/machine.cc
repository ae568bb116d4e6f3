#include "bench/machine.h"

#include <sched.h>
#include <sys/utsname.h>

#include <cstdlib>

#include "base/file.h"

namespace bench {
namespace {

// "model name	: …"; some architectures have no such line.
std::string cpu_model() {
  const std::string text = base::read_file("/proc/cpuinfo", 4 << 20).value_or("");
  const auto key = text.find("model name");
  const auto colon = key == std::string::npos ? key : text.find(": ", key);
  if (colon == std::string::npos) {
    return "unknown";
  }
  return text.substr(colon + 2, text.find('\n', colon) - colon - 2);
}

}  // namespace

Machine this_machine() {
  Machine machine;
  cpu_set_t allowed;
  if (::sched_getaffinity(0, sizeof allowed, &allowed) == 0) {
    machine.cpus = CPU_COUNT(&allowed);
  }
  machine.cpu_model = cpu_model();
  utsname names{};
  ::uname(&names);
  machine.kernel = names.release;
  machine.load = std::strtod(base::read_file("/proc/loadavg").value_or("0").c_str(), nullptr);
  return machine;
}

}  // namespace bench

// What a figure is worth is told by the machine that it was seen on.
#pragma once

#include <string>

namespace bench {

struct Machine {
  long cpus = 0;  // that this process may run on
  std::string cpu_model;
  std::string kernel;
  double load = 0;  // the load average of the last minute: over `cpus`, others are being measured
};

Machine this_machine();

}  // namespace bench

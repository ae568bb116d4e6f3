// What scripts/soak asks of these programs, in the environment.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <string>

namespace soak {

inline std::uint64_t asked(const char* variable, std::uint64_t otherwise) {
  const char* value = std::getenv(variable);
  return value != nullptr && *value != '\0' ? std::stoull(value) : otherwise;
}

}  // namespace soak

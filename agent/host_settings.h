// The host's sysctls that decide how much a sandbox escape is worth. Pure: they are read through
// the function that is given.
#pragma once

#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "agent/host_check.h"

namespace agent {

// The value of a sysctl by its dotted name, without the newline; nullopt where this kernel has
// none.
using SettingReader = std::function<std::optional<std::string>(const std::string& name)>;

// `interfaces`: the names below net.ipv4.conf, "all" and "default" among them.
std::vector<HostFinding> judge_settings(const SettingReader& read,
                                        const std::vector<std::string>& interfaces);

}  // namespace agent

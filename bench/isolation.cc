#include "bench/isolation.h"

#include <unistd.h>

#include <array>
#include <nlohmann/json.hpp>

#include "bench/http.h"
#include "bench/programs.h"

namespace bench {
namespace {

using Json = nlohmann::json;

constexpr std::array kNamespaces = {"cgroup", "ipc", "mnt", "net", "pid", "user", "uts"};
constexpr std::size_t kCapabilitySets = 5;
constexpr char kNoCapability[] = "0000000000000000";
constexpr char kFilterMode[] = "2";  // SECCOMP_MODE_FILTER, as proc_pid_status(5) has it

std::vector<std::string> own_namespaces() {
  std::vector<std::string> names;
  for (const char* name : kNamespaces) {
    std::array<char, 64> target{};
    const ssize_t size = ::readlink((std::string("/proc/self/ns/") + name).c_str(), target.data(),
                                    target.size() - 1);
    if (size > 0) {
      names.emplace_back(target.data(), static_cast<std::size_t>(size));
    }
  }
  return names;
}

bool has_no_capability(const Json& look) {
  const Json sets = look.value("capabilities", Json::array());
  return sets.size() == kCapabilitySets &&
         std::all_of(sets.begin(), sets.end(),
                     [](const Json& set) { return set == kNoCapability; });
}

bool is_own_namespace(const Json& look, const char* name,
                      const std::vector<std::string>& own_namespaces) {
  const Json namespaces = look.value("namespaces", Json::object());
  const std::string inside = namespaces.value(name, "");
  return inside.rfind(std::string(name) + ":[", 0) == 0 &&
         std::find(own_namespaces.begin(), own_namespaces.end(), inside) == own_namespaces.end();
}

}  // namespace

base::Result<std::vector<std::string>> judge_isolation(
    std::string_view answer, const std::vector<std::string>& own_namespaces) {
  const Json look = Json::parse(answer, nullptr, false);
  if (!look.is_object()) {
    return base::fail_because("the sandbox's look at itself is no JSON object");
  }
  std::vector<std::pair<std::string, bool>> judged = {
      {"seccomp", look.value("seccomp", "") == kFilterMode},
      {"no_new_privs", look.value("no_new_privs", "") == "1"},
      {"no capability", has_no_capability(look)},
      {"overlay root", look.value("root", "") == "overlay"}};
  for (const char* name : kNamespaces) {
    judged.emplace_back(std::string("namespace ") + name,
                        is_own_namespace(look, name, own_namespaces));
  }
  std::vector<std::string> in_force;
  for (auto& [what, holds] : judged) {
    if (!holds) {
      return base::fail_because("not in force in the sandbox: " + what + "; it says " +
                                std::string(answer));
    }
    in_force.push_back(std::move(what));
  }
  return in_force;
}

base::Result<std::vector<std::string>> isolation_in_force(const std::string& socket_path,
                                                          const std::string& runtime, Reuse reuse) {
  constexpr char kName[] = "brood-bench-look";
  BROOD_TRY(
      const DeployedFunction deployed,
      DeployedFunction::deploy(
          socket_path,
          {.name = kName, .runtime = runtime, .source = std::string(kLookSource), .reuse = reuse}));
  BROOD_TRY(Connection agent, Connection::open(socket_path));
  BROOD_TRY(const Answer answer,
            agent.ask(request_of("POST", std::string("/functions/") + kName + "/invocations", "{}",
                                 "Content-Type: application/json\r\n")));
  if (answer.status != 200) {
    return base::fail_because("the sandbox could not look at itself: status " +
                              std::to_string(answer.status) + ": " + std::string(answer.body));
  }
  return judge_isolation(answer.body, own_namespaces());
}

}  // namespace bench

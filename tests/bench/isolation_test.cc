#include "bench/isolation.h"

#include <catch2/catch.hpp>
#include <nlohmann/json.hpp>

namespace {

using Json = nlohmann::json;

const std::vector<std::string> kOwn = {"cgroup:[1]", "ipc:[2]",  "mnt:[3]", "net:[4]",
                                       "pid:[5]",    "user:[6]", "uts:[7]"};

Json isolated() {
  const std::string none = "0000000000000000";
  return {{"seccomp", "2"},
          {"no_new_privs", "1"},
          {"capabilities", {none, none, none, none, none}},
          {"root", "overlay"},
          {"namespaces",
           {{"cgroup", "cgroup:[11]"},
            {"ipc", "ipc:[12]"},
            {"mnt", "mnt:[13]"},
            {"net", "net:[14]"},
            {"pid", "pid:[15]"},
            {"user", "user:[16]"},
            {"uts", "uts:[17]"}}}};
}

void check_refused(const Json& look, const std::string& what) {
  const auto judged = bench::judge_isolation(look.dump(), kOwn);
  REQUIRE_FALSE(judged);
  CHECK(judged.error().message().find("not in force in the sandbox: " + what) == 0);
}

TEST_CASE("a sandbox with everything in force is told piece by piece") {
  const auto judged = bench::judge_isolation(isolated().dump(), kOwn);
  REQUIRE(judged);
  CHECK(judged->size() == 11);
}

TEST_CASE("each piece that is missing is refused by name") {
  Json look = isolated();
  look["seccomp"] = "0";
  check_refused(look, "seccomp");
  look = isolated();
  look["no_new_privs"] = "0";
  check_refused(look, "no_new_privs");
  look = isolated();
  look["capabilities"][3] = "0000000000000001";
  check_refused(look, "no capability");
  look = isolated();
  look["capabilities"].erase(0);
  check_refused(look, "no capability");
  look = isolated();
  look["root"] = "ext4";
  check_refused(look, "overlay root");
  look = isolated();
  look["namespaces"]["net"] = "net:[4]";  // the caller's own
  check_refused(look, "namespace net");
  look = isolated();
  look["namespaces"].erase("user");
  check_refused(look, "namespace user");
  CHECK_FALSE(bench::judge_isolation("nothing", kOwn));
}

}  // namespace

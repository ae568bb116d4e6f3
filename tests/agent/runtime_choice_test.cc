#include "agent/runtime_choice.h"

#include <catch2/catch.hpp>

namespace {

using agent::choose_runtime;
using agent::imports_of;
using Imports = std::set<std::string>;

const std::vector<agent::RuntimeCandidate> kCandidates{{"data", {"json", "os", "numpy", "pandas"}},
                                                       {"numeric", {"json", "os", "numpy"}},
                                                       {"python3", {"json", "os"}},
                                                       {"pictures", {"json", "os", "PIL.Image"}}};

}  // namespace

TEST_CASE("the runtime that has loaded the most of what is imported is chosen") {
  CHECK(choose_runtime({"json", "numpy"}, kCandidates) == "numeric");
  CHECK(choose_runtime({"numpy", "pandas"}, kCandidates) == "data");
  CHECK(choose_runtime({"PIL"}, kCandidates) == "pictures");
  CHECK(choose_runtime({"numpy.linalg"}, kCandidates) == "numeric");
}

TEST_CASE("of several that fit alike the smallest is chosen, and python3 where nothing is gained") {
  CHECK(choose_runtime({"json"}, kCandidates) == "python3");
  CHECK(choose_runtime({}, kCandidates) == "python3");
  CHECK(choose_runtime({"no_such_module", "numpyish"}, kCandidates) == "python3");
  CHECK(choose_runtime({"x"}, {{"b", {"x"}}, {"a", {"x"}}}) == "a");
  CHECK(choose_runtime({"x"}, {}).empty());
}

TEST_CASE("what a sandbox says of imports is taken for names of modules, and nothing else") {
  CHECK(imports_of("json\nnumpy.linalg") == Imports{"json", "numpy.linalg"});
  CHECK(imports_of("") == Imports{});
  CHECK(imports_of("\n\n../x\na b\nok\n") == Imports{"ok"});
}

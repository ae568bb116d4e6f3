#include <array>
#include <catch2/catch.hpp>
#include <cstdio>
#include <memory>
#include <set>
#include <sstream>
#include <string>
#include <vector>

#include "tests/runtimes/python_process.h"

namespace {

struct Symbol {
  std::string name;
  std::string version;  // of glibc; empty for others
};

std::vector<Symbol> undefined_symbols() {
  const std::unique_ptr<FILE, int (*)(FILE*)> nm(
      ::popen("nm -D --undefined-only " BROOD_PYTHON_SUPPORT "/_brood.abi3.so", "r"), ::pclose);
  std::vector<Symbol> symbols;
  std::array<char, 256> line{};
  while (nm != nullptr && std::fgets(line.data(), line.size(), nm.get()) != nullptr) {
    std::istringstream words(line.data());
    std::string kind;
    std::string name;
    words >> kind >> name;
    const auto at = name.find("@GLIBC_");
    symbols.push_back({name.substr(0, at), at == std::string::npos ? "" : name.substr(at + 7)});
  }
  return symbols;
}

// From CPython's Misc/stable_abi.toml, entries added in 3.2 to 3.8. A name that is missing here may
// be added once it is found there.
const std::set<std::string> kStableAbi = {"PyArg_ParseTuple",
                                          "PyByteArray_AsString",
                                          "PyByteArray_Size",
                                          "PyBytes_AsString",
                                          "PyBytes_AsStringAndSize",
                                          "PyBytes_FromStringAndSize",
                                          "PyBytes_Size",
                                          "PyErr_CheckSignals",
                                          "PyErr_Clear",
                                          "PyErr_Format",
                                          "PyErr_Occurred",
                                          "PyErr_SetFromErrno",
                                          "PyErr_SetObject",
                                          "PyErr_SetString",
                                          "PyEval_RestoreThread",
                                          "PyEval_SaveThread",
                                          "PyExc_EOFError",
                                          "PyExc_OSError",
                                          "PyExc_ValueError",
                                          "PyList_Append",
                                          "PyList_New",
                                          "PyLong_AsLong",
                                          "PyLong_AsLongLong",
                                          "PyLong_FromLong",
                                          "PyLong_FromLongLong",
                                          "PyModule_AddIntConstant",
                                          "PyModule_AddStringConstant",
                                          "PyModule_Create2",
                                          "PyOS_AfterFork_Child",
                                          "PyOS_AfterFork_Parent",
                                          "PyOS_BeforeFork",
                                          "PyTuple_GetItem",
                                          "PyTuple_New",
                                          "PyTuple_SetItem",
                                          "PyTuple_Size",
                                          "Py_BuildValue",
                                          "_PyArg_ParseTuple_SizeT",
                                          "_Py_BuildValue_SizeT",
                                          "_Py_Dealloc",
                                          "_Py_NoneStruct"};

}  // namespace

TEST_CASE("the compiled part needs nothing of CPython beyond the stable ABI of 3.8") {
  int seen = 0;
  for (const Symbol& symbol : undefined_symbols()) {
    if (symbol.name.rfind("Py", 0) == 0 || symbol.name.rfind("_Py", 0) == 0) {
      INFO(symbol.name);
      CHECK(kStableAbi.contains(symbol.name));
      ++seen;
    }
  }
  CHECK(seen > 10);
}

TEST_CASE("the compiled part loads with the C library of older images") {
  int seen = 0;
  for (const Symbol& symbol : undefined_symbols()) {
    if (symbol.version.empty()) {
      continue;
    }
    int major = 0;
    int minor = 0;
    REQUIRE(std::sscanf(symbol.version.c_str(), "%d.%d", &major, &minor) == 2);
    INFO(symbol.name << " of glibc " << symbol.version);
    CHECK(major == 2);
    CHECK(minor <= 28);  // Debian 10, Ubuntu 20.04's is newer
    ++seen;
  }
  CHECK(seen > 10);
}

TEST_CASE("the compiled part exports its initialisation and nothing else") {
  const std::unique_ptr<FILE, int (*)(FILE*)> nm(
      ::popen("nm -D --defined-only " BROOD_PYTHON_SUPPORT "/_brood.abi3.so", "r"), ::pclose);
  REQUIRE(nm != nullptr);
  std::array<char, 256> line{};
  std::string all;
  while (std::fgets(line.data(), line.size(), nm.get()) != nullptr) {
    all += std::string(line.data()).substr(17);
  }
  CHECK(all == "T PyInit__brood\n");
}

TEST_CASE("a rehearsal leaves no trace") {
  const tests::Finished finished =
      tests::run_python({BROOD_PYTHON_DRIVERS "/rehearsal.py", BROOD_PYTHON_SUPPORT});
  INFO(finished.output);
  CHECK(finished.end.exited_with(0));
  CHECK(finished.output.empty());
}

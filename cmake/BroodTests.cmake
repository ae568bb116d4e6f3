# brood_test(NAME SOURCES a_test.cc [USES cgroups base] [LABELS root vm] [TIMEOUT seconds])
# makes one Catch2 program and one ctest test for each of its cases. A case that calls SKIP_BECAUSE
# exits with 77, and ctest counts it as skipped.
find_package(Catch2 2 REQUIRED)
include(Catch)

add_library(brood_test_main STATIC ${CMAKE_SOURCE_DIR}/tests/support/main.cc)
target_link_libraries(brood_test_main PUBLIC Catch2::Catch2 brood_flags)
target_include_directories(brood_test_main PUBLIC ${CMAKE_SOURCE_DIR})
set_target_properties(brood_test_main PROPERTIES BROOD_CODE test)

# Parsing these is most of what a test of ours costs to compile. All targets of tests share one precompiled
# copy, so what is compiled with it has to have the same flags: brood_test_code sees to that.
file(CONFIGURE OUTPUT test_headers.cc CONTENT "// Holds what tests/ precompiles.\n")
add_library(brood_test_headers STATIC ${CMAKE_CURRENT_BINARY_DIR}/test_headers.cc)
target_link_libraries(brood_test_headers PRIVATE Catch2::Catch2 nlohmann_json::nlohmann_json brood_flags)
set_target_properties(brood_test_headers PROPERTIES BROOD_CODE test)
target_precompile_headers(brood_test_headers PRIVATE
  <catch2/catch.hpp> <nlohmann/json.hpp> <algorithm> <chrono> <filesystem> <fstream> <map> <sstream> <string> <thread> <vector>)

# brood_test_code(TARGET): TARGET is compiled as tests are. A library of helpers says it itself.
function(brood_test_code target)
  set_target_properties(${target} PROPERTIES BROOD_CODE test)
  target_precompile_headers(${target} REUSE_FROM brood_test_headers)
endfunction()

# What can be built without the rest: programs for the test machine (label `vm`), and those that bring what
# they test with them. The others (label `agent`) drive an agent from outside: whichever build BROOD_BIN_DIR names.
add_custom_target(brood_vm_tests)
add_custom_target(brood_unit_tests)

# LOCK: of cases with one lock, ctest runs one at a time.
function(brood_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT;LOCK" "SOURCES;USES;LINKS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  brood_test_code(${name})
  if("vm" IN_LIST ARG_LABELS)
    add_dependencies(brood_vm_tests ${name})
  endif()
  if(NOT "agent" IN_LIST ARG_LABELS)
    add_dependencies(brood_unit_tests ${name})
  endif()
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE brood_test_main ${ARG_LINKS})
  foreach(used IN LISTS ARG_USES)
    target_link_libraries(${name} PRIVATE brood_${used})
  endforeach()
  # Escaped for three readers: this call, the command line it makes, and Catch's script behind it.
  string(REPLACE ";" "\\\\\\\\;" labels "${ARG_LABELS}")
  set(lock)
  if(ARG_LOCK)
    set(lock RESOURCE_LOCK ${ARG_LOCK})
  endif()
  # A case whose name ctest cannot pass on (one with a semicolon) would run nothing, and pass.
  catch_discover_tests(${name} TEST_PREFIX "${name}: "
    PROPERTIES FAIL_REGULAR_EXPRESSION "No test cases matched" SKIP_RETURN_CODE 77 TIMEOUT ${ARG_TIMEOUT} LABELS "${labels}" ${lock})
endfunction()

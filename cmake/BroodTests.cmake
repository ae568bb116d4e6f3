# brood_test(NAME SOURCES a_test.cc [USES cgroups base] [LABELS root vm] [TIMEOUT seconds])
# makes one Catch2 program and one ctest test for each of its cases. A case that calls SKIP_BECAUSE
# exits with 77, and ctest counts it as skipped.
find_package(Catch2 2 REQUIRED)
include(Catch)

add_library(brood_test_main STATIC ${CMAKE_SOURCE_DIR}/tests/support/main.cc)
target_link_libraries(brood_test_main PUBLIC Catch2::Catch2 brood_flags)
target_include_directories(brood_test_main PUBLIC ${CMAKE_SOURCE_DIR})

function(brood_test name)
  cmake_parse_arguments(ARG "" "TIMEOUT" "SOURCES;USES;LINKS;LABELS" ${ARGN})
  if(NOT ARG_TIMEOUT)
    set(ARG_TIMEOUT 60)
  endif()
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE brood_test_main ${ARG_LINKS})
  foreach(used IN LISTS ARG_USES)
    target_link_libraries(${name} PRIVATE brood_${used})
  endforeach()
  # Escaped for three readers: this call, the command line it makes, and Catch's script behind it.
  string(REPLACE ";" "\\\\\\\\;" labels "${ARG_LABELS}")
  # A case whose name ctest cannot pass on (one with a semicolon) would run nothing, and pass.
  catch_discover_tests(${name} TEST_PREFIX "${name}: "
    PROPERTIES FAIL_REGULAR_EXPRESSION "No test cases matched" SKIP_RETURN_CODE 77 TIMEOUT ${ARG_TIMEOUT} LABELS "${labels}")
endfunction()

# What is checked beside behaviour, as tests: `ctest -L style`.
add_test(NAME "style: every source is formatted" COMMAND ${CMAKE_SOURCE_DIR}/scripts/format --check)
add_test(NAME "style: every package has its reason" COMMAND ${CMAKE_SOURCE_DIR}/tests/scripts/packages_test)
add_test(NAME "style: the programs are hardened" COMMAND ${CMAKE_SOURCE_DIR}/tests/scripts/hardening_test ${CMAKE_BINARY_DIR})
# A minute for each source that includes Boost: all of them are for scripts/tidy, in its own time.
add_test(NAME "style: clang-tidy" COMMAND ${CMAKE_SOURCE_DIR}/scripts/tidy --build ${CMAKE_BINARY_DIR} --seconds 120)
set_tests_properties("style: every source is formatted" "style: every package has its reason"
  PROPERTIES LABELS style)
# Of the programs as they are shipped.
set_tests_properties("style: the programs are hardened" PROPERTIES LABELS "style;shipped")
set_tests_properties("style: clang-tidy" PROPERTIES LABELS "style;tidy" TIMEOUT 900 PROCESSORS 2)

add_test(NAME "install: an agent runs from where it is installed"
  COMMAND ${CMAKE_SOURCE_DIR}/tests/scripts/install_test ${CMAKE_BINARY_DIR} /var/lib/brood/images)
set_tests_properties("install: an agent runs from where it is installed" PROPERTIES
  LABELS "root;shipped" SKIP_RETURN_CODE 77 TIMEOUT 120)

# Warnings, hardening and sanitizers, as one interface target that everything links.
option(BROOD_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(BROOD_TSAN "ThreadSanitizer" OFF)
option(BROOD_FUZZ "Build the fuzz targets (needs clang)" OFF)

# Line tables and function names are what a backtrace needs; the rest of -g is a quarter of the time that
# a source takes to compile. The dev preset (Debug) has it.
string(REPLACE "-g" "-g1" CMAKE_C_FLAGS_RELWITHDEBINFO "${CMAKE_C_FLAGS_RELWITHDEBINFO}")
string(REPLACE "-g" "-g1" CMAKE_CXX_FLAGS_RELWITHDEBINFO "${CMAKE_CXX_FLAGS_RELWITHDEBINFO}")

# A target says by its property BROOD_CODE what its code is for:
#   (unset)  runs in the agent or in a sandbox: fully optimised
#   tool     a program of its own whose work is waiting: -O1, half the time to compile
#   test     -O0 and nothing fortified (glibc warns of the two together); -fPIE in libraries too, so that
#            they can share a precompiled header with the programs
set(brood_is_test $<STREQUAL:$<TARGET_PROPERTY:BROOD_CODE>,test>)
set(brood_is_tool $<STREQUAL:$<TARGET_PROPERTY:BROOD_CODE>,tool>)
set(brood_is_fortified $<AND:$<NOT:$<CONFIG:Debug>>,$<NOT:$<BOOL:${BROOD_ASAN}>>,$<NOT:$<BOOL:${BROOD_TSAN}>>,$<NOT:${brood_is_test}>>)

add_library(brood_flags INTERFACE)
target_compile_options(brood_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow $<$<COMPILE_LANGUAGE:CXX>:-Wnon-virtual-dtor$<SEMICOLON>-Woverloaded-virtual>
  -fstack-protector-strong -fstack-clash-protection
  $<$<AND:$<NOT:$<CONFIG:Debug>>,${brood_is_tool}>:-O1>
  $<${brood_is_test}:-O0$<SEMICOLON>-fPIE>
  $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
  $<${brood_is_fortified}:-D_FORTIFY_SOURCE=2>)
target_compile_definitions(brood_flags INTERFACE _GNU_SOURCE BROOD_VERSION="${PROJECT_VERSION}")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 sees overlaps in `"text" + std::string` that are not there (GCC bug 105651).
  target_compile_options(brood_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
# Where a branch or a return may lead; for what has flags of its own, too.
set(BROOD_BRANCH_FLAGS)
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64")
  set(BROOD_BRANCH_FLAGS -fcf-protection=full)
elseif(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_SYSTEM_PROCESSOR MATCHES "aarch64")
  set(BROOD_BRANCH_FLAGS -mbranch-protection=standard)
endif()
target_compile_options(brood_flags INTERFACE ${BROOD_BRANCH_FLAGS})
target_link_options(brood_flags INTERFACE -Wl,-z,relro,-z,now -Wl,-z,noexecstack)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

# brood_checked(TARGET): an index or an iterator that leaves its container ends the program. For what reads
# hostile bytes; nothing that the hot path does often enough to be measured.
function(brood_checked target)
  target_compile_definitions(${target} PRIVATE _GLIBCXX_ASSERTIONS)
endfunction()

if(BROOD_ASAN)
  target_compile_options(brood_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer -g1)
  target_link_options(brood_flags INTERFACE -fsanitize=address,undefined)
elseif(BROOD_TSAN)
  # g++ warns of Asio's fences, which ThreadSanitizer does not see; they order nothing that its locks do not.
  target_compile_options(brood_flags INTERFACE -fsanitize=thread -Wno-tsan -g1)
  target_link_options(brood_flags INTERFACE -fsanitize=thread)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  # A second checkout finds what the first has compiled; and what is compiled with a precompiled header is
  # kept as well, for which ccache asks for the last two.
  set(brood_ccache ${CMAKE_COMMAND} -E env CCACHE_BASEDIR=${CMAKE_SOURCE_DIR} CCACHE_NOHASHDIR=1
    CCACHE_SLOPPINESS=pch_defines,time_macros ${CCACHE})
  set(CMAKE_C_COMPILER_LAUNCHER ${brood_ccache})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${brood_ccache})
  add_compile_options($<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,${brood_is_test}>:-fpch-preprocess>)
endif()

# brood_precompile(TARGET HEADER…): of sources that share headers of others which take longer to parse than all of
# theirs. A source still includes what it uses: clang-tidy and the fuzzers compile it without.
function(brood_precompile target)
  target_precompile_headers(${target} PRIVATE ${ARGN})
  if(CCACHE)
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-fpch-preprocess>)
  endif()
endfunction()

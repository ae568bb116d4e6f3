# Warnings, hardening and sanitizers, as one interface target that everything links.
option(BROOD_ASAN "AddressSanitizer and UndefinedBehaviorSanitizer" OFF)
option(BROOD_TSAN "ThreadSanitizer" OFF)
option(BROOD_FUZZ "Build the fuzz targets (needs clang)" OFF)

add_library(brood_flags INTERFACE)
target_compile_options(brood_flags INTERFACE
  -Wall -Wextra -Werror -Wshadow -Wnon-virtual-dtor -Woverloaded-virtual
  -fstack-protector-strong -fstack-clash-protection
  $<$<NOT:$<CONFIG:Debug>>:-U_FORTIFY_SOURCE>
  $<$<AND:$<NOT:$<CONFIG:Debug>>,$<NOT:$<BOOL:${BROOD_ASAN}>>,$<NOT:$<BOOL:${BROOD_TSAN}>>>:-D_FORTIFY_SOURCE=2>)
target_compile_definitions(brood_flags INTERFACE _GNU_SOURCE BROOD_VERSION="${PROJECT_VERSION}")
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU" AND CMAKE_CXX_COMPILER_VERSION VERSION_LESS 13)
  # g++ 12 sees overlaps in `"text" + std::string` that are not there (GCC bug 105651).
  target_compile_options(brood_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-Wno-restrict>)
endif()
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64" AND CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  target_compile_options(brood_flags INTERFACE -fcf-protection=full)
endif()
target_link_options(brood_flags INTERFACE -Wl,-z,relro,-z,now)
set(CMAKE_POSITION_INDEPENDENT_CODE ON)
include(CheckPIESupported)
check_pie_supported()

if(BROOD_ASAN)
  target_compile_options(brood_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all -fno-omit-frame-pointer)
  target_link_options(brood_flags INTERFACE -fsanitize=address,undefined)
elseif(BROOD_TSAN)
  target_compile_options(brood_flags INTERFACE -fsanitize=thread)
  target_link_options(brood_flags INTERFACE -fsanitize=thread)
endif()

find_program(CCACHE ccache)
if(CCACHE)
  set(CMAKE_C_COMPILER_LAUNCHER ${CCACHE})
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CCACHE})
endif()

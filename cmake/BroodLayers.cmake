# Who may include whom, in one table. A folder is a namespace is a target; a link that points upward,
# or sideways between two folders of one layer, stops the configure step.
#
#   cmd, bench -> api -> agent -> { isolate, cgroups, netns, rootfs } -> base

set(BROOD_MAY_USE_base "")
set(BROOD_MAY_USE_isolate base)
set(BROOD_MAY_USE_cgroups base)
set(BROOD_MAY_USE_netns base)
set(BROOD_MAY_USE_rootfs base)
set(BROOD_MAY_USE_agent isolate cgroups netns rootfs base)
set(BROOD_MAY_USE_api agent base)
set(BROOD_MAY_USE_cmd api agent isolate cgroups netns rootfs base)
set(BROOD_MAY_USE_bench api agent base)

function(brood_check_layer folder)
  foreach(used IN LISTS ARGN)
    if(NOT used IN_LIST BROOD_MAY_USE_${folder})
      message(FATAL_ERROR "layers: ${folder}/ may not use ${used}/ (see cmake/BroodLayers.cmake)")
    endif()
  endforeach()
endfunction()

# brood_library(FOLDER SOURCES a.cc b.cc [USES base isolate] [LINKS external::target])
# makes the target brood_FOLDER, with the repository root as its include path, so that a header is
# always named by its folder: #include "cgroups/cgroup.h".
function(brood_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LINKS" ${ARGN})
  brood_check_layer(${folder} ${ARG_USES})
  add_library(brood_${folder} STATIC ${ARG_SOURCES})
  target_include_directories(brood_${folder} PUBLIC ${CMAKE_SOURCE_DIR})
  target_link_libraries(brood_${folder} PUBLIC brood_flags ${ARG_LINKS})
  foreach(used IN LISTS ARG_USES)
    target_link_libraries(brood_${folder} PUBLIC brood_${used})
  endforeach()
  brood_check_includes(${folder} ${ARG_SOURCES})
endfunction()

# brood_program(NAME FOLDER SOURCES main.cc [USES api agent] [LINKS external::target])
function(brood_program name folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;USES;LINKS" ${ARGN})
  brood_check_layer(${folder} ${ARG_USES})
  add_executable(${name} ${ARG_SOURCES})
  target_include_directories(${name} PRIVATE ${CMAKE_SOURCE_DIR})
  target_link_libraries(${name} PRIVATE brood_flags ${ARG_LINKS})
  foreach(used IN LISTS ARG_USES)
    target_link_libraries(${name} PRIVATE brood_${used})
  endforeach()
endfunction()

# A header can be included without linking, so the includes are held against the same table.
function(brood_check_includes folder)
  file(GLOB files CONFIGURE_DEPENDS ${CMAKE_SOURCE_DIR}/${folder}/*.h ${CMAKE_SOURCE_DIR}/${folder}/*.cc)
  foreach(file IN LISTS files)
    file(STRINGS ${file} includes REGEX "^#include \"[a-z]+/")
    foreach(line IN LISTS includes)
      string(REGEX REPLACE "^#include \"([a-z]+)/.*" "\\1" used "${line}")
      if(NOT used STREQUAL folder AND NOT used IN_LIST BROOD_MAY_USE_${folder})
        message(FATAL_ERROR "layers: ${file} includes ${used}/ (see cmake/BroodLayers.cmake)")
      endif()
    endforeach()
  endforeach()
endfunction()

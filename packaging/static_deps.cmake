# Finds or builds the libraries of the static agent for the toolchain in use, and defines what the agent is built with:
#   gpustrap_static         (interface target) include path, compile and link flags, and all the libraries
#   GPUSTRAP_STATIC_PREFIX  where they are installed; sources.txt in it names each one's version and digests
#
# A finished prefix lives outside the build folder and is named by the digest of everything that went into it, so a fresh
# clone on the same machine builds nothing again:
#   ${XDG_CACHE_HOME:-~/.cache}/gpustrap/static-deps/<arch>-<digest>
include(${CMAKE_CURRENT_LIST_DIR}/static_packages.cmake)
get_filename_component(GPUSTRAP_ROOT ${GPUSTRAP_PACKAGING} DIRECTORY)
include(CheckCXXSourceCompiles)
include(ProcessorCount)

if(NOT GPUSTRAP_ARCH)
  message(FATAL_ERROR "The static agent needs a toolchain: cmake --toolchain ${GPUSTRAP_PACKAGING}/toolchain-x86_64.cmake")
endif()

set(cache_home "$ENV{XDG_CACHE_HOME}")
if(NOT cache_home)
  set(cache_home "$ENV{HOME}/.cache")
endif()
set(GPUSTRAP_CACHE "${cache_home}/gpustrap" CACHE PATH "Where finished libraries and their sources are kept between builds")
ProcessorCount(processors)
set(GPUSTRAP_JOBS ${processors} CACHE STRING "Compilers run at once")

set(GPUSTRAP_STATIC_FLAGS "-Os -ffunction-sections -fdata-sections -fvisibility=hidden -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2")

# One line per library: the archive it is pinned to, or the newest version the distribution offers.
function(wanted_sources out)
  set(lines "")
  set(packages "")
  foreach(name IN LISTS GPUSTRAP_STATIC_LIBRARIES)
    string(TOUPPER ${name} upper)
    if(${upper}_URL)
      if(NOT ${upper}_SHA256)
        message(FATAL_ERROR "${upper}_URL is given without ${upper}_SHA256. Give the sha256 of the archive too.")
      endif()
      string(APPEND lines "${name} ${${upper}_SHA256}\n")
    else()
      list(APPEND packages ${GPUSTRAP_PACKAGE_${name}})
    endif()
  endforeach()
  if(packages)
    execute_process(COMMAND ${GPUSTRAP_PACKAGING}/fetch-source.sh --newest ${GPUSTRAP_CACHE}/sources ${packages}
                    OUTPUT_VARIABLE newest COMMAND_ERROR_IS_FATAL ANY)
    string(APPEND lines "${newest}")
  endif()
  set(${out} "${lines}" PARENT_SCOPE)
endfunction()

wanted_sources(wanted)
execute_process(COMMAND ${CMAKE_CXX_COMPILER} --version OUTPUT_VARIABLE compiler COMMAND_ERROR_IS_FATAL ANY)
string(REGEX REPLACE "\n.*" "" GPUSTRAP_COMPILER "${compiler}")
file(READ ${GPUSTRAP_PACKAGING}/deps/CMakeLists.txt recipe)
file(READ ${CMAKE_TOOLCHAIN_FILE} toolchain)
string(SHA256 digest "${wanted}${GPUSTRAP_COMPILER}${GPUSTRAP_STATIC_FLAGS}${recipe}${toolchain}")
string(SUBSTRING ${digest} 0 16 digest)
set(GPUSTRAP_STATIC_DIGEST ${digest})
set(static_deps ${GPUSTRAP_CACHE}/static-deps)
set(GPUSTRAP_STATIC_PREFIX ${static_deps}/${GPUSTRAP_ARCH}-${digest})

# Builds into a folder of its own and renames it when all is done, so that a prefix which exists is complete.
function(build_static_deps)
  set(work ${GPUSTRAP_STATIC_PREFIX}.build)
  file(REMOVE_RECURSE ${work} ${GPUSTRAP_STATIC_PREFIX}.new)
  set(pins "")
  foreach(name IN LISTS GPUSTRAP_STATIC_LIBRARIES)
    string(TOUPPER ${name} upper)
    if(${upper}_URL)
      list(APPEND pins -D${upper}_URL=${${upper}_URL} -D${upper}_SHA256=${${upper}_SHA256})
    endif()
  endforeach()
  message(STATUS "Building the agent's libraries for ${GPUSTRAP_ARCH} (about 2 minutes, once): ${GPUSTRAP_STATIC_PREFIX}")
  string(TIMESTAMP begin "%s")
  execute_process(
    COMMAND ${CMAKE_COMMAND} -S ${GPUSTRAP_PACKAGING}/deps -B ${work} -G Ninja --toolchain ${CMAKE_TOOLCHAIN_FILE}
            -DCMAKE_INSTALL_PREFIX=${GPUSTRAP_STATIC_PREFIX}.new -DGPUSTRAP_SOURCES=${GPUSTRAP_CACHE}/sources
            -DGPUSTRAP_STATIC_FLAGS=${GPUSTRAP_STATIC_FLAGS} -DGPUSTRAP_JOBS=${GPUSTRAP_JOBS} ${pins}
    OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
  execute_process(COMMAND ${CMAKE_COMMAND} --build ${work} --parallel ${GPUSTRAP_JOBS}
                  OUTPUT_FILE ${GPUSTRAP_STATIC_PREFIX}.log ERROR_FILE ${GPUSTRAP_STATIC_PREFIX}.log RESULT_VARIABLE result)
  if(NOT result EQUAL 0)
    file(REMOVE_RECURSE ${work} ${GPUSTRAP_STATIC_PREFIX}.new)
    execute_process(COMMAND tail -n 40 ${GPUSTRAP_STATIC_PREFIX}.log)
    message(FATAL_ERROR "The agent's libraries for ${GPUSTRAP_ARCH} did not build. The whole log: ${GPUSTRAP_STATIC_PREFIX}.log")
  endif()
  file(RENAME ${GPUSTRAP_STATIC_PREFIX}.new ${GPUSTRAP_STATIC_PREFIX})
  file(REMOVE_RECURSE ${work})
  file(REMOVE ${GPUSTRAP_STATIC_PREFIX}.log)
  string(TIMESTAMP end "%s")
  math(EXPR seconds "${end} - ${begin}")
  message(STATUS "Built the agent's libraries for ${GPUSTRAP_ARCH} in ${seconds} s")
endfunction()

if(NOT EXISTS ${GPUSTRAP_STATIC_PREFIX}/sources.txt)
  file(MAKE_DIRECTORY ${static_deps})
  file(LOCK ${GPUSTRAP_STATIC_PREFIX}.lock TIMEOUT 1800)
  if(NOT EXISTS ${GPUSTRAP_STATIC_PREFIX}/sources.txt)  # another build may have made it while this one waited
    build_static_deps()
  endif()
  file(LOCK ${GPUSTRAP_STATIC_PREFIX}.lock RELEASE)
endif()

# Libraries that are headers alone are taken from the build machine; their own version macros say which.
function(header_version out name file major minor patch)
  file(STRINGS /usr/include/${file} lines REGEX "define +(${major}|${minor}|${patch}) ")
  set(version "")
  foreach(macro IN ITEMS ${major} ${minor} ${patch})
    string(REGEX MATCH "${macro} +([0-9]+)" unused "${lines}")
    list(APPEND version ${CMAKE_MATCH_1})
  endforeach()
  list(JOIN version "." version)
  set(${out} "${${out}}${name} ${version} (headers)\n" PARENT_SCOPE)
endfunction()
set(GPUSTRAP_HEADER_VERSIONS "")
set(json nlohmann/detail/abi_macros.hpp)
if(NOT EXISTS /usr/include/${json})
  set(json nlohmann/json.hpp)
endif()
header_version(GPUSTRAP_HEADER_VERSIONS nlohmann-json ${json} NLOHMANN_JSON_VERSION_MAJOR NLOHMANN_JSON_VERSION_MINOR NLOHMANN_JSON_VERSION_PATCH)
header_version(GPUSTRAP_HEADER_VERSIONS expected tl/expected.hpp TL_EXPECTED_VERSION_MAJOR TL_EXPECTED_VERSION_MINOR TL_EXPECTED_VERSION_PATCH)
header_version(GPUSTRAP_HEADER_VERSIONS spdlog spdlog/version.h SPDLOG_VER_MAJOR SPDLOG_VER_MINOR SPDLOG_VER_PATCH)

add_library(gpustrap_static INTERFACE)
target_include_directories(gpustrap_static SYSTEM INTERFACE ${GPUSTRAP_STATIC_PREFIX}/include)
separate_arguments(flags UNIX_COMMAND "${GPUSTRAP_STATIC_FLAGS}")
target_compile_options(gpustrap_static INTERFACE ${flags} -ffile-prefix-map=${GPUSTRAP_STATIC_PREFIX}=.
  -ffile-prefix-map=${GPUSTRAP_ROOT}=. -ffile-prefix-map=${CMAKE_BINARY_DIR}=.)
target_compile_definitions(gpustrap_static INTERFACE CURL_STATICLIB SPDLOG_FMT_EXTERNAL)
set(archives "")
foreach(lib curl ssl crypto cares archive bz2 lzma zstd z fmt)
  list(APPEND archives ${GPUSTRAP_STATIC_PREFIX}/lib/lib${lib}.a)
endforeach()
target_link_libraries(gpustrap_static INTERFACE ${archives})

# A position-independent program costs half a megabyte of relocations unless the linker can pack them.
set(hardening -static-pie LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)
set(CMAKE_REQUIRED_FLAGS "-fPIE")
set(CMAKE_REQUIRED_LINK_OPTIONS -static-pie LINKER:-z,pack-relative-relocs LINKER:--fatal-warnings)
check_cxx_source_compiles("int main() { return 0; }" GPUSTRAP_PACKED_RELOCATIONS FAIL_REGEX "ignored")
if(GPUSTRAP_PACKED_RELOCATIONS)
  list(APPEND hardening LINKER:-z,pack-relative-relocs)
endif()
# A warning of the linker is a call into something a static program must not use; see static_guard.cc.
target_link_options(gpustrap_static INTERFACE ${hardening}
  -s LINKER:--gc-sections LINKER:--wrap=nl_langinfo LINKER:--fatal-warnings LINKER:--build-id=none)

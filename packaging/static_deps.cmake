# Finds or builds the libraries of the static agent for the toolchain in use, and defines what the agent is built with:
#   gpustrap_static         (interface target) include path, compile and link flags, and all the libraries
#   GPUSTRAP_STATIC_PREFIX  where they are installed; see static_prefix.cmake
include(${CMAKE_CURRENT_LIST_DIR}/static_prefix.cmake)
get_filename_component(GPUSTRAP_ROOT ${GPUSTRAP_PACKAGING} DIRECTORY)
include(CheckCXXSourceCompiles)

if(NOT GPUSTRAP_ARCH)
  message(FATAL_ERROR "The static agent needs a toolchain: cmake --toolchain ${GPUSTRAP_PACKAGING}/toolchain-x86_64.cmake")
endif()

set(GPUSTRAP_STATIC_FLAGS "-Os -ffunction-sections -fdata-sections -fvisibility=hidden -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2")
make_static_prefix(WHOSE agent FOLDER deps LIBRARIES ${GPUSTRAP_AGENT_LIBRARIES} FLAGS "${GPUSTRAP_STATIC_FLAGS}"
  TOOLCHAIN ${CMAKE_TOOLCHAIN_FILE} ARCH ${GPUSTRAP_ARCH})
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

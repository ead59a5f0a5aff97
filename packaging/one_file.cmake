# A controller that is one file: every library but the C library itself is built from source and linked statically. The C library stays
# this machine's own, so that names are looked up the way its owner has set up (VPN, mDNS, sssd).
#
# Defines the targets that find_package would, and
#   gpustrap_one_file      (interface target) how that program is linked
#   GPUSTRAP_MANIFEST      what it was made of, for `gpustrap version`
include(${CMAKE_CURRENT_LIST_DIR}/static_prefix.cmake)

set(arch ${CMAKE_HOST_SYSTEM_PROCESSOR})
set(toolchain ${GPUSTRAP_PACKAGING}/toolchain-${arch}.cmake)
if(NOT EXISTS ${toolchain})
  message(FATAL_ERROR "A controller of one file is built on x86_64 and aarch64; this is ${arch}. With this machine's libraries: -DGPUSTRAP_ONE_FILE=OFF")
endif()
set(flags "-O2 -ffunction-sections -fdata-sections -fvisibility=hidden -fPIE -fstack-protector-strong -D_FORTIFY_SOURCE=2")
make_static_prefix(WHOSE controller FOLDER controller_deps LIBRARIES ${GPUSTRAP_CONTROLLER_LIBRARIES} FLAGS "${flags}"
  TOOLCHAIN ${toolchain} ARCH ${arch})

# By a name that stays, so that what was compiled stays valid (ccache's, too) when a library alone is renewed.
set(libraries ${CMAKE_BINARY_DIR}/libraries)
file(REMOVE ${libraries})
file(CREATE_LINK ${GPUSTRAP_STATIC_PREFIX} ${libraries} SYMBOLIC)

# one_library(TARGET FILE [LINKS target...] [DEFINES definition...])
function(one_library target file)
  cmake_parse_arguments(arg "" "" "LINKS;DEFINES" ${ARGN})
  add_library(${target} STATIC IMPORTED)
  set_target_properties(${target} PROPERTIES IMPORTED_LOCATION ${libraries}/lib/${file}
    INTERFACE_INCLUDE_DIRECTORIES ${libraries}/include INTERFACE_LINK_LIBRARIES "${arg_LINKS}"
    INTERFACE_COMPILE_DEFINITIONS "${arg_DEFINES}")
endfunction()
one_library(OpenSSL::Crypto libcrypto.a)
one_library(OpenSSL::SSL libssl.a LINKS OpenSSL::Crypto)
one_library(ZLIB::ZLIB libz.a)
one_library(CURL::libcurl libcurl.a LINKS OpenSSL::SSL ZLIB::ZLIB DEFINES CURL_STATICLIB)
one_library(LibArchive::LibArchive libarchive.a DEFINES LIBARCHIVE_STATIC)
one_library(fmt::fmt libfmt.a)
one_library(yaml-cpp libyaml-cpp.a DEFINES YAML_CPP_STATIC_DEFINE)
one_library(pugixml::pugixml libpugixml.a)
one_library(ssh libssh.a LINKS OpenSSL::Crypto ZLIB::ZLIB DEFINES LIBSSH_STATIC)
add_library(spdlog::spdlog INTERFACE IMPORTED)  # the agent's alone; this build has none
header_version(GPUSTRAP_HEADER_VERSIONS CLI11 CLI/Version.hpp CLI11_VERSION_MAJOR CLI11_VERSION_MINOR CLI11_VERSION_PATCH)

add_library(gpustrap_one_file INTERFACE)
separate_arguments(code UNIX_COMMAND "-ffunction-sections -fdata-sections -fPIE -fstack-protector-strong -U_FORTIFY_SOURCE -D_FORTIFY_SOURCE=2")
target_compile_options(gpustrap_one_file INTERFACE ${code}
  -ffile-prefix-map=${CMAKE_BINARY_DIR}=. -ffile-prefix-map=${CMAKE_SOURCE_DIR}=.)
target_link_options(gpustrap_one_file INTERFACE -pie -static-libstdc++ -static-libgcc LINKER:--gc-sections LINKER:--exclude-libs,ALL
  LINKER:--as-needed LINKER:-z,relro LINKER:-z,now LINKER:-z,noexecstack)

file(READ ${GPUSTRAP_STATIC_PREFIX}/sources.txt sources)
string(CONFIGURE [[architecture: @arch@
compiler: @GPUSTRAP_COMPILER@
flags: @flags@
libraries: @GPUSTRAP_STATIC_DIGEST@
@sources@@GPUSTRAP_HEADER_VERSIONS@]] GPUSTRAP_MANIFEST @ONLY)

# How one library is built from source, into CMAKE_INSTALL_PREFIX: what deps/ and controller_deps/ share. They are not called by hand:
# make_static_prefix (static_prefix.cmake) configures and builds them when no finished prefix for the same inputs exists yet.
#
# Each library comes as the distribution's signed source (source A, fetch-source.sh), or, with -D<LIB>_URL= -D<LIB>_SHA256=,
# from one archive pinned by its digest (source B; machines without apt, and releases).
include(ExternalProject)

set(GPUSTRAP_SOURCES "" CACHE PATH "Folder for source index and archives, shared between builds")
set(GPUSTRAP_STATIC_FLAGS "" CACHE STRING "Compiler flags every part of the program is built with")

include(${CMAKE_CURRENT_LIST_DIR}/static_packages.cmake)
set(prefix ${CMAKE_INSTALL_PREFIX})
set(src ${CMAKE_BINARY_DIR}/src)
file(MAKE_DIRECTORY ${prefix}/include ${prefix}/lib)

# No path of the build machine may end up in what is built: the same sources must give the same bytes.
set(path_flags "-ffile-prefix-map=${CMAKE_BINARY_DIR}=. -ffile-prefix-map=${prefix}=.")
set(tools "CC=${CMAKE_C_COMPILER}" "AR=${CMAKE_AR}" "RANLIB=${CMAKE_RANLIB}")
set(nothing ${CMAKE_COMMAND} -E true)
set(record_files "")
set(libraries "")

# dep(name LIBS lib... [DEPENDS name...] [PATCH command...] [CMAKE arg... | CONFIGURE command... ] [BUILD command...] [INSTALL command...])
# LIBS are what it leaves in lib/. What it is compiled with: `c_flags`, GPUSTRAP_STATIC_FLAGS for C++, and what CMake adds for `build_type`.
# CMAKE gives the arguments of a CMake project; other build systems give their commands.
function(dep name)
  cmake_parse_arguments(arg "" "GENERATOR;SUBDIR" "LIBS;DEPENDS;PATCH;CMAKE;CONFIGURE;BUILD;INSTALL" ${ARGN})
  string(TOUPPER ${name} upper)
  set(source ${CMAKE_BINARY_DIR}/src/${name})
  set(record ${source}/gpustrap-source.txt)

  if(${upper}_URL)
    file(WRITE ${CMAKE_BINARY_DIR}/record/${name}
         "${name} from ${${upper}_URL}\n  ${${upper}_SHA256}  ${name}\n")
    set(record ${CMAKE_BINARY_DIR}/record/${name})
    set(download URL ${${upper}_URL} URL_HASH SHA256=${${upper}_SHA256} DOWNLOAD_EXTRACT_TIMESTAMP OFF)
  else()
    set(download DOWNLOAD_COMMAND ${GPUSTRAP_PACKAGING}/fetch-source.sh ${GPUSTRAP_PACKAGE_${name}} ${source} ${GPUSTRAP_SOURCES})
  endif()

  if(arg_CMAKE)
    set(configure CMAKE_ARGS
        -DCMAKE_TOOLCHAIN_FILE=${CMAKE_TOOLCHAIN_FILE} -DCMAKE_BUILD_TYPE=${build_type} -DCMAKE_INSTALL_PREFIX=${prefix}
        -DCMAKE_INSTALL_LIBDIR=lib -DBUILD_SHARED_LIBS=OFF -DCMAKE_FIND_ROOT_PATH=${prefix} -DCMAKE_PREFIX_PATH=${prefix}
        "-DCMAKE_C_FLAGS=${c_flags} ${path_flags}" "-DCMAKE_CXX_FLAGS=${GPUSTRAP_STATIC_FLAGS} ${path_flags}" -DCMAKE_POSITION_INDEPENDENT_CODE=ON
        -DCMAKE_POLICY_DEFAULT_CMP0074=NEW -DPKG_CONFIG_EXECUTABLE=PKG_CONFIG_EXECUTABLE-NOTFOUND ${arg_CMAKE})
    set(generator CMAKE_GENERATOR ${arg_GENERATOR})
    if(NOT arg_GENERATOR)
      set(generator CMAKE_GENERATOR Ninja)
    endif()
    set(place BINARY_DIR ${CMAKE_BINARY_DIR}/build/${name} SOURCE_SUBDIR "${arg_SUBDIR}")
  else()
    if(NOT arg_CONFIGURE)
      set(arg_CONFIGURE ${nothing})
    endif()
    set(configure CONFIGURE_COMMAND ${arg_CONFIGURE})
    set(generator "")
    set(place BUILD_IN_SOURCE ON)
    if(name STREQUAL openssl)  # it asks to be built outside its source
      set(place BINARY_DIR ${CMAKE_BINARY_DIR}/build/${name})
    endif()
  endif()
  set(steps "")
  if(arg_PATCH)
    list(APPEND steps PATCH_COMMAND ${arg_PATCH})
  endif()
  if(arg_BUILD)
    list(APPEND steps BUILD_COMMAND ${arg_BUILD})
  endif()
  if(arg_INSTALL)
    list(APPEND steps INSTALL_COMMAND ${arg_INSTALL})
  endif()

  list(TRANSFORM arg_LIBS PREPEND ${prefix}/lib/ OUTPUT_VARIABLE products)
  ExternalProject_Add(${name}
    ${download} ${configure} ${generator} ${place} ${steps}
    SOURCE_DIR ${source} DEPENDS ${arg_DEPENDS} BUILD_BYPRODUCTS ${products}
    LOG_DOWNLOAD ON LOG_PATCH ON LOG_CONFIGURE ON LOG_BUILD ON LOG_INSTALL ON LOG_MERGED_STDOUTERR ON LOG_OUTPUT_ON_FAILURE ON)
  set(record_files ${record_files} ${record} PARENT_SCOPE)
  set(libraries ${libraries} ${name} PARENT_SCOPE)
endfunction()

# What the prefix was made from, for the program's manifest, and under which licences, for the release.
function(record_sources)
  add_custom_target(sources_record ALL
    COMMAND ${GPUSTRAP_PACKAGING}/keep-licences.sh ${prefix}/licences ${src} ${libraries}
    COMMAND cat ${record_files} > ${prefix}/sources.txt
    DEPENDS ${libraries} VERBATIM)
endfunction()

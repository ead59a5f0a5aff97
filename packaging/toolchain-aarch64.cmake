# Builds for Linux on aarch64 with the distribution's compiler for it, natively or across.
set(GPUSTRAP_ARCH aarch64)
set(CMAKE_C_COMPILER aarch64-linux-gnu-gcc)
set(CMAKE_CXX_COMPILER aarch64-linux-gnu-g++)

# Naming the system makes CMake think of a cross build and skip tests that run, so it is named only where true.
if(NOT CMAKE_HOST_SYSTEM_PROCESSOR STREQUAL GPUSTRAP_ARCH)
  set(CMAKE_SYSTEM_NAME Linux)
  set(CMAKE_SYSTEM_PROCESSOR aarch64)
  set(CMAKE_CROSSCOMPILING_EMULATOR qemu-aarch64-static)
endif()

# The build machine's libraries and packages are for its dynamic programs, never for the agent.
set(CMAKE_FIND_ROOT_PATH_MODE_PROGRAM NEVER)
set(CMAKE_FIND_ROOT_PATH_MODE_LIBRARY ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_INCLUDE ONLY)
set(CMAKE_FIND_ROOT_PATH_MODE_PACKAGE ONLY)

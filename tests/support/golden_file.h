#pragma once

#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "agent/base/file.h"
#include "tests/support/folders.h"

namespace gpustrap {

/// Compares `text` with tests/golden/`name`; GPUSTRAP_UPDATE_GOLDEN=1 writes that file instead, for a person to read before it is
/// committed.
inline void expect_golden(const std::string& name, const std::string& text) {
  const std::string path = source_folder() + "/tests/golden/" + name;
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(path) << text;
    return;
  }
  EXPECT_EQ(read_file(path).value_or(""), text)
      << path << " says otherwise; GPUSTRAP_UPDATE_GOLDEN=1 writes it again, then read the difference";
}

}  // namespace gpustrap

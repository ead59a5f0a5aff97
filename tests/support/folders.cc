#include "tests/support/folders.h"

namespace gpustrap {

std::string source_folder() { return GPUSTRAP_SOURCE_DIR; }

}  // namespace gpustrap

#pragma once

#include <string>

namespace gpustrap {

/// What ps shows of this process. main() says first where its arguments lie; a title longer than they are is cut.
void keep_room_for_title(int argc, char** argv);
void set_process_title(const std::string& title);

}  // namespace gpustrap

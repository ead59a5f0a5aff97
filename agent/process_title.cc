#include "agent/process_title.h"

#include <sys/prctl.h>

#include <algorithm>
#include <cstddef>
#include <cstring>

namespace gpustrap {
namespace {

char* room = nullptr;
std::size_t room_size = 0;

}  // namespace

void keep_room_for_title(int argc, char** argv) {
  if (argc < 1 || argv[0] == nullptr) return;
  room = argv[0];
  // The kernel lays them out one behind the other, and shows them from here to the last one's end.
  char* end = room;
  for (int i = 0; i < argc && argv[i] == end; ++i) end += std::strlen(argv[i]) + 1;
  room_size = static_cast<std::size_t>(end - room);
}

void set_process_title(const std::string& title) {
  ::prctl(PR_SET_NAME, title.c_str());
  if (room_size == 0) return;
  const std::size_t shown = std::min(title.size(), room_size - 1);
  std::memcpy(room, title.data(), shown);
  std::memset(room + shown, 0, room_size - shown);
}

}  // namespace gpustrap

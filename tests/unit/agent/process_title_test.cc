#include "agent/process_title.h"

#include <sys/prctl.h>

#include <array>
#include <string>

#include <gtest/gtest.h>

namespace gpustrap {
namespace {

TEST(ProcessTitle, TakesThePlaceOfTheArguments) {
  std::array<char, 16> name{};
  ::prctl(PR_GET_NAME, name.data());
  // As the kernel lays them out: one behind the other, and something else behind the last.
  std::string block("agent\0serve\0--said=more\0HOME=/root\0", 35);
  std::array<char*, 4> argv = {block.data(), block.data() + 6, block.data() + 12, nullptr};
  keep_room_for_title(3, argv.data());
  set_process_title("runner --run=1");
  EXPECT_EQ(block, std::string("runner --run=1\0\0\0\0\0\0\0\0\0\0HOME=/root\0", 35));
  set_process_title("runner --run=a-rather-long-one");
  EXPECT_EQ(block, std::string("runner --run=a-rather-l\0HOME=/root\0", 35));
  ::prctl(PR_SET_NAME, name.data());
}

}  // namespace
}  // namespace gpustrap

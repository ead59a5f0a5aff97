#include "tests/support/child.h"

#include <sys/wait.h>
#include <unistd.h>

#include <array>

#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {

std::string in_child(const std::function<std::string()>& act) {
  std::array<int, 2> ends{};
  EXPECT_EQ(::pipe(ends.data()), 0);
  UniqueFd read_end(ends[0]), write_end(ends[1]);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setsid();
    static_cast<void>(write_all(write_end.get(), act()).has_value());
    ::_exit(0);
  }
  write_end.reset();
  std::string said;
  std::array<char, 1024> bytes{};
  for (ssize_t got = 0; (got = ::read(read_end.get(), bytes.data(), bytes.size())) > 0;)
    said.append(bytes.data(), static_cast<std::size_t>(got));
  ::waitpid(child, nullptr, 0);
  return said;
}

}  // namespace gpustrap

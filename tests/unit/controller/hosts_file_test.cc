#include "controller/hosts_file.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/file.h>

#include <cerrno>

#include "agent/base/unique_fd.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

TEST(HostsFile, AnUpdateChangesWhatIsThereAndNobodyElseMeanwhile) {
  const TemporaryDirectory state;
  const std::string path = state / "hosts.json";
  const HostsFile file(path);
  ASSERT_TRUE(file.update("gpu1", [](RememberedHost& entry) { entry.identities = {"/old.pem"}; }));
  ASSERT_TRUE(file.update("gpu2", [](RememberedHost& entry) { entry.user = "ann"; }));
  ASSERT_TRUE(file.update("gpu1", [&](RememberedHost& entry) {
    const UniqueFd other(::open((path + ".lock").c_str(), O_RDWR | O_CLOEXEC));
    EXPECT_TRUE(::flock(other.get(), LOCK_EX | LOCK_NB) != 0 && errno == EWOULDBLOCK) << "another program might change it just now";
    EXPECT_EQ(entry.identities, std::vector<std::string>{"/old.pem"});
    entry.local_port = 8889;
  }));
  const auto hosts = file.load();
  ASSERT_TRUE(hosts);
  ASSERT_EQ(hosts->size(), 2U);
  EXPECT_EQ(hosts->at(0).host, "gpu1");
  EXPECT_EQ(hosts->at(0).identities, std::vector<std::string>{"/old.pem"});
  EXPECT_EQ(hosts->at(0).local_port, 8889);
  EXPECT_EQ(hosts->at(1).user, "ann");
}

}  // namespace
}  // namespace gpustrap

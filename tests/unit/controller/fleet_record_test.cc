#include "controller/fleet_record.h"

#include <filesystem>
#include <fstream>

#include <gtest/gtest.h>

#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

TEST(FleetRecord, KnowsWhichHostsFailedLast) {
  const TemporaryDirectory state;
  FleetRecord record = *FleetRecord::load(state.path(), "d2l", "/lab/hosts.yaml");
  EXPECT_TRUE(record.empty());
  record.note("gpu1", ExitCode::ok);
  record.note("gpu2", ExitCode::unreachable);
  record.note("gpu3", ExitCode::step_failed);
  ASSERT_TRUE(record.save());

  record = *FleetRecord::load(state.path(), "d2l", "/lab/hosts.yaml");
  EXPECT_FALSE(record.has_failed("gpu1"));
  EXPECT_TRUE(record.has_failed("gpu2"));
  EXPECT_FALSE(record.has_failed("gpu9")) << "never run";
  record.note("gpu2", ExitCode::ok);
  ASSERT_TRUE(record.save());
  record = *FleetRecord::load(state.path(), "d2l", "/lab/hosts.yaml");
  EXPECT_FALSE(record.has_failed("gpu2"));
  EXPECT_TRUE(record.has_failed("gpu3")) << "what was not run again is still true";
}

TEST(FleetRecord, IsOneForEachRecipeAndEachSetOfHosts) {
  const TemporaryDirectory state;
  FleetRecord record = *FleetRecord::load(state.path(), "d2l", "a b");
  record.note("a", ExitCode::step_failed);
  ASSERT_TRUE(record.save());
  EXPECT_TRUE(FleetRecord::load(state.path(), "d2l", "a b c")->empty());
  EXPECT_TRUE(FleetRecord::load(state.path(), "pytorch", "a b")->empty());
}

TEST(FleetRecord, OneThatCannotBeUnderstoodIsNamed) {
  const TemporaryDirectory state;
  FleetRecord record = *FleetRecord::load(state.path(), "d2l", "a");
  record.note("a", ExitCode::ok);
  ASSERT_TRUE(record.save());
  for (const auto& entry : std::filesystem::directory_iterator(state.path() + "/fleets")) std::ofstream(entry.path()) << "{";
  const Result<FleetRecord> broken = FleetRecord::load(state.path(), "d2l", "a");
  ASSERT_FALSE(broken.has_value());
  EXPECT_NE(broken.error().why().find("fleets/"), std::string::npos);
}

}  // namespace
}  // namespace gpustrap

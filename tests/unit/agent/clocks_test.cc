#include <gtest/gtest.h>

#include <filesystem>
#include <map>
#include <string>

#include "agent/base/file.h"
#include "tests/support/folders.h"

// The wall clock may jump while a run goes on: time is set at first boot, a laptop sleeps, a virtual machine is moved. What waits,
// times out or retries asks the steady clock; the wall clock is for what people read, and for comparing with the times of files.

namespace gpustrap {
namespace {

/// Where the wall clock may be asked, and how often: each place is told here what for.
const std::map<std::string, int> kForPeople = {
    {"agent/fetch.cc", 1},               // how old a file is
    {"agent/journal.cc", 1},             // the time of an event
    {"agent/runner.cc", 1},              // how long a run took that had several runners
    {"agent/serve.cc", 1},               // for how long another run has been in progress
    {"agent/supervise.cc", 1},           // since when a service has been up
    {"agent/main.cc", 1},                // the id of a standalone run
    {"agent/idle_guard.cc", 1},          // the times that people are told, and of records
    {"agent/idle_store.cc", 1},          // until when a host is kept, over a restart
    {"agent/host.h", 1},                 // Host::now, for the age of files
    {"controller/verbs_many.cc", 1},     // for how long a run has been in progress
    {"controller/verbs_doctor.cc", 1},   // how far the host's clock is off
    {"controller/run_log.cc", 1},        // the names of logs
    {"controller/lint_upstream.cc", 1},  // whether a repository's key has expired
    {"controller/cloud_verb.cc", 1},     // how old a machine is
    {"controller/verbs_image.cc", 1},    // the name of an image
    // A cloud's requests and credentials carry times of day; waiting there goes by durations.
    {"controller/cloud/aws_time.h", 1},
    {"controller/cloud/aws_time.cc", 3},
    {"controller/cloud/credentials.cc", 2},
};

int occurrences(const std::string& text, const std::string& word) {
  int count = 0;
  for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
  return count;
}

TEST(Clocks, NothingWaitsByTheWallClock) {
  const std::filesystem::path root = source_folder();
  int files = 0;
  for (const char* folder : {"agent", "controller"}) {
    for (const auto& entry : std::filesystem::recursive_directory_iterator(root / folder)) {
      if (entry.path().extension() != ".cc" && entry.path().extension() != ".h") continue;
      ++files;
      const std::string name = entry.path().lexically_relative(root);
      const Result<std::string> text = read_file(entry.path());
      ASSERT_TRUE(text.has_value()) << name;
      int found = 0;
      for (const char* word : {"system_clock", "std::time(", "::time(nullptr)", "gettimeofday", "CLOCK_REALTIME", "high_resolution_clock"})
        found += occurrences(*text, word);
      // "std::time(nullptr)" is both of two words.
      found -= occurrences(*text, "std::time(nullptr)");
      const auto allowed = kForPeople.find(name);
      EXPECT_EQ(found, allowed == kForPeople.end() ? 0 : allowed->second)
          << name << " asks the wall clock: what waits must use steady_clock; what people read is listed in this test";
    }
  }
  EXPECT_GT(files, 100) << "the sources were not found";
}

}  // namespace
}  // namespace gpustrap

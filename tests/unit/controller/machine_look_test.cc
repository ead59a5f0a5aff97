#include "controller/machine_look.h"

#include <gmock/gmock.h>
#include <sys/stat.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "agent/base/subprocess.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::Field;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::SizeIs;

constexpr const char* kBegin = "Welcome to Ubuntu\n\ngpustrap-look 1\n";

TEST(MachineLook, IsATextThatEveryLoginShellTakesAsItIs) {
  const std::string text = look_text({{"jupyter", 8888}, {"it's", 1}, {"$(reboot)", 2}, {"-x", 3}});
  ASSERT_TRUE(text.starts_with("/bin/sh -c '") && text.ends_with("'")) << text;
  EXPECT_EQ(text.substr(12, text.size() - 13).find_first_of("'!\\\n"), std::string::npos) << text;
  EXPECT_THAT(text, HasSubstr("jupyter.service"));
  EXPECT_THAT(text, Not(HasSubstr("reboot"))) << "a name from a host becomes part of no command";
}

// Not a fake host: whatever this machine is has a root file system, a load and an uptime.
TEST(MachineLook, ReadsWhatAShellSays) {
  TemporaryDirectory folder;
  std::ofstream(folder / "nvidia-smi")
      << "#!/bin/sh\necho '0, Tesla T4, 1234, 15360, 45, 535.161.08'\necho '1, Tesla T4, [N/A], 15360, [N/A], 535.161.08'\n";
  ASSERT_EQ(::chmod((folder / "nvidia-smi").c_str(), 0755), 0);
  const char* path = std::getenv("PATH");
  for (const char* shell : {"sh", "bash"}) {
    Subprocess run;
    run.argv = {shell, "-c", look_text({{"gpustrap-test-nothing", 1}})};
    run.env = {{"PATH", folder.path() + ":" + (path == nullptr ? "" : path)}, {"HOME", "/"}};
    const auto said = run_subprocess(run);
    ASSERT_TRUE(said.has_value());
    EXPECT_EQ(said->err, "");
    const Result<MachineLook> look = read_look(said->out);
    ASSERT_TRUE(look) << look.error().sentence();
    EXPECT_THAT(look->facts.arch, Not(IsEmpty()));
    EXPECT_THAT(look->facts.kernel, Not(IsEmpty()));
    EXPECT_THAT(look->facts.os, Not(IsEmpty()));
    EXPECT_GT(look->facts.uptime_s, 0U);
    EXPECT_GT(look->facts.cpus, 0U);
    EXPECT_GT(look->facts.memory, look->memory_available);
    EXPECT_THAT(look->disks, SizeIs(1)) << "the home here is / itself";
    EXPECT_EQ(look->disks[0].path, "/");
    EXPECT_GT(look->facts.disk_free, 0U);
    ASSERT_THAT(look->gpus, SizeIs(2)) << said->out;
    EXPECT_EQ(look->gpus[0].utilisation, 45U);
    EXPECT_EQ(look->gpus[0].memory_used, std::uint64_t{1234} << 20U);
    EXPECT_FALSE(look->gpus[1].memory_used.has_value());
    EXPECT_EQ(look->facts.driver, "535.161.08");
    EXPECT_THAT(look->services, Contains(Field(&ServiceLook::is_listening, false)));
  }
}

TEST(MachineLook, TellsADriverThatDoesNotAnswer) {
  const auto look = read_look(std::string(kBegin) +
                              "pci 0000:00:1e.0 0x1eb8 nvidia\nnvrm NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.161.08  Sat Feb\n"
                              "gpu Failed to initialize NVML: Driver/library version mismatch\ngpu NVML library version: 535.183\nend\n");
  ASSERT_TRUE(look);
  EXPECT_EQ(look->gpu_trouble, "Failed to initialize NVML: Driver/library version mismatch");
  EXPECT_EQ(look->facts.driver, "535.161.08");
  ASSERT_THAT(look->facts.gpus, SizeIs(1));
  EXPECT_EQ(look->facts.gpus[0].device, "1eb8");
}

TEST(MachineLook, BelievesAHostNoNumberAndNoName) {
  std::string text = kBegin;
  text += "uptime 99999999999999999999999999\nload nan -1 1e300\ncpus 4294967295\nmemory MemTotal: 18446744073709551615\n";
  text +=
      "disk 18446744073709551615 1 /\ndisk 10 20 /home\ndisk -1 5 /x\ngpu 0, \x1b[31mT4, 99999999999999999999, 1, 400, 1\nhostname "
      "\x1b]0;owned\a\n";
  text += "service state\nservice state a b c\nos-release ID=" + std::string(5000, 'x') + "\n";
  for (int i = 0; i < 1000; ++i)
    text += "disk 10 5 /mnt" + std::to_string(i) + "\npci 0 1eb8\ngpu " + std::to_string(i) + ", T4, 1, 1, 1, 1\n";
  const auto look = read_look(text);
  ASSERT_TRUE(look);
  EXPECT_EQ(look->facts.uptime_s, 0U);
  EXPECT_EQ(look->load[0], 0.0);
  EXPECT_EQ(look->facts.memory, 0U);
  EXPECT_LE(look->facts.cpus, 100'000U);
  EXPECT_LE(look->disks.size(), 64U);
  EXPECT_EQ(look->disks[0].path, "/home");
  EXPECT_EQ(look->disks[0].free, look->disks[0].total) << "no more is free than there is";
  EXPECT_LE(look->gpus.size(), 64U);
  EXPECT_EQ(look->gpus[0].name, "T4");
  EXPECT_FALSE(look->gpus[0].utilisation.has_value());
  EXPECT_EQ(look->facts.hostname.find('\x1b'), std::string::npos);
  EXPECT_LE(look->facts.os.size(), 110U);
  EXPECT_THAT(look->services, IsEmpty());
}

TEST(MachineLook, IsRefusedWhereSomethingElseAnswers) {
  for (const char* text : {"", "This account is currently not available.\n", "gpustrap-look 2\n"}) {
    const auto look = read_look(text);
    ASSERT_FALSE(look);
    EXPECT_EQ(look.error().code(), ErrorCode::protocol);
  }
}

}  // namespace
}  // namespace gpustrap

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/steps/nvidia_query.h"
#include "tests/support/fake_host.h"
#include "tests/support/folders.h"
#include "tests/support/step_contract.h"

// No GPU is in these tests: what nvidia-smi prints is written after its documented and measured answers, in tests/golden/nvidia_smi.

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kProof = "/run/gpustrap/gpu-proof.json";
constexpr const char* kT4 = "GPU-5d1a4f0e-8a3c-4b52-9f6e-1c2d3e4f5a6b";

std::string golden(const std::string& name) {
  Result<std::string> text = read_file(source_folder() + "/tests/golden/nvidia_smi/" + name);
  return text ? *std::move(text) : "no file " + name;
}

/// A host with one T4 on its bus and nothing of NVIDIA's installed.
FakeHost bare_host() {
  FakeHost host;
  host.edit_facts().gpus = {{"0000:00:1e.0", "1eb8", "12a2", ""}};
  host.put("/proc/modules", "ena 192512 0 - Live 0x0\n");
  host.answer({"dmesg"}, {0, "[    0.000000] Linux version 6.8.0-1029-aws\n", ""});
  return host;
}

/// The same with a driver that is loaded, and nvidia-smi answering this.
FakeHost driver_host(const std::string& said, int exit_code = 0) {
  FakeHost host = bare_host();
  host.put("/proc/modules", "nvidia 14381056 0 - Live 0x0\nena 192512 0 - Live 0x0\n");
  host.put("/sys/module/nvidia/version", "580.95.05\n");
  host.put("/dev/nvidiactl", "");
  host.put_symlink("/sys/bus/pci/devices/0000:00:1e.0/driver", "../../../../bus/pci/drivers/nvidia");
  host.answer({"nvidia-smi"}, {exit_code, said, ""});
  return host;
}

/// And with a Python whose probe says this.
FakeHost probing_host(const std::string& said, int exit_code = 0) {
  FakeHost host = driver_host(golden("t4.csv"));
  host.put("/usr/bin/python3", "", 0755);
  host.answer({"/usr/bin/python3"}, {exit_code, said, ""});
  return host;
}
std::string right(const std::string& uuid) { return fmt::format("{{\"uuid\": \"{}\", \"right\": true, \"gpustrap_probe\": 1}}\n", uuid); }

NvidiaSmiSpec one_gpu() { return {}; }
NvidiaSmiSpec probed() {
  NvidiaSmiSpec spec;
  spec.probe = true;
  return spec;
}

/// The error that a run ends with; it has a cause and says what to do.
Error failure_of(const NvidiaSmiSpec& spec, FakeHost& host) {
  const auto done = run_step(spec, host);
  if (done) {
    ADD_FAILURE() << "no failure: " << done->reason;
    return {ErrorCode::internal, ""};
  }
  EXPECT_FALSE(done.error().hint().empty()) << done.error().sentence();
  return done.error();
}

TEST(NvidiaSmiStep, DescribesWhatAnswers) {
  EXPECT_EQ(state_of(one_gpu(), driver_host(golden("t4.csv"))).reason, "Tesla T4 (15.0 GiB), driver 580.95.05");
  EXPECT_EQ(state_of(one_gpu(), driver_host(golden("h100x8.csv"))).reason, "8 × NVIDIA H100 80GB HBM3 (79.6 GiB), driver 580.95.05");
}

TEST(NvidiaSmiStep, ReadsRowsAndNothingElse) {
  EXPECT_EQ(parse_gpu_rows(golden("h100x8.csv")).size(), 8U);
  EXPECT_THAT(parse_gpu_rows("No devices were found\n"), IsEmpty());
  EXPECT_THAT(parse_gpu_rows("0, GPU-1, Tesla T4\n"), IsEmpty());
  const auto rows = parse_gpu_rows("0, GPU-1, NVIDIA GH200 480GB, 00000009:01:00.0, 580.95.05, [N/A], Disabled\n");
  ASSERT_EQ(rows.size(), 1U);
  EXPECT_FALSE(rows[0].memory.has_value());
}

TEST(NvidiaSmiStep, DemandsAreComparedWithWhatAnswers) {
  FakeHost host = driver_host(golden("t4.csv"));
  NvidiaSmiSpec spec;
  spec.min_gpus = 2;
  EXPECT_THAT(failure_of(spec, host).why(), HasSubstr("1 GPU answers, 2 wanted"));
  spec = {};
  spec.min_driver = "590";
  EXPECT_EQ(failure_of(spec, host).why(), "driver 580.95.05 is loaded, 590 or newer wanted");
  spec.min_driver = "580.95.05";
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied);
  spec = {};
  spec.min_memory = ByteSize{std::uint64_t{16} << 30U};
  const Error error = failure_of(spec, host);
  EXPECT_EQ(error.why(), "GPU 0 (Tesla T4) has 15.0 GiB of memory, 16.0 GiB wanted");
  EXPECT_THAT(error.hint(), HasSubstr("shows 15 GiB"));
  spec.min_memory = ByteSize{std::uint64_t{15} << 30U};
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied);
}

TEST(NvidiaSmiStep, NoneAreEnoughWhereNoneAreAsked) {
  FakeHost host;
  NvidiaSmiSpec spec = probed();
  spec.min_gpus = 0;
  const StepState state = state_of(spec, host);
  EXPECT_EQ(state.is, StepState::Is::satisfied);
  EXPECT_EQ(state.reason, "no GPU, and none is asked for");
}

TEST(NvidiaSmiStep, AGpuThatDoesNotAnswerIsNotHiddenByThoseThatDo) {
  FakeHost host = driver_host(golden("t4.csv"));
  host.edit_facts().gpus.push_back({"0000:00:1f.0", "1eb8", "12a2", "nvidia"});
  host.answer({"dmesg"}, {0, "[ 84.1] NVRM: Xid (PCI:0000:00:1f): 79, pid=1234, name=python3, GPU has fallen off the bus.\n", ""});
  NvidiaSmiSpec spec;
  spec.min_gpus = 2;
  const Error error = failure_of(spec, host);
  EXPECT_THAT(error.why(), HasSubstr("1 GPU answers, 2 wanted, and 2 are on the PCI bus"));
  EXPECT_THAT(error.why(), HasSubstr("fallen off the bus (Xid 79)"));
  EXPECT_THAT(error.hint(), HasSubstr("stop and start the instance"));
}

TEST(NvidiaSmiStep, AGpuThatDoesNotAnswerAndOfWhichTheKernelSaysNothing) {
  FakeHost host = driver_host(golden("t4.csv"));
  host.edit_facts().gpus.push_back({"0000:00:1f.0", "1eb8", "12a2", "nvidia"});
  NvidiaSmiSpec spec;
  spec.min_gpus = 2;
  const Error error = failure_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::io);
  EXPECT_EQ(error.why(), "1 GPU answers, 2 wanted, and 2 are on the PCI bus");
  EXPECT_THAT(error.hint(), HasSubstr("says why the others do not"));
}

TEST(NvidiaSmiStep, AGpuWithoutMemoryOfItsOwnHasNoneToCompare) {
  FakeHost host = driver_host("0, GPU-1, NVIDIA GB10, 0000000F:01:00.0, 580.95.05, [N/A], [N/A]\n");
  NvidiaSmiSpec spec;
  spec.min_memory = ByteSize{std::uint64_t{16} << 30U};
  const Error error = failure_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.why(), "GPU 0 (NVIDIA GB10) has no memory of its own to compare, 16.0 GiB wanted");
  EXPECT_THAT(error.hint(), HasSubstr("it shares the system's: leave `min_memory` out"));
}

/// Each class of failure, as nvidia-smi prints it and as the host looks then: the cause and the way out are named.
struct Failure {
  std::string name;
  std::function<FakeHost()> host;
  std::string cause, way_out;
};
class NvidiaFailure : public ::testing::TestWithParam<Failure> {};

TEST_P(NvidiaFailure, HasACauseAndAWayOut) {
  FakeHost host = GetParam().host();
  const StepState state = state_of(one_gpu(), host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_THAT(state.reason, HasSubstr(GetParam().cause));
  const Error error = failure_of(one_gpu(), host);
  EXPECT_THAT(error.why(), HasSubstr(GetParam().cause));
  EXPECT_THAT(error.hint(), HasSubstr(GetParam().way_out));
  EXPECT_THAT(host.changes(), IsEmpty());
}

FakeHost changed(FakeHost host, const std::function<void(FakeHost&)>& change) {
  change(host);
  return host;
}
FakeHost unloaded_host() {
  return changed(driver_host(golden("no_driver.txt"), 9), [](FakeHost& host) {
    host.put("/proc/modules", "ena 192512 0 - Live 0x0\n");
    host.take_away("/sys/module/nvidia").take_away("/sys/bus").take_away("/dev/nvidiactl");
  });
}
FakeHost with_module(FakeHost host) {
  host.answer({"modinfo", "-k", "6.8.0-1029-aws"}, {0, "580.95.05\n", ""});
  return host;
}

INSTANTIATE_TEST_SUITE_P(
    Classes, NvidiaFailure,
    ::testing::Values(
        Failure{"not_installed", [] { return bare_host(); }, "no NVIDIA driver is installed",
                "linux-modules-nvidia-580-server-open-aws nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server"},
        Failure{"not_installed_leads_to_the_recipe", [] { return bare_host(); }, "no NVIDIA driver is installed",
                "`gpustrap up cuda HOST`"},
        Failure{"not_installed_volta",
                [] { return changed(bare_host(), [](FakeHost& host) { host.edit_facts().gpus[0].device = "1db5"; }); },
                "no NVIDIA driver is installed", "linux-modules-nvidia-580-server-aws "},
        Failure{"not_installed_debian", [] { return changed(bare_host(), [](FakeHost& host) { host.edit_facts().os = "debian"; }); },
                "no NVIDIA driver is installed", "docs.nvidia.com"},
        Failure{"fraction",
                [] {
                  return changed(bare_host(), [](FakeHost& host) { host.edit_facts().gpus[0] = {"0000:00:1e.0", "27b8", "1733", ""}; });
                },
                "no NVIDIA driver is installed", "GRID"},
        Failure{"no_gpu", [] { return FakeHost(); }, "no NVIDIA GPU is on this machine's PCI bus", "choose an instance type with a GPU"},
        Failure{"container", [] { return changed(bare_host(), [](FakeHost& host) { host.edit_facts().container = true; }); },
                "a container that has been given no GPU", "--gpus all"},
        Failure{"only_tools_missing", [] { return changed(driver_host("", 127), [](FakeHost&) {}); },
                "nvidia-smi is not installed, though the driver 580.95.05 is loaded", "nvidia-utils-580"},
        Failure{"library_missing", [] { return driver_host(golden("no_library.txt"), 12); }, "libnvidia-ml.so is not", "libnvidia-compute"},
        Failure{"not_loaded", [] { return with_module(unloaded_host()); }, "the module 580.95.05 is installed but not loaded",
                "modprobe nvidia"},
        Failure{"reboot_needed",
                [] { return changed(with_module(unloaded_host()), [](FakeHost& host) { host.put("/run/reboot-required", ""); }); },
                "waits for a reboot", "sudo reboot"},
        Failure{"secure_boot",
                [] {
                  return changed(with_module(unloaded_host()), [](FakeHost& host) {
                    host.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::string("\6\0\0\0\1", 5));
                  });
                },
                "Secure Boot is on", "mokutil --import"},
        Failure{"unsigned_module",
                [] {
                  return changed(with_module(unloaded_host()), [](FakeHost& host) {
                    host.answer({"dmesg"}, {0, "[ 9.1] Loading of unsigned module is rejected\n", ""});
                  });
                },
                "its signature is not trusted", "signed modules"},
        Failure{"other_kernel",
                [] {
                  return changed(unloaded_host(), [](FakeHost& host) {
                    host.put_directory("/lib/modules/6.8.0-1029-aws").put_directory("/lib/modules/6.8.0-1031-aws");
                    host.answer({"modinfo", "-k", "6.8.0-1031-aws"}, {0, "580.95.05\n", ""});
                    host.answer({"modinfo", "-k", "6.8.0-1029-aws"}, {1, "", "modinfo: ERROR: Module nvidia not found.\n"});
                    host.put("/run/reboot-required", "");
                  });
                },
                "installed for the kernel 6.8.0-1031-aws, and 6.8.0-1029-aws is running", "sudo reboot"},
        Failure{"not_built",
                [] { return changed(unloaded_host(), [](FakeHost& host) { host.put_directory("/var/lib/dkms/nvidia/580.95.05"); }); },
                "could not be built for the running kernel 6.8.0-1029-aws", "dkms autoinstall"},
        Failure{"no_module", [] { return unloaded_host(); }, "there is no nvidia module for the kernel", "linux-modules-nvidia"},
        Failure{"nouveau",
                [] {
                  return changed(unloaded_host(), [](FakeHost& host) {
                    host.put("/proc/modules", "nouveau 2891776 0 - Live 0x0\n");
                    host.put_symlink("/sys/bus/pci/devices/0000:00:1e.0/driver", "../../../../bus/pci/drivers/nouveau");
                  });
                },
                "held by nouveau", "blacklist nouveau"},
        Failure{"vfio",
                [] {
                  return changed(unloaded_host(), [](FakeHost& host) {
                    host.put_symlink("/sys/bus/pci/devices/0000:00:1e.0/driver", "../drivers/vfio-pci");
                  });
                },
                "set aside for virtual machines", "vfio-pci"},
        Failure{"no_device_files",
                [] { return changed(driver_host(golden("no_driver.txt"), 9), [](FakeHost& host) { host.take_away("/dev/nvidiactl"); }); },
                "device files (/dev/nvidiactl) are missing", "nvidia-modprobe"},
        Failure{"open_needed",
                [] {
                  return changed(driver_host(golden("no_devices.txt"), 6), [](FakeHost& host) {
                    host.answer({"dmesg"}, {0, "NVRM: installed in this system requires use of the NVIDIA open kernel modules.\n", ""});
                  });
                },
                "works with the open ones only", "-open packages"},
        Failure{"too_old_for_open",
                [] {
                  return changed(driver_host(golden("no_devices.txt"), 6), [](FakeHost& host) {
                    host.answer({"dmesg"}, {0, "NVRM: installed in this system is not supported by open\n", ""});
                  });
                },
                "too old for them", "proprietary driver"},
        Failure{"does_not_start",
                [] {
                  return changed(driver_host(golden("no_devices.txt"), 6), [](FakeHost& host) {
                    host.answer({"dmesg"}, {0, "NVRM: GPU 0000:00:1e.0: RmInitAdapter failed! (0x25:0x65:1457)\n", ""});
                  });
                },
                "could not start the GPU (RmInitAdapter failed)", "stop and start"},
        Failure{"versions_differ",
                [] {
                  return changed(driver_host(golden("mismatch.txt"), 18),
                                 [](FakeHost& host) { host.put("/sys/module/nvidia/version", "535.183.01\n"); });
                },
                "the loaded kernel module (535.183.01) and the driver's libraries (535.309) are of different versions", "sudo reboot"},
        Failure{"versions_mixed",
                [] {
                  return changed(driver_host(golden("mismatch.txt"), 18), [](FakeHost& host) {
                    host.put("/sys/module/nvidia/version", "550.54.15\n");
                    host.answer({"modinfo", "-k", "6.8.0-1029-aws"}, {0, "550.54.15\n", ""});
                  });
                },
                "so is the module on the disk (550.54.15)", "packages of two sources or versions are mixed"},
        Failure{"mismatch_by_words", [] { return driver_host(golden("mismatch.txt"), 255); }, "are of different versions", "reboot"},
        Failure{"no_permission", [] { return driver_host("Failed to initialize NVML: Insufficient Permissions\n", 4); },
                "may not use the GPU's device files", "/dev/nvidia*"},
        Failure{"lost",
                [] {
                  return changed(driver_host("Failed to initialize NVML: GPU is lost\n", 15), [](FakeHost& host) {
                    host.answer({"dmesg"},
                                {0, "[ 84.1] NVRM: Xid (PCI:0000:00:1e): 79, pid=812, name=python3, GPU has fallen off the bus.\n", ""});
                  });
                },
                "the GPU has fallen off the bus (Xid 79)", "stop and start the instance"},
        Failure{"lost_in_a_row", [] { return driver_host("0, GPU-1, Tesla T4, 00000000:00:1E.0, 580.95.05, [GPU is lost], [N/A]\n"); },
                "GPU 0 (Tesla T4) answers `[GPU is lost]`", "stop and start the instance"},
        Failure{"gsp",
                [] {
                  return changed(driver_host("Failed to initialize NVML: Unknown Error\n", 255), [](FakeHost& host) {
                    host.answer({"dmesg"}, {1, "", "dmesg: read kernel buffer failed: Operation not permitted\n"});
                    host.answer({"journalctl", "-k"},
                                {0, "NVRM: Xid (PCI:0000:00:1e): 119, Timeout after 6s of waiting for RPC response from GPU0 GSP!\n", ""});
                  });
                },
                "(GSP) does not answer (Xid 119)", "stop and start"},
        Failure{"unknown", [] { return driver_host("Failed to initialize NVML: Unknown Error\n", 255); },
                "Failed to initialize NVML: Unknown Error", "dmesg"},
        Failure{"unknown_in_container",
                [] {
                  return changed(driver_host("Failed to initialize NVML: Unknown Error\n", 255),
                                 [](FakeHost& host) { host.edit_facts().container = true; });
                },
                "the container has lost its GPU", "restart the container"},
        Failure{"power", [] { return driver_host("", 8); }, "power cables", "check them"},
        Failure{"interrupts", [] { return driver_host("", 10); }, "no interrupts", "stop and start"},
        Failure{"function", [] { return driver_host("", 13); }, "newer than the driver's library", "one version"},
        Failure{"inforom", [] { return driver_host("", 14); }, "infoROM", "report it"},
        Failure{"hangs", [] { return changed(driver_host(""), [](FakeHost& host) { host.on({"nvidia-smi"}, nullptr); }); },
                "nvidia-smi does not come back: the driver or a GPU hangs", "reboot; where it happens again"},
        Failure{"lost_without_a_word_of_the_kernel", [] { return driver_host("", 15); },
                "the GPU is lost: it has fallen off the bus or cannot be reached", "stop and start"},
        Failure{"lost_by_words", [] { return driver_host("Unable to determine the device handle for GPU: GPU is lost.\n", 255); },
                "the GPU is lost: it has fallen off the bus or cannot be reached", "stop and start"},
        Failure{"fraction_with_another_driver",
                [] {
                  return changed(driver_host(golden("no_devices.txt"), 6), [](FakeHost& host) {
                    host.edit_facts().gpus[0] = {"0000:00:1e.0", "27b8", "1733", ""};
                  });
                },
                "the driver does not know this GPU", "GRID"},
        Failure{"finds_none", [] { return driver_host(golden("no_devices.txt"), 6); },
                "the driver 580.95.05 is loaded and finds no GPU that it can use", "dmesg | grep -i nvrm"},
        Failure{"does_not_answer", [] { return driver_host(golden("no_driver.txt"), 9); },
                "the driver 580.95.05 is loaded, but does not answer", "a reboot helps where it hangs"},
        Failure{"too_old_for_the_driver",
                [] {
                  return changed(driver_host(golden("no_devices.txt"), 6), [](FakeHost& host) {
                    host.answer({"dmesg"}, {0, "NVRM: The NVIDIA GPU is supported through the NVIDIA 470.xx Legacy drivers.\n", ""});
                  });
                },
                "the installed driver no longer supports this GPU", "580 for Maxwell to Volta (V100), 470 for Kepler"},
        Failure{"old_smi", [] { return driver_host("Field \"mig.mode.current\" is not a valid field to query.\n", 2); },
                "this nvidia-smi does not know the question: its driver is older than 450", "gpustrap up cuda HOST"},
        Failure{"not_executable", [] { return driver_host("", 126); }, "may not be executed", "mode"}),
    [](const auto& row) { return row.param.name; });

// ---- the probe

TEST(NvidiaSmiStep, KeepsTheProofAndDoesNotPayTwice) {
  FakeHost host = probing_host(right(kT4));
  EXPECT_EQ(state_of(probed(), host).reason, "Tesla T4 (15.0 GiB), driver 580.95.05, not proven yet");
  RecordingLog log;
  const auto done = run_step(probed(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("s ago, same boot and driver"));
  EXPECT_THAT(log.lines, Contains("GPU 0 (Tesla T4): memory allocated, a kernel ran, its results are right (by /usr/bin/python3)"));
  EXPECT_TRUE(host.at(kProof).has_value());
}

TEST(NvidiaSmiStep, AnotherBootDriverOrGpuOrAFaultWantsAnotherProof) {
  FakeHost host = probing_host(right(kT4));
  ASSERT_TRUE(run_step(probed(), host).has_value());
  const std::string proof = host.content(kProof);

  host.edit_facts().boot_id = "another";
  EXPECT_THAT(state_of(probed(), host).reason, HasSubstr("not proven since the last boot"));
  host.put(kProof, "half a pro");
  EXPECT_THAT(state_of(probed(), host).reason, HasSubstr("not proven yet"));

  FakeHost later = probing_host(right(kT4));
  later.put(kProof, proof);
  ASSERT_EQ(state_of(probed(), later).is, StepState::Is::satisfied);
  later.answer({"dmesg"}, {0, "NVRM: Xid (PCI:0000:00:1e): 31, pid=1, MMU Fault\n", ""});
  EXPECT_THAT(state_of(probed(), later).reason, HasSubstr("the driver has logged faults since the proof"));

  FakeHost other = probing_host(right("GPU-2"));
  other.put(kProof, proof);
  other.answer({"nvidia-smi"}, {0, "0, GPU-2, Tesla T4, 00000000:00:1E.0, 580.95.05, 15360, [N/A]\n", ""});
  EXPECT_THAT(state_of(probed(), other).reason, HasSubstr("other GPUs than those proven"));
  other.answer({"nvidia-smi"}, {0, fmt::format("0, {}, Tesla T4, 00000000:00:1E.0, 590.44.01, 15360, [N/A]\n", kT4), ""});
  EXPECT_THAT(state_of(probed(), other).reason, HasSubstr("proven with driver 580.95.05, 590.44.01 is loaded now"));
}

TEST(NvidiaSmiStep, WhoIsNotRootKeepsTheProofBelowTheHome) {
  FakeHost host = probing_host(right(kT4));
  host.as_user();
  ASSERT_TRUE(run_step(probed(), host).has_value());
  EXPECT_TRUE(host.at("/home/ubuntu/.local/state/gpustrap/run/gpu-proof.json").has_value());
}

TEST(NvidiaSmiStep, TheLoginsOwnPythonProvesWhereTheHostHasNoneAndNeverAsRoot) {
  FakeHost host = driver_host(golden("t4.csv"));
  host.put("/home/ubuntu/conda/bin/python3", "", 0755);
  host.answer({"/home/ubuntu/conda/bin/python3"}, {0, right(kT4), ""});
  EXPECT_EQ(state_of(probed(), host).is, StepState::Is::unknown);
  host.as_user();
  RecordingLog log;
  ASSERT_TRUE(run_step(probed(), host, log).has_value());
  EXPECT_THAT(log.lines, Contains(HasSubstr("(by /home/ubuntu/conda/bin/python3)")));
}

TEST(NvidiaSmiStep, WithoutAPythonTheProofIsUnknownInAPlanAndAFailureInARun) {
  FakeHost host = driver_host(golden("t4.csv"));
  EXPECT_EQ(state_of(probed(), host).is, StepState::Is::unknown);
  const Error error = failure_of(probed(), host);
  EXPECT_THAT(error.hint(), HasSubstr("python3-minimal"));
}

struct ProbeFailure {
  std::string name, line, cause, way_out;
};
class NvidiaProbe : public ::testing::TestWithParam<ProbeFailure> {};
TEST_P(NvidiaProbe, SaysWhyAGpuCannotCompute) {
  FakeHost host = probing_host(GetParam().line + "\n", 1);
  const Error error = failure_of(probed(), host);
  EXPECT_THAT(error.why(), HasSubstr(GetParam().cause));
  EXPECT_THAT(error.hint(), HasSubstr(GetParam().way_out));
  EXPECT_FALSE(host.at(kProof).has_value());
}
INSTANTIATE_TEST_SUITE_P(
    Classes, NvidiaProbe,
    ::testing::Values(
        ProbeFailure{"no_libcuda", R"({"error": "no libcuda", "during": "loading libcuda.so.1", "gpustrap_probe": 1})",
                     "the GPUs cannot compute: no libcuda", "libnvidia-compute-580"},
        ProbeFailure{"fabric", R"({"code": 802, "error": "system not yet initialized", "during": "cuInit", "gpustrap_probe": 1})",
                     "system not yet initialized in cuInit (CUDA error 802)", "nvidia-fabricmanager"},
        ProbeFailure{
            "memory",
            fmt::format(R"({{"uuid": "{}", "code": 2, "error": "out of memory", "during": "cuMemAlloc_v2", "gpustrap_probe": 1}})", kT4),
            "GPU 0 (Tesla T4) cannot compute: out of memory", "memory is full"},
        ProbeFailure{
            "wrong",
            fmt::format(R"({{"uuid": "{}", "error": "its results are wrong: memory or arithmetic is broken", "gpustrap_probe": 1}})", kT4),
            "its results are wrong", "dmesg"},
        ProbeFailure{
            "compatibility",
            R"({"code": 804, "error": "forward compatibility was attempted on non supported HW", "during": "cuInit", "gpustrap_probe": 1})",
            "CUDA error 804", "LD_LIBRARY_PATH"},
        ProbeFailure{"broken", "Traceback (most recent call last):", "the probe broke", "dmesg"}),
    [](const auto& row) { return row.param.name; });

TEST(NvidiaSmiStep, AProbeThatDoesNotComeBackIsAGpuThatHangs) {
  FakeHost host = probing_host("");
  host.on({"/usr/bin/python3"}, nullptr);
  const Error error = failure_of(probed(), host);
  EXPECT_EQ(error.code(), ErrorCode::timeout);
  EXPECT_THAT(error.why(), HasSubstr("the kernel did not come back from a GPU within"));
  EXPECT_THAT(error.hint(), HasSubstr("the driver or a GPU hangs: reboot"));
  EXPECT_FALSE(host.at(kProof).has_value());
}

TEST(NvidiaSmiStep, AGpuThatCudaDoesNotSeeIsAFailure) {
  FakeHost host = probing_host(right("GPU-other"));
  EXPECT_THAT(failure_of(probed(), host).why(), HasSubstr("GPU 0 (Tesla T4) answers nvidia-smi, but CUDA does not see it"));
}

TEST(NvidiaSmiStep, SlicedGpusAreNotProbed) {
  FakeHost host = probing_host(right(kT4));
  host.answer({"nvidia-smi"}, {0, "0, GPU-1, NVIDIA A100-SXM4-40GB, 00000000:10:1C.0, 580.95.05, 40960, Enabled\n", ""});
  EXPECT_THAT(failure_of(probed(), host).why(), HasSubstr("cut into slices (MIG)"));
}

INSTANTIATE_TEST_SUITE_P(NvidiaSmi, StepContract,
                         ::testing::Values(ContractCase{"nvidia_smi_unproven", probed(), [] { return probing_host(right(kT4)); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

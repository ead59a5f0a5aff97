#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "tests/support/fake_apt.h"
#include "tests/support/fake_gpu_host.h"
#include "tests/support/step_contract.h"

// Packages, modules and drivers here are stand-ins of the real names; what is tested is which of them are asked for, when, and in which
// order.

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kT4 = "1eb8";
constexpr const char* kV100 = "1db1";
constexpr const char* kH100 = "2330";
constexpr const char* kRelease = "6.8.0-1029-aws";
constexpr const char* kRepository = "https://mirror.example.org/repos/ubuntu2404/x86_64/";

NvidiaDriverSpec driver() {
  NvidiaDriverSpec spec;
  spec.tables = builtin_tables();
  return spec;
}

NvidiaDriverSpec from_nvidia() {
  NvidiaDriverSpec spec = driver();
  spec.source = NvidiaDriverSpec::Source::nvidia;
  spec.mirror = Url{"https://mirror.example.org/repos"};
  spec.fingerprint = kStandInFingerprint;
  return spec;
}

/// A host whose NVIDIA repository is a stand-in, with headers of the running kernel to build with.
FakeHost nvidia_host(const std::vector<std::string>& gpus, std::vector<FakePackage> packages = nvidia_driver_packages()) {
  packages.push_back({std::string("linux-headers-") + kRelease, "6.8.0-1029.31", {}, {}});
  FakeHost host = gpu_host(gpus, packages);
  host.serve(std::string(kRepository) + "0dfa6345.pub", kStandInKey);
  return host;
}

/// What apt-get, modprobe and the like were asked to do, without apt's options.
std::vector<std::string> acts(const FakeHost& host) {
  std::vector<std::string> all;
  for (const std::string& change : host.changes()) {
    if (!change.starts_with("act ")) {
      if (change == "reboot") all.push_back(change);
      continue;
    }
    const std::size_t install = change.find(" install ");
    all.push_back(install == std::string::npos ? change.substr(4) : "install " + change.substr(change.find(" -- ") + 4));
  }
  std::erase_if(all, [](const std::string& act) { return act.ends_with(" update"); });
  return all;
}

StepState done(const NvidiaDriverSpec& spec, FakeHost& host) {
  const auto state = run_step(spec, host);
  if (state) return *state;
  ADD_FAILURE() << state.error().sentence() << " / " << state.error().hint();
  return StepState::unknown("");
}

Error error_of(const NvidiaDriverSpec& spec, FakeHost& host) {
  const auto state = run_step(spec, host);
  if (!state) return state.error();
  ADD_FAILURE() << "it was done: " << state->reason;
  return {ErrorCode::internal, ""};
}

TEST(NvidiaDriverStep, APlanShowsWhatIsChosenAndWhy) {
  const FakeHost host = gpu_host({kT4}, ubuntu_driver());
  const StepState state = state_of(driver(), host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_EQ(state.reason, "Tesla T4 (sm_75): driver branch 580, open modules");
  EXPECT_THAT(state.changes, HasSubstr("install from Ubuntu: nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server "
                                       "linux-modules-nvidia-580-server-open-aws\nor install from NVIDIA's repository: nvidia-open-580\n"
                                       "restart the host, if the module cannot be loaded otherwise"));
}

TEST(NvidiaDriverStep, TakesBuiltModulesOfTheRunningKernelAndNeedsNoRestart) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  const StepState state = done(driver(), host);
  EXPECT_EQ(state.is, StepState::Is::satisfied) << state.reason;
  EXPECT_EQ(state.reason, "Tesla T4 (sm_75): driver 580.95.05 is loaded and stays");
  EXPECT_THAT(acts(host),
              ElementsAre("install nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server "
                          "linux-modules-nvidia-580-server-open-6.8.0-1029-aws",
                          "apt-mark hold -- linux-image-6.8.0-1029-aws linux-image-aws linux-modules-nvidia-580-server-open-6.8.0-1029-aws "
                          "nvidia-headless-no-dkms-580-server-open nvidia-utils-580-server",
                          "modprobe nvidia", "modprobe nvidia-uvm", "systemctl restart nvidia-persistenced.service"));
}

TEST(NvidiaDriverStep, TakesProprietaryModulesForAGpuBeforeTuring) {
  FakeHost host = gpu_host({kV100}, ubuntu_driver(""));
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), Contains("install nvidia-headless-no-dkms-580-server nvidia-utils-580-server "
                                   "linux-modules-nvidia-580-server-6.8.0-1029-aws"));
}

TEST(NvidiaDriverStep, GoesOnAfterTheRestartThatANewerKernelNeeds) {
  std::vector<FakePackage> packages = ubuntu_driver();
  packages.erase(packages.begin());  // none for the running kernel: only the flavour's, which brings another kernel
  packages.front().depends.clear();
  packages.front().installed = [](FakeHost& host) {
    put_module(host, "6.8.0-1044-aws", "580.95.05");
    host.put("/boot/vmlinuz-6.8.0-1044-aws", "");
  };
  FakeHost host = gpu_host({kT4}, packages);
  host.on_reboot([](FakeHost& fake, const RebootWish& wish) {
    EXPECT_EQ(wish.reason, "the driver's module is installed for the kernel 6.8.0-1044-aws, and 6.8.0-1029-aws is running");
    fake.edit_facts().kernel = "6.8.0-1044-aws";
  });
  (void)done(driver(), host);
  EXPECT_THAT(acts(host), Contains("reboot"));
  host.forget();
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), ElementsAre("modprobe nvidia", "modprobe nvidia-uvm", "systemctl restart nvidia-persistenced.service"));
}

TEST(NvidiaDriverStep, NeverRestartsWhereTheRecipeForbidsIt) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.put("/proc/modules", "nouveau 1 0 - Live 0x0\n");
  host.answer({"modprobe", "-r", "nouveau"}, {1, "", "modprobe: FATAL: Module nouveau is in use.\n"});
  NvidiaDriverSpec spec = driver();
  spec.reboot = NvidiaDriverSpec::Reboot::never;
  const Error error = error_of(spec, host);
  EXPECT_THAT(error.why(), HasSubstr("a restart is needed, and the step says `reboot: never`: nouveau holds the GPU"));
  EXPECT_THAT(error.hint(), HasSubstr("restart the host"));
  EXPECT_THAT(host.changes(), Not(Contains("reboot")));
}

TEST(NvidiaDriverStep, KeepsNouveauAwayAndRestartsWhereItDoesNotLetGo) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.put("/proc/modules", "nouveau 1 0 - Live 0x0\n");
  host.answer({"modprobe", "-r", "nouveau"}, {1, "", "modprobe: FATAL: Module nouveau is in use.\n"});
  host.on_reboot([](FakeHost& fake, const RebootWish&) { fake.put("/proc/modules", ""); });
  (void)done(driver(), host);
  EXPECT_THAT(host.content("/etc/modprobe.d/gpustrap-blacklist-nouveau.conf"), HasSubstr("blacklist nouveau\noptions nouveau modeset=0\n"));
  EXPECT_THAT(acts(host), Contains("update-initramfs -u"));
  EXPECT_THAT(acts(host), Contains("reboot"));
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
}

TEST(NvidiaDriverStep, SecureBootIsToldBeforeAnythingIsInstalled) {
  FakeHost host = nvidia_host({kT4});
  host.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::string("\x06\0\0\0\1", 5));
  const Error error = error_of(from_nvidia(), host);
  EXPECT_THAT(error.why(), HasSubstr("Secure Boot is on"));
  EXPECT_FALSE(error.hint().empty());
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(NvidiaDriverStep, SecureBootIsNoTroubleForSignedModules) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.put("/sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c", std::string("\x06\0\0\0\1", 5));
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
}

TEST(NvidiaDriverStep, BuildsNvidiasOwnWithPinHeadersAndTheKernelsCompiler) {
  FakeHost host = nvidia_host({kT4});
  EXPECT_EQ(done(from_nvidia(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.content("/etc/apt/sources.list.d/nvidia-cuda.sources"), HasSubstr(std::string("URIs: ") + kRepository));
  EXPECT_THAT(host.content("/etc/apt/preferences.d/nvidia-cuda"), HasSubstr("Pin-Priority: 600"));
  EXPECT_THAT(acts(host), ElementsAre("install nvidia-driver-pinning-580", "install linux-headers-6.8.0-1029-aws gcc-13",
                                      "install nvidia-open-580 nvidia-persistenced",
                                      AllOf(HasSubstr("apt-mark hold"), HasSubstr("nvidia-open-580"),
                                            HasSubstr("linux-headers-6.8.0-1029-aws"), Not(HasSubstr("pinning"))),
                                      "modprobe nvidia", "modprobe nvidia-uvm", "systemctl enable nvidia-persistenced.service",
                                      "systemctl restart nvidia-persistenced.service"));
}

TEST(NvidiaDriverStep, TakesNvidiasWhereUbuntuHasNone) {
  FakeHost host = nvidia_host({kT4});
  NvidiaDriverSpec spec = from_nvidia();
  spec.source = NvidiaDriverSpec::Source::automatic;
  EXPECT_EQ(done(spec, host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), Contains("install nvidia-open-580 nvidia-persistenced"));
}

TEST(NvidiaDriverStep, AKeyWithAnotherFingerprintIsNotTrusted) {
  FakeHost host = nvidia_host({kT4});
  NvidiaDriverSpec spec = from_nvidia();
  spec.fingerprint = "0000000000000000000000000000000000000000";
  host.serve(std::string(kRepository) + "00000000.pub", kStandInKey);
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::digest);
  EXPECT_THAT(error.why(), HasSubstr(std::string("it holds ") + kStandInFingerprint));
  EXPECT_EQ(host.content("/etc/apt/sources.list.d/nvidia-cuda.sources"), "<no file>");
}

TEST(NvidiaDriverStep, TakesANewerKernelWhereTheHeadersOfTheRunningOneAreGone) {
  std::vector<FakePackage> packages = nvidia_driver_packages();
  packages.push_back({"linux-image-aws", "6.8.0-1044.46", {}, [](FakeHost& host) {
                        host.put("/boot/vmlinuz-6.8.0-1044-aws", "");
                        host.put_directory("/lib/modules/6.8.0-1044-aws");
                      }});
  packages.push_back(
      {"linux-headers-aws", "6.8.0-1044.46", {}, [](FakeHost& host) { host.put("/lib/modules/6.8.0-1044-aws/build/Makefile", ""); }});
  FakeHost host = gpu_host({kT4}, packages);
  host.serve(std::string(kRepository) + "0dfa6345.pub", kStandInKey);
  host.on_reboot([](FakeHost& fake, const RebootWish& wish) {
    EXPECT_THAT(wish.reason, HasSubstr("the headers of the kernel 6.8.0-1029-aws are no longer served, and 6.8.0-1044-aws"));
    fake.edit_facts().kernel = "6.8.0-1044-aws";
  });
  (void)done(from_nvidia(), host);
  EXPECT_THAT(acts(host), ElementsAre("install nvidia-driver-pinning-580", "install linux-image-aws linux-headers-aws", "reboot"));
  EXPECT_EQ(done(from_nvidia(), host).is, StepState::Is::satisfied);
}

TEST(NvidiaDriverStep, SaysOfEverySourceWhyItDoesNotServe) {
  FakeHost host = nvidia_host({kT4}, {});
  NvidiaDriverSpec spec = from_nvidia();
  spec.source = NvidiaDriverSpec::Source::automatic;
  const Error error = error_of(spec, host);
  EXPECT_THAT(error.why(), AllOf(HasSubstr("no source has packages of driver branch 580"), HasSubstr("Ubuntu's own packages: "),
                                 HasSubstr("NVIDIA's repository: ")));
}

TEST(NvidiaDriverStep, SourcesWhoseDriverIsOfAnotherBranchDoNotServe) {
  std::vector<FakePackage> packages = nvidia_driver_packages();
  packages[1].version = "575.57.08-1ubuntu1";  // as a pin of the host's own may hold it
  ASSERT_EQ(packages[1].name, "nvidia-open-580");
  FakeHost host = nvidia_host({kT4}, packages);
  const Error error = error_of(from_nvidia(), host);
  EXPECT_THAT(error.why(), HasSubstr("nvidia-open-580 is of version 575.57.08-1ubuntu1 there, driver branch 580 is wanted"));
}

TEST(NvidiaDriverStep, AModuleThatIsOlderThanItsPackageIsFoundOut) {
  std::vector<FakePackage> packages = ubuntu_driver();
  packages[0].installed = [](FakeHost& host) { put_module(host, kRelease, "450.80.02"); };
  FakeHost host = gpu_host({kT4}, packages);
  NvidiaDriverSpec spec = driver();
  spec.cuda = "13.0";
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_THAT(error.why(), HasSubstr("driver 450.80.02 was installed and loaded, and is not what is wanted ("));
  EXPECT_THAT(error.hint(), HasSubstr("`apt-cache policy` on the host"));
}

TEST(NvidiaDriverStep, AServiceThatIsMaskedIsNotUnmasked) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.answer({"systemctl", "show"}, {0, "LoadState=masked\nUnitFileState=masked\nActiveState=inactive\n", ""});
  const Error error = error_of(driver(), host);
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.why(), "nvidia-persistenced is masked");
  EXPECT_EQ(error.hint(), "sudo systemctl unmask nvidia-persistenced.service");
}

TEST(NvidiaDriverStep, TheFabricManagerHasTheDriversVersionToTheDigit) {
  std::vector<FakePackage> packages = nvidia_driver_packages();
  packages.push_back({"nvidia-fabricmanager", "580.95.05-1ubuntu1", {}, [](FakeHost& host) {
                        host.put("/etc/systemd/fake/nvidia-fabricmanager.service", "disabled inactive");
                      }});
  FakeHost host = nvidia_host(std::vector<std::string>(8, kH100), packages);
  for (const char* address : {"0000:20:00.0", "0000:20:01.0", "0000:20:02.0", "0000:20:03.0"}) {
    host.put(std::string("/sys/bus/pci/devices/") + address + "/vendor", "0x10de\n");
    host.put(std::string("/sys/bus/pci/devices/") + address + "/class", "0x068000\n");
  }
  EXPECT_EQ(done(from_nvidia(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), Contains("install nvidia-fabricmanager=580.95.05-1ubuntu1"));
  EXPECT_THAT(host.content("/etc/systemd/fake/nvidia-fabricmanager.service"), "enabled active");
}

TEST(NvidiaDriverStep, AFabricManagerOfAnotherVersionIsNoUse) {
  std::vector<FakePackage> packages = nvidia_driver_packages();
  packages.push_back({"nvidia-fabricmanager", "580.105.08-1ubuntu1", {}, {}});
  FakeHost host = nvidia_host(std::vector<std::string>(8, kH100), packages);
  NvidiaDriverSpec spec = from_nvidia();
  spec.fabric_manager = NvidiaDriverSpec::FabricManager::always;
  const Error error = error_of(spec, host);
  EXPECT_THAT(error.why(), HasSubstr("nvidia-fabricmanager of exactly version 580.95.05"));
}

TEST(NvidiaDriverStep, LeavesAnotherDriverToWhoComputesWithIt) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  put_loaded(host, "535.161.08");
  host.put("/run/fake-gpu-programs", "812, python3\n");
  NvidiaDriverSpec spec = driver();
  spec.branch = "580";
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::busy);
  EXPECT_THAT(error.why(), HasSubstr("812 (python3) computes on the GPUs"));
  EXPECT_THAT(acts(host), IsEmpty());
}

TEST(NvidiaDriverStep, LeavesAnotherDriverToWhoIsLoggedIn) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  put_loaded(host, "535.161.08");
  host.answer({"loginctl", "list-sessions"}, {0, "5 1001 ann - pts/1\n", ""});
  host.answer({"loginctl", "show-session", "5"}, {0, "Class=user\nState=active\n", ""});
  NvidiaDriverSpec spec = driver();
  spec.branch = "580";
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::busy);
  EXPECT_THAT(error.why(), HasSubstr("ann is logged in, and another driver would end that"));
  EXPECT_THAT(acts(host), IsEmpty());
}

TEST(NvidiaDriverStep, ReplacesALoadedDriverWithoutARestartWhereItLetsGo) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  put_loaded(host, "535.161.08");
  host.put("/proc/modules", "nvidia_uvm 1 0 - Live 0x0\nnvidia 1 1 nvidia_uvm, Live 0x0\n");
  host.put("/etc/systemd/fake/nvidia-persistenced.service", "static active");
  NvidiaDriverSpec spec = driver();
  spec.branch = "580";
  EXPECT_EQ(done(spec, host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), Contains("systemctl stop nvidia-persistenced.service"));
  EXPECT_THAT(acts(host), Contains("modprobe -r nvidia_uvm nvidia"));
  EXPECT_THAT(acts(host), Not(Contains("reboot")));
}

TEST(NvidiaDriverStep, LetsGoOfItsOwnHoldsForAnotherBranch) {
  std::vector<FakePackage> packages = ubuntu_driver();
  for (FakePackage& package : ubuntu_driver("-open", "595.71.05")) packages.push_back(package);
  FakeHost host = gpu_host({kT4}, packages);
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
  host.put("/proc/modules", "nvidia 1 0 - Live 0x0\n");
  host.forget();
  NvidiaDriverSpec spec = driver();
  spec.branch = "595";
  EXPECT_EQ(done(spec, host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host).front(), AllOf(HasSubstr("apt-mark unhold"), HasSubstr("nvidia-utils-580-server")));
}

TEST(NvidiaDriverStep, ADriverThatServesStaysAndIsHeld) {
  FakeHost host = gpu_host({kT4}, {});
  put_loaded(host, "570.124.06");
  EXPECT_EQ(state_of(driver(), host).is, StepState::Is::satisfied);
  FakeHost packaged = gpu_host({kT4}, {});
  put_loaded(packaged, "570.124.06");
  packaged.put("/var/lib/dpkg/status", dpkg_stanza("nvidia-utils-570-server", "570.124.06-0ubuntu1"));
  EXPECT_THAT(state_of(driver(), packaged).reason, HasSubstr("nvidia-utils-570-server not held"));
  EXPECT_EQ(done(driver(), packaged).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(packaged), ElementsAre("apt-mark hold -- nvidia-utils-570-server"));
}

TEST(NvidiaDriverStep, LibrariesOfAnotherVersionAreSeen) {
  FakeHost host = gpu_host({kT4}, {});
  put_loaded(host, "580.65.06");
  put_module(host, kRelease, "580.95.05");
  put_libraries(host, "580.95.05");
  EXPECT_THAT(state_of(driver(), host).reason, HasSubstr("its libraries are of 580.95.05"));
  host.put("/proc/modules", "nvidia 1 0 - Live 0x0\n");
  EXPECT_EQ(done(driver(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), ElementsAre("modprobe -r nvidia", "modprobe nvidia", "modprobe nvidia-uvm"));
}

TEST(NvidiaDriverStep, AContainerIsOnlyLookedAt) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.edit_facts().container = true;
  const Error error = error_of(driver(), host);
  EXPECT_THAT(error.why(), HasSubstr("a container has its driver from outside, and none is loaded"));
  put_loaded(host, "570.124.06");
  EXPECT_EQ(state_of(driver(), host).reason, "Tesla T4 (sm_75): driver 570.124.06 from outside the container");
  EXPECT_EQ(state_of(driver(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(NvidiaDriverStep, ADriverFromARunFileIsNotMixedWithPackages) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.put("/usr/bin/nvidia-uninstall", "");
  const Error error = error_of(driver(), host);
  EXPECT_THAT(error.why(), HasSubstr(".run installer"));
  EXPECT_THAT(error.hint(), HasSubstr("nvidia-uninstall"));
}

TEST(NvidiaDriverStep, SaysWhyTheModuleIsNotTaken) {
  FakeHost host = gpu_host({kT4}, ubuntu_driver());
  host.answer({"modprobe", "nvidia"}, {1, "", "modprobe: ERROR: could not insert 'nvidia': Key was rejected by service\n"});
  host.answer({"dmesg"}, {0, "Loading of unsigned module is rejected\n", ""});
  const Error error = error_of(driver(), host);
  EXPECT_THAT(error.sentence(), HasSubstr("Key was rejected by service"));
  EXPECT_THAT(error.why(), HasSubstr("its signature is not trusted"));
}

TEST(NvidiaDriverStep, RunsTheCudaThatTheRecipeWants) {
  FakeHost host = gpu_host({kT4}, {});
  put_loaded(host, "535.161.08");
  NvidiaDriverSpec spec = driver();
  spec.cuda = "12.4";  // by minor-version compatibility
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied);
  spec.cuda = "13.0";
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::unsatisfied);
  EXPECT_THAT(state_of(spec, host).reason, HasSubstr("driver branch 580, open modules, in place of driver 535.161.08"));
}

TEST(NvidiaDriverStep, DebiansOwnAreTakenOnRequest) {
  std::vector<FakePackage> packages = {
      {"nvidia-open-kernel-dkms", "535.261.03-1~deb12u1", {}, [](FakeHost& host) { put_module(host, kRelease, "535.261.03"); }},
      {"nvidia-smi", "535.261.03-1~deb12u1", {}, {}},
      {"libcuda1", "535.261.03-1~deb12u1", {}, {}},
      {"nvidia-persistenced", "535.171.04-1~deb12u1", {}, {}},
      {"gcc-13", "13", {}, {}},
      {std::string("linux-headers-") + kRelease, "1", {}, {}}};
  FakeHost host = gpu_host({kT4}, packages);
  host.edit_facts().os = "debian";
  host.edit_facts().os_version = "12";
  NvidiaDriverSpec spec = driver();
  spec.source = NvidiaDriverSpec::Source::debian;
  EXPECT_EQ(done(spec, host).is, StepState::Is::satisfied);
  EXPECT_THAT(acts(host), Contains("install nvidia-open-kernel-dkms nvidia-smi libcuda1 nvidia-persistenced"));
  spec.branch = "580";
  EXPECT_THAT(error_of(spec, host).why(), HasSubstr("Debian has no packages of driver branch 580"));
}

TEST(NvidiaDriverStep, AsksForTheTables) {
  const FakeHost host = gpu_host({kT4}, {});
  const auto state = make_step(NvidiaDriverSpec{})->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().hint(), HasSubstr("gpustrap up"));
}

INSTANTIATE_TEST_SUITE_P(NvidiaDriver, StepContract,
                         ::testing::Values(ContractCase{"nvidia_driver_ubuntu", driver(), [] { return gpu_host({kT4}, ubuntu_driver()); }},
                                           ContractCase{"nvidia_driver_nvidia", from_nvidia(), [] { return nvidia_host({kT4}); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

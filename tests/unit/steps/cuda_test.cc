#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/sha256.h"
#include "agent/steps/cuda_toolkits.h"
#include "tests/support/fake_apt.h"
#include "tests/support/fake_gpu_host.h"
#include "tests/support/step_contract.h"

// Packages, installers and toolkits here are stand-ins of the real names.

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kT4 = "1eb8";
constexpr const char* kK80 = "102d";
constexpr const char* kRepository = "https://mirror.example.org/repos/ubuntu2404/x86_64/";

CudaSpec cuda(const std::string& version = "auto") {
  CudaSpec spec;
  spec.version = version;
  spec.tables = builtin_tables();
  spec.mirror = Url{"https://mirror.example.org/repos/"};
  spec.fingerprint = kStandInFingerprint;
  return spec;
}

/// A host with a loaded driver, a repository of these toolkits, and compilers that say which they are.
FakeHost cuda_host(const std::vector<std::string>& versions = {"12.8", "12.9", "13.0"}, const std::string& gpu = kT4) {
  std::vector<FakePackage> packages;
  for (const std::string& version : versions) packages.push_back(toolkit_package(version));
  FakeHost host = gpu_host({gpu}, packages);
  put_loaded(host, gpu == kK80 ? "470.256.02" : "580.95.05");
  host.serve(std::string(kRepository) + "0dfa6345.pub", kStandInKey);
  for (const char* version : {"11.8", "12.4", "12.8", "12.9", "13.0"}) {
    host.answer({toolkit_folder(version) + "/bin/nvcc", "--version"},
                {0, std::string("Cuda compilation tools, release ") + version + ", V" + version + ".61\n", ""});
  }
  host.answer({"update-alternatives", "--query"}, {2, "", "no alternatives for cuda\n"});
  return host;
}

StepState done(const CudaSpec& spec, FakeHost& host) {
  const auto state = run_step(spec, host);
  if (state) return *state;
  ADD_FAILURE() << state.error().sentence() << " / " << state.error().hint();
  return StepState::unknown("");
}

Error error_of(const CudaSpec& spec, FakeHost& host) {
  const auto state = run_step(spec, host);
  if (!state) return state.error();
  ADD_FAILURE() << "it was done: " << state->reason;
  return {ErrorCode::internal, ""};
}

TEST(CudaStep, APlanShowsWhatIsChosenAndWhy) {
  const FakeHost host = cuda_host();
  const StepState state = state_of(cuda(), host);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_THAT(state.reason, AllOf(HasSubstr("CUDA 13.0 is not installed; there is no /usr/local/cuda; Tesla T4 (sm_75): driver 580.95.05"),
                                  HasSubstr("CUDA 13.0 is the newest that driver 580.95.05 runs by itself")));
  EXPECT_THAT(state.changes, HasSubstr("install cuda-toolkit-13-0 from https://mirror.example.org/repos/ubuntu2404/x86_64\n"
                                       "/usr/local/cuda → /usr/local/cuda-13.0"));
}

TEST(CudaStep, InstallsTheToolkitAloneAndMakesItTheDefault) {
  FakeHost host = cuda_host();
  EXPECT_EQ(done(cuda("12.9"), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.changes(), Contains(HasSubstr("install --no-install-recommends -- cuda-toolkit-12-9")));
  EXPECT_EQ(host.at("/usr/local/cuda")->content, "/usr/local/cuda-12.9");
}

TEST(CudaStep, RefusesAToolkitThatBringsADriver) {
  std::vector<FakePackage> packages = {toolkit_package("12.9"), {"cuda-drivers", "595.1-1", {}, {}}};
  packages.front().depends = {"cuda-drivers"};
  FakeHost host = gpu_host({kT4}, packages);
  put_loaded(host, "580.95.05");
  host.serve(std::string(kRepository) + "0dfa6345.pub", kStandInKey);
  const Error error = error_of(cuda("12.9"), host);
  EXPECT_EQ(error.why(), "cuda-toolkit-12-9 would install cuda-drivers along with it");
  EXPECT_EQ(host.at("/usr/local/cuda-12.9"), std::nullopt);
}

TEST(CudaStep, RefusesWhatTheGpuCannotRun) {
  FakeHost host = cuda_host({}, kK80);
  const Error error = error_of(cuda("12.4"), host);
  EXPECT_EQ(error.why(), "CUDA 12.4 cannot run on Tesla K80 (sm_37): the last is 11.8 with driver branch 470");
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(CudaStep, SaysWhereARepositoryDoesNotHaveIt) {
  FakeHost host = cuda_host();
  const Error error = error_of(cuda("11.8"), host);
  EXPECT_THAT(error.why(), HasSubstr("the repository ubuntu2404 has CUDA 12.5 and newer, not 11.8"));
  EXPECT_THAT(error.hint(), HasSubstr("runfile"));
}

TEST(CudaStep, TakesWhatThereIsWhereAnyWillDo) {
  FakeHost host = cuda_host();
  put_toolkit(host, "12.4");
  put_toolkit(host, "12.9");
  host.put_symlink("/usr/local/cuda", "cuda-12.4");
  EXPECT_EQ(state_of(cuda(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(state_of(cuda(), host).reason, HasSubstr("CUDA 12.4 at /usr/local/cuda-12.4, where /usr/local/cuda leads, beside 12.9; "));
  EXPECT_EQ(state_of(cuda("12"), host).is, StepState::Is::satisfied);
}

TEST(CudaStep, SwitchesAmongSeveralByALink) {
  FakeHost host = cuda_host();
  put_toolkit(host, "12.4");
  put_toolkit(host, "12.9");
  host.put_symlink("/usr/local/cuda", "/usr/local/cuda-12.9");
  EXPECT_THAT(state_of(cuda("12.4"), host).reason, HasSubstr("/usr/local/cuda is 12.9"));
  EXPECT_EQ(done(cuda("12.4"), host).is, StepState::Is::satisfied);
  EXPECT_EQ(host.at("/usr/local/cuda")->content, "/usr/local/cuda-12.4");
}

TEST(CudaStep, SwitchesByAlternativesWherePackagesHaveRegisteredThem) {
  FakeHost host = cuda_host();
  for (const char* version : {"12.4", "12.8"}) put_toolkit(host, version);
  host.put_symlink("/usr/local/cuda", "/etc/alternatives/cuda");
  host.put_symlink("/etc/alternatives/cuda", "/usr/local/cuda-12.8");
  host.answer({"update-alternatives", "--query"}, {0, "Name: cuda\nAlternative: /usr/local/cuda-12.8\n", ""});
  host.answer({"update-alternatives", "--install"}, {0, "", ""});
  host.on({"update-alternatives", "--set"}, [](FakeHost& fake, const Command& command) {
    fake.take_away("/etc/alternatives/cuda");
    fake.put_symlink("/etc/alternatives/cuda", command.argv.back());
    return CommandResult{};
  });
  EXPECT_EQ(done(cuda("12.4"), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.changes(), ElementsAre("act update-alternatives --install /usr/local/cuda cuda /usr/local/cuda-12.4 1",
                                          "act update-alternatives --set cuda /usr/local/cuda-12.4"));
  EXPECT_EQ(host.at("/usr/local/cuda")->content, "/etc/alternatives/cuda");
}

TEST(CudaStep, LeavesTheDefaultAloneWhereItIsNotAskedFor) {
  FakeHost host = cuda_host();
  put_toolkit(host, "12.4");
  host.put_symlink("/usr/local/cuda", "/usr/local/cuda-12.4");
  CudaSpec spec = cuda("12.9");
  spec.is_default = false;
  EXPECT_EQ(done(spec, host).is, StepState::Is::satisfied);
  EXPECT_EQ(host.at("/usr/local/cuda")->content, "/usr/local/cuda-12.4") << "the package has moved it, and it is moved back";
}

TEST(CudaStep, AFolderInPlaceOfTheLinkIsNotTouched) {
  FakeHost host = cuda_host();
  host.put_directory("/usr/local/cuda");
  EXPECT_THAT(error_of(cuda("12.9"), host).why(), HasSubstr("/usr/local/cuda is no link, but a folder of its own"));
}

CudaSpec runfile() {
  CudaSpec spec;
  spec.tables = builtin_tables();
  spec.version = "11.8";
  spec.from = CudaSpec::From::runfile;
  spec.url = Url{"https://example.org/cuda_11.8.run"};
  spec.sha256 = Sha256Digest{sha256_hex("installer")};
  return spec;
}

FakeHost runfile_host() {
  FakeHost host = cuda_host({});
  host.serve("https://example.org/cuda_11.8.run", "installer");
  host.on({"sh"}, [](FakeHost& fake, const Command&) {
    put_toolkit(fake, "11.8");
    fake.put_symlink("/usr/local/cuda", "/usr/local/cuda-11.8");
    return CommandResult{};
  });
  return host;
}

TEST(CudaStep, RunsTheInstallerForTheToolkitAlone) {
  FakeHost host = runfile_host();
  EXPECT_EQ(done(runfile(), host).is, StepState::Is::satisfied);
  EXPECT_THAT(host.changes(), Contains(AllOf(HasSubstr("act sh "), HasSubstr(".run --silent --toolkit --override"))));
  EXPECT_THAT(host.snapshot(), Not(HasSubstr(".run"))) << "the installer is not kept";
}

TEST(CudaStep, SaysWhatTheInstallerComplainsOf) {
  FakeHost host = runfile_host();
  host.answer({"sh"}, {1, "", ""});
  host.put("/var/log/cuda-installer.log", "[INFO]: x\n[ERROR]: Insufficient space in /tmp\n");
  EXPECT_THAT(error_of(runfile(), host).why(), HasSubstr("Insufficient space in /tmp"));
}

constexpr const char* kLocal = "cuda-repo-ubuntu2404-12-4-local";

CudaSpec local_repository() {
  CudaSpec spec;
  spec.tables = builtin_tables();
  spec.version = "12.4";
  spec.from = CudaSpec::From::deb;
  spec.path = HostPath{"/root/local.deb"};
  return spec;
}

FakeHost local_repository_host() {
  FakeHost host = cuda_host({"12.4"});
  host.put("/root/local.deb", fake_deb(kLocal, "12.4.1-1"));
  host.on({"dpkg-deb", "-f"}, [](FakeHost&, const Command&) {
    return CommandResult{0, std::string("Package: ") + kLocal + "\nVersion: 12.4.1-1\nArchitecture: all\n", ""};
  });
  host.put("/var/lib/dpkg/info/cuda-repo-ubuntu2404-12-4-local.list",
           "/var/cuda-repo-ubuntu2404-12-4-local/Packages\n/var/cuda-repo-ubuntu2404-12-4-local/cuda-A-keyring.gpg\n");
  host.put("/var/cuda-repo-ubuntu2404-12-4-local/cuda-A-keyring.gpg", "key");
  host.put("/var/lib/dpkg/status", host.content("/var/lib/dpkg/status") + dpkg_stanza(kLocal, "12.4.1-1"));
  host.on({"dpkg", "--compare-versions"}, [](FakeHost&, const Command&) { return CommandResult{1, "", ""}; });
  return host;
}

TEST(CudaStep, InstallsFromALocalRepositoryInADeb) {
  FakeHost host = local_repository_host();
  host.put("/etc/apt/sources.list.d/cuda-local.list", "deb [trusted=yes] file:///var/cuda-repo-ubuntu2404-12-4-local /\n");
  EXPECT_EQ(done(local_repository(), host).is, StepState::Is::satisfied);
  EXPECT_EQ(host.content("/etc/apt/keyrings/cuda-repo-ubuntu2404-12-4-local.gpg"), "key");
  EXPECT_THAT(host.content("/etc/apt/sources.list.d/gpustrap-cuda-repo-ubuntu2404-12-4-local.sources"),
              HasSubstr("URIs: file:///var/cuda-repo-ubuntu2404-12-4-local\n"));
  EXPECT_THAT(host.content("/etc/apt/sources.list.d/cuda-local.list"), HasSubstr("# disabled by gpustrap"));
}

TEST(CudaStep, APackageThatIsNoLocalRepositoryIsFoundOut) {
  FakeHost host = local_repository_host();
  host.put("/var/lib/dpkg/info/cuda-repo-ubuntu2404-12-4-local.list", "/usr/share/keyrings/cuda-archive-keyring.gpg\n");
  const Error error = error_of(local_repository(), host);
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.why(), std::string(kLocal) + " is no local repository: there is no list of packages in it");
  EXPECT_THAT(error.hint(), HasSubstr("cuda-repo-…-local .deb"));
  host.put("/var/lib/dpkg/info/cuda-repo-ubuntu2404-12-4-local.list", "/var/cuda-repo-ubuntu2404-12-4-local/Packages\n");
  EXPECT_THAT(error_of(local_repository(), host).why(), HasSubstr("there is no key in it"));
}

TEST(CudaStep, AnInstallerOnTheHostThatIsAnotherOneIsNotRun) {
  FakeHost host = runfile_host();
  host.put("/root/cuda.run", "another installer");
  CudaSpec spec = runfile();
  spec.url.reset();
  spec.path = HostPath{"/root/cuda.run"};
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::digest);
  EXPECT_EQ(error.why(), "/root/cuda.run has sha256 " + sha256_hex("another installer") + ", wanted was " + sha256_hex("installer"));
  EXPECT_THAT(error.hint(), HasSubstr("put the right file there"));
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("act sh"))));
}

TEST(CudaStep, ACompilerThatDoesNotSayItsVersionIsNone) {
  FakeHost host = runfile_host();
  host.answer({"/usr/local/cuda-11.8/bin/nvcc", "--version"}, {0, "hello\n", ""});
  const Error error = error_of(runfile(), host);
  EXPECT_EQ(error.code(), ErrorCode::command);
  EXPECT_EQ(error.why(), "/usr/local/cuda-11.8/bin/nvcc does not say its version, but `hello`");
  EXPECT_THAT(error.hint(), HasSubstr("remove /usr/local/cuda-11.8"));
}

TEST(CudaStep, AsksForTheTables) {
  const FakeHost host = cuda_host();
  const auto state = make_step(CudaSpec{})->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::recipe);
  EXPECT_EQ(state.error().why(), "the recipe came without the tables of GPUs and drivers");
  EXPECT_THAT(state.error().hint(), HasSubstr("gpustrap up"));
}

TEST(CudaStep, ARepositoryWhoseKeyNobodyKnowsIsNotTrusted) {
  FakeHost host = cuda_host();
  Compat without_keys = *builtin_tables();
  without_keys.repository.fingerprints.items.clear();
  CudaSpec spec = cuda("12.9");
  spec.fingerprint.clear();
  spec.tables = std::make_shared<const Compat>(std::move(without_keys));
  const Error error = error_of(spec, host);
  EXPECT_EQ(error.code(), ErrorCode::unsupported);
  EXPECT_EQ(error.why(), "which key signs NVIDIA's repository ubuntu2404 is not recorded here");
  EXPECT_THAT(error.hint(), HasSubstr("give the key's `fingerprint`"));
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("fetch"))));
}

TEST(CudaStep, AFileOfAnotherVersionIsFoundOut) {
  FakeHost host = runfile_host();
  host.answer({"/usr/local/cuda-11.8/bin/nvcc", "--version"}, {0, "release 11.7, V11.7.99\n", ""});
  EXPECT_THAT(error_of(runfile(), host).why(), HasSubstr("says that it is 11.7"));
}

INSTANTIATE_TEST_SUITE_P(Cuda, StepContract,
                         ::testing::Values(ContractCase{"cuda_repository", cuda("12.9"), [] { return cuda_host(); }},
                                           ContractCase{"cuda_runfile", runfile(), [] { return runfile_host(); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/sha256.h"
#include "agent/steps/apt_sources.h"
#include "tests/support/fake_apt.h"
#include "tests/support/fake_gpu_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kUrl = "https://example.org/cuda/repos/debian12/x86_64/";
constexpr const char* kKeyUrl = "https://example.org/cuda/3bf863cc.pub";
constexpr const char* kKey = "-----BEGIN PGP PUBLIC KEY BLOCK-----\nnew\n-----END PGP PUBLIC KEY BLOCK-----\n";
constexpr const char* kKeyring = "/etc/apt/keyrings/cuda.asc";
constexpr const char* kSource = "/etc/apt/sources.list.d/cuda.sources";

AptRepositorySpec cuda() {
  AptRepositorySpec spec;
  spec.name = "cuda";
  spec.url = Url{kUrl};
  spec.key = Url{kKeyUrl};
  spec.sha256 = Sha256Digest{sha256_hex(kKey)};
  return spec;
}

FakeHost host_with_key() {
  FakeHost host = host_with_dpkg();
  host.serve(kKeyUrl, kKey);
  return host;
}

TEST(AptRepositoryStep, WritesKeySourceAndLists) {
  FakeHost host = host_with_key();
  EXPECT_THAT(state_of(cuda(), host).reason, HasSubstr("its key is not there"));
  const auto done = run_step(cuda(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, std::string(kUrl) + " with " + kKeyring);
  EXPECT_EQ(host.content(kKeyring), kKey);
  EXPECT_EQ(host.at(kKeyring)->mode, 0644U);
  EXPECT_EQ(host.content(kSource),
            "# Written by gpustrap.\nTypes: deb\nURIs: " + std::string(kUrl) + "\nSuites: /\nSigned-By: /etc/apt/keyrings/cuda.asc\n");
  EXPECT_THAT(host.changes(),
              Contains(::testing::AllOf(HasSubstr("Dir::Etc::sourceparts=- -o APT::Get::List-Cleanup=0"), HasSubstr("update"))));
  EXPECT_EQ(host.content("/var/lib/gpustrap/apt-trial/cuda.sources"), "<no file>");
}

TEST(AptRepositoryStep, AKeyIsKnownByItsFingerprint) {
  FakeHost host = host_with_dpkg();
  host.serve(kKeyUrl, kStandInKey);
  AptRepositorySpec spec = cuda();
  spec.sha256.reset();
  spec.fingerprint = "fc1a14422642bdeb111853e2172c607d0dfa6345";  // in small letters, too
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_EQ(host.content(kKeyring), kStandInKey);
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::satisfied);
  host.put(kKeyring, std::string(kStandInKey) + kStandInKey);  // a second key would be trusted just as much
  EXPECT_EQ(state_of(spec, host).is, StepState::Is::unsatisfied);
  host.serve(kKeyUrl, host.content(kKeyring));
  const auto refused = run_step(spec, host);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::digest);
}

TEST(AptRepositoryStep, ABinaryKeyKeepsItsName) {
  FakeHost host = host_with_key();
  const std::string key = "\x99\x02\x0d binary";
  host.serve(kKeyUrl, key);
  AptRepositorySpec spec = cuda();
  spec.sha256->hex = sha256_hex(key);
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_EQ(host.content("/etc/apt/keyrings/cuda.gpg"), key);
  EXPECT_THAT(host.content(kSource), HasSubstr("Signed-By: /etc/apt/keyrings/cuda.gpg\n"));
}

TEST(AptRepositoryStep, WhatIsNoKeyIsNotTrusted) {
  FakeHost host = host_with_key();
  host.serve(kKeyUrl, "<html>");
  AptRepositorySpec spec = cuda();
  spec.sha256->hex = sha256_hex("<html>");
  const auto done = run_step(spec, host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("is no OpenPGP public key"));
  EXPECT_EQ(host.content(kSource), "<no file>");
}

TEST(AptRepositoryStep, ARepositoryThatFailsLeavesTheHostsAptAsItWas) {
  FakeHost host = host_with_key();
  host.put("/etc/apt/sources.list.d/old.list", "deb " + std::string(kUrl) + " /\n");
  host.answer({"apt-get"},
              {100,
               "Err:1 https://example.org InRelease\n  The following signatures couldn't be verified because the public key is not "
               "available: NO_PUBKEY A4B469963BF863CC\n",
               "E: The repository 'https://example.org InRelease' is not signed.\n"});
  const auto done = run_step(cuda(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("https://example.org is signed by key A4B469963BF863CC"));
  EXPECT_THAT(done.error().hint(), HasSubstr("replaced its key 7fa2af80 by 3bf863cc on 2022-04-27"));
  EXPECT_EQ(host.content(kSource), "<no file>");
  EXPECT_EQ(host.content(kKeyring), "<no file>");
  EXPECT_EQ(host.content("/etc/apt/sources.list.d/old.list"), "deb " + std::string(kUrl) + " /\n");
  EXPECT_THAT(host.snapshot(), Not(HasSubstr("gpustrap-new")));
}

TEST(AptRepositoryStep, AnOldKeyIsNamedAndReplaced) {
  FakeHost host = host_with_key();
  host.put(kKeyring, "-----BEGIN PGP PUBLIC KEY BLOCK-----\nold\n");
  host.on({"gpg", "--batch", "--show-keys"}, [](FakeHost& fake, const Command& command) {
    const bool old = fake.content(command.argv.back()).find("old") != std::string::npos;
    return CommandResult{0,
                         std::string("pub:-:4096:1:X:1::::::::\nfpr:::::::::") +
                             (old ? "AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80" : "EB693B3035CD5710E231E123A4B469963BF863CC") +
                             ":\nsub:-:4096\nfpr:::::::::0000:\n",
                         ""};
  });
  EXPECT_THAT(state_of(cuda(), host).reason, HasSubstr("/etc/apt/keyrings/cuda.asc holds key AE09FE4BBD223A84B2CCFCE3F60F4B3D7FA2AF80 "
                                                       "(NVIDIA's until 2022-04-27), another key is wanted"));
  RecordingLog log;
  const auto done = run_step(cuda(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(log.lines, Contains(HasSubstr("it is replaced by key EB693B3035CD5710E231E123A4B469963BF863CC")));
  EXPECT_EQ(host.content(kKeyring), kKey);
  EXPECT_THAT(host.content("/etc/apt/keyrings/cuda.asc.gpustrap-backup.save"), HasSubstr("old"));
}

TEST(AptRepositoryStep, OtherEntriesOfThePlaceAreNamedAndDisabled) {
  FakeHost host = host_with_key();
  const std::string line = "deb [arch=amd64 signed-by=/k.gpg] https://example.org/cuda/repos/debian12/x86_64 /";
  host.put("/etc/apt/sources.list.d/cuda-debian12-x86_64.list", "# NVIDIA\n" + line + "\n");
  host.put("/etc/apt/sources.list.d/other.sources",
           "Types: deb\nURIs: " + std::string(kUrl) + "\nSuites: /\n\nTypes: deb\nURIs: https://example.org/x\nSuites: a\n");
  EXPECT_THAT(state_of(cuda(), host).reason, HasSubstr("cuda-debian12-x86_64.list:2 names the same repository and is to be disabled"));
  RecordingLog log;
  const auto done = run_step(cuda(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(host.content("/etc/apt/sources.list.d/cuda-debian12-x86_64.list"), "# NVIDIA\n# disabled by gpustrap: " + line + "\n");
  EXPECT_EQ(host.content("/etc/apt/sources.list.d/cuda-debian12-x86_64.list.gpustrap-backup.save"), "# NVIDIA\n" + line + "\n");
  EXPECT_EQ(host.content("/etc/apt/sources.list.d/other.sources"),
            "# disabled by gpustrap\nEnabled: no\nTypes: deb\nURIs: " + std::string(kUrl) +
                "\nSuites: /\n\nTypes: deb\nURIs: https://example.org/x\nSuites: a\n");
  EXPECT_EQ(host.content("/etc/apt/sources.list"), "deb http://deb.example.org/debian bookworm main\n");
}

TEST(AptRepositoryStep, AnotherSuiteOfThePlaceIsNobodysConflict) {
  FakeHost host = host_with_key();
  AptRepositorySpec spec = cuda();
  spec.url = Url{"http://deb.example.org/debian"};
  spec.suites.items = {"bookworm-backports"};
  spec.components.items = {"main"};
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_EQ(host.content("/etc/apt/sources.list"), "deb http://deb.example.org/debian bookworm main\n");
}

TEST(AptRepositoryStep, AnEntryThatNamesMoreIsLeftToTheUser) {
  FakeHost host = host_with_key();
  host.put("/etc/apt/sources.list.d/many.sources", "Types: deb\nURIs: " + std::string(kUrl) + " https://example.org/x\nSuites: /\n");
  const auto state = make_step(cuda())->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_THAT(state.error().sentence(), HasSubstr("many.sources: line 1 names " + std::string(kUrl) + " together with other places"));
}

TEST(AptRepositoryStep, PinsWhatTheRecipePins) {
  FakeHost host = host_with_key();
  AptRepositorySpec spec = cuda();
  spec.priority = 600;
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_EQ(host.content("/etc/apt/preferences.d/cuda"),
            "# Written by gpustrap.\nPackage: *\nPin: origin \"example.org\"\nPin-Priority: 600\n");
  spec.pin = "release l=NVIDIA CUDA";
  EXPECT_THAT(state_of(spec, host).reason, HasSubstr("has another pin"));
  ASSERT_TRUE(run_step(spec, host).has_value());
  EXPECT_THAT(host.content("/etc/apt/preferences.d/cuda"), HasSubstr("Pin: release l=NVIDIA CUDA\n"));
}

constexpr const char* kKeyringUrl = "https://example.org/cuda/cuda-keyring_1.1-1_all.deb";

AptRepositorySpec by_keyring_package() {
  AptRepositorySpec spec = cuda();
  spec.key.reset();
  spec.keyring = Url{kKeyringUrl};
  spec.sha256->hex = sha256_hex(fake_deb("cuda-keyring", "1.1-1", "all"));
  return spec;
}
FakeHost host_with_keyring_package() {
  FakeHost host = host_with_dpkg();
  host.serve(kKeyringUrl, fake_deb("cuda-keyring", "1.1-1", "all"));
  host.put("/var/lib/dpkg/info/cuda-keyring.list", "/.\n/usr/share/keyrings/cuda-archive-keyring.gpg\n/etc/apt/sources.list.d/cuda.list\n");
  return host;
}

TEST(AptRepositoryStep, AKeyringPackageBringsTheKeyAndItsOwnSourceIsDisabled) {
  FakeHost host = host_with_keyring_package();
  host.put("/etc/apt/sources.list.d/cuda.list",
           "deb [signed-by=/usr/share/keyrings/cuda-archive-keyring.gpg] " + std::string(kUrl) + " /\n");
  const auto done = run_step(by_keyring_package(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(host.content(kSource), HasSubstr("Signed-By: /usr/share/keyrings/cuda-archive-keyring.gpg\n"));
  EXPECT_THAT(host.content("/etc/apt/sources.list.d/cuda.list"), HasSubstr("# disabled by gpustrap: deb "));
}

TEST(AptRepositoryStep, AKeyringPackageHasOneKeyring) {
  FakeHost host = host_with_keyring_package();
  host.put("/var/lib/dpkg/info/cuda-keyring.list", "/.\n/usr/share/doc/cuda-keyring/copyright\n");
  const auto none = run_step(by_keyring_package(), host);
  ASSERT_FALSE(none.has_value());
  EXPECT_EQ(none.error().code(), ErrorCode::unsupported);
  EXPECT_EQ(none.error().why(), "cuda-keyring brings no keyring");
  EXPECT_THAT(none.error().hint(), HasSubstr("`key` instead of `keyring`"));
  host.put("/var/lib/dpkg/info/cuda-keyring.list", "/usr/share/keyrings/a.gpg\n/etc/apt/keyrings/b.asc\n");
  EXPECT_EQ(run_step(by_keyring_package(), host).error().why(),
            "cuda-keyring brings several keyrings: /usr/share/keyrings/a.gpg /etc/apt/keyrings/b.asc");
}

TEST(AptRepositoryStep, AnAptThatFetchedNoListsHasNotFoundTheRepository) {
  FakeHost host = host_with_key();
  host.answer({"apt-get"}, {});
  const auto done = run_step(cuda(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::command);
  EXPECT_EQ(done.error().why(), "apt fetched no lists from " + std::string(kUrl));
  EXPECT_EQ(done.error().hint(), "are `url` and `suites` right?");
  EXPECT_EQ(host.content(kSource), "<no file>");
}

TEST(AptSources, NamesListsAsAptDoes) {
  EXPECT_EQ(list_name_prefix("https://developer.download.nvidia.com/compute/cuda/repos/debian12/x86_64/"),
            "developer.download.nvidia.com_compute_cuda_repos_debian12_x86%5f64_");
}

TEST(AptSources, FindsEntriesHoweverTheyAreWritten) {
  const AptPlace place{"https://example.org/r", {"noble", "./"}};
  const auto off = [&](const std::string& text) {
    std::vector<int> lines;
    (void)without_one_line_entries(text, place, lines);
    return lines;
  };
  EXPECT_THAT(
      off("deb https://example.org/r/ noble main\n#deb https://example.org/r noble main\ndeb-src https://example.org/r noble main\n"),
      ElementsAre(1, 3));
  EXPECT_THAT(off("deb [ arch=amd64 signed-by=/k ] https://example.org/r /\n"), ElementsAre(1));
  EXPECT_THAT(off("deb https://example.org/r jammy main\ndeb https://example.org/rest noble main\n"), ElementsAre());
  std::vector<int> lines;
  const auto text = without_deb822_entries("uris: https://example.org/r\nSuites:\n noble\nEnabled: yes\n", place, lines);
  ASSERT_TRUE(text.has_value());
  EXPECT_EQ(*text, "# disabled by gpustrap\nEnabled: no\nuris: https://example.org/r\nSuites:\n noble\n");
  lines.clear();
  ASSERT_TRUE(without_deb822_entries("URIs: https://example.org/r\nSuites: noble\nEnabled: no\n", place, lines).has_value());
  EXPECT_THAT(lines, ElementsAre());
}

AptRepositorySpec pinned() {
  AptRepositorySpec spec = cuda();
  spec.priority = 600;
  return spec;
}
INSTANTIATE_TEST_SUITE_P(AptRepository, StepContract,
                         ::testing::Values(ContractCase{"apt_repository_new", cuda(), host_with_key},
                                           ContractCase{"apt_repository_pinned", pinned(), host_with_key},
                                           ContractCase{"apt_repository_by_package", by_keyring_package(), host_with_keyring_package},
                                           ContractCase{"apt_repository_old_line", cuda(),
                                                        [] {
                                                          FakeHost host = host_with_key();
                                                          host.put("/etc/apt/sources.list.d/a.list", "deb " + std::string(kUrl) + " /\n");
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

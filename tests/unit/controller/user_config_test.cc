#include "controller/user_config.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "controller/user_recipes.h"
#include "tests/support/folders.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;

constexpr const char* kConfig =
    "proxy: http://proxy.example.org:3128\n"
    "no_proxy: [gpu1, .example.org]\n"
    "mirror: uni\n"
    "mirrors:\n"
    "  uni:\n"
    "    apt: https://mirror.example.org\n"
    "    pypi: https://mirror.example.org/simple\n"
    "    downloads:\n"
    "      https://example.com: https://mirror.example.org/c\n"
    "      https://example.com/big: https://mirror.example.org/b\n"
    "  lab: { conda: http://10.0.0.1/conda, conda_defaults: http://10.0.0.1/main }\n";

TEST(UserConfig, IsReadWhole) {
  const Result<UserConfig> config = read_user_config(kConfig, "config.yaml");
  ASSERT_TRUE(config.has_value()) << config.error().sentence();
  EXPECT_EQ(config->proxy, "http://proxy.example.org:3128");
  EXPECT_THAT(config->no_proxy, ElementsAre("gpu1", ".example.org"));
  ASSERT_EQ(config->mirrors.size(), 2U);
  EXPECT_EQ(config->mirrors[0].any("downloads"), "https://mirror.example.org/b") << "the longest first";
  EXPECT_EQ(config->mirrors[1].place("conda"), "http://10.0.0.1/conda");
}

TEST(UserConfig, MayBeEmpty) {
  for (const char* text : {"", "\n\n", "# proxy: http://proxy:1\n"}) {
    const Result<UserConfig> config = read_user_config(text, "config.yaml");
    ASSERT_TRUE(config.has_value()) << config.error().sentence();
    EXPECT_TRUE(network_for(*config, {}, {})->empty());
  }
}

/// tests/golden/bad_configs/NAME.yaml and what is said of it in NAME.txt.
TEST(UserConfig, BadOnesGetTheirSentences) {
  std::size_t count = 0;
  for (const auto& entry : fs::directory_iterator(source_folder() + "/tests/golden/bad_configs")) {
    if (entry.path().extension() != ".yaml") continue;
    ++count;
    const Result<UserConfig> config = read_user_config(read_file(entry.path()).value_or(""), "config.yaml");
    ASSERT_FALSE(config.has_value()) << entry.path();
    expect_golden("bad_configs/" + entry.path().stem().string() + ".txt", config.error().why() + "\n");
    EXPECT_THAT(config.error().why(), Not(HasSubstr("hunter2")));
  }
  EXPECT_GE(count, 6U);
}

TEST(NetworkFor, TheCommandLineIsStrongerThanTheConfiguration) {
  const UserConfig config = *read_user_config(kConfig, "config.yaml");
  const Result<Network> usual = network_for(config, {}, {});
  EXPECT_EQ(usual->proxy, "http://proxy.example.org:3128");
  EXPECT_EQ(usual->mirror.name, "uni");
  const Result<Network> other = network_for(config, "lab", "http://other:8080");
  EXPECT_EQ(other->proxy, "http://other:8080");
  EXPECT_EQ(other->mirror.name, "lab");
  EXPECT_TRUE(network_for(config, "none", "none")->empty());
}

TEST(NetworkFor, SaysWhatIsWrongWithAProxy) {
  for (const char* good : {"http://proxy.example.org:3128", "http://10.0.0.1:8080/", "http://[fd00::1]:3128"})
    EXPECT_TRUE(network_for({}, {}, good).has_value()) << good;
  for (const char* bad : {"proxy:3128", "http://proxy", "http://:3128", "https://proxy:1", "socks5://proxy:1", "http://proxy:port",
                          "http://a b:1", "http://proxy:1/x", "http://", "ftp"}) {
    const Result<Network> network = network_for({}, {}, bad);
    ASSERT_FALSE(network.has_value()) << bad;
    EXPECT_THAT(network.error().why(), HasSubstr("expected http://HOST:PORT")) << bad;
  }
}

TEST(NetworkFor, NamesWhatThereIs) {
  const UserConfig config = *read_user_config(kConfig, "/home/ann/.config/gpustrap/config.yaml");
  const Result<Network> unknown = network_for(config, "unii", {});
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().code(), ErrorCode::usage);
  EXPECT_EQ(unknown.error().why(), "there is no mirror `unii`; did you mean `uni`?");
  EXPECT_EQ(unknown.error().hint(), "mirrors in /home/ann/.config/gpustrap/config.yaml: uni, lab");
  const Result<Network> without = network_for({}, "uni", {});
  ASSERT_FALSE(without.has_value());
  EXPECT_THAT(without.error().hint(), HasSubstr("mirrors: { NAME:"));
  const Result<Network> secret = network_for(config, {}, "http://ann:hunter2@proxy:3128");
  ASSERT_FALSE(secret.has_value());
  EXPECT_THAT(secret.error().sentence(),
              AllOf(HasSubstr("--proxy holds a user name"), HasSubstr("/etc/environment"), Not(HasSubstr("hunter2"))));
}

TEST(DescribeNetwork, SaysEachWayOnce) {
  EXPECT_THAT(describe_network({}), IsEmpty());
  const UserConfig config = *read_user_config(kConfig, "config.yaml");
  EXPECT_THAT(
      describe_network(*network_for(config, {}, {})),
      ElementsAre("through the proxy http://proxy.example.org:3128, but for gpu1, .example.org",
                  "apt from the mirror uni (https://mirror.example.org)", "pypi from the mirror uni (https://mirror.example.org/simple)",
                  "downloads from the mirror uni (https://mirror.example.org/b for https://example.com/big)",
                  "downloads from the mirror uni (https://mirror.example.org/c for https://example.com)"));
  EXPECT_THAT(
      describe_network(*network_for(config, "lab", "none")),
      ElementsAre("conda from the mirror lab (http://10.0.0.1/conda)", "conda's defaults from the mirror lab (http://10.0.0.1/main)"));
}

}  // namespace
}  // namespace gpustrap

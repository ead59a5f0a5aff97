#include "controller/settings.h"

#include <algorithm>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/command_line.h"
#include "controller/options.h"
#include "controller/settings_text.h"
#include "controller/user_config.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

SettingValue variable(const std::string& key, std::vector<std::string> values) {
  return {key, std::move(values), SettingValue::From::variable, "GPUSTRAP_" + key, {}, 0};
}
SettingValue line(const std::string& key, std::vector<std::string> values) {
  return {key, std::move(values), SettingValue::From::file, {}, "config.yaml", 1};
}
SettingsSource saying(std::vector<SettingValue> said) {
  return [said] { return Result<std::vector<SettingValue>>(said); };
}
Options read(const std::string& words_of_user, std::vector<SettingValue> said) {
  const Result<Options> options = read_options(words(words_of_user), saying(std::move(said)));
  EXPECT_TRUE(options) << (options ? "" : options.error().sentence());
  return options.value_or(Options());
}

/// What holds beyond one call, or why it does not, is decided for every option of a connection or of output.
TEST(Settings, EveryLastingOptionIsOneOrSaysWhyNot) {
  for (const VerbDescription& verb : describe_verbs()) {
    for (const OptionDescription& option : verb.options) {
      if (option.group == "Run") continue;
      const bool is_setting = setting_of_option(option.name()) != nullptr;
      const bool is_one_call = std::any_of(one_call_options().begin(), one_call_options().end(),
                                           [&](const OneCallOption& one) { return one.option == option.name(); });
      EXPECT_NE(is_setting, is_one_call) << verb.name << " " << option.name()
                                         << ": add a row to settings() or to one_call_options() in controller/settings.cc, and to "
                                            "docs/configuration.md";
    }
  }
}

TEST(Settings, EveryRowIsAnOptionThatThereIs) {
  for (const Setting& setting : settings()) {
    bool found = false;
    for (const VerbDescription& verb : describe_verbs()) {
      for (const OptionDescription& option : verb.options) {
        if (option.name() != setting.option) continue;
        found = true;
        EXPECT_EQ(option.takes_value(), setting.kind != SettingKind::flag) << setting.key;
      }
    }
    EXPECT_TRUE(found) << setting.key << ": no verb has " << setting.option;
  }
}

TEST(Settings, AreAllInTheManual) {
  const std::string manual = read_file(source_folder() + "/docs/configuration.md").value_or("");
  for (const Setting& setting : settings()) {
    std::string row = fmt::format("| `{}` | `{}` | `{}` |", setting.option, variable_of(setting), setting.key);
    if (setting.in_file == InFile::no) row = fmt::format("| `{}` | `{}` | no |", setting.option, variable_of(setting));
    EXPECT_THAT(manual, HasSubstr(row));
  }
  for (const OneCallOption& option : one_call_options()) EXPECT_THAT(manual, HasSubstr(fmt::format("`{}`", option.option)));
}

TEST(Settings, TheCommandLineIsStrongestThenTheEnvironmentThenTheFile) {
  const std::vector<SettingValue> both = {variable("wait", {"5m"}), line("wait", {"7m"}), line("keep", {"10m"})};
  EXPECT_EQ(read("up jupyter h --wait 1m", both).wait, std::chrono::minutes(1));
  EXPECT_EQ(read("up jupyter h", both).wait, std::chrono::minutes(5));
  EXPECT_EQ(read("up jupyter h", both).keep, std::chrono::minutes(10));
  EXPECT_FALSE(read("up jupyter h", {}).wait.has_value());
}

TEST(Settings, ReachEveryKindOfOption) {
  const Options up = read("up jupyter h", {variable("yes", {"true"}), variable("no_tunnel", {"true"}), variable("json", {"true"}),
                                           variable("no_color", {"true"}), variable("quiet", {"true"}), variable("mirror", {"uni"}),
                                           variable("proxy", {"none"}), line("forward", {"9000:8888"})});
  EXPECT_TRUE(up.yes && up.no_tunnel && up.json);
  EXPECT_EQ(up.colour, ColourChoice::never);
  EXPECT_EQ(up.detail, Detail::quiet);
  EXPECT_EQ(up.mirror, "uni");
  EXPECT_EQ(up.proxy, "none");
  EXPECT_EQ(up.forward->local, 9000);
  EXPECT_EQ(read("recipe lint a.yaml", {variable("format", {"sarif"})}).format, "sarif");
  EXPECT_EQ(read("up jupyter a.example b.example", {line("parallel", {"7"})}).parallel, 7U);
}

TEST(Settings, AYesInTheEnvironmentDestroysNothing) {
  EXPECT_TRUE(read("launch --gpu t4", {variable("yes", {"true"})}).yes);
  EXPECT_FALSE(read("terminate lab", {variable("yes", {"true"})}).yes);
  EXPECT_FALSE(read("ls --orphans", {variable("yes", {"true"})}).yes);
  EXPECT_FALSE(read("image --remove lab-2026", {variable("yes", {"true"})}).yes);
  EXPECT_TRUE(read("image lab", {variable("yes", {"true"})}).yes);
  EXPECT_TRUE(read("terminate lab -y", {}).yes);
}

TEST(Settings, AFlagIsTakenBackOnTheCommandLine) {
  EXPECT_FALSE(read("up jupyter h --json=false", {line("json", {"true"})}).json);
  EXPECT_EQ(read("up jupyter h -v", {line("quiet", {"true"})}).detail, Detail::verbose) << "they exclude each other";
  EXPECT_EQ(read("up jupyter h", {line("quiet", {"true"}), variable("verbose", {"true"})}).detail, Detail::verbose) << "the nearer counts";
  EXPECT_TRUE(read("report h --html x", {line("json", {"true"})}).html == "x");
}

TEST(Settings, WhatIsPrintedForAFileStaysSo) {
  const std::vector<SettingValue> json = {line("json", {"true"})};
  for (const char* words : {"recipe show jupyter", "adopt setup.sh", "pack jupyter --user-data https://example.org/a.sh"})
    EXPECT_FALSE(read(words, json).json) << words;
  for (const char* words : {"recipe explain jupyter", "adopt setup.sh -o a.yaml", "pack jupyter", "recipe test jupyter", "recipe new",
                            "stop lab", "launch --gpu t4"})
    EXPECT_TRUE(read(words, json).json) << words;
  EXPECT_TRUE(read("adopt setup.sh --json", {}).json);
}

TEST(Settings, WhatIsForOneHostIsLeftOutOfMany) {
  const std::vector<SettingValue> one = {line("keep", {"10m"}), line("forward", {"9000"})};
  const Options many = read("up jupyter a.example b.example", one);
  EXPECT_FALSE(many.keep.has_value() || many.forward.has_value());
  EXPECT_FALSE(read("up jupyter -f hosts.yaml", one).keep.has_value());
}

/// A key that is named for all hosts must not stand before the one that a host was entered with.
TEST(Settings, OfTheLoginStandBehindWhatIsSaidOfTheHost) {
  Options options = read("up jupyter ubuntu@h", {variable("user", {"ann"}), line("user", {"root"}), line("identity", {"a.pem", "b.pem"}),
                                                 variable("port", {"2222"})});
  EXPECT_EQ(options.user, "ubuntu");
  EXPECT_TRUE(options.identities.empty()) << "not yet: what is remembered of the host comes first";
  EXPECT_EQ(options.environment.user, "ann");
  EXPECT_EQ(options.environment.port, 2222);
  fill_in(options, options.environment);
  fill_in(options, HostDefaults{"", 22, {"remembered.pem"}});
  fill_in(options, options.usual);
  EXPECT_EQ(options.user, "ubuntu");
  EXPECT_EQ(options.port, 2222);
  EXPECT_THAT(options.identities, ElementsAre("remembered.pem"));
  Options fresh = read("up jupyter h", {line("user", {"root"}), line("identity", {"a.pem"})});
  fill_in(fresh, fresh.usual);
  EXPECT_EQ(fresh.user, "root");
  EXPECT_EQ(worth_remembering(fresh).user, "") << "the file may say another tomorrow";
  EXPECT_THAT(worth_remembering(fresh).identities, IsEmpty());
}

TEST(Settings, AreNotAskedForWhereNothingNeedsThem) {
  const SettingsSource broken = [] { return Result<std::vector<SettingValue>>(fail(ErrorCode::recipe, "config.yaml:1:1: broken")); };
  for (const char* words_of_user : {"--help", "up --help", "version", "recipe list", "completion bash", "__complete up "})
    EXPECT_TRUE(read_options(words(words_of_user), broken)) << words_of_user;
  EXPECT_FALSE(read_options(words("up jupyter h"), broken));
}

TEST(SettingsOfEnvironment, AreChecked) {
  const auto good =
      settings_of_environment({{"GPUSTRAP_YES", "1"}, {"GPUSTRAP_IDENTITY", "a.pem:b.pem"}, {"GPUSTRAP_WAIT", ""}, {"HOME", "/"}});
  ASSERT_TRUE(good) << good.error().sentence();
  ASSERT_EQ(good->size(), 2U) << "an empty one says nothing";
  EXPECT_THAT((*good)[0].values, ElementsAre("true"));
  EXPECT_THAT((*good)[1].values, ElementsAre("a.pem", "b.pem"));
  struct Bad {
    const char *name, *value, *why;
  };
  for (const Bad& bad :
       {Bad{"GPUSTRAP_PORT", "ssh", "GPUSTRAP_PORT is `ssh`: expected a port"},
        Bad{"GPUSTRAP_WAIT", "soon", "GPUSTRAP_WAIT is `soon`: expected a time"},
        Bad{"GPUSTRAP_QUIET", "perhaps", "expected true or false"}, Bad{"GPUSTRAP_IDENTITY", "key.pub", "the public half of a key"},
        Bad{"GPUSTRAP_PARALLEL", "0", "expected a number from 1 to 1000"}, Bad{"GPUSTRAP_FORWARD", "x", "expected LOCAL:REMOTE"},
        Bad{"GPUSTRAP_FORMAT", "xml", "expected text, json or sarif"},
        Bad{"GPUSTRAP_MIROR", "uni", "GPUSTRAP_MIROR is no variable of gpustrap; did you mean GPUSTRAP_MIRROR?"}}) {
    const auto said = settings_of_environment({{bad.name, bad.value}});
    ASSERT_FALSE(said) << bad.name;
    EXPECT_EQ(said.error().code(), ErrorCode::usage);
    EXPECT_THAT(said.error().why(), HasSubstr(bad.why));
    EXPECT_FALSE(said.error().hint().empty()) << bad.name;
  }
  for (const char* other : {"GPUSTRAP_SECRET_token", "GPUSTRAP_TESTBED_DIR", "GPUSTRAP_TESTBED", "GPUSTRAP_BIN", "GPUSTRAP_UPDATE_GOLDEN",
                            "GPUSTRAP_CACHE", "GPUSTRAP_JOBS", "GPUSTRAP_BENCH_QUICK", "GPUSTRAP_DEVELOPER"})
    EXPECT_TRUE(settings_of_environment({{other, "x"}})) << other;
}

TEST(SettingsOfEnvironment, WhatIsNothingToGpustrapIsSaid) {
  EXPECT_THAT(unknown_variables({{"GPUSTRAP_DRY_RUN", "1"},
                                 {"GPUSTRAP_HOST", ""},
                                 {"GPUSTRAP_WAIT", "5m"},
                                 {"GPUSTRAP_SECRET_token", "x"},
                                 {"GPUSTRAP_TESTBED_DIR", "/t"},
                                 {"HOME", "/"}}),
              ElementsAre("the variable GPUSTRAP_DRY_RUN says nothing to gpustrap; `gpustrap plan` says what would change",
                          "the variable GPUSTRAP_HOST says nothing to gpustrap; `gpustrap config` shows those that do"));
}

TEST(SettingsOfFile, HaveTheirLines) {
  const auto config = read_user_config(
      "wait: 5m\n# more\nidentity: [~/.ssh/a, ~/.ssh/b]\nport: 2222\njson: true\nmirrors: { uni: { pypi: https://m.example.org } "
      "}\nmirror: uni\n",
      "config.yaml");
  ASSERT_TRUE(config) << config.error().sentence();
  EXPECT_EQ(value_of(config->settings, "wait")->origin(), "config.yaml:1");
  EXPECT_THAT(value_of(config->settings, "identity")->values, ElementsAre("~/.ssh/a", "~/.ssh/b"));
  EXPECT_THAT(value_of(config->settings, "port")->values, ElementsAre("2222"));
  EXPECT_THAT(value_of(config->settings, "json")->values, ElementsAre("true"));
  EXPECT_EQ(value_of(config->settings, "mirror")->origin(), "config.yaml:7");
}

TEST(SettingsText, SaysWhatHoldsAndWhy) {
  const std::vector<SettingValue> said = {variable("wait", {"5m"}), {"mirror", {"uni"}, SettingValue::From::file, {}, "/etc/c.yaml", 3}};
  const std::vector<EffectiveSetting> all = effective_settings(said, "1");
  const std::string text = settings_text(all, "/etc/c.yaml", true);
  EXPECT_THAT(text, HasSubstr("# GPUSTRAP_wait\n"));
  EXPECT_THAT(text, HasSubstr("# /etc/c.yaml:3\n"));
  EXPECT_THAT(text, HasSubstr("no_color: true"));
  EXPECT_THAT(text, HasSubstr("# NO_COLOR\n"));
  EXPECT_THAT(text, HasSubstr("# default\n"));
  EXPECT_THAT(settings_text(all, "", false), HasSubstr("\nwait: 5m\n"));
  const Json document = settings_document(all, "/etc/c.yaml");
  EXPECT_EQ(document.at("version"), 1);
  for (const Json& one : document.at("settings")) {
    const std::string key = one.at("key"), origin = one.at("origin").dump();
    if (key == "mirror") {
      EXPECT_EQ(origin, R"({"kind":"file","file":"/etc/c.yaml","line":3})");
    } else if (key == "wait") {
      EXPECT_EQ(origin, R"({"kind":"variable","name":"GPUSTRAP_wait"})");
    } else if (key == "json") {
      EXPECT_EQ(origin, R"({"kind":"default"})");
    }
  }
}

}  // namespace
}  // namespace gpustrap

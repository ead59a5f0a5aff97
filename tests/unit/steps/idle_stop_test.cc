#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/idle_store.h"
#include "agent/protocol/money.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

constexpr const char* kAgent = "/usr/local/lib/gpustrap/agent-0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0";
constexpr const char* kTimer = "/etc/systemd/system/gpustrap-idle.timer";
constexpr const char* kService = "/etc/systemd/system/gpustrap-idle.service";
constexpr const char* kWanted = "/etc/systemd/system/timers.target.wants/gpustrap-idle.timer";

IdleStopSpec half_an_hour() {
  IdleStopSpec spec;
  spec.after = Duration{std::chrono::minutes(30)};
  return spec;
}

IdleStopSpec with_budget(const char* budget = "5 USD") {
  IdleStopSpec spec = half_an_hour();
  spec.budget = parse_money(budget);
  spec.prices = std::make_shared<const PriceList>(PriceList{"2026-07-20", {{"g4dn.xlarge", *parse_price("0.526 USD/h")}}});
  return spec;
}

/// A systemd that does as it is told.
FakeHost host_of(const std::string& agent = kAgent) {
  FakeHost host;
  auto runs = std::make_shared<bool>(false);
  host.put(agent, "the agent", 0755).put_symlink("/proc/self/exe", agent);
  host.on({"systemctl", "show", "--property=ActiveState", "gpustrap-idle.timer"}, [runs](FakeHost&, const Command&) {
    return CommandResult{0, fmt::format("ActiveState={}\n", *runs ? "active" : "inactive"), ""};
  });
  host.answer({"systemctl", "daemon-reload"}, {});
  host.on({"systemctl", "enable", "gpustrap-idle.timer"},
          [](FakeHost& fake, const Command&) { return fake.put_symlink(kWanted, kTimer), CommandResult{}; });
  host.on({"systemctl", "restart", "gpustrap-idle.timer"}, [runs](FakeHost&, const Command&) { return *runs = true, CommandResult{}; });
  host.on({"systemctl", "stop", "gpustrap-idle.timer"}, [runs](FakeHost&, const Command&) { return *runs = false, CommandResult{}; });
  host.answer({"systemctl", "stop", "gpustrap-idle.service"}, {});
  return host;
}

TEST(IdleStopStep, WritesATimerThatStartsThisVeryAgent) {
  FakeHost host = host_of();
  RecordingLog log;
  const auto done = run_step(half_an_hour(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied);
  EXPECT_EQ(done->reason, "stops after 30m00s without use, and warns 5m00s before");
  EXPECT_THAT(host.content(kService), HasSubstr(fmt::format("ExecStart={} idle\n", kAgent)));
  EXPECT_THAT(host.content(kTimer), HasSubstr("OnUnitActiveSec=60s\n"));
  EXPECT_EQ(host.content("/var/lib/gpustrap/idle/rules.json"), "{\"warn_s\":300,\"after_s\":1800}\n");
  EXPECT_EQ(host.at("/var/lib/gpustrap/idle/rules.json")->mode, 0600U);
  EXPECT_THAT(log.lines, Contains(HasSubstr("up to who rents the machine out")));
}

TEST(IdleStopStep, ALaterAgentTakesTheUnitOver) {
  FakeHost host = host_of();
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  const std::string later = "/usr/local/lib/gpustrap/agent-ffff";
  host.put(later, "a later agent", 0755).take_away("/proc/self/exe").put_symlink("/proc/self/exe", later);
  EXPECT_EQ(state_of(half_an_hour(), host).reason, "the guard is another agent's");
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  EXPECT_THAT(host.content(kService), HasSubstr("agent-ffff idle"));
  EXPECT_THAT(host.changes(), Contains("act systemctl restart gpustrap-idle.timer"));
}

TEST(IdleStopStep, AnAgentFromElsewhereIsKept) {
  FakeHost host = host_of("/tmp/packed/agent");
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  const std::string text = host.content(kService);
  const std::string program = text.substr(text.find("ExecStart=") + 10, text.find(" idle\n") - text.find("ExecStart=") - 10);
  EXPECT_THAT(program, ::testing::StartsWith("/usr/local/lib/gpustrap/agent-"));
  EXPECT_EQ(host.content(program), "the agent");
  EXPECT_EQ(host.at(program)->mode, 0755U);
}

TEST(IdleStopStep, OtherRulesAreWrittenAndReadAtTheNextLook) {
  FakeHost host = host_of();
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  IdleStopSpec shorter = half_an_hour();
  shorter.after = Duration{std::chrono::minutes(20)};
  EXPECT_EQ(state_of(shorter, host).reason, "the guard goes by other rules");
  host.forget();
  ASSERT_TRUE(run_step(shorter, host).has_value());
  EXPECT_THAT(host.content("/var/lib/gpustrap/idle/rules.json"), HasSubstr("\"after_s\":1200"));
}

TEST(IdleStopStep, ATimerThatWasStoppedOrDisabledIsSeen) {
  FakeHost host = host_of();
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  host.take_away(kWanted);
  EXPECT_EQ(state_of(half_an_hour(), host).reason, "the guard's timer does not start at boot");
  host.put_symlink(kWanted, kTimer).answer({"systemctl", "show"}, {0, "ActiveState=inactive\n", ""});
  host.answer({"systemctl", "show", "--property=ActiveState", "gpustrap-idle.timer"}, {0, "ActiveState=failed\n", ""});
  EXPECT_EQ(state_of(half_an_hour(), host).reason, "the guard's timer does not run");
  host.take_away(kAgent);
  EXPECT_EQ(state_of(half_an_hour(), host).reason, "the guard's program is not there");
}

TEST(IdleStopStep, TheBudgetTakesThePriceOfTheInstancesType) {
  FakeHost host = host_of();
  host.edit_facts().cloud_type = "g4dn.xlarge";
  RecordingLog log;
  const auto done = run_step(with_budget(), host, log);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("5 USD of 0.526 USD/h (g4dn.xlarge on demand in us-east-1, 2026-07-20) are spent, busy or not"));
  const auto rules = rules_in(host.content("/var/lib/gpustrap/idle/rules.json"));
  ASSERT_TRUE(rules && rules->budget);
  EXPECT_EQ(rules->budget->price.money.millionths, 526'000);
  EXPECT_THAT(log.lines, Contains(HasSubstr("not its disk")));
  EXPECT_THAT(log.lines, Contains(HasSubstr("shutdown behaviour is terminate")));
}

TEST(IdleStopStep, APriceOfTheRecipesOwnComesFirst) {
  FakeHost host = host_of();
  host.edit_facts().cloud_type = "g4dn.xlarge";
  IdleStopSpec spec = with_budget();
  spec.price = parse_price("0.2 USD/h");
  EXPECT_THAT(run_step(spec, host)->reason, HasSubstr("0.2 USD/h (the recipe)"));
}

TEST(IdleStopStep, AnUnknownPriceIsAskedFor) {
  FakeHost host = host_of();
  const auto elsewhere = run_step(with_budget(), host);
  ASSERT_FALSE(elsewhere.has_value());
  EXPECT_THAT(elsewhere.error().sentence(), HasSubstr("what an hour of this host costs is not known: it is no EC2 instance"));
  EXPECT_EQ(elsewhere.error().hint(), "say it in the step: price: 0.526 USD/h");
  host.edit_facts().cloud_type = "x9.huge";
  EXPECT_THAT(run_step(with_budget(), host).error().sentence(), HasSubstr("x9.huge is not among the prices"));
  host.edit_facts().cloud_type = "g4dn.xlarge";
  EXPECT_THAT(run_step(with_budget("5 EUR"), host).error().sentence(),
              HasSubstr("the budget is in EUR, and the known price of this host in USD"));
  EXPECT_THAT(host.changes(), IsEmpty());
}

TEST(IdleStopStep, NoHostStopsAtOnce) {
  FakeHost host = host_of();
  IdleStopSpec spec = half_an_hour();
  spec.after = Duration{std::chrono::seconds(0)};
  EXPECT_THAT(run_step(spec, host).error().sentence(), HasSubstr("`after` is 0s"));
}

TEST(IdleStopStep, IsRefusedWhereAShutdownStopsNothing) {
  FakeHost docker = host_of();
  docker.edit_facts().container = true;
  docker.put("/run/systemd/container", "docker\n");
  const auto refused = run_step(half_an_hour(), docker);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(refused.error().sentence(),
              HasSubstr("this host is a container (docker), which cannot switch off the machine that is paid for"));
  EXPECT_THAT(refused.error().hint(), HasSubstr("stop it where it is rented"));
  FakeHost bare = host_of();
  bare.edit_facts().systemd = false;
  EXPECT_THAT(run_step(half_an_hour(), bare).error().sentence(), HasSubstr("no systemd"));
  FakeHost bootless = host_of();
  bootless.edit_facts().boot_id.clear();
  EXPECT_THAT(run_step(half_an_hour(), bootless).error().sentence(),
              HasSubstr("this host does not tell its boot id, so its boots could not be told apart"));
  FakeHost user = host_of();
  user.as_user();
  EXPECT_THAT(run_step(half_an_hour(), user).error().sentence(), HasSubstr("only root may shut a host down"));
}

TEST(IdleStopStep, AbsentTakesItAllAway) {
  FakeHost host = host_of();
  ASSERT_TRUE(run_step(half_an_hour(), host).has_value());
  IdleStopSpec absent;
  absent.absent = true;
  EXPECT_EQ(state_of(absent, host).reason, "the guard is installed");
  const auto done = run_step(absent, host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "nothing stops this host when it is idle");
  for (const char* path : {kTimer, kService, kWanted, "/var/lib/gpustrap/idle"}) EXPECT_FALSE(host.at(path)) << path;
  EXPECT_THAT(host.changes(), Contains("act systemctl stop gpustrap-idle.timer"));
}

INSTANTIATE_TEST_SUITE_P(IdleStop, StepContract,
                         ::testing::Values(ContractCase{"idle_stop_new", half_an_hour(), [] { return host_of(); }},
                                           ContractCase{"idle_stop_budget", with_budget(),
                                                        [] {
                                                          FakeHost host = host_of();
                                                          host.edit_facts().cloud_type = "g4dn.xlarge";
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

#include <memory>
#include <string>

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr const char* kPath = "/etc/systemd/system/hello.service";
constexpr const char* kText = "[Service]\nExecStart=/bin/sleep inf\n[Install]\nWantedBy=multi-user.target\n";

ServiceSpec hello() {
  ServiceSpec spec;
  spec.name = "hello";
  spec.unit = kText;
  return spec;
}

/// One service of a systemd that does as it is told.
struct Systemd {
  bool read = false;  ///< daemon-reload has seen the unit's text
  std::string text;
  bool enabled = false;
  std::string active = "inactive", sub = "dead", type = "simple";
  std::string load;  ///< other than loaded or not-found
  int pid = 0, starts = 0;
  std::string since;
  std::function<void(FakeHost&, Systemd&)> on_start = [](FakeHost&, Systemd& systemd) { systemd.run(); };

  void run() { active = "active", sub = "running", pid = 100 + ++starts; }
  void end(const std::string& how) { active = how, sub = how == "failed" ? "failed" : "dead", pid = 0; }
};

FakeHost host_with(const std::shared_ptr<Systemd>& systemd) {
  FakeHost host;
  host.on({"systemctl", "show"}, [systemd](FakeHost& fake, const Command&) {
    const std::string there = fake.at(kPath) ? fake.content(kPath) : "";
    const std::string load = !systemd->load.empty() ? systemd->load : systemd->read ? "loaded" : "not-found";
    const bool install = systemd->text.find("[Install]") != std::string::npos;
    return CommandResult{0,
                         fmt::format("LoadState={}\nNeedDaemonReload={}\nUnitFileState={}\nActiveState={}\nSubState={}\nType={}\nMainPID={}"
                                     "\nActiveEnterTimestamp={}\n",
                                     load, systemd->read && there != systemd->text ? "yes" : "no",
                                     systemd->enabled ? "enabled"
                                     : install        ? "disabled"
                                                      : "static",
                                     systemd->active, systemd->sub, systemd->type, systemd->pid, systemd->since),
                         ""};
  });
  host.on({"systemctl", "daemon-reload"}, [systemd](FakeHost& fake, const Command&) {
    systemd->read = fake.at(kPath).has_value();
    systemd->text = systemd->read ? fake.content(kPath) : "";
    return CommandResult{};
  });
  host.on({"systemctl", "enable"}, [systemd](FakeHost&, const Command&) { return systemd->enabled = true, CommandResult{}; });
  host.on({"systemctl", "disable"}, [systemd](FakeHost&, const Command&) { return systemd->enabled = false, CommandResult{}; });
  host.on({"systemctl", "stop"}, [systemd](FakeHost&, const Command&) { return systemd->end("inactive"), CommandResult{}; });
  host.answer({"systemctl", "reset-failed"}, {});
  for (const char* verb : {"start", "restart"}) {
    host.on({"systemctl", verb}, [systemd](FakeHost& fake, const Command&) { return systemd->on_start(fake, *systemd), CommandResult{}; });
  }
  host.answer({"journalctl"}, {0, "", ""});
  return host;
}

constexpr const char* kOwnPath = "/var/lib/gpustrap/services/hello.service";

/// A container rented as a machine, and gpustrap's own supervision there.
FakeHost container_with(const std::shared_ptr<Systemd>& service) {
  FakeHost host;
  host.edit_facts().systemd = false;
  host.on({"/proc/self/exe", "supervise", "show", kOwnPath}, [service](FakeHost& fake, const Command&) {
    return CommandResult{0,
                         fmt::format("Type=simple\nLoadState={}\nActiveState={}\nSubState={}\nMainPID={}\n",
                                     fake.at(kOwnPath) ? "loaded" : "not-found", service->active, service->sub, service->pid),
                         ""};
  });
  host.on({"/proc/self/exe", "supervise", "stop", kOwnPath},
          [service](FakeHost&, const Command&) { return service->end("inactive"), CommandResult{}; });
  for (const char* verb : {"start", "restart"}) {
    host.on({"/proc/self/exe", "supervise", verb, kOwnPath},
            [service](FakeHost& fake, const Command&) { return service->on_start(fake, *service), CommandResult{}; });
  }
  return host;
}

class ServiceStep : public ::testing::Test {
 protected:
  std::shared_ptr<Systemd> systemd_ = std::make_shared<Systemd>();
  FakeHost host_ = host_with(systemd_);
};

TEST_F(ServiceStep, WritesTheUnitStartsItAndStartsItAtBoot) {
  const auto done = run_step(hello(), host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->is, StepState::Is::satisfied);
  EXPECT_EQ(done->reason, "running, starts at boot");
  EXPECT_EQ(host_.content(kPath), kText);
  EXPECT_EQ(host_.at(kPath)->mode, 0644U);
}

TEST_F(ServiceStep, AChangedUnitIsReadAgainAndTheServiceRestarted) {
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  host_.forget();
  ServiceSpec changed = hello();
  changed.unit = std::string("# other\n") + kText;
  EXPECT_EQ(state_of(changed, host_).reason, "the unit's text differs");
  ASSERT_TRUE(run_step(changed, host_).has_value());
  EXPECT_THAT(host_.changes(), Contains("act systemctl daemon-reload"));
  EXPECT_THAT(host_.changes(), Contains("act systemctl restart hello.service"));
}

TEST_F(ServiceStep, AUnitWrittenByARunThatEndedBeforeTheRestartIsTakenUp) {
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  systemd_->since = "Thu 1970-01-01 00:00:00 UTC";
  EXPECT_EQ(state_of(hello(), host_).is, StepState::Is::satisfied);  // no time is not an old time
  systemd_->since = "Thu 1970-01-01 00:00:01 UTC";
  host_.put(kPath, {FileType::regular, kText, 0644, 0, 0, 5});
  const StepState state = state_of(hello(), host_);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_EQ(state.reason, "it still runs as its unit was before");
  // A unit from the future was written before the clock was set back.
  host_.set_clock_back(3600);
  EXPECT_EQ(state_of(hello(), host_).is, StepState::Is::satisfied) << state_of(hello(), host_).reason;
  host_.set_clock_back(-3600);
  systemd_->on_start = [](FakeHost&, Systemd& systemd) { systemd.run(), systemd.since = "Thu 1970-01-01 00:01:00 UTC"; };
  host_.forget();
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  EXPECT_THAT(host_.changes(), Contains("act systemctl restart hello.service"));
}

TEST_F(ServiceStep, AServiceThatEndsRightAfterItsStartIsAnErrorWithItsOwnWords) {
  systemd_->on_start = [](FakeHost&, Systemd& systemd) { systemd.end("failed"); };
  host_.answer({"journalctl"},
               {0, "Started hello.service.\nbind: Permission denied\nhello.service: Failed with result 'exit-code'.\n", ""});
  const auto done = run_step(hello(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().why(), "it ended right after its start: bind: Permission denied");
  EXPECT_THAT(done.error().hint(), HasSubstr("journalctl -u hello"));
}

TEST_F(ServiceStep, AServiceThatIsRestartedOverAndOverIsNotRunning) {
  systemd_->on_start = [](FakeHost& fake, Systemd& systemd) {
    systemd.run();
    fake.on_pause([&systemd](FakeHost&) { ++systemd.pid; });
  };
  const auto done = run_step(hello(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), StartsWith("it ended right after its start"));
}

TEST_F(ServiceStep, IsDoneOnlyOnceItsPortAnswers) {
  ServiceSpec spec = hello();
  spec.port = PortNumber{8080};
  int pauses = 0;
  systemd_->on_start = [&pauses](FakeHost& fake, Systemd& systemd) {
    systemd.run();
    fake.on_pause([&pauses](FakeHost& later) {
      if (++pauses == 20) later.listen(8080);
    });
  };
  const auto done = run_step(spec, host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_GE(pauses, 20);
  EXPECT_EQ(done->reason, "running, starts at boot, answers on 127.0.0.1:8080");
  host_.unlisten(8080);
  EXPECT_EQ(state_of(spec, host_).reason, "nothing answers on 127.0.0.1:8080");
}

TEST_F(ServiceStep, NamesWhoHasItsPort) {
  ServiceSpec spec = hello();
  spec.port = PortNumber{8888};
  host_.listen(8888, 200);
  host_.put("/proc/net/tcp", "  sl\n   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n");
  host_.put_symlink("/proc/812/fd/7", "socket:[4242]");
  host_.put("/proc/812/comm", "python3\n");
  const auto done = run_step(spec, host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::busy);
  EXPECT_THAT(done.error().why(), HasSubstr("port 8888 is taken by process 812 (python3)"));
  EXPECT_FALSE(host_.at(kPath).has_value());
}

TEST_F(ServiceStep, StopsAndDisablesWhatIsNotToRun) {
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  ServiceSpec off = hello();
  off.enabled = false, off.running = false;
  const auto done = run_step(off, host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "stopped, does not start at boot");
  EXPECT_EQ(systemd_->active, "inactive");
}

TEST_F(ServiceStep, WithoutATextTheUnitMustExist) {
  ServiceSpec spec = hello();
  spec.unit.reset();
  EXPECT_EQ(state_of(spec, host_).reason, "there is no service hello");
  const auto done = run_step(spec, host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::not_found);
  EXPECT_THAT(done.error().hint(), HasSubstr("`unit`"));
}

TEST_F(ServiceStep, AMaskedServiceIsLeftToWhoMaskedIt) {
  systemd_->load = "masked";
  ServiceSpec spec = hello();
  spec.unit.reset();
  const auto done = run_step(spec, host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("systemctl unmask hello"));
  EXPECT_TRUE(host_.changes().empty());
}

TEST_F(ServiceStep, AUnitWithoutInstallSectionCannotStartAtBoot) {
  ServiceSpec spec = hello();
  spec.unit = "[Service]\nExecStart=/bin/sleep inf\n";
  const auto done = run_step(spec, host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("WantedBy=multi-user.target"));
}

TEST_F(ServiceStep, AOneshotThatHasEndedIsExplained) {
  systemd_->type = "oneshot";
  systemd_->on_start = [](FakeHost&, Systemd& systemd) { systemd.end("inactive"); };
  const auto done = run_step(hello(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("RemainAfterExit=yes"));
}

TEST_F(ServiceStep, AServiceThatFailedTooOftenIsStartedAllTheSame) {
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  systemd_->end("failed");
  EXPECT_EQ(state_of(hello(), host_).reason, "it is not running (failed)");
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  EXPECT_THAT(host_.changes(), Contains("act systemctl reset-failed hello.service"));
}

TEST_F(ServiceStep, AUnitThatSomebodyWroteIsKeptAndThePlanShowsTheDifference) {
  const std::string mine = "[Service]\nExecStart=/bin/mine\n";
  host_.put(kPath, mine);
  EXPECT_THAT(state_of(hello(), host_).changes, HasSubstr("-ExecStart=/bin/mine"));
  ASSERT_TRUE(run_step(hello(), host_).has_value());
  EXPECT_EQ(host_.content(kPath), kText);
  EXPECT_EQ(host_.content(std::string(kPath) + ".gpustrap-backup"), mine);
}

TEST_F(ServiceStep, AUnitThatSystemdDoesNotUnderstandIsNotStarted) {
  systemd_->load = "bad-setting";
  const auto done = run_step(hello(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("systemd-analyze verify hello.service"));
  EXPECT_EQ(systemd_->starts, 0);
}

TEST_F(ServiceStep, AServiceThatOthersStartNeedsNoEnabling) {
  systemd_->read = true;
  systemd_->text = "[Service]\nExecStart=/bin/sleep inf\n";
  host_.put(kPath, systemd_->text);
  ServiceSpec spec = hello();
  spec.unit.reset();
  const auto done = run_step(spec, host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(done->reason, "running, started by other units");
}

TEST_F(ServiceStep, AProgramThatDoesNotExistIsNamed) {
  systemd_->on_start = [](FakeHost&, Systemd& systemd) { systemd.end("failed"); };
  host_.answer({"journalctl"}, {0,
                                "Starting hello.service...\nhello.service: Failed to locate executable /bin/no: No such file or "
                                "directory\nhello.service: Failed with result 'exit-code'.\n",
                                ""});
  const auto done = run_step(hello(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("Failed to locate executable /bin/no"));
}

TEST_F(ServiceStep, NeedsRootAndSaysSo) {
  host_.as_user();
  const auto state = make_step(hello())->check(host_);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::permission);
  EXPECT_THAT(state.error().hint(), HasSubstr("User="));
}

TEST_F(ServiceStep, RunsUnderGpustrapItselfWithoutSystemd) {
  FakeHost host = container_with(systemd_);
  EXPECT_THAT(state_of(hello(), host).reason, StartsWith("the service does not exist; not restarted after a reboot"));
  const auto done = run_step(hello(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, StartsWith("running; not restarted after a reboot"));
  EXPECT_EQ(host.content(kOwnPath), kText);
  EXPECT_FALSE(host.at(kPath).has_value());
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("systemctl"))));
  systemd_->end("inactive");
  EXPECT_THAT(state_of(hello(), host).reason, StartsWith("it is not running (inactive)"));
  EXPECT_TRUE(run_step(hello(), host).has_value());
  ServiceSpec stopped = hello();
  stopped.running = false;
  EXPECT_TRUE(run_step(stopped, host).has_value());
  EXPECT_EQ(systemd_->active, "inactive");
}

TEST_F(ServiceStep, StartsAgainWhatRunsAsItsUnitWasBeforeWithoutSystemd) {
  FakeHost host = container_with(systemd_);
  ASSERT_TRUE(run_step(hello(), host).has_value());
  const int pid = systemd_->pid;
  ServiceSpec other = hello();
  other.unit = "[Service]\nExecStart=/bin/sleep 100\n";
  EXPECT_THAT(state_of(other, host).reason, HasSubstr("the unit's text differs"));
  ASSERT_TRUE(run_step(other, host).has_value());
  EXPECT_NE(systemd_->pid, pid);
}

TEST_F(ServiceStep, WithoutRootItsFilesAreTheUsersOwn) {
  FakeHost host = container_with(systemd_);
  host.as_user();
  const std::string path = "/home/ubuntu/.local/state/gpustrap/services/hello.service";
  const auto runs = std::make_shared<bool>(false);
  host.on({"/proc/self/exe", "supervise", "show", path}, [path, runs](FakeHost& fake, const Command&) {
    return CommandResult{0,
                         std::string("LoadState=") + (fake.at(path) ? "loaded" : "not-found") +
                             (*runs ? "\nActiveState=active\nMainPID=7\n" : "\nActiveState=inactive\n"),
                         ""};
  });
  host.on({"/proc/self/exe", "supervise", "restart", path}, [runs](FakeHost&, const Command&) { return *runs = true, CommandResult{}; });
  const auto done = run_step(hello(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_EQ(host.content(path), kText);
}

TEST_F(ServiceStep, NamesWhatCannotBeHadWithoutSystemd) {
  FakeHost host = container_with(systemd_);
  ServiceSpec spec = hello();
  spec.unit = "[Service]\nType=notify\nExecStart=/bin/web\n";
  auto state = make_step(spec)->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(state.error().why(), HasSubstr("[Service] Type=notify"));
  spec.unit.reset();
  state = make_step(spec)->check(host);
  ASSERT_FALSE(state.has_value());
  EXPECT_EQ(state.error().code(), ErrorCode::unsupported);
  EXPECT_THAT(state.error().hint(), HasSubstr("unit"));
}

INSTANTIATE_TEST_SUITE_P(Service, StepContract,
                         ::testing::Values(ContractCase{"service_new", hello(), [] { return host_with(std::make_shared<Systemd>()); }},
                                           ContractCase{"service_without_systemd", hello(),
                                                        [] { return container_with(std::make_shared<Systemd>()); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

#include <string>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/service_unit.h"
#include "agent/token.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"

namespace gpustrap {
namespace {

using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;

constexpr const char* kUnit = "/etc/systemd/system/gpustrap-jupyter.service";
constexpr const char* kToken = "/home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.token";

JupyterSpec notebook() {
  JupyterSpec spec;
  spec.venv = HostPath{"~/env"};
  spec.dir = HostPath{"~/notebooks"};
  return spec;
}

/// systemd as far as the step can see it. The fake's port answers 200 to whoever asks; who may not is tested on a real host.
FakeHost notebook_host() {
  FakeHost host;
  host.put("/home/ubuntu/env/bin/jupyter-lab", "", 0755);
  host.answer({"systemctl", "daemon-reload"}, {});
  host.answer({"systemctl", "show"}, {0, "ActiveState=inactive\n", ""});
  host.on({"systemctl", "enable"}, [](FakeHost& fake, const Command&) {
    fake.put_symlink("/etc/systemd/system/multi-user.target.wants/gpustrap-jupyter.service", kUnit);
    return CommandResult{};
  });
  host.on({"systemctl", "restart"}, [](FakeHost& fake, const Command&) {
    fake.require_token(8888, fake.content(kToken));
    return CommandResult{};
  });
  return host;
}

constexpr const char* kOwnUnit = "/var/lib/gpustrap/services/gpustrap-jupyter.service";

/// A container rented as a machine: gpustrap's own supervision, as far as the step can see it.
FakeHost container() {
  FakeHost host;
  host.edit_facts().systemd = false;
  host.put("/home/ubuntu/env/bin/jupyter-lab", "", 0755);
  host.answer({"/proc/self/exe", "supervise", "show", kOwnUnit}, {0, "ActiveState=inactive\n", ""});
  host.on({"/proc/self/exe", "supervise", "restart", kOwnUnit}, [](FakeHost& fake, const Command&) {
    fake.require_token(8888, fake.content(kToken));
    fake.answer({"/proc/self/exe", "supervise", "show", kOwnUnit}, {0, "ActiveState=active\n", ""});
    return CommandResult{};
  });
  return host;
}

TEST(JupyterStep, KeepsItsTokenInAFileOfTheLoginUserAlone) {
  FakeHost host = notebook_host();
  const auto done = run_step(notebook(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  ASSERT_TRUE(host.at(kToken).has_value());
  EXPECT_EQ(host.at(kToken)->mode, 0600U);
  EXPECT_EQ(host.at(kToken)->uid, 1000U);
  EXPECT_EQ(host.content(kToken).size(), 32U);  // 128 bits
  EXPECT_THAT(host.content(kUnit), Not(HasSubstr(host.content(kToken))));
  EXPECT_THAT(done->reason, Not(HasSubstr(host.content(kToken))));
}

TEST(JupyterStep, ListensOnLoopbackOnItsOwnPortOnly) {
  FakeHost host = notebook_host();
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  const std::string unit = host.content(kUnit);
  EXPECT_THAT(unit, HasSubstr("--ServerApp.ip=127.0.0.1"));
  EXPECT_THAT(unit, HasSubstr("--ServerApp.port=8888 --ServerApp.port_retries=0"));
  EXPECT_THAT(unit, HasSubstr("User=ubuntu"));
  EXPECT_THAT(unit, Not(HasSubstr("LD_LIBRARY_PATH")));
  EXPECT_THAT(unit, Not(HasSubstr("--allow-root")));
}

TEST(JupyterStep, ARerunKeepsTheToken) {
  FakeHost host = notebook_host();
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  const std::string token = host.content(kToken);
  host.unlisten(8888);
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  EXPECT_EQ(host.content(kToken), token);
}

TEST(JupyterStep, ATokenThatOthersCanReadIsReplaced) {
  FakeHost host = notebook_host();
  host.put(kToken, std::string(48, 'a'), 0644);
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  EXPECT_NE(host.content(kToken), std::string(48, 'a'));
  EXPECT_EQ(host.at(kToken)->mode, 0600U);
}

TEST(JupyterStep, AServerThatLetsInWithoutATokenIsNotSatisfied) {
  FakeHost host = notebook_host();
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  host.listen(8888, 200);
  EXPECT_EQ(state_of(notebook(), host).is, StepState::Is::unsatisfied);
}

TEST(JupyterStep, NamesWhoHasThePort) {
  FakeHost host = notebook_host();
  host.listen(8888, 200);
  host.put("/proc/net/tcp", "  sl\n   0: 0100007F:22B8 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 4242 1\n");
  host.put_symlink("/proc/812/fd/7", "socket:[4242]");
  host.put("/proc/812/comm", "python3\n");
  host.put("/etc/passwd", "root:x:0:0::/root:/bin/sh\nubuntu:x:1000:1000::/home/ubuntu:/bin/bash\n");
  const auto done = run_step(notebook(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::busy);
  EXPECT_THAT(done.error().why(), HasSubstr("port 8888 is taken by process 812 (python3) of ubuntu"));
}

TEST(JupyterStep, QuotesTheJournalWhereTheServerDies) {
  FakeHost host = notebook_host();
  host.answer({"systemctl", "restart"}, {});
  host.answer({"systemctl", "show"}, {0, "ActiveState=failed\n", ""});
  host.answer({"journalctl"}, {0, "starting\nModuleNotFoundError: No module named 'jupyterlab'\nended\n", ""});
  const auto done = run_step(notebook(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("ModuleNotFoundError"));
  EXPECT_THAT(done.error().hint(), HasSubstr("journalctl -u gpustrap-jupyter"));
}

TEST(JupyterStep, NamesTheStepThatIsMissingWhereNoServerIsInstalled) {
  FakeHost host = notebook_host();
  host.take_away("/home/ubuntu/env/bin/jupyter-lab");
  const auto done = run_step(notebook(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().hint(), HasSubstr("packages: [jupyterlab]"));
}

TEST(JupyterStep, RunsUnderGpustrapItselfWithoutSystemd) {
  FakeHost host = container();
  EXPECT_THAT(state_of(notebook(), host).reason, HasSubstr("not restarted after a reboot"));
  const auto done = run_step(notebook(), host);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("only with its token; not restarted after a reboot"));
  EXPECT_FALSE(host.at(kUnit).has_value());
  EXPECT_THAT(host.content(kOwnUnit), HasSubstr("ExecStart=\"/home/ubuntu/env/bin/jupyter-lab\""));
  EXPECT_TRUE(read_service_unit(host.content(kOwnUnit)).has_value());
  EXPECT_THAT(host.changes(), Not(Contains(HasSubstr("systemctl"))));
  host.forget();
  EXPECT_EQ(state_of(notebook(), host).is, StepState::Is::satisfied);
  // After a restart of the container nothing runs, and the unit is still there.
  host.unlisten(8888);
  host.answer({"/proc/self/exe", "supervise", "show", kOwnUnit}, {0, "ActiveState=inactive\n", ""});
  EXPECT_THAT(state_of(notebook(), host).reason, HasSubstr("the service does not run"));
  EXPECT_TRUE(run_step(notebook(), host).has_value());
}

TEST(JupyterStep, QuotesItsLogWithoutSystemd) {
  FakeHost host = container();
  host.on({"/proc/self/exe", "supervise", "restart", kOwnUnit}, [](FakeHost& fake, const Command&) {
    fake.put("/var/lib/gpustrap/services/gpustrap-jupyter.log", "starting\nModuleNotFoundError: No module named 'jupyterlab'\nended\n");
    fake.answer({"/proc/self/exe", "supervise", "show", kOwnUnit}, {0, "ActiveState=activating\nSubState=auto-restart\n", ""});
    return CommandResult{};
  });
  const auto done = run_step(notebook(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("ModuleNotFoundError"));
  EXPECT_THAT(done.error().hint(), HasSubstr("/var/lib/gpustrap/services/gpustrap-jupyter.log"));
}

INSTANTIATE_TEST_SUITE_P(Jupyter, StepContract,
                         ::testing::Values(ContractCase{"jupyter_new", notebook(), [] { return notebook_host(); }},
                                           ContractCase{"jupyter_without_systemd", notebook(), [] { return container(); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

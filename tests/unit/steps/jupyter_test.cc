#include <memory>
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
    fake.answer({"systemctl", "show"}, {0, "ActiveState=active\n", ""});
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

TEST(JupyterStep, ShowsItsTokenToNobodyWhileItsOwnServerDoesNotRun) {
  FakeHost host = notebook_host();
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  // The port still answers as it did: somebody else has it now.
  host.answer({"systemctl", "show"}, {0, "ActiveState=failed\n", ""});
  host.forget();
  EXPECT_EQ(state_of(notebook(), host).reason, "the service does not run (failed)");
  EXPECT_THAT(host.looks(), Not(Contains(HasSubstr("8888"))));
}

TEST(JupyterStep, AServerThatRunsAsItsUnitWasBeforeIsNotSatisfied) {
  FakeHost host = notebook_host();
  ASSERT_TRUE(run_step(notebook(), host).has_value());
  host.answer({"systemctl", "show"}, {0, "ActiveState=active\nNeedDaemonReload=yes\n", ""});
  EXPECT_EQ(state_of(notebook(), host).reason, "systemd has not read the changed unit yet");
  const FakeFile unit = *host.at(kUnit);
  host.put(kUnit, {FileType::regular, unit.content, unit.mode, 0, 0, 1'000'000});
  host.answer({"systemctl", "show"}, {0, "ActiveState=active\nActiveEnterTimestamp=Mon 1970-01-05 00:00:00 UTC\n", ""});
  EXPECT_EQ(state_of(notebook(), host).reason, "the service still runs as its unit was before");
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

JupyterSpec open_notebook() {
  JupyterSpec spec = notebook();
  spec.is_public = true;
  return spec;
}

/// The environment's Python as far as the step sees it: it prepares, and tells what the server does once that was started.
FakeHost public_host(const std::shared_ptr<std::string>& trouble) {
  FakeHost host = notebook_host();
  const auto prepared = std::make_shared<bool>(false);
  host.on({"/home/ubuntu/env/bin/python"}, [trouble, prepared](FakeHost& fake, const Command& command) {
    if (command.argv.at(4) == "prepare") *prepared = true;
    if (!*prepared) return CommandResult{0, "its password is another\n", ""};
    if (command.argv.at(4) == "prepare") return CommandResult{};
    if (!fake.port_answers(8888)) return CommandResult{0, "nothing answers with TLS on port 8888\n", ""};
    return CommandResult{0, trouble->empty() ? "\nAB:CD\n" : *trouble + "\n", ""};
  });
  return host;
}

class PublicJupyter : public ::testing::Test {
 protected:
  std::shared_ptr<std::string> trouble_ = std::make_shared<std::string>();
  FakeHost host_ = public_host(trouble_);
};

TEST_F(PublicJupyter, ListensEverywhereWithTlsAndSaysSo) {
  EXPECT_THAT(state_of(open_notebook(), host_).reason, HasSubstr("open to the network: the service does not exist"));
  const auto done = run_step(open_notebook(), host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(done->reason, HasSubstr("open to the network: answers on port 8888 of all interfaces with TLS and a password"));
  EXPECT_THAT(done->reason, HasSubstr("SHA-256 AB:CD"));
  const std::string unit = host_.content(kUnit);
  EXPECT_THAT(unit, HasSubstr("--ServerApp.ip=0.0.0.0"));
  EXPECT_THAT(unit,
              HasSubstr("\"--ServerApp.certfile=/home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.public/certificate.pem\""));
  EXPECT_THAT(unit, HasSubstr("JUPYTER_CONFIG_PATH=/home/ubuntu/.local/state/gpustrap/jupyter-gpustrap-jupyter.public"));
}

TEST_F(PublicJupyter, TakesTheCertificateThatIsGiven) {
  JupyterSpec spec = open_notebook();
  spec.certificate = HostPath{"~/mine.pem"};
  spec.key = HostPath{"~/mine.key"};
  ASSERT_TRUE(run_step(spec, host_).has_value());
  EXPECT_THAT(host_.content(kUnit), HasSubstr("\"--ServerApp.keyfile=/home/ubuntu/mine.key\""));
}

TEST_F(PublicJupyter, IsNotSatisfiedWhereItLetsInWithoutAPassword) {
  ASSERT_TRUE(run_step(open_notebook(), host_).has_value());
  *trouble_ = "it lets in without a password";
  const StepState state = state_of(open_notebook(), host_);
  EXPECT_EQ(state.is, StepState::Is::unsatisfied);
  EXPECT_THAT(state.reason, HasSubstr("lets in without a password"));
}

TEST_F(PublicJupyter, RefusesAShortPassword) {
  host_.answer({"/home/ubuntu/env/bin/python"}, {3, "", "JUPYTER_PASSWORD has 5 characters, and the network may try\n"});
  const auto done = run_step(open_notebook(), host_);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::recipe);
  EXPECT_THAT(done.error().why(), HasSubstr("has 5 characters"));
  EXPECT_THAT(done.error().hint(), HasSubstr("12 characters"));
  EXPECT_FALSE(host_.at(kUnit).has_value()) << "nothing is opened";
}

TEST_F(PublicJupyter, SaysWhatItLacksToBeOpened) {
  host_.answer({"/home/ubuntu/env/bin/python"}, {1, "", "FileNotFoundError: [Errno 2] No such file or directory: 'openssl'\n"});
  const auto no_openssl = run_step(open_notebook(), host_);
  ASSERT_FALSE(no_openssl.has_value());
  EXPECT_EQ(no_openssl.error().code(), ErrorCode::not_found);
  EXPECT_EQ(no_openssl.error().why(), "there is no openssl on this host to make a certificate with");
  EXPECT_THAT(no_openssl.error().hint(), HasSubstr("apt: [openssl]"));
  host_.answer({"/home/ubuntu/env/bin/python"}, {1, "", "ModuleNotFoundError: No module named 'jupyter_server'\n"});
  const auto old = run_step(open_notebook(), host_);
  ASSERT_FALSE(old.has_value());
  EXPECT_EQ(old.error().code(), ErrorCode::command);
  EXPECT_EQ(old.error().why(),
            "the environment's Python could not look after the notebook's password and certificate: ModuleNotFoundError: No module named "
            "'jupyter_server'");
  EXPECT_THAT(old.error().hint(), HasSubstr("jupyter_server 2 or newer"));
  EXPECT_FALSE(host_.at(kUnit).has_value()) << "nothing is opened";
}

TEST_F(PublicJupyter, ClosesAgainWithoutTheField) {
  ASSERT_TRUE(run_step(open_notebook(), host_).has_value());
  host_.unlisten(8888);
  const auto done = run_step(notebook(), host_);
  ASSERT_TRUE(done.has_value()) << done.error().sentence();
  EXPECT_THAT(host_.content(kUnit), HasSubstr("--ServerApp.ip=127.0.0.1"));
  EXPECT_THAT(host_.content(kUnit), Not(HasSubstr("certfile")));
}

INSTANTIATE_TEST_SUITE_P(Jupyter, StepContract,
                         ::testing::Values(ContractCase{"jupyter_new", notebook(), [] { return notebook_host(); }},
                                           ContractCase{"jupyter_without_systemd", notebook(), [] { return container(); }},
                                           ContractCase{"jupyter_public", open_notebook(),
                                                        [] { return public_host(std::make_shared<std::string>()); }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

#include "controller/fleet_printer.h"

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>
#include <gmock/gmock.h>

#include "agent/base/text.h"
#include "controller/planned_changes.h"
#include "controller/screen_text.h"
#include "tests/support/fake_terminal.h"
#include "tests/support/golden_file.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

struct Look {
  const char* name;
  std::size_t columns, rows;
  bool live, unicode;
};
void PrintTo(const Look& look, std::ostream* out) { *out << look.name; }

constexpr Look kWide{"120_columns", 120, 30, true, true};
constexpr Look kNarrow{"60_columns", 60, 24, true, true};
constexpr Look kShort{"8_rows", 80, 8, true, true};
constexpr Look kAscii{"ascii", 80, 24, true, false};
constexpr Look kPipe{"pipe", 80, 24, false, true};

/// Hosts that say what they are told to, and what a person sees of it.
class Crowd {
 public:
  explicit Crowd(const Look& look, std::size_t count = 6, Detail detail = Detail::normal) : terminal(look.columns, look.rows) {
    Console console;
    console.person = console.live = look.live;
    console.unicode = look.unicode;
    console.size = [look] { return TerminalSize{look.columns, look.rows}; };
    console.write = [this](std::string_view text) {
      ++writes;
      bytes += text;
      terminal.write(text);
    };
    console.now = [this] { return now; };
    for (std::size_t i = 0; i < count; ++i) names.push_back(fmt::format("gpu{:02}.lab.example.org", i + 1));
    ends.resize(count);
    printer.emplace(std::move(console), "d2l", names, detail);
  }

  void start(std::size_t host, std::size_t steps = 12, RunMode mode = RunMode::apply) {
    printer->begin(host);
    RunStarted started;
    started.mode = mode;
    started.facts.os = "ubuntu";
    started.facts.os_version = "24.04";
    for (std::size_t i = 0; i < steps; ++i) started.steps.push_back({fmt::format("step{}", i), "command", ""});
    tell(host, started);
  }
  template <class Body> void tell(std::size_t host, Body body) { printer->event(host, Event{1, 0, std::move(body)}); }
  void finish(std::size_t host, const std::string& step, Outcome outcome, const std::string& reason = "a reason") {
    StepFinished finished;
    finished.step = step;
    finished.outcome = outcome;
    finished.reason = reason;
    finished.elapsed = milliseconds(1500);
    tell(host, finished);
  }
  void end(std::size_t host, ExitCode exit, const std::string& why = {}, const std::string& hint = {}) {
    HostEnd& end = ends[host];
    end.exit = exit;
    end.why = why;
    end.hint = hint;
    end.elapsed = milliseconds(72'000);
    if (exit == ExitCode::ok || exit == ExitCode::step_failed) {
      end.finished.emplace();
      end.finished->changed = 3;
      end.finished->unchanged = 9;
    }
    printer->ended(host, end);
  }
  void pass(int ms) {
    now += milliseconds(ms);
    printer->tick();
  }
  void keep(const std::string& title) { kept += "== " + title + "\n" + terminal.text() + "\n"; }

  FakeTerminal terminal;
  milliseconds now{0};
  std::size_t writes = 0;
  std::string bytes, kept;
  std::vector<std::string> names;
  std::vector<HostEnd> ends;
  std::optional<FleetPrinter> printer;
};

/// A little of everything that can happen.
void live_through_much(Crowd& crowd) {
  crowd.pass(300);
  crowd.start(0);
  crowd.start(1);
  crowd.printer->begin(2);
  crowd.printer->begin(3);
  crowd.finish(0, "require", Outcome::unchanged);
  crowd.finish(0, "apt", Outcome::changed, "git: installed");
  crowd.tell(0, StepStarted{"conda"});
  crowd.printer->progress(0, Progress{"conda", "Miniforge3-Linux-x86_64.sh", 78'400'000, 91'200'000, 24'000'000});
  crowd.tell(1, StepStarted{"pip"});
  crowd.tell(1, StepOutput{"pip", "out", "Collecting torch\nDownloading torch-2.9.1-cp311-cp311-manylinux_2_28_x86_64.whl\n"});
  crowd.printer->connection_lost(1, Error(ErrorCode::unreachable, "nothing was heard from the host for 18 s"));
  crowd.printer->activity(3, Activity{"sending the agent", 1'200'000, 2'400'000});
  crowd.end(2, ExitCode::unreachable, "connecting to gpu03.lab.example.org: no answer within 15s",
            "is the instance running, and does its security group let SSH (TCP 22) in from your address?");
  crowd.pass(12'000);
  crowd.keep("much goes on");
  crowd.printer->connection_back(1);
  crowd.printer->notice(1, "the run was taken up again");
  crowd.tell(1, StepRetry{"pip", 1, ErrorText{ErrorCode::network, "the connection was reset", ""}, milliseconds(4000)});
  crowd.finish(1, "pip", Outcome::failed, "no space left on device");
  crowd.end(1, ExitCode::step_failed, "pip: no space left on device", "make room on the host (df -h), then run the same command again");
  crowd.end(0, ExitCode::ok);
  crowd.start(4);
  crowd.pass(60'000);
  crowd.keep("some have ended");
  crowd.end(3, ExitCode::ok);
  crowd.end(4, ExitCode::detached);
  crowd.ends[5].begun = false;
  crowd.ends[5].exit = ExitCode::cancelled;
  crowd.printer->ended(5, crowd.ends[5]);
  crowd.pass(500);
  crowd.printer->summary(crowd.ends, {"Again where it failed:   gpustrap up d2l -f hosts.yaml --limit failed"});
  crowd.keep("the end");
}

class FleetScreens : public ::testing::TestWithParam<Look> {};

TEST_P(FleetScreens, LookAsTheyAreKept) {
  Crowd crowd(GetParam());
  live_through_much(crowd);
  EXPECT_FALSE(crowd.terminal.wrapped());
  expect_golden(fmt::format("screens/fleet_{}.txt", GetParam().name), crowd.kept);
}

INSTANTIATE_TEST_SUITE_P(Looks, FleetScreens, ::testing::Values(kWide, kNarrow, kShort, kAscii, kPipe),
                         [](const auto& one) { return std::string("of_") + one.param.name; });

TEST(FleetPrinter, MoreHostsThanRowsLeaveOutWhatIsQuiet) {
  Crowd crowd(kShort, 40);
  for (std::size_t i = 0; i < 12; ++i) crowd.start(i);
  crowd.end(7, ExitCode::step_failed, "apt: no space left");
  crowd.end(3, ExitCode::ok);
  crowd.pass(1000);
  const std::string text = crowd.terminal.text();
  EXPECT_FALSE(crowd.terminal.wrapped());
  EXPECT_THAT(text, HasSubstr("40 hosts   1 failed, 10 running, 1 done, 28 waiting"));
  EXPECT_THAT(text, HasSubstr("✗ gpu08.lab")) << "the one that failed";
  EXPECT_THAT(text, HasSubstr("… and 7 running, 1 done, 28 waiting"));
}

TEST(FleetPrinter, MustFitWhereAllFail) {
  Crowd crowd(kShort, 40);
  for (std::size_t i = 0; i < 39; ++i) {
    crowd.start(i);
    if (i < 30) crowd.end(i, ExitCode::step_failed, "apt: no space left");
  }
  crowd.pass(1000);
  EXPECT_FALSE(crowd.terminal.wrapped());
  EXPECT_THAT(crowd.terminal.text(), HasSubstr("▸ gpu31.lab")) << "what runs has its place";
}

TEST(FleetPrinter, DrawsNothingWhereNothingChanges) {
  Crowd crowd(kWide);
  crowd.pass(1000);
  const std::size_t before = crowd.writes;
  for (int i = 0; i < 8; ++i) crowd.pass(100);
  EXPECT_LE(crowd.writes - before, 2U) << "the clock alone";
}

TEST(FleetPrinter, KeepsBackWhatComesDuringAQuestion) {
  for (const Look& look : {kWide, kPipe}) {
    Crowd crowd(look);
    crowd.start(0);
    crowd.pass(1000);
    crowd.printer->pause();
    const std::size_t before = crowd.writes;
    crowd.finish(0, "apt", Outcome::changed);
    crowd.printer->notice(0, "something to know");
    crowd.pass(40'000);
    EXPECT_EQ(crowd.writes, before);
    crowd.printer->resume();
    EXPECT_THAT(crowd.terminal.text(), HasSubstr("something to know"));
  }
}

TEST(FleetPrinter, SaysSomethingNowAndThenOffATerminal) {
  Crowd crowd(kPipe);
  crowd.start(0);
  crowd.tell(0, StepStarted{"pip"});
  crowd.tell(0, StepOutput{"pip", "out", "Collecting torch\n"});
  for (int i = 0; i < 31; ++i) crowd.pass(1000);
  EXPECT_THAT(crowd.bytes, HasSubstr("1 running, 5 waiting: gpu01.lab.example.org pip: Collecting torch"));
  EXPECT_THAT(crowd.bytes, Not(HasSubstr(" | "))) << "output is for -v and the logs";
}

TEST(FleetPrinter, TakesControlCharactersOutOfWhatHostsSay) {
  for (const Look& look : {kWide, kPipe}) {
    Crowd crowd(look, 2);
    crowd.start(0);
    crowd.tell(0, StepStarted{"a\x1b[2Jb"});
    crowd.tell(0, StepOutput{"a\x1b[2Jb", "out", "\x1b]0;title\x07worse\n"});
    crowd.printer->notice(0, "\x1b[31mred");
    crowd.end(0, ExitCode::step_failed, "\x1b[31mred\nand more",
              "\x07"
              "bell");
    crowd.pass(1000);
    crowd.printer->summary(crowd.ends, {});
    for (const char* bad : {"\x1b[2J", "\x1b]", "\x07", "\x1b[31m"}) EXPECT_THAT(crowd.bytes, Not(HasSubstr(bad)));
  }
}

TEST(FleetPrinter, QuietSaysTheEndAndWhatFailed) {
  Crowd crowd(kPipe, 3, Detail::quiet);
  crowd.start(0);
  crowd.end(0, ExitCode::ok);
  crowd.end(1, ExitCode::unreachable, "no answer");
  crowd.end(2, ExitCode::ok);
  crowd.pass(100'000);
  EXPECT_EQ(crowd.bytes, "");
  crowd.printer->summary(crowd.ends, {});
  EXPECT_THAT(crowd.bytes, HasSubstr("gpu02.lab.example.org  unreachable"));
  EXPECT_THAT(crowd.bytes, Not(HasSubstr("gpu01")));
  EXPECT_THAT(crowd.bytes, HasSubstr("2 of 3 hosts done, 1 unreachable; 2 changed"));
}

TEST(FleetPrinter, APlanPutsAlikeChangesTogether) {
  Crowd crowd(kPipe, 3);
  for (std::size_t i = 0; i < 3; ++i) {
    crowd.start(i, 2, RunMode::plan);
    crowd.finish(i, "apt", Outcome::would_change, "git: not installed");
    crowd.ends[i].finished.emplace();
    crowd.ends[i].finished->would_change = 1;
  }
  crowd.finish(1, "motd", Outcome::unknown, "known once apt has run");
  crowd.printer->summary(crowd.ends, {});
  EXPECT_THAT(crowd.bytes,
              HasSubstr("Would change:\n  apt   git: not installed\n  motd  known once apt has run\n        on gpu02.lab.example.org\n"));
  EXPECT_THAT(crowd.bytes, HasSubstr("All 3 hosts looked at; 3 would change"));
}

TEST(WorseOf, TheWorstOfManyHostsIsTheExitCode) {
  EXPECT_EQ(worse_of(ExitCode::ok, ExitCode::ok), ExitCode::ok);
  EXPECT_EQ(worse_of(ExitCode::unreachable, ExitCode::step_failed), ExitCode::step_failed);
  EXPECT_EQ(worse_of(ExitCode::cancelled, ExitCode::step_failed), ExitCode::cancelled);
  EXPECT_EQ(worse_of(ExitCode::plan_changes, ExitCode::unreachable), ExitCode::unreachable);
  EXPECT_EQ(worse_of(ExitCode::detached, ExitCode::ok), ExitCode::detached);
}

}  // namespace
}  // namespace gpustrap

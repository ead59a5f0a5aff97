#include "controller/status_printer.h"

#include <gmock/gmock.h>

#include <cstdlib>
#include <fstream>
#include <sstream>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"
#include "controller/display_width.h"
#include "tests/support/fake_terminal.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using ::testing::HasSubstr;
using ::testing::Not;

const std::string kGolden = source_folder() + "/tests/golden/";

struct Look {
  const char* name;
  std::size_t columns, rows;
  bool live, unicode;
};
void PrintTo(const Look& look, std::ostream* out) { *out << look.name; }

/// Plays recorded lines of an agent at their own times and keeps what a person saw.
class Screen {
 public:
  explicit Screen(const Look& look, Detail detail = Detail::normal) : terminal(look.columns, look.rows) {
    Console console;
    console.person = look.live;
    console.live = look.live;
    console.unicode = look.unicode;
    console.size = [look] { return TerminalSize{look.columns, look.rows}; };
    console.write = [this](std::string_view text) {
      ++writes;
      bytes += text;
      terminal.write(text);
    };
    console.now = [this] { return now; };
    printer.emplace(std::move(console), StatusPrinter::Title{"d2l", "ubuntu@203.0.113.7"}, detail);
  }

  void play(const std::string& recording) {
    std::ifstream file(kGolden + recording);
    ASSERT_TRUE(file) << recording;
    std::string line;
    while (std::getline(file, line)) {
      const Result<Json> document = parse_line(line);
      ASSERT_TRUE(document) << line;
      if (document->contains("at_ms")) {  // a note of the recording: time passes, and the screen is kept
        now = milliseconds(document->at("at_ms").get<int>());
        printer->tick();
        if (document->value("connection", "") == "lost") printer->connection_lost(Error(ErrorCode::unreachable, "the connection ended"));
        if (document->value("connection", "") == "back") printer->connection_back();
        if (document->contains("keep")) keep(document->at("keep").get<std::string>());
        continue;
      }
      const Result<AgentLine> said = agent_line_from_json(*document);
      ASSERT_TRUE(said) << said.error().sentence();
      if (const auto* event = std::get_if<Event>(&*said)) {
        now = std::max(now, milliseconds(event->time_ms - 1'000'000));
        printer->event(*event);
        if (const auto* end = std::get_if<RunFinished>(&event->body)) finished = *end;
      } else if (const auto* signal = std::get_if<Signal>(&*said)) {
        if (const auto* progress = std::get_if<Progress>(&signal->body)) printer->progress(*progress);
      }
    }
  }
  void keep(const std::string& title) { kept += "== " + title + "\n" + terminal.text() + "\n"; }

  FakeTerminal terminal;
  milliseconds now{0};
  std::size_t writes = 0;
  std::string bytes, kept;
  std::optional<RunFinished> finished;
  std::optional<StatusPrinter> printer;
};

/// UPDATE_GOLDEN=1 writes what is instead of comparing.
void expect_golden(const std::string& name, const std::string& seen) {
  const std::string path = kGolden + "screens/" + name + ".txt";
  if (std::getenv("UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(write_file_atomically(path, seen));
    return;
  }
  const Result<std::string> wanted = read_file(path);
  ASSERT_TRUE(wanted) << wanted.error().sentence();
  EXPECT_EQ(seen, *wanted);
}

Ending ending_of(const Screen& screen) {
  Ending ending;
  ending.finished = screen.finished;
  ending.log = "/home/me/.local/state/gpustrap/runs/20260801-141503-7f3a/log.txt";
  ending.again = "gpustrap up d2l ubuntu@203.0.113.7";
  if (!screen.finished) {
    ending.exit = ExitCode::detached;
  } else if (screen.finished->end == RunFinished::End::failed) {
    ending.exit = ExitCode::step_failed;
  } else {
    ending.notebook = Notebook{"http://localhost:8889/lab?token=0123456789abcdef", "http://localhost:8889/lab", true};
  }
  return ending;
}

class Screens : public ::testing::TestWithParam<Look> {};

TEST_P(Screens, LookAsRecorded) {
  for (const std::string recording : {"first", "again", "failed", "reboot"}) {
    Screen screen(GetParam());
    screen.play("screens/" + recording + ".jsonl");
    // What is redrawn must fit; the last words may be longer than a line.
    EXPECT_FALSE(GetParam().live && screen.terminal.wrapped()) << screen.kept;
    screen.printer->ending(ending_of(screen));
    screen.keep("the end");
    expect_golden(fmt::format("{}_{}", recording, GetParam().name), GetParam().live ? screen.kept : screen.bytes);
    if (!GetParam().unicode) {
      for (const char c : screen.bytes) EXPECT_LT(static_cast<unsigned char>(c), 0x80);
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Of, Screens,
                         ::testing::Values(Look{"40", 40, 30, true, true}, Look{"80", 80, 30, true, true}, Look{"120", 120, 30, true, true},
                                           Look{"ascii", 80, 30, true, false}, Look{"low", 80, 8, true, true},
                                           Look{"plain", 80, 24, false, true}));

Event at(std::uint64_t seq, std::int64_t ms, decltype(Event::body) body) { return Event{seq, 1'000'000 + ms, std::move(body)}; }
RunStarted many_steps(int count) {
  RunStarted started;
  started.recipe = "d2l";
  for (int i = 0; i < count; ++i) started.steps.push_back({fmt::format("step{}", i), "command", ""});
  return started;
}

TEST(StatusPrinter, DrawsAtMostTenFramesASecondAndOnlyWhatChanged) {
  Screen screen({"", 80, 24, true, true});
  screen.printer->event(at(1, 0, many_steps(10)));
  screen.printer->event(at(2, 0, StepStarted{"step0"}));
  screen.now = milliseconds(1000);
  screen.printer->tick();
  const std::size_t before = screen.writes;
  for (std::uint64_t i = 0; i < 1000; ++i) {
    screen.now += milliseconds(1);
    screen.printer->event(at(3 + i, 1000, StepOutput{"step0", "out", fmt::format("line {}\n", i)}));
  }
  EXPECT_LE(screen.writes - before, 10U);
  screen.bytes.clear();
  screen.now += milliseconds(100);
  screen.printer->event(at(1003, 1000, StepOutput{"step0", "out", "another\n"}));
  EXPECT_THAT(screen.bytes, HasSubstr("another"));
  EXPECT_THAT(screen.bytes, Not(HasSubstr("step5")));
}

TEST(StatusPrinter, SaysOnceByWhichWayARunGoes) {
  for (const bool live : {true, false}) {
    Screen screen({"", 80, 24, live, true});
    RunStarted started = many_steps(1);
    started.network.proxy = "http://proxy.example.org:3128";
    started.network.mirror.name = "uni";
    started.network.mirror.places = {{"pypi", "", "https://mirror.example.org/simple"}};
    screen.printer->event(at(1, 0, started));
    screen.printer->ending({});
    EXPECT_THAT(live ? screen.terminal.text() : screen.bytes, HasSubstr("through the proxy http://proxy.example.org:3128\n"));
    EXPECT_THAT(live ? screen.terminal.text() : screen.bytes, HasSubstr("pypi from the mirror uni (https://mirror.example.org/simple)"));
  }
}

TEST(StatusPrinter, NeverPassesTheHostsControlCharactersOn) {
  for (const bool live : {true, false}) {
    Screen screen({"", 80, 24, live, true});
    RunStarted started = many_steps(1);
    started.recipe = "x\x1b]0;owned\a";
    started.steps[0].id = "st\x1b[31mep";
    started.facts.os_name = "\x1b[2JOS";
    screen.printer->event(at(1, 0, started));
    screen.printer->event(at(2, 0, StepStarted{started.steps[0].id}));
    screen.printer->event(at(3, 0, StepChecked{started.steps[0].id, false, "why\x1b[H\r"}));
    screen.printer->event(at(4, 0,
                             StepOutput{started.steps[0].id, "out",
                                        "a\x1b[31mb\x9b"
                                        "1m\rc\x07\n"}));
    screen.printer->progress({started.steps[0].id, "p\x1b[1m", 1, 2, 3});
    screen.now += milliseconds(200);
    screen.printer->tick();
    screen.printer->event(at(
        5, 0,
        StepFinished{started.steps[0].id, Outcome::failed, "r\x1b[5m", milliseconds(1), ErrorText{ErrorCode::io, "e\x1b[6m", "h\x1b[7m"}}));
    screen.printer->notice("n\x1b[8m");
    screen.printer->connection_lost(Error(ErrorCode::unreachable, "w\x1b[9m"));
    Ending ending;
    RunFinished finished;
    finished.end = RunFinished::End::failed;
    finished.notes = {"note\x1b[3m"};
    ending.finished = finished;
    screen.printer->ending(ending);
    for (const char* sequence : {"\x1b]", "\x1b[31m", "\x1b[2J", "\x1b[H", "\x1b[1m", "\x1b[3m", "\x1b[5m", "\x1b[6m", "\x1b[7m", "\x1b[8m",
                                 "\x1b[9m", "\a", "\rc"}) {
      EXPECT_EQ(screen.bytes.find(sequence), std::string::npos) << strip_control(sequence) << live;
    }
  }
}

TEST(StatusPrinter, SaysSomethingEvery30SecondsOffATerminal) {
  Screen screen({"", 80, 24, false, true});
  screen.printer->event(at(1, 0, many_steps(1)));
  screen.printer->event(at(2, 0, StepStarted{"step0"}));
  screen.bytes.clear();
  for (int i = 0; i < 650; ++i) {
    screen.now += milliseconds(100);
    screen.printer->tick();
  }
  EXPECT_EQ(screen.bytes, "  0:30  still running: step0 (30s)\n  1:00  still running: step0 (1m00s)\n");
}

TEST(StatusPrinter, ATokenIsForATerminalOnly) {
  for (const bool live : {true, false}) {
    Screen screen({"", 80, 24, live, true});
    screen.printer->event(at(1, 0, many_steps(1)));
    screen.finished = RunFinished{};
    screen.printer->ending(ending_of(screen));
    EXPECT_EQ(screen.bytes.find("token=0123456789abcdef") != std::string::npos, live);
    EXPECT_THAT(screen.bytes, HasSubstr("http://localhost:8889/lab"));
  }
}

TEST(StatusPrinter, SaysAtTheEndWhatTheRecipeSaysToDoNow) {
  Screen screen({"", 80, 24, true, true});
  screen.play("screens/again.jsonl");
  Ending ending = ending_of(screen);
  ending.next = {"Log in with \x1b[31mssh"};
  screen.printer->ending(ending);
  EXPECT_THAT(screen.bytes, HasSubstr("  Log in with"));
  EXPECT_THAT(screen.bytes, Not(HasSubstr("with \x1b[31m")));
}

TEST(StatusPrinter, QuietSaysTheEndOnly) {
  Screen screen({"", 80, 24, true, true}, Detail::quiet);
  screen.play("screens/again.jsonl");
  EXPECT_EQ(screen.bytes, "");
  screen.printer->ending(ending_of(screen));
  EXPECT_THAT(screen.bytes, HasSubstr("Unchanged"));
}

TEST(StatusPrinter, AReplayCountsFromTheHostsClock) {
  Screen screen({"", 80, 24, true, true});
  screen.now = milliseconds(500'000);
  screen.printer->event(at(1, 0, many_steps(1)));
  screen.printer->event(at(2, 0, StepStarted{"step0"}));
  screen.printer->event(at(3, 90'000, StepOutput{"step0", "out", "now\n"}));
  screen.now += milliseconds(1000);
  screen.printer->tick();
  EXPECT_THAT(screen.terminal.text(), HasSubstr("1m31s"));
}

TEST(StatusPrinter, WhoJoinsARunSeesItsOwnTime) {
  for (const bool live : {true, false}) {
    Screen screen({"", 80, 24, live, true});
    screen.printer->event(at(1, 0, many_steps(1)));
    screen.printer->event(at(2, 65'000, StepStarted{"step0"}));
    screen.printer->event(at(3, 65'000, StepOutput{"step0", "out", "now\n"}));
    screen.now += milliseconds(200);
    screen.printer->tick();
    EXPECT_THAT(live ? screen.terminal.text() : screen.bytes, HasSubstr("1:05")) << live;
  }
}

TEST(StatusPrinter, ALongLineOfOutputTakesOneLineOffATerminal) {
  const std::string words = "Installing collected packages: " + std::string(2000, 'x');
  for (const Detail detail : {Detail::normal, Detail::verbose}) {
    Screen screen({"", 80, 24, false, true}, detail);
    screen.printer->event(at(1, 0, many_steps(1)));
    screen.printer->event(at(2, 0, StepStarted{"step0"}));
    screen.bytes.clear();
    screen.printer->event(at(3, 0, StepOutput{"step0", "out", words + "\n"}));
    EXPECT_THAT(screen.bytes, HasSubstr("step0 | Installing collected packages: xxx"));
    if (detail == Detail::verbose)
      EXPECT_GT(display_width(screen.bytes), 2000U);
    else
      EXPECT_LE(display_width(screen.bytes), 160U) << screen.bytes;
  }
}

TEST(StatusPrinter, AFailedStepsLongLinesAreCutAtItsEnd) {
  for (const bool live : {true, false}) {
    Screen screen({"", 80, 40, live, true});
    screen.printer->event(at(1, 0, many_steps(1)));
    screen.printer->event(at(2, 0, StepStarted{"step0"}));
    screen.printer->event(at(3, 0, StepOutput{"step0", "out", std::string(2000, 'x') + "\n"}));
    screen.printer->event(
        at(4, 0, StepFinished{"step0", Outcome::failed, "", milliseconds(1), ErrorText{ErrorCode::command, "make failed", "look above"}}));
    screen.bytes.clear();
    RunFinished finished;
    finished.end = RunFinished::End::failed;
    finished.failed = 1;
    screen.finished = finished;
    screen.printer->ending(ending_of(screen));
    EXPECT_THAT(screen.bytes, HasSubstr("Its last line:\n    xxx"));
    EXPECT_THAT(screen.bytes, HasSubstr("Full log:"));
    EXPECT_LT(screen.bytes.size(), 900U);
  }
}

TEST(StatusPrinter, ASentenceIsBrokenBetweenWordsNotCut) {
  Screen screen({"", 40, 24, true, true});
  screen.printer->notice("Leaving; the run goes on on the host. Ctrl-C again within 3 s cancels it.");
  EXPECT_THAT(screen.terminal.text(), HasSubstr("Leaving; the run goes on on the host.\n  Ctrl-C again within 3 s cancels it.\n"));
}

TEST(StatusPrinter, TheTimeAtAPromptIsNotTheRuns) {
  Screen screen({"", 80, 24, true, true});
  screen.printer->activity({"connecting", 0, 0});
  screen.now += milliseconds(2'000);
  screen.printer->pause();
  screen.now += milliseconds(600'000);
  screen.printer->event(at(1, 0, many_steps(1)));
  screen.finished = RunFinished{};
  screen.printer->ending(ending_of(screen));
  EXPECT_THAT(screen.terminal.text(), HasSubstr("Unchanged, 2.0s"));
}

TEST(StatusPrinter, ATransferThatHangsHasNoRate) {
  Screen screen({"", 80, 24, true, true});
  screen.printer->event(at(1, 0, many_steps(1)));
  screen.printer->event(at(2, 0, StepStarted{"step0"}));
  screen.printer->progress({"step0", "data.zip", 40'000'000, 80'000'000, 5'000'000});
  screen.now += milliseconds(1'000);
  screen.printer->tick();
  EXPECT_THAT(screen.terminal.text(), HasSubstr("data.zip 40.0/80.0 MB · 5.0 MB/s"));
  screen.now += milliseconds(9'000);
  screen.printer->tick();
  EXPECT_THAT(screen.terminal.text(), HasSubstr("data.zip 40.0/80.0 MB · nothing for 10s"));
}

TEST(StatusPrinter, APlanSaysEachThingOnce) {
  Screen screen({"", 80, 24, false, true});
  RunStarted started = many_steps(1);
  started.mode = RunMode::plan;
  screen.printer->event(at(1, 0, started));
  screen.printer->event(at(2, 0, StepStarted{"step0"}));
  screen.printer->event(at(3, 0, StepChecked{"step0", false, "/etc/motd does not exist"}));
  screen.printer->event(at(4, 0, StepFinished{"step0", Outcome::would_change, "/etc/motd does not exist", milliseconds(0), {}}));
  EXPECT_EQ(screen.bytes.find("does not exist"), screen.bytes.rfind("does not exist"));
}

TEST(StatusPrinter, ACommandThatBrokeOffLeavesNoEmptyLine) {
  Screen screen({"", 80, 24, true, true});
  screen.printer->activity({"connecting", 0, 0});
  screen.bytes.clear();
  Ending ending;
  ending.exit = ExitCode::busy;
  screen.printer->ending(ending);
  EXPECT_EQ(screen.bytes.find('\n'), std::string::npos) << screen.bytes;
}

TEST(StatusPrinter, APromptFindsAFreeLine) {
  Screen screen({"", 80, 24, true, true});
  screen.printer->activity({"connecting", 0, 0});
  EXPECT_THAT(screen.terminal.text(), HasSubstr("connecting"));
  screen.printer->pause();
  EXPECT_THAT(screen.terminal.text(), Not(HasSubstr("connecting")));
}

TEST(DisplayWidth, CountsColumns) {
  EXPECT_EQ(display_width("abc"), 3U);
  EXPECT_EQ(display_width("日本"), 4U);
  EXPECT_EQ(display_width("e\xCC\x81"), 1U);
  EXPECT_EQ(display_width("🚀"), 2U);
  EXPECT_EQ(cut_to_width("日本語", 5), "日本…");
  EXPECT_EQ(cut_to_width("日本語", 4), "日…");
  EXPECT_EQ(fit_to_width("日本語", 4), "日… ");
  EXPECT_EQ(cut_to_width("abc", 3), "abc");
  EXPECT_EQ(cut_to_width("abcd", 3), "ab…");
  EXPECT_EQ(cut_to_width("abcd", 0), "");
}

TEST(DisplayWidth, BreaksBetweenWords) {
  using Lines = std::vector<std::string>;
  EXPECT_EQ(wrap_to_width("one two three", 20, "  "), Lines({"one two three"}));
  EXPECT_EQ(wrap_to_width("  one two three", 9, "  "), Lines({"  one two", "  three"}));
  EXPECT_EQ(wrap_to_width("see /a/very/long/path now", 8, "  "), Lines({"see", "  /a/very/long/path", "  now"}));
  EXPECT_EQ(wrap_to_width("日本 語 です", 7, ""), Lines({"日本 語", "です"}));
  EXPECT_EQ(wrap_to_width("", 8, "  "), Lines());
}

}  // namespace
}  // namespace gpustrap

#include "controller/run.h"

#include <gmock/gmock.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "agent/protocol/json.h"
#include "controller/return_pauses.h"
#include "tests/support/fake_link.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr const char* kRun = "20260801-141503-7f3a";

AgentLine event(std::uint64_t seq, decltype(Event::body) body) {
  return Event{seq, static_cast<std::int64_t>(seq) * 1000, std::move(body)};
}
AgentLine started(std::uint64_t seq, const std::string& run = kRun) {
  return event(seq, RunStarted{run, "jupyter", "d", "a", RunMode::apply, "ubuntu", {}, {{"pip", "pip", "pip"}}});
}
AgentLine output(std::uint64_t seq) { return event(seq, StepOutput{"pip", "out", "line " + std::to_string(seq) + "\n"}); }
AgentLine finished(std::uint64_t seq, RunFinished::End end = RunFinished::End::ok) {
  RunFinished body;
  body.end = end;
  return event(seq, body);
}
AgentLine reply(std::uint64_t number, Json value) { return Reply{number, std::make_shared<const Json>(std::move(value)), std::nullopt}; }
AgentLine refusal(std::uint64_t number, ErrorCode code, std::string message) {
  return Reply{number, nullptr, ErrorText{code, std::move(message), ""}};
}
Error lost() { return {ErrorCode::unreachable, "the connection ended"}; }

/// Remembers what it was told, as short words.
class Told : public Status {
 public:
  void activity(const Activity&) override {}
  void event(const Event& event) override { seqs.push_back(event.seq); }
  void progress(const Progress&) override {}
  void connection_lost(const Error&) override { words.emplace_back("lost"); }
  void connection_back() override { words.emplace_back("back"); }
  void rewound(std::uint64_t, std::uint64_t to) override { words.push_back("rewound to " + std::to_string(to)); }
  void notice(std::string_view sentence) override { words.emplace_back(sentence); }
  void ending(const Ending&) override {}
  void pause() override {}
  void tick() override {}
  std::vector<std::uint64_t> seqs;
  std::vector<std::string> words;
};

class Run : public ::testing::Test {
 protected:
  std::unique_ptr<AgentLink> link(std::vector<FakeLink::Say> script) { return std::make_unique<FakeLink>(std::move(script), record_); }
  RunClient client(std::vector<FakeLink::Say> script) {
    next_links_.insert(next_links_.begin(), link(std::move(script)));
    return RunClient(RunSurroundings{[this](const Request& first) -> Result<std::unique_ptr<AgentLink>> {
                                       if (on_the_way_) on_the_way_();
                                       if (next_links_.empty()) return fail(ErrorCode::unreachable, "refused");
                                       if (lost_on_the_way_ > 0) {
                                         --lost_on_the_way_;
                                         connected_ = true;
                                         return fail(ErrorCode::unreachable, "reset");
                                       }
                                       record_.requests.push_back(first);
                                       connected_ = true;
                                       auto next = std::move(next_links_.front());
                                       next_links_.erase(next_links_.begin());
                                       return next;
                                     },
                                     told_, [this](const Event& e, std::string_view) { logged_.push_back(e.seq); },
                                     [this]() -> std::optional<Interrupt> {
                                       if (interrupts_.empty()) return std::nullopt;
                                       const Interrupt first = interrupts_.front();
                                       interrupts_.erase(interrupts_.begin());
                                       return first;
                                     },
                                     [this] { return now_; }, [this](milliseconds time) { now_ += time; }, [this] { return connected_; },
                                     CtrlC::leaves_then_cancels,
                                     [this](const std::vector<std::string>& names) {
                                       waited_for_.push_back(names);
                                       return found_;
                                     }});
  }
  static RunRequest request() {
    RunRequest request;
    request.run = kRun;
    return request;
  }
  FakeLink::Say press(Interrupt::What what = Interrupt::What::ctrl_c) {
    return std::function<void()>([this, what] { interrupts_.push_back({what, now_}); });
  }
  FakeLink::Say wait(int ms) {
    return std::function<void()>([this, ms] { now_ += milliseconds(ms); });
  }
  template <class T> std::vector<T> asked() const {
    std::vector<T> found;
    for (const Request& request : record_.requests) {
      if (const auto* body = std::get_if<T>(&request.body)) found.push_back(*body);
    }
    return found;
  }

  FakeLink::Record record_;
  Told told_;
  std::vector<std::uint64_t> logged_;
  std::vector<std::unique_ptr<AgentLink>> next_links_;
  std::vector<Interrupt> interrupts_;
  milliseconds now_{0};
  std::function<void()> on_the_way_;  ///< what happens while a connection is tried
  int lost_on_the_way_ = 0;           ///< so many logins are followed by a lost connection, before an agent is there
  bool connected_ = false;
  std::vector<std::vector<std::string>> waited_for_;  ///< secrets that were looked for
  SecretValues found_;
};

// `logs` of a run in progress: what there is, without waiting for what comes.
TEST_F(Run, CatchesUpWithARunThatGoesOn) {
  RunClient run = client({reply(1, {{"run", kRun}, {"live", true}}), started(1), output(2), wait(900), std::nullopt, output(3), wait(1100),
                          std::nullopt, output(4)});
  const auto result = run.attach("", Stay::until_caught_up);
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3));
  EXPECT_FALSE(result->finished.has_value());
}

TEST_F(Run, CatchesUpWithWhatTheHostSaysIsThereHoweverLongThatTakes) {
  RunClient run = client({reply(1, {{"run", kRun}, {"live", true}, {"last", 3U}}), wait(4000), std::nullopt, started(1), wait(4000),
                          std::nullopt, output(2), output(3), output(4)});
  const auto result = run.attach("", Stay::until_caught_up);
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3));
}

TEST_F(Run, CatchingUpEndsWithARunThatIsOver) {
  RunClient run = client({reply(1, {{"run", kRun}, {"live", false}}), started(1), output(2), finished(3), output(4)});
  const auto result = run.attach(kRun, Stay::until_caught_up);
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3));
  EXPECT_EQ(asked<AttachRequest>().at(0).run, kRun);
}

TEST_F(Run, PassesEveryEventOn) {
  auto run = client({reply(1, {{"run", kRun}, {"attached", false}}), started(1), output(2), finished(3)});
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::ok);
  EXPECT_EQ(result->run, kRun);
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3));
  EXPECT_EQ(logged_, told_.seqs);
}

TEST_F(Run, ARehearsalIsAPlanThatNobodyElseSees) {
  auto run = client({reply(1, {{"run", kRun}}), started(1), output(2), finished(3), reply(2, {{"run", kRun}}), started(1), finished(2)});
  const auto plan = run.rehearse(request());
  ASSERT_TRUE(plan) << plan.error().sentence();
  EXPECT_EQ(plan->size(), 3U);
  EXPECT_THAT(told_.seqs, ElementsAre());
  EXPECT_THAT(logged_, ElementsAre());

  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::ok);
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2));
  EXPECT_EQ(logged_, told_.seqs);
  const auto runs = asked<RunRequest>();
  ASSERT_EQ(runs.size(), 2U);
  EXPECT_EQ(runs[0].mode, RunMode::plan);
  EXPECT_EQ(runs[1].mode, RunMode::apply);
}

TEST_F(Run, CtrlCEndsARehearsalAtOnce) {
  auto run = client({reply(1, {{"run", kRun}}), started(1), press(), output(2)});
  const auto plan = run.rehearse(request());
  ASSERT_FALSE(plan);
  EXPECT_EQ(plan.error().code(), ErrorCode::cancelled);
  EXPECT_THAT(told_.words, ElementsAre());
}

TEST_F(Run, AFailedRunExitsWith1) {
  const auto result = client({started(1), finished(2, RunFinished::End::failed)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::step_failed);
}

TEST_F(Run, ComesBackAndSeesEveryEventOnce) {
  next_links_.push_back(link({reply(2, {{"run", kRun}, {"live", true}}), output(2), output(3), output(4), lost()}));
  next_links_.push_back(link({reply(3, {{"run", kRun}, {"live", true}}), output(5), finished(6)}));
  auto run = client({reply(1, {{"run", kRun}}), started(1), output(2), lost()});
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3, 4, 5, 6));
  EXPECT_EQ(logged_, told_.seqs);
  EXPECT_THAT(told_.words, ElementsAre("lost", "back", "lost", "back"));
  const auto attaches = asked<AttachRequest>();
  ASSERT_EQ(attaches.size(), 2U);
  EXPECT_EQ(attaches[0].after, 2U);
  EXPECT_EQ(attaches[0].run, kRun);
  EXPECT_EQ(attaches[1].after, 4U);
}

AgentLine taken_up(std::uint64_t seq, std::uint64_t incarnation) {
  return event(seq, RunnerStarted{incarnation, seq - 1, 7, "boot-" + std::to_string(incarnation), {}});
}

TEST_F(Run, GoesOnFromWhereAPowerLossLeftTheJournal) {
  next_links_.push_back(
      link({reply(2, {{"run", kRun}, {"live", true}, {"rewound", {{"to", 2U}}}}), taken_up(3, 2), output(4), finished(5)}));
  auto run = client({reply(1, {{"run", kRun}}), started(1), taken_up(2, 1), output(3), output(4), lost()});
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3, 4, 3, 4, 5));
  EXPECT_THAT(told_.words, ElementsAre("lost", "back", "rewound to 2"));
  ASSERT_EQ(asked<AttachRequest>().size(), 1U);
  EXPECT_EQ(asked<AttachRequest>()[0].after, 4U);
  EXPECT_EQ(asked<AttachRequest>()[0].incarnation, 1U);
}

TEST_F(Run, AHostCannotRewindIntoTheFuture) {
  auto run = client({reply(1, {{"run", kRun}, {"rewound", {{"to", 7U}}}}), started(1), finished(2)});
  ASSERT_TRUE(run.run(request()));
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2));
}

TEST_F(Run, AHostThatRestartsIsNotWaitedForInSilence) {
  next_links_.push_back(link({taken_up(4, 2), finished(5)}));
  std::vector<FakeLink::Say> script = {started(1), taken_up(2, 1), event(3, Rebooting{"reboot", "asked for", "boot-1", 1})};
  for (int second = 0; second < 12; ++second) script.push_back(wait(1000));
  auto run = client(std::move(script));
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2, 3, 4, 5));
  EXPECT_LT(now_, milliseconds(12'000)) << "one heartbeat missed is enough";
}

TEST_F(Run, AGapIsAnError) {
  const auto result = client({started(1), output(2), output(4)}).run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::protocol);
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2));
}

TEST_F(Run, AsksAgainWhereTheRequestWasLost) {
  next_links_.push_back(
      link({refusal(2, ErrorCode::not_found, "there is no such run"), reply(3, {{"run", kRun}}), started(1), finished(2)}));
  const auto result = client({lost()}).run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  ASSERT_EQ(asked<RunRequest>().size(), 2U);
  EXPECT_EQ(asked<RunRequest>()[1].run, kRun);
}

TEST_F(Run, ComesBackWhereTheConnectionGoesBeforeTheAgentIsThere) {
  lost_on_the_way_ = 2;
  const auto result = client({refusal(2, ErrorCode::not_found, "there is no such run"), refusal(3, ErrorCode::not_found, "nor now"),
                              reply(4, {{"run", kRun}}), started(1), finished(2)})
                          .run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(told_.words, ElementsAre("lost", "back"));
  EXPECT_EQ(told_.seqs, (std::vector<std::uint64_t>{1, 2}));
}

TEST_F(Run, AHostThatWasNeverReachedIsNotComeBackTo) {
  auto run = client({});
  next_links_.clear();
  const auto result = run.run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().why(), "refused");
  EXPECT_EQ(now_, milliseconds(0));
}

TEST_F(Run, AQuestionIsAskedAgainAfterALostConnection) {
  next_links_.push_back(link({reply(2, {{"token", "t"}})}));
  const auto answer = client({lost()}).ask(TokenRequest{});
  ASSERT_TRUE(answer) << answer.error().sentence();
  EXPECT_EQ((**answer)["token"], "t");
}

TEST_F(Run, GivesUpOnAHostThatStaysAway) {
  const auto result = client({started(1), lost()}).run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(exit_code_of(result.error().code()), ExitCode::unreachable);
  EXPECT_GE(now_, std::chrono::minutes(15));
  EXPECT_THAT(result.error().hint(), HasSubstr("gpustrap attach"));
}

TEST_F(Run, GivesUpOnAnAgentThatSaysHelloAndGoesAgain) {
  for (int i = 0; i < 10'000; ++i) next_links_.push_back(link({Error(ErrorCode::unreachable, "the agent ended: killed")}));
  const auto result = client({lost()}).run(request());
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().sentence(), HasSubstr("coming back to the host for 2 min: the agent ended: killed"));
  EXPECT_THAT(result.error().hint(), HasSubstr("the same command again"));
  EXPECT_GE(now_, std::chrono::minutes(2));
  EXPECT_LT(now_, std::chrono::minutes(3));
  EXPECT_LT(asked<AttachRequest>().size(), 200U) << "with longer and longer pauses";
}

TEST_F(Run, GivesUpOnAnAgentThatAnswersAndGoesAgain) {
  for (std::uint64_t i = 0; i < 10'000; ++i) next_links_.push_back(link({reply(i + 2, {{"run", kRun}}), started(1), lost()}));
  const auto result = client({reply(1, {{"run", kRun}}), started(1), lost()}).run(request());
  ASSERT_FALSE(result);
  EXPECT_THAT(result.error().hint(), HasSubstr("gpustrap attach"));
  EXPECT_THAT(told_.seqs, ElementsAre(1));
}

TEST_F(Run, AConnectionThatStaysForAWhileOrBringsNewsIsAReturn) {
  for (int i = 0; i < 20; ++i) next_links_.push_back(link({wait(6'000), Signal{Heartbeat{}}, wait(60'000), lost()}));
  for (std::uint64_t i = 0; i < 20; ++i) next_links_.push_back(link({output(i + 2), wait(60'000), lost()}));
  next_links_.push_back(link({finished(22)}));
  const auto result = client({started(1), lost()}).run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_GT(now_, std::chrono::minutes(30));
}

TEST(ReturnPauses, AreAMomentAtFirstAndShortWhileSomebodyWaits) {
  ReturnPauses pauses;
  EXPECT_EQ(pauses.next(Haste::none), milliseconds(100));
  milliseconds waited(100);
  while (waited < std::chrono::minutes(5)) {
    const milliseconds pause = pauses.next(Haste::none);
    EXPECT_LE(pause, std::chrono::seconds(1));
    waited += pause;
  }
  EXPECT_EQ(pauses.next(Haste::none), std::chrono::seconds(15));
  EXPECT_EQ(pauses.next(Haste::rebooting), milliseconds(500));
  EXPECT_EQ(ReturnPauses().next(Haste::refused), std::chrono::seconds(2)) << "it counts how often we knock";
}

TEST_F(Run, BusyIsExit10) {
  const auto result = client({refusal(1, ErrorCode::busy, "a run of d2l is in progress\x1b[2J")}).run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(exit_code_of(result.error().code()), ExitCode::busy);
  EXPECT_EQ(result.error().why(), "a run of d2l is in progress");
}

TEST_F(Run, TheFirstCtrlCLeavesAfter3Seconds) {
  const auto result = client({started(1), press(), wait(2900), output(2), wait(200), output(3)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::detached);
  EXPECT_THAT(told_.seqs, ElementsAre(1, 2));
  EXPECT_TRUE(asked<CancelRequest>().empty());
}

TEST_F(Run, ASecondCtrlCCancels) {
  const auto result = client({started(1), press(), wait(1000), press(), wait(60'000), reply(2, {{"run", kRun}}), output(2),
                              finished(3, RunFinished::End::cancelled)})
                          .run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::cancelled);
  EXPECT_EQ(asked<CancelRequest>().size(), 1U);
}

TEST_F(Run, AThirdCtrlCLeavesACancelledRun) {
  const auto result = client({started(1), press(), press(), press(), output(2)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::detached);
  EXPECT_EQ(asked<CancelRequest>().size(), 1U);
}

TEST_F(Run, ARunThatEndsMeanwhileHasItsOwnExit) {
  const auto result = client({started(1), press(), wait(1000), finished(2)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::ok);
}

TEST_F(Run, SigtermLeavesAtOnce) {
  const auto result = client({started(1), press(Interrupt::What::leave), output(2)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::detached);
  EXPECT_THAT(told_.seqs, ElementsAre(1));
}

TEST_F(Run, CtrlCWhileTheHostIsAwayLeaves) {
  const auto result = client({started(1), press(), lost()}).run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::detached);
}

/// The way to a silent host may take half a minute to try; what is pressed meanwhile is read behind it, all at once.
class AwayHost : public Run {
 protected:
  Result<RunResult> press_at(const std::vector<int>& seconds) {
    next_links_.push_back(link({output(2), finished(3)}));
    auto run = client({started(1),
                       [this, seconds] {
                         on_the_way_ = [this, seconds] {
                           const milliseconds began = now_;
                           for (const int second : seconds)
                             interrupts_.push_back({Interrupt::What::ctrl_c, began + std::chrono::seconds(second)});
                           now_ += std::chrono::seconds(10);
                         };
                       },
                       lost()});
    return run.run(request());
  }
};

TEST_F(AwayHost, TwoCtrlCFarApartLeaveAndCancelNothing) {
  const auto result = press_at({1, 5});
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::detached);
  EXPECT_TRUE(asked<CancelRequest>().empty());
  EXPECT_THAT(told_.words, ElementsAre("lost", "back", "Leaving; the run goes on on the host."));
}

TEST_F(AwayHost, TwoCtrlCThatFollowEachOtherCancel) {
  const auto result = press_at({1, 3});
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(asked<CancelRequest>().size(), 1U);
}

TEST_F(Run, ACancelIsRepeatedAfterALostConnection) {
  next_links_.push_back(link({finished(2, RunFinished::End::cancelled)}));
  const auto result = client({started(1), press(), press(), lost()}).run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(result->exit, ExitCode::cancelled);
  EXPECT_EQ(asked<CancelRequest>().size(), 2U);
}

TEST_F(Run, DetachWaitsForTheConfirmationOnly) {
  const auto result = client({reply(1, {{"run", kRun}}), started(1)}).run(request(), Stay::until_started);
  ASSERT_TRUE(result);
  EXPECT_EQ(result->exit, ExitCode::detached);
  EXPECT_TRUE(told_.seqs.empty());
}

TEST_F(Run, ARunIdThatIsAPathIsRefused) {
  const auto result = client({reply(1, {{"run", "../../.bashrc"}}), started(1)}).run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::protocol);
}

TEST_F(Run, EventsOfAnotherRunAreRefused) {
  const auto result = client({reply(1, {{"run", kRun}}), started(1, "20261101-101010-beef-001"), finished(2)}).run(request());
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::protocol);
  EXPECT_EQ(result.error().why(), "the agent was asked for run 20260801-141503-7f3a and tells of run 20261101-101010-beef-001");
  EXPECT_TRUE(logged_.empty());
  const auto path = client({started(1, "../../.bashrc")}).attach();
  ASSERT_FALSE(path);
  EXPECT_EQ(path.error().why(), "the agent calls its run `../../.bashrc`");
}

TEST_F(Run, AReplyWithWrongTypesHarmsNobody) {
  const auto result = client({reply(1, {{"run", 7}, {"attached", "certainly"}}), started(1), finished(2)}).run(request());
  ASSERT_TRUE(result.has_value()) << result.error().sentence();
  EXPECT_EQ(result->run, kRun);
  EXPECT_TRUE(told_.words.empty());
}

TEST_F(Run, JoiningARunIsSaid) {
  const std::string other = "20260801-141000-0001";
  const auto result = client({reply(1, {{"run", other}, {"attached", true}}), started(1, other), finished(2)}).run(request());
  ASSERT_TRUE(result);
  EXPECT_EQ(result->run, other);
  EXPECT_THAT(told_.words, ElementsAre(HasSubstr("following that run")));
}

TEST_F(Run, AskReturnsTheValueOrTheError) {
  auto good = client({Signal{Heartbeat{}}, reply(1, {{"token", "x"}})}).ask(TokenRequest{"jupyter"});
  ASSERT_TRUE(good);
  EXPECT_EQ((*good)->at("token"), "x");
  const auto bad = client({refusal(1, ErrorCode::not_found, "no service")}).ask(TokenRequest{"jupyter"});
  ASSERT_FALSE(bad);
  EXPECT_EQ(bad.error().code(), ErrorCode::not_found);
}

TEST_F(Run, AskEndsAtCtrlCAndAtAnAnswerWithoutAValue) {
  const auto left = client({press(), wait(10)}).ask(StatusRequest{});
  ASSERT_FALSE(left);
  EXPECT_EQ(left.error().code(), ErrorCode::cancelled);
  EXPECT_EQ(left.error().why(), "interrupted");
  const auto empty = client({Reply{1, nullptr, std::nullopt}}).ask(StatusRequest{});
  ASSERT_FALSE(empty);
  EXPECT_EQ(empty.error().code(), ErrorCode::protocol);
  EXPECT_EQ(empty.error().why(), "the agent's reply has no value");
  EXPECT_THAT(empty.error().hint(), HasSubstr("gpustrap doctor"));
}

TEST_F(Run, AskGivesUpOnSilence) {
  std::vector<FakeLink::Say> script;
  for (int i = 0; i < 40; ++i) script.push_back(wait(1000));
  const auto result = client(std::move(script)).ask(StatusRequest{});
  ASSERT_FALSE(result);
  EXPECT_EQ(result.error().code(), ErrorCode::timeout);
}

TEST_F(Run, SecretsGoOutOnlyAfterTheAgentHasAnsweredAndAgainAfterALoss) {
  std::size_t before_the_answer = 99;
  next_links_.push_back(link({reply(3, {{"run", kRun}, {"live", true}}), finished(2)}));
  auto run = client(
      {[&] { before_the_answer = asked<SecretsRequest>().size(); }, reply(1, {{"run", kRun}, {"attached", false}}), started(1), lost()});
  run.hand_over({{"token", "value"}});
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(before_the_answer, 0U);
  const auto handed = asked<SecretsRequest>();
  ASSERT_EQ(handed.size(), 2U);
  EXPECT_EQ(handed[0].run, kRun);
  EXPECT_EQ(handed[1].values, (SecretValues{{"token", "value"}}));
}

TEST_F(Run, WhoDetachesWaitsUntilTheSecretsHaveArrived) {
  std::size_t handed = 0;
  auto run = client({started(1), reply(1, {{"run", kRun}, {"attached", false}}), [&] { handed = asked<SecretsRequest>().size(); },
                     reply(2, {{"run", kRun}}), finished(2)});
  run.hand_over({{"token", "value"}});
  const auto result = run.run(request(), Stay::until_started);
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(handed, 1U);
  EXPECT_EQ(result->exit, ExitCode::detached);
}

TEST_F(Run, ASecretThatAStepStillWaitsForIsLookedFor) {
  found_ = {{"token", "value"}};
  // Of the two that wait in the replayed events, one goes on a moment later.
  auto run = client({reply(1, {{"run", kRun}, {"live", true}}), started(1), event(2, WaitingForSecret{"old", {"gone"}}),
                     event(3, StepStarted{"old"}), event(4, WaitingForSecret{"pip", {"token"}}), std::nullopt, std::nullopt,
                     reply(2, {{"run", kRun}}), finished(5)});
  const auto result = run.attach(kRun);
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_THAT(waited_for_, ElementsAre(ElementsAre("token")));
  ASSERT_EQ(asked<SecretsRequest>().size(), 1U);
}

TEST_F(Run, ARunnerThatBeganAnewIsGivenWhatIsKnownWithoutAskingAgain) {
  auto run = client({reply(1, {{"run", kRun}, {"attached", false}}), started(1), event(2, RunnerStarted{2, 1, 7, "boot", {}}), std::nullopt,
                     event(3, WaitingForSecret{"pip", {"token"}}), std::nullopt, finished(4)});
  run.hand_over({{"token", "value"}});
  const auto result = run.run(request());
  ASSERT_TRUE(result) << result.error().sentence();
  EXPECT_EQ(asked<SecretsRequest>().size(), 2U);
  EXPECT_TRUE(waited_for_.empty());
}

}  // namespace
}  // namespace gpustrap

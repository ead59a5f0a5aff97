#include "agent/prefetcher.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/unique_fd.h"
#include "agent/fetch.h"
#include "agent/fetch_at_once.h"
#include "agent/fetched_ahead.h"
#include "agent/gather_facts.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/real_host.h"
#include "agent/runner.h"
#include "agent/step_process.h"
#include "agent/transfer_child.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_server.h"

// Real processes and a real server, as in runner_test.cc: what overlaps is seen in the order of the events, never by a clock.

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::StartsWith;

class PrefetcherTest : public ::testing::Test {
 protected:
  using Watch = std::function<void(Runner&, const Event&)>;

  /// `steps` is JSON in which @ stands for the private folder.
  RunFinished run(std::string steps, const Watch& watch = {}, const std::string& id = "test") {
    for (std::size_t at = steps.find('@'); at != std::string::npos; at = steps.find('@')) steps.replace(at, 1, directory_.path());
    std::vector<FieldProblem> problems;
    RunDescription description;
    description.id = id;
    description.recipe = read_recipe(Json{{"name", "test"}, {"steps", Json::parse(steps)}}, Placeholders::allowed, problems);
    for (const FieldProblem& problem : problems) ADD_FAILURE() << problem.pointer << ": " << problem.message;
    description.login = identity_of_self();
    description.login.proxy.clear();
    description.ahead_folder = folder_;
    auto journal = Journal::open(directory_ / ("events" + std::to_string(++runs_) + ".jsonl"));
    events_.clear();
    Runner* pointer = nullptr;
    RunnerHooks hooks;
    hooks.on_event = [&](const std::string& line) {
      events_.push_back(*event_from_json(*parse_line(line)));
      if (watch) watch(*pointer, events_.back());
    };
    hooks.on_signal = [&](const std::string& line) { signals_ += line; };
    Runner runner(std::move(description), std::move(*journal), std::move(hooks));
    pointer = &runner;
    const Result<RunFinished> finished = runner.run(gather_facts(), identity_of_self());
    EXPECT_TRUE(finished.has_value());
    return finished.value_or(RunFinished{});
  }

  /// A step that lasts until go_on() is called, and then the download of /f to @/file.
  [[nodiscard]] std::string slow_then_download(const std::string& more = "") const {
    return R"([{"id": "slow", "timeout": "100s", "command": {"run": "until test -e @/go; do sleep 0.01; done", "creates": "@/go"}},
               {"id": "get", "download": {"url": ")" +
           server_.http("/f") + R"(", "to": "@/file")" + more + "}}]";
  }
  void go_on() const { ASSERT_TRUE(write_file_atomically(directory_ / "go", "", 0600)); }
  [[nodiscard]] std::string with_digest(const std::string& body) const { return R"(, "sha256": ")" + sha256_hex(body) + "\""; }

  template <class Body> [[nodiscard]] const Body* find(const std::string& step) const {
    for (const Event& event : events_) {
      if (const auto* body = std::get_if<Body>(&event.body); body != nullptr && body->step == step) return body;
    }
    return nullptr;
  }
  [[nodiscard]] std::string said(const std::string& step) const {
    std::string text;
    for (const Event& event : events_) {
      if (const auto* output = std::get_if<StepOutput>(&event.body); output != nullptr && output->step == step) text += output->text;
    }
    return text;
  }
  [[nodiscard]] std::string file() const { return read_file(directory_ / "file").value_or("(nothing)"); }

  TestServer server_;
  TemporaryDirectory directory_;
  const std::string folder_ = directory_ / "cache/ahead";
  const std::string body_ = std::string(300'000, 'x') + "end";
  std::vector<Event> events_;
  std::string signals_;
  int runs_ = 0;
};

TEST_F(PrefetcherTest, FetchesWhileAnEarlierStepRunsAndOnlyOnce) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  // The earlier step ends only once the file has come.
  const RunFinished end = run(slow_then_download(with_digest(body_)), [&](Runner&, const Event& event) {
    if (std::holds_alternative<Downloaded>(event.body)) go_on();
  });
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_EQ(file(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
  const auto* downloaded = find<Downloaded>("get");
  ASSERT_NE(downloaded, nullptr);
  EXPECT_TRUE(downloaded->ahead);
  EXPECT_EQ(downloaded->bytes, body_.size());
  EXPECT_EQ(downloaded->url, server_.http("/f"));
  EXPECT_FALSE(path_exists(folder_)) << "what is taken leaves nothing behind";
}

TEST_F(PrefetcherTest, AStepThatComesToItsFileEarlierWaitsForTheSameTransfer) {
  server_.route("/f", {{.body = body_, .etag = "\"1\"", .cut_after = 100'000}, {.body = body_, .etag = "\"1\""}});
  server_.start();
  // The fetcher pauses after the cut; meanwhile the step's turn comes.
  const RunFinished end = run(slow_then_download(), [&](Runner&, const Event& event) {
    const auto* output = std::get_if<StepOutput>(&event.body);
    if (output != nullptr && output->text.find("again in") != std::string::npos) go_on();
  });
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_EQ(file(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", StartsWith("GET /f bytes=100000-")));
  EXPECT_TRUE(find<Downloaded>("get")->ahead);
}

TEST_F(PrefetcherTest, PartsThatNobodyHasGoneOnWithForAWeekGoWithARunThatWentWell) {
  const std::string cache = directory_ / "cache";
  ASSERT_TRUE(make_directories(cache));
  const auto leave = [&](const std::string& name, int days) {
    for (const std::string& path : {part_of(cache + "/" + name), notes_of_part(cache + "/" + name)}) {
      ASSERT_TRUE(write_file_atomically(path, "some of it", 0600));
      const timeval then{::time(nullptr) - days * 86400, 0};
      const timeval times[2] = {then, then};
      ASSERT_EQ(::utimes(path.c_str(), times), 0);
    }
  };
  leave("old", 8);
  leave("held", 8);
  leave("new", 6);
  ASSERT_TRUE(write_file_atomically(cache + "/whole", "", 0600));
  const UniqueFd held(::open(part_of(cache + "/held").c_str(), O_RDWR | O_CLOEXEC));
  ASSERT_EQ(::flock(held.get(), LOCK_EX | LOCK_NB), 0);
  ASSERT_EQ(run(R"([{"command": {"run": "false", "creates": "@/a"}}])").end, RunFinished::End::failed);
  EXPECT_TRUE(path_exists(part_of(cache + "/old"))) << "it may be what the next run needs";
  ASSERT_EQ(run(R"([{"command": {"run": "touch @/a", "creates": "@/a"}}])").end, RunFinished::End::ok);
  EXPECT_FALSE(path_exists(part_of(cache + "/old")) || path_exists(notes_of_part(cache + "/old")));
  for (const char* kept : {"/held", "/new"}) {
    EXPECT_TRUE(path_exists(part_of(cache + kept)) && path_exists(notes_of_part(cache + kept)));
  }
  EXPECT_TRUE(path_exists(cache + "/whole"));
}

TEST_F(PrefetcherTest, WrongBytesAreTheStepsOwnError) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  const RunFinished end = run(slow_then_download(with_digest("something else")), [&](Runner&, const Event& event) {
    const auto* output = std::get_if<StepOutput>(&event.body);
    if (output != nullptr && output->text.find("left to the step") != std::string::npos) go_on();
  });
  EXPECT_EQ(end.end, RunFinished::End::failed);
  ASSERT_NE(find<StepFinished>("get"), nullptr);
  EXPECT_EQ(find<StepFinished>("get")->error->code, ErrorCode::digest);
  EXPECT_THAT(find<StepFinished>("get")->reason, HasSubstr(sha256_hex(body_)));
  EXPECT_EQ(file(), "(nothing)");
}

TEST_F(PrefetcherTest, ACancelEndsTheFetcherAndTheNextRunGoesOnWithItsPart) {
  server_.route("/f", {{.body = body_, .etag = "\"1\"", .cut_after = 100'000}, {.body = body_, .etag = "\"1\""}});
  server_.start();
  RunFinished end = run(slow_then_download(), [&](Runner& runner, const Event& event) {
    const auto* output = std::get_if<StepOutput>(&event.body);
    if (output == nullptr || output->text.find("again in") == std::string::npos) return;
    runner.cancel("tester");
    go_on();
  });
  EXPECT_EQ(end.end, RunFinished::End::cancelled);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
  end = run(slow_then_download(), {}, "another");
  EXPECT_EQ(end.end, RunFinished::End::ok);
  EXPECT_EQ(file(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", StartsWith("GET /f bytes=100000-")));
}

TEST_F(PrefetcherTest, ARunWithNothingToDoStartsNone) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  go_on();
  ASSERT_EQ(run(slow_then_download()).changed, 1U);
  ASSERT_FALSE(path_exists(folder_));
  EXPECT_EQ(run(slow_then_download()).unchanged, 2U);
  EXPECT_EQ(find<Downloaded>("get"), nullptr);
  EXPECT_FALSE(path_exists(folder_));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
}

TEST_F(PrefetcherTest, NothingIsFetchedBeforeARequirementIsMet) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  const std::string steps = R"([{"id": "first", "command": {"run": "sleep 0.3"}}, {"id": "gate", "require": {"cpus": 100000}},
                                {"id": "get", "download": {"url": ")" +
                            server_.http("/f") + R"(", "to": "@/file"}}])";
  EXPECT_EQ(run(steps).end, RunFinished::End::failed);
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(PrefetcherTest, AStepHoldsStillForAFileWithMoreBehindItUntilThatDoesNotComeAnyMore) {
  const std::string large(6'000'000, 'x');
  server_.route("/long", {{.body = large, .stall_after = 200'000}});
  server_.route("/short", {{.body = large, .stall_after = 100'000}});
  server_.start();
  const std::string steps = R"([{"id": "long", "timeout": "2s", "download": {"url": ")" + server_.http("/long") +
                            R"(", "to": "@/long"}}, {"id": "behind", "command": {"run": "true"}},
      {"id": "short", "needs": [], "timeout": "2s", "download": {"url": ")" +
                            server_.http("/short") + R"(", "to": "@/short"}}])";
  EXPECT_EQ(run(steps).end, RunFinished::End::failed);
  EXPECT_THAT(signals_, HasSubstr("short, after long"));
  for (const char* step : {"long", "short"}) {
    ASSERT_NE(find<StepFinished>(step), nullptr);
    EXPECT_EQ(find<StepFinished>(step)->error->code, ErrorCode::timeout) << "it heard the signal that ends it";
  }
}

TEST(AwaitEnd, IsNotForEver) {
  const pid_t child = ::fork();
  if (child == 0) {
    while (true) ::pause();
  }
  std::vector<pid_t> pids{child};
  EXPECT_FALSE(await_end(pids, std::chrono::milliseconds(0)));
  EXPECT_THAT(pids, ElementsAre(child));
  ::kill(child, SIGKILL);
  EXPECT_TRUE(await_end(pids, std::chrono::seconds(60)));
  EXPECT_THAT(pids, IsEmpty());
}

// ---- the place itself

class FetchedAheadTest : public ::testing::Test {
 protected:
  FetchRequest request(std::optional<std::string> sha256) const {
    FetchRequest request;
    request.urls = {"http://127.0.0.1:1/f"};
    request.to = directory_ / "file";
    request.sha256 = std::move(sha256);
    return request;
  }
  /// What a fetcher of `run` would leave.
  void leave(const FetchRequest& request, const std::string& run, const std::string& content) {
    const AheadPlace place{place_.folder, run};
    const Result<void> fetched = fetch_ahead(
        place, request, [] {},
        [&](const FetchRequest& wanted) -> Result<FetchResult> {
          EXPECT_TRUE(write_file_atomically(wanted.to, content, 0600));
          return FetchResult{};
        });
    ASSERT_TRUE(fetched);
  }
  std::optional<Result<FetchResult>> take(const FetchRequest& request) {
    return take_ahead(place_, request, log_, [](const FetchRequest&) -> Result<FetchResult> { return fail(ErrorCode::network, "asked"); });
  }

  TemporaryDirectory directory_;
  AheadPlace place_{directory_ / "ahead", "this run"};
  RecordingLog log_;
};

TEST_F(FetchedAheadTest, WhatHasComeInPartIsNotTakenWhole) {
  const FetchRequest wanted = request(sha256_hex("content"));
  leave(wanted, "an earlier run", "content");
  const std::string path = ahead_path(place_, wanted);
  ASSERT_EQ(::rename(path.c_str(), part_of(path).c_str()), 0);
  RealHost host(Facts{}, identity_of_self(), identity_of_self(), {});
  host.set_ahead(place_);
  EXPECT_FALSE(host.take_fetched(wanted, log_));
  EXPECT_TRUE(path_exists(part_of(path))) << "whoever fetches goes on with it";
}

TEST_F(FetchedAheadTest, TakesAFileWithItsDigestWhoeverFetchedIt) {
  const FetchRequest wanted = request(sha256_hex("content"));
  leave(wanted, "an earlier run", "content");
  const auto taken = take(wanted);
  ASSERT_TRUE(taken && *taken);
  EXPECT_EQ((*taken)->sha256, sha256_hex("content"));
  EXPECT_EQ((*taken)->received, 0U);
  EXPECT_EQ(*read_file(wanted.to), "content");
  EXPECT_FALSE(path_exists(place_.folder));
}

TEST_F(FetchedAheadTest, BelievesNothingThatIsThere) {
  const FetchRequest wanted = request(sha256_hex("content"));
  leave(wanted, "this run", "c0ntent");
  EXPECT_FALSE(take(wanted).has_value());
  EXPECT_THAT(log_.lines, ElementsAre(HasSubstr("cannot be used")));
  EXPECT_FALSE(path_exists(wanted.to));
  EXPECT_FALSE(path_exists(part_of(wanted.to)));
}

TEST_F(FetchedAheadTest, WithoutADigestAFileIsGoodForItsRunAlone) {
  const FetchRequest wanted = request({});
  leave(wanted, "an earlier run", "old");
  EXPECT_FALSE(take(wanted).has_value());
  leave(wanted, "this run", "new");
  const auto taken = take(wanted);
  ASSERT_TRUE(taken && *taken);
  EXPECT_EQ(*read_file(wanted.to), "new");
}

TEST_F(FetchedAheadTest, WhatWasFoundIsToldToTheSameStepOfTheSameRun) {
  const AheadPlace mine{place_.folder, "this run", "pip"};
  ASSERT_TRUE(note_ahead(mine, {request(sha256_hex("content")), request({})}));
  const std::vector<FetchRequest> told = noted_ahead(mine);
  ASSERT_EQ(told.size(), 2U);
  EXPECT_EQ(told[0].urls, request({}).urls);
  EXPECT_EQ(told[0].to, request({}).to);
  EXPECT_EQ(told[0].sha256, sha256_hex("content"));
  EXPECT_FALSE(told[1].sha256.has_value());
  EXPECT_THAT(noted_ahead({place_.folder, "this run", "another"}), IsEmpty());
  EXPECT_THAT(noted_ahead({place_.folder, "another run", "pip"}), IsEmpty());
  EXPECT_THAT(requests_from_json(R"([{"urls": 7}])"), IsEmpty());
  clear_ahead(place_.folder);
  EXPECT_FALSE(path_exists(place_.folder));
}

TEST(AskAtOnce, BringsTheTextsThatThereAre) {
  TestServer server;
  std::vector<std::string> urls;
  for (int i = 0; i < 20; ++i) {
    const std::string path = "/simple/p" + std::to_string(i) + "/";
    urls.push_back(server.http(path));
    if (i % 5 != 0) server.route(path, {{.body = "page " + std::to_string(i)}});
  }
  server.keep_connections();
  server.route("/simple/p7/", {{.body = "page 7, whole", .cut_after = 4}, {.body = "page 7, whole"}});
  server.start();
  FetchOptions options;
  options.first_pause = std::chrono::milliseconds(1);
  const auto texts = ask_at_once(urls, options);
  EXPECT_LE(server.connections(), kAskedAtOnce + 1) << "each keeps its own, but for the one that was cut";
  ASSERT_EQ(texts.size(), urls.size());
  EXPECT_EQ(texts[0], std::nullopt);
  EXPECT_EQ(texts[1], "page 1");
  EXPECT_EQ(texts[7], "page 7, whole");
  EXPECT_EQ(texts[19], "page 19");
}

TEST(AskAtOnce, APageWithoutEndIsNone) {
  TestServer server;
  server.route("/endless", {{.body = std::string(kLongestText + 1, 'x')}});
  server.route("/page", {{.body = "page"}});
  server.start();
  const auto texts = ask_at_once({server.http("/endless"), server.http("/page")}, {});
  EXPECT_EQ(texts[0], std::nullopt);
  EXPECT_EQ(texts[1], "page");
}

class FetchAtOnceTest : public ::testing::Test {
 protected:
  using Fetch = std::function<Result<FetchResult>(std::size_t number)>;
  std::size_t fetch(std::size_t count, const Fetch& one) {
    std::vector<FetchRequest> requests(count);
    for (std::size_t i = 0; i < count; ++i) requests[i].to = std::to_string(i);
    return fetch_at_once(
        requests, [&](const FetchRequest& request, StepLog&, TransferChild&) { return one(std::stoul(request.to)); }, log_);
  }
  RecordingLog log_;
};

TEST_F(FetchAtOnceTest, WhatDoesNotComeIsLeftOut) {
  EXPECT_EQ(fetch(60,
                  [](std::size_t number) -> Result<FetchResult> {
                    if (number % 40 == 7) return fail(ErrorCode::not_found, "the server answered 404");
                    return FetchResult{};
                  }),
            58U);
}

// The others never end by themselves.
TEST_F(FetchAtOnceTest, AThirdThatDoesNotComeEndsIt) {
  EXPECT_EQ(fetch(60,
                  [](std::size_t number) -> Result<FetchResult> {
                    if (number > 3) ::pause();
                    return number == 0 ? Result<FetchResult>(FetchResult{}) : fail(ErrorCode::network, "gone");
                  }),
            1U);
}

TEST_F(FetchAtOnceTest, AFullDiskEndsIt) {
  EXPECT_EQ(fetch(60,
                  [](std::size_t number) -> Result<FetchResult> {
                    if (number > 0) ::pause();
                    return fail(ErrorCode::no_space, "full");
                  }),
            0U);
}

TEST_F(FetchAtOnceTest, HowFarItIsIsShownAlsoWhereFilesComeFast) {
  EXPECT_EQ(fetch(200,
                  [](std::size_t) -> Result<FetchResult> {
                    std::this_thread::sleep_for(std::chrono::milliseconds(10));
                    return FetchResult{};
                  }),
            200U);
  EXPECT_EQ(log_.last_progress.first, "200 files");
}

/// Files of a server, with digests, as wheels are fetched.
class KeptConnections : public ::testing::Test {
 protected:
  static constexpr std::size_t kFiles = 20;

  void serve(const std::function<Answer(std::size_t number)>& answer) {
    for (std::size_t i = 0; i < kFiles; ++i) server_.route(name(i), {answer(i)});
    server_.keep_connections();
    server_.start();
    options_.ca_file = directory_ / "ca.pem";
    options_.attempts = 1;
    ASSERT_TRUE(write_file_atomically(options_.ca_file, server_.certificate(), 0600));
  }
  [[nodiscard]] static std::string name(std::size_t number) { return "/f" + std::to_string(number); }
  [[nodiscard]] static std::string content(std::size_t number) { return "wheel " + std::to_string(number); }
  [[nodiscard]] FetchRequest request(std::size_t number) const {
    FetchRequest request;
    request.urls = {server_.https(name(number))};
    request.to = directory_ / std::to_string(number);
    request.sha256 = sha256_hex(content(number));
    return request;
  }
  [[nodiscard]] Result<FetchResult> fetch(const FetchRequest& request, TransferChild& transfers) {
    FetchOptions options = options_;
    options.transfers = &transfers;
    return fetch_file(request, options, log_);
  }

  TestServer server_;
  TemporaryDirectory directory_;
  FetchOptions options_;
  RecordingLog log_;
};

TEST_F(KeptConnections, ManyFilesOfOneServerTakeAFew) {
  serve([](std::size_t number) { return Answer{.body = content(number)}; });
  std::vector<FetchRequest> requests;
  for (std::size_t i = 0; i < kFiles; ++i) requests.push_back(request(i));
  const std::size_t came = fetch_at_once(
      requests, [&](const FetchRequest& one, StepLog&, TransferChild& transfers) { return fetch(one, transfers); }, log_);
  EXPECT_EQ(came, kFiles);
  for (std::size_t i = 0; i < kFiles; ++i) EXPECT_EQ(read_file(requests[i].to).value_or(""), content(i));
  EXPECT_EQ(server_.requests().size(), kFiles);
  EXPECT_LE(server_.connections(), kFetchesAtOnce);
}

TEST_F(KeptConnections, WhatHasNoDigestHasAChildOfItsOwn) {
  serve([](std::size_t number) { return Answer{.body = content(number)}; });
  TransferChild transfers;
  for (std::size_t i = 0; i < 3; ++i) {
    FetchRequest one = request(i);
    one.sha256.reset();
    ASSERT_TRUE(fetch(one, transfers));
  }
  EXPECT_EQ(server_.connections(), 3U);
}

TEST_F(KeptConnections, AnotherServerIsSpokenWithByAnotherChild) {
  serve([](std::size_t number) { return Answer{.body = content(number)}; });
  TransferChild transfers;
  for (std::size_t i = 0; i < 4; ++i) {
    FetchRequest one = request(i);
    if (i >= 2) one.urls = {server_.http(name(i))};
    ASSERT_TRUE(fetch(one, transfers));
  }
  FetchRequest one = request(0);
  one.to += ".again";
  ASSERT_TRUE(fetch(one, transfers));
  EXPECT_EQ(server_.connections(), 3U) << "and the first is not gone back to";
}

// A server that another one leads to may get hold of the process: what the first is asked for with, a password perhaps, is not for it.
TEST_F(KeptConnections, AChildThatWouldSpeakWithASecondServerIsNotKept) {
  serve([this](std::size_t number) {
    if (number < 3) return Answer{.status = 302, .location = server_.https(name(number + 10))};
    return Answer{.body = content(number - 10)};
  });
  TransferChild transfers;
  for (std::size_t i = 0; i < 3; ++i) {
    FetchRequest one = request(i);
    one.urls = {server_.http(name(i))};
    ASSERT_TRUE(fetch(one, transfers));
    EXPECT_EQ(read_file(one.to).value_or(""), content(i));
  }
  // The first time it is found out; after that each file has a process of its own, with a connection to each of the two.
  EXPECT_EQ(server_.connections(), 7U);
}

TEST_F(KeptConnections, AMissingFileIsAnErrorOfItsOwn) {
  serve([](std::size_t number) { return number == 1 ? Answer{.status = 404, .body = "no such file"} : Answer{.body = content(number)}; });
  TransferChild transfers;
  ASSERT_TRUE(fetch(request(0), transfers));
  const Result<FetchResult> missing = fetch(request(1), transfers);
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::not_found);
  EXPECT_TRUE(fetch(request(2), transfers));
  EXPECT_EQ(server_.connections(), 1U);
}

TEST_F(KeptConnections, AChildWhoseBytesAreNotTakenIsNotKept) {
  const std::string large(3'000'000, 'x');
  serve([&](std::size_t number) { return Answer{.body = number == 1 ? large : content(number)}; });
  TransferChild transfers;
  ASSERT_TRUE(fetch(request(0), transfers));
  options_.keep_free = std::uint64_t{1} << 60U;  // more than any disk has
  const Result<FetchResult> refused = fetch(request(1), transfers);
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::no_space);
  options_.keep_free = 0;
  ASSERT_TRUE(fetch(request(2), transfers));
  EXPECT_EQ(server_.connections(), 2U);
}

TEST_F(KeptConnections, APartIsGoneOnWith) {
  serve([](std::size_t number) { return Answer{.body = content(number), .etag = "\"1\""}; });
  TransferChild transfers;
  ASSERT_TRUE(fetch(request(0), transfers));
  const FetchRequest second = request(1);
  ASSERT_TRUE(write_file_atomically(part_of(second.to), content(1).substr(0, 3), 0600));
  ASSERT_TRUE(fetch(second, transfers));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f0", "GET /f1 bytes=3-"));
  EXPECT_EQ(server_.connections(), 1U);
}

/// Calls back whenever it is shown how far a file is.
class WatchingLog : public RecordingLog {
 public:
  explicit WatchingLog(std::function<void()> shown) : shown_(std::move(shown)) {}
  void progress(std::string_view, std::uint64_t, std::uint64_t) override { shown_(); }

 private:
  std::function<void()> shown_;
};

TEST_F(FetchedAheadTest, WhoWaitedForAnEntryThatIsGoneWaitsForTheOneAfterIt) {
  const FetchRequest wanted = request(sha256_hex("content"));
  leave(wanted, "this run", "content");
  const std::string path = ahead_path(place_, wanted), lock = path + ".lock";
  ASSERT_EQ(::unlink(path.c_str()), 0);
  const auto hold = [&] {
    UniqueFd held(::open(lock.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    EXPECT_EQ(::flock(held.get(), LOCK_EX | LOCK_NB), 0);
    return held;
  };
  UniqueFd first = hold(), second;
  ASSERT_TRUE(write_file_atomically(part_of(path), "con", 0600));
  int looks = 0;
  WatchingLog log([&] {
    if (++looks == 1) {  // the first has taken its file and removed the entry; the second begins
      EXPECT_EQ(::unlink(lock.c_str()), 0);
      second = hold();
      EXPECT_TRUE(write_file_atomically(part_of(path), "conte", 0600));
      first.reset();
    } else if (looks == 2) {
      EXPECT_EQ(::unlink(part_of(path).c_str()), 0);
      EXPECT_TRUE(write_file_atomically(path, "content", 0600));
      second.reset();
    }
  });
  const auto taken = take_ahead(place_, wanted, log, [](const FetchRequest&) -> Result<FetchResult> {
    ADD_FAILURE() << "the second is still at it";
    return fail(ErrorCode::network, "asked");
  });
  ASSERT_TRUE(taken && *taken);
  EXPECT_GE(looks, 2);
  EXPECT_EQ(*read_file(wanted.to), "content");
}

TEST_F(FetchedAheadTest, IsForItsUserAlone) {
  leave(request({}), "this run", "x");
  struct stat info {};
  ASSERT_EQ(::stat(place_.folder.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0700U);
}

TEST_F(FetchedAheadTest, ALinkIsNotTaken) {
  const FetchRequest wanted = request({});
  leave(wanted, "this run", "x");
  const std::string path = ahead_path(place_, wanted);
  ASSERT_TRUE(write_file_atomically(directory_ / "precious", "precious", 0600));
  ASSERT_EQ(::unlink(path.c_str()), 0);
  ASSERT_EQ(::symlink((directory_ / "precious").c_str(), path.c_str()), 0);
  EXPECT_FALSE(take(wanted).has_value());
  EXPECT_EQ(*read_file(directory_ / "precious"), "precious");
}

TEST_F(FetchedAheadTest, ClearingLeavesWhatIsWorkedOn) {
  const FetchRequest taken = request({});
  FetchRequest other = taken;
  other.urls = {"http://127.0.0.1:1/other"};
  leave(other, "this run", "x");
  const Result<void> fetched = fetch_ahead(
      place_, taken, [&] { clear_ahead(place_.folder); },
      [&](const FetchRequest& wanted) -> Result<FetchResult> {
        EXPECT_TRUE(write_file_atomically(wanted.to, "y", 0600));
        return FetchResult{};
      });
  ASSERT_TRUE(fetched);
  EXPECT_FALSE(path_exists(ahead_path(place_, other)));
  const auto got = take(taken);
  EXPECT_TRUE(got && *got);
  EXPECT_FALSE(path_exists(place_.folder));
}

TEST_F(FetchedAheadTest, ATransferStopsBeforeItTakesTheRoomOfOthers) {
  TestServer server;
  server.route("/f", {{.body = "content"}});
  server.start();
  FetchRequest wanted = request({});
  wanted.urls = {server.http("/f")};
  FetchOptions options;
  options.keep_free = std::uint64_t{1} << 60U;  // more than any disk has
  const Result<FetchResult> fetched = fetch_file(wanted, options, log_);
  ASSERT_FALSE(fetched);
  EXPECT_EQ(fetched.error().code(), ErrorCode::no_space);
  EXPECT_FALSE(path_exists(wanted.to));
  EXPECT_FALSE(path_exists(part_of(wanted.to)));
}

}  // namespace
}  // namespace gpustrap

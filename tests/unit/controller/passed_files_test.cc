#include "controller/passed_files.h"

#include <algorithm>
#include <map>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace gpustrap {
namespace {

using testing::ElementsAre;
using testing::IsEmpty;
using How = ShareRequest::How;

const std::string kDigest(64, 'a');
const std::string kReply = "a greeting\n{\"hello\":1,\"program\":\"gpustrap-agent\",\"features\":[]}\n{\"reply\":1,\"value\":{}}\n";

/// Both sides of a channel.
struct Wire {
  std::string to_host, from_host;
  bool ended = false, closed = false, broken = false;
};

class FakeChannel : public ShareChannel {
 public:
  explicit FakeChannel(std::shared_ptr<Wire> wire) : wire_(std::move(wire)) {}
  Result<std::size_t> read(std::string& into) override {
    if (wire_->broken) return fail(ErrorCode::unreachable, "the connection ended");
    into += wire_->from_host;
    return std::exchange(wire_->from_host, "").size();
  }
  Result<std::size_t> write(std::string_view bytes) override {
    const std::size_t taken = std::min<std::size_t>(bytes.size(), 100'000);  // as a window does
    if (wire_->to_host.size() > kShareBlock) return std::size_t{0};
    wire_->to_host += bytes.substr(0, taken);
    return taken;
  }
  void send_end() override { wire_->ended = true; }
  [[nodiscard]] bool at_end() const override { return wire_->closed; }

 private:
  std::shared_ptr<Wire> wire_;
};

/// A host that shares, and its channels in the order in which they were opened.
struct Host {
  explicit Host(const std::shared_ptr<PassedFiles>& files, bool opens = true)
      : sharing(
            files,
            [this, opens](const ShareRequest& request) -> Result<std::unique_ptr<ShareChannel>> {
              asked.push_back(request.how);
              from.push_back(request.from);
              if (!opens) return fail(ErrorCode::unreachable, "the host opened no channel");
              wires.push_back(std::make_shared<Wire>());
              return std::unique_ptr<ShareChannel>(std::make_unique<FakeChannel>(wires.back()));
            },
            [this] { ++refused; }) {}
  void want(std::uint64_t have = 0, const std::string& sha256 = kDigest) {
    sharing.wanted(sha256, have);
    (void)sharing.pump();
  }
  void answer() {
    wires.back()->from_host += kReply;
    (void)sharing.pump();
  }
  std::vector<How> asked;
  std::vector<std::uint64_t> from;
  std::vector<std::shared_ptr<Wire>> wires;
  int refused = 0;
  HostSharing sharing;
};

class PassedFilesTest : public testing::Test {
 protected:
  /// Has the source's agent answer what it was asked for: all of that, or as many blocks.
  void serve(Host& source, std::size_t blocks = 1000) {
    Wire& wire = *source.wires.back();
    for (std::size_t end = 0; blocks > 0 && (end = wire.to_host.find('\n')) != std::string::npos; wire.to_host.erase(0, end + 1)) {
      if (end == 0) continue;
      const std::size_t from = std::stoul(wire.to_host.substr(0, end));
      ++blocks_asked_;
      --blocks;
      const std::string block = from < body_.size() ? body_.substr(from, kShareBlock) : "";
      wire.from_host += std::to_string(from) + " " + std::to_string(block.size()) + "\n" + block;
    }
  }
  /// What a target's agent was sent, with the source and the others going on beside it.
  void run(std::vector<Host*> targets, Host& source) {
    for (int turn = 0; turn < 500; ++turn) {
      (void)source.sharing.pump();
      serve(source);
      for (Host* target : targets) {
        (void)target->sharing.pump();
        got_[target] += std::exchange(target->wires.back()->to_host, "");
      }
    }
  }

  const std::string body_ = [] {
    std::string body(40 * kShareBlock + 77, '\0');
    for (std::size_t i = 0; i < body.size(); ++i) body[i] = static_cast<char>((i * 2654435761U) >> 13U);
    return body;
  }();
  PassedFiles::Time now_{};
  std::shared_ptr<PassedFiles> files_ = std::make_shared<PassedFiles>([this] { return now_; });
  std::size_t blocks_asked_ = 0;
  std::map<Host*, std::string> got_;
};

TEST_F(PassedFilesTest, TheFirstWhoWantsAFileGivesItAndTheOthersTakeIt) {
  Host one(files_), two(files_), three(files_);
  for (Host* host : {&one, &two, &three}) {
    host->want();
    host->answer();
  }
  EXPECT_THAT(one.asked, ElementsAre(How::give));
  EXPECT_THAT(two.asked, ElementsAre(How::take));
  EXPECT_TRUE(one.sharing.gives());
  EXPECT_FALSE(two.sharing.gives());
  run({&two, &three}, one);
  EXPECT_TRUE(got_[&two] == body_);
  EXPECT_TRUE(got_[&three] == body_);
  EXPECT_TRUE(two.wires.back()->ended && three.wires.back()->ended);
  // Each block travels once from the source; behind the end a few are asked for in vain.
  EXPECT_LE(blocks_asked_, 41 + PassedFiles::kBlocksOnTheWay);
  EXPECT_EQ(one.refused + two.refused + three.refused, 0);
}

TEST_F(PassedFilesTest, WhoComesLaterBeginsAtTheBeginningAndWhoIsSlowHoldsUpNobody) {
  Host one(files_), slow(files_), late(files_);
  one.want();
  one.answer();
  slow.want();
  slow.answer();
  for (int turn = 0; turn < 20; ++turn) {  // its window is full, and nobody reads
    (void)one.sharing.pump();
    serve(one);
    (void)slow.sharing.pump();
  }
  EXPECT_LE(slow.wires.back()->to_host.size(), 2 * kShareBlock);
  late.want();
  late.answer();
  run({&late}, one);
  EXPECT_TRUE(got_[&late] == body_);
  run({&slow}, one);
  EXPECT_TRUE(got_[&slow] == body_);
}

TEST_F(PassedFilesTest, WhereTheSourceGoesTheOthersAreLetGo) {
  Host one(files_), two(files_);
  for (Host* host : {&one, &two}) {
    host->want();
    host->answer();
  }
  one.wires.back()->broken = true;
  (void)one.sharing.pump();
  EXPECT_FALSE(one.sharing.gives());
  (void)two.sharing.pump();
  EXPECT_TRUE(two.wires.back()->ended);
  EXPECT_TRUE(two.wires.back()->to_host.empty());
  // The next who wants it is a source again.
  Host three(files_);
  three.want();
  EXPECT_THAT(three.asked, ElementsAre(How::give));
}

TEST_F(PassedFilesTest, ASourceThatIsSilentLosesItsPlace) {
  Host one(files_), two(files_), three(files_);
  for (Host* host : {&one, &two, &three}) {
    host->want();
    host->answer();
  }
  const auto pass = [&](std::chrono::seconds time) {
    now_ += time;
    for (Host* host : {&one, &two, &three}) (void)host->sharing.pump();
  };
  pass(std::chrono::seconds(0));
  pass(PassedFiles::kPatience);
  EXPECT_FALSE(two.wires.back()->ended);
  pass(std::chrono::seconds(1));
  EXPECT_TRUE(two.wires.back()->ended && three.wires.back()->ended);
  EXPECT_TRUE(two.wires.back()->to_host.empty());
  pass(std::chrono::seconds(0));
  EXPECT_FALSE(one.sharing.gives());
  // Who asks again first is the source now, and gives to the others.
  two.want();
  two.answer();
  three.want();
  three.answer();
  EXPECT_THAT(two.asked, ElementsAre(How::take, How::give));
  EXPECT_THAT(three.asked, ElementsAre(How::take, How::take));
  run({&three}, two);
  EXPECT_TRUE(got_[&three] == body_);
}

TEST_F(PassedFilesTest, ASourceThatGivesABlockNowAndThenLosesItsPlaceToo) {
  Host one(files_), two(files_);
  for (Host* host : {&one, &two}) {
    host->want();
    host->answer();
  }
  int given = 0;
  for (; given < 10 && !two.wires.back()->ended; ++given, now_ += PassedFiles::kPatience - std::chrono::seconds(1)) {
    (void)one.sharing.pump();
    serve(one, 1);
    (void)one.sharing.pump();
    (void)two.sharing.pump();
    got_[&two] += std::exchange(two.wires.back()->to_host, "");
    (void)two.sharing.pump();
    (void)two.sharing.pump();
  }
  EXPECT_TRUE(two.wires.back()->ended);
  EXPECT_LE(given, 3);
  (void)one.sharing.pump();
  EXPECT_FALSE(one.sharing.gives());
}

TEST_F(PassedFilesTest, ASourceBehindANarrowLineKeepsItsPlace) {
  Host one(files_), two(files_);
  for (Host* host : {&one, &two}) {
    host->want();
    host->answer();
  }
  // 0.7 Mbit/s.
  for (int turn = 0; turn < 400 && !two.wires.back()->ended; ++turn, now_ += std::chrono::seconds(3)) {
    (void)one.sharing.pump();
    serve(one, 1);
    (void)one.sharing.pump();
    for (int i = 0; i < 4; ++i) {
      (void)two.sharing.pump();
      got_[&two] += std::exchange(two.wires.back()->to_host, "");
    }
  }
  EXPECT_TRUE(got_[&two] == body_);
}

TEST_F(PassedFilesTest, WhoHasSomeOfItIsSentTheRest) {
  Host one(files_), two(files_), three(files_), liar(files_);
  one.want();
  one.answer();
  two.want(10 * kShareBlock + 5);
  two.answer();
  three.want();
  three.answer();
  liar.want(UINT64_MAX);
  liar.answer();
  EXPECT_THAT(two.from, ElementsAre(10 * kShareBlock));
  EXPECT_THAT(liar.from, ElementsAre(0U));
  run({&two, &three, &liar}, one);
  EXPECT_TRUE(got_[&two] == body_.substr(10 * kShareBlock));
  EXPECT_TRUE(got_[&three] == body_);
  EXPECT_TRUE(got_[&liar] == body_);
}

TEST_F(PassedFilesTest, AHostThatWantsTheSameAgainHasOneAgentForIt) {
  Host one(files_), two(files_);
  for (Host* host : {&one, &two}) {
    host->want();
    host->answer();
  }
  for (int i = 0; i < 5; ++i) two.want();
  EXPECT_EQ(two.asked.size(), 1U);
  two.wires.back()->closed = true;  // the step that it took to is gone
  (void)two.sharing.pump();
  (void)two.sharing.pump();
  EXPECT_THAT(two.asked, ElementsAre(How::take, How::take));
  EXPECT_EQ(two.refused, 0);
  for (int i = 0; i < HostSharing::kMostAsks; ++i) two.want();
  EXPECT_GT(two.refused, 0) << "it asks without end";
}

TEST_F(PassedFilesTest, AHostThatWantsFilesWithoutEndIsToldThatNobodyBringsThem) {
  Host one(files_);
  const auto digest = [](std::size_t number) {
    std::string name = std::to_string(number);
    return std::string(64 - name.size(), '0') + name;
  };
  for (std::size_t i = 0; i < HostSharing::kMostFiles; ++i) one.want(0, digest(i));
  EXPECT_EQ(one.refused, 0);
  for (std::size_t i = 0; i < 5; ++i) one.want(0, digest(HostSharing::kMostFiles + i));
  EXPECT_EQ(one.refused, 5);
  EXPECT_EQ(one.asked.size(), HostSharing::kMostFiles);
}

TEST_F(PassedFilesTest, WhoIsSlowOrLateIsNotTakenForWaiting) {
  Host one(files_), slow(files_);
  one.want();
  one.answer();
  now_ += std::chrono::hours(1);  // the source has nothing to do
  slow.want();
  slow.answer();
  for (int turn = 0; turn < 20; ++turn) {  // its window is full, and nobody reads
    (void)one.sharing.pump();
    serve(one);
    (void)slow.sharing.pump();
  }
  now_ += std::chrono::hours(1);
  run({&slow}, one);
  EXPECT_TRUE(got_[&slow] == body_);
}

TEST_F(PassedFilesTest, AHostWithoutAChannelIsToldThatNobodyBringsFiles) {
  Host one(files_, false), two(files_);
  one.want();
  EXPECT_EQ(one.refused, 1);
  two.want();  // one is no source
  EXPECT_THAT(two.asked, ElementsAre(How::give));
  two.wires.back()->closed = true;  // sudo refuses, for instance
  (void)two.sharing.pump();
  EXPECT_EQ(two.refused, 1);
  Host three(files_);
  three.want();
  EXPECT_THAT(three.asked, ElementsAre(How::give));
  three.wires.back()->from_host = "{\"reply\":1,\"error\":{\"code\":\"not_found\",\"message\":\"no step waits for this file\"}}\n";
  (void)three.sharing.pump();
  EXPECT_EQ(three.refused, 1);
  EXPECT_FALSE(three.sharing.gives());
}

TEST_F(PassedFilesTest, ASourceThatSaysWhatItWasNotAskedIsNoSource) {
  for (const char* words : {"0 5\nhello", "0 -1\n", "x\n", "0 262145\n", "0\n", "0 5 \n", "1 0\n"}) {
    Host one(files_);
    one.want();
    one.answer();
    one.wires.back()->from_host = words;
    (void)one.sharing.pump();
    EXPECT_FALSE(one.sharing.gives()) << words;
  }
}

TEST_F(PassedFilesTest, AGreetingWithoutEndIsNoAnswer) {
  Host one(files_);
  one.want();
  one.wires.back()->from_host = std::string(64U << 10U, 'x');
  (void)one.sharing.pump();
  EXPECT_EQ(one.refused, 0) << "a long one may come";
  one.wires.back()->from_host = "x";
  (void)one.sharing.pump();
  EXPECT_EQ(one.refused, 1);
  EXPECT_FALSE(one.sharing.gives());
}

TEST_F(PassedFilesTest, AHostThatLeavesIsNoSourceAnyMore) {
  auto one = std::make_unique<Host>(files_);
  Host two(files_);
  one->want();
  two.want();
  two.answer();
  one.reset();
  (void)two.sharing.pump();
  EXPECT_TRUE(two.wires.back()->ended);
}

}  // namespace
}  // namespace gpustrap

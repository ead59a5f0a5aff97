#include "controller/kept_link.h"

#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <array>
#include <atomic>
#include <cstring>
#include <deque>
#include <filesystem>
#include <mutex>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "agent/protocol/request.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using std::chrono::seconds;

constexpr seconds kPatience{20};

/// An agent's link whose lines the test says.
class ScriptedLink : public AgentLink {
 public:
  ScriptedLink() : pipe_(std::move(*make_pipe())) { EXPECT_TRUE(set_nonblocking(pipe_.read_end.get())); }
  void say(AgentLine line) {
    const std::lock_guard lock(mutex_);
    lines_.push_back(std::move(line));
    EXPECT_TRUE(write_all(pipe_.write_end.get(), "x"));
  }
  void end() {
    const std::lock_guard lock(mutex_);
    ended_ = true;
    EXPECT_TRUE(write_all(pipe_.write_end.get(), "x"));
  }
  [[nodiscard]] std::size_t requests() const {
    const std::lock_guard lock(mutex_);
    return requests_;
  }
  Result<void> send(const Request&) override {
    const std::lock_guard lock(mutex_);
    ++requests_;
    return {};
  }
  Result<std::optional<AgentLine>> receive(milliseconds) override {
    const std::lock_guard lock(mutex_);
    if (lines_.empty() && ended_) return fail(ErrorCode::unreachable, "gone");
    if (lines_.empty()) return std::optional<AgentLine>();
    char byte = 0;
    EXPECT_EQ(::read(pipe_.read_end.get(), &byte, 1), 1);
    AgentLine line = std::move(lines_.front());
    lines_.pop_front();
    return std::optional<AgentLine>(std::move(line));
  }
  [[nodiscard]] int descriptor() const override { return pipe_.read_end.get(); }

 private:
  mutable std::mutex mutex_;
  Pipe pipe_;
  std::deque<AgentLine> lines_;
  std::size_t requests_ = 0;
  bool ended_ = false;
};

Request question(std::uint64_t number) { return {number, StatusRequest{}}; }

Reply answer(std::uint64_t number) {
  Reply reply;
  reply.number = number;
  reply.value = std::make_shared<const Json>(Json::object());
  return reply;
}

/// A keeper at work in a thread, with the first borrower's end here.
class LinkKeeperTest : public ::testing::Test {
 protected:
  LinkKeeperTest() {
    std::string name = ::testing::TempDir() + "keepXXXXXX";
    folder_ = ::mkdtemp(name.data());
    path_ = folder_ + "/socket";
  }
  ~LinkKeeperTest() override {
    is_wanted_ = false;
    first_.reset();
    if (thread_.joinable()) thread_.join();
    std::filesystem::remove_all(folder_);
  }

  void keep(const Request& asked, seconds limit = kPatience) {
    UniqueFd listener(::socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path_.c_str(), path_.size());
    ASSERT_EQ(::bind(listener.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    ASSERT_EQ(::listen(listener.get(), 4), 0);
    int pair[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    for (const int fd : pair) ASSERT_TRUE(set_nonblocking(fd));
    first_ = std::make_unique<KeptLink>(UniqueFd(pair[0]));
    thread_ = std::thread([this, asked, limit, listener = std::move(listener), theirs = UniqueFd(pair[1])]() mutable {
      LinkKeeper(link_, std::move(listener), std::move(theirs), asked, limit, [this] { return is_wanted_.load(); }).run();
      is_over_ = true;
    });
  }

  /// What it passes on, as far as that is an answer: its number; 0 where none comes.
  static std::uint64_t answered(AgentLink& link) {
    const auto line = link.receive(kPatience);
    const auto* reply = line && line->has_value() ? std::get_if<Reply>(&**line) : nullptr;
    return reply == nullptr ? 0 : reply->number;
  }
  /// The keeper sees that its borrower has left a moment after that.
  std::unique_ptr<KeptLink> borrow() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (std::chrono::steady_clock::now() < deadline && !is_over_) {
      if (auto link = KeptLink::borrow(path_)) return *std::move(link);
      std::this_thread::sleep_for(milliseconds(5));
    }
    return nullptr;
  }
  bool is_over_soon() {
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (!is_over_ && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(5));
    return is_over_;
  }

  std::string folder_, path_;
  ScriptedLink link_;
  std::unique_ptr<KeptLink> first_;
  std::thread thread_;
  std::atomic<bool> is_wanted_ = true, is_over_ = false;
};

TEST_F(LinkKeeperTest, LendsTheLinkToOneCommandAfterTheOther) {
  keep(question(1));
  link_.say(answer(1));
  EXPECT_EQ(answered(*first_), 1U);
  first_.reset();
  std::size_t asked = 0;
  for (const std::uint64_t number : {1U, 7U}) {
    const std::unique_ptr<KeptLink> next = borrow();
    ASSERT_NE(next, nullptr);
    ASSERT_TRUE(next->send(question(number)));
    ++asked;
    const auto deadline = std::chrono::steady_clock::now() + kPatience;
    while (link_.requests() < asked && std::chrono::steady_clock::now() < deadline) std::this_thread::sleep_for(milliseconds(5));
    link_.say(answer(number));  // an agent answers what it has heard
    EXPECT_EQ(answered(*next), number);
  }
  EXPECT_EQ(link_.requests(), 2U);
  EXPECT_FALSE(is_over_);
}

TEST_F(LinkKeeperTest, IsRefusedAtOnceWhileAnotherCommandHasIt) {
  keep(question(1));
  EXPECT_FALSE(KeptLink::borrow(path_).has_value());
  link_.say(answer(1));
  EXPECT_EQ(answered(*first_), 1U);
  EXPECT_FALSE(KeptLink::borrow(path_).has_value());
}

TEST_F(LinkKeeperTest, EndsWithACommandThatLeavesInTheMiddleOfARun) {
  RunRequest run;
  run.run = "r1";
  keep({1, run});
  link_.say(answer(1));
  link_.say(Event{1, 5, StepStarted{"a"}});
  EXPECT_EQ(answered(*first_), 1U);
  ASSERT_TRUE(first_->receive(kPatience).has_value());
  first_.reset();
  EXPECT_TRUE(is_over_soon());
}

TEST_F(LinkKeeperTest, StaysAfterARunThatIsOver) {
  RunRequest run;
  run.run = "r1";
  keep({1, run});
  link_.say(answer(1));
  link_.say(Event{1, 5, RunFinished{}});
  EXPECT_EQ(answered(*first_), 1U);
  const auto line = first_->receive(kPatience);
  ASSERT_TRUE(line.has_value() && line->has_value());
  EXPECT_TRUE(std::holds_alternative<RunFinished>(std::get<Event>(**line).body));
  first_.reset();
  EXPECT_NE(borrow(), nullptr);
}

TEST_F(LinkKeeperTest, EndsWithTheLinkAndTellsItsBorrower) {
  keep(question(1));
  link_.end();
  EXPECT_TRUE(is_over_soon());
  const auto line = first_->receive(kPatience);
  ASSERT_FALSE(line.has_value());
  EXPECT_EQ(line.error().code(), ErrorCode::unreachable);
}

TEST_F(LinkKeeperTest, EndsWhenNobodyBorrowsOrWantsIt) {
  keep(question(1), seconds(0));
  link_.say(answer(1));
  EXPECT_EQ(answered(*first_), 1U);
  first_.reset();
  EXPECT_TRUE(is_over_soon());
}

/// Both ends of a socket; nobody keeps a link behind the second.
struct Ends {
  Ends() {
    std::array<int, 2> pair{};
    EXPECT_EQ(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair.data()), 0);
    EXPECT_TRUE(set_nonblocking(pair[0]));
    link.emplace(UniqueFd(pair[0]));
    keeper.reset(pair[1]);
  }
  std::optional<KeptLink> link;
  UniqueFd keeper;
};

void expect_gone(const Error& error, const std::string& why) {
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_EQ(error.why(), why);
  EXPECT_EQ(error.hint(), "the same command again makes a connection of its own");
}

TEST(KeptLink, SaysThatItsKeeperHasGone) {
  Ends ends;
  ends.keeper.reset();
  const Result<void> sent = ends.link->send(Request{1, StatusRequest{}});
  ASSERT_FALSE(sent.has_value());
  expect_gone(sent.error(), "the kept connection ended");
  const auto received = ends.link->receive(milliseconds(0));
  ASSERT_FALSE(received.has_value());
  expect_gone(received.error(), "the kept connection ended");
}

TEST(KeptLink, WaitsForNobodyForEver) {
  Ends silent, full;
  Result<void> sent;
  while (sent) sent = full.link->send(Request{1, StatusRequest{}});  // ten seconds at the last one
  expect_gone(sent.error(), "the kept connection takes nothing");
  auto received = silent.link->receive(milliseconds(500));
  while (received) received = silent.link->receive(milliseconds(500));
  expect_gone(received.error(), "nothing was heard from the host for " + std::to_string(kSilenceLimit.count()) + " s");
}

TEST(KeptLink, IsNotKeptWhereOthersCouldTakeIt) {
  const TemporaryDirectory folder;
  ASSERT_EQ(::chmod(folder.path().c_str(), 0755), 0);
  const auto kept = keep_link(std::make_unique<ScriptedLink>(), -1, folder / "socket", seconds(60), Request{1, StatusRequest{}});
  ASSERT_FALSE(kept.has_value());
  EXPECT_EQ(kept.error().code(), ErrorCode::io);
  EXPECT_EQ(kept.error().why(), folder.path() + " is open to others, so no connection is kept there");
  EXPECT_EQ(kept.error().hint(), "run: chmod 700 " + folder.path());
}

TEST(KeptLinkPath, DiffersWithTheKeyAndFitsASocket) {
  ASSERT_EQ(::setenv("XDG_RUNTIME_DIR", "/run/user/1000", 1), 0);
  const Result<std::string> one = kept_link_path("a"), other = kept_link_path("b");
  EXPECT_TRUE(one->starts_with("/run/user/1000/gpustrap/"));
  EXPECT_NE(*one, *other);
  ASSERT_EQ(::setenv("XDG_RUNTIME_DIR", ("/" + std::string(120, 'x')).c_str(), 1), 0);
  EXPECT_FALSE(kept_link_path("a").has_value());
  ::unsetenv("XDG_RUNTIME_DIR");
}

}  // namespace
}  // namespace gpustrap

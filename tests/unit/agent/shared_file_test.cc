#include "agent/shared_file.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#include <algorithm>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/fetch.h"
#include "agent/protocol/request.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_server.h"

namespace gpustrap {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string content_of(std::size_t size) {
  std::string content(size, '\0');
  unsigned state = 1;
  for (char& byte : content) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24U);
  }
  return content;
}

/// A fetch of a step, and the agent that speaks with it, in a thread.
class SharedFile : public testing::Test {
 protected:
  SharedFile() {
    ::signal(SIGPIPE, SIG_IGN);
    server_.route("/f", {{.body = body_}});
    server_.start();
    controller_ = *make_pipe();
    files_ = {directory_ / "ahead", controller_.read_end.get(), [this](const std::string& sha256, std::uint64_t have) {
                EXPECT_EQ(sha256, digest_);
                had_.push_back(have);
                if (agent_.joinable()) agent_.join();  // what the last one brought has come to its end
                if (answer_) agent_ = std::thread([this] { answer_(connect_to_wanted(files_.folder, digest_)); });
              }};
  }
  ~SharedFile() override {
    if (agent_.joinable()) agent_.join();
  }

  Result<FetchResult> fetch() {
    FetchRequest request;
    request.urls = {server_.http("/f")};
    request.to = directory_ / "file.bin";
    request.sha256 = digest_;
    FetchOptions options;
    options.first_pause = std::chrono::milliseconds(1);
    options.shared = &files_;
    return fetch_file(request, options, log_);
  }
  /// From the block on at which what is there ends, as the controller does.
  void carry(Result<UniqueFd> step, const std::string& bytes) {
    ASSERT_TRUE(step.has_value());
    Pipe pipe = *make_pipe();
    const std::uint64_t from = had_.back() / kShareBlock * kShareBlock;
    std::thread writer([&] {
      (void)write_all(pipe.write_end.get(), std::string_view(bytes).substr(std::min<std::size_t>(bytes.size(), from)));
      pipe.write_end.reset();
    });
    take_shared(*std::move(step), pipe.read_end.get(), from);
    pipe.read_end.reset();
    writer.join();
  }
  /// An agent that takes these bytes to the step.
  void brings(std::string bytes) {
    answer_ = [this, bytes = std::move(bytes)](Result<UniqueFd> step) { carry(std::move(step), bytes); };
  }
  /// The first brings as much as it has, the next brings all.
  void brings_in_pieces(std::vector<std::size_t> sizes) {
    answer_ = [this, sizes = std::move(sizes)](Result<UniqueFd> step) {
      carry(std::move(step), body_.substr(0, sizes.at(had_.size() - 1)));
    };
  }
  /// What an earlier run has left of the file.
  void leave_part(std::size_t size, const std::string& wanted) {
    ASSERT_TRUE(write_file_atomically(part_of(directory_ / "file.bin"), body_.substr(0, size), 0600));
    ASSERT_TRUE(write_file_atomically(notes_of_part(directory_ / "file.bin"),
                                      R"({"url_sha256":"","validator":"","total":0,"sha256":")" + wanted + "\"}\n", 0600));
  }
  void expect_file() { EXPECT_TRUE(read_file(directory_ / "file.bin").value_or("") == body_); }
  [[nodiscard]] std::string said() const { return join(log_.lines, "\n"); }

  const std::string body_ = content_of(2 * kShareBlock + 1000);
  const std::string digest_ = sha256_hex(body_);
  TestServer server_;
  TemporaryDirectory directory_;
  Pipe controller_;
  SharedFiles files_;
  RecordingLog log_;
  std::function<void(Result<UniqueFd>)> answer_;
  std::thread agent_;
  std::vector<std::uint64_t> had_;  ///< at each time that it was asked for
};

TEST_F(SharedFile, ComesFromAnotherHostAndNobodyElseIsAsked) {
  brings(body_);
  const Result<FetchResult> got = fetch();
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(got->received, body_.size());
  expect_file();
  EXPECT_THAT(server_.requests(), IsEmpty());
  EXPECT_THAT(said(), HasSubstr("came from another host"));
  EXPECT_FALSE(path_exists(files_.folder));
}

TEST_F(SharedFile, IsGoneOnWithAtTheOriginWhereTheOtherHostWasCut) {
  brings(body_.substr(0, 100'000));
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f bytes=100000-"));
  EXPECT_THAT(said(), HasSubstr("asking the origin"));
  EXPECT_EQ(had_.size(), 3U) << "whoever had it may have a successor";
}

TEST_F(SharedFile, IsAskedForAgainWhereTheOtherHostWasCutAndGoneOnWith) {
  brings_in_pieces({kShareBlock + 1000, 2 * kShareBlock, body_.size()});
  const Result<FetchResult> got = fetch();
  ASSERT_TRUE(got) << got.error().sentence();
  expect_file();
  EXPECT_THAT(had_, ElementsAre(0U, kShareBlock + 1000, 2 * kShareBlock));
  EXPECT_EQ(got->received, body_.size()) << "nothing came twice but what a block's beginning repeats";
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(SharedFile, IsGivenByWhoAsksAgainAndHasMost) {
  Pipe asks = *make_pipe(), gives = *make_pipe();
  answer_ = [&](Result<UniqueFd> step) {
    if (had_.size() == 1) return carry(std::move(step), body_.substr(0, kShareBlock + 1000));
    ASSERT_TRUE(step.has_value());
    asks.write_end.reset();
    give_shared(*std::move(step), asks.read_end.get(), gives.write_end.get());
  };
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_THAT(had_, ElementsAre(0U, kShareBlock + 1000));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f bytes=263144-"));
}

TEST_F(SharedFile, IsGoneOnWithWhereAnEarlierRunWasCut) {
  leave_part(2 * kShareBlock + 5, digest_);
  brings(body_);
  const Result<FetchResult> got = fetch();
  ASSERT_TRUE(got) << got.error().sentence();
  expect_file();
  EXPECT_THAT(had_, ElementsAre(2 * kShareBlock + 5));
  EXPECT_EQ(got->received, body_.size() - 2 * kShareBlock - 5);
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(SharedFile, BeginsAnewWhereAnEarlierRunWantedSomethingElse) {
  leave_part(2 * kShareBlock, std::string(64, 'b'));
  brings(body_);
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_THAT(had_, ElementsAre(0U));
  EXPECT_THAT(server_.requests(), IsEmpty());
}

TEST_F(SharedFile, NeverTakesTheRoomThatOthersNeed) {
  files_.keep_free = std::uint64_t{1} << 60U;
  leave_part(2 * kShareBlock, digest_);
  brings(body_);
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_EQ(had_.size(), 1U);
  EXPECT_THAT(said(), HasSubstr("what is left is kept for other steps"));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f bytes=524288-")) << "what was there before stays";
}

TEST_F(SharedFile, IsFetchedAnewWhereTheOtherHostSendsSomethingElse) {
  brings(std::string(body_.size(), 'x'));
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_EQ(server_.requests().back(), "GET /f");
}

TEST_F(SharedFile, IsFetchedFromTheOriginWhereTheOtherHostFillsTheDisk) {
  // A limit of this process's files stands in for the disk's.
  rlimit before{};
  ASSERT_EQ(::getrlimit(RLIMIT_FSIZE, &before), 0);
  const auto handler = ::signal(SIGXFSZ, SIG_IGN);
  rlimit limited = before;
  limited.rlim_cur = body_.size() + (256U << 10U);
  ASSERT_EQ(::setrlimit(RLIMIT_FSIZE, &limited), 0);
  brings(body_ + std::string(4U << 20U, 'x'));
  const Result<FetchResult> got = fetch();
  ::setrlimit(RLIMIT_FSIZE, &before);
  ::signal(SIGXFSZ, handler);
  ASSERT_TRUE(got) << got.error().sentence();
  expect_file();
  EXPECT_THAT(said(), HasSubstr("what another host has sent is dropped"));
  EXPECT_EQ(server_.requests().back(), "GET /f");
}

TEST_F(SharedFile, IsFetchedAtOnceWhereTheControllerGoes) {
  answer_ = [this](Result<UniqueFd>) { controller_.write_end.reset(); };
  ASSERT_TRUE(fetch());
  expect_file();
  EXPECT_EQ(had_.size(), 1U);
}

TEST_F(SharedFile, IsFetchedWhereWhoAnsweredGoesWithoutAWord) {
  answer_ = [](Result<UniqueFd> step) { EXPECT_TRUE(step.has_value()); };
  ASSERT_TRUE(fetch());
  expect_file();
}

TEST_F(SharedFile, IsGivenWhileItComesAndAfterwards) {
  Pipe asks = *make_pipe(), gives = *make_pipe();
  answer_ = [&](Result<UniqueFd> step) {
    ASSERT_TRUE(step.has_value());
    ASSERT_TRUE(set_nonblocking(asks.read_end.get()) && set_nonblocking(gives.write_end.get()));
    give_shared(*std::move(step), asks.read_end.get(), gives.write_end.get());
    gives.write_end.reset();
  };
  std::string given;
  std::thread reader([&] { given = read_all(gives.read_end.get()).value_or(""); });
  // Before a byte of it is there, and the last first: those who are behind do not wait for it.
  const std::string last = std::to_string(2 * kShareBlock);
  ASSERT_TRUE(write_all(asks.write_end.get(), last + "\n\n0\n"));
  ASSERT_TRUE(fetch());
  expect_file();
  ASSERT_TRUE(::unlink((directory_ / "file.bin").c_str()) == 0);  // what was opened stays
  ASSERT_TRUE(write_all(asks.write_end.get(), std::to_string(body_.size()) + "\n"));
  asks.write_end.reset();
  reader.join();
  const std::string beginning = "0 " + std::to_string(kShareBlock) + "\n" + body_.substr(0, kShareBlock);
  const std::string end = last + " 1000\n" + body_.substr(2 * kShareBlock);
  const std::string nothing = std::to_string(body_.size()) + " 0\n";
  EXPECT_TRUE(given == beginning + end + nothing || given == end + beginning + nothing);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
}

/// give_shared() beside a step that does something, and then goes without a word.
class GivenFile : public testing::Test {
 protected:
  void give(const std::string& asked, const std::function<void(int file)>& step) {
    int sockets[2] = {-1, -1};
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, sockets), 0);
    SharedAnswer answer;
    answer.socket.reset(sockets[0]);
    Pipe asks = *make_pipe();
    ASSERT_TRUE(set_nonblocking(asks.read_end.get()) && set_nonblocking(gives_.write_end.get()));
    ASSERT_TRUE(write_all(asks.write_end.get(), asked));
    std::thread agent([&] {
      give_shared(UniqueFd(sockets[1]), asks.read_end.get(), gives_.write_end.get());
      gives_.write_end.reset();
    });
    char how = 0;
    EXPECT_EQ(::read(answer.socket.get(), &how, 1), 1);
    const UniqueFd file(::open((directory_ / "part").c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
    hand_over(answer, file.get());
    step(file.get());
    answer.socket.reset();
    agent.join();
  }
  std::string given(std::size_t size) {
    std::string bytes(size, '\0');
    for (std::size_t there = 0; there < size;) {
      const ssize_t got = ::read(gives_.read_end.get(), bytes.data() + there, size - there);
      if (got <= 0) return bytes.substr(0, there);
      there += static_cast<std::size_t>(got);
    }
    return bytes;
  }
  TemporaryDirectory directory_;
  Pipe gives_ = *make_pipe();
};

TEST_F(GivenFile, EndsWithoutALastBlockWhereTheStepGivesUp) {
  give("0\n", [](int file) { (void)write_all(file, "half of it"); });
  EXPECT_EQ(given(1), "");
}

TEST_F(GivenFile, ComesToThoseBehindWhileOthersWaitFarAhead) {
  const std::string wanted = "0 " + std::to_string(kShareBlock) + "\n" + std::string(kShareBlock, 'x');
  give(std::to_string(100 * kShareBlock) + "\n0\n", [&](int file) {
    (void)write_all(file, std::string(kShareBlock, 'x'));
    EXPECT_TRUE(given(wanted.size()) == wanted);
  });
}

TEST_F(SharedFile, NothingButWhatAStepWaitsForIsToBeHad) {
  ASSERT_TRUE(make_directories(files_.folder));
  ASSERT_TRUE(write_file_atomically(files_.folder + "/" + digest_.substr(0, 40), body_));
  for (const std::string& asked : {digest_, std::string("../../etc/shadow"), std::string(64, '/'), std::string()}) {
    const Result<UniqueFd> step = connect_to_wanted(files_.folder, asked);
    ASSERT_FALSE(step.has_value()) << asked;
    EXPECT_EQ(step.error().code(), ErrorCode::not_found);
  }
}

TEST_F(SharedFile, ASecondStepThatWantsTheSameDoesNotWait) {
  answer_ = [this](Result<UniqueFd> step) {
    const SharedAnswer second =
        ask_for_shared({files_.folder, controller_.read_end.get(), [](const std::string&, std::uint64_t) { FAIL(); }}, digest_, 0);
    EXPECT_FALSE(second.socket.valid());
    carry(std::move(step), body_);
  };
  ASSERT_TRUE(fetch());
  EXPECT_THAT(server_.requests(), IsEmpty());
}

}  // namespace
}  // namespace gpustrap

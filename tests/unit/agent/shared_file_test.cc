#include "agent/shared_file.h"

#include <signal.h>
#include <sys/resource.h>

#include <functional>
#include <string>
#include <thread>
#include <utility>

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
    files_ = {directory_ / "ahead", controller_.read_end.get(), [this](const std::string& sha256) {
                EXPECT_EQ(sha256, digest_);
                ++wanted_;
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
  static void carry(Result<UniqueFd> step, const std::string& bytes) {
    ASSERT_TRUE(step.has_value());
    Pipe pipe = *make_pipe();
    std::thread writer([&] {
      (void)write_all(pipe.write_end.get(), bytes);
      pipe.write_end.reset();
    });
    take_shared(*std::move(step), pipe.read_end.get());
    pipe.read_end.reset();
    writer.join();
  }
  /// An agent that takes these bytes to the step.
  void brings(std::string bytes) {
    answer_ = [bytes = std::move(bytes)](Result<UniqueFd> step) { carry(std::move(step), bytes); };
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
  int wanted_ = 0;
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
  EXPECT_EQ(wanted_, 1);
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
  const std::string last = std::to_string(2 * kShareBlock);
  ASSERT_TRUE(write_all(asks.write_end.get(), last + "\n\n0\n"));  // before a byte of it is there
  ASSERT_TRUE(fetch());
  expect_file();
  ASSERT_TRUE(::unlink((directory_ / "file.bin").c_str()) == 0);  // what was opened stays
  ASSERT_TRUE(write_all(asks.write_end.get(), std::to_string(body_.size()) + "\n"));
  asks.write_end.reset();
  reader.join();
  EXPECT_TRUE(given ==
              "1000\n" + body_.substr(2 * kShareBlock) + std::to_string(kShareBlock) + "\n" + body_.substr(0, kShareBlock) + "0\n");
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
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
    const SharedAnswer second = ask_for_shared({files_.folder, controller_.read_end.get(), [](const std::string&) { FAIL(); }}, digest_);
    EXPECT_FALSE(second.socket.valid());
    carry(std::move(step), body_);
  };
  ASSERT_TRUE(fetch());
  EXPECT_THAT(server_.requests(), IsEmpty());
}

}  // namespace
}  // namespace gpustrap

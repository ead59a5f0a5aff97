#include "agent/fetch.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <string>
#include <thread>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/http_transfer.h"
#include "agent/shown_url.h"
#include "agent/transfer_child.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"
#include "tests/support/test_server.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;
using testing::ElementsAre;
using testing::HasSubstr;
using testing::Not;
using testing::StartsWith;

/// Bytes in which every position differs from its neighbours', so that a shifted or doubled piece shows.
std::string content_of(std::size_t size, unsigned seed = 1) {
  std::string content(size, '\0');
  unsigned state = seed;
  for (char& byte : content) {
    state = state * 1664525U + 1013904223U;
    byte = static_cast<char>(state >> 24U);
  }
  return content;
}

class FetchTest : public testing::Test {
 protected:
  Result<FetchResult> fetch(const std::vector<std::string>& urls, std::optional<std::string> sha256 = {}) {
    FetchRequest request;
    request.urls = urls;
    request.to = to_;
    request.sha256 = std::move(sha256);
    request.attributes = attributes_;
    return fetch_file(request, options_, log_);
  }
  [[nodiscard]] std::string arrived() const { return read_file(to_).value_or("(nothing)"); }
  [[nodiscard]] std::string said() const { return join(log_.lines, "\n"); }
  [[nodiscard]] bool left_over() const { return path_exists(part_) || path_exists(part_ + ".meta"); }
  void trust_server() {
    options_.ca_file = directory_ / "ca.pem";
    ASSERT_TRUE(write_file_atomically(options_.ca_file, server_.certificate(), 0600));
  }
  /// The stall stays long: a busy machine is not a stalled server.
  static FetchOptions quick() {
    FetchOptions options;
    options.first_pause = milliseconds(1);
    return options;
  }

  TestServer server_;
  TemporaryDirectory directory_;
  std::string to_ = directory_ / "file.bin";
  const std::string part_ = to_ + ".gpustrap-part";
  FetchOptions options_ = quick();
  FileAttributes attributes_;
  RecordingLog log_;
  const std::string body_ = content_of(300'000);
};

TEST_F(FetchTest, BringsTheFileWithItsDigestAndLeavesNothingBeside) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  attributes_.mode = 0750;
  const Result<FetchResult> got = fetch({server_.http("/f")}, sha256_hex(body_));
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_EQ(got->sha256, sha256_hex(body_));
  EXPECT_EQ(got->size, body_.size());
  EXPECT_EQ(got->url, server_.http("/f"));
  EXPECT_FALSE(got->resumed);
  EXPECT_FALSE(left_over());
  struct stat info {};
  ASSERT_EQ(::stat(to_.c_str(), &info), 0);
  EXPECT_EQ(info.st_mode & 07777U, 0750U);
  EXPECT_EQ(info.st_uid, ::geteuid());
  EXPECT_EQ(log_.last_progress, std::pair(std::string("file.bin"), std::pair(std::uint64_t{300'000}, std::uint64_t{300'000})));
}

TEST_F(FetchTest, TakesABodyOfUnknownLengthAndAnEmptyOne) {
  server_.route("/open", {{.body = body_, .content_length = false}});
  server_.route("/empty", {{.body = ""}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/open")}));
  EXPECT_EQ(arrived(), body_);
  const Result<FetchResult> empty = fetch({server_.http("/empty")}, sha256_hex(""));
  ASSERT_TRUE(empty) << empty.error().sentence();
  EXPECT_EQ(arrived(), "");
}

TEST_F(FetchTest, GoesOnWhereTheTransferWasCut) {
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_TRUE(got->resumed);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", "GET /f bytes=100000- \"v1\""));
  EXPECT_THAT(said(), HasSubstr("again in"));
}

TEST_F(FetchTest, GoesOnInALaterCall) {
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  options_.attempts = 1;
  const Result<FetchResult> first = fetch({server_.http("/f")});
  ASSERT_FALSE(first);
  EXPECT_EQ(first.error().code(), ErrorCode::network);
  EXPECT_FALSE(path_exists(to_));
  EXPECT_TRUE(path_exists(part_));
  const Result<FetchResult> second = fetch({server_.http("/f")});
  ASSERT_TRUE(second) << second.error().sentence();
  EXPECT_TRUE(second->resumed);
  EXPECT_EQ(arrived(), body_);
  EXPECT_FALSE(left_over());
}

TEST_F(FetchTest, StartsAgainWhereTheFileHasChangedMeanwhile) {
  const std::string newer = content_of(280'000, 7);
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, {.body = newer, .etag = "\"v2\""}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), newer);
  EXPECT_EQ(got->sha256, sha256_hex(newer));
}

// Without a digest nobody would notice.
TEST_F(FetchTest, TwoVersionsAreNeverPutTogether) {
  const std::string newer = content_of(300'000, 7), shorter = content_of(280'000, 7), date = "Wed, 01 Jul 2026 10:00:00 GMT";
  const Answer cut{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, dated{.body = body_, .modified = date, .cut_after = 100'000};
  server_.route("/etag", {cut, {.body = newer, .etag = "\"v2\"", .if_range = false}});
  server_.route("/none", {cut, {.body = newer, .if_range = false}});
  server_.route("/date", {dated, {.body = newer, .modified = "Thu, 02 Jul 2026 10:00:00 GMT", .if_range = false}});
  server_.route("/size", {dated, {.body = shorter, .modified = date}});
  server_.start();
  for (const char* path : {"/etag", "/none", "/date", "/size"}) {
    const Result<FetchResult> got = fetch({server_.http(path)});
    ASSERT_TRUE(got) << path << got.error().sentence();
    EXPECT_EQ(got->sha256, sha256_hex(path == std::string("/size") ? shorter : newer)) << path;
    EXPECT_FALSE(got->resumed) << path;
  }
}

TEST_F(FetchTest, ARangeNeedNotRepeatTheDate) {
  const std::string date = "Wed, 01 Jul 2026 10:00:00 GMT";
  server_.route("/f", {{.body = body_, .modified = date, .cut_after = 100'000}, {.body = body_, .if_range = false}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/f")}));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", "GET /f bytes=100000- " + date));
}

TEST_F(FetchTest, ARangeOfAFileOfUnknownSizeIsNotItsEnd) {
  const Answer piece{.body = body_.substr(0, 150'000), .etag = "\"v1\"", .content_range = "bytes 100000-149999/*"};
  server_.route("/known", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, piece, {.body = body_, .etag = "\"v1\""}});
  server_.route("/unknown", {piece, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/known")}));
  EXPECT_EQ(arrived(), body_);
  ASSERT_TRUE(write_file_atomically(part_, body_.substr(0, 100'000)));
  ASSERT_TRUE(write_file_atomically(part_ + ".meta",
                                    R"({"url_sha256":")" + sha256_hex(server_.http("/unknown")) + R"(","validator":"\"v1\"","total":0})"));
  ASSERT_TRUE(fetch({server_.http("/unknown")}));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /known", "GET /known bytes=100000- \"v1\"", "GET /known bytes=150000- \"v1\"",
                                              "GET /unknown bytes=100000- \"v1\"", "GET /unknown"));
}

TEST_F(FetchTest, DoesNotResumeOnAWeakETagOrWithoutAny) {
  server_.route("/weak", {{.body = body_, .etag = "W/\"v1\"", .cut_after = 100'000}, {.body = body_, .etag = "W/\"v1\""}});
  server_.route("/none", {{.body = body_, .cut_after = 100'000}, {.body = body_}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/weak")}));
  EXPECT_EQ(arrived(), body_);
  ASSERT_TRUE(fetch({server_.http("/none")}));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /weak", "GET /weak", "GET /none", "GET /none"));
}

TEST_F(FetchTest, ResumesByDateWhereThereIsNoETag) {
  const std::string date = "Wed, 01 Jul 2026 10:00:00 GMT";
  server_.route("/f", {{.body = body_, .modified = date, .cut_after = 1000}, {.body = body_, .modified = date}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/f")}));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", "GET /f bytes=1000- " + date));
}

TEST_F(FetchTest, RestartsOnAServerThatKnowsNoRanges) {
  server_.route(
      "/f", {{.body = body_, .etag = "\"v1\"", .ranges = false, .cut_after = 100'000}, {.body = body_, .etag = "\"v1\"", .ranges = false}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/f")}, sha256_hex(body_)));
  EXPECT_EQ(arrived(), body_);
}

TEST_F(FetchTest, RestartsOnAWrongContentRange) {
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000},
                       {.body = body_, .etag = "\"v1\"", .content_range = "bytes 0-299999/300000"},
                       {.body = body_, .etag = "\"v1\""}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", "GET /f bytes=100000- \"v1\"", "GET /f"));
}

TEST_F(FetchTest, APieceIsNotTakenForTheWholeFile) {
  // An answer that is complete as such, of a range shorter than what was asked for.
  const Answer piece{.body = body_.substr(0, 150'000), .etag = "\"v1\"", .content_range = "bytes 100000-149999/300000"};
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .cut_after = 100'000}, piece, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f", "GET /f bytes=100000- \"v1\"", "GET /f bytes=150000- \"v1\""));
}

TEST_F(FetchTest, RestartsWhereThePartIsLongerThanTheFile) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  ASSERT_TRUE(write_file_atomically(part_, content_of(400'000, 3)));
  ASSERT_TRUE(fetch({server_.http("/f")}, sha256_hex(body_)));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f bytes=400000-", "GET /f"));
}

TEST_F(FetchTest, FetchesAllOfItOnceMoreWhenThePiecesDoNotFit) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  ASSERT_TRUE(write_file_atomically(part_, content_of(100'000, 3)));  // of another version
  const Result<FetchResult> got = fetch({server_.http("/f")}, sha256_hex(body_));
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_FALSE(got->resumed);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f bytes=100000-", "GET /f"));
  EXPECT_THAT(said(), HasSubstr("do not fit together"));
}

TEST_F(FetchTest, ACompletePartNeedsNoServer) {
  server_.start();
  ASSERT_TRUE(write_file_atomically(part_, body_));
  ASSERT_TRUE(write_file_atomically(part_ + ".meta", R"({"url_sha256":"","validator":"","total":300000})"));
  const Result<FetchResult> got = fetch({server_.http("/f")}, sha256_hex(body_));
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre());
}

TEST_F(FetchTest, GivesUpAStalledTransferAndGoesOn) {
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .stall_after = 50'000}, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  options_.stall = milliseconds(400);
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(said(), HasSubstr("no byte came for"));
}

TEST_F(FetchTest, AStallThatStaysIsATimeout) {
  server_.route("/f", {{.body = body_, .stall_after = 50'000}});
  server_.start();
  options_.attempts = 2;
  options_.stall = milliseconds(150);
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::timeout);
  EXPECT_THAT(got.error().sentence(), HasSubstr("tried 2 times"));
}

// Time is what this one is about.
TEST_F(FetchTest, WhatFailsWhileTheProcessIsStoppedIsNoFailedAttempt) {
  server_.route("/f", {{.body = body_, .etag = "\"v1\"", .stall_after = 100'000}, {.body = body_, .etag = "\"v1\""}});
  server_.start();
  options_.attempts = 1;
  options_.stall = milliseconds(2000);
  const pid_t child = ::fork();
  if (child == 0) {
    ::setpgid(0, 0);
    ::_exit(fetch({server_.http("/f")}) ? 0 : 1);
  }
  ::setpgid(child, child);
  const auto came = [&] {
    struct stat info {};
    return ::stat(part_.c_str(), &info) == 0 && info.st_size == 100'000;
  };
  while (!came()) std::this_thread::sleep_for(milliseconds(1));
  ::kill(-child, SIGSTOP);
  std::this_thread::sleep_for(milliseconds(1200));
  ::kill(-child, SIGCONT);
  int status = 0;
  ASSERT_EQ(::waitpid(child, &status, 0), child);
  EXPECT_EQ(status, 0);
  EXPECT_EQ(arrived(), body_);
}

TEST_F(FetchTest, RepeatsAfterAServerErrorButNotAfter404) {
  server_.route("/busy", {{.status = 500}, {.status = 503}, {.body = body_}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/busy")}));
  EXPECT_EQ(arrived(), body_);
  const Result<FetchResult> missing = fetch({server_.http("/missing")});
  ASSERT_FALSE(missing);
  EXPECT_EQ(missing.error().code(), ErrorCode::not_found);
  EXPECT_THAT(missing.error().sentence(), HasSubstr(server_.http("/missing") + ": the server answered 404"));
  EXPECT_THAT(missing.error().hint(), Not(testing::IsEmpty()));
  EXPECT_EQ(server_.requests().size(), 4U);
  EXPECT_FALSE(left_over());
}

TEST_F(FetchTest, NeverTakesAnErrorPageForTheFile) {
  server_.route("/f", {{.status = 403, .body = body_}});
  server_.start();
  EXPECT_EQ(fetch({server_.http("/f")}).error().code(), ErrorCode::permission);
  EXPECT_FALSE(path_exists(to_));
}

TEST_F(FetchTest, TriesMirrorsInTheirOrder) {
  server_.route("/bad", {{.body = content_of(5000, 9)}});
  server_.route("/good", {{.body = body_}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/missing"), server_.http("/bad"), server_.http("/good")}, sha256_hex(body_));
  ASSERT_TRUE(got) << got.error().sentence();
  EXPECT_EQ(got->url, server_.http("/good"));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(server_.requests(), ElementsAre("GET /missing", "GET /bad", "GET /good"));
  EXPECT_THAT(said(), HasSubstr("trying the next mirror"));
}

TEST_F(FetchTest, AMirrorGoesOnWhereTheFirstWasCutIfADigestWillTell) {
  server_.route("/a", {{.body = body_, .cut_after = 120'000}});
  server_.route("/b", {{.body = body_}});
  server_.start();
  options_.attempts = 1;
  ASSERT_TRUE(fetch({server_.http("/a"), server_.http("/b")}, sha256_hex(body_)));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /a", "GET /b bytes=120000-"));
  EXPECT_EQ(arrived(), body_);
}

TEST_F(FetchTest, NamesBothDigestsAndRemovesWhatCame) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  ASSERT_TRUE(write_file_atomically(to_, "old"));
  const std::string wanted(64, 'a');
  const Result<FetchResult> got = fetch({server_.http("/f")}, wanted);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::digest);
  EXPECT_THAT(got.error().sentence(), HasSubstr(wanted));
  EXPECT_THAT(got.error().sentence(), HasSubstr(sha256_hex(body_)));
  EXPECT_EQ(arrived(), "old");
  EXPECT_FALSE(left_over());
}

TEST_F(FetchTest, FollowsRedirectsAtMostTenTimes) {
  for (int i = 0; i < 12; ++i) server_.route("/r" + std::to_string(i), {{.status = 302, .location = "/r" + std::to_string(i + 1)}});
  server_.route("/r12", {{.body = body_}});
  server_.start();
  ASSERT_TRUE(fetch({server_.http("/r2")}));
  EXPECT_EQ(arrived(), body_);
  const Result<FetchResult> endless = fetch({server_.http("/r1")});
  ASSERT_FALSE(endless);
  EXPECT_THAT(endless.error().sentence(), HasSubstr("more than 10 redirects"));
}

TEST_F(FetchTest, RefusesARedirectThatDropsEncryption) {
  server_.route("/f", {{.status = 301, .location = server_.http("/plain")}});
  server_.route("/plain", {{.body = body_}});
  server_.start();
  trust_server();
  const Result<FetchResult> got = fetch({server_.https("/f")}, sha256_hex(body_));
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::unsafe);
  EXPECT_THAT(got.error().sentence(), HasSubstr(server_.https("/f")));
  EXPECT_THAT(got.error().sentence(), HasSubstr(server_.http("/plain")));
  EXPECT_THAT(server_.requests(), ElementsAre("GET /f"));
}

TEST_F(FetchTest, RefusesOtherSchemes) {
  server_.route("/f", {{.status = 302, .location = "file:///etc/passwd"}});
  server_.start();
  EXPECT_EQ(fetch({server_.http("/f")}).error().code(), ErrorCode::unsafe);
  EXPECT_EQ(fetch({"ftp://127.0.0.1/f"}).error().code(), ErrorCode::unsafe);
  EXPECT_FALSE(path_exists(to_));
}

TEST_F(FetchTest, TakesHttpsFromATrustedServerOnly) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  trust_server();
  const Result<FetchResult> trusted = fetch({server_.https("/f")});
  ASSERT_TRUE(trusted) << trusted.error().sentence();
  EXPECT_EQ(arrived(), body_);
  TestServer stranger;
  options_.ca_file = directory_ / "other.pem";
  ASSERT_TRUE(write_file_atomically(options_.ca_file, stranger.certificate()));
  const Result<FetchResult> refused = fetch({server_.https("/f")});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::tls);
  EXPECT_THAT(refused.error().hint(), HasSubstr("clock"));
}

TEST_F(FetchTest, AnUnreadableBundleIsSaidBeforeConnecting) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  options_.ca_file = directory_ / "absent.pem";
  const Result<FetchResult> got = fetch({server_.https("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::tls);
  EXPECT_THAT(got.error().sentence(), HasSubstr("absent.pem"));
  EXPECT_THAT(server_.requests(), ElementsAre());
  EXPECT_TRUE(fetch({server_.http("/f")})) << "plain http needs no bundle";
}

TEST_F(FetchTest, KeepsCredentialsToTheHostTheyAreFor) {
  TestServer other;
  other.route("/f", {{.body = body_}});
  other.start();
  server_.route("/here", {{.status = 302, .location = "/there"}});
  server_.route("/there", {{.status = 302, .location = other.http("/f")}});
  server_.start();
  const std::string url = "http://me:hush@" + server_.http("/here").substr(7);
  ASSERT_TRUE(fetch({url}));
  EXPECT_THAT(server_.requests(), ElementsAre(StartsWith("GET /here Basic"), StartsWith("GET /there Basic")));
  EXPECT_THAT(other.requests(), ElementsAre("GET /f"));
}

TEST_F(FetchTest, NoMessageAndNoFileHoldsAPassword) {
  server_.route("/f?token=hush", {{.body = body_, .etag = "\"v1\"", .cut_after = 1000}});
  server_.start();
  options_.attempts = 2;
  const Result<FetchResult> got = fetch({"http://me:hush@" + server_.http("/f?token=hush").substr(7)});
  ASSERT_FALSE(got);
  EXPECT_THAT(got.error().sentence() + said(), Not(HasSubstr("hush")));
  EXPECT_THAT(read_file(part_ + ".meta").value_or(""), Not(HasSubstr("hush")));
}

TEST_F(FetchTest, NamesTheFreeBytesWhereTheFileCannotFit) {
  server_.route("/f", {{.body = body_, .claimed_length = std::uint64_t{1} << 60U}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::no_space);
  EXPECT_THAT(got.error().sentence(), HasSubstr(" free in " + directory_.path()));
  EXPECT_FALSE(left_over());
}

TEST_F(FetchTest, NeverWritesThroughALinkThatStandsInTheWay) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  const std::string precious = directory_ / "precious";
  ASSERT_TRUE(write_file_atomically(precious, "keep me"));
  ASSERT_EQ(::symlink(precious.c_str(), part_.c_str()), 0);
  ASSERT_TRUE(fetch({server_.http("/f")}));
  EXPECT_EQ(read_file(precious).value_or(""), "keep me");
  ASSERT_EQ(::unlink(to_.c_str()), 0);
  ASSERT_EQ(::link(precious.c_str(), part_.c_str()), 0);
  ASSERT_TRUE(fetch({server_.http("/f")}));
  EXPECT_EQ(read_file(precious).value_or(""), "keep me");
  EXPECT_EQ(arrived(), body_);
}

TEST_F(FetchTest, APartOfSomebodyElsesProgramStays) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  ASSERT_TRUE(write_file_atomically(to_ + ".part", "half of my own download"));
  ASSERT_TRUE(fetch({server_.http("/f")}, sha256_hex(body_)));
  EXPECT_EQ(read_file(to_ + ".part").value_or(""), "half of my own download");
}

TEST_F(FetchTest, RootIsNotLedElsewhereByAUsersLink) {
  if (::geteuid() != 0) GTEST_SKIP() << "only root can be led";
  server_.route("/f", {{.body = body_}});
  server_.start();
  const std::string home = directory_ / "home", elsewhere = directory_ / "elsewhere";
  for (const std::string& folder : {home, elsewhere}) ASSERT_EQ(::mkdir(folder.c_str(), 0755), 0);
  ASSERT_EQ(::symlink(elsewhere.c_str(), (home + "/downloads").c_str()), 0);
  ASSERT_EQ(::lchown((home + "/downloads").c_str(), 65534, 65534), 0);
  ASSERT_EQ(::chown(home.c_str(), 65534, 65534), 0);
  to_ = home + "/downloads/file.bin";
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::unsafe);
  EXPECT_FALSE(path_exists(elsewhere + "/file.bin"));
}

TEST_F(FetchTest, NeedsAnAddressThatIsOne) {
  server_.start();
  const Result<FetchResult> none = fetch({});
  ASSERT_FALSE(none);
  EXPECT_EQ(none.error().code(), ErrorCode::recipe);
  EXPECT_EQ(none.error().why(), "no address to fetch from");
  EXPECT_EQ(none.error().hint(), "give `url`");
  const Result<FetchResult> broken = fetch({"http://127.0.0.1:99999/f"});
  ASSERT_FALSE(broken);
  EXPECT_EQ(broken.error().code(), ErrorCode::recipe);
  EXPECT_THAT(broken.error().why(), HasSubstr("http://127.0.0.1:99999/f is not a URL: "));
  EXPECT_EQ(broken.error().hint(), "write it as https://host/path");
}

TEST_F(FetchTest, TwoDoNotWriteTheSameFile) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  const UniqueFd other(::open(part_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600));
  ASSERT_EQ(::flock(other.get(), LOCK_EX | LOCK_NB), 0);
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::busy);
  EXPECT_EQ(got.error().why(), part_ + " is being written by another process");
  EXPECT_EQ(got.error().hint(), "wait for the other run to end");
}

TEST_F(FetchTest, AFolderInPlaceOfTheFileIsKept) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  std::filesystem::create_directories(to_ + "/mine");
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::io);
  EXPECT_EQ(got.error().why(), to_ + " is a directory");
  EXPECT_EQ(got.error().hint(), "give a file name, or remove the directory");
  EXPECT_TRUE(path_exists(to_ + "/mine"));
}

TEST_F(FetchTest, AFileWithASecondNameIsNotTakenOver) {
  const std::string from = directory_ / "ahead.bin";
  ASSERT_TRUE(write_file_atomically(from, body_));
  ASSERT_EQ(::link(from.c_str(), (directory_ / "second").c_str()), 0);
  FetchRequest request;
  request.urls = {"http://127.0.0.1/f"};
  request.to = to_;
  const Result<FetchResult> got = adopt_file(from, request, log_);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(got.error().why(), from + " is not a file of this user's own");
  EXPECT_FALSE(path_exists(to_));
}

TEST_F(FetchTest, ABundleThatHoldsNoCertificateIsSaid) {
  server_.route("/f", {{.body = body_}});
  server_.start();
  options_.ca_file = directory_ / "ca.pem";
  ASSERT_TRUE(write_file_atomically(options_.ca_file, "-----BEGIN CERTIFICATE-----\nhalf a bundle\n"));
  const Result<FetchResult> got = fetch({server_.https("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::tls);
  EXPECT_THAT(got.error().why(), StartsWith("the CA bundle cannot be used: "));
  EXPECT_EQ(got.error().hint(), "reinstall the package ca-certificates");
}

TEST_F(FetchTest, AServerThatSendsAPartUnaskedIsGivenUp) {
  server_.route("/f", {{.status = 206, .body = "half", .content_range = "bytes 4-7/8"}});
  server_.start();
  const Result<FetchResult> got = fetch({server_.http("/f")});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::network);
  EXPECT_EQ(got.error().why(), "the server sent a part of the file although all of it was asked for");
  EXPECT_EQ(got.error().hint(), "name a mirror");
  EXPECT_FALSE(path_exists(to_));
}

TEST_F(FetchTest, AProxyThatWantsALoginIsNamed) {
  server_.start();
  TestServer proxy;
  proxy.route("/f", {{.status = 407}});
  proxy.start();
  options_.proxy = {{"http_proxy", proxy.http("")}};
  const Result<FetchResult> got = fetch({"http://no-such-host.invalid/f"});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::permission);
  EXPECT_EQ(got.error().why(), "the server answered 407: the proxy wants a login");
  EXPECT_THAT(got.error().hint(), HasSubstr("http://user:password@proxy:port"));
}

TEST_F(FetchTest, WhatFailsOnTheWaySaysWhereToLook) {
  server_.route("/teapot", {{.status = 418}});
  server_.start();
  options_.attempts = 1;
  EXPECT_EQ(fetch({server_.http("/teapot")}).error().why(), "the server answered 418");
  EXPECT_EQ(fetch({server_.http("/teapot")}).error().hint(), "check the address in a browser");
  const Result<FetchResult> refused = fetch({"http://127.0.0.1:1/f"});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().code(), ErrorCode::unreachable);
  EXPECT_THAT(refused.error().hint(), HasSubstr("check that the host may connect there"));
  options_.proxy = {{"http_proxy", "http://no-such-proxy.invalid:3128"}};
  const Result<FetchResult> no_proxy = fetch({server_.http("/f")});
  ASSERT_FALSE(no_proxy);
  EXPECT_EQ(no_proxy.error().code(), ErrorCode::unreachable);
  EXPECT_THAT(no_proxy.error().hint(), HasSubstr("check --proxy"));
  options_.proxy = {{"http_proxy", "https://127.0.0.1:1"}};  // speaks no TLS, or nothing at all
  EXPECT_FALSE(fetch({server_.http("/f")}));
}

TEST_F(FetchTest, AServerThatSpeaksNoHttpIsAFailureOfTheNetwork) {
  server_.start();
  options_.attempts = 1;
  std::string url = server_.https("/f");
  const Result<FetchResult> got = fetch({url.replace(0, 8, "http://")});  // where TLS is awaited
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::network);
  EXPECT_THAT(got.error().hint(), HasSubstr("a mirror may be nearer"));
}

std::vector<pid_t> children_of_this_process() {
  std::vector<pid_t> children;
  for (const auto& task : std::filesystem::directory_iterator("/proc/self/task")) {
    std::ifstream file(task.path() / "children");
    for (pid_t child = 0; file >> child;) children.push_back(child);
  }
  return children;
}

/// Ends the transfer's process as soon as something has come.
class Killing : public TransferSink {
 public:
  Result<void> begin(const BodyStart&) override {
    for (const pid_t child : children_of_this_process())
      if (std::find(before_.begin(), before_.end(), child) == before_.end()) ::kill(child, SIGKILL);
    return {};
  }
  Result<void> add(std::string_view) override { return {}; }
  void say(std::string_view) override {}

 private:
  std::vector<pid_t> before_ = children_of_this_process();
};

TEST_F(FetchTest, ATransferWhoseProcessDiesSaysSo) {
  server_.route("/f", {{.body = body_, .stall_after = 1000}});
  server_.start();
  Killing sink;
  TransferRequest request;
  request.url = server_.http("/f");
  const Result<void> got = transfer_in_child(request, options_, std::string(), sink);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::network);
  EXPECT_EQ(got.error().why(), "the transfer process ended by signal 9 before the file was complete");
  EXPECT_THAT(got.error().hint(), HasSubstr("name a mirror and report the address"));
}

TEST(HttpAsk, NamesTheAddressThatDoesNotAnswer) {
  HttpQuestion question;
  question.url = "http://127.0.0.1:1/latest/meta-data";
  const Result<HttpAnswer> got = http_ask(question);
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::network);
  EXPECT_THAT(got.error().why(), StartsWith("http://127.0.0.1:1/latest/meta-data: "));
}

TEST_F(FetchTest, GoesThroughTheLoginsProxy) {
  TestServer proxy;
  proxy.route("/f", {{.body = body_}});
  proxy.start();
  options_.proxy = {{"HTTP_PROXY", proxy.http("")}};
  ASSERT_TRUE(fetch({"http://no-such-host.invalid/f"}));
  EXPECT_EQ(arrived(), body_);
  EXPECT_THAT(proxy.requests(), ElementsAre("GET /f"));
  server_.route("/g", {{.body = "direct"}});
  server_.start();
  options_.proxy.emplace_back("no_proxy", "127.0.0.1");
  ASSERT_TRUE(fetch({server_.http("/g")}));
  EXPECT_EQ(arrived(), "direct");
}

TEST_F(FetchTest, ANameThatDoesNotExistEndsSoonAndSaysWhatToCheck) {
  server_.start();
  options_.attempts = 1;
  const Result<FetchResult> got = fetch({"http://no-such-host.invalid/f"});
  ASSERT_FALSE(got);
  EXPECT_EQ(got.error().code(), ErrorCode::unreachable);
  EXPECT_THAT(got.error().hint(), HasSubstr("resolv.conf"));
}

TEST(ShownUrl, HidesWhereSecretsLive) {
  EXPECT_EQ(shown_url("https://me:pw@h.example:8/a@b/c?sig=1#x"), "https://h.example:8/a@b/c?…");
  EXPECT_EQ(shown_url("https://h.example/c#x"), "https://h.example/c");
}

TEST(FileNameOfUrl, IsANameOrNothing) {
  EXPECT_EQ(file_name_of_url("https://h/a/d2l-en%201.0.zip?x=/y"), "d2l-en 1.0.zip");
  for (const char* url :
       {"https://h", "https://h/", "https://h/a/..", "https://h/%2e%2e", "https://h/a%2fb", "https://h/a%00b", "https://h/a%0ab"}) {
    EXPECT_EQ(file_name_of_url(url), "") << url;
  }
}

TEST(CaBundle, IsTheNamedOneFirst) {
  const char* before = std::getenv("SSL_CERT_FILE");
  const std::string kept = before == nullptr ? "" : before;
  ::setenv("SSL_CERT_FILE", "/somewhere/ca.pem", 1);
  EXPECT_EQ(find_ca_bundle().value_or(""), "/somewhere/ca.pem");
  if (before == nullptr)
    ::unsetenv("SSL_CERT_FILE");
  else
    ::setenv("SSL_CERT_FILE", kept.c_str(), 1);
}

}  // namespace
}  // namespace gpustrap

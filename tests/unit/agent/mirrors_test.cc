#include "agent/mirrors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "tests/support/fake_host.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::Contains;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using ::testing::Not;
using ::testing::Pair;

Network through(const std::string& proxy, std::vector<std::string> no_proxy = {}) {
  Network network;
  network.proxy = proxy;
  network.no_proxy = std::move(no_proxy);
  return network;
}

TEST(Proxies, LoopbackNeverGoesThroughOne) {
  EXPECT_THAT(proxies_for({}, {}), IsEmpty());
  EXPECT_THAT(proxies_for({{"no_proxy", "gpu1"}}, {}), IsEmpty()) << "without a proxy nothing goes round it";
  EXPECT_THAT(proxies_for({{"https_proxy", "http://of-login:1"}, {"no_proxy", "gpu1, lab"}}, {}),
              ElementsAre(Pair("https_proxy", "http://of-login:1"), Pair("no_proxy", "gpu1, lab,localhost,127.0.0.1,::1")));
}

TEST(Proxies, WhatTheRunWasToldTakesThePlaceOfTheLogins) {
  EXPECT_THAT(proxies_for({{"http_proxy", "http://of-login:1"}, {"all_proxy", "socks5://x:1"}, {"no_proxy", "gpu1"}},
                          through("http://told:3128", {".example.org"})),
              ElementsAre(Pair("http_proxy", "http://told:3128"), Pair("https_proxy", "http://told:3128"),
                          Pair("no_proxy", "gpu1,.example.org,localhost,127.0.0.1,::1")));
}

TEST(Mirrors, LeadPipUvAndCondaByTheirVariables) {
  Mirror mirror;
  EXPECT_THAT(mirror_environment(mirror), IsEmpty());
  mirror.places = {{"apt", "", "https://mirror.example.org"},
                   {"pypi", "", "https://mirror.example.org/simple"},
                   {"conda", "", "https://mirror.example.org/cloud"},
                   {"conda_defaults", "", "https://mirror.example.org/main"},
                   {"conda_defaults", "", "https://mirror.example.org/r"}};
  EXPECT_THAT(
      mirror_environment(mirror),
      ElementsAre(Pair("PIP_INDEX_URL", "https://mirror.example.org/simple"), Pair("UV_DEFAULT_INDEX", "https://mirror.example.org/simple"),
                  Pair("UV_INDEX_URL", "https://mirror.example.org/simple"),
                  Pair("CONDA_CHANNEL_ALIAS", "https://mirror.example.org/cloud"),
                  Pair("CONDA_DEFAULT_CHANNELS", "https://mirror.example.org/main,https://mirror.example.org/r")));
}

/// Answers with what each address was prepared to, and remembers who was asked.
struct Asked {
  std::vector<std::string> urls;
  std::vector<Patience> patience;
  std::optional<Error> mirror_fails;

  Result<FetchResult> fetch(std::vector<std::string> wanted, const Mirror& mirror) {
    FetchRequest request;
    request.urls = std::move(wanted);
    request.to = "/x";
    request.sha256 = "d1";
    return fetch_by_mirror(request, mirror, log, [&](const FetchRequest& one, Patience how) -> Result<FetchResult> {
      EXPECT_EQ(one.sha256, "d1") << "whoever is asked";
      urls.insert(urls.end(), one.urls.begin(), one.urls.end());
      patience.push_back(how);
      if (mirror_fails && how == Patience::short_one) return fail(*mirror_fails);
      return FetchResult{"d1", 1, one.urls.front(), false};
    });
  }
  RecordingLog log;
};

Mirror files() {
  Mirror mirror;
  mirror.name = "uni";
  mirror.places = {{"downloads", "", "https://mirror.example.org/files"}};
  return mirror;
}

TEST(Mirrors, AreAskedFirst) {
  Asked asked;
  ASSERT_TRUE(asked.fetch({"https://example.com/a.zip", "http://other.example.com/a.zip"}, files()).has_value());
  EXPECT_THAT(asked.urls, ElementsAre("https://mirror.example.org/files/example.com/a.zip",
                                      "https://mirror.example.org/files/other.example.com/a.zip"));
  EXPECT_THAT(asked.log.lines, ElementsAre("asking the mirror uni: https://mirror.example.org/files/example.com/a.zip"));
}

TEST(Mirrors, ThatFailAreLeftWithTheirReason) {
  for (const ErrorCode code : {ErrorCode::unreachable, ErrorCode::not_found, ErrorCode::digest}) {
    Asked asked;
    asked.mirror_fails = Error(code, "no luck");
    ASSERT_TRUE(asked.fetch({"https://example.com/a.zip"}, files()).has_value());
    EXPECT_THAT(asked.urls, ElementsAre("https://mirror.example.org/files/example.com/a.zip", "https://example.com/a.zip"));
    EXPECT_THAT(asked.patience, ElementsAre(Patience::short_one, Patience::full));
    EXPECT_EQ(asked.log.lines.back(), "the mirror uni does not have it: no luck; taking https://example.com/a.zip");
  }
  Asked full;
  full.mirror_fails = Error(ErrorCode::no_space, "the disk is full");
  EXPECT_FALSE(full.fetch({"https://example.com/a.zip"}, files()).has_value()) << "as full for another";
}

TEST(Mirrors, HaveNoPlaceForLoopbackAndThemselves) {
  for (const char* url : {"http://127.0.0.1:8000/a", "http://localhost/a", "https://mirror.example.org/files/a"}) {
    Asked asked;
    ASSERT_TRUE(asked.fetch({url}, files()).has_value());
    EXPECT_THAT(asked.urls, ElementsAre(url));
    EXPECT_THAT(asked.log.lines, IsEmpty());
  }
}

TEST(Mirrors, ByPrefixHaveAPlaceForThoseAlone) {
  Mirror mirror;
  mirror.name = "uni";
  mirror.places = {{"downloads", "https://example.com/big", "https://mirror.example.org/big"}};
  Asked asked;
  ASSERT_TRUE(asked.fetch({"https://example.com/small/a"}, mirror).has_value());
  ASSERT_TRUE(asked.fetch({"https://example.com/big/a"}, mirror).has_value());
  EXPECT_THAT(asked.urls, ElementsAre("https://example.com/small/a", "https://mirror.example.org/big/a"));
}

TEST(Mirrors, AndProxiesAreNamedInErrors) {
  FakeHost host;
  host.edit_mirror().name = "uni";
  host.edit_login().proxy = {{"no_proxy", "x"}, {"https_proxy", "http://ann:hunter2@proxy.example.org:3128"}};
  const Error told =
      by_way_of(host, Error(ErrorCode::network, "no answer", "try again").in("fetching").in("applying"), "https://mirror.example.org");
  EXPECT_EQ(told.sentence(), "applying: fetching: no answer");
  EXPECT_EQ(told.code(), ErrorCode::network);
  EXPECT_THAT(told.hint(), AllOf(HasSubstr("the mirror uni (https://mirror.example.org)"), HasSubstr("--mirror none"),
                                 HasSubstr("the proxy http://proxy.example.org:3128"), HasSubstr("try again"), Not(HasSubstr("hunter2"))));
  EXPECT_EQ(by_way_of(host, Error(ErrorCode::not_found, "404", "look"), "").hint(), "look") << "that is no fault of the way";
}

}  // namespace
}  // namespace gpustrap

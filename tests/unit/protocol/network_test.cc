#include "agent/protocol/network.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"
#include "agent/protocol/members.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

std::optional<Error> read(const Json& network, Network& out) {
  const Json document = {{"network", network}};
  Members members(document, "a request");
  read_network(members, out);
  return members.error();
}

TEST(NetworkOnTheWire, ComesBackAsItWasWritten) {
  const char* all = R"({"proxy":"http://10.0.0.1:3128","no_proxy":["gpu1",".example.org"],"mirror":"uni",)"
                    R"("places":["apt https://mirror.example.org/","downloads https://example.com/big https://mirror.example.org/big"]})";
  for (const std::string text : {R"({"proxy":"http://[::1]:3128"})", all}) {
    Network network;
    const auto error = read(Json::parse(text), network);
    ASSERT_FALSE(error) << error->sentence();
    Json document = Json::object();
    write_network(network, document);
    EXPECT_EQ(document["network"].dump(), text);
  }
  Json nothing = Json::object();
  write_network({}, nothing);
  EXPECT_EQ(nothing.dump(), "{}");
}

TEST(NetworkOnTheWire, APeerIsNotBelieved) {
  for (const char* text : {R"(7)", R"([])", R"({"proxy":7})", R"({"no_proxy":[7]})", R"({"places":["apt https://x"]})",
                           R"({"mirror":"../x","places":["apt https://x"]})", R"({"mirror":"x","places":["apt"]})",
                           R"({"mirror":"x","places":["a b c https://x"]})", R"({"mirror":"x","places":["apt file:///etc"]})",
                           R"({"mirror":"x","places":["apt https://x\u001b"]})"}) {
    Network network;
    const auto error = read(Json::parse(text), network);
    ASSERT_TRUE(error) << text;
    EXPECT_EQ(error->code(), ErrorCode::protocol) << text;
  }
  Network network;
  EXPECT_FALSE(read(Json{{"newer", 1}}, network)) << "a newer peer may say more";
}

TEST(Mirror, PrefixesEndWhereFoldersDo) {
  Mirror mirror;
  mirror.places = {{"downloads", "https://example.com/files/", "https://mirror.example.org/f/"},
                   {"downloads", "https://example.com", "https://mirror.example.org/c"},
                   {"downloads", "", "https://mirror.example.org/all"}};
  const auto there = [&](const char* url) { return mirror.by_prefix("downloads", url); };
  EXPECT_EQ(there("https://example.com/files/a.zip"), "https://mirror.example.org/f/a.zip");
  EXPECT_EQ(there("https://example.com/files"), "https://mirror.example.org/f");
  EXPECT_EQ(there("https://example.com/other?x"), "https://mirror.example.org/c/other?x");
  EXPECT_EQ(there("https://example.community/a"), std::nullopt);
  EXPECT_EQ(mirror.by_prefix("apt", "https://example.com/other"), std::nullopt);
  EXPECT_EQ(mirror.place("downloads"), "https://mirror.example.org/all");
  EXPECT_EQ(mirror.any("downloads"), "https://mirror.example.org/f/");
  mirror.forget("downloads");
  EXPECT_EQ(mirror.any("downloads"), "");
}

}  // namespace
}  // namespace gpustrap

#include "controller/notebook.h"

#include <gtest/gtest.h>

#include <string>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

TEST(Notebook, TakesATokenThatIsOne) {
  const Result<NotebookToken> read = read_token({{"token", "0123456789abcdef"}, {"port", 8888U}, {"service", "gpustrap-jupyter"}});
  ASSERT_TRUE(read.has_value()) << read.error().sentence();
  EXPECT_EQ(notebook_at(8889, read->token).url, "http://localhost:8889/lab?token=0123456789abcdef");
}

TEST(Notebook, OneThatIsOpenToTheNetworkIsReachedWithTls) {
  const Result<NotebookToken> read = read_token({{"token", "0123456789abcdef"}, {"port", 8888U}, {"tls", true}});
  ASSERT_TRUE(read.has_value()) << read.error().sentence();
  EXPECT_TRUE(read->place.tls);
  EXPECT_EQ(notebook_at(8889, read->token, Transport::tls).url, "https://localhost:8889/lab?token=0123456789abcdef");
  EXPECT_FALSE(read_token({{"token", "0123456789abcdef"}, {"port", 8888U}})->place.tls);
}

TEST(Notebook, ATokenThatAShellOrABrowserWouldObeyIsRefused) {
  for (const char* token : {"", "short", "0123456789abcdef$(reboot)", "0123456789abcdef; rm -rf ~", "0123456789abcdef`id`",
                            "0123456789abcdef' || '", "0123456789abcdef\x1b[2J", "0123456789abcdef\r\nHost: evil", "0123456789abcdef&x=y",
                            "0123456789abcdef#", "0123456789abcdef/../..", "0123456789abcdef%00",
                            "0123456789\xc3\xa4"
                            "bcdef"}) {
    const Result<NotebookToken> read = read_token({{"token", token}, {"port", 8888U}});
    ASSERT_FALSE(read.has_value()) << token;
    EXPECT_EQ(read.error().code(), ErrorCode::protocol);
    EXPECT_EQ(read.error().sentence().find('\x1b'), std::string::npos);
  }
  EXPECT_FALSE(read_token({{"token", std::string(129, 'a')}, {"port", 8888U}}).has_value());
}

TEST(Notebook, WrongTypesAndPortsAreRefused) {
  const std::string token(20, 'a');
  EXPECT_FALSE(read_token({{"token", 7}, {"port", 8888U}}).has_value());
  EXPECT_FALSE(read_token({{"token", token}}).has_value());
  for (const Json& port : {Json(0), Json(-1), Json(65536), Json("8888"), Json(8888.5), Json::array()}) {
    EXPECT_FALSE(read_token({{"token", token}, {"port", port}}).has_value()) << port.dump();
  }
}

}  // namespace
}  // namespace gpustrap

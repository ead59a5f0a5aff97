#include "controller/notebook.h"

#include <gtest/gtest.h>
#include <poll.h>
#include <sys/socket.h>

#include <array>
#include <chrono>
#include <string>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "tests/support/loopback_server.h"

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

/// What comes of proving a notebook in whose place `answer` is said to every request.
Error unproven(const std::string& answer, Transport transport, bool waits = false) {
  const LoopbackServer server([&](int connection) {
    std::string asked;
    std::array<char, 4096> bytes{};
    for (ssize_t got = 1; got > 0 && (waits || (transport == Transport::plain && asked.find("\r\n\r\n") == std::string::npos));) {
      got = ::recv(connection, bytes.data(), bytes.size(), 0);
      if (got > 0) asked.append(bytes.data(), static_cast<std::size_t>(got));
    }
    static_cast<void>(write_all(connection, answer).has_value());
  });
  const auto pump = [](std::chrono::milliseconds) -> Result<void> {
    ::poll(nullptr, 0, 5);
    return {};
  };
  const Result<void> proven = prove_notebook(server.port(), std::string(20, 'a'), transport, std::chrono::milliseconds(1000), pump);
  EXPECT_FALSE(proven.has_value());
  return proven ? Error(ErrorCode::internal, "it was proven") : proven.error();
}

TEST(Notebook, WhatAnswersInItsPlaceIsTold) {
  const auto expect = [](const Error& error, ErrorCode code, const std::string& why) {
    EXPECT_EQ(error.code(), code) << why;
    EXPECT_EQ(error.why(), why);
    EXPECT_NE(error.sentence().find("asking the notebook through the tunnel on port "), std::string::npos);
    EXPECT_NE(error.hint().find("the same `gpustrap up` again"), std::string::npos);
  };
  expect(unproven("HTTP/1.1 403 Forbidden\r\n\r\n", Transport::plain), ErrorCode::network, "it answered `HTTP/1.1 403 Forbidden`");
  expect(unproven("SSH-2.0-OpenSSH_9.2\r\n", Transport::plain), ErrorCode::network, "it answered `SSH-2.0-OpenSSH_9.2`");
  expect(unproven("", Transport::plain), ErrorCode::network, "the connection was closed without an answer");
  expect(unproven("", Transport::plain, true), ErrorCode::timeout, "no answer in time");
  expect(unproven("HTTP/1.1 400 Bad Request\r\n\r\n", Transport::tls), ErrorCode::tls, "it does not speak TLS");
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

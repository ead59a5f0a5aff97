#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <string>
#include <string_view>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"
#include "controller/cloud/http.h"
#include "tests/support/environment.h"
#include "tests/support/loopback_server.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// Longer than a label may be: no resolver asks anybody for it.
const std::string kNoHost = std::string(64, 'a') + ".invalid";

HttpRequest request_to(const std::string& url) {
  HttpRequest request;
  request.method = "GET";
  request.url = url;
  request.through_proxy = false;
  return request;
}
std::string loopback(std::uint16_t port, const std::string& scheme = "http") {
  return scheme + "://127.0.0.1:" + std::to_string(port) + "/path";
}

Error error_of(const HttpRequest& request, const std::string& ca_bundle = "") {
  const Result<HttpResponse> response = make_http(ca_bundle)->send(request);
  return response ? Error(ErrorCode::internal, "it was answered with " + std::to_string(response->status)) : response.error();
}

void read_request(int connection) {
  std::string all;
  std::array<char, 4096> bytes{};
  for (ssize_t got = 1; got > 0 && all.find("\r\n\r\n") == std::string::npos;) {
    got = ::recv(connection, bytes.data(), bytes.size(), 0);
    if (got > 0) all.append(bytes.data(), static_cast<std::size_t>(got));
  }
}

TEST(CurlHttp, AHostThatCannotBeFoundIsNamed) {
  const Error error = error_of(request_to("http://" + kNoHost + "/"));
  EXPECT_EQ(error.code(), ErrorCode::unknown_name);
  EXPECT_THAT(error.why(), HasSubstr(kNoHost + " cannot be found: "));
  EXPECT_THAT(error.hint(), HasSubstr("whether the region is written right"));
}

TEST(CurlHttp, AProxyThatCannotBeFoundIsLookedForInTheShell) {
  const EnvironmentVariable proxy("http_proxy", "http://" + kNoHost + ":3128"), none("no_proxy", std::nullopt);
  HttpRequest request = request_to("http://203.0.113.7/");
  request.through_proxy = true;
  const Error error = error_of(request);
  EXPECT_EQ(error.code(), ErrorCode::unknown_name);
  EXPECT_THAT(error.why(), AllOf(HasSubstr("http://203.0.113.7: "), HasSubstr(kNoHost)));
  EXPECT_THAT(error.hint(), HasSubstr("http_proxy of this shell"));
}

TEST(CurlHttp, WhereNobodyListensAProxyMayBeNeeded) {
  std::uint16_t port = 0;
  static_cast<void>(listen_on_loopback(port));  // and closed again
  const Error error = error_of(request_to(loopback(port)));
  EXPECT_EQ(error.code(), ErrorCode::unreachable);
  EXPECT_THAT(error.why(), HasSubstr("http://127.0.0.1:" + std::to_string(port) + ": "));
  EXPECT_THAT(error.hint(), HasSubstr("needs a proxy (https_proxy)"));
}

TEST(CurlHttp, WhoeverSaysNothingIsGivenUp) {
  const LoopbackServer server([](int connection) {
    char byte = 0;
    while (::read(connection, &byte, 1) > 0) {}
  });
  HttpRequest request = request_to(loopback(server.port()));
  request.timeout = std::chrono::milliseconds(100);
  const Error error = error_of(request);
  EXPECT_EQ(error.code(), ErrorCode::timeout);
  EXPECT_THAT(error.why(), HasSubstr("timed out"));
  EXPECT_THAT(error.hint(), HasSubstr("then run it again"));
}

TEST(CurlHttp, AConnectionThatEndsWithoutAnAnswerIsTheNetworks) {
  const LoopbackServer server(read_request);
  const Error error = error_of(request_to(loopback(server.port())));
  EXPECT_EQ(error.code(), ErrorCode::network);
  EXPECT_THAT(error.why(), HasSubstr("Empty reply from server"));
  EXPECT_EQ(error.hint(), "run it again");
}

TEST(CurlHttp, WhoeverSignsWhatPassesNeedsTheirCertificateNamed) {
  const LoopbackServer server([](int connection) { static_cast<void>(write_all(connection, "HTTP/1.1 400 no TLS here\r\n\r\n")); });
  const Error error = error_of(request_to(loopback(server.port(), "https")));
  EXPECT_EQ(error.code(), ErrorCode::tls);
  EXPECT_THAT(error.hint(), HasSubstr("export AWS_CA_BUNDLE=/path/ca.pem"));
}

TEST(CurlHttp, AFileOfAuthoritiesThatIsNotThereIsNamed) {
  std::uint16_t port = 0;
  const UniqueFd listener = listen_on_loopback(port);
  const Error error = error_of(request_to(loopback(port, "https")), "/nowhere/ca.pem");
  EXPECT_EQ(error.code(), ErrorCode::tls);
  EXPECT_THAT(error.why(), HasSubstr("; there is no file /nowhere/ca.pem"));
  EXPECT_THAT(error.hint(), HasSubstr("see AWS_CA_BUNDLE"));
}

TEST(CurlHttp, AnAddressThatIsNoneIsToldAsSuch) {
  const Error error = error_of(request_to("https://[::1"));
  EXPECT_EQ(error.code(), ErrorCode::usage);
  EXPECT_THAT(error.hint(), HasSubstr("begins with https:// or http://"));
}

TEST(CurlHttp, AnAnswerWithoutEndIsNotReadToIt) {
  const LoopbackServer body([](int connection) {
    read_request(connection);
    Result<void> wrote = write_all(connection, "HTTP/1.1 200 OK\r\n\r\n");
    const std::string much(1U << 20U, 'x');
    while (wrote) wrote = write_all(connection, much);
  });
  const LoopbackServer headers([](int connection) {
    read_request(connection);
    Result<void> wrote = write_all(connection, "HTTP/1.1 200 OK\r\n");
    while (wrote) wrote = write_all(connection, "X-Much: " + std::string(1000, 'x') + "\r\n");
  });
  const std::pair<const LoopbackServer*, const char*> cases[] = {{&body, " sends an answer of more than 32 MiB"},
                                                                 {&headers, " sends headers of more than 64 KiB"}};
  for (const auto& [server, why] : cases) {
    const Error error = error_of(request_to(loopback(server->port())));
    EXPECT_EQ(error.code(), ErrorCode::network);
    EXPECT_THAT(error.why(), HasSubstr(why));
    EXPECT_THAT(error.hint(), HasSubstr("see AWS_ENDPOINT_URL"));
  }
}

}  // namespace
}  // namespace gpustrap

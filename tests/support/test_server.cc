#include "tests/support/test_server.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <string_view>
#include <thread>
#include <utility>

#include <fmt/format.h>
#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <openssl/x509v3.h>

#include "agent/base/file.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

template <auto Free> struct Freed {
  template <class T> void operator()(T* handle) const { Free(handle); }
};
using KeyHandle = std::unique_ptr<EVP_PKEY, Freed<EVP_PKEY_free>>;
using CertificateHandle = std::unique_ptr<X509, Freed<X509_free>>;
using BioHandle = std::unique_ptr<BIO, Freed<BIO_free_all>>;
using ContextHandle = std::unique_ptr<SSL_CTX, Freed<SSL_CTX_free>>;
using SslHandle = std::unique_ptr<SSL, Freed<SSL_free>>;

void must(bool true_as_expected, const char* what) {
  if (true_as_expected) return;
  std::perror(what);
  std::abort();
}

std::string text_of(BIO* bio) {
  char* bytes = nullptr;
  const long size = BIO_get_mem_data(bio, &bytes);
  return {bytes, static_cast<std::size_t>(size)};
}

/// A throw-away key and a certificate for 127.0.0.1 that signs itself.
std::pair<std::string, std::string> make_certificate() {
  const KeyHandle key(EVP_EC_gen("P-256"));
  const CertificateHandle certificate(X509_new());
  X509_set_version(certificate.get(), 2);
  ASN1_INTEGER_set(X509_get_serialNumber(certificate.get()), 1);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), -3600);
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), 24L * 3600);
  X509_set_pubkey(certificate.get(), key.get());
  X509_NAME* name = X509_get_subject_name(certificate.get());
  X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, reinterpret_cast<const unsigned char*>("test server"), -1, -1, 0);
  X509_set_issuer_name(certificate.get(), name);
  for (const auto& [kind, value] :
       {std::pair{NID_subject_alt_name, "IP:127.0.0.1"}, std::pair{NID_basic_constraints, "critical,CA:TRUE"}}) {
    X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, nullptr, kind, value);
    X509_add_ext(certificate.get(), extension, -1);
    X509_EXTENSION_free(extension);
  }
  must(X509_sign(certificate.get(), key.get(), EVP_sha256()) > 0, "signing the test certificate");
  const BioHandle certificate_text(BIO_new(BIO_s_mem())), key_text(BIO_new(BIO_s_mem()));
  PEM_write_bio_X509(certificate_text.get(), certificate.get());
  PEM_write_bio_PrivateKey(key_text.get(), key.get(), nullptr, nullptr, 0, nullptr, nullptr);
  return {text_of(certificate_text.get()), text_of(key_text.get())};
}

/// A connection, encrypted or not.
class Peer {
 public:
  Peer(UniqueFd fd, SSL_CTX* context) : fd_(std::move(fd)) {
    if (context == nullptr) return;
    ssl_.reset(SSL_new(context));
    SSL_set_fd(ssl_.get(), fd_.get());
    usable_ = SSL_accept(ssl_.get()) == 1;
  }
  ~Peer() {
    if (ssl_ && usable_) SSL_shutdown(ssl_.get());
  }
  [[nodiscard]] bool usable() const { return usable_; }
  [[nodiscard]] int fd() const { return fd_.get(); }
  std::string read() {
    std::array<char, 4096> buffer{};
    const auto got =
        ssl_ ? SSL_read(ssl_.get(), buffer.data(), buffer.size()) : static_cast<int>(::read(fd_.get(), buffer.data(), buffer.size()));
    return got > 0 ? std::string(buffer.data(), static_cast<std::size_t>(got)) : std::string();
  }
  void write(std::string_view bytes) {
    if (!ssl_)
      (void)write_all(fd_.get(), bytes);
    else if (!bytes.empty())
      SSL_write(ssl_.get(), bytes.data(), static_cast<int>(bytes.size()));
  }

 private:
  UniqueFd fd_;
  SslHandle ssl_;
  bool usable_ = true;
};

struct Request {
  std::string path, range, if_range, authorization;
};

std::optional<Request> read_request(Peer& peer) {
  std::string text;
  while (text.find("\r\n\r\n") == std::string::npos) {
    const std::string more = peer.read();
    if (more.empty()) return std::nullopt;
    text += more;
  }
  Request request;
  const std::vector<std::string> lines = split(text, '\n');
  const std::vector<std::string> first = words(lines.front());
  if (first.size() < 2) return std::nullopt;
  request.path = first[1];
  if (const std::size_t scheme = request.path.find("://"); scheme != std::string::npos) {  // asked as a proxy
    request.path = request.path.substr(std::min(request.path.find('/', scheme + 3), request.path.size()));
  }
  for (const std::string& line : lines) {
    const std::size_t colon = line.find(':');
    if (colon == std::string::npos) continue;
    std::string name = line.substr(0, colon);
    std::transform(name.begin(), name.end(), name.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    const std::string value(trim(std::string_view(line).substr(colon + 1)));
    if (name == "range") request.range = value;
    if (name == "if-range") request.if_range = value;
    if (name == "authorization" || name == "proxy-authorization") request.authorization = value;
  }
  return request;
}

/// Whether another request may follow.
bool give(Peer& peer, const Request& request, const Answer& answer, bool keeps) {
  int status = answer.status;
  std::string_view body = answer.body;
  std::string head;
  const bool same_version =
      !answer.if_range || request.if_range.empty() || request.if_range == answer.etag || request.if_range == answer.modified;
  if (status == 200 && answer.ranges && same_version && request.range.starts_with("bytes=")) {
    const std::size_t from = std::strtoul(request.range.c_str() + 6, nullptr, 10);
    if (from >= body.size()) {
      status = 416;
      head += fmt::format("Content-Range: bytes */{}\r\n", body.size());
      body = {};
    } else {
      status = 206;
      head += "Content-Range: " + answer.content_range.value_or(fmt::format("bytes {}-{}/{}", from, body.size() - 1, body.size())) + "\r\n";
      body.remove_prefix(from);
    }
  }
  if (!answer.etag.empty()) head += "ETag: " + answer.etag + "\r\n";
  if (!answer.modified.empty()) head += "Last-Modified: " + answer.modified + "\r\n";
  if (!answer.location.empty()) head += "Location: " + answer.location + "\r\n";
  if (!answer.retry_after.empty()) head += "Retry-After: " + answer.retry_after + "\r\n";
  if (answer.content_length) head += fmt::format("Content-Length: {}\r\n", answer.claimed_length.value_or(body.size()));
  const bool stays = keeps && answer.content_length && !answer.claimed_length && !answer.cut_after && !answer.stall_after;
  peer.write(fmt::format("HTTP/1.1 {} Test\r\n{}Connection: {}\r\n\r\n", status, head, stays ? "keep-alive" : "close"));
  if (answer.cut_after) body = body.substr(0, *answer.cut_after);
  if (!answer.stall_after) {
    peer.write(body);
    return stays;
  }
  peer.write(body.substr(0, *answer.stall_after));
  pollfd gone{peer.fd(), POLLIN | POLLRDHUP, 0};
  ::poll(&gone, 1, -1);
  return false;
}

const std::string kConnection = "connection";

struct Serving {
  const std::map<std::string, std::vector<Answer>>& routes;
  int log;
  bool keeps;
  std::mutex mutex;
  std::map<std::string, std::size_t> asked;

  void serve(UniqueFd connection, SSL_CTX* context) {
    Peer peer(std::move(connection), context);
    if (!peer.usable()) return;
    (void)write_all(log, kConnection + "\n");
    while (serve_one(peer)) {}
  }

  bool serve_one(Peer& peer) {
    const std::optional<Request> request = read_request(peer);
    if (!request) return false;
    Answer answer;
    answer.status = 404;
    answer.body = "no such file";
    {
      const std::lock_guard<std::mutex> lock(mutex);
      if (const auto found = routes.find(request->path); found != routes.end()) {
        const std::size_t number = asked[request->path]++;
        answer = found->second[std::min(number, found->second.size() - 1)];
      }
      std::string line = "GET " + request->path;
      for (const std::string& part : {request->range, request->if_range, request->authorization}) {
        if (!part.empty()) line += " " + part;
      }
      (void)write_all(log, line + "\n");  // before the answer: whoever has the answer finds the line
    }
    return give(peer, *request, answer, keeps);
  }
};

ContextHandle make_context(const std::string& certificate, const std::string& key) {
  ContextHandle context(SSL_CTX_new(TLS_server_method()));
  const BioHandle certificate_text(BIO_new_mem_buf(certificate.data(), static_cast<int>(certificate.size())));
  const BioHandle key_text(BIO_new_mem_buf(key.data(), static_cast<int>(key.size())));
  const CertificateHandle parsed(PEM_read_bio_X509(certificate_text.get(), nullptr, nullptr, nullptr));
  const KeyHandle parsed_key(PEM_read_bio_PrivateKey(key_text.get(), nullptr, nullptr, nullptr));
  SSL_CTX_use_certificate(context.get(), parsed.get());
  SSL_CTX_use_PrivateKey(context.get(), parsed_key.get());
  return context;
}

}  // namespace

TestServer::TestServer() {
  std::tie(certificate_, key_) = make_certificate();
  for (Listener* listener : {&http_, &https_}) {
    listener->fd.reset(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    must(::bind(listener->fd.get(), reinterpret_cast<sockaddr*>(&address), size) == 0, "bind");
    must(::listen(listener->fd.get(), 16) == 0, "listen");
    must(::getsockname(listener->fd.get(), reinterpret_cast<sockaddr*>(&address), &size) == 0, "getsockname");
    listener->port = ntohs(address.sin_port);
  }
  Result<Pipe> log = make_pipe();
  must(log.has_value(), "pipe");
  log_read_ = std::move(log->read_end);
  log_write_ = std::move(log->write_end);
  (void)set_nonblocking(log_read_.get());
}

TestServer::~TestServer() {
  if (pid_ <= 0) return;
  ::kill(pid_, SIGKILL);
  ::waitpid(pid_, nullptr, 0);
}

std::string TestServer::http(const std::string& path) const { return fmt::format("http://127.0.0.1:{}{}", http_.port, path); }
std::string TestServer::https(const std::string& path) const { return fmt::format("https://127.0.0.1:{}{}", https_.port, path); }

void TestServer::start() {
  pid_ = ::fork();
  must(pid_ >= 0, "fork");
  if (pid_ > 0) {
    log_write_.reset();
    http_.fd.reset();
    https_.fd.reset();
    return;
  }
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  ::signal(SIGPIPE, SIG_IGN);
  const ContextHandle context = make_context(certificate_, key_);
  Serving serving{routes_, log_write_.get(), keeps_, {}, {}};
  std::array<pollfd, 2> waiting{pollfd{http_.fd.get(), POLLIN, 0}, pollfd{https_.fd.get(), POLLIN, 0}};
  while (true) {
    ::poll(waiting.data(), waiting.size(), -1);
    for (const pollfd& listener : waiting) {
      if ((listener.revents & POLLIN) == 0) continue;
      UniqueFd connection(::accept4(listener.fd, nullptr, nullptr, SOCK_CLOEXEC));
      if (!connection.valid()) continue;
      SSL_CTX* encryption = listener.fd == https_.fd.get() ? context.get() : nullptr;
      std::thread([&serving, encryption, connection = std::move(connection)]() mutable {
        serving.serve(std::move(connection), encryption);
      }).detach();
    }
  }
}

std::size_t TestServer::connections() {
  const std::vector<std::string> lines = log_lines();
  return static_cast<std::size_t>(std::count(lines.begin(), lines.end(), kConnection));
}

std::vector<std::string> TestServer::requests() {
  std::vector<std::string> lines = log_lines();
  std::erase(lines, kConnection);
  return lines;
}

std::vector<std::string> TestServer::log_lines() {
  std::array<char, 4096> buffer{};
  ssize_t got = 0;
  while ((got = ::read(log_read_.get(), buffer.data(), buffer.size())) > 0) log_.append(buffer.data(), static_cast<std::size_t>(got));
  std::vector<std::string> lines = split(log_, '\n');
  if (!lines.empty() && lines.back().empty()) lines.pop_back();
  return lines;
}

}  // namespace gpustrap

#include "controller/lint_upstream.h"

#include <stdlib.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <charconv>
#include <ctime>
#include <optional>
#include <thread>
#include <utility>

#include <fcntl.h>
#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "controller/package_index.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr int kMostRedirects = 10;
constexpr std::chrono::seconds kConnect{10}, kAnswer{20}, kPieceLimit{120};
/// Large files come in pieces: a body is held in memory, and at most 32 MiB of it.
constexpr std::size_t kPiece = 16U << 20U;
/// A key that runs out so soon is worth a word already.
constexpr std::int64_t kSoon = 30LL * 24 * 3600;

struct Found {
  std::string_view rule;
  Severity severity;
  std::string message;
};

HttpRequest request_for(const std::string& method, const std::string& url, HttpHeaders headers, std::chrono::milliseconds limit) {
  HttpRequest request;
  request.method = method;
  request.url = url;
  // Packed on the way, a file's size and pieces would be those of what is sent.
  headers.emplace_back("Accept-Encoding", "identity");
  request.headers = std::move(headers);
  request.connect_timeout = kConnect;
  request.timeout = limit;
  return request;
}

/// Follows redirects; one that drops encryption is refused, as an agent refuses it.
Result<HttpResponse> ask(Http& http, const std::string& method, std::string url, const HttpHeaders& headers,
                         std::chrono::milliseconds limit) {
  for (int turn = 0; turn <= kMostRedirects; ++turn) {
    Result<HttpResponse> answer = http.send(request_for(method, url, headers, limit));
    if (!answer) return answer;
    const std::string location = answer->header("location");
    const bool redirects = answer->status >= 300 && answer->status < 400 && answer->status != 304 && !location.empty();
    if (!redirects) return answer;
    const std::string next = redirect_target(url, location);
    if (url.starts_with("https://") && !next.starts_with("https://"))
      return fail(ErrorCode::unsafe, fmt::format("{} redirects to {}, which is not encrypted", url, strip_control(next)));
    url = next;
  }
  return fail(ErrorCode::network, fmt::format("more than {} redirects", kMostRedirects));
}

class Asker {
 public:
  Asker(Http& http, const UpstreamOptions& options) : http_(http), options_(options) {}

  std::optional<Found> look_at(const UpstreamAddress& address) {
    switch (address.what) {
      case UpstreamAddress::What::package: return look_at_package(address);
      case UpstreamAddress::What::channel: return look_at_channel(address);
      case UpstreamAddress::What::command: return look_at_command(address);
      default: break;
    }
    // Hosts go to the mirror first, and to the address itself where that does not have it.
    UpstreamAddress there = address;
    there.url = options_.mirror.by_prefix("downloads", address.url).value_or(address.url);
    std::optional<Found> missing = is_there(there.url);
    if (missing && there.url != address.url) {
      there.url = address.url;
      missing = is_there(there.url);
      if (missing) missing->message += fmt::format(", and not at the mirror {} either", options_.mirror.name);
    }
    if (missing) return missing;
    if (address.what == UpstreamAddress::What::key) return look_at_key(there);
    if (address.sha256.empty() || options_.depth == UpstreamOptions::Depth::headers) return std::nullopt;
    return compare(there);
  }

 private:
  static bool is_gone(int status) { return status == 404 || status == 410; }

  std::optional<Found> is_there(const std::string& url) {
    Result<HttpResponse> answer = ask(http_, "HEAD", url, {}, kAnswer);
    // Some servers answer nothing but GET; one byte is enough of an answer.
    if (!answer || answer->status >= 400) answer = ask(http_, "GET", url, {{"Range", "bytes=0-0"}}, kAnswer);
    if (!answer && answer.error().code() == ErrorCode::unsafe) return Found{"upstream-gone", Severity::error, answer.error().why()};
    if (!answer) return Found{"upstream-silent", Severity::warning, fmt::format("{}: {}", url, answer.error().sentence())};
    const int status = answer->status;
    if (is_gone(status)) return Found{"upstream-gone", Severity::error, fmt::format("{} is not there any more (HTTP {})", url, status)};
    constexpr int kNothingAtThatRange = 416;  // of an empty file
    if (status >= 400 && status != kNothingAtThatRange)
      return Found{"upstream-silent", Severity::warning, fmt::format("{} answers HTTP {}", url, status)};
    return std::nullopt;
  }

  /// What a command does with an address is not known: its head is asked for, and nothing else where the command may be one that sends.
  std::optional<Found> look_at_command(const UpstreamAddress& address) {
    if (address.is_fetched) {
      std::optional<Found> missing = is_there(address.url);
      if (missing && missing->rule == "upstream-gone") missing->severity = Severity::warning;
      return missing;
    }
    const Result<HttpResponse> answer = ask(http_, "HEAD", address.url, {}, kAnswer);
    if (!answer) return Found{"upstream-silent", Severity::note, fmt::format("{}: {}", address.url, answer.error().sentence())};
    if (!is_gone(answer->status)) return std::nullopt;
    return Found{"upstream-gone", Severity::warning, fmt::format("{} is not there any more (HTTP {})", address.url, answer->status)};
  }

  std::optional<Found> look_at_channel(const UpstreamAddress& address) {
    std::optional<Found> missing = is_there(address.url);
    if (missing && missing->rule == "upstream-gone") {
      missing->message = fmt::format("the channel {} is not there: no {}", address.name, address.url);
      if (address.is_usual) missing->severity = Severity::warning;
    }
    return missing;
  }

  std::optional<Found> look_at_package(const UpstreamAddress& address) {
    const HttpHeaders wants = {
        {"Accept", "application/vnd.pypi.simple.v1+json, application/vnd.pypi.simple.v1+html;q=0.2, text/html;q=0.1"}};
    const Result<HttpResponse> page = ask(http_, "GET", address.url, wants, kAnswer);
    if (!page) return Found{"upstream-silent", Severity::warning, fmt::format("{}: {}", address.url, page.error().sentence())};
    const Severity severity = address.is_usual ? Severity::warning : Severity::error;
    const std::string where =
        address.is_usual ? fmt::format("{}, which pip asks unless the host's own settings name another", address.url) : address.url;
    if (is_gone(page->status))
      return Found{"upstream-gone", severity, fmt::format("the index has no package {} ({})", address.name, where)};
    if (page->status != 200)
      return Found{"upstream-silent", Severity::warning, fmt::format("{} answers HTTP {}", address.url, page->status)};
    if (address.version.empty()) return std::nullopt;
    const std::optional<std::vector<IndexedFile>> files = indexed_files(page->body, page->header("content-type"));
    if (!files) return Found{"upstream-silent", Severity::warning, fmt::format("{} is no page of a package index", address.url)};
    std::size_t found = 0, yanked = 0;
    std::string why;
    for (const IndexedFile& file : *files) {
      if (!is_version_of(version_of_file(file.name), address.version)) continue;
      ++found;
      if (!file.yanked) continue;
      ++yanked;
      if (why.empty()) why = strip_control(first_line(file.reason, 120));
    }
    if (found == 0)
      return Found{"upstream-gone", severity, fmt::format("the index has no {} {} ({})", address.name, address.version, where)};
    if (yanked < found) return std::nullopt;
    return Found{"upstream-yanked", Severity::warning,
                 fmt::format("{} {} was withdrawn{}", address.name, address.version, why.empty() ? "" : ": " + why)};
  }

  std::optional<Found> compare(const UpstreamAddress& address) {
    Sha256 digest;
    std::size_t have = 0;
    while (true) {
      const Result<HttpResponse> piece =
          ask(http_, "GET", address.url, {{"Range", fmt::format("bytes={}-{}", have, have + kPiece - 1)}}, kPieceLimit);
      if (!piece) return Found{"upstream-silent", Severity::warning, fmt::format("{}: {}", address.url, piece.error().sentence())};
      if (piece->status == 416) break;  // the last piece ended with the file
      if (piece->status == 200 && have > 0)
        return Found{"upstream-silent", Severity::warning, fmt::format("{} changed its mind about pieces half-way", address.url)};
      if (piece->status != 200 && piece->status != 206)
        return Found{"upstream-silent", Severity::warning, fmt::format("{} answers HTTP {}", address.url, piece->status)};
      digest.add(piece->body);
      have += piece->body.size();
      if (piece->status == 200 || piece->body.size() < kPiece) break;
    }
    return judged(address, digest.hex());
  }

  static std::optional<Found> judged(const UpstreamAddress& address, const std::string& got) {
    if (got == address.sha256) return std::nullopt;
    return Found{"upstream-changed", Severity::error,
                 fmt::format("{} has sha256 {} now, and the recipe names {}", address.url, got, address.sha256)};
  }

  std::optional<Found> look_at_key(const UpstreamAddress& address) {
    const Result<HttpResponse> key = ask(http_, "GET", address.url, {}, kAnswer);
    if (!key || key->status != 200)
      return Found{"upstream-silent", Severity::warning,
                   fmt::format("{}: {}", address.url, key ? fmt::format("HTTP {}", key->status) : key.error().sentence())};
    if (!address.sha256.empty()) {
      if (std::optional<Found> changed = judged(address, sha256_hex(key->body))) return changed;
    }
    const Result<std::string> fault = options_.look_at_key(key->body);
    if (!fault)
      return Found{"upstream-key", Severity::note, fmt::format("{} was not looked into: {}", address.url, fault.error().sentence())};
    if (fault->empty()) return std::nullopt;
    return Found{"upstream-key", Severity::error, fmt::format("the key {} {}", address.url, *fault)};
  }

  Http& http_;
  const UpstreamOptions& options_;
};

}  // namespace

void lint_upstream(LintReview& review, const UpstreamOptions& options) {
  const std::vector<UpstreamAddress> addresses = upstream_addresses(review, options.mirror);
  std::vector<std::optional<Found>> found(addresses.size());
  std::atomic<std::size_t> next{0};
  const Clock::time_point deadline = Clock::now() + options.limit;
  const auto work = [&] {
    const std::unique_ptr<Http> http = options.connect();
    Asker asker(*http, options);
    for (std::size_t i = next.fetch_add(1); i < addresses.size(); i = next.fetch_add(1)) {
      found[i] = Clock::now() < deadline
                     ? asker.look_at(addresses[i])
                     : Found{"upstream-silent", Severity::warning, fmt::format("{} was not asked: the time ran out", addresses[i].url)};
    }
  };
  std::vector<std::thread> askers;
  for (std::size_t i = 0; i < std::min(options.askers, addresses.size()); ++i) askers.emplace_back(work);
  for (std::thread& asker : askers) asker.join();
  for (std::size_t i = 0; i < addresses.size(); ++i) {
    if (found[i]) review.add(found[i]->rule, addresses[i].pointer, addresses[i].evidence, found[i]->message, found[i]->severity);
  }
}

std::string redirect_target(const std::string& base, const std::string& location) {
  if (location.find("://") != std::string::npos && location.find("://") < location.find_first_of("/?#")) return location;
  const std::size_t scheme = base.find("://");
  if (scheme == std::string::npos) return location;
  if (location.starts_with("//")) return base.substr(0, scheme + 1) + location;
  const std::size_t path = std::min(base.find_first_of("/?#", scheme + 3), base.size());
  if (location.starts_with('/')) return base.substr(0, path) + location;
  const std::string without_query = base.substr(0, std::min(base.find_first_of("?#", path), base.size()));
  const std::size_t slash = without_query.rfind('/');
  return (slash < path || slash == std::string::npos ? without_query + "/" : without_query.substr(0, slash + 1)) + location;
}

std::string fault_of_key(const std::string& colons, std::int64_t now) {
  std::size_t keys = 0;
  for (const std::string& line : split(colons, '\n')) {
    const std::vector<std::string> fields = split(line, ':');
    if (fields.size() < 7 || fields[0] != "pub") continue;
    ++keys;
    if (fields[1] == "r") return "is revoked";
    std::int64_t expires = 0;
    std::from_chars(fields[6].data(), fields[6].data() + fields[6].size(), expires);
    if (expires == 0) continue;
    const std::time_t when = expires;
    std::tm parts{};
    ::gmtime_r(&when, &parts);
    const std::string day = fmt::format("{:04}-{:02}-{:02}", parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday);
    if (expires <= now) return "expired on " + day;
    if (expires <= now + kSoon) return "expires on " + day;
  }
  return keys == 0 ? "holds no key that gpg can read" : "";
}

Result<std::string> look_at_key_with_gpg(const std::string& key) {
  std::string home = "/tmp/gpustrap-gpg.XXXXXX";
  if (::mkdtemp(home.data()) == nullptr) return fail(errno_error(errno, "making a folder in /tmp"));
  Subprocess gpg;
  gpg.argv = {"gpg", "--batch", "--no-options", "--no-autostart", "--homedir", home, "--show-keys", "--with-colons"};
  gpg.input = key;
  gpg.timeout = kAnswer;
  const Result<SubprocessResult> said = run_subprocess(gpg);
  static_cast<void>(remove_tree_at(AT_FDCWD, home).has_value());
  if (!said) return fail(said.error());
  if (said->exit_code == 127) return fail(ErrorCode::not_found, "gpg is not installed", "sudo apt install gpg");
  return fault_of_key(said->out, std::time(nullptr));
}

}  // namespace gpustrap

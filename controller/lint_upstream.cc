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
#include "agent/protocol/field_types.h"

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

bool is_fixed_url(std::string_view text) {
  return (text.starts_with("https://") || text.starts_with("http://")) && text.find("${{") == std::string_view::npos &&
         text.find_first_of(" \t\n") == std::string_view::npos;
}

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
    if (std::optional<Found> missing = is_there(address.url)) return missing;
    if (address.is_key) return look_at_key(address);
    if (address.sha256.empty() || options_.depth == UpstreamOptions::Depth::headers) return std::nullopt;
    return compare(address);
  }

 private:
  std::optional<Found> is_there(const std::string& url) {
    Result<HttpResponse> answer = ask(http_, "HEAD", url, {}, kAnswer);
    // Some servers answer nothing but GET; one byte is enough of an answer.
    if (!answer || answer->status >= 400) answer = ask(http_, "GET", url, {{"Range", "bytes=0-0"}}, kAnswer);
    if (!answer && answer.error().code() == ErrorCode::unsafe) return Found{"upstream-gone", Severity::error, answer.error().why()};
    if (!answer) return Found{"upstream-silent", Severity::warning, fmt::format("{}: {}", url, answer.error().sentence())};
    const int status = answer->status;
    if (status == 404 || status == 410)
      return Found{"upstream-gone", Severity::error, fmt::format("{} is not there any more (HTTP {})", url, status)};
    constexpr int kNothingAtThatRange = 416;  // of an empty file
    if (status >= 400 && status != kNothingAtThatRange)
      return Found{"upstream-silent", Severity::warning, fmt::format("{} answers HTTP {}", url, status)};
    return std::nullopt;
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

std::string as_text(const Json& value) { return value.is_string() ? value.get<std::string>() : ""; }

}  // namespace

std::vector<UpstreamAddress> upstream_addresses(const LintReview& review) {
  std::vector<UpstreamAddress> found;
  const auto add = [&](const std::string& url, const std::string& pointer, const std::string& sha256, bool is_key = false) {
    if (is_fixed_url(url)) found.push_back({url, pointer, sha256, is_key});
  };
  for (const LintStep& step : review.steps) {
    const std::string sha256 = step.text("sha256");
    const std::string url = step.text("url");
    if (step.kind == StepKind::apt_repository) {
      std::string base = url;
      while (base.ends_with('/')) base.pop_back();
      const std::vector<std::string> suites = step.texts("suites");
      for (const std::string& suite : suites.empty() ? std::vector<std::string>{"/"} : suites) {
        // Flat repositories have no folder `dists`.
        const bool flat = suite.ends_with('/');
        add(flat ? base + (suite == "/" ? "/" : "/" + suite) + "Release" : fmt::format("{}/dists/{}/Release", base, suite),
            step.place_of("url"), "");
      }
      add(step.text("key"), step.place_of("key"), sha256, true);
      add(step.text("keyring"), step.place_of("keyring"), sha256);
      continue;
    }
    if (step.kind == StepKind::git) {
      add(url + "/info/refs?service=git-upload-pack", step.place_of("url"), "");
      continue;
    }
    const bool fetches = step.kind == StepKind::download || step.kind == StepKind::archive || step.kind == StepKind::deb ||
                         step.kind == StepKind::conda || step.kind == StepKind::cuda;
    if (!fetches) continue;
    add(url, step.place_of("url"), sha256);
    if (const Json* mirrors = step.field("mirrors"); mirrors != nullptr && mirrors->is_array()) {
      for (std::size_t i = 0; i < mirrors->size(); ++i)
        add(as_text((*mirrors)[i]), step.place_of("mirrors") + "/" + std::to_string(i), sha256);
    }
  }
  return found;
}

void lint_upstream(LintReview& review, const UpstreamOptions& options) {
  const std::vector<UpstreamAddress> addresses = upstream_addresses(review);
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
    if (found[i]) review.add(found[i]->rule, addresses[i].pointer, "", found[i]->message, found[i]->severity);
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

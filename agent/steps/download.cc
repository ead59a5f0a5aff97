#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/shown_url.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

/// Smaller files are hashed at every check; larger ones (a runfile has 5 GB) are believed to be as recorded while size and time
/// are, so that a run with nothing to do stays short.
constexpr std::uint64_t kAlwaysHashed = 16U << 20U;

/// What was fetched to a path, from where. URLs by digest and in their shown form: they may hold a password.
struct DownloadRecord {
  std::string url_sha256, shown_source, sha256;
  std::string before;  ///< sha256 of what the file takes the place of: a run may end just before it does
  std::uint64_t size = 0;
  std::int64_t mtime_s = 0;
};

std::string short_digest(const std::string& digest) { return digest.substr(0, 12) + "…"; }

class DownloadStep : public Step {
 public:
  explicit DownloadStep(DownloadSpec spec) : spec_(std::move(spec)), wanted_{spec_.mode, {}, {}} {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Seen> seen = look(host);
    if (!seen) return fail(seen.error());
    const std::string fetch_it = "fetch " + shown_url(spec_.url.text);
    if (!seen->info) return StepState::unsatisfied(seen->path + " does not exist", fetch_it);
    if (seen->is == Seen::Is::to_fetch) return StepState::unsatisfied(seen->reason, fetch_it);
    const Result<std::string> difference = ownership_difference(*seen->info, wanted_, host);
    if (!difference) return fail(difference.error());
    if (!difference->empty()) return StepState::unsatisfied(fmt::format("{}: {}", seen->path, *difference));
    return StepState::satisfied(seen->reason);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Seen> seen = look(host);
    if (!seen) return fail(seen.error());
    FileAttributes attributes;
    if (spec_.mode) attributes.mode = spec_.mode->bits;
    if (seen->is == Seen::Is::as_wanted) return host.set_attributes(seen->path, attributes);
    if (Result<void> made = host.make_directory(parent_of(seen->path), {}); !made) return made;

    FetchRequest request = this->request(seen->path);
    request.attributes = attributes;
    const bool replaces = seen->info && !seen->planted;
    if (replaces && !attributes.mode) request.attributes.mode = seen->info->mode;
    if (replaces && host.self().uid == 0) {
      request.attributes.uid = seen->info->uid;
      request.attributes.gid = seen->info->gid;
    }
    const Result<FetchResult> fetched = host.fetch(request, log);
    if (!fetched) return fail(fetched.error());
    // A transfer takes its time: what the user put or changed there meanwhile counts too, and leaves its place only now.
    const Result<Seen> now = look(host);
    if (!now) {
      (void)host.remove(request.to);
      return fail(now.error());
    }
    if (now->users_own) {
      if (Result<void> kept = keep_aside(now->path, host, log); !kept) return kept;
    }
    // Remembered first: a file that is there without a record counts as the user's for ever.
    const std::string before = now->info && !now->users_own ? now->sha256 : std::string();
    if (Result<void> remembered = remember(host, now->path, request.to, *fetched, before); !remembered) return remembered;
    return host.rename(request.to, now->path);
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const Result<Seen> seen = look(host);
    if (!seen || seen->is == Seen::Is::as_wanted) return {};
    return {request(seen->path)};
  }

 private:
  [[nodiscard]] FetchRequest request(const std::string& path) const {
    FetchRequest request;
    request.urls.push_back(spec_.url.text);
    for (const Url& mirror : spec_.mirrors) request.urls.push_back(mirror.text);
    if (spec_.sha256) request.sha256 = spec_.sha256->hex;
    request.to = path + ".gpustrap-new";
    request.name = path.substr(path.rfind('/') + 1);
    return request;
  }

  struct Seen {
    std::string path;
    std::optional<FileInfo> info;
    enum class Is { as_wanted, to_fetch } is = Is::to_fetch;
    std::string reason;
    bool users_own = false;  ///< not what an earlier run fetched: never to be lost
    bool planted = false;    ///< may_be_planted
    std::string sha256;      ///< of what is there
  };

  [[nodiscard]] Result<std::string> target(const Host& host) const {
    std::string path = host.expand(spec_.to.text);
    const bool folder = path.ends_with('/');
    while (path.size() > 1 && path.ends_with('/')) path.pop_back();
    if (!folder) return follow_link(path, host);
    const std::string name = file_name_of_url(spec_.url.text);
    if (name.empty()) {
      return fail(ErrorCode::recipe, fmt::format("{} has no file name to use in {}", shown_url(spec_.url.text), spec_.to.text),
                  "give `to` with the file's name");
    }
    return follow_link((path == "/" ? "" : path) + "/" + name, host);
  }

  [[nodiscard]] Result<Seen> look(const Host& host) const {
    Result<std::string> path = target(host);
    if (!path) return fail(std::move(path).error());
    Seen seen;
    seen.path = std::move(*path);
    Result<std::optional<FileInfo>> info = host.info(seen.path);
    if (!info) return fail(std::move(info).error());
    seen.info = *info;
    if (!seen.info) return seen;
    if (seen.info->type != FileType::regular) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, a file is wanted", seen.path, describe_type(seen.info->type)),
                  "move it away, or put a / behind `to` where a folder is meant");
    }
    const Result<bool> planted = may_be_planted(seen.path, *seen.info, host);
    if (!planted) return fail(planted.error());
    seen.planted = *planted;
    const std::optional<DownloadRecord> record = seen.planted ? std::nullopt : recall(host, seen.path);
    if (seen.planted) {
      seen.users_own = true;
      seen.reason = fmt::format("{} belongs to uid {}, who can change it", seen.path, seen.info->uid);
      return seen;
    }
    if (!record && !spec_.sha256) {
      seen.users_own = true;
      seen.is = Seen::Is::as_wanted;
      seen.reason = fmt::format("{} was not fetched by gpustrap and is kept as it is", seen.path);
      return seen;
    }
    const Result<std::string> digest = digest_of(host, seen, record);
    if (!digest) return fail(digest.error());
    seen.sha256 = *digest;
    const bool to_replace = record && !record->before.empty() && *digest == record->before && *digest != record->sha256;
    seen.users_own = !record || (*digest != record->sha256 && !to_replace);
    if (spec_.sha256) {
      const bool same = *digest == spec_.sha256->hex;
      seen.is = same ? Seen::Is::as_wanted : Seen::Is::to_fetch;
      seen.reason = same ? fmt::format("{} has sha256 {}", seen.path, short_digest(*digest))
                         : fmt::format("{} has sha256 {}, {} wanted", seen.path, short_digest(*digest), short_digest(spec_.sha256->hex));
    } else if (to_replace) {
      seen.reason = fmt::format("{} has not been replaced yet by what was fetched from {}", seen.path, record->shown_source);
    } else if (seen.users_own) {
      seen.is = Seen::Is::as_wanted;
      seen.reason = fmt::format("{} was changed since it was fetched and is kept as it is", seen.path);
    } else if (record->url_sha256 != sha256_hex(spec_.url.text)) {
      seen.reason = fmt::format("{} was fetched from {}", seen.path, record->shown_source);
    } else {
      seen.is = Seen::Is::as_wanted;
      seen.reason = fmt::format("fetched from {}, sha256 {}", record->shown_source, short_digest(*digest));
    }
    return seen;
  }

  static Result<std::string> digest_of(const Host& host, const Seen& seen, const std::optional<DownloadRecord>& record) {
    const bool as_recorded = record && record->size == seen.info->size && record->mtime_s == seen.info->mtime_s;
    if (as_recorded && seen.info->size > kAlwaysHashed) return record->sha256;
    return host.digest(seen.path);
  }

  static std::string record_path(const Host& host, const std::string& path) {
    return fmt::format("{}/{}.json", state_directory(host, "downloads"), sha256_hex(path).substr(0, 32));
  }

  /// A record that cannot be read is none: the file then counts as the user's own, which loses nothing.
  static std::optional<DownloadRecord> recall(const Host& host, const std::string& path) {
    const Result<std::string> text = host.read(record_path(host, path));
    if (!text) return std::nullopt;
    const Json document = Json::parse(*text, nullptr, false);
    if (!document.is_object() || document.value("path", std::string()) != to_utf8(path)) return std::nullopt;
    const auto text_of = [&document](const char* name) {
      const auto found = document.find(name);
      return found != document.end() && found->is_string() ? found->get<std::string>() : std::string();
    };
    DownloadRecord record{text_of("url_sha256"), text_of("source"), text_of("sha256"), text_of("before")};
    if (document.contains("size") && document["size"].is_number_unsigned()) record.size = document["size"].get<std::uint64_t>();
    if (document.contains("mtime_s") && document["mtime_s"].is_number_integer()) record.mtime_s = document["mtime_s"].get<std::int64_t>();
    return record;
  }

  /// That `path` is, or is about to be, what lies at `fetched_to`.
  Result<void> remember(Host& host, const std::string& path, const std::string& fetched_to, const FetchResult& fetched,
                        const std::string& before) const {
    const Result<std::optional<FileInfo>> info = host.info(fetched_to);
    if (!info) return fail(info.error());
    Json document = {
        {"path", to_utf8(path)}, {"url_sha256", sha256_hex(spec_.url.text)}, {"source", shown_url(fetched.url)}, {"sha256", fetched.sha256},
        {"size", fetched.size},  {"mtime_s", *info ? (*info)->mtime_s : 0}};
    if (!before.empty()) document["before"] = before;
    FileAttributes hidden;
    hidden.mode = 0600;
    const std::string record = record_path(host, path);
    if (Result<void> made = host.make_directory(parent_of(record), {}); !made) return made;
    return host.write(record, document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n", hidden);
  }

  /// Renames what the user has there to a name that nothing has yet.
  static Result<void> keep_aside(const std::string& path, Host& host, StepLog& log) {
    for (int number = 1;; ++number) {
      const std::string aside = path + ".gpustrap-backup" + (number == 1 ? std::string() : fmt::format(".{}", number));
      const Result<std::optional<FileInfo>> taken = host.info(aside);
      if (!taken) return fail(taken.error());
      if (*taken) continue;
      log.say(fmt::format("{} was not what gpustrap had fetched; it is kept as {}", path, aside));
      return host.rename(path, aside);
    }
  }

  DownloadSpec spec_;
  WantedOwnership wanted_;
};

}  // namespace

std::unique_ptr<Step> make_download_step(const StepSpec& spec) { return std::make_unique<DownloadStep>(std::get<DownloadSpec>(spec)); }

}  // namespace gpustrap

#include "controller/copy.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "controller/copy_job.h"
#include "controller/remote_command.h"

namespace gpustrap {
namespace {

using Type = CopyEntry::Type;

/// Files of this size and more travel one by one, so that what has come of one is kept; smaller ones together, so that they cost no round
/// trip each. A cut connection costs what has come of a batch.
constexpr std::uint64_t kLarge = std::uint64_t{8} << 20U;
constexpr std::uint64_t kBatchBytes = std::uint64_t{64} << 20U;
constexpr std::size_t kDigestsAtOnce = 2000;
constexpr RemoteLimits kListLimits{std::chrono::minutes(10), std::size_t{256} << 20U};
constexpr std::size_t kMostLines = 10'000;

bool is_full(std::string_view words) {
  return words.find("No space left") != std::string_view::npos || words.find("Disk quota exceeded") != std::string_view::npos ||
         words.find("no space") != std::string_view::npos;
}

bool is_below(const std::set<std::string>& folders, const std::string& path) {
  for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (folders.contains(path.substr(0, slash))) return true;
  }
  return false;
}

/// As the login's shell would have it: relative to its home.
std::string without_tilde(const std::string& path) {
  if (path == "~" || path == "~/") return ".";
  return path.starts_with("~/") ? path.substr(2) : path;
}

/// Without slashes at its end, but for the root.
std::string trimmed(std::string path) {
  while (path.size() > 1 && path.ends_with('/')) path.pop_back();
  return path;
}

}  // namespace

CopyJob::CopyJob(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report)
    : session_(session), request_(request), memory_(memory), watch_(watch), report_(report), places_(places_of(request)) {}

Result<void> CopyJob::run() {
  const Result<bool> single = list_source();
  if (!single) return fail(single.error());
  single_ = *single;
  source_root_ = single_ ? parent_of(places_.source) : places_.source;
  target_root_ = single_ ? places_.folder : places_.target;
  if (Result<void> listed = list_target(); !listed) return listed;
  report_.to = target_root_;
  if (Result<void> decided = decide_all(); !decided) return decided;
  if (request_.dry_run) {
    for (const CopyItem& item : items_) report_.would.push_back(shown_path(item.path));
    report_.modes = modes_.size();
    return {};
  }
  std::sort(items_.begin(), items_.end(), [](const CopyItem& a, const CopyItem& b) { return a.path < b.path; });
  for (const CopyItem& item : items_) {
    ++progress_.all_files;
    progress_.all_bytes += item.entry.size;
  }
  if (watch_.begins) watch_.begins();
  tell();
  return copy();
}

// ---- what there is

Result<HostListing> CopyJob::list_there(const std::string& path) {
  Result<RemoteResult> said = run_remote(session_, listing_text(), listing_input(path, request_.nonce), kListLimits);
  if (!said) return fail(std::move(said).error());
  if (!said->is_whole)
    return fail(ErrorCode::unsupported, fmt::format("listing {} on the host takes too long", shown_path(path)),
                "copy its folders one by one");
  Result<HostListing> listing = read_listing(said->out, path, request_.nonce);
  if (!listing) return fail(std::move(listing).error().in("listing " + shown_path(path)));
  tools_ = listing->tools;
  errors_ = std::move(said->err);
  return listing;
}

std::vector<std::string> CopyJob::names_of_single() const {
  std::vector<std::string> names;
  for (const auto& [path, entry] : source_) {
    names.push_back(path);
    names.push_back(part_name(path, entry));
  }
  return names;
}

// ---- what is to be done

Result<CopyJob::Digests> CopyJob::digests_there(const std::string& root, const std::vector<std::string>& paths) {
  Digests all;
  for (std::size_t from = 0; from < paths.size(); from += kDigestsAtOnce) {
    const std::vector<std::string> some(paths.begin() + static_cast<std::ptrdiff_t>(from),
                                        paths.begin() + static_cast<std::ptrdiff_t>(std::min(from + kDigestsAtOnce, paths.size())));
    Result<CopyChannel> channel = start(digests_text(), paths_input(root, some));
    if (!channel) return fail(std::move(channel).error());
    Result<CopyChannel::End> end = channel->end();
    if (!end) return fail(std::move(end).error());
    all.merge(read_digests(end->out));
  }
  return all;
}

Result<std::string> CopyJob::digest_of(int file) {
  Sha256 digest;
  std::string piece(kCopyPiece, '\0');
  while (true) {
    const ssize_t got = ::read(file, piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading what has come"));
    if (got == 0) return digest.hex();
    digest.add({piece.data(), static_cast<std::size_t>(got)});
  }
}

Result<void> CopyJob::decide_all() {
  std::set<std::string> blocked;  // folders whose place is taken
  std::vector<std::string> compare;
  for (const auto& [path, entry] : source_) {
    if (is_below(blocked, path)) continue;
    const auto there = target_.find(path);
    const CopyEntry* target = there == target_.end() ? nullptr : &there->second;
    const CopyDecision decision = decide(entry, target, memory_.find(path), request_.rules);
    if (decision.act == CopyDecision::Act::keep && entry.type == Type::folder) blocked.insert(path);
    if (decision.act == CopyDecision::Act::compare)
      compare.push_back(path);
    else
      take(path, entry, target, decision);
  }
  if (compare.empty()) return {};
  const std::string& root_there = is_pull() ? source_root_ : target_root_;
  const std::string& root_here = is_pull() ? target_root_ : source_root_;
  Result<Digests> there = digests_there(root_there, compare);
  if (!there) return fail(std::move(there).error());
  for (const std::string& path : compare) {
    const CopyEntry& source = source_.at(path);
    const CopyEntry& target = target_.at(path);
    const Result<std::string> here = sha256_of_file(root_here + "/" + path);
    const auto known = there->find(path);
    const bool is_equal = here && known != there->end() && known->second == *here;
    take(path, source, &target,
         decide(source, &target, memory_.find(path), request_.rules, is_equal ? Content::equal : Content::different));
    // The next time the times alone tell it.
    if (is_equal && is_pull() && !request_.dry_run && source.mtime != target.mtime) same_times_.emplace_back(path, source.mtime);
  }
  return {};
}

void CopyJob::take(const std::string& path, const CopyEntry& entry, const CopyEntry* target, const CopyDecision& decision) {
  using Act = CopyDecision::Act;
  if (decision.act == Act::keep) return add_line(report_.kept, path, decision.why);
  if (decision.act == Act::skip) return add_line(report_.skipped, path, decision.why);
  if (decision.act == Act::same) {
    if (entry.type == Type::file) {
      ++report_.same;
      memory_.note(path, entry);
      if (target != nullptr && target->mode != entry.mode) modes_.emplace_back(path, entry.mode);
    }
    return;
  }
  if (entry.type == Type::folder) {
    folders_.emplace_back(path, entry.mode);
    if (request_.dry_run) report_.would.push_back(shown_path(path) + "/");
    return;
  }
  items_.push_back({path, entry, target == nullptr ? std::nullopt : std::optional(*target)});
}

// ---- what both ways have in common

Result<CopyChannel> CopyJob::start(const std::string& command, std::string_view input) {
  if (watch_.stopped && watch_.stopped()) return fail(ErrorCode::cancelled, "interrupted");
  Result<CopyChannel> channel = CopyChannel::start(session_, command, input);
  if (channel) channel->stop_where(watch_.stopped);
  return channel;
}

Error CopyJob::host_error(const CopyChannel::End& end, const std::string& doing) {
  std::string said = shown_path(first_line(trim(end.err.empty() ? end.out : end.err), 300));
  for (const std::string& line : split(end.err, '\n')) {
    if (is_full(line)) said = shown_path(first_line(line, 300));
  }
  if (is_full(end.err))
    return Error(ErrorCode::no_space, said, "make room on the host (df -h), then give the same command again").in(doing);
  const bool denied = end.err.find("ermission denied") != std::string::npos;
  return Error(denied ? ErrorCode::permission : ErrorCode::command,
               said.empty() ? fmt::format("the host's tools ended with {}", end.status.value_or(-1)) : said,
               denied ? "this is done as the login user, without sudo; choose a folder of theirs" : "")
      .in(doing);
}

bool CopyJob::is_alone(const CopyItem& item) const { return item.entry.type == Type::file && (single_ || item.entry.size >= kLarge); }

Result<void> CopyJob::copy_all(const std::function<bool(const CopyItem&)>& travels, const std::function<Result<void>(Items)>& batch,
                               const std::function<Result<void>(const CopyItem&)>& alone) {
  const BatchLimits limits = batch_limits(tools_);
  Items items;
  std::uint64_t bytes = 0;
  std::size_t path_bytes = 0;
  const auto flush = [&]() -> Result<void> {
    bytes = path_bytes = 0;
    return items.empty() ? Result<void>() : batch(std::exchange(items, {}));
  };
  for (const CopyItem& item : items_) {
    if (is_alone(item) || !travels(item)) continue;
    items.push_back(&item);
    bytes += item.entry.size;
    path_bytes += item.path.size() + 3;
    if (items.size() < limits.files && path_bytes < limits.path_bytes && bytes < kBatchBytes) continue;
    if (Result<void> went = flush(); !went) return went;
  }
  if (Result<void> went = flush(); !went) return went;
  for (const CopyItem& item : items_) {
    if (!is_alone(item)) continue;
    const Result<void> went = alone(item);
    if (went) continue;
    if (Result<void> settled = settle(item, went.error()); !settled) return settled;
  }
  return {};
}

void CopyJob::tell() const {
  if (watch_.progress) watch_.progress(progress_);
}

void CopyJob::count_bytes(std::size_t bytes) {
  progress_.bytes += bytes;
  report_.bytes += bytes;
  tell();
}

void CopyJob::add_line(std::vector<CopyReport::Line>& lines, const std::string& path, const std::string& why) {
  if (lines.size() < kMostLines) lines.push_back({shown_path(path), shown_path(why)});
}

void CopyJob::done(const CopyItem& item) {
  ++report_.copied;
  ++progress_.files;
  memory_.note(item.path, item.entry);
  if (watch_.copied) watch_.copied(shown_path(item.path));
  tell();
}

void CopyJob::failed(const CopyItem& item, const std::string& why) {
  ++progress_.files;
  add_line(report_.failed, item.path, why);
}

void CopyJob::kept(const CopyItem& item, const std::string& why) {
  ++progress_.files;
  add_line(report_.kept, item.path, why);
}

Result<void> CopyJob::settle(const CopyItem& item, const Error& error) {
  switch (error.code()) {
    case ErrorCode::unreachable:
    case ErrorCode::no_space:
    case ErrorCode::timeout:
    case ErrorCode::cancelled: return fail(error);
    case ErrorCode::busy: kept(item, error.why()); return {};
    default: failed(item, error.sentence()); return {};
  }
}

CopyPlaces places_of(const CopyRequest& request) {
  const bool is_pull = request.direction == CopyDirection::pull;
  const std::string source = trimmed(is_pull ? without_tilde(request.source) : request.source);
  const std::string target = trimmed(is_pull ? request.target : without_tilde(request.target));
  const std::string name = source.substr(source.rfind('/') + 1);
  const bool has_name = !request.source.ends_with('/') && name != "." && name != ".." && !name.empty();
  return {source, !has_name ? target : target == "." ? name : target == "/" ? "/" + name : target + "/" + name, target};
}

Result<void> copy_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report) {
  const bool is_pull = request.direction == CopyDirection::pull;
  return (is_pull ? pull_files : push_files)(session, request, memory, watch, report);
}

}  // namespace gpustrap

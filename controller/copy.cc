#include "controller/copy.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <ctime>
#include <memory>
#include <optional>
#include <set>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/copy_channel.h"
#include "controller/copy_listing.h"
#include "controller/copy_target.h"
#include "controller/remote_command.h"
#include "controller/tar_stream.h"

namespace gpustrap {
namespace {

using Type = CopyEntry::Type;

/// Files of this size and more travel one by one, so that what has come of one is kept; smaller ones together, so that they cost no round
/// trip each. A cut connection costs what has come of a batch.
constexpr std::uint64_t kLarge = std::uint64_t{8} << 20U;
constexpr std::uint64_t kBatchBytes = std::uint64_t{64} << 20U;
constexpr std::size_t kPiece = 256U << 10U;
constexpr std::size_t kDigestsAtOnce = 2000;
constexpr RemoteLimits kListLimits{std::chrono::minutes(10), std::size_t{256} << 20U};
constexpr std::size_t kMostLines = 10'000;

bool is_full(std::string_view words) {
  return words.find("No space left") != std::string_view::npos || words.find("Disk quota exceeded") != std::string_view::npos ||
         words.find("no space") != std::string_view::npos;
}

/// What a command of the host's said on its way out.
Error host_error(const CopyChannel::End& end, const std::string& doing) {
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

bool ended_well(const CopyChannel::End& end) { return end.status.value_or(0) == 0; }

/// One file or link that is to travel.
struct Item {
  std::string path;
  CopyEntry entry;
  std::optional<CopyEntry> before;  ///< what stood at the target when it was decided
};

class Copy {
 public:
  Copy(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report)
      : session_(session), request_(request), memory_(memory), watch_(watch), report_(report), places_(places_of(request)) {}

  Result<void> run() {
    if (Result<void> listed = list_both(); !listed) return listed;
    report_.to = target_root_;
    if (Result<void> decided = decide_all(); !decided) return decided;
    if (request_.dry_run) {
      for (const Item& item : items_) say_would(item);
      return {};
    }
    std::sort(items_.begin(), items_.end(), [](const Item& a, const Item& b) { return a.path < b.path; });
    for (const Item& item : items_) {
      ++progress_.all_files;
      progress_.all_bytes += item.entry.size;
    }
    tell();
    Result<void> done = is_pull() ? pull() : push();
    return done;
  }

 private:
  [[nodiscard]] bool is_pull() const { return request_.direction == CopyDirection::pull; }
  void tell() const {
    if (watch_.progress) watch_.progress(progress_);
  }
  void add_line(std::vector<CopyReport::Line>& lines, const std::string& path, const std::string& why) {
    if (lines.size() < kMostLines) lines.push_back({shown_path(path), shown_path(why)});
  }
  void say_would(const Item& item) { report_.would.push_back(shown_path(item.path)); }
  void count_bytes(std::size_t bytes) {
    progress_.bytes += bytes;
    report_.bytes += bytes;
    tell();
  }
  void done(const Item& item) {
    ++report_.copied;
    ++progress_.files;
    memory_.note(item.path, item.entry);
    if (watch_.copied) watch_.copied(shown_path(item.path));
    tell();
  }
  void failed(const Item& item, const std::string& why) {
    ++progress_.files;
    add_line(report_.failed, item.path, why);
  }
  /// Of the whole where it is about the whole, else of one file.
  Result<void> settle(const Item& item, const Error& error) {
    const ErrorCode code = error.code();
    if (code == ErrorCode::unreachable || code == ErrorCode::no_space || code == ErrorCode::timeout) return fail(error);
    if (code == ErrorCode::busy) {
      add_line(report_.kept, item.path, error.why());
      ++progress_.files;
    } else {
      failed(item, error.sentence());
    }
    return {};
  }

  /// Whether it travels by itself. A link to a file that is the named one itself would be packed as what it is.
  [[nodiscard]] bool is_alone(const Item& item) const { return item.entry.type == Type::file && (single_ || item.entry.size >= kLarge); }

  // ---- what there is

  Result<HostListing> list_there(const std::string& path) {
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

  Result<void> list_both() {
    const Result<bool> single = is_pull() ? list_source_there() : list_source_here();
    if (!single) return fail(single.error());
    single_ = *single;
    source_root_ = single_ ? parent_of(places_.source) : places_.source;
    target_root_ = single_ ? places_.folder : places_.target;
    if (!is_pull()) {
      Result<HostListing> there = list_target_there();
      if (!there) return fail(std::move(there).error());
      if (there->exists && there->is_file && !single_)
        return fail(ErrorCode::usage, fmt::format("{} is no folder on the host", shown_path(target_root_)),
                    "name a folder for it to go to");
      target_ = std::move(there->tree);
      parts_ = std::move(there->parts);
      return {};
    }
    struct stat info {};
    if (::stat(target_root_.c_str(), &info) != 0) return {};
    if (!S_ISDIR(info.st_mode))
      return fail(ErrorCode::usage, fmt::format("{} is no folder", shown_path(target_root_)), "name a folder for it to come to");
    Result<LocalListing> local = list_here(target_root_, single_ ? names_of_single() : std::vector<std::string>());
    if (!local) return fail(std::move(local).error());
    target_ = std::move(local->tree);
    parts_ = std::move(local->parts);
    return {};
  }

  /// Whether it is a single file.
  Result<bool> list_source_there() {
    Result<HostListing> there = list_there(places_.source);
    if (!there) return fail(std::move(there).error());
    if (!there->exists)
      return fail(ErrorCode::not_found, fmt::format("{} is not on the host", shown_path(request_.source)),
                  "names are relative to the login's home there; look with: gpustrap ssh HOST ls");
    for (const ListingComplaint& one : listing_complaints(errors_)) add_line(report_.failed, one.line, one.why);
    for (const std::string& name : there->refused) add_line(report_.skipped, name, "a name that cannot be copied");
    source_ = std::move(there->tree);
    return there->is_file;
  }

  Result<bool> list_source_here() {
    Result<LocalListing> local = list_here(places_.source);
    if (!local) return fail(std::move(local).error());
    for (const std::string& line : local->refused) add_line(report_.failed, line, "it cannot be read");
    source_ = std::move(local->tree);
    return local->is_file;
  }

  /// The file and its part: whatever else lies in that folder is of no interest, and may be a whole home.
  [[nodiscard]] std::vector<std::string> names_of_single() const {
    std::vector<std::string> names;
    for (const auto& [path, entry] : source_) {
      names.push_back(path);
      names.push_back(part_name(path, entry));
    }
    return names;
  }

  Result<HostListing> list_target_there() {
    if (!single_) return list_there(target_root_);
    HostListing all;
    for (const std::string& name : names_of_single()) {
      Result<HostListing> one = list_there(target_root_ == "." ? name : target_root_ + "/" + name);
      if (!one) return one;
      if (!one->exists) continue;
      all.exists = true;
      if (!one->is_file) {
        all.tree[name].type = Type::folder;
      } else if (const auto entry = one->tree.find(name); entry != one->tree.end()) {
        if (is_part(name))
          all.parts[name] = entry->second.size;
        else
          all.tree[name] = entry->second;
      }
    }
    return all;
  }

  // ---- what is to be done

  /// SHA-256 of files on the host, by path.
  Result<std::map<std::string, std::string>> digests_there(const std::string& root, const std::vector<std::string>& paths) {
    std::map<std::string, std::string> all;
    for (std::size_t from = 0; from < paths.size(); from += kDigestsAtOnce) {
      const std::vector<std::string> some(paths.begin() + static_cast<std::ptrdiff_t>(from),
                                          paths.begin() + static_cast<std::ptrdiff_t>(std::min(from + kDigestsAtOnce, paths.size())));
      Result<CopyChannel> channel = CopyChannel::start(session_, digests_text(), paths_input(root, some));
      if (!channel) return fail(std::move(channel).error());
      Result<CopyChannel::End> end = channel->end();
      if (!end) return fail(std::move(end).error());
      all.merge(read_digests(end->out));
    }
    return all;
  }

  Result<void> decide_all() {
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
    Result<std::map<std::string, std::string>> there = digests_there(root_there, compare);
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

  static bool is_below(const std::set<std::string>& folders, const std::string& path) {
    for (std::size_t slash = path.find('/'); slash != std::string::npos; slash = path.find('/', slash + 1)) {
      if (folders.contains(path.substr(0, slash))) return true;
    }
    return false;
  }

  void take(const std::string& path, const CopyEntry& entry, const CopyEntry* target, const CopyDecision& decision) {
    using Act = CopyDecision::Act;
    if (decision.act == Act::keep) return add_line(report_.kept, path, decision.why);
    if (decision.act == Act::skip) return add_line(report_.skipped, path, decision.why);
    if (decision.act == Act::same) {
      if (entry.type == Type::file) {
        ++report_.same;
        memory_.note(path, entry);
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

  // ---- from the host

  Result<void> pull() {
    Result<CopyTarget> target = CopyTarget::open(target_root_);
    if (!target) return fail(std::move(target).error());
    for (const auto& [path, mode] : folders_) {
      if (Result<void> made = target->make_folder(path, mode); !made) {
        if (made.error().code() == ErrorCode::no_space) return made;
        add_line(report_.failed, path, made.error().sentence());
      }
    }
    for (const auto& [path, time] : same_times_) (void)target->set_time(path, time);
    drop_old_parts(*target);
    const BatchLimits limits = batch_limits(tools_);
    std::vector<const Item*> batch;
    std::uint64_t batch_bytes = 0;
    std::size_t path_bytes = 0;
    const auto flush = [&]() -> Result<void> {
      if (batch.empty()) return {};
      Result<void> got = pull_batch(*target, std::exchange(batch, {}));
      batch_bytes = path_bytes = 0;
      return got;
    };
    for (const Item& item : items_) {
      if (item.entry.type == Type::link && !item.entry.target.empty()) {
        const Result<void> made = target->make_link(item.path, item.entry, expected(item));
        if (!made) {
          if (Result<void> settled = settle(item, made.error()); !settled) return settled;
        } else {
          done(item);
        }
        continue;
      }
      if (is_alone(item)) continue;
      batch.push_back(&item);
      batch_bytes += item.entry.size;
      path_bytes += item.path.size() + 3;
      if (batch.size() >= limits.files || path_bytes >= limits.path_bytes || batch_bytes >= kBatchBytes) {
        if (Result<void> got = flush(); !got) return got;
      }
    }
    if (Result<void> got = flush(); !got) return got;
    for (const Item& item : items_) {
      if (!is_alone(item)) continue;
      Result<void> got = pull_large(*target, item);
      if (got) continue;
      if (Result<void> settled = settle(item, got.error()); !settled) return settled;
    }
    return {};
  }

  static const CopyEntry* expected(const Item& item) { return item.before ? &*item.before : nullptr; }

  /// What an earlier copy has left and this one does not go on with.
  void drop_old_parts(CopyTarget& target) const {
    std::set<std::string> wanted;
    for (const Item& item : items_) wanted.insert(part_name(item.path, item.entry));
    for (const auto& [part, size] : parts_) {
      if (!wanted.contains(part) && part.find(".gpustrap-part-") != std::string::npos) target.drop(part);
    }
  }

  /// One member of a batch that has come: its file is whole, and its digest is awaited.
  struct Arrived {
    const Item* item;
    std::string digest;
    bool is_told = false;  ///< how it went has been said already
  };

  Result<void> pull_batch(CopyTarget& target, const std::vector<const Item*>& batch) {
    std::map<std::string, const Item*> wanted;
    std::vector<std::string> paths;
    for (const Item* item : batch) {
      wanted[item->path] = item;
      paths.push_back(item->path);
    }
    std::vector<Arrived> arrived;
    Result<void> got = receive(target, paths, wanted, arrived);
    if (!got) {
      for (const Item* item : batch) target.drop_part(item->path, item->entry);
      return got;
    }
    std::vector<std::string> came;
    for (const Arrived& one : arrived) {
      if (!one.is_told) came.push_back(one.item->path);
    }
    Result<std::map<std::string, std::string>> digests = digests_there(source_root_, came);
    if (!digests) return fail(std::move(digests).error());
    for (const Arrived& one : arrived) {
      const Item& item = *one.item;
      wanted.erase(item.path);
      if (one.is_told) continue;
      const auto known = digests->find(item.path);
      if (known == digests->end() || known->second != one.digest) {
        target.drop_part(item.path, item.entry);
        failed(item, "it was changed on the host while it came; give the same command again");
        continue;
      }
      const Result<void> finished = target.finish(item.path, item.entry, expected(item));
      if (finished) {
        done(item);
        continue;
      }
      target.drop_part(item.path, item.entry);
      if (Result<void> settled = settle(item, finished.error()); !settled) return settled;
    }
    for (const auto& [path, item] : wanted) failed(*item, "the host did not send it: may the login read it?");
    return {};
  }

  Result<void> receive(CopyTarget& target, const std::vector<std::string>& paths, const std::map<std::string, const Item*>& wanted,
                       std::vector<Arrived>& arrived) {
    Result<CopyChannel> channel = CopyChannel::start(session_, send_text(tools_), send_input(source_root_, paths, tools_));
    if (!channel) return fail(std::move(channel).error());
    channel->send_end();
    Result<TarReader> reader = TarReader::open([&] { return channel->read(); });
    if (!reader) return fail(std::move(reader).error());
    while (true) {
      TarReader::Member member;
      const Result<bool> more = reader->next(member);
      if (!more) return fail(more.error());
      if (!*more) break;
      const auto found = wanted.find(member.path);
      // What was not asked for, or is no longer what it was, is not taken.
      if (found == wanted.end() || member.is_hard_link || member.entry.type != found->second->entry.type) continue;
      const Item& item = *found->second;
      if (member.entry.type == Type::link) {
        CopyEntry link = item.entry;
        link.target = member.entry.target;
        const Result<void> made = target.make_link(item.path, link, expected(item));
        arrived.push_back({&item, "", true});
        if (made)
          done(item);
        else if (Result<void> settled = settle(item, made.error()); !settled)
          return settled;
        continue;
      }
      if (member.entry.size != item.entry.size) continue;
      Result<std::string> digest = receive_file(target, *reader, item);
      if (digest) {
        arrived.push_back({&item, *std::move(digest)});
        continue;
      }
      const ErrorCode code = digest.error().code();
      if (code == ErrorCode::unreachable || code == ErrorCode::no_space || code == ErrorCode::protocol)
        return fail(std::move(digest).error());
      target.drop_part(item.path, item.entry);
      failed(item, digest.error().sentence());
      arrived.push_back({&item, "", true});
    }
    const Result<CopyChannel::End> end = channel->end();
    return end ? Result<void>() : fail(end.error());
  }

  /// Its content goes to its part file; what that held of an earlier attempt is written anew. The digest of it.
  Result<std::string> receive_file(CopyTarget& target, TarReader& reader, const Item& item) {
    target.drop_part(item.path, item.entry);
    std::uint64_t there = 0;
    Result<UniqueFd> file = target.open_part(item.path, item.entry, there);
    if (!file) return fail(std::move(file).error());
    Sha256 digest;
    Result<void> taken = reader.read([&](std::string_view bytes) -> Result<void> {
      digest.add(bytes);
      count_bytes(bytes.size());
      return write_all(file->get(), bytes);
    });
    if (!taken) return fail(std::move(taken).error().in("writing " + shown_path(item.path)).with_hint("make room here (df -h)"));
    return digest.hex();
  }

  /// By itself, from where an earlier attempt has come to.
  Result<void> pull_large(CopyTarget& target, const Item& item) {
    std::uint64_t have = 0;
    {
      Result<UniqueFd> file = target.open_part(item.path, item.entry, have);
      if (!file) return fail(std::move(file).error());
      if (have > item.entry.size) {
        target.drop_part(item.path, item.entry);
        return pull_large(target, item);
      }
      progress_.bytes += have;
      tell();
      if (have < item.entry.size) {
        Result<void> got = pull_rest(item, have, file->get());
        if (!got) return got;
      }
    }
    Result<std::map<std::string, std::string>> digests = digests_there(source_root_, {item.path});
    if (!digests) return fail(std::move(digests).error());
    Result<UniqueFd> whole = target.read_part(item.path, item.entry);
    if (!whole) return fail(std::move(whole).error());
    const Result<std::string> here = digest_of(whole->get());
    if (!here) return fail(here.error());
    const auto there = digests->find(item.path);
    if (there == digests->end() || there->second != *here) {
      target.drop_part(item.path, item.entry);
      return fail(ErrorCode::digest, "it was changed on the host while it came", "give the same command again");
    }
    if (Result<void> finished = target.finish(item.path, item.entry, expected(item)); !finished) return finished;
    done(item);
    return {};
  }

  Result<void> pull_rest(const Item& item, std::uint64_t have, int file) {
    Result<CopyChannel> channel = CopyChannel::start(session_, send_rest_text(), send_rest_input(source_root_, item.path, have));
    if (!channel) return fail(std::move(channel).error());
    channel->send_end();
    while (have < item.entry.size) {
      Result<std::string_view> bytes = channel->read();
      if (!bytes) return fail(std::move(bytes).error());
      if (bytes->empty()) {
        const Result<CopyChannel::End> end = channel->end();
        if (!end) return fail(end.error());
        return fail(host_error(*end, "reading it on the host"));
      }
      const std::string_view some =
          bytes->substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(bytes->size(), item.entry.size - have)));
      if (Result<void> written = write_all(file, some); !written)
        return fail(std::move(written)
                        .error()
                        .in("writing " + shown_path(item.path))
                        .with_hint("make room here (df -h), then give the same command again"));
      have += some.size();
      count_bytes(some.size());
    }
    return {};
  }

  static Result<std::string> digest_of(int file) {
    Sha256 digest;
    std::string piece(kPiece, '\0');
    while (true) {
      const ssize_t got = ::read(file, piece.data(), piece.size());
      if (got < 0 && errno == EINTR) continue;
      if (got < 0) return fail(errno_error(errno, "reading what has come"));
      if (got == 0) return digest.hex();
      digest.add({piece.data(), static_cast<std::size_t>(got)});
    }
  }

  // ---- to the host

  [[nodiscard]] const std::string& stage() const { return request_.stage; }

  Result<void> push() {
    const auto is_stage = [&](const auto& part) { return part.first == stage() || part.first.starts_with(stage() + "/"); };
    if (items_.empty() && folders_.empty() && std::none_of(parts_.begin(), parts_.end(), is_stage)) return {};
    // Folders first: large files come to lie beside their own names.
    HostMoves folders;
    for (const auto& [path, mode] : folders_) folders.folders.emplace_back(mode | 0700U, path);
    const bool has_large = std::any_of(items_.begin(), items_.end(), [&](const Item& item) { return is_alone(item); });
    if (has_large || items_.empty()) {
      if (Result<void> made = move(folders, {}); !made) return made;
      folders = {};
    }
    const BatchLimits limits = batch_limits(tools_);
    std::vector<const Item*> batch;
    std::uint64_t batch_bytes = 0;
    std::size_t path_bytes = 0;
    const auto flush = [&]() -> Result<void> {
      if (batch.empty()) return {};
      Result<void> sent = push_batch(std::exchange(folders, {}), std::exchange(batch, {}));
      batch_bytes = path_bytes = 0;
      return sent;
    };
    for (const Item& item : items_) {
      if (is_alone(item)) continue;
      batch.push_back(&item);
      batch_bytes += item.entry.size;
      path_bytes += item.path.size() + 3;
      if (batch.size() >= limits.files || path_bytes >= limits.path_bytes || batch_bytes >= kBatchBytes) {
        if (Result<void> sent = flush(); !sent) return sent;
      }
    }
    if (Result<void> sent = flush(); !sent) return sent;
    for (const Item& item : items_) {
      if (!is_alone(item)) continue;
      Result<void> sent = push_large(item);
      if (sent) continue;
      if (Result<void> settled = settle(item, sent.error()); !settled) return settled;
    }
    return {};
  }

  /// Of those that would take another's place, whatever else has come to stand there meanwhile is left.
  Result<void> leave_what_changed(std::vector<const Item*>& items) {
    const bool replaces = std::any_of(items.begin(), items.end(), [](const Item* item) { return item->before.has_value(); });
    if (!replaces) return {};
    Result<HostListing> now = list_target_there();
    if (!now) return fail(std::move(now).error());
    std::erase_if(items, [&](const Item* item) {
      const auto found = now->tree.find(item->path);
      if (found == now->tree.end()) return false;
      const CopyEntry& entry = found->second;
      if (item->before && entry.type == item->before->type && entry.size == item->before->size && entry.mtime == item->before->mtime)
        return false;
      add_line(report_.kept, item->path, "it was changed while this ran");
      ++progress_.files;
      return true;
    });
    return {};
  }

  Result<void> push_batch(const HostMoves& folders, const std::vector<const Item*>& batch) {
    std::vector<const Item*> sent;
    std::map<std::string, std::string> digests;
    if (Result<void> went = send_batch(batch, sent, digests); !went) {
      if (session_.connected()) (void)move({}, {});  // what has come of it takes room
      return went;
    }
    std::vector<std::string> files;
    for (const Item* item : sent) {
      if (item->entry.type == Type::file) files.push_back(stage() + "/" + item->path);
    }
    Result<std::map<std::string, std::string>> there = digests_there(target_root_, files);
    if (!there) return fail(std::move(there).error());
    std::erase_if(sent, [&](const Item* item) {
      if (item->entry.type != Type::file) return false;
      const auto found = there->find(stage() + "/" + item->path);
      if (found != there->end() && found->second == digests[item->path]) return false;
      failed(*item, "it did not come there whole; give the same command again");
      return true;
    });
    if (Result<void> left = leave_what_changed(sent); !left) return left;
    HostMoves moves = folders;
    for (const Item* item : sent) moves.files.push_back({stage() + "/" + item->path, item->path, std::nullopt, !item->before});
    return move(moves, sent);
  }

  /// `sent` are those that could be read here.
  Result<void> send_batch(const std::vector<const Item*>& batch, std::vector<const Item*>& sent,
                          std::map<std::string, std::string>& digests) {
    Result<CopyChannel> channel = CopyChannel::start(session_, take_text(), take_input(target_root_, stage()));
    if (!channel) return fail(std::move(channel).error());
    Result<TarWriter> writer = TarWriter::open([&](std::string_view bytes) { return channel->write(bytes); });
    if (!writer) return fail(std::move(writer).error());
    const auto broken = [&](Error error) -> Result<void> {
      if (error.code() != ErrorCode::cancelled) return fail(std::move(error));
      const Result<CopyChannel::End> end = channel->end();
      return end ? fail(host_error(*end, "writing on the host")) : fail(end.error());
    };
    std::string piece(kPiece, '\0');
    for (const Item* item : batch) {
      UniqueFd file;
      if (item->entry.type == Type::file) {
        file.reset(::open((source_root_ + "/" + item->path).c_str(), O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
        struct stat info {};
        if (!file.valid() || ::fstat(file.get(), &info) != 0) {
          failed(*item, errno_error(errno, "reading it").sentence());
          continue;
        }
        if (!S_ISREG(info.st_mode) || static_cast<std::uint64_t>(info.st_size) != item->entry.size || info.st_mtime != item->entry.mtime) {
          failed(*item, "it was changed here meanwhile; give the same command again");
          continue;
        }
      }
      if (Result<void> begun = writer->begin(item->path, item->entry); !begun) return broken(std::move(begun).error());
      Sha256 digest;
      std::uint64_t left = item->entry.type == Type::file ? item->entry.size : 0;
      while (left > 0) {
        const ssize_t got = ::read(file.get(), piece.data(), static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), left)));
        if (got < 0 && errno == EINTR) continue;
        // It became shorter: zeros fill its place in the tar, and its digest, which is of what was read, says that it is not whole.
        const std::string_view bytes(piece.data(), got > 0 ? static_cast<std::size_t>(got) : std::min<std::uint64_t>(piece.size(), left));
        if (got <= 0) std::fill(piece.begin(), piece.end(), '\0');
        if (got > 0) digest.add(bytes);
        if (Result<void> added = writer->add(bytes); !added) return broken(std::move(added).error());
        left -= bytes.size();
        count_bytes(bytes.size());
      }
      digests[item->path] = digest.hex();
      sent.push_back(item);
    }
    if (Result<void> ended = writer->end(); !ended) return broken(std::move(ended).error());
    const Result<CopyChannel::End> end = channel->end();
    if (!end) return fail(end.error());
    return ended_well(*end) ? Result<void>() : fail(host_error(*end, "writing on the host"));
  }

  /// Makes folders and gives files their names; the stage is gone then.
  Result<void> move(const HostMoves& moves, const std::vector<const Item*>& items) {
    Result<CopyChannel> channel = CopyChannel::start(session_, move_text(), move_input(target_root_, stage(), moves));
    if (!channel) return fail(std::move(channel).error());
    const Result<CopyChannel::End> end = channel->end();
    if (!end) return fail(end.error());
    if (!ended_well(*end) || end->out.find("moved") == std::string::npos) return fail(host_error(*end, "writing on the host"));
    std::set<std::size_t> bad, taken;
    for (const std::string& line : split(end->out, '\n')) {
      const std::vector<std::string> words_said = words(line);
      if (words_said.size() != 2 || (words_said[0] != "failed" && words_said[0] != "taken")) continue;
      std::size_t index = 0;
      for (const char c : words_said[1].substr(0, 9)) index = c >= '0' && c <= '9' ? 10 * index + static_cast<std::size_t>(c - '0') : 0;
      (words_said[0] == "taken" ? taken : bad).insert(index);
    }
    const std::string why = shown_path(first_line(trim(end->err), 200));
    for (std::size_t i = 0; i < moves.folders.size(); ++i) {
      if (bad.contains(i + 1)) add_line(report_.failed, moves.folders[i].second, why.empty() ? "something else is in its place" : why);
    }
    for (std::size_t i = 0; i < items.size(); ++i) {
      const std::size_t number = moves.folders.size() + i + 1;
      if (taken.contains(number))
        failed(*items[i], "something has come to stand there meanwhile");
      else if (bad.contains(number))
        failed(*items[i], why.empty() ? "a folder is in its place" : why);
      else
        done(*items[i]);
    }
    return {};
  }

  Result<void> push_large(const Item& item) {
    const std::string part = part_name(item.path, item.entry);
    UniqueFd file(::open((source_root_ + "/" + item.path).c_str(), O_RDONLY | (single_ ? 0 : O_NOFOLLOW) | O_CLOEXEC));
    if (!file.valid()) return fail(errno_error(errno, "reading it"));
    std::uint64_t have = 0;
    if (const auto left = parts_.find(part); left != parts_.end() && left->second <= item.entry.size) have = left->second;
    Result<CopyChannel> channel = CopyChannel::start(session_, take_rest_text(), take_rest_input(target_root_, part, have));
    if (!channel) return fail(std::move(channel).error());
    progress_.bytes += have;
    std::string piece(kPiece, '\0');
    std::uint64_t at = have;
    while (at < item.entry.size) {
      const ssize_t got =
          ::pread(file.get(), piece.data(), static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), item.entry.size - at)),
                  static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      if (Result<void> put = channel->write({piece.data(), static_cast<std::size_t>(got)}); !put) {
        if (put.error().code() != ErrorCode::cancelled) return put;
        const Result<CopyChannel::End> end = channel->end();
        return end ? fail(host_error(*end, "writing on the host")) : fail(end.error());
      }
      at += static_cast<std::uint64_t>(got);
      count_bytes(static_cast<std::size_t>(got));
    }
    const Result<CopyChannel::End> end = channel->end();
    if (!end) return fail(end.error());
    if (!ended_well(*end)) return fail(host_error(*end, "writing on the host"));
    Result<std::map<std::string, std::string>> there = digests_there(target_root_, {part});
    if (!there) return fail(std::move(there).error());
    const Result<std::string> here = digest_of(file.get());
    if (!here) return fail(here.error());
    const auto found = there->find(part);
    std::vector<const Item*> items = {&item};
    if (found == there->end() || found->second != *here) {
      // What an earlier attempt had left was not of this file: it goes, and the next attempt begins anew.
      HostMoves none;
      none.removed = {part};
      (void)move(none, {});
      return fail(ErrorCode::digest, "it did not come there whole", "give the same command again");
    }
    if (Result<void> left = leave_what_changed(items); !left || items.empty()) return left;
    HostMoves moves;
    moves.files.push_back({part, item.path, item.entry, !item.before});
    return move(moves, items);
  }

  SshSession& session_;
  const CopyRequest& request_;
  CopyMemory& memory_;
  const CopyWatch& watch_;
  CopyReport& report_;
  CopyPlaces places_;
  std::string source_root_, target_root_;
  CopyTree source_, target_;
  std::map<std::string, std::uint64_t> parts_;  ///< what earlier copies have left at the target
  std::vector<std::pair<std::string, unsigned>> folders_;
  std::vector<Item> items_;
  std::vector<std::pair<std::string, std::int64_t>> same_times_;
  HostTools tools_ = HostTools::gnu;
  std::string errors_;  ///< of the last listing
  CopyProgress progress_;
  bool single_ = false;  ///< the source is one file
};

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

CopyPlaces places_of(const CopyRequest& request) {
  const bool is_pull = request.direction == CopyDirection::pull;
  const std::string source = trimmed(is_pull ? without_tilde(request.source) : request.source);
  const std::string target = trimmed(is_pull ? request.target : without_tilde(request.target));
  const std::string name = source.substr(source.rfind('/') + 1);
  const bool has_name = !request.source.ends_with('/') && name != "." && name != ".." && !name.empty();
  return {source, !has_name ? target : target == "." ? name : target == "/" ? "/" + name : target + "/" + name, target};
}

Result<void> copy_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report) {
  return Copy(session, request, memory, watch, report).run();
}

}  // namespace gpustrap

// `push`: files to a host.
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/copy_job.h"
#include "controller/tar_stream.h"

namespace gpustrap {
namespace {

using Type = CopyEntry::Type;

class Push : public CopyJob {
 public:
  using CopyJob::CopyJob;

 protected:
  Result<bool> list_source() override {
    Result<LocalListing> local = list_here(places_.source);
    if (!local) return fail(std::move(local).error());
    for (const std::string& line : local->refused) add_line(report_.failed, line, "it cannot be read");
    source_ = std::move(local->tree);
    return local->is_file;
  }

  Result<void> list_target() override {
    Result<HostListing> there = list_target_there();
    if (!there) return fail(std::move(there).error());
    if (there->exists && there->is_file && !single_)
      return fail(ErrorCode::usage, fmt::format("{} is no folder on the host", shown_path(target_root_)), "name a folder for it to go to");
    target_ = std::move(there->tree);
    parts_ = std::move(there->parts);
    return {};
  }

  Result<void> copy() override {
    const auto is_stage = [&](const auto& part) { return part.first == stage() || part.first.starts_with(stage() + "/"); };
    // Folders first: large files come to lie beside their own names.
    HostMoves first;
    for (const auto& [path, mode] : folders_) first.folders.emplace_back(mode | 0700U, path);
    first.modes = modes_;
    first.removed = old_parts();
    const bool is_empty = first.folders.empty() && first.modes.empty() && first.removed.empty();
    if (items_.empty() && is_empty && std::none_of(parts_.begin(), parts_.end(), is_stage)) return {};
    const bool has_large = std::any_of(items_.begin(), items_.end(), [&](const CopyItem& item) { return is_alone(item); });
    if (has_large || items_.empty()) {
      if (Result<void> made = move(first, {}); !made) return made;
      first = {};
    }
    return copy_all([](const CopyItem&) { return true; }, [&](const Items& batch) { return push_batch(std::exchange(first, {}), batch); },
                    [&](const CopyItem& item) { return push_large(item); });
  }

 private:
  [[nodiscard]] const std::string& stage() const { return request_.stage; }

  /// What an earlier push has left of files that are others now. Known by what is remembered here: another machine may be pushing there.
  [[nodiscard]] std::vector<std::string> old_parts() {
    std::set<std::string> wanted;
    for (const CopyItem& item : items_) wanted.insert(part_name(item.path, item.entry));
    std::vector<std::string> old;
    for (const std::string& part : memory_.parts()) {
      if (wanted.contains(part)) continue;
      if (parts_.contains(part)) old.push_back(part);
      memory_.forget_part(part);
    }
    return old;
  }

  /// Of those that would take another's place, whatever else has come to stand there meanwhile is left.
  Result<void> leave_what_changed(Items& items) {
    const bool replaces = std::any_of(items.begin(), items.end(), [](const CopyItem* item) { return item->before.has_value(); });
    if (!replaces) return {};
    Result<HostListing> now = list_target_there();
    if (!now) return fail(std::move(now).error());
    std::erase_if(items, [&](const CopyItem* item) {
      const auto found = now->tree.find(item->path);
      if (found == now->tree.end()) return false;
      const CopyEntry& entry = found->second;
      if (item->before && entry.type == item->before->type && entry.size == item->before->size && entry.mtime == item->before->mtime)
        return false;
      kept(*item, "it was changed while this ran");
      return true;
    });
    return {};
  }

  Result<void> push_batch(const HostMoves& folders, const Items& batch) {
    Items sent;
    Digests digests;
    if (Result<void> went = send_batch(batch, sent, digests); !went) {
      clear_stage();
      return went;
    }
    std::vector<std::string> files;
    for (const CopyItem* item : sent) {
      if (item->entry.type == Type::file) files.push_back(stage() + "/" + item->path);
    }
    Result<Digests> there = digests_there(target_root_, files);
    if (!there) {
      clear_stage();
      return fail(std::move(there).error());
    }
    std::erase_if(sent, [&](const CopyItem* item) {
      if (item->entry.type != Type::file) return false;
      const auto found = there->find(stage() + "/" + item->path);
      if (found != there->end() && found->second == digests[item->path]) return false;
      failed(*item, "it did not come there whole; give the same command again");
      return true;
    });
    if (Result<void> left = leave_what_changed(sent); !left) return left;
    HostMoves moves = folders;
    for (const CopyItem* item : sent) moves.files.push_back({stage() + "/" + item->path, item->path, std::nullopt, !item->before});
    return move(moves, sent);
  }

  /// `sent` are those that could be read here.
  Result<void> send_batch(const Items& batch, Items& sent, Digests& digests) {
    Result<CopyChannel> channel = start(take_text(), take_input(target_root_, stage()));
    if (!channel) return fail(std::move(channel).error());
    Result<TarWriter> writer = TarWriter::open([&](std::string_view bytes) { return channel->write(bytes); });
    if (!writer) return fail(std::move(writer).error());
    const auto broken = [&](Error error) -> Result<void> {
      if (error.code() == ErrorCode::cancelled) {
        // What has come there is unpacked before it is cleared away, or some of it would come to lie there afterwards.
        channel->stop_where(watch_.abandoned);
        (void)channel->end();
      }
      if (error.code() != ErrorCode::command) return fail(std::move(error));
      const Result<CopyChannel::End> end = channel->end();
      return end ? fail(host_error(*end, "writing on the host")) : fail(end.error());
    };
    std::string piece(kCopyPiece, '\0');
    for (const CopyItem* item : batch) {
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

  /// What has come of a batch that did not come to its end takes room.
  void clear_stage() {
    if (session_.connected()) (void)move({}, {});
  }

  /// Makes folders and gives files their names; the stage is gone then.
  Result<void> move(const HostMoves& moves, const Items& items) {
    Result<CopyChannel> channel = CopyChannel::start(session_, move_text(), move_input(target_root_, stage(), moves));
    if (!channel) return fail(std::move(channel).error());
    channel->stop_where(watch_.abandoned);  // seconds, and half of it would be worse than all
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
    report_.modes += moves.modes.size();
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

  Result<void> push_large(const CopyItem& item) {
    const std::string part = part_name(item.path, item.entry);
    UniqueFd file(::open((source_root_ + "/" + item.path).c_str(), O_RDONLY | (single_ ? 0 : O_NOFOLLOW) | O_CLOEXEC));
    if (!file.valid()) return fail(errno_error(errno, "reading it"));
    std::uint64_t have = 0;
    if (const auto left = parts_.find(part); left != parts_.end() && left->second <= item.entry.size) have = left->second;
    Result<CopyChannel> channel = start(take_rest_text(), take_rest_input(target_root_, part, have));
    if (!channel) return fail(std::move(channel).error());
    progress_.bytes += have;
    memory_.note_part(part);
    (void)memory_.save();  // its error is told at the end
    std::string piece(kCopyPiece, '\0');
    std::uint64_t at = have;
    while (at < item.entry.size) {
      const ssize_t got =
          ::pread(file.get(), piece.data(), static_cast<std::size_t>(std::min<std::uint64_t>(piece.size(), item.entry.size - at)),
                  static_cast<off_t>(at));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      if (Result<void> put = channel->write({piece.data(), static_cast<std::size_t>(got)}); !put) {
        if (put.error().code() != ErrorCode::command) return put;
        const Result<CopyChannel::End> end = channel->end();
        return end ? fail(host_error(*end, "writing on the host")) : fail(end.error());
      }
      at += static_cast<std::uint64_t>(got);
      count_bytes(static_cast<std::size_t>(got));
    }
    const Result<CopyChannel::End> end = channel->end();
    if (!end) return fail(end.error());
    if (!ended_well(*end)) return fail(host_error(*end, "writing on the host"));
    Result<Digests> there = digests_there(target_root_, {part});
    if (!there) return fail(std::move(there).error());
    const Result<std::string> here = digest_of(file.get());
    if (!here) return fail(here.error());
    const auto found = there->find(part);
    Items items = {&item};
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
    Result<void> moved = move(moves, items);
    if (moved) memory_.forget_part(part);
    return moved;
  }

  Result<HostListing> list_target_there() {
    if (!single_) return list_there(target_root_);
    HostListing all;
    std::vector<std::string> names = names_of_single();
    for (const std::string& part : memory_.parts()) {
      if (std::find(names.begin(), names.end(), part) == names.end()) names.push_back(part);
    }
    for (const std::string& name : names) {
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
};

}  // namespace

Result<void> push_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report) {
  return Push(session, request, memory, watch, report).run();
}

}  // namespace gpustrap

// `pull`: files from a host.
#include <sys/stat.h>

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/copy_job.h"
#include "controller/copy_target.h"
#include "controller/tar_stream.h"

namespace gpustrap {
namespace {

using Type = CopyEntry::Type;

class Pull : public CopyJob {
 public:
  using CopyJob::CopyJob;

 protected:
  Result<bool> list_source() override {
    Result<HostListing> there = list_there(places_.source);
    if (!there) return fail(std::move(there).error());
    if (!there->exists)
      return fail(ErrorCode::not_found, fmt::format("{} is not on the host", shown_path(request_.source)),
                  request_.source.find_first_of("*?[") != std::string::npos
                      ? "a name is taken as it stands, without wildcards: name the folder, which is copied with all that is in it"
                      : "names are relative to the login's home there; look with: gpustrap ssh HOST ls");
    for (const ListingComplaint& one : listing_complaints(errors_)) add_line(report_.failed, one.line, one.why);
    for (const std::string& name : there->refused) add_line(report_.skipped, name, "a name that cannot be copied");
    source_ = std::move(there->tree);
    return there->is_file;
  }

  Result<void> list_target() override {
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

  Result<void> copy() override {
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
    for (const auto& [path, mode] : modes_) {
      if (target->set_mode(path, mode)) ++report_.modes;
    }
    const auto is_known_link = [](const CopyItem& item) { return item.entry.type == Type::link && !item.entry.target.empty(); };
    for (const CopyItem& item : items_) {
      if (!is_known_link(item)) continue;
      const Result<void> made = target->make_link(item.path, item.entry, item.expected());
      if (made)
        done(item);
      else if (Result<void> settled = settle(item, made.error()); !settled)
        return settled;
    }
    return copy_all([&](const CopyItem& item) { return !is_known_link(item); },
                    [&](const Items& batch) { return pull_batch(*target, batch); },
                    [&](const CopyItem& item) { return pull_large(*target, item); });
  }

 private:
  /// What an earlier copy has left and this one does not go on with.
  void drop_old_parts(CopyTarget& target) const {
    std::set<std::string> wanted;
    for (const CopyItem& item : items_) wanted.insert(part_name(item.path, item.entry));
    for (const auto& [part, size] : parts_) {
      if (!wanted.contains(part) && part.find(".gpustrap-part-") != std::string::npos) target.drop(part);
    }
  }

  /// One member of a batch that has come: its file is whole, and its digest is awaited.
  struct Arrived {
    const CopyItem* item;
    std::string digest;
    bool is_told = false;  ///< how it went has been said already
  };

  Result<void> pull_batch(CopyTarget& target, const Items& batch) {
    std::map<std::string, const CopyItem*> wanted;
    std::vector<std::string> paths;
    for (const CopyItem* item : batch) {
      wanted[item->path] = item;
      paths.push_back(item->path);
    }
    std::vector<Arrived> arrived;
    Result<void> got = receive(target, paths, wanted, arrived);
    const auto drop_all = [&] {
      for (const CopyItem* item : batch) target.drop_part(item->path, item->entry);
    };
    if (!got) {
      drop_all();
      return got;
    }
    std::vector<std::string> came;
    for (const Arrived& one : arrived) {
      if (!one.is_told) came.push_back(one.item->path);
    }
    Result<Digests> digests = digests_there(source_root_, came);
    if (!digests) {
      drop_all();
      return fail(std::move(digests).error());
    }
    for (const Arrived& one : arrived) {
      const CopyItem& item = *one.item;
      wanted.erase(item.path);
      if (one.is_told) continue;
      const auto known = digests->find(item.path);
      if (known == digests->end() || known->second != one.digest) {
        target.drop_part(item.path, item.entry);
        failed(item, "it was changed on the host while it came; give the same command again");
        continue;
      }
      const Result<void> finished = target.finish(item.path, item.entry, item.expected());
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

  Result<void> receive(CopyTarget& target, const std::vector<std::string>& paths, const std::map<std::string, const CopyItem*>& wanted,
                       std::vector<Arrived>& arrived) {
    Result<CopyChannel> channel = start(send_text(tools_), send_input(source_root_, paths, tools_));
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
      const CopyItem& item = *found->second;
      if (member.entry.type == Type::link) {
        CopyEntry link = item.entry;
        link.target = member.entry.target;
        const Result<void> made = target.make_link(item.path, link, item.expected());
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
      if (code == ErrorCode::unreachable || code == ErrorCode::no_space || code == ErrorCode::protocol || code == ErrorCode::cancelled)
        return fail(std::move(digest).error());
      target.drop_part(item.path, item.entry);
      failed(item, digest.error().sentence());
      arrived.push_back({&item, "", true});
    }
    const Result<CopyChannel::End> end = channel->end();
    return end ? Result<void>() : fail(end.error());
  }

  /// Its content goes to its part file; what that held of an earlier attempt is written anew. The digest of it.
  Result<std::string> receive_file(CopyTarget& target, TarReader& reader, const CopyItem& item) {
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
  Result<void> pull_large(CopyTarget& target, const CopyItem& item) {
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
    Result<Digests> digests = digests_there(source_root_, {item.path});
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
    if (Result<void> finished = target.finish(item.path, item.entry, item.expected()); !finished) return finished;
    done(item);
    return {};
  }

  Result<void> pull_rest(const CopyItem& item, std::uint64_t have, int file) {
    Result<CopyChannel> channel = start(send_rest_text(), send_rest_input(source_root_, item.path, have));
    if (!channel) return fail(std::move(channel).error());
    channel->send_end();
    while (have < item.entry.size) {
      Result<std::string_view> bytes = channel->read();
      if (!bytes) return fail(std::move(bytes).error());
      if (bytes->empty()) {
        const Result<CopyChannel::End> end = channel->end();
        if (!end) return fail(end.error());
        return fail(host_error(*end, "reading it on the host")
                        .with_hint("this is done as the login user, without sudo: make it readable there, or pull a copy of it"));
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
};

}  // namespace

Result<void> pull_files(SshSession& session, const CopyRequest& request, CopyMemory& memory, const CopyWatch& watch, CopyReport& report) {
  return Pull(session, request, memory, watch, report).run();
}

}  // namespace gpustrap

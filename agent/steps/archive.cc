#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/shown_url.h"
#include "agent/steps/archive_manifest.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"
#include "agent/steps/state_paths.h"

// What becomes of a name that an archive has and the folder has too:
// - the same content: it is the archive's from now on;
// - what some archive had put there, unchanged: replaced by the new version;
// - anything else is the user's: kept. Where the archive brings a version that the folder never had, it goes beside it as NAME.new.
// Names that the folder lacks come (back). What the archive does not name is never touched. An earlier archive's manifest goes once
// more than half of its files are named by the new one: that is another version of the same thing, and going back to the earlier
// one is then an update again; two archives that merely share a few names stay side by side.

namespace gpustrap {
namespace {

std::string shown_list(const std::vector<std::string>& names) {
  constexpr std::size_t kShown = 5;
  std::vector<std::string> shown;
  for (std::size_t i = 0; i < std::min(names.size(), kShown); ++i) shown.push_back(strip_control(to_utf8(names[i])));
  std::string text = join(shown, ", ");
  if (names.size() > kShown) text += fmt::format(" and {} more", names.size() - kShown);
  return text;
}

std::string files(std::size_t count) { return fmt::format("{} file{}", count, count == 1 ? "" : "s"); }

std::size_t count_files(const std::vector<ManifestEntry>& entries) {
  return static_cast<std::size_t>(
      std::count_if(entries.begin(), entries.end(), [](const ManifestEntry& entry) { return entry.type != FileType::directory; }));
}

/// Content of what stands there, as a manifest says it: a file's digest, a link's target, "" for anything else.
Result<std::string> content_of(const Host& host, const std::string& path, const FileInfo& info) {
  if (info.type == FileType::regular) return host.digest(path);
  if (info.type == FileType::symlink) return host.read_link(path);
  return std::string();
}

/// Brings what lies in the staging folder to its place, and keeps count.
class Placement {
 public:
  Placement(Host& host, std::string staging, std::string folder, const std::vector<ArchiveManifest>& earlier)
      : host_(host), staging_(std::move(staging)), folder_(std::move(folder)) {
    for (const ArchiveManifest& manifest : earlier) {
      for (const ManifestEntry& entry : manifest.entries) known_[entry.path].insert(entry.content);
    }
  }

  Result<void> place(const UnpackedEntry& entry) {
    const std::string path = folder_ + "/" + entry.path;
    const Result<std::optional<FileInfo>> info = host_.info(path);
    if (!info) return fail(info.error());
    ManifestEntry made{entry.path, entry.type, entry.type == FileType::symlink ? entry.target : entry.sha256};
    Result<void> placed = entry.type == FileType::directory ? place_directory(path, entry, *info) : place_file(path, made, *info);
    if (!placed) return placed;
    entries_.push_back(std::move(made));
    return {};
  }

  [[nodiscard]] std::vector<ManifestEntry> take_entries() { return std::move(entries_); }

  void tell(StepLog& log, bool first_time) const {
    if (!added_.empty())
      log.say(first_time ? fmt::format("{} unpacked", files(added_.size()))
                         : fmt::format("{} restored or added: {}", files(added_.size()), shown_list(added_)));
    if (!updated_.empty()) log.say(fmt::format("{} updated: {}", files(updated_.size()), shown_list(updated_)));
    if (adopted_ > 0 && first_time) log.say(fmt::format("{} were there already", files(adopted_)));
    if (!kept_.empty())
      log.say(fmt::format("{} you changed {} kept: {}", files(kept_.size()), kept_.size() == 1 ? "was" : "were", shown_list(kept_)));
    if (!beside_.empty()) log.say(fmt::format("new versions of them are beside: {}", shown_list(beside_)));
  }

 private:
  Result<void> place_directory(const std::string& path, const UnpackedEntry& entry, const std::optional<FileInfo>& info) {
    if (!info) {
      FileAttributes attributes;
      attributes.mode = entry.mode & 0755U;  // as a umask of 022 leaves it
      return host_.make_directory(path, attributes);
    }
    if (info->type != FileType::directory && info->type != FileType::symlink) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, where the archive has a folder", path, describe_type(info->type)),
                  "rename what is there, which is kept as it is, and run again");
    }
    // A link to a folder is how users move large data to another disk, and their own affair. Root does not follow other users' links.
    if (info->type == FileType::symlink && host_.self().uid == 0 && info->uid != 0) {
      return fail(ErrorCode::unsafe, fmt::format("{} is a link that belongs to uid {}; root does not write through it", path, info->uid),
                  "run the step with `as: login`, or remove the link");
    }
    return {};
  }

  Result<void> place_file(const std::string& path, ManifestEntry& made, const std::optional<FileInfo>& info) {
    if (!info) {
      added_.push_back(made.path);
      return move_in(path, made);
    }
    const Result<std::string> content = content_of(host_, path, *info);
    if (!content) return fail(content.error());
    if (*content == made.content && info->type == made.type) {
      ++adopted_;
      note_state(made, *info);
      return {};
    }
    const auto known = known_.find(made.path);
    const bool pristine = known != known_.end() && !content->empty() && known->second.contains(*content);
    if (pristine) {
      updated_.push_back(made.path);
      if (info->type != made.type) {  // a rename replaces a file by a link and a link by a file, too
        if (Result<void> removed = host_.remove(path); !removed) return removed;
      }
      return move_in(path, made);
    }
    kept_.push_back(made.path);
    const bool new_version = known != known_.end() && !known->second.contains(made.content);
    return new_version ? put_beside(path, made) : Result<void>();
  }

  Result<void> move_in(const std::string& path, ManifestEntry& made) {
    if (Result<void> moved = host_.rename(staging_ + "/" + made.path, path); !moved) return moved;
    const Result<std::optional<FileInfo>> info = host_.info(path);
    if (!info) return fail(info.error());
    if (*info) note_state(made, **info);
    return {};
  }

  Result<void> put_beside(const std::string& path, const ManifestEntry& made) {
    const std::string beside = path + ".new";
    const Result<std::optional<FileInfo>> info = host_.info(beside);
    if (!info) return fail(info.error());
    if (*info) {
      // The one that an earlier version left may go; anything else is not ours to replace.
      const Result<std::string> content = content_of(host_, beside, **info);
      if (!content) return fail(content.error());
      if (!known_.at(made.path).contains(*content)) return {};
    }
    beside_.push_back(made.path + ".new");
    return host_.rename(staging_ + "/" + made.path, beside);
  }

  static void note_state(ManifestEntry& made, const FileInfo& info) {
    made.size = info.size;
    made.mtime_s = info.mtime_s;
  }

  Host& host_;
  std::string staging_, folder_;
  std::map<std::string, std::set<std::string>> known_;  ///< contents that archives ever put there
  std::vector<ManifestEntry> entries_;
  std::vector<std::string> added_, updated_, kept_, beside_;
  std::size_t adopted_ = 0;
};

class ArchiveStep : public Step {
 public:
  explicit ArchiveStep(ArchiveSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Place> place = find_place(host);
    if (!place) return fail(place.error());
    const Result<std::optional<ArchiveManifest>> manifest = read_manifest(host, place->id);
    if (!manifest) return fail(manifest.error());
    if (!*manifest) return state_without_manifest(host, *place);
    std::vector<std::string> missing;
    std::size_t changed = 0;
    for (const ManifestEntry& entry : (*manifest)->entries) {
      const std::string path = place->folder + "/" + entry.path;
      const Result<std::optional<FileInfo>> info = host.info(path);
      if (!info) return fail(info.error());
      if (!*info) {
        missing.push_back(entry.path);
        continue;
      }
      const Result<bool> differs = has_changed(host, path, entry, **info);
      if (!differs) return fail(differs.error());
      if (*differs) ++changed;
    }
    const std::size_t total = count_files((*manifest)->entries);
    const std::string kept =
        changed == 0 ? std::string() : fmt::format(", {} you changed {} kept", files(changed), changed == 1 ? "was" : "were");
    if (!missing.empty()) {
      return StepState::unsatisfied(
          fmt::format("{} of {} missing{}: {}", missing.size(), (*manifest)->entries.size(), kept, shown_list(missing)),
          "restore " + shown_list(missing));
    }
    const Result<bool> other = source_has_changed(host, *place, **manifest);
    if (!other) return fail(other.error());
    if (*other) {
      return StepState::unsatisfied(fmt::format("{} is another archive than the one that was unpacked{}", place->shown_source, kept),
                                    "unpack it; files you changed are kept");
    }
    return StepState::satisfied(fmt::format("{} present{}", files(total), kept));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Place> place = find_place(host);
    if (!place) return fail(place.error());
    Result<Archive> archive = find_archive(host, *place);
    if (!archive) return fail(std::move(archive).error());
    const Result<std::optional<FileInfo>> before = host.info(place->folder);
    const std::string staging = fmt::format("{}/.gpustrap-unpack-{}", place->folder, place->id.substr(place->id.size() - 12));
    Result<void> done = unpack_and_place(host, *place, *archive, staging, log);
    // A staging folder or an archive that is left takes up the room that a next run needs.
    const Result<void> cleared = host.remove_tree(staging);
    if (!done && before && !*before) (void)host.remove(place->folder);  // where nothing else is in it
    if (archive->fetched) {
      const Result<void> removed = host.remove(archive->path);
      if (done && !removed) return removed;
    }
    if (!done) return done;
    return cleared;
  }

  [[nodiscard]] std::vector<FetchRequest> downloads(const Host& host) const override {
    const Result<Place> place = find_place(host);
    if (!place || !spec_.url) return {};
    return {request(host, *place)};
  }

 private:
  struct Place {
    std::string folder, id, source, shown_source;
  };
  struct Archive {
    std::string path, sha256;
    bool fetched = false;  ///< it is gpustrap's own, and goes once it is unpacked
    bool is_here = true;
    std::uint64_t size = 0;  ///< of one that lies on the host, before it was hashed
    std::int64_t mtime_s = 0;
  };

  [[nodiscard]] Result<Place> find_place(const Host& host) const {
    if (spec_.url.has_value() == spec_.path.has_value()) {
      return fail(ErrorCode::recipe, "an archive needs `url` or `path`, and not both", "say where the archive is, once");
    }
    Place place;
    std::string folder = host.expand(spec_.to.text);
    while (folder.size() > 1 && folder.ends_with('/')) folder.pop_back();
    Result<std::string> followed = follow_link(folder, host);
    if (!followed) return fail(std::move(followed).error());
    place.folder = std::move(*followed);
    place.source = spec_.url ? spec_.url->text : host.expand(spec_.path->text);
    place.shown_source = spec_.url ? shown_url(place.source) : place.source;
    place.id = manifest_id(place.folder, place.source, spec_.sha256 ? spec_.sha256->hex : std::string(), spec_.strip);
    return place;
  }

  [[nodiscard]] static Result<StepState> state_without_manifest(const Host& host, const Place& place) {
    const std::string what = fmt::format("unpack {} into {}", place.shown_source, place.folder);
    const Result<std::vector<ArchiveManifest>> earlier = manifests_of_folder(host, place.folder);
    if (!earlier) return fail(earlier.error());
    const Result<std::optional<FileInfo>> info = host.info(place.folder);
    if (!info) return fail(info.error());
    if (!*info) return StepState::unsatisfied(place.folder + " does not exist", what);
    if ((*info)->type != FileType::directory) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, a folder is wanted", place.folder, describe_type((*info)->type)),
                  "move it away, or choose another folder");
    }
    if (!earlier->empty()) {
      return StepState::unsatisfied(fmt::format("{} has {}, not {} as wanted", place.folder, earlier->back().source, place.shown_source),
                                    what + "; files you changed are kept");
    }
    const Result<std::vector<std::string>> names = host.list(place.folder);
    if (!names) return fail(names.error());
    if (names->empty()) return StepState::unsatisfied(place.folder + " is empty", what);
    return StepState::unsatisfied(fmt::format("{} was not unpacked here by gpustrap", place.shown_source),
                                  what + "; what is there is kept");
  }

  /// An archive that lies on the host may be replaced by a newer one. One that is gone was unpacked, and is needed no more.
  [[nodiscard]] Result<bool> source_has_changed(const Host& host, const Place& place, const ArchiveManifest& manifest) const {
    if (!spec_.path || spec_.sha256) return false;
    const Result<std::optional<FileInfo>> info = host.info(place.source);
    if (!info) return fail(info.error());
    if (!*info || ((*info)->size == manifest.source_size && (*info)->mtime_s == manifest.source_mtime_s)) return false;
    const Result<std::string> digest = host.digest(place.source);
    if (!digest) return fail(digest.error());
    return *digest != manifest.sha256;
  }

  /// Size and time first: hashing every file at every run would make a run with nothing to do a long one.
  static Result<bool> has_changed(const Host& host, const std::string& path, const ManifestEntry& entry, const FileInfo& info) {
    if (entry.type == FileType::directory) return false;
    if (info.type == entry.type && info.type == FileType::regular && info.size == entry.size && info.mtime_s == entry.mtime_s) return false;
    const Result<std::string> content = content_of(host, path, info);
    if (!content) return fail(content.error());
    return info.type != entry.type || *content != entry.content;
  }

  [[nodiscard]] FetchRequest request(const Host& host, const Place& place) const {
    FetchRequest request;
    request.urls.push_back(spec_.url->text);
    for (const Url& mirror : spec_.mirrors) request.urls.push_back(mirror.text);
    request.to = cache_directory(host) + "/" + place.id;
    if (spec_.sha256) request.sha256 = spec_.sha256->hex;
    request.name = file_name_of_url(spec_.url->text);
    return request;
  }

  /// Where it is, or is to come.
  Result<Archive> find_archive(Host& host, const Place& place) const {
    const std::optional<std::string> wanted = spec_.sha256 ? std::optional<std::string>(spec_.sha256->hex) : std::nullopt;
    Archive archive;
    if (spec_.path) {
      archive.path = place.source;
      if (const Result<std::optional<FileInfo>> info = host.info(archive.path); info && *info) {
        archive.size = (*info)->size;
        archive.mtime_s = (*info)->mtime_s;
      }
      const Result<std::string> digest = host.digest(archive.path);
      if (!digest) return fail(digest.error());
      if (wanted && *digest != *wanted) {
        return fail(ErrorCode::digest, fmt::format("{} has sha256 {}, wanted was {}", archive.path, *digest, *wanted),
                    "put the right archive there, or correct the digest in the recipe");
      }
      archive.sha256 = *digest;
      return archive;
    }
    const std::string cache = cache_directory(host);
    FileAttributes hidden;
    hidden.mode = 0700;
    if (Result<void> made = host.make_directory(cache, hidden); !made) return fail(std::move(made).error());
    archive.path = cache + "/" + place.id;
    archive.fetched = true;
    // Left by a run that ended between fetching and unpacking. Without a digest nobody knows whether it is still the current one.
    if (const Result<std::optional<FileInfo>> left = host.info(archive.path); wanted && left && *left) {
      const Result<std::string> digest = host.digest(archive.path);
      if (digest && *digest == *wanted) {
        archive.sha256 = *digest;
        return archive;
      }
    }
    archive.is_here = false;
    return archive;
  }

  Result<void> unpack_and_place(Host& host, const Place& place, const Archive& archive, const std::string& staging, StepLog& log) const {
    if (Result<void> made = host.make_directory(place.folder, {}); !made) return made;
    if (Result<void> room = archive.is_here ? check_room(host, place, archive) : Result<void>(); !room) return room;
    if (Result<void> cleared = host.remove_tree(staging); !cleared) return cleared;  // of a run that was cut
    FileAttributes hidden;
    hidden.mode = 0700;
    if (Result<void> made = host.make_directory(staging, hidden); !made) return made;
    UnpackRequest request{archive.path, staging, static_cast<unsigned>(std::max<std::int64_t>(spec_.strip, 0)), spec_.max_size.bytes};
    std::string sha256 = archive.sha256;
    Result<std::vector<UnpackedEntry>> unpacked = std::vector<UnpackedEntry>();
    if (archive.is_here) {
      unpacked = host.unpack(request, log);
    } else {
      Result<FetchedArchive> came = host.fetch_and_unpack(this->request(host, place), request, log);
      if (!came) return fail(std::move(came).error());
      sha256 = came->fetched.sha256;
      unpacked = std::move(came->entries);
    }
    if (!unpacked) return fail(unpacked.error());
    if (unpacked->empty()) {
      return fail(ErrorCode::unsupported,
                  spec_.strip > 0 ? fmt::format("nothing is left of {} behind strip: {}", place.shown_source, spec_.strip)
                                  : place.shown_source + " holds no file",
                  "look into the archive, and correct `strip` or the address");
    }
    const Result<std::vector<ArchiveManifest>> earlier = manifests_of_folder(host, place.folder);
    if (!earlier) return fail(earlier.error());
    Placement placement(host, staging, place.folder, *earlier);
    for (const UnpackedEntry& entry : *unpacked) {
      if (Result<void> placed = placement.place(entry); !placed) return placed;
    }
    placement.tell(log, earlier->empty());
    ArchiveManifest manifest{place.id, place.folder, place.shown_source, sha256, placement.take_entries()};
    manifest.source_size = archive.size;
    manifest.source_mtime_s = archive.mtime_s;
    if (Result<void> wrote = write_manifest(host, manifest); !wrote) return wrote;
    return retire(host, *earlier, manifest);
  }

  /// An archive never unpacks to much less than itself, so this much is needed at least; unpacking sees to the rest.
  static Result<void> check_room(const Host& host, const Place& place, const Archive& archive) {
    const Result<std::optional<FileInfo>> info = host.info(archive.path);
    const Result<std::uint64_t> room = host.disk_free(place.folder);
    if (!info || !*info || !room) return {};
    if ((*info)->size <= *room) return {};
    return fail(ErrorCode::no_space,
                fmt::format("No space left: {} free in {}, the packed archive alone has {}", human_bytes(*room), place.folder,
                            human_bytes((*info)->size)),
                "free some space there, or enlarge the disk, and run again");
  }

  /// Forgets the manifests of earlier versions; see the top.
  static Result<void> retire(Host& host, const std::vector<ArchiveManifest>& earlier, const ArchiveManifest& current) {
    std::set<std::string> names;
    for (const ManifestEntry& entry : current.entries) {
      if (entry.type != FileType::directory) names.insert(entry.path);
    }
    for (const ArchiveManifest& manifest : earlier) {
      if (manifest.id == current.id) continue;
      const auto shared = static_cast<std::size_t>(std::count_if(manifest.entries.begin(), manifest.entries.end(),
                                                                 [&](const ManifestEntry& entry) { return names.contains(entry.path); }));
      if (shared * 2 <= count_files(manifest.entries)) continue;
      if (Result<void> removed = remove_manifest(host, manifest.id); !removed) return removed;
    }
    return {};
  }

  ArchiveSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_archive_step(const StepSpec& spec) { return std::make_unique<ArchiveStep>(std::get<ArchiveSpec>(spec)); }

}  // namespace gpustrap

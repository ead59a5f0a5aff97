#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/shown_url.h"
#include "agent/steps/git_repository.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"

// A clone is made beside its folder and renamed, so that the folder never holds half of one. In a clone that stands, only three
// things are done: fetch, switch where nothing would be lost, fast-forward where nothing was changed. Never reset, clean, stash,
// rebase or force.

namespace gpustrap {
namespace {

std::string counted(std::size_t count, std::string_view what) { return fmt::format("{} {}{}", count, what, count == 1 ? "" : "s"); }
std::string counted(std::int64_t count, std::string_view what) { return counted(static_cast<std::size_t>(count), what); }

bool is_hex(std::string_view text) { return text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }
/// A whole commit name, by which a server can be asked for it.
bool is_commit(std::string_view ref) { return (ref.size() == 40 || ref.size() == 64) && is_hex(ref); }
/// The beginning of one, which may be a branch's name as well.
bool may_be_commit(std::string_view ref) { return ref.size() >= 7 && ref.size() <= 64 && is_hex(ref); }

/// What a ref turned out to be.
struct Target {
  enum class Kind { branch, tag, commit } kind = Kind::branch;
  std::string name;
  std::string commit;  ///< as the remote has it; of a commit that is not whole yet, its beginning
};

class GitStep : public Step {
 public:
  explicit GitStep(GitSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<Place> place = look(host);
    if (!place) {
      // An earlier step may install git: that is not known before it has run.
      if (place.error().code() == ErrorCode::not_found) return StepState::unknown("git is not on this host yet");
      return fail(place.error());
    }
    const std::string clone_it = fmt::format("clone {}{}", shown_url(spec_.url), spec_.ref.empty() ? "" : ", " + spec_.ref);
    switch (place->is) {
      case Place::Is::absent: return StepState::unsatisfied(place->folder + " does not exist", clone_it);
      case Place::Is::empty: return StepState::unsatisfied(place->folder + " is empty", clone_it);
      case Place::Is::cut_short: return StepState::unsatisfied("an earlier clone into " + place->folder + " was cut short", clone_it);
      case Place::Is::repository: break;
    }
    const Result<bool> owed = submodules_are_owed(host, place->folder);
    if (!owed) return fail(owed.error());
    if (*owed) return StepState::unsatisfied("submodules have not followed their commit yet");
    Result<StepState> state = check_ref(host, *place);
    if (!state || state->is != StepState::Is::satisfied || !spec_.submodules) return state;
    const Result<std::vector<std::string>> missing = missing_submodules(host, place->folder);
    if (!missing) return fail(missing.error());
    if (!missing->empty()) return StepState::unsatisfied(fmt::format("submodules {} are not there", join(*missing, " ")));
    return state;
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<Place> place = look(host);
    if (!place) return fail(place.error());
    const Result<Target> target = find_target(host, place->is == Place::Is::repository ? place->folder : std::string());
    if (!target) return fail(target.error());
    if (place->is == Place::Is::absent || place->is == Place::Is::empty) return clone(host, *place, *target, log);
    if (place->is == Place::Is::cut_short) {
      log.say(fmt::format("{} holds a clone that was cut short; taking it up", place->folder));
      if (Result<void> begun = run(host, git_command("", {"init", "--quiet", "--", place->folder}), log); !begun) return begun;
    }
    return bring_to(host, *place, *target, log);
  }

 private:
  struct Place {
    enum class Is { absent, empty, cut_short, repository } is = Is::absent;
    std::string folder;
    GitRepository repository;
    std::string remote = "origin";
  };

  [[nodiscard]] Result<Place> look(const Host& host) const {
    Place place;
    place.folder = host.expand(spec_.to.text);
    while (place.folder.size() > 1 && place.folder.ends_with('/')) place.folder.pop_back();
    Result<std::string> followed = follow_link(place.folder, host);
    if (!followed) return fail(std::move(followed).error());
    place.folder = *std::move(followed);
    const Result<std::optional<FileInfo>> info = host.info(place.folder);
    if (!info) return fail(info.error());
    if (!*info) return place;
    if ((*info)->type != FileType::directory) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, a folder is wanted", place.folder, describe_type((*info)->type)),
                  "move it away, or choose another folder");
    }
    const Result<std::vector<std::string>> names = host.list(place.folder);
    if (!names) return fail(names.error());
    if (names->empty()) {
      place.is = Place::Is::empty;
      return place;
    }
    const bool has_git = std::find(names->begin(), names->end(), ".git") != names->end();
    if (!has_git) return fail(no_repository(place.folder, "holds files and is no git repository"));
    Result<std::optional<GitRepository>> repository = look_at_repository(host, place.folder);
    if (!repository) return fail(std::move(repository).error());
    const bool only_git = names->size() == 1;
    if (!*repository || (*repository)->head.empty()) {
      if (!only_git) return fail(no_repository(place.folder, "holds files that no commit has"));
      if (*repository) place.repository = **std::move(repository);
      place.is = Place::Is::cut_short;
    } else {
      place.repository = **std::move(repository);
      place.is = Place::Is::repository;
    }
    return find_remote(std::move(place));
  }

  [[nodiscard]] static Error no_repository(const std::string& folder, std::string_view what) {
    return {ErrorCode::unsafe, fmt::format("{} {}", folder, what), "nothing was changed; move it away, or choose another folder"};
  }

  /// The remote of this clone that the recipe means. The user may have renamed it, or go there by ssh.
  [[nodiscard]] Result<Place> find_remote(Place place) const {
    const auto& remotes = place.repository.remotes;
    for (const auto& [name, url] : remotes) {
      if (!same_repository(url, spec_.url)) continue;
      place.remote = name;
      return place;
    }
    if (place.is == Place::Is::cut_short && remotes.empty()) return place;
    const std::string other = remotes.empty() ? "nothing" : shown_url(remotes.begin()->second);
    return fail(
        ErrorCode::unsafe, fmt::format("{} is a clone of {}, {} is wanted", place.folder, other, shown_url(spec_.url)),
        fmt::format("move it away, choose another folder, or, if it is the same: git -C {} remote set-url {} {}", shell_quote(place.folder),
                    remotes.empty() ? "origin" : remotes.begin()->first, shell_quote(shown_url(spec_.url))));
  }

  [[nodiscard]] Result<StepState> check_ref(const Host& host, const Place& place) const {
    const GitRepository& there = place.repository;
    if (may_be_commit(spec_.ref) && there.head.starts_with(spec_.ref)) return satisfied_at("commit", place);
    if (is_commit(spec_.ref)) return not_yet(host, place, short_commit(spec_.ref));
    if (!spec_.ref.empty()) {
      const Result<std::string> tracked = commit_of(host, place.folder, tracking(place, spec_.ref));
      if (!tracked) return fail(tracked.error());
      const bool is_branch = !tracked->empty() || there.branch == spec_.ref;
      if (!is_branch) {
        const Result<std::string> tag = commit_of(host, place.folder, "refs/tags/" + spec_.ref);
        if (!tag) return fail(tag.error());
        if (!tag->empty() && *tag == there.head) return satisfied_at(spec_.ref, place);
      }
      if (there.branch != spec_.ref) return not_yet(host, place, spec_.ref);
    }
    if (!spec_.update) return satisfied_at(there.branch.empty() ? "commit" : there.branch, place);
    const Result<GitRemoteRefs> remote = look_at_remote(host, place.folder, spec_.url, spec_.ref.empty() ? "HEAD" : spec_.ref);
    if (!remote) {
      // The ref is checked out. A server that does not answer today must not keep the rest of a recipe from running.
      const std::string remark = "whether there are newer commits is not known: " + remote.error().why();
      const ErrorCode code = remote.error().code();
      const bool passing = code == ErrorCode::network || code == ErrorCode::unknown_name || code == ErrorCode::timeout;
      return passing ? satisfied_at(there.branch.empty() ? "commit" : there.branch, place, remark) : StepState::unknown(remark);
    }
    const std::string branch = spec_.ref.empty() ? remote->default_branch : spec_.ref;
    if (there.branch != branch) return satisfied_at(there.branch.empty() ? "commit" : there.branch, place, "you have left " + branch);
    const auto tip = remote->branches.find(branch);
    if (tip == remote->branches.end() && spec_.ref.empty() && !remote->head.empty()) return compare(host, place, branch, remote->head);
    if (tip == remote->branches.end()) return satisfied_at(branch, place, shown_url(spec_.url) + " has no such branch any more");
    return compare(host, place, branch, tip->second);
  }

  /// On the branch, and the remote has it at `tip`.
  [[nodiscard]] Result<StepState> compare(const Host& host, const Place& place, const std::string& branch, const std::string& tip) const {
    const Result<std::optional<GitDistance>> distance = distance_to(host, place.folder, tip);
    if (!distance) return fail(distance.error());
    if (!*distance)
      return StepState::unsatisfied(fmt::format("{} at {}, newer commits are to be fetched", branch, short_commit(place.repository.head)));
    const auto [ahead, behind] = **distance;
    const std::string kept = ahead > 0 ? counted(ahead, "commit") + " of yours" : std::string();
    if (behind == 0) return satisfied_at(branch, place, kept.empty() ? "" : kept + " kept");
    const Result<std::vector<std::string>> obstacles = obstacles_to(host, place, ahead, tip);
    if (!obstacles) return fail(obstacles.error());
    if (!obstacles->empty()) {
      return satisfied_at(branch, place,
                          fmt::format("{} fetched but not merged: {} kept", counted(behind, "newer commit"), join(*obstacles, " and ")));
    }
    return StepState::unsatisfied(
        fmt::format("{} at {}, {} behind {}", branch, short_commit(place.repository.head), counted(behind, "commit"), place.remote),
        "fast-forward to " + short_commit(tip));
  }

  /// What of the user's a fast-forward would have to touch; empty where it may be done.
  [[nodiscard]] static Result<std::vector<std::string>> obstacles_to(const Host& host, const Place& place, std::int64_t ahead,
                                                                     const std::string& tip) {
    std::vector<std::string> obstacles;
    if (ahead > 0) obstacles.push_back(counted(ahead, "commit") + " of yours");
    if (const std::size_t changed = place.repository.changed.size(); changed > 0) {
      obstacles.push_back(fmt::format("{} you changed ({})", counted(changed, "file"), some_of(place.repository.changed)));
    }
    if (!obstacles.empty()) return obstacles;
    // Files that git does not know may stand where new ones are to come: read-tree tells, without doing it.
    const Result<CommandResult> tried = host.look(git_command(place.folder, {"read-tree", "-n", "-m", "-u", "HEAD", tip}));
    if (!tried) return fail(tried.error());
    if (tried->exit_code != 0 && tried->err.find("overwritten") != std::string::npos) {
      obstacles.push_back(fmt::format("a file of yours stands where a new one is to come ({})", first_line(strip_control(tried->err))));
    }
    return obstacles;
  }

  static std::string some_of(const std::vector<std::string>& paths) {
    constexpr std::size_t kMost = 3;
    std::vector<std::string> shown(paths.begin(), paths.begin() + static_cast<std::ptrdiff_t>(std::min(paths.size(), kMost)));
    for (std::string& path : shown) path = first_line(strip_control(path));
    return join(shown, ", ") + (paths.size() > kMost ? ", …" : "");
  }

  /// Another ref is wanted than what is checked out. An error where switching could lose something.
  [[nodiscard]] static Result<StepState> not_yet(const Host& host, const Place& place, const std::string& wanted) {
    const GitRepository& there = place.repository;
    const std::string now = there.branch.empty() ? "commit " + short_commit(there.head) : there.branch;
    if (!there.changed.empty()) {
      return fail(ErrorCode::unsafe,
                  fmt::format("{} is on {} with {} you changed ({}), so {} was not checked out", place.folder, now,
                              counted(there.changed.size(), "file"), some_of(there.changed), wanted),
                  fmt::format("commit them, or put them aside: git -C {} stash", shell_quote(place.folder)));
    }
    if (there.branch.empty()) {
      const Result<CommandResult> own =
          host.look(git_command(place.folder, {"rev-list", "--count", "HEAD", "--not", "--branches", "--tags", "--remotes"}));
      if (!own) return fail(own.error());
      // Commits fetched by their name are on no branch either, but the place they came from has them still.
      const Result<std::string> fetched = commit_of(host, place.folder, kFetchedRef);
      if (!fetched) return fail(fetched.error());
      if (own->exit_code == 0 && trim(own->out) != "0" && *fetched != there.head) {
        return fail(ErrorCode::unsafe, fmt::format("{} is at {}, which is on no branch and would be lost from sight", place.folder, now),
                    fmt::format("keep it: git -C {} branch mine {}", shell_quote(place.folder), short_commit(there.head)));
      }
    }
    return StepState::unsatisfied(fmt::format("{} is checked out, {} is wanted", now, wanted), "check out " + wanted);
  }

  [[nodiscard]] static StepState satisfied_at(const std::string& name, const Place& place, const std::string& remark = {}) {
    std::string reason = fmt::format("{} {}", name == "commit" ? "commit" : name + " at", short_commit(place.repository.head));
    if (!remark.empty()) {
      reason += "; " + remark;
    } else if (!place.repository.changed.empty()) {
      reason += fmt::format("; {} you changed kept", counted(place.repository.changed.size(), "file"));
    }
    return StepState::satisfied(reason);
  }

  static std::string tracking(const Place& place, const std::string& branch) { return "refs/remotes/" + place.remote + "/" + branch; }

  /// Asks the remote what the ref is.
  [[nodiscard]] Result<Target> find_target(const Host& host, const std::string& folder) const {
    if (is_commit(spec_.ref)) return Target{Target::Kind::commit, short_commit(spec_.ref), spec_.ref};
    const Result<GitRemoteRefs> refs = look_at_remote(host, folder, spec_.url, spec_.ref.empty() ? "HEAD" : spec_.ref);
    if (!refs) return fail(refs.error());
    if (spec_.ref.empty()) {
      if (refs->head.empty()) {
        return fail(ErrorCode::not_found, shown_url(spec_.url) + " has no commit yet", "push one, or name a branch in `ref`");
      }
      if (refs->default_branch.empty()) return Target{Target::Kind::commit, short_commit(refs->head), refs->head};
      return Target{Target::Kind::branch, refs->default_branch, refs->head};
    }
    if (const auto branch = refs->branches.find(spec_.ref); branch != refs->branches.end())
      return Target{Target::Kind::branch, spec_.ref, branch->second};
    if (const auto tag = refs->tags.find(spec_.ref); tag != refs->tags.end()) return Target{Target::Kind::tag, spec_.ref, tag->second};
    if (may_be_commit(spec_.ref)) return Target{Target::Kind::commit, spec_.ref, spec_.ref};
    return fail(unknown_ref(host, folder));
  }

  [[nodiscard]] Error unknown_ref(const Host& host, const std::string& folder) const {
    const std::string why = fmt::format("{} has no branch or tag `{}`", shown_url(spec_.url), spec_.ref);
    const Result<GitRemoteRefs> all = look_at_remote(host, folder, spec_.url, "");
    std::vector<std::string> names;
    if (all) {
      for (const auto& [name, commit] : all->branches) names.push_back(first_line(strip_control(name)));
      for (const auto& [name, commit] : all->tags) names.push_back(first_line(strip_control(name)));
    }
    if (names.empty()) return {ErrorCode::not_found, why, "correct `ref`"};
    if (const std::string near = nearest_name(spec_.ref, names); !near.empty())
      return {ErrorCode::not_found, why, fmt::format("did you mean `{}`?", near)};
    return {ErrorCode::not_found, why, fmt::format("it has {}", some_of(names))};
  }

  Result<void> clone(Host& host, const Place& place, const Target& target, StepLog& log) const {
    const std::string staging = place.folder + ".gpustrap-new";
    if (Result<void> made = host.make_directory(parent_of(place.folder), {}); !made) return made;
    if (Result<void> cleared = host.remove_tree(staging); !cleared) return cleared;  // of a run that was cut
    Result<void> cloned = clone_into(host, staging, target, log);
    if (!cloned) {
      if (Result<void> cleared = host.remove_tree(staging); !cleared) log.say(cleared.error().sentence());
      return cloned;
    }
    if (place.is == Place::Is::empty) {
      const Result<std::optional<FileInfo>> info = host.info(place.folder);
      if (info && *info) {
        FileAttributes attributes;
        attributes.mode = (*info)->mode;
        if (host.self().uid == 0) attributes.uid = (*info)->uid, attributes.gid = (*info)->gid;
        if (Result<void> set = host.set_attributes(staging, attributes); !set) return set;
      }
      if (Result<void> removed = host.remove(place.folder); !removed) return removed;
    }
    return host.rename(staging, place.folder);
  }

  Result<void> clone_into(Host& host, const std::string& folder, const Target& target, StepLog& log) const {
    // A server need not give out a commit with little history whose name is not whole: then all of it is fetched.
    const bool whole = target.kind == Target::Kind::commit && !is_commit(target.commit);
    const bool shallow = spec_.depth && !whole;
    std::vector<std::string> words = {"-c", "advice.detachedHead=false", "clone", "--progress"};
    if (shallow && target.kind == Target::Kind::commit) {
      if (Result<void> begun = run(host, git_command("", {"init", "--quiet", "--", folder}), log); !begun) return begun;
      Place place;
      place.folder = folder;
      return bring_to(host, place, target, log);
    }
    if (shallow) words.insert(words.end(), {"--depth", fmt::format("{}", *spec_.depth)});
    if (target.kind == Target::Kind::commit)
      words.emplace_back("--no-checkout");
    else
      words.insert(words.end(), {"--branch", target.name});
    words.insert(words.end(), {"--origin", "origin", "--", spec_.url, folder});
    if (Result<void> cloned = transfer(host, "", std::move(words), log); !cloned) return cloned;
    if (target.kind == Target::Kind::commit) {
      Place place;
      place.folder = folder;
      place.repository.remotes.emplace("origin", spec_.url);
      return bring_to(host, place, target, log);
    }
    return fetch_submodules(host, folder, true, log);
  }

  /// Fetches, then switches and fast-forwards as far as nothing of the user's is touched.
  Result<void> bring_to(Host& host, const Place& place, const Target& target, StepLog& log) const {
    if (place.repository.remotes.empty()) {
      if (Result<void> added = run(host, git_command(place.folder, {"remote", "add", place.remote, spec_.url}), log); !added) return added;
    }
    const Result<std::string> commit = fetch(host, place, target, log);
    if (!commit) return fail(commit.error());
    const Result<bool> owed = submodules_are_owed(host, place.folder);
    if (!owed) return fail(owed.error());
    const bool untouched = place.repository.changed.empty() || *owed;
    if (*owed) {
      // What an earlier run has not brought along looks like the user's change, and would keep newer commits away for ever.
      if (Result<void> followed = fetch_submodules(host, place.folder, true, log); !followed) return followed;
    } else if (spec_.submodules && untouched && !place.repository.head.empty()) {
      if (Result<void> noted = run(host, git_command(place.folder, {"update-ref", kOwedRef, "HEAD"}), log); !noted) return noted;
    }
    if (Result<void> moved = move_to(host, place, target, *commit, log); !moved) return moved;
    return fetch_submodules(host, place.folder, untouched, log);
  }

  /// Whether a run has moved this clone to another commit, and ended before its submodules followed.
  [[nodiscard]] Result<bool> submodules_are_owed(const Host& host, const std::string& folder) const {
    if (!spec_.submodules) return false;
    const Result<std::string> noted = commit_of(host, folder, kOwedRef);
    if (!noted) return fail(noted.error());
    return !noted->empty();
  }

  Result<void> move_to(Host& host, const Place& place, const Target& target, const std::string& commit, StepLog& log) const {
    if (target.kind != Target::Kind::branch) {
      if (commit == place.repository.head) return {};
      return run(host,
                 git_command(place.folder,
                             {"-c", "advice.detachedHead=false", "checkout", "--quiet", "--no-overwrite-ignore", "--detach", commit}),
                 log);
    }
    // With no `ref`, the user's own branch is as good as the default one.
    const bool left_alone = spec_.ref.empty() && !place.repository.head.empty() && place.repository.branch != target.name;
    if (!left_alone && (place.repository.head.empty() || place.repository.branch != target.name)) {
      if (Result<void> out = switch_to(host, place, target, log); !out) return out;
    }
    return left_alone ? Result<void>() : fast_forward(host, place, target, commit, log);
  }

  /// The whole name of the target's commit, which is in the repository afterwards.
  Result<std::string> fetch(Host& host, const Place& place, const Target& target, StepLog& log) const {
    if (target.kind == Target::Kind::commit) {
      Result<std::string> there = commit_of(host, place.folder, target.commit);
      if (!there || !there->empty()) return there;
    }
    std::vector<std::string> words = {"fetch", "--progress"};
    std::string name = target.commit;
    if (target.kind == Target::Kind::branch) {
      name = tracking(place, target.name);
      Result<std::string> tracked = commit_of(host, place.folder, name);
      if (!tracked) return tracked;
      // A branch that is here already connects to what is new; a cut there would make it look like another history.
      if (tracked->empty()) add_depth(words);
      words.insert(words.end(), {"--", spec_.url, fmt::format("+refs/heads/{}:{}", target.name, name)});
    } else if (target.kind == Target::Kind::tag) {
      name = "refs/tags/" + target.name;
      Result<std::string> there = commit_of(host, place.folder, name);
      if (!there || !there->empty()) return there;
      add_depth(words);
      words.insert(words.end(), {"--", spec_.url, fmt::format("{0}:{0}", name)});
    } else if (is_commit(target.commit)) {
      add_depth(words);
      words.insert(words.end(), {"--", spec_.url, fmt::format("+{}:{}", target.commit, kFetchedRef)});
      // Not every server gives out a commit by its name; then it may still be on one of the branches.
      if (transfer(host, place.folder, words, log)) return commit_of(host, place.folder, name);
      log.say("the server does not give out single commits; fetching all branches");
      words = {"fetch", "--progress", "--tags", "--", spec_.url, "+refs/heads/*:" + tracking(place, "*")};
    } else {
      words.insert(words.end(), {"--tags", "--", spec_.url, "+refs/heads/*:" + tracking(place, "*")});
    }
    if (Result<void> fetched = transfer(host, place.folder, std::move(words), log); !fetched) return fail(std::move(fetched).error());
    Result<std::string> commit = commit_of(host, place.folder, name);
    if (commit && commit->empty()) {
      return fail(ErrorCode::not_found,
                  fmt::format("{} has no commit {}, and no branch or tag of that name", shown_url(spec_.url), spec_.ref),
                  "correct `ref`; a commit must be on one of its branches");
    }
    return commit;
  }

  void add_depth(std::vector<std::string>& words) const {
    if (spec_.depth) words.insert(words.end(), {"--depth", fmt::format("{}", *spec_.depth)});
  }

  Result<void> switch_to(Host& host, const Place& place, const Target& target, StepLog& log) const {
    const Result<std::string> own = commit_of(host, place.folder, "refs/heads/" + target.name);
    if (!own) return fail(own.error());
    std::vector<std::string> words = {"checkout", "--quiet", "--no-overwrite-ignore"};
    if (own->empty()) {
      words.insert(words.end(), {"--no-track", "-b", target.name, tracking(place, target.name)});
    } else {
      words.insert(words.end(), {target.name, "--"});
    }
    if (Result<void> out = run(host, git_command(place.folder, std::move(words)), log); !out) return out;
    if (!own->empty()) return {};
    // `--track` refuses a branch that the remote's own configuration does not list, as in a shallow clone of another branch.
    for (const auto& [key, value] : {std::pair<std::string, std::string>("remote", place.remote), {"merge", "refs/heads/" + target.name}}) {
      if (Result<void> set = run(host, git_command(place.folder, {"config", "branch." + target.name + "." + key, value}), log); !set)
        return set;
    }
    return {};
  }

  Result<void> fast_forward(Host& host, const Place& place, const Target& target, const std::string& commit, StepLog& log) const {
    const Result<std::optional<GitRepository>> now = look_at_repository(host, place.folder);
    if (!now) return fail(now.error());
    const Result<std::optional<GitDistance>> distance = distance_to(host, place.folder, commit);
    if (!distance) return fail(distance.error());
    if (!*now || !*distance || (*distance)->behind == 0) return {};
    Place current = place;
    current.repository = **now;
    const Result<std::vector<std::string>> obstacles = obstacles_to(host, current, (*distance)->ahead, commit);
    if (!obstacles) return fail(obstacles.error());
    if (!obstacles->empty()) {
      log.say(fmt::format("{} of {} fetched but not merged: {} kept", counted((*distance)->behind, "newer commit"), target.name,
                          join(*obstacles, " and ")));
      return {};
    }
    return run(host,
               git_command(place.folder, {"-c", "merge.autoStash=false", "merge", "--quiet", "--ff-only", "--no-overwrite-ignore", commit}),
               log);
  }

  /// `untouched`: before anything was done now, the user had neither moved a submodule nor changed anything.
  Result<void> fetch_submodules(Host& host, const std::string& folder, bool untouched, StepLog& log) const {
    if (!spec_.submodules) return {};
    std::vector<std::string> words = {"submodule", "update", "--init", "--recursive", "--progress"};
    add_depth(words);
    if (!untouched) {
      const Result<std::vector<std::string>> missing = missing_submodules(host, folder);
      if (!missing) return fail(missing.error());
      if (missing->empty()) return {};
      words.emplace_back("--");
      words.insert(words.end(), missing->begin(), missing->end());
    }
    if (Result<void> fetched = transfer(host, folder, std::move(words), log); !fetched || !untouched) return fetched;
    return run(host, git_command(folder, {"update-ref", "-d", kOwedRef}), log);
  }

  Result<void> transfer(Host& host, const std::string& folder, std::vector<std::string> words, StepLog& log) const {
    Command command = git_transfer(host, folder, spec_.url, std::move(words));
    command.takes_errors = true;
    command.takes_line = [&log](std::string_view line) { return take_git_progress(line, log); };
    return run(host, command, log);
  }

  Result<void> run(Host& host, const Command& command, StepLog& log) const {
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    if (result->exit_code == 0) return {};
    if (result->err.find("would be overwritten") != std::string::npos) {
      return fail(ErrorCode::unsafe, "files of yours stand where new ones are to come: " + overwritten(result->err),
                  "nothing was changed; rename or move them, then run again");
    }
    return fail(git_error(command, *result, spec_.url));
  }

  /// git lists them with a tab each.
  static std::string overwritten(const std::string& said) {
    std::vector<std::string> paths;
    for (const std::string& line : split(said, '\n')) {
      if (line.starts_with('\t')) paths.emplace_back(trim(line));
    }
    return some_of(paths);
  }

  /// Where a commit that was asked for by its name is kept from git's own cleaning.
  static constexpr const char* kFetchedRef = "refs/gpustrap/fetched";
  /// There while the submodules have not followed a commit that this step has moved to.
  static constexpr const char* kOwedRef = "refs/gpustrap/submodules";

  GitSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_git_step(const StepSpec& spec) { return std::make_unique<GitStep>(std::get<GitSpec>(spec)); }

}  // namespace gpustrap

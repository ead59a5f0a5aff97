#pragma once

#include <cstdint>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/host.h"

// How steps speak to git: it never asks for anything, and never strays into a repository above the folder.

namespace gpustrap {

/// `git WORDS…`, in the repository of `folder` where that is not empty.
[[nodiscard]] Command git_command(const std::string& folder, std::vector<std::string> words_after);
/// The same for what speaks to `url`: stalled transfers end, ssh asks nothing. Looks up the user's own core.sshCommand.
[[nodiscard]] Command git_transfer(const Host& host, const std::string& folder, const std::string& url,
                                   std::vector<std::string> words_after);

/// git's own words, with what to do about the failures that people meet. `url` is whom git spoke to, or empty.
[[nodiscard]] Error git_error(const Command& command, const CommandResult& result, const std::string& url);

/// Whether two URLs name one repository, be it by https or by ssh.
[[nodiscard]] bool same_repository(std::string_view one, std::string_view other);

/// What stands in a folder.
struct GitRepository {
  std::string head;                            ///< commit; empty where there is none yet
  std::string branch;                          ///< empty where no branch is checked out
  std::vector<std::string> changed;            ///< tracked paths that differ from the commit, or from what is staged
  std::map<std::string, std::string> remotes;  ///< name → URL
  bool only_git = false;                       ///< the work tree has no file
};
/// Error not_found where git is not installed; the repository is nullopt where git does not know it as one.
[[nodiscard]] Result<std::optional<GitRepository>> look_at_repository(const Host& host, const std::string& folder);

/// The commit that a name stands for here; empty where it stands for none.
[[nodiscard]] Result<std::string> commit_of(const Host& host, const std::string& folder, const std::string& name);

/// How far HEAD and a commit are apart; nullopt where that commit has not been fetched.
struct GitDistance {
  std::int64_t ahead = 0;   ///< commits that HEAD alone has
  std::int64_t behind = 0;  ///< commits that the other alone has
};
[[nodiscard]] Result<std::optional<GitDistance>> distance_to(const Host& host, const std::string& folder, const std::string& commit);

/// What a remote repository has under one name.
struct GitRemoteRefs {
  std::string default_branch, head;                   ///< what HEAD leads to; empty in an empty repository
  std::map<std::string, std::string> branches, tags;  ///< name → commit
};
/// Only HEAD and the branch and tag of that name; everything where `name` is empty.
[[nodiscard]] Result<GitRemoteRefs> look_at_remote(const Host& host, const std::string& folder, const std::string& url,
                                                   const std::string& name);

/// Paths of submodules that have no work tree yet. One at another commit than the recorded one is the user's affair.
[[nodiscard]] Result<std::vector<std::string>> missing_submodules(const Host& host, const std::string& folder);

/// "1a2b3c4": enough for people.
[[nodiscard]] std::string short_commit(std::string_view commit);

/// Shows git's "Receiving objects:  45% (450/1000)" as progress; true for lines that are nothing else.
bool take_git_progress(std::string_view line, StepLog& log);

}  // namespace gpustrap

#include "agent/steps/git_repository.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/identity.h"
#include "agent/real_host.h"
#include "tests/support/fake_host.h"
#include "tests/support/step_contract.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AnyOf;
using ::testing::Contains;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

// ---- with git itself, in folders of the test's own

class GitStep : public ::testing::Test {
 protected:
  GitStep() {
    self_ = identity_of_self();
    self_.home = directory_ / "home";
    self_.proxy.clear();
    std::filesystem::create_directories(self_.home);
    write("home/.gitconfig",
          "[user]\nname = Ann\nemail = ann@example.org\n[init]\ndefaultBranch = main\n[protocol \"file\"]\nallow = always\n");
    in("", {"init", "--quiet", "--bare", directory_ / "course.git"});
    in("", {"init", "--quiet", directory_ / "author"});
    commit("author", "intro.txt", "an introduction\n");
    in("author", {"tag", "-a", "v1", "-m", "first"});
    in("author", {"branch", "solutions"});
    in("author", {"remote", "add", "origin", directory_ / "course.git"});
    publish();
  }

  std::string in(const std::string& folder, std::vector<std::string> words_after) {
    Command command;
    command.argv = {"git", "-C", directory_ / folder};
    command.argv.insert(command.argv.end(), words_after.begin(), words_after.end());
    const auto result = host_.look(command);
    EXPECT_TRUE(result && result->exit_code == 0) << join(command.argv, " ") << ": " << (result ? result->err : "");
    return result ? std::string(trim(result->out)) : "";
  }
  void write(const std::string& path, const std::string& text) { std::ofstream(directory_ / path) << text; }
  std::string content(const std::string& path) { return read_file(directory_ / path).value_or("<no file>"); }
  std::string commit(const std::string& folder, const std::string& file, const std::string& text) {
    write(folder + "/" + file, text);
    in(folder, {"add", "."});
    in(folder, {"commit", "--quiet", "-m", file});
    return in(folder, {"rev-parse", "HEAD"});
  }
  void publish() { in("author", {"push", "--quiet", "--all"}), in("author", {"push", "--quiet", "--tags"}); }

  GitSpec clone_of_course() {
    GitSpec spec;
    spec.url = directory_ / "course.git";
    spec.to.text = directory_ / "home/course";
    return spec;
  }
  /// Check, apply, check, as the runner does.
  Result<StepState> run(const GitSpec& spec) {
    const std::unique_ptr<Step> step = make_step(spec);
    Result<StepState> before = step->check(host_);
    changed_ = before && before->is != StepState::Is::satisfied;
    if (!changed_) return before;
    first_reason_ = before->reason;
    if (Result<void> applied = step->apply(host_, log_); !applied) return fail(std::move(applied).error());
    Result<StepState> after = step->check(host_);
    EXPECT_TRUE(!after || after->is == StepState::Is::satisfied) << after->reason;
    return after;
  }
  std::string reason_of_run(const GitSpec& spec) {
    const Result<StepState> state = run(spec);
    return state ? state->reason : "failed: " + state.error().sentence();
  }
  std::string head() { return in("home/course", {"rev-parse", "HEAD"}); }

  TemporaryDirectory directory_;
  Facts facts_;
  Identity self_;
  // RealHost keeps its own copy of `self`, so this comes when the home is known.
  struct Lazy {
    GitStep* test;
    RealHost* operator->() { return &get(); }
    operator RealHost&() { return get(); }
    RealHost& get() {
      if (!host) host = std::make_unique<RealHost>(test->facts_, test->self_, test->self_, RealHost::Environment());
      return *host;
    }
    std::unique_ptr<RealHost> host;
    Result<CommandResult> look(const Command& command) { return get().look(command); }
  } host_{this, nullptr};
  RecordingLog log_;
  bool changed_ = false;
  std::string first_reason_;
};

TEST_F(GitStep, ClonesTheDefaultBranchAndThenHasNothingToDo) {
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_TRUE(changed_);
  EXPECT_EQ(first_reason_, directory_ / "home/course does not exist");
  EXPECT_EQ(content("home/course/intro.txt"), "an introduction\n");
  EXPECT_FALSE(path_exists(directory_ / "home/course.gpustrap-new"));
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_FALSE(changed_);
}

TEST_F(GitStep, ClonesIntoAFolderThatIsEmpty) {
  std::filesystem::create_directory(directory_ / "home/course");
  std::filesystem::permissions(directory_ / "home/course", std::filesystem::perms(0700));
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_EQ(std::filesystem::status(directory_ / "home/course").permissions(), std::filesystem::perms(0700));
}

TEST_F(GitStep, ChecksOutATagABranchOrACommit) {
  const std::string first = in("author", {"rev-parse", "HEAD"});
  const std::string second = commit("author", "exercise.txt", "one\n");
  publish();
  GitSpec spec = clone_of_course();
  spec.ref = "v1";
  EXPECT_EQ(reason_of_run(spec), "v1 at " + short_commit(first));
  EXPECT_FALSE(path_exists(directory_ / "home/course/exercise.txt"));
  spec.ref = second;
  EXPECT_EQ(reason_of_run(spec), "commit " + short_commit(second));
  EXPECT_EQ(content("home/course/exercise.txt"), "one\n");
  spec.ref = first.substr(0, 10);
  EXPECT_EQ(reason_of_run(spec), "commit " + short_commit(first));
  spec.ref = "solutions";
  EXPECT_EQ(reason_of_run(spec), "solutions at " + short_commit(first));
  EXPECT_EQ(in("home/course", {"rev-parse", "--abbrev-ref", "HEAD@{upstream}"}), "origin/solutions");
  spec.ref = "main";
  EXPECT_EQ(reason_of_run(spec), "main at " + short_commit(second));
}

TEST_F(GitStep, ACommitThatNoLookCanFindIsAnError) {
  GitSpec spec = clone_of_course();
  spec.ref = std::string(40, 'a');
  EXPECT_THAT(reason_of_run(spec), HasSubstr("has no commit aaaa"));
  EXPECT_FALSE(path_exists(directory_ / "home/course"));
  EXPECT_FALSE(path_exists(directory_ / "home/course.gpustrap-new"));
}

TEST_F(GitStep, NamesTheNearestOfAnUnknownRef) {
  GitSpec spec = clone_of_course();
  spec.ref = "solution";
  const auto done = run(spec);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::not_found);
  EXPECT_THAT(done.error().why(), HasSubstr("has no branch or tag `solution`"));
  EXPECT_EQ(done.error().hint(), "did you mean `solutions`?");
}

TEST_F(GitStep, NamesWhatThereIsWhereNothingIsNear) {
  GitSpec spec = clone_of_course();
  spec.ref = "zzzzzzzzzzzz";
  EXPECT_EQ(run(spec).error().hint(), "it has main, solutions, v1");
}

TEST_F(GitStep, ARepositoryWithoutACommitCannotBeCloned) {
  in("", {"init", "--quiet", "--bare", directory_ / "empty.git"});
  GitSpec spec = clone_of_course();
  spec.url = directory_ / "empty.git";
  const auto done = run(spec);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::not_found);
  EXPECT_EQ(done.error().why(), directory_ / "empty.git" + " has no commit yet");
  EXPECT_EQ(done.error().hint(), "push one, or name a branch in `ref`");
  spec.ref = "main";
  EXPECT_EQ(run(spec).error().hint(), "correct `ref`");
}

TEST_F(GitStep, AFileInPlaceOfTheFolderIsSaid) {
  write("home/course", "my notes");
  const auto done = run(clone_of_course());
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(done.error().why(), directory_ / "home/course" + " is a file, a folder is wanted");
  EXPECT_EQ(content("home/course"), "my notes");
}

TEST_F(GitStep, FastForwardsWhereNothingWasChanged) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  write("home/course/own.txt", "of the user's\n");  // a file that git does not know is in nobody's way
  const std::string newer = commit("author", "exercise.txt", "one\n");
  publish();
  EXPECT_EQ(reason_of_run(clone_of_course()), "main at " + short_commit(newer));
  EXPECT_TRUE(changed_);
  EXPECT_THAT(first_reason_, HasSubstr("newer commits are to be fetched"));
  EXPECT_EQ(content("home/course/own.txt"), "of the user's\n");
}

TEST_F(GitStep, AsksNobodyForNewerCommitsWithoutUpdate) {
  GitSpec spec = clone_of_course();
  spec.update = false;
  ASSERT_TRUE(run(spec).has_value());
  std::filesystem::rename(directory_ / "course.git", directory_ / "gone.git");
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  spec.update = true;
  const std::unique_ptr<Step> step = make_step(spec);
  const Result<StepState> state = step->check(host_);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->is, StepState::Is::unknown);
  const auto done = run(spec);
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("there is no repository"));
}

TEST_F(GitStep, AServerThatDoesNotAnswerIsNoReasonToFailWhereTheBranchIsThere) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  GitSpec spec = clone_of_course();
  spec.url = "http://127.0.0.1:1/course.git";
  in("home/course", {"remote", "set-url", "origin", spec.url});
  EXPECT_THAT(reason_of_run(spec), ::testing::AllOf(StartsWith("main at "), HasSubstr("whether there are newer commits is not known: ")));
  EXPECT_FALSE(changed_);
  spec.ref = "never-fetched";
  const auto done = run(spec);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::network) << done.error().sentence();
}

TEST_F(GitStep, KeepsWhatTheUserChangedAndSaysSo) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  const std::string before = head();
  write("home/course/intro.txt", "my notes\n");
  EXPECT_EQ(reason_of_run(clone_of_course()), "main at " + short_commit(before) + "; 1 file you changed kept");
  EXPECT_FALSE(changed_);
  commit("author", "intro.txt", "a better introduction\n");
  publish();
  EXPECT_EQ(reason_of_run(clone_of_course()),
            "main at " + short_commit(before) + "; 1 newer commit fetched but not merged: 1 file you changed (intro.txt) kept");
  EXPECT_TRUE(changed_);
  EXPECT_EQ(content("home/course/intro.txt"), "my notes\n");
  EXPECT_EQ(head(), before);
  EXPECT_THAT(reason_of_run(clone_of_course()), HasSubstr("not merged"));
  EXPECT_FALSE(changed_) << "a second run has nothing left to do";
}

TEST_F(GitStep, KeepsStagedChanges) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  write("home/course/mine.txt", "staged\n");
  in("home/course", {"add", "mine.txt"});
  commit("author", "mine.txt", "theirs\n");
  publish();
  EXPECT_THAT(reason_of_run(clone_of_course()), HasSubstr("1 file you changed (mine.txt) kept"));
  EXPECT_EQ(content("home/course/mine.txt"), "staged\n");
}

TEST_F(GitStep, KeepsLocalCommits) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  const std::string mine = commit("home/course", "homework.txt", "done\n");
  EXPECT_EQ(reason_of_run(clone_of_course()), "main at " + short_commit(mine) + "; 1 commit of yours kept");
  commit("author", "exercise.txt", "one\n");
  publish();
  EXPECT_EQ(reason_of_run(clone_of_course()),
            "main at " + short_commit(mine) + "; 1 newer commit fetched but not merged: 1 commit of yours kept");
  EXPECT_EQ(head(), mine);
}

TEST_F(GitStep, AFileThatGitDoesNotKnowIsNotOverwritten) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  write("home/course/exercise.txt", "mine\n");
  commit("author", "exercise.txt", "theirs\n");
  publish();
  EXPECT_THAT(reason_of_run(clone_of_course()), HasSubstr("a file of yours stands where a new one is to come"));
  EXPECT_EQ(content("home/course/exercise.txt"), "mine\n");
}

TEST_F(GitStep, AnIgnoredFileIsNotOverwrittenEither) {
  commit("author", ".gitignore", "*.log\n");
  publish();
  ASSERT_TRUE(run(clone_of_course()).has_value());
  write("home/course/train.log", "three days of training\n");
  write("author/train.log", "an example\n");
  in("author", {"add", "--force", "train.log"});
  in("author", {"commit", "--quiet", "-m", "log"});
  publish();
  const std::string said = reason_of_run(clone_of_course());
  EXPECT_THAT(said, HasSubstr("train.log"));
  EXPECT_EQ(content("home/course/train.log"), "three days of training\n");
}

TEST_F(GitStep, LeavesTheUsersOwnBranchAloneWhereNoRefIsAsked) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  in("home/course", {"checkout", "--quiet", "-b", "mine"});
  const std::string mine = commit("home/course", "homework.txt", "done\n");
  EXPECT_EQ(reason_of_run(clone_of_course()), "mine at " + short_commit(mine) + "; you have left main");
  GitSpec spec = clone_of_course();
  spec.ref = "main";
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  EXPECT_EQ(in("home/course", {"rev-parse", "mine"}), mine) << "switching loses no commit";
}

TEST_F(GitStep, DoesNotSwitchOverChangesNorAwayFromCommitsOnNoBranch) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  write("home/course/intro.txt", "my notes\n");
  GitSpec spec = clone_of_course();
  spec.ref = "solutions";
  const auto dirty = run(spec);
  ASSERT_FALSE(dirty.has_value());
  EXPECT_EQ(dirty.error().code(), ErrorCode::unsafe);
  EXPECT_THAT(dirty.error().why(), HasSubstr("1 file you changed (intro.txt), so solutions was not checked out"));
  EXPECT_EQ(content("home/course/intro.txt"), "my notes\n");

  in("home/course", {"checkout", "--quiet", "--detach"});
  in("home/course", {"commit", "--quiet", "-am", "an experiment"});
  const std::string experiment = head();
  const auto detached = run(spec);
  ASSERT_FALSE(detached.has_value());
  EXPECT_THAT(detached.error().why(), HasSubstr("is on no branch and would be lost from sight"));
  EXPECT_EQ(head(), experiment);
}

TEST_F(GitStep, TakesUpACloneThatWasCutShort) {
  // What git leaves behind when it is killed on the way.
  in("", {"init", "--quiet", directory_ / "home/course"});
  in("home/course", {"remote", "add", "origin", directory_ / "course.git"});
  write("home/course/.git/objects/pack/tmp_pack_AbCdEf", "half");
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_THAT(first_reason_, HasSubstr("was cut short"));
  EXPECT_EQ(content("home/course/intro.txt"), "an introduction\n");
}

TEST_F(GitStep, TakesUpACloneWithoutEvenAHead) {
  in("", {"init", "--quiet", directory_ / "home/course"});
  std::filesystem::remove(directory_ / "home/course/.git/HEAD");
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_EQ(content("home/course/intro.txt"), "an introduction\n");
}

TEST_F(GitStep, ClearsAwayWhatItsOwnCutCloneLeft) {
  std::filesystem::create_directories(directory_ / "home/course.gpustrap-new/.git");
  EXPECT_THAT(reason_of_run(clone_of_course()), StartsWith("main at "));
  EXPECT_FALSE(path_exists(directory_ / "home/course.gpustrap-new"));
}

TEST_F(GitStep, ABrokenRepositoryInsideAnotherOneNeverLeadsThere) {
  in("", {"init", "--quiet", directory_ / "home"});  // a home may be a repository itself
  commit("home", "dotfile", "mine\n");
  std::filesystem::create_directories(directory_ / "home/course/.git");
  write("home/course/notes.txt", "mine\n");
  const auto done = run(clone_of_course());
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_EQ(in("home", {"rev-parse", "--abbrev-ref", "HEAD"}), "main");
}

TEST_F(GitStep, AFolderWithOtherFilesIsLeftAlone) {
  std::filesystem::create_directory(directory_ / "home/course");
  write("home/course/notes.txt", "mine\n");
  const auto done = run(clone_of_course());
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().code(), ErrorCode::unsafe);
  EXPECT_THAT(done.error().why(), HasSubstr("is no git repository"));
  EXPECT_EQ(content("home/course/notes.txt"), "mine\n");
}

TEST_F(GitStep, AnotherRepositoryIsLeftAlone) {
  in("", {"clone", "--quiet", directory_ / "author", directory_ / "home/course"});
  const auto done = run(clone_of_course());
  ASSERT_FALSE(done.has_value());
  EXPECT_THAT(done.error().why(), HasSubstr("is a clone of " + (directory_ / "author")));
  EXPECT_THAT(done.error().hint(), HasSubstr("remote set-url origin"));
}

TEST_F(GitStep, FetchesAsMuchHistoryAsAsked) {
  commit("author", "exercise.txt", "one\n");
  publish();
  GitSpec spec = clone_of_course();
  spec.url = "file://" + spec.url;  // a path would be linked, whole
  spec.depth = 1;
  ASSERT_TRUE(run(spec).has_value());
  EXPECT_EQ(in("home/course", {"rev-list", "--count", "HEAD"}), "1");
  const std::string newer = commit("author", "exercise.txt", "two\n");
  publish();
  EXPECT_EQ(reason_of_run(spec), "main at " + short_commit(newer)) << "a shallow clone is fast-forwarded too";
  spec.ref = "solutions";
  EXPECT_THAT(reason_of_run(spec), StartsWith("solutions at "));
  spec.ref = in("author", {"rev-parse", "main~1"});
  EXPECT_EQ(reason_of_run(spec), "commit " + short_commit(spec.ref));
  std::filesystem::remove_all(directory_ / "home/course");
  EXPECT_EQ(reason_of_run(spec), "commit " + short_commit(spec.ref));
  EXPECT_EQ(in("home/course", {"rev-list", "--count", "HEAD"}), "1");
}

TEST_F(GitStep, FetchesSubmodulesAndLeavesAMovedOneAlone) {
  in("", {"init", "--quiet", "--bare", directory_ / "data.git"});
  in("", {"clone", "--quiet", directory_ / "data.git", directory_ / "data"});
  commit("data", "set.csv", "1\n");
  in("data", {"push", "--quiet", "origin", "HEAD:main"});
  in("data.git", {"symbolic-ref", "HEAD", "refs/heads/main"});
  in("author", {"submodule", "--quiet", "add", directory_ / "data.git", "data"});
  in("author", {"commit", "--quiet", "-m", "data"});
  publish();
  GitSpec spec = clone_of_course();
  ASSERT_TRUE(run(spec).has_value());
  EXPECT_FALSE(path_exists(directory_ / "home/course/data/set.csv"));
  spec.submodules = true;
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  EXPECT_EQ(first_reason_, "submodules data are not there");
  EXPECT_EQ(content("home/course/data/set.csv"), "1\n");
  // The recorded commit moves: the submodule follows, unless the user has moved it.
  commit("data", "set.csv", "2\n");
  in("data", {"push", "--quiet", "origin", "HEAD:main"});
  in("author/data", {"pull", "--quiet"});
  in("author", {"commit", "--quiet", "-am", "newer data"});
  publish();
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  EXPECT_EQ(content("home/course/data/set.csv"), "2\n");
  const std::string mine = commit("home/course/data", "own.csv", "3\n");
  EXPECT_THAT(reason_of_run(spec), HasSubstr("1 file you changed kept"));
  EXPECT_EQ(in("home/course/data", {"rev-parse", "HEAD"}), mine);
}

TEST_F(GitStep, SubmodulesThatDidNotFollowAreBroughtAlongByTheNextRun) {
  in("", {"init", "--quiet", "--bare", directory_ / "data.git"});
  in("", {"clone", "--quiet", directory_ / "data.git", directory_ / "data"});
  commit("data", "set.csv", "1\n");
  in("data", {"push", "--quiet", "origin", "HEAD:main"});
  in("data.git", {"symbolic-ref", "HEAD", "refs/heads/main"});
  in("author", {"submodule", "--quiet", "add", directory_ / "data.git", "data"});
  in("author", {"commit", "--quiet", "-m", "data"});
  publish();
  GitSpec spec = clone_of_course();
  spec.submodules = true;
  ASSERT_TRUE(run(spec).has_value());
  commit("data", "set.csv", "2\n");
  in("data", {"push", "--quiet", "origin", "HEAD:main"});
  in("author/data", {"pull", "--quiet"});
  in("author", {"commit", "--quiet", "-am", "newer data"});
  publish();
  // Else git fetches them along with the commit, before anything is moved.
  in("home/course", {"config", "fetch.recurseSubmodules", "false"});
  std::filesystem::rename(directory_ / "data.git", directory_ / "gone.git");
  EXPECT_FALSE(run(spec).has_value()) << "the commit has moved, its submodule could not follow";
  std::filesystem::rename(directory_ / "gone.git", directory_ / "data.git");
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  EXPECT_EQ(first_reason_, "submodules have not followed their commit yet");
  EXPECT_EQ(content("home/course/data/set.csv"), "2\n");
  // Nothing is owed any more: what moves now is the user's.
  const std::string mine = commit("home/course/data", "own.csv", "3\n");
  EXPECT_THAT(reason_of_run(spec), StartsWith("main at "));
  EXPECT_EQ(in("home/course/data", {"rev-parse", "HEAD"}), mine);
}

TEST_F(GitStep, AnUpstreamThatWasRewrittenIsNotFollowed) {
  ASSERT_TRUE(run(clone_of_course()).has_value());
  const std::string before = head();
  in("author", {"commit", "--quiet", "--amend", "-m", "another history"});
  in("author", {"push", "--quiet", "--force", "origin", "main"});
  EXPECT_THAT(reason_of_run(clone_of_course()), HasSubstr("1 newer commit fetched but not merged: 1 commit of yours kept"));
  EXPECT_EQ(head(), before);
}

TEST_F(GitStep, TheSameRepositoryByAnotherWayIsTheSame) {
  EXPECT_TRUE(same_repository("https://Git.Example.org/a/b.git/", "git@git.example.org:a/b"));
  EXPECT_TRUE(same_repository("ssh://git@example.org/a/b", "https://example.org/a/b.git"));
  EXPECT_TRUE(same_repository("/srv/a.git", "file:///srv/a.git/"));
  EXPECT_FALSE(same_repository("https://example.org/a/b", "https://example.org/a/c"));
  EXPECT_FALSE(same_repository("https://example.org/a/b", "https://example.com/a/b"));
  EXPECT_FALSE(same_repository("https://example.org:8443/a/b", "https://example.org/a/b"));
}

// ---- with git's words only

Error error_of(const std::string& said, const std::string& url = "https://example.org/a.git") {
  Command command;
  command.argv = {"git", "ls-remote"};
  return git_error(command, {128, "", said}, url);
}

TEST(GitError, SaysWhatToDo) {
  struct {
    const char *said, *url, *why, *hint;
    ErrorCode code;
  } const rows[] = {
      {"fatal: could not read Username for 'https://example.org': terminal prompts disabled\n", "https://example.org/a.git",
       "asks for a login", "deploy key", ErrorCode::authentication},
      {"remote: Invalid username or password.\nfatal: Authentication failed for 'https://example.org/a.git/'\n",
       "https://example.org/a.git", "asks for a login", "deploy key", ErrorCode::authentication},
      {"git@example.org: Permission denied (publickey).\nfatal: Could not read from remote repository.\n", "git@example.org:a.git",
       "refused the login: git@example.org: Permission denied (publickey).", "deploy key", ErrorCode::authentication},
      {"Host key verification failed.\nfatal: Could not read from remote repository.\n", "git@example.org:a.git",
       "does not know the SSH key of git@example.org:a.git", "ssh-keyscan", ErrorCode::host_key},
      {"fatal: repository 'https://example.org/a.git/' not found\n", "https://example.org/a.git", "there is no repository",
       "check the address", ErrorCode::not_found},
      {"fatal: unable to access 'https://example.org/a.git/': Could not resolve host: example.org\n", "https://example.org/a.git",
       "Could not resolve host", "name server", ErrorCode::unknown_name},
      {"fatal: unable to access 'x': server certificate verification failed. CAfile: none CRLfile: none\n", "https://example.org/a.git",
       "certificate verification failed", "ca-certificates", ErrorCode::tls},
      {"error: RPC failed; curl 18 transfer closed with outstanding read data remaining\nfatal: early EOF\n", "https://example.org/a.git",
       "early EOF", "run the same command again", ErrorCode::network},
      {"fatal: write error: No space left on device\n", "https://example.org/a.git", "No space left", "df -h", ErrorCode::no_space},
      {"fatal: Unable to create '/home/u/c/.git/index.lock': File exists.\n\nAnother git process seems to be running\n", "/srv/a.git",
       "index.lock", "remove that file", ErrorCode::busy},
      {"fatal: detected dubious ownership in repository at '/srv/a.git'\n", "/srv/a.git", "dubious ownership", "as: USER",
       ErrorCode::permission},
  };
  for (const auto& row : rows) {
    const Error error = error_of(row.said, row.url);
    EXPECT_EQ(error.code(), row.code) << row.said;
    EXPECT_THAT(error.why(), HasSubstr(row.why));
    EXPECT_THAT(error.hint(), HasSubstr(row.hint));
  }
}

TEST(GitError, APasswordInTheUrlOfAnotherCloneIsNotShown) {
  EXPECT_THAT(error_of("fatal: Authentication failed for 'x'\n", "https://ann:secret@example.org/a").why(), Not(HasSubstr("secret")));
}

TEST(GitProgress, IsTakenFromItsLines) {
  RecordingLog log;
  EXPECT_TRUE(take_git_progress("Receiving objects:  45% (450/1000), 12.00 MiB | 6.00 MiB/s", log));
  EXPECT_EQ(log.last_share.first, "Receiving objects");
  EXPECT_DOUBLE_EQ(log.last_share.second, 0.45);
  EXPECT_TRUE(take_git_progress("remote: Counting objects: 100% (5/5), done.", log));
  EXPECT_FALSE(take_git_progress("Cloning into '/home/u/course'...", log));
  EXPECT_FALSE(take_git_progress("100% (really)", log));
}

// ---- on a host in memory

/// A git that can clone one repository of one commit, as far as the step can see it.
FakeHost host_with_git() {
  FakeHost host;
  host.as_user();
  host.on({"git"}, [](FakeHost& fake, const Command& command) -> CommandResult {
    const auto has = [&](const std::string& word) {
      return std::find(command.argv.begin(), command.argv.end(), word) != command.argv.end();
    };
    const std::string commit(40, 'a');
    EXPECT_THAT(command.env, Contains(std::pair<std::string, std::string>("GIT_TERMINAL_PROMPT", "0")));
    if (has("ls-remote")) return {0, "ref: refs/heads/main\tHEAD\n" + commit + "\tHEAD\n" + commit + "\trefs/heads/main\n", ""};
    if (has("clone")) {
      command.takes_line("Receiving objects:  45% (450/1000)");
      fake.put_directory(command.argv.back() + "/.git");
      fake.put(command.argv.back() + "/intro.txt", "an introduction\n");
      return {};
    }
    if (has("status")) return {0, "# branch.oid " + commit + "\n# branch.head main\n", ""};
    if (has("--get-regexp")) return {0, "remote.origin.url https://example.org/course.git\n", ""};
    if (has("rev-list")) return {0, "0\t0\n", ""};
    if (has("rev-parse")) return {0, commit + "\n", ""};
    if (has("config")) return {1, "", ""};
    return {129, "", "fatal: not in this test\n"};
  });
  return host;
}

GitSpec course(const std::string& ref = "") {
  GitSpec spec;
  spec.url = "https://example.org/course.git";
  spec.to.text = "~/course";
  spec.ref = ref;
  return spec;
}

TEST(GitOnAFakeHost, SaysThatGitIsMissingAndHowToGetIt) {
  FakeHost host;
  host.as_user();
  EXPECT_EQ(state_of(course(), host).reason, "/home/ubuntu/course does not exist");
  const auto done = run_step(course(), host);
  ASSERT_FALSE(done.has_value());
  EXPECT_EQ(done.error().why(), "`git` is not on this host");
  EXPECT_THAT(done.error().hint(), HasSubstr("apt: [git]"));
  host.put_directory("/home/ubuntu/course/.git");
  EXPECT_EQ(state_of(course(), host).is, StepState::Is::unknown) << "an earlier step may install it";
}

TEST(GitOnAFakeHost, ShowsProgressAndAsksNothingOverSsh) {
  FakeHost host = host_with_git();
  RecordingLog log;
  ASSERT_TRUE(run_step(course(), host, log).has_value());
  EXPECT_EQ(log.last_share.first, "Receiving objects");
  GitSpec by_ssh = course();
  by_ssh.url = "git@example.org:course.git";
  host.take_away("/home/ubuntu/course");
  host.forget();
  ASSERT_TRUE(run_step(by_ssh, host).has_value());
  EXPECT_THAT(host.changes(), Contains(HasSubstr("core.sshCommand=ssh -o BatchMode=yes")));
}

INSTANTIATE_TEST_SUITE_P(Git, StepContract,
                         ::testing::Values(ContractCase{"git_new", course(), host_with_git},
                                           ContractCase{"git_branch", course("main"), host_with_git},
                                           ContractCase{"git_into_an_empty_folder", course(),
                                                        [] {
                                                          FakeHost host = host_with_git();
                                                          host.put_directory("/home/ubuntu/course");
                                                          return host;
                                                        }}),
                         contract_name);

}  // namespace
}  // namespace gpustrap

#pragma once

#include "agent/base/result.h"
#include "controller/exit_code.h"
#include "controller/options.h"

namespace gpustrap {

// One function for each verb. Errors are main's to say, on stderr.

using VerbResult = Result<ExitCode>;

// verbs_run.cc
[[nodiscard]] VerbResult verb_up(const Options& options);
[[nodiscard]] VerbResult verb_plan(const Options& options);
[[nodiscard]] VerbResult verb_attach(const Options& options);
// verbs_fleet.cc
/// `up` and `plan` where Options::is_fleet(). A thread that waits for a host's answer may be left behind: end without destructors.
[[nodiscard]] VerbResult verb_fleet(const Options& options);
// verbs_many.cc
/// Of one host, too; ends as verb_fleet() does, and so do those for many.
[[nodiscard]] VerbResult verb_status(const Options& options);
[[nodiscard]] VerbResult verb_attach_many(const Options& options);
[[nodiscard]] VerbResult verb_cancel_many(const Options& options);
[[nodiscard]] VerbResult verb_remove_many(const Options& options);
// verbs_host.cc
[[nodiscard]] VerbResult verb_logs(const Options& options);
[[nodiscard]] VerbResult verb_cancel(const Options& options);
[[nodiscard]] VerbResult verb_keep(const Options& options);
[[nodiscard]] VerbResult verb_remove(const Options& options);
[[nodiscard]] VerbResult verb_ssh(const Options& options);
[[nodiscard]] VerbResult verb_hosts(const Options& options);
// verbs_copy.cc
[[nodiscard]] VerbResult verb_pull(const Options& options);
[[nodiscard]] VerbResult verb_push(const Options& options);
// verbs_notebook.cc
[[nodiscard]] VerbResult verb_tunnel(const Options& options);
[[nodiscard]] VerbResult verb_url(const Options& options);
[[nodiscard]] VerbResult verb_open(const Options& options);
// verbs_report.cc
[[nodiscard]] VerbResult verb_report(const Options& options);
[[nodiscard]] VerbResult verb_history(const Options& options);
// verbs_doctor.cc
[[nodiscard]] VerbResult verb_doctor(const Options& options);
// verbs_recipe.cc
[[nodiscard]] VerbResult verb_recipe_list(const Options& options);
[[nodiscard]] VerbResult verb_recipe_show(const Options& options);
[[nodiscard]] VerbResult verb_recipe_explain(const Options& options);
[[nodiscard]] VerbResult verb_version(const Options& options);
// verbs_author.cc
[[nodiscard]] VerbResult verb_recipe_lint(const Options& options);
[[nodiscard]] VerbResult verb_recipe_schema(const Options& options);
[[nodiscard]] VerbResult verb_recipe_new(const Options& options);
[[nodiscard]] VerbResult verb_adopt(const Options& options);
// verbs_pack.cc
[[nodiscard]] VerbResult verb_pack(const Options& options);
// verbs_test.cc
[[nodiscard]] VerbResult verb_recipe_test(const Options& options);
// verbs_terminal.cc
[[nodiscard]] VerbResult verb_completion(const Options& options);
/// Answers a completion script: a candidate a line.
[[nodiscard]] VerbResult verb_complete(const Options& options);
[[nodiscard]] VerbResult verb_config(const Options& options);
[[nodiscard]] VerbResult verb_man(const Options& options);

// verbs_launch.cc
[[nodiscard]] VerbResult verb_launch(const Options& options);
// verbs_ls.cc
[[nodiscard]] VerbResult verb_ls(const Options& options);
// verbs_image.cc
[[nodiscard]] VerbResult verb_image(const Options& options);
// verbs_cloud.cc
[[nodiscard]] VerbResult verb_start(const Options& options);
[[nodiscard]] VerbResult verb_stop(const Options& options);
[[nodiscard]] VerbResult verb_terminate(const Options& options);
[[nodiscard]] VerbResult verb_quota(const Options& options);

}  // namespace gpustrap

#include <unistd.h>

#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/adopt.h"
#include "controller/compat_loader.h"
#include "controller/console.h"
#include "controller/lint.h"
#include "controller/lint_upstream.h"
#include "controller/recipe_schema.h"
#include "controller/recipe_starter.h"
#include "controller/user_config.h"
#include "controller/user_recipes.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

VerbResult print(const std::string& text) {
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

/// "lab.yaml" as a command line takes it: a bare name would be a recipe's.
std::string as_argument(const std::string& file) {
  const bool is_file = file.find('/') != std::string::npos || file.ends_with(".yaml") || file.ends_with(".yml");
  return shell_quote(is_file ? file : "./" + file);
}

}  // namespace

VerbResult verb_recipe_lint(const Options& options) {
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  std::vector<LintReport> reports;
  UpstreamOptions upstream;
  upstream.depth = options.upstream_full ? UpstreamOptions::Depth::whole : UpstreamOptions::Depth::headers;
  upstream.connect = [] { return make_http({}); };
  upstream.look_at_key = look_at_key_with_gpg;
  const bool ask = options.upstream || options.upstream_full;
  if (ask) {
    const Result<UserConfig> config = load_user_config();
    if (!config) return fail(config.error());
    Result<Network> network = network_for(*config, options.mirror, options.proxy);
    if (!network) return fail(std::move(network).error());
    upstream.mirror = std::move(network->mirror);
  }
  for (const std::string& name : options.recipes) {
    Result<LintReport> report = lint_recipe(name, LoadOptions{recipe_sources(), options.vars}, *compat, ask ? &upstream : nullptr);
    if (!report) return fail(std::move(report).error());
    reports.push_back(*std::move(report));
  }
  const Console console = console_of(STDOUT_FILENO, ColourChoice::never);
  const VerbResult printed = print(options.format == "sarif"  ? lint_sarif(reports)
                                   : options.format == "json" ? lint_json(reports)
                                                              : lint_text(reports, console.person ? console.size().columns - 1 : 0));
  const bool is_clean = count_of(reports, Severity::error) + count_of(reports, Severity::warning) == 0;
  return printed && !is_clean ? VerbResult(ExitCode::step_failed) : printed;
}

VerbResult verb_recipe_schema(const Options&) { return print(recipe_schema()); }

VerbResult verb_recipe_new(const Options& options) {
  if (Result<void> written = write_new_file(options.file, starter_recipe(options.file)); !written) return fail(std::move(written).error());
  if (options.json) return print(to_line({{"new", 1}, {"file", options.file}}));
  const std::string file = as_argument(options.file);
  return print(
      fmt::format("{} is a recipe to begin with. Next:\n  gpustrap recipe lint {}\n  gpustrap plan {} HOST\n", options.file, file, file));
}

VerbResult verb_adopt(const Options& options) {
  Result<std::string> script = options.file == "-" ? read_all(STDIN_FILENO, kLongestScript) : read_file(options.file, kLongestScript);
  if (!script) {
    return fail(Error(ErrorCode::usage, script.error().sentence(),
                      script.error().hint().empty() ? "name a shell script; `-` is what comes on standard input" : script.error().hint()));
  }
  const AdoptedScript adopted = adopt_script(*script, options.file == "-" ? "the commands" : options.file);
  if (!adopted.problem.empty()) return fail(Error(ErrorCode::usage, fmt::format("{}: {}", options.file, adopted.problem), adopted.advice));
  if (options.output.empty()) return print(options.json ? adopted_json(adopted, options.file, "") : adopted.recipe);
  if (Result<void> written = write_new_file(options.output, adopted.recipe); !written) return fail(std::move(written).error());
  if (options.json) return print(adopted_json(adopted, options.file, options.output));
  const std::string file = as_argument(options.output);
  std::string text = fmt::format("{}: {} typed steps, {} commands, {} to review.\n", options.output, adopted.typed, adopted.commands,
                                 adopted.reviews.size());
  if (adopted.blocks > 0) text += fmt::format("Of the page {} blocks were taken, {} left.\n", adopted.blocks, adopted.blocks_left.size());
  for (const AdoptedScript::LeftOut& one : adopted.blocks_left)
    text += fmt::format("  line {}: {}: {}\n", one.script_line, one.text, one.why);
  return print(text + fmt::format("Next:\n  gpustrap recipe lint {}\n  gpustrap plan {} HOST\n", file, file));
}

}  // namespace gpustrap

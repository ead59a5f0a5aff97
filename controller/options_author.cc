#include <CLI/CLI.hpp>

#include "controller/option_parts.h"

namespace gpustrap {

void declare_author_verbs(const DeclaredLine& line) {
  CLI::App* recipe = line.app.add_subcommand("recipe", "Recipes: list, show, explain, check and begin them.");
  recipe->require_subcommand(1);
  CLI::App& list = line.add_verb(Verb::recipe_list, "list", "The recipes that can be named.", *recipe);
  add_json(list, line.options);
  add_places(list, "");
  CLI::App& show = line.add_verb(Verb::recipe_show, "show", "Prints a recipe.", *recipe);
  show.add_flag("--json", line.options.json, "as an agent takes it: includes and vars filled in; for `gpustrap-agent run`")
      ->group("Output");
  show.add_option("--var", line.raw.vars, "with --json: value of a recipe's variable")
      ->type_name("NAME=VALUE")
      ->group("Run")
      ->allow_extra_args(false);
  add_places(show, "RECIPE");
  CLI::App& explain = line.add_verb(Verb::recipe_explain, "explain",
                                    "What a recipe would do on a machine, before you rent it; or what a kind takes.", *recipe);
  explain.add_option("--gpu", line.options.gpus, "its GPUs: t4, 8xh100, a PCI id, or none")
      ->type_name("GPU")
      ->group("Run")
      ->allow_extra_args(false);
  explain.add_option("--os", line.options.os, "its system, for instance ubuntu:24.04")->type_name("NAME:VERSION")->group("Run");
  explain.add_option("--arch", line.options.arch, "its processor; the GPU's where not given")->type_name("x86_64|aarch64")->group("Run");
  explain.add_option("--cuda", line.options.cuda, "with this CUDA instead of the recipe's: 12, 12.4, auto")
      ->type_name("VERSION")
      ->group("Run");
  explain.add_option("--driver", line.options.branch, "with this driver branch instead of the recipe's")->type_name("BRANCH")->group("Run");
  explain.add_option("--var", line.raw.vars, "value of a recipe's variable")
      ->type_name("NAME=VALUE")
      ->group("Run")
      ->allow_extra_args(false);
  explain.add_flag("--kind", line.options.kind, "the kind of step of that name, where a recipe has it too")->group("Run");
  add_json(explain, line.options);
  add_places(explain, "RECIPE|KIND");
  CLI::App& lint =
      line.add_verb(Verb::recipe_lint, "lint", "What recipes that load could still do better, with reasons (docs/lint.md).", *recipe);
  lint.add_option("--format", line.options.format, "sarif is for code scanning")->type_name("text|json|sarif")->group("Output");
  lint.add_flag_callback(
          "--json", [&options = line.options] { options.format = "json"; }, "the same as --format json")
      ->group("Output");
  lint.add_option("--var", line.raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  lint.add_flag("--upstream", line.options.upstream, "also ask the servers: is every file still there, is no key expired?")->group("Run");
  lint.add_flag("--upstream-full", line.options.upstream_full, "and fetch files with a digest whole, to compare it")->group("Run");
  lint.add_option("--mirror", line.options.mirror, "ask as the hosts do, this mirror of config.yaml first (or none)")
      ->type_name("NAME")
      ->group("Run");
  add_places(lint, "RECIPE...");
  add_places(
      line.add_verb(Verb::recipe_schema, "schema", "Prints the JSON Schema of recipes, for completion and hints in editors.", *recipe), "");
  CLI::App& starter = line.add_verb(Verb::recipe_new, "new", "Writes a recipe to begin with; never over a file that is there.", *recipe);
  add_json(starter, line.options);
  add_places(starter, "[FILE]");
  CLI::App& test = line.add_verb(
      Verb::recipe_test, "test",
      "Runs a recipe twice on a host that is booted on this machine and thrown away\nafterwards. The second run must have nothing to do.",
      *recipe);
  test.add_option("--gpu", line.options.gpus, "show these GPUs on its PCI bus; nothing is behind them: t4, 8xh100")
      ->type_name("GPU")
      ->group("Run")
      ->allow_extra_args(false);
  test.add_option("--codename", line.options.codename, "its release, such as bookworm or noble; this machine's where not given")
      ->type_name("CODENAME")
      ->group("Run");
  test.add_option("--var", line.raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  test.add_flag("--keep-host", line.options.keep_host, "leave the host for a look at it")->group("Run");
  add_json(test, line.options);
  test.add_option("--junit", line.options.junit, "write the steps as test cases for CI")->type_name("FILE")->group("Output");
  test.add_flag("--no-color,--no-colour", line.raw.no_colour, "no colours (also: NO_COLOR)")->group("Output");
  test.add_flag("-q,--quiet", line.raw.quiet, "only the ends, and what failed")->group("Output");
  test.add_flag("-v,--verbose", line.raw.verbose, "plain lines with everything that is said")->group("Output");
  add_places(test, "RECIPE");
  CLI::App& adopt =
      line.add_verb(Verb::adopt, "adopt", "Makes a recipe of a shell script; what is not understood stays a command.", line.app);
  adopt.add_option("-o", line.options.output, "the file to make; printed where not given")->type_name("FILE")->group("Output");
  add_json(adopt, line.options);
  add_places(adopt, "SCRIPT|-");
  CLI::App& pack = line.add_verb(Verb::pack, "pack", "Makes one file of agent and recipe, which sets a machine up by itself.", line.app);
  pack.add_option("--var", line.raw.vars, "value of a recipe's variable")->type_name("NAME=VALUE")->group("Run")->allow_extra_args(false);
  add_guard_options(pack, line.options.guard);
  pack.add_option("--arch", line.options.arch, "the machine's: x86_64 (default) or aarch64")->type_name("ARCH")->group("Run");
  pack.add_option("--user-data", line.options.user_data, "print user data that fetches the file from there")
      ->type_name("URL")
      ->group("Output");
  pack.add_option("-o", line.options.output, "the file to make; by default RECIPE-ARCH.sh")->type_name("FILE")->group("Output");
  add_json(pack, line.options);
  add_places(pack, "RECIPE");
}

}  // namespace gpustrap

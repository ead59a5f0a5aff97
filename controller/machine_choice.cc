#include "controller/machine_choice.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/json.h"
#include "agent/protocol/recipe.h"
#include "controller/cloud/prices.h"
#include "controller/compat_loader.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_loader.h"
#include "controller/user_recipes.h"

namespace gpustrap {

namespace {

/// Families of a part of a GPU, which only AWS's own driver runs.
bool has_part_of_gpu(std::string_view type) { return family_of(type) == "g6f" || family_of(type) == "gr6f"; }

std::string gpus_of(const PriceTable& prices, const std::string& type) {
  const std::string gpu = prices.gpu_of(type);
  const PriceRow* row = prices.find(type);
  const bool standard = quota_title(quota_code(type, false)) == "running on-demand standard instances";
  if (has_part_of_gpu(type) || (gpu.empty() && standard)) return "none";
  return row == nullptr || row->gpus == 1 ? gpu : fmt::format("{}x{}", row->gpus, gpu);
}

/// The first step that there is nothing for without a GPU; empty: none.
std::string gpu_step_of(const Recipe& recipe) {
  for (const StepEntry& step : recipe.steps) {
    const std::string_view kind = step_kind_name(step.kind);
    const bool asked = step.kind == StepKind::require && step.spec && step.spec->is_object() && step.spec->contains("gpu") &&
                       step.spec->at("gpu") == Json(true);
    if (!asked && kind != "nvidia_driver" && kind != "cuda" && kind != "nvidia_smi") continue;
    if (!step.when || !step.when->gpu.value_or(false)) return std::string(kind);
  }
  return {};
}

/// Why the recipe would fail with that GPU, in words; empty: it is not known to.
Result<std::string> trouble_with(const LoadedRecipe& recipe, const Compat& compat, const std::string& gpu, const std::string& os) {
  const std::vector<std::string> gpus = gpu.empty() ? std::vector<std::string>{} : std::vector<std::string>{gpu};
  Result<ImaginedMachine> machine = imagine_machine(compat, gpus, os, "");
  // A release that the tables do not have yet can be rented all the same.
  if (!machine && !os.empty()) machine = imagine_machine(compat, gpus, "", "");
  if (!machine) return fail(machine.error());
  const Explanation explanation = explain_recipe(recipe, compat, *machine, 0);
  if (!explanation.would_fail) return std::string();
  for (const std::string& line : split(explanation.text, '\n')) {
    const std::string_view bare = trim(line);
    if (bare.starts_with("would fail: ")) return std::string(bare.substr(12));
  }
  return std::string("it would fail");
}

}  // namespace

Result<Machines> machines_of(const Options& options) {
  const PriceTable& prices = builtin_prices();
  if (!options.cloud.types.empty()) {
    Machines machines{options.cloud.types, {}};
    for (const std::string& one : options.cloud.types) {
      if (one.find('.') == std::string::npos)
        return fail(ErrorCode::usage, fmt::format("--type {}: a type has a size", strip_control(one)),
                    fmt::format("for instance --type {}.xlarge", strip_control(one)));
      machines.gpus.push_back(gpus_of(prices, one));
    }
    return machines;
  }
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::string& word = options.gpus.front();
  const Result<ImaginedMachine> machine = imagine_machine(*compat, {word}, "", "");
  if (!machine) return fail(machine.error());
  const std::size_t x = word.find('x');
  const bool counted = x != std::string::npos && x > 0 && word.find_first_not_of("0123456789") == x;
  const GpuRow* row = find_gpu_by_name(*compat, counted ? word.substr(x + 1) : word);
  const unsigned count = static_cast<unsigned>(machine->facts.gpus.size());
  std::vector<std::string> types;
  for (const std::string& alias : row == nullptr ? std::vector<std::string>{} : row->aliases.items) {
    if (types.empty()) types = prices.types_with(alias, count);
  }
  if (types.empty()) {
    const bool retired = row != nullptr && row->retired;
    // Known in other numbers: EC2 has no machine with one A100.
    std::vector<std::string> others;
    for (const PriceRow& one : prices.rows) {
      const bool same =
          row != nullptr && std::find(row->aliases.items.begin(), row->aliases.items.end(), one.gpu) != row->aliases.items.end();
      const std::string shown = one.gpus == 1 ? one.gpu : fmt::format("{}x{}", one.gpus, one.gpu);
      if (same && std::find(others.begin(), others.end(), "--gpu " + shown) == others.end()) others.push_back("--gpu " + shown);
    }
    if (!retired && !others.empty())
      return fail(ErrorCode::usage, fmt::format("--gpu {}: EC2 has no type with {} of them", word, count), "it has " + join(others, ", "));
    std::string families = row == nullptr ? "" : join(row->instances.items, ", ");
    return fail(ErrorCode::usage,
                retired ? fmt::format("--gpu {}: EC2 has retired its machines ({})", word, families)
                        : fmt::format("--gpu {}: no type with {} of them is known here", word, count),
                retired || families.empty() ? "machines there are: --gpu t4, a10g, l4, l40s, 8xa100, h100"
                                            : fmt::format("name its type: --type {}.SIZE", row->instances.items.front()));
  }
  return Machines{types, std::vector<std::string>(types.size(), word)};
}

Result<GpuNeed> check_recipe(const Options& options, const Machines& machines) {
  if (options.recipe.empty()) return GpuNeed::never;
  const Result<LoadedRecipe> recipe = load_recipe(options.recipe, LoadOptions{recipe_sources(), options.vars});
  if (!recipe) return fail(recipe.error());
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::string& image = options.cloud.image;
  const std::string os = image.starts_with("ubuntu:") || image.starts_with("debian:") ? image : image == "dlami" ? "ubuntu:24.04" : "";
  const std::string gpu_step = gpu_step_of(recipe->recipe);
  std::set<std::string> looked_at;
  for (std::size_t i = 0; i < machines.types.size(); ++i) {
    const std::string &type = machines.types[i], &gpu = machines.gpus[i];
    if (gpu == "none" && !gpu_step.empty()) {
      return fail(ErrorCode::recipe,
                  fmt::format("the recipe {} needs a GPU (its step {}), and {} has {}, so it is not rented", options.recipe, gpu_step,
                              strip_control(type), has_part_of_gpu(type) ? "a part of one, which takes AWS's own driver alone" : "none"),
                  "take a machine with a whole one: --gpu t4, --gpu a10g, --type g5.xlarge");
    }
    if (!looked_at.insert(gpu).second) continue;
    const Result<std::string> why = trouble_with(*recipe, *compat, gpu, os);
    if (!why) return fail(why.error());
    if (why->empty()) continue;
    return fail(ErrorCode::recipe,
                fmt::format("the recipe {} would fail on {}, so it is not rented: {}", options.recipe, strip_control(type), *why),
                fmt::format("gpustrap recipe explain {}{}{} says more", shell_quote(options.recipe), gpu.empty() ? "" : " --gpu " + gpu,
                            os.empty() ? "" : " --os " + os));
  }
  return gpu_step.empty() ? GpuNeed::never : GpuNeed::always;
}

}  // namespace gpustrap

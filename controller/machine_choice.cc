#include "controller/machine_choice.h"

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "controller/cloud/prices.h"
#include "controller/compat_loader.h"
#include "controller/recipe_explain.h"
#include "controller/recipe_loader.h"
#include "controller/user_recipes.h"

namespace gpustrap {

Result<Machines> machines_of(const Options& options) {
  const PriceTable& prices = builtin_prices();
  if (!options.cloud.types.empty()) {
    const std::string& type = options.cloud.types.front();
    const std::string gpu = prices.gpu_of(type);
    const PriceRow* row = prices.find(type);
    for (const std::string& one : options.cloud.types) {
      if (one.find('.') == std::string::npos)
        return fail(ErrorCode::usage, fmt::format("--type {}: a type has a size", strip_control(one)),
                    fmt::format("for instance --type {}.xlarge", strip_control(one)));
    }
    return Machines{options.cloud.types, gpu.empty() || row == nullptr || row->gpus == 1 ? gpu : fmt::format("{}x{}", row->gpus, gpu)};
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
    std::string families = row == nullptr ? "" : join(row->instances.items, ", ");
    return fail(ErrorCode::usage,
                retired ? fmt::format("--gpu {}: EC2 has retired its machines ({})", word, families)
                        : fmt::format("--gpu {}: no type with {} of them is known here", word, count),
                retired || families.empty() ? "machines there are: --gpu t4, a10g, l4, l40s, 8xa100, h100"
                                            : fmt::format("name its type: --type {}.SIZE", row->instances.items.front()));
  }
  return Machines{types, word};
}

Result<void> check_recipe(const Options& options, const std::string& gpu) {
  if (options.recipe.empty()) return {};
  const Result<LoadedRecipe> recipe = load_recipe(options.recipe, LoadOptions{recipe_sources(), options.vars});
  if (!recipe) return fail(recipe.error());
  const Result<Compat> compat = load_builtin_compat();
  if (!compat) return fail(compat.error());
  const std::string& image = options.cloud.image;
  const std::string os = image.starts_with("ubuntu:") || image.starts_with("debian:") ? image : image == "dlami" ? "ubuntu:24.04" : "";
  const Result<ImaginedMachine> machine =
      imagine_machine(*compat, gpu.empty() ? std::vector<std::string>{} : std::vector<std::string>{gpu}, os, "");
  if (!machine) return fail(machine.error());
  const Explanation explanation = explain_recipe(*recipe, *compat, *machine, 0);
  if (!explanation.would_fail) return {};
  std::string why;
  for (const std::string& line : split(explanation.text, '\n')) {
    const std::string_view bare = trim(line);
    if (why.empty() && bare.starts_with("would fail: ")) why = bare.substr(12);
  }
  return fail(ErrorCode::recipe, fmt::format("the recipe {} would fail on that machine, so it is not rented: {}", options.recipe, why),
              fmt::format("gpustrap recipe explain {}{}{} says more", shell_quote(options.recipe), gpu.empty() ? "" : " --gpu " + gpu,
                          os.empty() ? "" : " --os " + os));
}

}  // namespace gpustrap

#include "controller/step_choice.h"

#include <algorithm>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

bool contains(const std::vector<std::string>& all, const std::string& one) { return std::find(all.begin(), all.end(), one) != all.end(); }

void add_once(std::vector<std::string>& all, const std::string& one) {
  if (!contains(all, one)) all.push_back(one);
}

std::string options_of(std::string_view option, const std::vector<std::string>& values) {
  std::string words;
  for (const std::string& value : values) words += fmt::format(" {} {}", option, shell_quote(value));
  return words;
}

/// Every id once, in the order of the recipes.
std::vector<std::string> ids_of(const std::vector<const Recipe*>& recipes) {
  std::vector<std::string> ids;
  for (const Recipe* recipe : recipes) {
    for (const StepEntry& step : recipe->steps) add_once(ids, step.id);
  }
  return ids;
}

Result<void> check_ids(std::string_view option, const std::vector<std::string>& wanted, const std::vector<std::string>& ids) {
  for (const std::string& id : wanted) {
    if (contains(ids, id)) continue;
    const std::string near = nearest_name(id, ids);
    return fail(ErrorCode::usage,
                fmt::format("{} {}: the recipe has no step of that id{}", option, id,
                            near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
                "its steps: " + join(ids, ", "));
  }
  return {};
}

Result<void> check_tags(const std::vector<const Recipe*>& recipes, const std::vector<std::string>& wanted) {
  std::vector<std::string> tags;
  for (const Recipe* recipe : recipes) {
    for (const StepEntry& step : recipe->steps) {
      for (const std::string& tag : step.tags.items) add_once(tags, tag);
    }
  }
  for (const std::string& tag : wanted) {
    if (contains(tags, tag)) continue;
    const std::string near = nearest_name(tag, tags);
    return fail(
        ErrorCode::usage,
        fmt::format("--tag {}: no step of the recipe has that tag{}", tag, near.empty() ? "" : fmt::format("; did you mean `{}`?", near)),
        tags.empty() ? "none of its steps has any; --only picks steps by their ids" : "its tags: " + join(tags, ", "));
  }
  return {};
}

/// Those before `first`, as the first recipe that has it orders them.
std::vector<std::string> ids_before(const std::vector<const Recipe*>& recipes, const std::string& first) {
  std::vector<std::string> before;
  for (const Recipe* recipe : recipes) {
    before.clear();
    for (const StepEntry& step : recipe->steps) {
      if (step.id == first) return before;
      before.push_back(step.id);
    }
  }
  return before;
}

/// "conda_env (pip)": what a step that is looked at needs and that is not, with who needs it.
std::vector<std::string> needs_left_out(const std::vector<const Recipe*>& recipes, const std::vector<std::string>& left_out) {
  std::vector<std::string> said;
  for (const Recipe* recipe : recipes) {
    for (std::size_t i = 0; i < recipe->steps.size(); ++i) {
      const StepEntry& step = recipe->steps[i];
      if (contains(left_out, step.id)) continue;
      std::vector<std::string> needs;
      if (step.needs)
        needs = *step.needs;
      else if (i > 0)
        needs.push_back(recipe->steps[i - 1].id);
      for (const std::string& need : needs) {
        if (contains(left_out, need)) add_once(said, fmt::format("{} (for {})", need, step.id));
      }
    }
  }
  return said;
}

bool has_any(const std::vector<std::string>& tags, const std::vector<std::string>& wanted) {
  return std::any_of(tags.begin(), tags.end(), [&](const std::string& tag) { return contains(wanted, tag); });
}

}  // namespace

std::string words_of(const StepWishes& wishes) {
  std::string words;
  if (!wishes.from.empty()) words += " --from " + shell_quote(wishes.from);
  return words + options_of("--only", wishes.only) + options_of("--skip", wishes.skip) + options_of("--force", wishes.force) +
         options_of("--tag", wishes.tags);
}

Result<ChosenSteps> choose_steps(const std::vector<const Recipe*>& recipes, const StepWishes& wishes) {
  const std::vector<std::string> ids = ids_of(recipes);
  const std::vector<std::string> from = wishes.from.empty() ? std::vector<std::string>() : std::vector<std::string>{wishes.from};
  for (const auto& [option, wanted] : {std::pair{"--from", &from}, std::pair{"--only", &wishes.only}, std::pair{"--skip", &wishes.skip},
                                       std::pair{"--force", &wishes.force}}) {
    if (Result<void> known = check_ids(option, *wanted, ids); !known) return fail(std::move(known).error());
  }
  if (Result<void> known = check_tags(recipes, wishes.tags); !known) return fail(std::move(known).error());
  for (const std::string& id : wishes.skip) {
    for (const auto& [option, wanted] :
         {std::pair{"--from", &from}, std::pair{"--only", &wishes.only}, std::pair{"--force", &wishes.force}}) {
      if (contains(*wanted, id))
        return fail(ErrorCode::usage, fmt::format("--skip {0} and {1} {0} contradict each other", id, option), "leave one of them out");
    }
  }

  ChosenSteps chosen;
  chosen.choice.tags = wishes.tags;
  chosen.choice.forced = wishes.force;
  std::vector<std::string>& left_out = chosen.choice.left_out;
  if (!wishes.from.empty()) left_out = ids_before(recipes, wishes.from);
  for (const std::string& id : ids) {
    if ((!wishes.only.empty() && !contains(wishes.only, id)) || contains(wishes.skip, id)) add_once(left_out, id);
  }
  for (const std::string& id : wishes.force) {
    if (contains(left_out, id))
      return fail(ErrorCode::usage, fmt::format("--force {0}: {0} is left out of this run", id),
                  wishes.only.empty() ? "--from begins behind it" : fmt::format("add it: --only {}", id));
  }
  if (!ids.empty() && left_out.size() == ids.size())
    return fail(ErrorCode::usage, "no step is left to do", fmt::format("leave one of{} out", words_of(wishes)));
  if (const std::vector<std::string> needs = needs_left_out(recipes, left_out); !needs.empty())
    chosen.notices.push_back("Left out, and not looked at although needed: " + join(needs, ", ") + ".");
  return chosen;
}

Recipe chosen_part(const Recipe& recipe, const StepChoice& choice) {
  Recipe part = recipe;
  std::erase_if(part.steps, [&](const StepEntry& step) {
    const bool other_tags = !choice.tags.empty() && !step.tags.items.empty() && !has_any(step.tags.items, choice.tags);
    return other_tags || contains(choice.left_out, step.id);
  });
  return part;
}

}  // namespace gpustrap

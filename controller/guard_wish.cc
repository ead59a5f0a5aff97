#include "controller/guard_wish.h"

#include <algorithm>
#include <array>
#include <memory>
#include <string_view>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {
namespace {

struct GuardOption {
  const char *name, *field;
  std::string GuardWish::*said;
  const char* example;
};
constexpr std::array<GuardOption, 3> kOptions = {{{"--idle-stop", "after", &GuardWish::idle_stop, "--idle-stop 30m"},
                                                  {"--budget", "budget", &GuardWish::budget, "--budget 5USD"},
                                                  {"--price", "price", &GuardWish::price, "--price 0.526USD/h"}}};

Json fields_of(const GuardWish& wish) {
  Json fields = Json::object();
  for (const GuardOption& option : kOptions) {
    if (!(wish.*option.said).empty()) fields[option.field] = wish.*option.said;
  }
  return fields;
}

/// One that no step of the recipe has.
std::string free_id(const Recipe& recipe) {
  std::string id(IdleStopSpec::kName);
  while (std::any_of(recipe.steps.begin(), recipe.steps.end(), [&](const StepEntry& step) { return step.id == id; })) id += "_too";
  return id;
}

}  // namespace

Result<void> check_guard(const GuardWish& wish) {
  if (!wish.price.empty() && wish.budget.empty())
    return fail(ErrorCode::usage, "--price without --budget means nothing", "what may be spent: --budget 5USD --price " + wish.price);
  if (!wants_guard(wish)) return {};
  const Json recipe = {{"name", "guard"}, {"steps", Json::array({{{std::string(IdleStopSpec::kName), fields_of(wish)}}})}};
  std::vector<FieldProblem> problems;
  static_cast<void>(read_recipe(recipe, Placeholders::refused, problems));
  if (problems.empty()) return {};
  const FieldProblem& first = problems.front();
  for (const GuardOption& option : kOptions) {
    if (!first.pointer.ends_with(std::string("/") + option.field)) continue;
    const std::size_t wanted = first.message.find("expected");
    const std::string what = first.message.substr(wanted == std::string::npos ? 0 : wanted);
    return fail(ErrorCode::usage, fmt::format("{} {}: {}", option.name, strip_control(first_line(wish.*option.said, 60)), what),
                fmt::format("for instance {}", option.example));
  }
  return fail(ErrorCode::internal, "idle_stop does not take what these options say: " + first.message);
}

void add_guard(Recipe& recipe, const GuardWish& wish) {
  if (!wants_guard(wish)) return;
  bool has_one = false;
  for (StepEntry& step : recipe.steps) {
    if (step.kind != StepKind::idle_stop) continue;
    has_one = true;
    Json spec = step.spec && !step.spec->is_null() ? *step.spec : Json::object();
    if (!spec.is_object()) spec = Json{{std::string(IdleStopSpec::kShorthand), std::move(spec)}};
    spec.erase("absent");
    spec.update(fields_of(wish));
    step.spec = std::make_shared<const Json>(std::move(spec));
  }
  if (has_one) return;
  StepEntry step;
  step.id = free_id(recipe);
  step.kind = StepKind::idle_stop;
  step.spec = std::make_shared<const Json>(fields_of(wish));
  step.needs.emplace();
  recipe.steps.push_back(std::move(step));
}

std::string words_of(const GuardWish& wish) {
  std::string words;
  for (const GuardOption& option : kOptions) {
    if (!(wish.*option.said).empty()) words += fmt::format(" {} {}", option.name, shell_quote(wish.*option.said));
  }
  return words;
}

std::string guard_text(const GuardWish& wish) {
  std::vector<std::string> ends;
  if (!wish.idle_stop.empty()) ends.push_back(fmt::format("after {} without use", strip_control(first_line(wish.idle_stop, 60))));
  if (!wish.budget.empty()) ends.push_back(fmt::format("once its hours have cost {}", strip_control(first_line(wish.budget, 60))));
  return ends.empty() ? "" : "stops by itself " + join(ends, ", and ");
}

}  // namespace gpustrap

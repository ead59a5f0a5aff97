#include "agent/plan.h"

#include <algorithm>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/placeholders.h"

namespace gpustrap {
namespace {

/// Facts and secrets are all that a placeholder can still ask for on the host.
Result<std::optional<Json>> look_up(const std::string& name, const Facts& facts) {
  if (name.starts_with("secrets.")) return std::nullopt;  // for the step's process
  if (!name.starts_with("facts.")) {
    return fail(ErrorCode::recipe, fmt::format("`{}` cannot be known on the host; only facts and secrets can", name));
  }
  const std::string wanted = name.substr(6);
  if (std::optional<Json> value = fact(facts, wanted)) return value;
  const std::string near = nearest_name(wanted, fact_names());
  return fail(ErrorCode::recipe,
              fmt::format("there is no fact `{}`{}", wanted, near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
}

Result<Identity> identity_for(const StepEntry& entry, const Identity& login, const Identity& self) {
  const std::string as = identity_of(entry);
  if (as == "login") return login;
  if (self.uid != 0 && as == "root") {
    return fail(ErrorCode::permission, fmt::format("it runs as root, and the agent runs as {} without sudo", self.name),
                "log in as a user who may use sudo, or mark the step `as: login` where that is enough");
  }
  if (as == "root") return self;
  if (as == login.name) return login;
  Result<Identity> user = identity_of_name(as);
  if (user || user.error().code() != ErrorCode::not_found) return user;
  return fail(ErrorCode::recipe, user.error().why(),
              as == "sudo" ? "write `as: root`"
                           : "write `as: root` or `as: login`; a user that a recipe makes is there for the recipe that runs after it");
}

/// A field of the first step of this kind that stands in the recipe as a text; empty where there is none.
std::string said_by(const Recipe& recipe, StepKind kind, const char* field) {
  for (const StepEntry& entry : recipe.steps) {
    if (entry.kind != kind || !entry.spec) continue;
    const Json* value = &*entry.spec;
    if (value->is_object()) {
      const auto found = value->find(field);
      if (found == value->end()) return {};
      value = &*found;
    }
    const std::string text = value->is_string() ? value->get<std::string>() : std::string();
    return text.find("${{") == std::string::npos ? text : std::string();
  }
  return {};
}

/// Driver and toolkit are chosen from the same tables, and with an eye on each other.
void add_tables(StepSpec& spec, const Recipe& recipe) {
  if (auto* driver = std::get_if<NvidiaDriverSpec>(&spec)) {
    driver->tables = recipe.compat;
    if (driver->cuda.empty()) driver->cuda = said_by(recipe, StepKind::cuda, "version");
  } else if (auto* cuda = std::get_if<CudaSpec>(&spec)) {
    cuda->tables = recipe.compat;
    cuda->driver_branch = said_by(recipe, StepKind::nvidia_driver, "branch");
  } else if (auto* idle = std::get_if<IdleStopSpec>(&spec)) {
    idle->prices = recipe.prices;
  }
}

bool contains(const std::vector<std::string>& all, const std::string& one) { return std::find(all.begin(), all.end(), one) != all.end(); }

bool has_any(const StringList& tags, const std::vector<std::string>& wanted) {
  return std::any_of(tags.items.begin(), tags.items.end(), [&](const std::string& tag) { return contains(wanted, tag); });
}

}  // namespace

std::vector<std::vector<std::size_t>> order_of(const Recipe& recipe) {
  std::vector<std::vector<std::size_t>> order;
  std::map<std::string, std::size_t> index_of;
  std::optional<std::size_t> last_barrier;
  for (const StepEntry& entry : recipe.steps) {
    const std::size_t index = order.size();
    std::vector<std::size_t>& after = order.emplace_back();
    if (entry.needs) {
      for (const std::string& need : *entry.needs) {
        if (const auto found = index_of.find(need); found != index_of.end()) after.push_back(found->second);
      }
    } else if (index > 0) {
      after.push_back(index - 1);
    }
    const bool is_barrier = step_type(entry.kind).order == StepType::Order::barrier;
    if (is_barrier) {
      for (std::size_t earlier = 0; earlier < index; ++earlier) after.push_back(earlier);
    } else if (last_barrier) {
      after.push_back(*last_barrier);
    }
    std::sort(after.begin(), after.end());
    after.erase(std::unique(after.begin(), after.end()), after.end());
    if (is_barrier) last_barrier = index;
    index_of[entry.id] = index;
  }
  return order;
}

std::vector<StepTitle> titles_of(const Recipe& recipe) {
  const std::vector<std::vector<std::size_t>> order = order_of(recipe);
  std::vector<std::vector<bool>> reached;  // by each step: all that it waits for, at whatever distance
  std::vector<StepTitle> titles;
  for (std::size_t i = 0; i < order.size(); ++i) {
    const StepEntry& entry = recipe.steps[i];
    StepTitle& title = titles.emplace_back(StepTitle{entry.id, std::string(step_kind_name(entry.kind)), entry.name});
    if (step_type(entry.kind).uses == StepType::Uses::dpkg) title.uses = "dpkg";
    std::vector<bool>& mine = reached.emplace_back(order.size());
    std::vector<std::string> needs;
    // From the last on: what a later one waits for itself is told by it.
    for (auto before = order[i].rbegin(); before != order[i].rend(); ++before) {
      if (mine[*before]) continue;
      needs.insert(needs.begin(), recipe.steps[*before].id);
      mine[*before] = true;
      for (std::size_t k = 0; k < *before; ++k) mine[k] = mine[k] || reached[*before][k];
    }
    const bool is_usual = i == 0 ? needs.empty() : needs == std::vector<std::string>{recipe.steps[i - 1].id};
    if (!is_usual) title.needs = std::move(needs);
  }
  return titles;
}

namespace {

/// What makes the environment of a step that installs into one, as far as an earlier step says it.
void tell_python(PlannedStep& step, const std::vector<PlannedStep>& earlier) {
  const auto* pip = std::get_if<PipSpec>(&step.spec);
  if (pip == nullptr) return;
  for (const PlannedStep& before : earlier) {
    const auto* venv = std::get_if<VenvSpec>(&before.spec);
    if (venv != nullptr && pip->env.empty() && venv->path.text == pip->venv.text) step.python_to_come = venv->python;
    const auto* conda = std::get_if<CondaEnvSpec>(&before.spec);
    if (conda != nullptr && conda->name == pip->env && conda->conda.text == pip->conda.text) step.python_to_come = conda->python;
  }
}

}  // namespace

Result<std::vector<PlannedStep>> make_plan(const Recipe& recipe, const Facts& facts, const Identity& login, const Identity& self,
                                           const StepChoice& choice, std::string* first_wrong) {
  std::vector<PlannedStep> plan;
  const std::vector<std::vector<std::size_t>> order = order_of(recipe);
  std::vector<std::string> mistakes;
  std::string hint;
  for (const StepEntry& entry : recipe.steps) {
    PlannedStep step;
    step.entry = entry;
    step.after = order[plan.size()];
    step.type = &step_type(entry.kind);
    const auto mistake = [&](const std::string& why) {
      if (mistakes.empty() && first_wrong != nullptr) *first_wrong = entry.id;
      mistakes.push_back(fmt::format("step `{}`: {}", entry.id, why));
    };

    if (!entry.stall && step.type->stall.count() > 0) step.entry.stall = Duration{step.type->stall};
    if (entry.when) step.skip_reason = unmet_reason(*entry.when, facts);
    if (step.skip_reason.empty() && contains(choice.left_out, entry.id)) step.skip_reason = "left out of this run, as asked";
    step.forced = contains(choice.forced, entry.id);
    if (step.skip_reason.empty() && !choice.tags.empty() && !entry.tags.items.empty() && !has_any(entry.tags, choice.tags)) {
      step.skip_reason = "its tags are not among those chosen";
    }
    Json value = *entry.spec;
    std::vector<FieldProblem> problems;
    fill_step_placeholders(
        entry.kind, value, "", [&](const std::string& name) { return look_up(name, facts); }, problems);
    for (auto& [name, text] : step.entry.env.items) {
      Json filled = text;
      fill_placeholders(
          filled, "", [&](const std::string& fact_name) { return look_up(fact_name, facts); }, problems);
      text = filled.is_string() ? filled.get<std::string>() : filled.dump();
    }
    const SecretNeeds secrets = secrets_of(entry);
    const bool is_open = !secrets.in_spec.empty();
    step.secrets = secrets.all;
    step.looks_with_secrets = is_open || (entry.kind == StepKind::command && value.is_object() && value.contains("unless"));
    if (problems.empty()) {
      step.spec = read_step_spec(entry.kind, value, "", is_open ? Placeholders::allowed : Placeholders::refused, problems);
    }
    add_tables(step.spec, recipe);
    if (is_open) step.with_secrets = std::make_shared<const Json>(std::move(value));
    if (step.skip_reason.empty()) {
      for (const FieldProblem& problem : problems) mistake(problem.message);
      Result<Identity> identity = identity_for(entry, login, self);
      if (identity) {
        step.identity = std::move(*identity);
      } else {
        mistake(identity.error().why());
        if (hint.empty()) hint = identity.error().hint();
      }
    }

    tell_python(step, plan);
    plan.push_back(std::move(step));
  }
  if (!mistakes.empty()) return fail(ErrorCode::recipe, join(mistakes, "\n"), hint);
  return plan;
}

}  // namespace gpustrap

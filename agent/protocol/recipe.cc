#include "agent/protocol/recipe.h"

#include <algorithm>
#include <map>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/foreign_words.h"
#include "agent/protocol/json.h"
#include "agent/protocol/money.h"

namespace gpustrap {
namespace {

constexpr std::string_view kIdExpected = "letters, digits, `.`, `_` and `-`, at most 64, beginning with a letter or digit";
/// A recipe longer than this would not fit into one line of the protocol either.
constexpr std::size_t kMaxSteps = 1000;

/// The fields that every step may have beside its kind key.
struct CommonFields {
  std::string id, name, as;
  StringList needs, tags;
  TextMap env;
  std::int64_t retries = 0;
  std::optional<Duration> timeout, stall;
  template <class V> void fields(V& v) {
    v("id", id, Presence::optional, "name for `needs`, unique in the recipe; the kind's name where that is unique");
    v("name", name, Presence::optional, "what people read instead of the id");
    v("needs", needs, Presence::optional, "ids of earlier steps to wait for; the step before it where not given");
    v("as", as, Presence::optional, "who runs it: login, root or a user name; depends on the kind where not given");
    v("env", env, Presence::optional, "environment variables of the step");
    v("retries", retries, Presence::optional, "how often to try again after a failure");
    v("timeout", timeout, Presence::optional, "how long it may take at most");
    v("stall", stall, Presence::optional, "how long it may be silent at most");
    v("tags", tags, Presence::optional, "labels for `--tags`");
  }
};

std::vector<FieldDoc> docs_of_common_fields() {
  CommonFields fields;
  SpecDocs docs;
  fields.fields(docs);
  std::vector<FieldDoc> all = docs.take();
  const auto after_needs = std::find_if(all.begin(), all.end(), [](const FieldDoc& doc) { return doc.name == "as"; });
  all.insert(after_needs, {"when", "mapping", "a mapping of conditions on facts", Presence::optional, "",
                           "the step is skipped where one of these does not hold"});
  return all;
}

const std::vector<std::string>& common_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const FieldDoc& doc : docs_of_common_fields()) all.push_back(doc.name);
    return all;
  }();
  return names;
}

bool is_common(const std::string& name) { return std::find(common_names().begin(), common_names().end(), name) != common_names().end(); }

bool is_user_name(std::string_view name) {
  return name.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-") == std::string_view::npos &&
         name.find_first_of("0123456789.-") != 0;
}

class RecipeReader {
 public:
  RecipeReader(Placeholders placeholders, std::vector<FieldProblem>& problems) : placeholders_(placeholders), problems_(problems) {}

  Recipe read(const Json& document) {
    Recipe recipe;
    if (!document.is_object()) {
      at_value("", fmt::format("a recipe is {}: expected a mapping with name and steps", quote_value(document)));
      return recipe;
    }
    const std::vector<std::string> names = {"name", "description", "secrets", "steps"};
    for (const auto& [name, value] : document.items()) {
      if (name != "compat" && name != "prices" && std::find(names.begin(), names.end(), name) == names.end())
        at_key("/" + name, unknown(name, "a recipe", names));
    }
    read_text(document, "name", recipe.name);
    read_text(document, "description", recipe.description);
    if (!recipe.name.empty() && !is_plain_id(recipe.name)) {
      at_value("/name", fmt::format("`name` is {}: expected {}", quote_value(recipe.name), kIdExpected));
    }
    if (const auto secrets = document.find("secrets"); secrets != document.end()) recipe.secrets = read_secret_sources(*secrets, problems_);
    const auto steps = document.find("steps");
    if (steps == document.end()) {
      at_key("", "a recipe needs a field `steps`");
    } else if (!steps->is_array() || steps->empty()) {
      at_value("/steps", fmt::format("`steps` is {}: expected a list of steps", steps->is_null() ? "empty" : quote_value(*steps)));
    } else if (steps->size() > kMaxSteps) {
      at_value("/steps", fmt::format("`steps` has {} steps: expected at most {}", steps->size(), kMaxSteps));
    } else {
      for (std::size_t i = 0; i < steps->size(); ++i) read_step((*steps)[i], "/steps/" + std::to_string(i), recipe);
      give_ids(recipe);
      check_needs(recipe);
    }
    if (const auto compat = document.find("compat"); compat != document.end()) {
      std::vector<FieldProblem> found;
      recipe.compat = std::make_shared<const Compat>(read_compat(*compat, found));
      for (FieldProblem& problem : found) problems_.push_back({problem.at, "/compat" + problem.pointer, std::move(problem.message)});
    }
    if (const auto prices = document.find("prices"); prices != document.end()) {
      if (std::optional<PriceList> read = read_price_list(*prices))
        recipe.prices = std::make_shared<const PriceList>(*std::move(read));
      else
        at_value("/prices", "`prices` is no list of prices");
    }
    return recipe;
  }

 private:
  void at_key(std::string pointer, std::string message) {
    problems_.push_back({FieldProblem::At::key, std::move(pointer), std::move(message)});
  }
  void at_value(std::string pointer, std::string message) {
    problems_.push_back({FieldProblem::At::value, std::move(pointer), std::move(message)});
  }

  static std::string unknown(const std::string& name, std::string_view owner, const std::vector<std::string>& names) {
    const std::string meant = field_meant_by(name, names);
    const std::string nearest = meant.empty() ? nearest_name(name, names) : meant;
    return fmt::format("{} is not a field of {}; {}", quote_value(name), owner,
                       nearest.empty() ? "its fields are " + join(names, ", ") : fmt::format("did you mean `{}`?", nearest));
  }

  void read_text(const Json& document, const std::string& name, std::string& out) {
    const auto found = document.find(name);
    if (found == document.end()) {
      if (name == "name") at_key("", "a recipe needs a field `name`");
      return;
    }
    FieldType<std::string>::read(*found, FieldPlace("`" + name + "` of a recipe", "/" + name, placeholders_, problems_), out);
  }

  /// The one key that names a kind; nullopt after it has said what is wrong.
  std::optional<StepKind> kind_of(const Json& step, const std::string& pointer) {
    std::vector<std::string> kinds, unknown_keys;
    for (const auto& [name, value] : step.items()) {
      if (step_kind_from_name(name))
        kinds.push_back(name);
      else if (!is_common(name))
        unknown_keys.push_back(name);
    }
    for (const std::string& name : unknown_keys) {
      const bool may_be_kind = kinds.empty() && unknown_keys.size() == 1;
      std::string kind(kinds.empty() ? kind_meant_by(name) : "");
      std::string common = field_meant_by(name, common_names());
      if (kind.empty() && common.empty()) {
        if (kinds.empty()) kind = nearest_name(name, step_kind_names());
        common = nearest_name(name, common_names());
      }
      const std::string advice = !kind.empty()     ? fmt::format("did you mean `{}`?", kind)
                                 : !common.empty() ? fmt::format("did you mean `{}`?", common)
                                 : may_be_kind     ? "the kinds are " + join(step_kind_names(), ", ")
                                                   : "beside its kind a step has " + join(common_names(), ", ");
      at_key(join_pointer(pointer, name),
             fmt::format("{} is not {}; {}", quote_value(name), may_be_kind ? "a kind of step" : "a field of a step", advice));
    }
    if (kinds.size() == 1) return step_kind_from_name(kinds[0]);
    if (kinds.size() > 1) {
      at_key(join_pointer(pointer, kinds[1]),
             fmt::format("a step with {} kinds, {}: expected one; begin another step with `- `", kinds.size(), join(kinds, " and ")));
    } else if (unknown_keys.empty()) {
      at_value(pointer, "a step without a kind: expected one of " + join(step_kind_names(), ", "));
    }
    return std::nullopt;
  }

  void read_step(const Json& step, const std::string& pointer, Recipe& recipe) {
    StepEntry& entry = recipe.steps.emplace_back();
    has_kind_.push_back(false);
    if (!step.is_object()) {
      std::string message = fmt::format("a step is {}: expected a mapping with one kind", step.is_null() ? "empty" : quote_value(step));
      if (step.is_string() && step_kind_from_name(step.get<std::string>()))
        message += fmt::format("; did you mean `{}:`?", step.get<std::string>());
      return at_value(pointer, std::move(message));
    }
    if (const auto kind = kind_of(step, pointer)) {
      has_kind_.back() = true;
      entry.kind = *kind;
      const std::string name(step_kind_name(*kind));
      entry.spec = std::make_shared<const Json>(step.at(name));
      (void)read_step_spec(*kind, *entry.spec, join_pointer(pointer, name), placeholders_, problems_);
    }
    read_common(step, pointer, entry);
    settle_secrets(entry, pointer, recipe.secrets, problems_);
    if (entry.kind == StepKind::jupyter && entry.spec && entry.spec->is_object() && entry.spec->value("public", Json()) == true)
      check_password(entry, join_pointer(pointer, "jupyter"));
    if (const auto when = step.find("when"); when != step.end()) {
      Condition condition;
      SpecReader reader("when", "", *when, join_pointer(pointer, "when"), Placeholders::refused, problems_);
      condition.fields(reader);
      reader.finish();
      if (!condition.os_version.empty() && !version_matches("1", condition.os_version)) {
        reader.say_at("os_version", fmt::format("is {}: expected a comparison such as \">=22.04\"", quote_value(condition.os_version)));
      }
      check_arch(condition.arch, reader);
      entry.when = std::move(condition);
    }
  }

  void read_common(const Json& step, const std::string& pointer, StepEntry& entry) {
    Json common = Json::object();
    for (const auto& [name, value] : step.items()) {
      if (is_common(name) && name != "when") common[name] = value;
    }
    CommonFields fields;
    // The order and limits of a run are fixed before a host is asked; only env takes what the host knows, as the texts they are.
    SpecReader reader("a step", "", common, pointer, Placeholders::refused, problems_);
    fields.fields(reader);
    if (!fields.id.empty() && !is_plain_id(fields.id))
      reader.say_at("id", fmt::format("is {}: expected {}", quote_value(fields.id), kIdExpected));
    if (common.contains("id") && common["id"] == "") reader.say_at("id", fmt::format("is empty: expected {}", kIdExpected));
    if (!fields.as.empty() && !is_user_name(fields.as)) {
      reader.say_at("as", fmt::format("is {}: expected login, root or a user name", quote_value(fields.as)));
    }
    if (fields.retries > 100) reader.say_at("retries", fmt::format("is `{}`: expected at most 100", fields.retries));
    for (const auto& [name, time] : {std::pair("timeout", fields.timeout), std::pair("stall", fields.stall)}) {
      if (time && time->time.count() == 0 && common[name].is_string() && common[name].get<std::string>().starts_with("0"))
        reader.say_at(name, "is no time at all: expected 1s or more");
    }
    entry.id = fields.id;
    entry.name = fields.name;
    if (common.contains("needs")) entry.needs = fields.needs.items;
    entry.as = fields.as;
    entry.env = std::move(fields.env);
    entry.retries = fields.retries;
    entry.timeout = fields.timeout;
    entry.stall = fields.stall;
    entry.tags = std::move(fields.tags);
  }

  /// What is open to the network is behind a password, and that stands in no recipe.
  void check_password(const StepEntry& step, const std::string& pointer) {
    for (const auto& [name, text] : step.env.items) {
      // One placeholder and nothing else: a part of a password would stand in the recipe.
      const bool is_one = name == "JUPYTER_PASSWORD" && text.starts_with("${{") && text.find("}}") == text.size() - 2;
      if (is_one && trim(std::string_view(text).substr(3)).starts_with("secrets.")) return;
    }
    at_value(join_pointer(pointer, "public"),
             "needs a password that is a secret: expected `env: { JUPYTER_PASSWORD: \"${{ secrets.NAME }}\" }` beside `jupyter`");
  }

  void give_ids(Recipe& recipe) {
    std::map<StepKind, std::vector<std::size_t>> without_id;
    std::map<std::string, std::size_t> first_with;
    for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
      const StepEntry& step = recipe.steps[i];
      if (step.id.empty()) {
        if (has_kind_[i]) without_id[step.kind].push_back(i);
        continue;
      }
      const auto [first, is_new] = first_with.emplace(step.id, i);
      if (!is_new)
        at_value("/steps/" + std::to_string(i) + "/id",
                 fmt::format("id {} is taken by step {}: expected another", quote_value(step.id), first->second + 1));
    }
    for (const auto& [kind, indexes] : without_id) {
      const std::string name(step_kind_name(kind));
      const bool unique = indexes.size() == 1 && !first_with.contains(name);
      for (const std::size_t i : indexes) {
        if (unique)
          recipe.steps[i].id = name;
        else
          at_key("/steps/" + std::to_string(i) + "/" + name,
                 fmt::format("`id` is required: another step {} `{}` too",
                             first_with.contains(name) ? "is called" : "without id is of kind", name));
      }
    }
  }

  void check_needs(const Recipe& recipe) {
    std::vector<std::string> earlier;
    std::set<std::string> all;
    for (const StepEntry& step : recipe.steps) all.insert(step.id);
    for (std::size_t i = 0; i < recipe.steps.size(); ++i) {
      const StepEntry& step = recipe.steps[i];
      const std::vector<std::string> needs = step.needs.value_or(std::vector<std::string>());
      for (std::size_t j = 0; j < needs.size(); ++j) {
        const std::string& need = needs[j];
        if (std::find(earlier.begin(), earlier.end(), need) != earlier.end()) continue;
        std::string message = fmt::format("`needs` names {}", quote_value(need));
        if (need == step.id) {
          message += ", which is the step itself: expected an earlier step";
        } else if (all.contains(need)) {
          message += ", which comes later: expected an earlier step";
        } else {
          const std::string nearest = nearest_name(need, earlier);
          message += ", but no step has that id";
          if (!nearest.empty())
            message += fmt::format("; did you mean `{}`?", nearest);
          else if (!earlier.empty())
            message += "; earlier steps are " + join(earlier, ", ");
          else
            message += "; no step comes before this one";
        }
        at_value("/steps/" + std::to_string(i) + "/needs/" + std::to_string(j), std::move(message));
      }
      if (!step.id.empty()) earlier.push_back(step.id);
    }
  }

  Placeholders placeholders_;
  std::vector<FieldProblem>& problems_;
  std::vector<bool> has_kind_;
};

bool is_under_home(const Json& spec, const char* field) {
  const Json* path = &spec;
  if (spec.is_object()) {
    const auto found = spec.find(field);
    if (found == spec.end()) return false;
    path = &*found;
  }
  return path->is_string() && path->get_ref<const std::string&>().starts_with("~");
}

bool is_true(const Json& spec, const char* field) {
  const auto found = spec.is_object() ? spec.find(field) : spec.end();
  return found != spec.end() && *found == true;
}

}  // namespace

std::string unmet_reason(const Condition& condition, const Facts& facts) {
  const auto differs = [](const std::optional<bool>& wanted, bool is) { return wanted && *wanted != is; };
  const auto misses = [](const StringList& wanted, const std::string& is) {
    return !wanted.items.empty() && std::find(wanted.items.begin(), wanted.items.end(), is) == wanted.items.end();
  };
  if (differs(condition.gpu, !facts.gpus.empty())) {
    return *condition.gpu ? "gpu: true, but no NVIDIA GPU is on the PCI bus" : "gpu: false, but an NVIDIA GPU is on the PCI bus";
  }
  if (differs(condition.systemd, facts.systemd)) {
    return *condition.systemd ? "systemd: true, but systemd is not PID 1" : "systemd: false, but systemd is PID 1";
  }
  if (differs(condition.container, facts.container)) {
    return *condition.container ? "container: true, but this host is no container" : "container: false, but this host is a container";
  }
  if (misses(condition.os, facts.os)) return fmt::format("os: {}, but this is {}", join(condition.os.items, " or "), facts.os);
  if (misses(condition.arch, facts.arch)) return fmt::format("arch: {}, but this is {}", join(condition.arch.items, " or "), facts.arch);
  if (!condition.os_version.empty() && !version_matches(facts.os_version, condition.os_version).value_or(false)) {
    return fmt::format("os_version: {}, but this is {} {}", condition.os_version, facts.os, facts.os_version);
  }
  return {};
}

Recipe read_recipe(const Json& document, Placeholders placeholders, std::vector<FieldProblem>& problems) {
  return RecipeReader(placeholders, problems).read(document);
}

Json write_recipe(const Recipe& recipe) {
  Json document = {{"name", recipe.name}, {"description", recipe.description}, {"steps", Json::array()}};
  for (const SecretSource& secret : recipe.secrets) document["secrets"].push_back(secret.name);
  for (const StepEntry& entry : recipe.steps) {
    Json step = {{"id", entry.id}};
    step[std::string(step_kind_name(entry.kind))] = entry.spec ? *entry.spec : Json();
    if (!entry.name.empty()) step["name"] = entry.name;
    if (entry.needs) step["needs"] = *entry.needs;
    if (entry.when) {
      SpecWriter writer;
      Condition defaults, when = *entry.when;
      defaults.fields(writer);
      writer.start_values();
      when.fields(writer);
      step["when"] = writer.take();
    }
    if (!entry.as.empty()) step["as"] = entry.as;
    if (!entry.env.items.empty()) step["env"] = FieldType<TextMap>::write(entry.env);
    if (entry.retries != 0) step["retries"] = entry.retries;
    if (entry.timeout) step["timeout"] = FieldType<Duration>::write(*entry.timeout);
    if (entry.stall) step["stall"] = FieldType<Duration>::write(*entry.stall);
    if (!entry.tags.items.empty()) step["tags"] = entry.tags.items;
    document["steps"].push_back(std::move(step));
  }
  if (recipe.compat) document["compat"] = write_compat(*recipe.compat);
  if (recipe.prices) document["prices"] = write_price_list(*recipe.prices);
  return document;
}

std::string digest_of(const Recipe& recipe) {
  return sha256_hex(write_recipe(recipe).dump(-1, ' ', false, Json::error_handler_t::replace));
}

std::string default_identity(const StepEntry& step) {
  const Json nothing = Json::object();
  const Json& spec = step.spec ? *step.spec : nothing;
  const char* path = nullptr;
  switch (step.kind) {
    case StepKind::command:
    case StepKind::venv:
    case StepKind::pip:
    case StepKind::git:
    case StepKind::conda:
    case StepKind::conda_env:
    // These only look, at what every user may see.
    case StepKind::require:
    case StepKind::nvidia_smi: return "login";
    case StepKind::wait: return is_true(spec, "apt") ? "root" : "login";  // apt's lock files are for root's eyes
    case StepKind::environment: return spec.is_object() && spec.value("scope", "login") == "system" ? "root" : "login";
    case StepKind::file:
    case StepKind::block:
    case StepKind::directory:
    case StepKind::symlink: path = "path"; break;
    case StepKind::download:
    case StepKind::archive: path = "to"; break;
    // Both write a unit; jupyter's server itself runs as the login user.
    case StepKind::service:
    case StepKind::jupyter:
    case StepKind::apt:
    case StepKind::deb:
    case StepKind::apt_repository:
    case StepKind::reboot:
    case StepKind::nvidia_driver:
    case StepKind::cuda:
    case StepKind::idle_stop: return "root";
  }
  return is_under_home(spec, path) ? "login" : "root";
}

std::string identity_of(const StepEntry& step) { return step.as.empty() ? default_identity(step) : step.as; }

bool needs_root(const Recipe& recipe) {
  return std::any_of(recipe.steps.begin(), recipe.steps.end(), [](const StepEntry& step) { return identity_of(step) != "login"; });
}

bool shares_files(const Recipe& recipe) {
  return std::any_of(recipe.steps.begin(), recipe.steps.end(), [](const StepEntry& step) {
    const auto fetch = step.spec->find("fetch");
    return fetch != step.spec->end() && *fetch == "shared";
  });
}

bool needs_compat(const Recipe& recipe) {
  return std::any_of(recipe.steps.begin(), recipe.steps.end(),
                     [](const StepEntry& step) { return step.kind == StepKind::nvidia_driver || step.kind == StepKind::cuda; });
}

bool needs_prices(const Recipe& recipe) {
  return std::any_of(recipe.steps.begin(), recipe.steps.end(), [](const StepEntry& step) {
    return step.kind == StepKind::idle_stop && step.spec && step.spec->is_object() && step.spec->contains("budget") &&
           !step.spec->contains("price");
  });
}

std::vector<FieldDoc> describe_common_fields() { return docs_of_common_fields(); }

std::vector<FieldDoc> describe_condition() {
  Condition condition;
  SpecDocs docs;
  condition.fields(docs);
  return docs.take();
}

}  // namespace gpustrap

#include "controller/recipe_loader.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/foreign_words.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/placeholders.h"
#include "controller/recipe_hosts.h"
#include "controller/recipe_vars.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMaxIncludeDepth = 8;
/// Steps and includes of all files that are read for a recipe, each as often as it is included: those of includes multiply. A recipe may
/// have 1000 steps.
constexpr std::size_t kMostIncluded = 2000;
/// Room for what a request says beside its recipe.
constexpr std::size_t kLongestRecipe = kMaxLine - 4096;

constexpr std::string_view kOfAHostsFile = " of a hosts file: expected one on the command line, -f hosts.yaml";

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

/// The value of a placeholder in a recipe, as far as the controller knows it.
Result<std::optional<Json>> look_up(const std::string& name, const Vars& vars, const LoadOptions& options) {
  const std::size_t dot = name.find('.');
  const std::string space = name.substr(0, dot);
  const std::string rest = dot == std::string::npos ? "" : name.substr(dot + 1);
  if (space == "vars") {
    if (const Json* value = find_var(vars, rest)) {
      if (value->is_null() && options.open_vars) return std::nullopt;
      if (value->is_null())
        return fail(ErrorCode::recipe, fmt::format("`vars.{}` has no value: expected a default, or --var {}=…", rest, rest));
      return *value;
    }
    if (vars.empty()) return fail(ErrorCode::recipe, fmt::format("`{}` is not defined: the recipe has no `vars`", name));
    return fail(ErrorCode::recipe, fmt::format("`{}` is not defined{}", name, did_you_mean(rest, names_of(vars), "the vars are")));
  }
  if (space == "facts") {
    const auto& known = fact_names();
    if (std::find(known.begin(), known.end(), rest) != known.end()) return std::nullopt;
    const std::string_view meant = fact_meant_by(rest);
    const std::string advice = !meant.empty()                     ? fmt::format("; did you mean `facts.{}`?", meant)
                               : rest == "home" || rest == "user" ? "; a path may begin with ~/, and a command knows $HOME and $USER"
                                                                  : did_you_mean(rest, known, "the facts are");
    return fail(ErrorCode::recipe, fmt::format("`{}` is not a fact{}", name, advice));
  }
  if (space == "secrets") return std::nullopt;  // whether it is declared is read_recipe's to say
  if (space == "hosts" && options.hosts == nullptr && options.names_for_hosts) return Json(fmt::format("<{}>", name));
  if (space == "hosts" && options.hosts == nullptr) return fail(ErrorCode::recipe, fmt::format("`{}` is{}", name, kOfAHostsFile));
  if (space == "hosts") {
    Result<Json> value = host_value(rest, *options.hosts, options.host);
    if (!value) return fail(std::move(value).error());
    return *std::move(value);
  }
  const std::string near = nearest_name(space, {"vars", "facts", "secrets", "hosts"});
  return fail(ErrorCode::recipe,
              fmt::format("`{}` begins with `{}`: expected vars, facts, secrets or hosts{}", name, space,
                          space == "env" && !rest.empty() ? fmt::format("; a command knows the variable itself: ${}", rest)
                          : near.empty()                  ? ""
                                                          : fmt::format("; did you mean `{}`?", near)));
}

/// A recipe with its includes taken in: steps with places, none of its own vars left.
struct Flat {
  Json document = Json::object();
  PlaceMap places;
};

class Loader {
 public:
  explicit Loader(const LoadOptions& options) : options_(options) {}

  Result<LoadedRecipe> load(const std::string& name) {
    auto source = find_recipe(name, options_.sources);
    if (!source) return fail(std::move(source).error());
    LoadedRecipe loaded;
    loaded.source = source->label;
    if (auto flat = flatten(*source, std::nullopt)) {
      std::vector<bool> elsewhere;
      loaded.recipe = read_flat(*flat, elsewhere);
      if (problems_.empty() && std::find(elsewhere.begin(), elsewhere.end(), true) != elsewhere.end()) {
        leave_out(loaded.recipe, elsewhere);
        if (loaded.recipe.steps.empty()) {
          problems_.push_back({flat->places.at("/steps").key, fmt::format("no step is left for the host {}: expected at least one for each",
                                                                          options_.hosts->hosts[options_.host].name)});
        }
      }
      if (problems_.empty() && write_recipe(loaded.recipe).dump().size() > kLongestRecipe) {
        problems_.push_back(
            {{source->label, 1, 1}, "the resolved recipe is longer than 1 MiB: expected large contents in files that a step fetches"});
      }
    }
    loaded.of_one_host = of_one_host_;
    loaded.next = std::move(next_);
    for (const auto& [var, value] : root_vars_) loaded.vars.emplace_back(var, text_of(value));
    if (!problems_.empty()) return fail(complain());
    return loaded;
  }

  Result<ReviewedRecipe> review(const std::string& name) {
    auto source = find_recipe(name, options_.sources);
    if (!source) return fail(std::move(source).error());
    ReviewedRecipe reviewed;
    reviewed.source = source->label;
    if (auto flat = flatten(*source, std::nullopt)) {
      std::vector<bool> elsewhere;
      static_cast<void>(read_flat(*flat, elsewhere));
      reviewed.document = std::make_shared<Json>(std::move(flat->document));
      reviewed.places = std::move(flat->places);
    }
    std::stable_sort(problems_.begin(), problems_.end(), [](const auto& a, const auto& b) { return a.place < b.place; });
    reviewed.problems = std::move(problems_);
    reviewed.texts = std::move(texts_);
    return reviewed;
  }

 private:
  Recipe read_flat(Flat& flat, std::vector<bool>& elsewhere) {
    std::vector<FieldProblem> problems;
    elsewhere = steps_elsewhere(flat.document, problems);
    Recipe recipe = read_recipe(flat.document, Placeholders::allowed, problems);
    for (const FieldProblem& problem : problems) {
      // What could not be filled in is reported already, and is wrong as a value too. So are steps of which all were to be included.
      if (include_failed_ && problem.pointer == "/steps") continue;
      SourceProblem located = flat.places.locate(problem);
      located.message += remark_on(problem, flat.document);
      if (!filled_badly_.contains(located.place)) problems_.push_back(std::move(located));
    }
    return recipe;
  }

  /// The kind that a field beside it was meant for: `command:` and, below it, `run: …` that is indented no deeper.
  static std::string kind_above(const FieldProblem& problem, const Json& document) {
    const std::size_t slash = problem.pointer.rfind('/');
    if (problem.at != FieldProblem::At::key || slash == std::string::npos ||
        std::count(problem.pointer.begin(), problem.pointer.end(), '/') != 3)
      return {};
    const Json::json_pointer above(problem.pointer.substr(0, slash));
    if (!problem.pointer.starts_with("/steps/") || !document.contains(above) || !document[above].is_object()) return {};
    for (const auto& [name, value] : document[above].items()) {
      const auto kind = step_kind_from_name(name);
      if (!kind || !value.is_null()) continue;
      const StepKindDoc doc = describe_step_kind(*kind);
      const bool has = std::any_of(doc.fields.begin(), doc.fields.end(),
                                   [&](const FieldDoc& field) { return field.name == problem.pointer.substr(slash + 1); });
      if (has) return name;
    }
    return {};
  }

  /// What is easily overlooked: a space that is missing, quotes that make a text of a number.
  static std::string remark_on(const FieldProblem& problem, const Json& document) {
    const Json::json_pointer pointer(problem.pointer);
    if (!document.contains(pointer)) return {};
    const Json& value = document[pointer];
    if (problem.pointer == "/steps" && value.is_object()) {
      for (const auto& [name, ignored] : value.items()) {
        if (name.starts_with('-')) return fmt::format("; a space is missing behind the `-` of {}", quote_value(name));
      }
      return "; each begins with `- `";
    }
    if (std::string kind = kind_above(problem, document); !kind.empty())
      return fmt::format("; indent it, so that it belongs to `{}:`", kind);
    if (!value.is_string()) return {};
    const auto text = value.get<std::string>();
    if (problem.message.starts_with("a step is ")) {
      const std::string kind = text.substr(0, text.find(':'));
      if (kind.size() == text.size() || !step_kind_from_name(kind)) return {};
      if (text.compare(kind.size() + 1, 2, "\xC2\xA0") == 0) return {};  // which is said already
      return fmt::format("; a space is missing behind `{}:`", kind);
    }
    const bool wants_number = problem.message.find("expected a port number") != std::string::npos ||
                              problem.message.find("expected a whole number") != std::string::npos;
    const bool is_number = !text.empty() && text.find_first_not_of("0123456789") == std::string::npos;
    return wants_number && is_number ? "; it is a text here: leave the quotes out" : "";
  }

  /// All problems. That there is no hosts file is one, however many places need it.
  Error complain() {
    const auto needs_hosts = [](const SourceProblem& problem) { return problem.message.ends_with(kOfAHostsFile); };
    std::stable_sort(problems_.begin(), problems_.end(), [](const auto& a, const auto& b) { return a.place < b.place; });
    const auto first = std::find_if(problems_.begin(), problems_.end(), needs_hosts);
    if (first == problems_.end()) return error_of(std::move(problems_), "nothing was changed");
    problems_.erase(std::remove_if(first + 1, problems_.end(), needs_hosts), problems_.end());
    const bool is_alone = problems_.size() == 1;
    Error error = error_of(std::move(problems_), "nothing was changed");
    return is_alone ? Error(error.code(), error.why(), "this recipe is for the hosts of a file; docs/hosts.md says how to write one")
                    : error;
  }

  /// Whether what only the host knows may stay in a value.
  enum class HostFacts { allowed, refused };

  /// Which steps are for other groups of the hosts file: `when: { group: workers }`. Takes `group` out of each `when`.
  std::vector<bool> steps_elsewhere(Json& document, std::vector<FieldProblem>& problems) {
    if (!document.contains("steps") || !document["steps"].is_array()) return {};
    Json& steps = document["steps"];
    std::vector<bool> elsewhere(steps.size());
    for (std::size_t i = 0; i < elsewhere.size(); ++i) {
      const auto when = steps[i].is_object() ? steps[i].find("when") : steps[i].end();
      if (!steps[i].is_object() || when == steps[i].end() || !when->is_object() || !when->contains("group")) continue;
      const std::string pointer = fmt::format("/steps/{}/when/group", i);
      StringList groups;
      FieldType<StringList>::read((*when)["group"], FieldPlace("`group` of when", pointer, Placeholders::refused, problems), groups);
      when->erase("group");
      if (when->empty()) steps[i].erase("when");
      if (options_.hosts == nullptr) {
        if (!options_.names_for_hosts)
          problems.push_back({FieldProblem::At::key, pointer, fmt::format("`group` of when is{}", kOfAHostsFile)});
        continue;
      }
      of_one_host_ = true;
      const Result<bool> among = is_among(groups.items, *options_.hosts, options_.host);
      if (!among)
        problems.push_back({FieldProblem::At::value, pointer, "`group` of when: " + among.error().why()});
      else
        elsewhere[i] = !*among;
    }
    return elsewhere;
  }

  static std::string no_mapping(const Json& document) {
    const auto has_any = [](const Json& item, std::initializer_list<const char*> names) {
      return item.is_object() && std::any_of(names.begin(), names.end(), [&](const char* name) { return item.contains(name); });
    };
    if (!document.is_array()) return fmt::format("a recipe is {}: expected a mapping with `name` and `steps`", quote_value(document));
    if (!document.empty() && has_any(document[0], {"hosts", "tasks", "roles"}))
      return "this looks like a playbook of Ansible: expected a recipe, with `name` and `steps`; `gpustrap recipe new` writes one to begin "
             "with";
    return "a recipe is a list: expected a mapping; write `name: …` and `steps:` above the list";
  }

  /// `given` are the vars of an include; none for the recipe that the user named, which takes those of the command line.
  std::optional<Flat> flatten(const RecipeText& source, const std::optional<Vars>& given) {
    texts_.emplace(source.label, source.text);
    if (const std::string first = first_line(source.text); first.starts_with("#!") && first.find("sh") != std::string::npos) {
      problems_.push_back(
          {{source.label, 1, 1},
           fmt::format("this is a shell script: expected a recipe; `gpustrap adopt {}` makes one of it", shell_quote(source.label))});
      return std::nullopt;
    }
    YamlDocument yaml = read_yaml(source.text, source.label, problems_);
    if (!yaml.value) return std::nullopt;
    Json& document = *yaml.value;
    if (!document.is_object()) {
      problems_.push_back({{source.label, 1, 1}, no_mapping(document)});
      return std::nullopt;
    }
    check_fields(document, {"name", "description", "vars", "secrets", "steps", "next"}, "a recipe", "", yaml.places);
    const Vars vars = read_vars(document, yaml.places, given, {options_.vars, options_.host_vars}, problems_);
    if (!given) root_vars_ = vars;
    if (!given && document.contains("next")) read_next(document["next"], vars, yaml.places);
    Flat flat;
    flat.places.graft(yaml.places, "", "");
    for (const char* field : {"name", "description"}) {
      if (!document.contains(field)) continue;
      flat.document[field] = document[field];
      fill(flat.document[field], std::string("/") + field, vars, yaml.places, HostFacts::refused);
    }
    flat.document["secrets"] = document.contains("secrets") ? secrets_of(document["secrets"], yaml.places) : Json::object();
    const auto steps = document.find("steps");
    if (steps == document.end()) return flat;
    if (!steps->is_array()) {
      flat.document["steps"] = *steps;
      return flat;
    }
    included_ += steps->size();
    flat.places = PlaceMap();
    for (const char* field : {"/name", "/description", "/secrets"}) flat.places.graft(yaml.places, field, field);
    flat.places.set("", yaml.places.at(""));
    flat.places.set("/steps", yaml.places.at("/steps"));
    flat.document["steps"] = Json::array();
    groups_.emplace_back();
    for (std::size_t i = 0; i < steps->size(); ++i) add_step((*steps)[i], "/steps/" + std::to_string(i), source, vars, yaml.places, flat);
    expand_groups(flat.document["steps"]);
    groups_.pop_back();
    return flat;
  }

  void read_next(Json text, const Vars& vars, const PlaceMap& places) {
    if (!text.is_string()) {
      return report({{FieldProblem::At::value, "/next", fmt::format("`next` of a recipe is {}: expected a text", quote_value(text))}},
                    places);
    }
    fill(text, "/next", vars, places, HostFacts::refused);
    for (const std::string& line : split(trim(text_of(text)), '\n')) next_.push_back(line);
  }

  /// The list of names is the host's form: here each says where its value comes from.
  Json secrets_of(const Json& value, const PlaceMap& places) {
    if (!value.is_array()) return value;
    report({{FieldProblem::At::value, "/secrets",
             "`secrets` is a list: expected a mapping of names to where their values come from, for instance `token: {env: TOKEN}`"}},
           places);
    return Json::object();
  }

  void report(const std::vector<FieldProblem>& problems, const PlaceMap& places) {
    for (const FieldProblem& problem : problems) problems_.push_back(places.locate(problem));
  }

  void report_unfilled(const std::vector<FieldProblem>& problems, const PlaceMap& places) {
    for (const FieldProblem& problem : problems) {
      SourceProblem located = places.locate(problem);
      filled_badly_.insert(located.place);
      located.place = placeholder_in(located);
      problems_.push_back(std::move(located));
    }
  }

  /// Where the placeholder stands that a problem names first; of a text, YAML tells the beginning alone.
  SourcePlace placeholder_in(const SourceProblem& problem) const {
    const auto source = texts_.find(problem.place.file);
    const std::size_t open = problem.message.find('`'), close = problem.message.find('`', open + 1);
    if (source == texts_.end() || close == std::string::npos) return problem.place;
    const std::string name = problem.message.substr(open + 1, close - open - 1);
    const std::vector<std::string> lines = split(source->second, '\n');
    for (auto i = static_cast<std::size_t>(problem.place.line - 1); i < lines.size(); ++i) {
      std::size_t at = i + 1 == static_cast<std::size_t>(problem.place.line) ? static_cast<std::size_t>(problem.place.column - 1) : 0;
      for (at = lines[i].find("${{", at); at != std::string::npos; at = lines[i].find("${{", at + 1)) {
        const std::string_view inside = std::string_view(lines[i]).substr(at + 3);
        if (trim(inside.substr(0, inside.find("}}"))) == name)
          return {problem.place.file, static_cast<int>(i) + 1, static_cast<int>(at) + 1};
      }
    }
    return problem.place;
  }

  void check_fields(const Json& mapping, const std::vector<std::string>& names, std::string_view owner, const std::string& pointer,
                    const PlaceMap& places) {
    for (const auto& [name, value] : mapping.items()) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      const std::string meant = field_meant_by(name, names);
      report({{FieldProblem::At::key, join_pointer(pointer, name),
               fmt::format("{} is not a field of {}{}", quote_value(name), owner,
                           meant.empty() ? did_you_mean(name, names, "its fields are") : fmt::format("; did you mean `{}`?", meant))}},
             places);
    }
  }

  void fill(Json& value, const std::string& pointer, const Vars& vars, const PlaceMap& places, HostFacts facts) {
    std::vector<FieldProblem> problems;
    fill_placeholders(value, pointer, lookup(vars, facts), problems);
    report_unfilled(problems, places);
  }

  PlaceholderLookup lookup(const Vars& vars, HostFacts facts) {
    return [this, &vars, facts](const std::string& name) -> Result<std::optional<Json>> {
      auto value = look_up(name, vars, options_);
      if (name.starts_with("hosts.") && differs_by_host(name.substr(6))) of_one_host_ = true;
      if (value && !*value && facts == HostFacts::refused && name.starts_with("secrets.")) {
        return fail(ErrorCode::recipe, fmt::format("`{}` may not stand here: expected it in `env`, in the text of a command, or in "
                                                   "`content` of file and block",
                                                   name));
      }
      if (value && !*value && facts == HostFacts::refused && !name.starts_with("vars.")) {
        return fail(ErrorCode::recipe,
                    fmt::format("`{}` is known on the host only: expected facts in the fields of a kind or in `env`", name));
      }
      return value;
    };
  }

  void add_step(const Json& step, const std::string& pointer, const RecipeText& source, const Vars& vars, const PlaceMap& places,
                Flat& flat) {
    if (step.is_object() && step.contains("include")) return add_include(step, pointer, source, vars, places, flat);
    const std::string target = "/steps/" + std::to_string(flat.document["steps"].size());
    flat.places.graft(places, pointer, target);
    Json filled = step;
    if (filled.is_object()) {
      for (auto& [name, value] : filled.items()) {
        const std::string at = join_pointer(pointer, name);
        if (const auto kind = step_kind_from_name(name)) {
          std::vector<FieldProblem> problems;
          fill_step_placeholders(*kind, value, at, lookup(vars, HostFacts::allowed), problems);
          report_unfilled(problems, places);
        } else {
          fill(value, at, vars, places, name == "env" ? HostFacts::allowed : HostFacts::refused);
        }
      }
    }
    flat.document["steps"].push_back(std::move(filled));
  }

  void add_include(const Json& step, const std::string& pointer, const RecipeText& source, const Vars& vars, const PlaceMap& places,
                   Flat& flat) {
    check_fields(step, {"include", "vars", "id", "needs"}, "an include", pointer, places);
    const auto say = [&](const std::string& field, std::string message) {
      include_failed_ = true;
      report({{FieldProblem::At::value, join_pointer(pointer, field), std::move(message)}}, places);
    };
    const Json& named = step["include"];
    if (!named.is_string()) return say("include", fmt::format("`include` is {}: expected a recipe's name or file", quote_value(named)));
    const auto name = named.get<std::string>();
    auto included = find_recipe(name, options_.sources, source.directory);
    if (!included) {
      const Error& error = included.error();
      return say("include", fmt::format("`include`: {}{}", error.sentence(), error.hint().empty() ? "" : "; " + error.hint()));
    }
    if (std::find(stack_.begin(), stack_.end(), included->label) != stack_.end() || included->label == source.label) {
      return say("include",
                 fmt::format("`include` of {} makes a circle: expected a recipe that does not include this one", quote_value(name)));
    }
    if (included_ > kMostIncluded) {
      if (std::exchange(is_too_much_, true)) return;
      return say("include", fmt::format("`include` brings the recipe to more than {} steps and includes: expected fewer", kMostIncluded));
    }
    if (stack_.size() >= kMaxIncludeDepth) return say("include", fmt::format("`include` goes deeper than {} recipes", kMaxIncludeDepth));

    std::string prefix = name.substr(name.rfind('/') == std::string::npos ? 0 : name.rfind('/') + 1);
    prefix = prefix.substr(0, prefix.find('.'));
    if (step.contains("id")) {
      if (!step["id"].is_string() || !is_plain_id(step["id"].get<std::string>())) {
        return say("id", fmt::format("`id` of an include is {}: expected letters, digits, `_` and `-`", quote_value(step["id"])));
      }
      prefix = step["id"].get<std::string>();
    }
    Vars given;
    if (const auto found = step.find("vars"); found != step.end()) {
      if (!found->is_object()) return say("vars", fmt::format("`vars` of an include is {}: expected a mapping", quote_value(*found)));
      for (const auto& [var, value] : found->items()) {
        Json filled = value;
        fill(filled, join_pointer(join_pointer(pointer, "vars"), var), vars, places, HostFacts::refused);
        given.emplace_back(var, std::move(filled));
      }
      check_given(given, *included, pointer, places);
    }
    stack_.push_back(source.label);
    auto inner = flatten(*included, given);
    stack_.pop_back();
    if (!inner || !inner->document.contains("steps") || !inner->document["steps"].is_array()) {
      include_failed_ = true;
      if (inner) problems_.push_back({{included->label, 1, 1}, "a recipe needs a list `steps`"});
      return;
    }
    take_in(*inner, prefix, step, pointer, places, flat);
  }

  /// Vars of an include must be vars of the recipe included.
  void check_given(const Vars& given, const RecipeText& included, const std::string& pointer, const PlaceMap& places) {
    std::vector<SourceProblem> said_later;
    const YamlDocument yaml = read_yaml(included.text, included.label, said_later);
    std::vector<std::string> names;
    if (yaml.value && yaml.value->is_object() && yaml.value->contains("vars") && (*yaml.value)["vars"].is_object()) {
      for (const auto& [name, value] : (*yaml.value)["vars"].items()) names.push_back(name);
    }
    for (const auto& [name, value] : given) {
      if (std::find(names.begin(), names.end(), name) != names.end()) continue;
      report({{FieldProblem::At::key, join_pointer(join_pointer(pointer, "vars"), name),
               fmt::format("{} is not a var of {}{}", quote_value(name), included.label, did_you_mean(name, names, "its vars are"))}},
             places);
    }
  }

  /// Appends the steps of an included recipe under "prefix.id".
  void take_in(Flat& inner, const std::string& prefix, const Json& include, const std::string& pointer, const PlaceMap& places,
               Flat& flat) {
    Json& steps = flat.document["steps"];
    std::vector<std::string>& group = groups_.back()[prefix];
    if (!group.empty()) {
      return report({{FieldProblem::At::key, join_pointer(pointer, "include"),
                      fmt::format("`id` is required: another include is called `{}`", prefix)}},
                    places);
    }
    // A secret is one for the whole recipe: where both declare it, the one that includes says where it comes from.
    const Json secrets = inner.document.value("secrets", Json::object());
    for (const auto& [name, source] : secrets.items()) {
      if (flat.document["secrets"].contains(name)) continue;
      flat.document["secrets"][name] = source;
      flat.places.graft(inner.places, join_pointer("/secrets", name), join_pointer("/secrets", name));
    }
    Json& inner_steps = inner.document["steps"];
    give_ids(inner_steps);
    for (std::size_t i = 0; i < inner_steps.size(); ++i) {
      Json step = std::move(inner_steps[i]);
      const std::string target = "/steps/" + std::to_string(steps.size());
      flat.places.graft(inner.places, "/steps/" + std::to_string(i), target);
      if (step.is_object()) {
        if (step.contains("id") && step["id"].is_string()) {
          step["id"] = prefix + "." + step["id"].get<std::string>();
          group.push_back(step["id"].get<std::string>());
        }
        if (step.contains("needs")) {
          Json& needs = step["needs"];
          if (needs.is_string()) needs = Json::array({needs});
          if (needs.is_array()) {
            for (Json& need : needs) {
              if (need.is_string()) need = prefix + "." + need.get<std::string>();
            }
          }
        }
        // What the include waits for, all of it waits for: its first step, and those that would start beside it.
        if (include.contains("needs") && (i == 0 || step.contains("needs"))) {
          Json needs = include["needs"].is_array() ? include["needs"] : Json::array({include["needs"]});
          if (step.contains("needs") && step["needs"].is_array()) needs.insert(needs.end(), step["needs"].begin(), step["needs"].end());
          step["needs"] = std::move(needs);
          flat.places.set(target + "/needs", places.at(join_pointer(pointer, "needs")));
        }
      }
      steps.push_back(std::move(step));
    }
  }

  /// The default ids of an included recipe, by the same rule as read_recipe's: the kind where no other step has that name.
  static void give_ids(Json& steps) {
    std::map<std::string, std::size_t> uses;
    std::set<std::string> ids;
    const auto kind_of = [](const Json& step) -> std::string {
      for (const auto& [name, value] : step.items()) {
        if (step_kind_from_name(name)) return name;
      }
      return {};
    };
    for (const Json& step : steps) {
      if (!step.is_object()) continue;
      if (step.contains("id"))
        ids.insert(text_of(step["id"]));
      else
        ++uses[kind_of(step)];
    }
    for (Json& step : steps) {
      if (!step.is_object() || step.contains("id")) continue;
      const std::string kind = kind_of(step);
      if (!kind.empty() && uses[kind] == 1 && !ids.contains(kind)) step["id"] = kind;
    }
  }

  /// `needs: [cuda]` of an include called cuda means all of its steps.
  void expand_groups(Json& steps) const {
    for (Json& step : steps) {
      if (!step.is_object() || !step.contains("needs")) continue;
      Json& needs = step["needs"];
      if (needs.is_string()) needs = Json::array({needs});
      if (!needs.is_array()) continue;
      Json expanded = Json::array();
      for (const Json& need : needs) {
        const auto group = need.is_string() ? groups_.back().find(need.get<std::string>()) : groups_.back().end();
        if (group == groups_.back().end())
          expanded.push_back(need);
        else
          for (const std::string& id : group->second) expanded.push_back(id);
      }
      needs = std::move(expanded);
    }
  }

  const LoadOptions& options_;
  std::vector<SourceProblem> problems_;
  std::map<std::string, std::string> texts_;
  std::set<SourcePlace> filled_badly_;
  std::vector<std::string> stack_;
  std::vector<std::map<std::string, std::vector<std::string>>> groups_;
  Vars root_vars_;
  std::vector<std::string> next_;
  bool of_one_host_ = false;
  bool include_failed_ = false;
  std::size_t included_ = 0;
  bool is_too_much_ = false;
};

}  // namespace

Result<LoadedRecipe> load_recipe(const std::string& name_or_path, const LoadOptions& options) { return Loader(options).load(name_or_path); }

Result<ReviewedRecipe> review_recipe(const std::string& name_or_path, const LoadOptions& options) {
  return Loader(options).review(name_or_path);
}

std::vector<RecipeListing> list_recipes(const RecipeSources& sources) {
  std::vector<RecipeListing> listings;
  for (const std::string& name : recipe_names(sources)) {
    RecipeListing listing{name, "", ""};
    if (const auto source = find_recipe(name, sources)) {
      listing.source = source->label;
      std::vector<SourceProblem> ignored;
      const YamlDocument yaml = read_yaml(source->text, source->label, ignored);
      if (yaml.value && yaml.value->is_object() && yaml.value->contains("description") && (*yaml.value)["description"].is_string()) {
        listing.description = first_line(strip_control((*yaml.value)["description"].get<std::string>()));
      }
    }
    listings.push_back(std::move(listing));
  }
  return listings;
}

Result<std::pair<std::string, std::string>> parse_var(const std::string& argument) {
  const std::size_t equals = argument.find('=');
  if (equals == 0 || equals == std::string::npos) {
    return fail(ErrorCode::usage, fmt::format("--var {}: expected NAME=VALUE", quote_value(argument)));
  }
  return std::pair(argument.substr(0, equals), argument.substr(equals + 1));
}

}  // namespace gpustrap

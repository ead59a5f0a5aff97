#include "agent/protocol/secrets.h"

#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/json.h"
#include "agent/protocol/placeholders.h"
#include "agent/protocol/recipe.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPrefix = "secrets.";
constexpr std::string_view kNameExpected = "letters, digits and `_`, not beginning with a digit";
/// The variable that carries a secret into a shell text begins so.
constexpr std::string_view kVariable = "GPUSTRAP_SECRET_";

bool is_named(const std::vector<SecretSource>& declared, const std::string& name) {
  return std::any_of(declared.begin(), declared.end(), [&](const SecretSource& secret) { return secret.name == name; });
}

/// Names of the secrets in a text; a text with a broken placeholder has none, and is reported as a field.
std::vector<std::string> secrets_in(const std::string& text) {
  std::vector<std::string> names;
  const Result<std::vector<Placeholder>> found = find_placeholders(text);
  if (!found) return names;
  for (const Placeholder& placeholder : *found) {
    if (placeholder.name.starts_with(kPrefix)) names.push_back(placeholder.name.substr(kPrefix.size()));
  }
  return names;
}

void collect_names(const Json& value, std::set<std::string>& names) {
  if (value.is_string()) {
    for (std::string& name : secrets_in(value.get<std::string>())) names.insert(std::move(name));
  } else if (value.is_structured()) {
    for (const Json& member : value) collect_names(member, names);
  }
}

class Settler {
 public:
  Settler(StepEntry& step, const std::vector<SecretSource>& declared, std::vector<FieldProblem>& problems)
      : step_(step), declared_(declared), problems_(problems) {}

  void settle(const std::string& pointer) {
    if (step_.spec) {
      const std::string kind(step_kind_name(step_.kind));
      Json spec = *step_.spec;
      walk(spec, join_pointer(pointer, kind), step_.kind == StepKind::command && !spec.is_object() ? "run" : "");
      if (step_.kind == StepKind::file && holds_secret_ && spec.is_object() && !spec.contains("mode")) spec["mode"] = "0600";
      if (holds_secret_ || !variables_.empty()) step_.spec = std::make_shared<const Json>(std::move(spec));
    }
    for (const auto& [name, text] : step_.env.items) {
      for (const std::string& secret : secrets_in(text)) (void)is_declared(secret, join_pointer(join_pointer(pointer, "env"), name));
    }
    for (const std::string& secret : variables_) {
      const std::string variable = std::string(kVariable) + secret;
      auto& env = step_.env.items;
      const bool is_there = std::any_of(env.begin(), env.end(), [&](const auto& item) { return item.first == variable; });
      if (!is_there) env.emplace_back(variable, fmt::format("${{{{ secrets.{} }}}}", secret));
    }
  }

 private:
  void say(const std::string& pointer, std::string message) { problems_.push_back({FieldProblem::At::value, pointer, std::move(message)}); }

  bool is_declared(const std::string& name, const std::string& pointer) {
    if (is_named(declared_, name)) return true;
    std::vector<std::string> names;
    for (const SecretSource& secret : declared_) names.push_back(secret.name);
    const std::string nearest = nearest_name(name, names);
    say(pointer,
        fmt::format("`secrets.{}` is not declared{}", name,
                    nearest.empty() ? ": expected it in the recipe's `secrets`, for instance `secrets: {" + name + ": {env: " + name + "}}`"
                                    : fmt::format("; did you mean `secrets.{}`?", nearest)));
    return false;
  }

  /// `field` is the name of the kind's field that `value` is, or lies in.
  void walk(Json& value, const std::string& pointer, const std::string& field) {
    if (value.is_string()) return take(value, pointer, field);
    if (value.is_array()) {
      for (std::size_t i = 0; i < value.size(); ++i) walk(value[i], join_pointer(pointer, std::to_string(i)), field + "[]");
    } else if (value.is_object()) {
      for (auto& [name, member] : value.items()) walk(member, join_pointer(pointer, name), field.empty() ? name : field + ".");
    }
  }

  void take(Json& value, const std::string& pointer, const std::string& field) {
    const auto text = value.get<std::string>();
    const std::vector<std::string> names = secrets_in(text);
    if (names.empty()) return;
    for (const std::string& name : names) {
      if (!is_declared(name, pointer)) return;
    }
    if (field == "content" && (step_.kind == StepKind::file || step_.kind == StepKind::block)) {
      holds_secret_ = true;
    } else if (step_.kind == StepKind::command && (field == "run" || field == "unless")) {
      value = through_environment(text, pointer);
    } else if (step_.kind == StepKind::command && field.starts_with("run")) {
      say(pointer, fmt::format("`secrets.{}` would show on a command line: expected it in `env`, or the command as one text", names[0]));
    } else {
      say(pointer, fmt::format("`secrets.{}` may not stand here: expected it in `env`, in the text of a command, or in `content` of file "
                               "and block",
                               names[0]));
    }
  }

  /// The shell puts the value in: it is one word, and neither the text nor the shell's own command line has it.
  std::string through_environment(const std::string& text, const std::string& pointer) {
    const Result<std::vector<Placeholder>> found = find_placeholders(text);
    std::string passed;
    std::size_t done = 0;
    for (const Placeholder& placeholder : *found) {
      if (!placeholder.name.starts_with(kPrefix)) continue;
      const std::string_view before = std::string_view(text).substr(0, placeholder.begin);
      const std::string name = placeholder.name.substr(kPrefix.size());
      const char quote = shell_quote_at_end(before);
      if (quote == '\'') {
        say(pointer,
            fmt::format("`secrets.{}` stands in single quotes, where the shell fills in nothing: expected it without quotes, or in "
                        "double ones",
                        name));
      } else if (before.find("<<") != std::string_view::npos) {
        say(pointer,
            fmt::format("`secrets.{}` stands in or behind a here-document: expected it in `env`, and the variable's name here", name));
      }
      passed.append(text, done, placeholder.begin - done);
      const std::string_view around = quote == '"' ? "" : "\"";
      passed += fmt::format("{}${{{}{}}}{}", around, kVariable, name, around);
      done = placeholder.end;
      if (std::find(variables_.begin(), variables_.end(), name) == variables_.end()) variables_.push_back(name);
    }
    return passed + text.substr(done);
  }

  StepEntry& step_;
  const std::vector<SecretSource>& declared_;
  std::vector<FieldProblem>& problems_;
  bool holds_secret_ = false;
  std::vector<std::string> variables_;
};

std::optional<std::string> without_end_of_line(Result<std::string> text) {
  if (!text) return std::nullopt;
  if (text->ends_with('\n')) text->pop_back();
  if (text->ends_with('\r')) text->pop_back();
  return *std::move(text);
}

/// Why a value cannot be used; empty where it can.
std::string fault_of(const std::string& value) {
  if (value.empty()) return "is empty";
  if (value.size() < kShortestSecret) {
    return fmt::format("has fewer than {} characters, too few to be hidden in what steps print", kShortestSecret);
  }
  if (value.find('\0') != std::string::npos || to_utf8(value) != value) return "is not a text";
  if (value.size() > kLongestSecrets) return fmt::format("is longer than {}", human_size(kLongestSecrets));
  return {};
}

/// The first source that has something; `tried` says of the others why they have not.
std::optional<std::string> value_from(const SecretSource& source, const SecretSurroundings& around, std::vector<std::string>& tried) {
  const auto usable = [&](const std::string& where, const std::string& value) {
    const std::string fault = fault_of(value);
    if (!fault.empty()) tried.push_back(where + " " + fault);
    return fault.empty();
  };
  if (!source.env.empty()) {
    const std::string where = "the environment variable " + source.env;
    std::optional<std::string> value = around.environment(source.env);
    if (value && usable(where, *value)) return value;
    if (!value) tried.push_back(where + " is not set");
  }
  if (!source.file.empty()) {
    const std::string path = source.file.starts_with("~/") ? around.home + source.file.substr(1) : source.file;
    Result<std::string> text = read_file(path, kLongestSecrets);
    if (!text) tried.push_back(text.error().sentence());
    std::optional<std::string> value = without_end_of_line(std::move(text));
    if (value && usable("the file " + path, *value)) return value;
  }
  if (!source.prompt.empty()) {
    if (!around.ask) {
      tried.emplace_back("there is no terminal to ask at");
      return std::nullopt;
    }
    std::optional<std::string> value = around.ask(fmt::format("{}: ", first_line(strip_control(source.prompt))));
    if (value && usable("the answer", *value)) return value;
    if (!value) tried.emplace_back("the question was not answered");
  }
  return std::nullopt;
}

}  // namespace

bool is_secret_name(std::string_view name) {
  const auto is_letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; };
  return !name.empty() && name.size() <= 64 && is_letter(name[0]) &&
         std::all_of(name.begin(), name.end(), [&](char c) { return is_letter(c) || (c >= '0' && c <= '9'); });
}

std::vector<SecretSource> read_secret_sources(const Json& value, std::vector<FieldProblem>& problems) {
  std::vector<SecretSource> sources;
  const auto say = [&](FieldProblem::At at, std::string pointer, std::string message) {
    problems.push_back({at, std::move(pointer), std::move(message)});
  };
  const auto add = [&](const std::string& name, const std::string& pointer) -> SecretSource& {
    if (!is_secret_name(name)) {
      say(FieldProblem::At::key, pointer, fmt::format("{} is not a name for a secret: expected {}", quote_value(name), kNameExpected));
    }
    sources.push_back({name, "", "", ""});
    return sources.back();
  };
  if (value.is_array() && std::all_of(value.begin(), value.end(), [](const Json& item) { return item.is_string(); })) {
    for (std::size_t i = 0; i < value.size(); ++i) add(value[i].get<std::string>(), join_pointer("/secrets", std::to_string(i)));
    return sources;
  }
  if (!value.is_object()) {
    say(FieldProblem::At::value, "/secrets",
        fmt::format("`secrets` is {}: expected a mapping of names to where their values come from", quote_value(value)));
    return sources;
  }
  for (const auto& [name, from] : value.items()) {
    const std::string pointer = join_pointer("/secrets", name);
    SecretSource& source = add(name, pointer);
    if (from.is_primitive() && !from.is_null()) {  // it may be the secret itself: it is shown nowhere
      say(FieldProblem::At::value, pointer,
          fmt::format(
              "`{0}` of secrets is a value: expected where it comes from, for instance `{0}: {{env: VARIABLE}}`; no secret stands in "
              "a recipe",
              first_line(strip_control(name), 60)));
      continue;
    }
    SpecReader reader(fmt::format("the secret {}", first_line(strip_control(name), 60)), "", from, pointer, Placeholders::refused,
                      problems);
    source.fields(reader);
    reader.finish();
    if (!reader.unusable() && source.env.empty() && source.file.empty() && source.prompt.empty()) {
      reader.say_missing("needs one of `env`, `file` and `prompt`");
    }
    if (!source.file.empty() && !source.file.starts_with('/') && !source.file.starts_with("~/")) {
      reader.say_at("file", fmt::format("is {}: expected an absolute path or one that starts with ~/", quote_value(source.file)));
    }
  }
  return sources;
}

std::vector<FieldDoc> describe_secret_source() {
  SecretSource source;
  SpecDocs docs;
  source.fields(docs);
  return docs.take();
}

void settle_secrets(StepEntry& step, const std::string& pointer, const std::vector<SecretSource>& declared,
                    std::vector<FieldProblem>& problems) {
  Settler(step, declared, problems).settle(pointer);
}

SecretNeeds secrets_of(const StepEntry& step) {
  std::set<std::string> names;
  if (step.spec) collect_names(*step.spec, names);
  SecretNeeds needs;
  needs.in_spec.assign(names.begin(), names.end());
  for (const auto& [variable, text] : step.env.items) {
    for (std::string& name : secrets_in(text)) names.insert(std::move(name));
  }
  needs.all.assign(names.begin(), names.end());
  return needs;
}

Result<SecretValues> collect_secrets(const std::vector<SecretSource>& sources, const SecretSurroundings& around) {
  SecretValues values;
  std::vector<std::string> missing;
  std::vector<std::string> hints;
  std::size_t size = 0;
  for (const SecretSource& source : sources) {
    std::vector<std::string> tried;
    if (std::optional<std::string> value = value_from(source, around, tried)) {
      size += value->size();
      values[source.name] = *std::move(value);
      continue;
    }
    if (tried.empty()) tried.emplace_back("the recipe does not say where its value comes from");
    missing.push_back(fmt::format("the secret `{}` has no value: {}", source.name, join(tried, ", and ")));
    if (!source.env.empty()) {
      hints.push_back(fmt::format("set {} in the environment of this command", source.env));
    } else if (!source.file.empty()) {
      hints.push_back("write the value into " + source.file);
    } else {
      hints.emplace_back(source.prompt.empty() ? "give it `env` or `file` in `secrets`" : "run this at a terminal");
    }
  }
  if (!missing.empty()) return fail(ErrorCode::usage, join(missing, "\n"), join(hints, "; "));
  if (size > kLongestSecrets) {
    return fail(ErrorCode::usage, fmt::format("the secrets together are longer than {}", human_size(kLongestSecrets)),
                "put large files on the host by other means, for instance gpustrap push");
  }
  return values;
}

}  // namespace gpustrap

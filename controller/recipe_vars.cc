#include "controller/recipe_vars.h"

#include <algorithm>
#include <charconv>
#include <cstdint>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"

namespace gpustrap {
namespace {

/// The field that makes a var go by another one.
constexpr const char* kBy = "by";

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : value.dump(); }

class VarReader {
 public:
  VarReader(const PlaceMap& places, std::vector<SourceProblem>& problems) : places_(places), problems_(problems) {}

  Vars read(const Json& document, const std::optional<Vars>& given, const GivenVars& outer) {
    const auto found = document.find("vars");
    if (found != document.end() && found->is_object()) {
      for (const auto& [name, value] : found->items()) add(name, value);
    } else if (found != document.end() && !found->is_null()) {
      report("/vars", fmt::format("`vars` is {}: expected a mapping of names to defaults", quote_value(*found)));
    }
    check_choices();
    if (given) {
      for (const auto& [name, value] : *given) {
        for (auto& [var, current] : vars_) {
          if (var == name) current = value;
        }
      }
    } else {
      for (const HostVar& var : outer.host) override_var(var);
      for (const auto& [name, text] : outer.command_line) override_var(name, text);
    }
    choose();
    return std::move(vars_);
  }

 private:
  static bool is_choice(const Json& value) { return value.is_object() && value.contains(kBy); }

  void report(const std::string& pointer, std::string message, FieldProblem::At at = FieldProblem::At::value) {
    problems_.push_back(places_.locate({at, pointer, std::move(message)}));
  }

  void add(const std::string& name, const Json& value) {
    const std::string pointer = join_pointer("/vars", name);
    if (!is_plain_id(name) || name.find('.') != std::string::npos) {
      report(pointer,
             fmt::format("{} is not a name for a var: expected letters, digits, `_` and `-`, beginning with a letter or digit",
                         quote_value(name)),
             FieldProblem::At::key);
    }
    if (is_choice(value)) {
      for (const auto& [which, one] : value.items()) {
        if (which != kBy) check_value(name, one, join_pointer(pointer, which));
      }
    } else {
      check_value(name, value, pointer);
    }
    vars_.emplace_back(name, value);
  }

  void check_value(const std::string& name, const Json& value, const std::string& pointer) {
    if (value.is_object() ||
        (value.is_array() && std::any_of(value.begin(), value.end(), [](const Json& item) { return item.is_structured(); }))) {
      report(pointer, fmt::format("the var `{}` is {}: expected a text, a number, a boolean or a list of them", name, quote_value(value)));
    } else if (value.is_number_float()) {
      const std::string written = places_.at(pointer).number;
      report(pointer, fmt::format("the var `{}` is `{}`, which YAML takes for a number: expected it in quotes, \"{}\", to keep its digits",
                                  name, written, written));
    } else if (value.is_string() && value.get_ref<const std::string&>().find("${{") != std::string::npos) {
      report(pointer, fmt::format("the var `{}` is {}: expected a value without placeholders", name, quote_value(value)));
    }
  }

  /// Each choice goes by a var that has a value of its own, and has something to choose from.
  void check_choices() {
    for (auto& [name, value] : vars_) {
      if (!is_choice(value)) continue;
      const std::string pointer = join_pointer("/vars", name);
      const Json by = value[kBy];
      const Json* other = by.is_string() ? find_var(vars_, by.get<std::string>()) : nullptr;
      if (other == nullptr || other->is_structured()) {
        report(join_pointer(pointer, kBy),
               fmt::format("the var `{}` goes by {}: expected the name of another var of this recipe, one with a single value", name,
                           quote_value(by)));
        value = first_of(value);
      } else if (value.size() == 1) {
        report(pointer, fmt::format("the var `{}` goes by {} and has no values: expected one for each, for instance "
                                    "`{{ by: edition, en: …, zh: … }}`",
                                    name, quote_value(by)));
        value = first_of(value);
      }
    }
  }

  /// A value of a hosts file has the type of the default, or can be read as it.
  void override_var(const HostVar& given) {
    const auto var = std::find_if(vars_.begin(), vars_.end(), [&](const auto& one) { return one.first == given.name; });
    if (var == vars_.end()) return;
    const auto wrong = [&](std::string_view expected) {
      problems_.push_back(
          {given.place, fmt::format("the var `{}` is {}: expected {}, like its default", given.name, quote_value(*given.value), expected)});
    };
    Json& value = var->second;
    const Json like = is_choice(value) ? first_of(value) : value;
    const Json& wanted = *given.value;
    if (like.is_boolean() && !wanted.is_boolean()) return wrong("true or false");
    if (like.is_number() && !wanted.is_number_integer()) return wrong("a whole number");
    if (like.is_array() && !wanted.is_array()) return wrong("a list");
    if (wanted.is_object() || (!like.is_array() && !like.is_null() && wanted.is_array())) return wrong("a single value");
    if (wanted.is_null() || wanted.is_number_float()) return wrong("a value in quotes");
    value = like.is_string() && !wanted.is_string() ? Json(wanted.dump()) : wanted;
  }

  /// A value of the command line takes the type of the default.
  void override_var(const std::string& name, const std::string& text) {
    const auto say = [&](std::string message) { problems_.push_back({{"--var", 0, 0}, std::move(message)}); };
    const auto var = std::find_if(vars_.begin(), vars_.end(), [&](const auto& one) { return one.first == name; });
    if (var == vars_.end()) {
      return say(fmt::format("{} is not a var of this recipe{}", quote_value(name),
                             vars_.empty() ? ", which has none" : did_you_mean(name, names_of(vars_), "its vars are")));
    }
    Json& value = var->second;
    from_command_line_.insert(name);
    const Json like = is_choice(value) ? first_of(value) : value;
    if (like.is_boolean()) {
      if (text != "true" && text != "false")
        return say(fmt::format("`{}` is {}: expected true or false, like its default", name, quote_value(text)));
      value = text == "true";
    } else if (like.is_number()) {
      std::int64_t number = 0;
      const auto parsed = std::from_chars(text.data(), text.data() + text.size(), number);
      if (parsed.ec != std::errc() || parsed.ptr != text.data() + text.size()) {
        return say(fmt::format("`{}` is {}: expected a whole number, like its default", name, quote_value(text)));
      }
      value = number;
    } else if (like.is_array()) {
      value = text.empty() ? Json::array() : Json(split(text, ','));
    } else {
      value = text;
    }
  }

  /// Something of the right type; where the choice is wrong, what follows from that is not reported as well.
  static Json first_of(const Json& choice) {
    for (const auto& [which, value] : choice.items()) {
      if (which != kBy) return value;
    }
    return "";
  }

  /// Puts the chosen value in the place of each choice that nobody has replaced.
  void choose() {
    std::set<std::string> reported;
    for (auto& [name, value] : vars_) {
      if (!is_choice(value)) continue;
      const std::string by = value[kBy].get<std::string>();
      const std::string which = text_of(*find_var(vars_, by));
      if (which != kBy && value.contains(which)) {
        value = Json(value[which]);
        continue;
      }
      std::vector<std::string> names;
      for (const auto& [key, unused] : value.items()) {
        if (key != kBy) names.push_back(key);
      }
      std::string message = fmt::format("`{}` is {}: expected {}", by, quote_value(which), join(names, " or "));
      value = first_of(value);
      if (!reported.insert(by).second) continue;
      if (from_command_line_.contains(by)) {
        problems_.push_back({{"--var", 0, 0}, std::move(message)});
      } else {
        report(join_pointer("/vars", by), std::move(message));
      }
    }
  }

  const PlaceMap& places_;
  std::vector<SourceProblem>& problems_;
  Vars vars_;
  std::set<std::string> from_command_line_;
};

}  // namespace

const Json* find_var(const Vars& vars, const std::string& name) {
  const auto found = std::find_if(vars.begin(), vars.end(), [&](const auto& var) { return var.first == name; });
  return found == vars.end() ? nullptr : &found->second;
}

std::vector<std::string> names_of(const Vars& vars) {
  std::vector<std::string> names;
  for (const auto& [name, value] : vars) names.push_back(name);
  return names;
}

std::string did_you_mean(const std::string& wrong, const std::vector<std::string>& names, std::string_view what) {
  const std::string nearest = nearest_name(wrong, names);
  if (!nearest.empty()) return fmt::format("; did you mean `{}`?", nearest);
  return names.empty() ? "" : fmt::format("; {} {}", what, join(names, ", "));
}

Vars read_vars(const Json& document, const PlaceMap& places, const std::optional<Vars>& given, const GivenVars& outer,
               std::vector<SourceProblem>& problems) {
  return VarReader(places, problems).read(document, given, outer);
}

}  // namespace gpustrap

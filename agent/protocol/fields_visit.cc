#include "agent/protocol/fields_visit.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/foreign_words.h"

namespace gpustrap {

SpecReader::SpecReader(std::string owner, std::string_view shorthand, const Json& value, std::string pointer, Placeholders placeholders,
                       std::vector<FieldProblem>& problems)
    : owner_(std::move(owner)),
      shorthand_(shorthand),
      value_(value),
      pointer_(std::move(pointer)),
      placeholders_(placeholders),
      problems_(problems),
      is_shorthand_(!shorthand.empty() && !value.is_object() && !value.is_null()),
      unusable_(!is_shorthand_ && !value.is_object() && !value.is_null()) {}

const Json* SpecReader::find(std::string_view name) const {
  if (is_shorthand_) return name == shorthand_ ? &value_ : nullptr;
  if (!value_.is_object()) return nullptr;
  const auto found = value_.find(std::string(name));
  return found == value_.end() ? nullptr : &*found;
}

const Json* SpecReader::take(std::string_view name, Presence presence) {
  names_.emplace_back(name);
  const Json* found = find(name);
  if (found == nullptr && presence == Presence::required) missing_.emplace_back(name);
  return found;
}

std::string SpecReader::pointer_of(std::string_view name) const { return is_shorthand_ ? pointer_ : join_pointer(pointer_, name); }

FieldPlace SpecReader::place_of(std::string_view name) const {
  return {fmt::format("`{}` of {}", name, owner_), pointer_of(name), placeholders_, problems_};
}

bool SpecReader::deferred(std::string_view name) const {
  const Json* found = find(name);
  if (found == nullptr) return false;
  const FieldPlace place = place_of(name);
  if (found->is_array()) return std::any_of(found->begin(), found->end(), [&](const Json& item) { return place.is_deferred(item); });
  return place.is_deferred(*found);
}

void SpecReader::say_at(std::string_view name, std::string_view sentence) {
  problems_.push_back({FieldProblem::At::value, pointer_of(name), fmt::format("`{}` of {} {}", name, owner_, sentence)});
}

void SpecReader::say_at_item(std::string_view name, std::string_view item, std::string_view sentence) {
  std::string pointer = pointer_of(name);
  if (const Json* list = find(name); list != nullptr && list->is_array()) {
    const auto found = std::find(list->begin(), list->end(), Json(std::string(item)));
    if (found != list->end()) pointer = join_pointer(pointer, std::to_string(found - list->begin()));
  }
  problems_.push_back({FieldProblem::At::value, std::move(pointer), fmt::format("`{}` of {} {}", name, owner_, sentence)});
}

void SpecReader::say_missing(std::string_view sentence) {
  if (suggested_.empty()) say(sentence);
}

void SpecReader::say(std::string_view sentence) {
  problems_.push_back({FieldProblem::At::key, pointer_, fmt::format("{} {}", owner_, sentence)});
}

void SpecReader::rest(std::string_view /*placeholder*/, EnvironmentChanges& changes, std::string_view /*help*/) {
  takes_rest_ = true;
  if (!value_.is_object()) return;
  for (const auto& [name, value] : value_.items()) {
    if (std::find(names_.begin(), names_.end(), name) != names_.end()) continue;
    const bool is_word = std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
    if (!is_word || name.empty() || (name[0] >= '0' && name[0] <= '9')) {
      problems_.push_back({FieldProblem::At::key, pointer_of(name),
                           fmt::format("{} is not a name for a variable of {}: expected letters, digits and _, not beginning with a digit",
                                       quote_value(name), owner_)});
    }
    EnvironmentChange change;
    FieldType<EnvironmentChange>::read(
        value, FieldPlace(fmt::format("`{}` of {}", name, owner_), pointer_of(name), placeholders_, problems_), change);
    changes.items.emplace_back(name, std::move(change));
  }
}

void SpecReader::finish() {
  if (unusable_) {
    problems_.push_back({FieldProblem::At::value, pointer_,
                         fmt::format("{} is {}: expected a mapping with {}", owner_, quote_value(value_), join(names_, ", "))});
    return;
  }
  if (value_.is_object() && !takes_rest_) {
    for (const auto& [name, value] : value_.items()) {
      if (std::find(names_.begin(), names_.end(), name) != names_.end()) continue;
      const std::string meant = field_meant_by(name, names_);
      const std::string nearest = meant.empty() ? nearest_name(name, names_) : meant;
      if (!nearest.empty()) suggested_.push_back(nearest);
      const std::string advice = nearest.empty() ? "its fields are " + join(names_, ", ") : fmt::format("did you mean `{}`?", nearest);
      problems_.push_back(
          {FieldProblem::At::key, pointer_of(name), fmt::format("{} is not a field of {}; {}", quote_value(name), owner_, advice)});
    }
  }
  if (value_.is_null() && !missing_.empty()) {
    const bool may_be_home = shorthand_ == "path";
    return say(
        fmt::format("is empty: it needs {}{}", join(missing_, " and "), may_be_home ? "; a bare ~ is empty in YAML, write \"~\"" : ""));
  }
  for (const std::string& name : missing_) {
    if (std::find(suggested_.begin(), suggested_.end(), name) == suggested_.end()) say(fmt::format("needs a field `{}`", name));
  }
}

void check_arch(const StringList& arch, SpecReader& reader) {
  for (const std::string& item : arch.items) {
    if (item == "x86_64" || item == "aarch64") continue;
    const std::string_view meant = item == "arm64" ? "aarch64" : (item == "amd64" || item == "x64" || item == "x86-64" ? "x86_64" : "");
    reader.say_at_item("arch", item,
                       fmt::format("holds {}: expected x86_64 or aarch64{}", quote_value(item),
                                   meant.empty() ? "" : fmt::format("; did you mean `{}`?", meant)));
  }
}

void SpecWriter::add(std::string_view name, Json value, Presence presence) {
  const std::string key(name);
  if (in_defaults_) {
    defaults_[key] = std::move(value);
  } else if (presence == Presence::required || value != defaults_.at(key)) {
    written_[key] = std::move(value);
  }
}

void SpecWriter::rest(std::string_view /*placeholder*/, EnvironmentChanges& changes, std::string_view /*help*/) {
  if (in_defaults_) return;
  for (const auto& [name, change] : changes.items) written_[name] = FieldType<EnvironmentChange>::write(change);
}

void SpecWriter::start_values() { in_defaults_ = false; }

void SpecDocs::add(std::string_view name, std::string type, std::string expected, const Json& value, Presence presence,
                   std::string_view help) {
  const bool has_default = presence == Presence::optional && !value.is_null() && value != "" && !(value.is_structured() && value.empty());
  docs_.push_back({std::string(name), std::move(type), std::move(expected), presence, has_default ? value.dump() : "", std::string(help)});
}

void SpecDocs::rest(std::string_view placeholder, EnvironmentChanges& /*changes*/, std::string_view help) {
  docs_.push_back({std::string(placeholder), FieldType<EnvironmentChange>::type(), FieldType<EnvironmentChange>::expected(),
                   Presence::optional, "", std::string(help)});
}

}  // namespace gpustrap

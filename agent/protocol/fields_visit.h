#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/field_types.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json.h"

// The three readers of a spec's one list of fields: `spec.fields(visitor)`.

namespace gpustrap {

/// Fills a spec from a mapping and reports everything wrong with it.
class SpecReader {
 public:
  /// `owner` is the kind's name; `shorthand` the field that a value which is no mapping means, or empty.
  SpecReader(std::string owner, std::string_view shorthand, const Json& value, std::string pointer, Placeholders placeholders,
             std::vector<FieldProblem>& problems);

  template <class T> void operator()(std::string_view name, T& field, Presence presence, std::string_view /*help*/) {
    if (const Json* value = take(name, presence)) FieldType<T>::read(*value, place_of(name), field);
  }
  /// Every member whose name no field has.
  void rest(std::string_view placeholder, EnvironmentChanges& changes, std::string_view help);
  /// Reports the members that nobody asked for. After all fields.
  void finish();

  /// Whether the recipe says anything for this field, be it right or wrong.
  [[nodiscard]] bool has(std::string_view name) const { return find(name) != nullptr; }
  /// Whether the field is given and its value is a placeholder that is not filled in yet.
  [[nodiscard]] bool deferred(std::string_view name) const;
  /// Where the whole value is wrong (not a mapping), so that nothing further should be said about it.
  [[nodiscard]] bool unusable() const { return unusable_; }
  void say_at(std::string_view name, std::string_view sentence);
  /// About one item of a list, or about the field where it is no list.
  void say_at_item(std::string_view name, std::string_view item, std::string_view sentence);
  /// About the mapping as a whole; shown at its key.
  void say(std::string_view sentence);
  /// The same about fields that are not there; unsaid where a misspelled name has been reported, which may be them.
  void say_missing(std::string_view sentence);

 private:
  [[nodiscard]] const Json* find(std::string_view name) const;
  const Json* take(std::string_view name, Presence presence);
  [[nodiscard]] FieldPlace place_of(std::string_view name) const;
  [[nodiscard]] std::string pointer_of(std::string_view name) const;

  std::string owner_;
  std::string shorthand_;
  const Json& value_;
  std::string pointer_;
  Placeholders placeholders_;
  std::vector<FieldProblem>& problems_;
  bool is_shorthand_ = false;
  bool unusable_ = false;
  bool takes_rest_ = false;
  std::vector<std::string> names_;
  std::vector<std::string> missing_;
  std::vector<std::string> suggested_;
};

/// Reports the items of the field `arch` that are no architecture.
void check_arch(const StringList& arch, SpecReader& reader);

/// Collects the fields that differ from `defaults`, which is visited first.
class SpecWriter {
 public:
  template <class T> void operator()(std::string_view name, T& field, Presence presence, std::string_view /*help*/) {
    add(name, FieldType<T>::write(field), presence);
  }
  void rest(std::string_view placeholder, EnvironmentChanges& changes, std::string_view help);
  /// Everything visited until now was a default.
  void start_values();
  [[nodiscard]] Json take() { return std::move(written_); }

 private:
  void add(std::string_view name, Json value, Presence presence);

  Json defaults_ = Json::object();
  Json written_ = Json::object();
  bool in_defaults_ = true;
};

/// Collects what documentation says of each field; visits a spec that holds its defaults.
class SpecDocs {
 public:
  template <class T> void operator()(std::string_view name, T& field, Presence presence, std::string_view help) {
    add(name, FieldType<T>::type(), FieldType<T>::expected(), FieldType<T>::write(field), presence, help);
  }
  void rest(std::string_view placeholder, EnvironmentChanges& changes, std::string_view help);
  [[nodiscard]] std::vector<FieldDoc> take() { return std::move(docs_); }

 private:
  void add(std::string_view name, std::string type, std::string expected, const Json& value, Presence presence, std::string_view help);

  std::vector<FieldDoc> docs_;
};

}  // namespace gpustrap

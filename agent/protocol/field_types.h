#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/fields.h"
#include "agent/protocol/json.h"

// How the values of recipe fields are read, written and described. Only fields.cc, recipe.cc and step_spec.cc need it.

namespace gpustrap {

/// Where a value stands, and whom to tell what is wrong with it.
class FieldPlace {
 public:
  /// `label` names the field in a sentence: "`port` of jupyter".
  FieldPlace(std::string label, std::string pointer, Placeholders placeholders, std::vector<FieldProblem>& problems)
      : label_(std::move(label)), pointer_(std::move(pointer)), placeholders_(placeholders), problems_(&problems) {}

  /// "`port` of jupyter is `99999`: expected a port number, 1 to 65535". `remark` follows where it is not empty.
  void wrong(const Json& value, std::string_view expected, std::string_view remark = {}) const;
  /// A sentence of its own, behind the label.
  void say(std::string_view rest_of_sentence) const;
  /// The place of an element of this list, or of a member of this mapping.
  [[nodiscard]] FieldPlace item(std::size_t index) const;
  [[nodiscard]] FieldPlace member(std::string_view name) const;
  /// A text with `${{ … }}` in it while those are allowed: it is checked once it has its value.
  [[nodiscard]] bool is_deferred(const Json& value) const;

 private:
  std::string label_;
  std::string pointer_;
  Placeholders placeholders_;
  std::vector<FieldProblem>* problems_;
};

/// "/steps/3" and "a/b" make "/steps/3/a~1b".
[[nodiscard]] std::string join_pointer(std::string_view pointer, std::string_view key);
/// A value as a message quotes it: `text`, or JSON; one line, bounded, without control characters.
[[nodiscard]] std::string quote_value(const Json& value);
/// Letters, digits, '.', '_', '-', at most 64, beginning with a letter or digit: ids and recipe names.
[[nodiscard]] bool is_plain_id(std::string_view text);

/// How values of T are read, written and described. read() leaves `out` alone where it reports a problem or defers the check.
template <class T> struct FieldType;

#define GPUSTRAP_FIELD_TYPE(T)                                            \
  template <> struct FieldType<T> {                                       \
    static std::string type();                                            \
    static std::string expected();                                        \
    static void read(const Json& value, const FieldPlace& place, T& out); \
    static Json write(const T& value);                                    \
  }
GPUSTRAP_FIELD_TYPE(bool);
GPUSTRAP_FIELD_TYPE(std::int64_t);
GPUSTRAP_FIELD_TYPE(std::string);
GPUSTRAP_FIELD_TYPE(HostPath);
GPUSTRAP_FIELD_TYPE(Url);
GPUSTRAP_FIELD_TYPE(std::vector<Url>);
GPUSTRAP_FIELD_TYPE(Sha256Digest);
GPUSTRAP_FIELD_TYPE(FileMode);
GPUSTRAP_FIELD_TYPE(ByteSize);
GPUSTRAP_FIELD_TYPE(Duration);
GPUSTRAP_FIELD_TYPE(Money);
GPUSTRAP_FIELD_TYPE(HourlyPrice);
GPUSTRAP_FIELD_TYPE(PortNumber);
GPUSTRAP_FIELD_TYPE(StringList);
GPUSTRAP_FIELD_TYPE(CommandText);
GPUSTRAP_FIELD_TYPE(TextMap);
GPUSTRAP_FIELD_TYPE(EnvironmentChange);
#undef GPUSTRAP_FIELD_TYPE

/// Names of an enum's values in their order; a specialisation makes the enum a field type.
template <class E> struct EnumNames;

/// Index of `value` in `names`; nullopt after it has said what is wrong.
[[nodiscard]] std::optional<std::size_t> read_choice(const Json& value, const FieldPlace& place, const std::vector<std::string>& names);
[[nodiscard]] std::string choice_text(const std::vector<std::string>& names);

template <class E>
requires requires { EnumNames<E>::names(); }
struct FieldType<E> {
  static std::string type() { return "choice"; }
  static std::string expected() { return choice_text(EnumNames<E>::names()); }
  static void read(const Json& value, const FieldPlace& place, E& out) {
    if (const auto index = read_choice(value, place, EnumNames<E>::names())) out = static_cast<E>(*index);
  }
  static Json write(const E& value) { return EnumNames<E>::names()[static_cast<std::size_t>(value)]; }
};

template <class T> struct FieldType<std::optional<T>> {
  static std::string type() { return FieldType<T>::type(); }
  static std::string expected() { return FieldType<T>::expected(); }
  static void read(const Json& value, const FieldPlace& place, std::optional<T>& out) {
    T inner{};
    FieldType<T>::read(value, place, inner);
    out = std::move(inner);
  }
  static Json write(const std::optional<T>& value) { return value ? FieldType<T>::write(*value) : Json(); }
};

}  // namespace gpustrap

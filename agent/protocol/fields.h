#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace gpustrap {

// The value types of recipe fields. Each has one FieldType<T> in fields.cc: how it is read, written and described.

struct HostPath {
  std::string text;
};  ///< absolute, "~" or "~/…", on the host
struct Url {
  std::string text;
};  ///< http or https
struct Sha256Digest {
  std::string hex;
};  ///< 64 lowercase hex digits
struct FileMode {
  unsigned bits = 0;
};  ///< written as a string: "0644"
struct ByteSize {
  std::uint64_t bytes = 0;
};  ///< "40GiB", "500MB"
struct Duration {
  std::chrono::seconds time{0};
};  ///< "90s", "10m", "2h", "1d"
/// An amount of money, in millionths of its unit: "5 USD".
struct Money {
  std::int64_t millionths = 0;
  std::string currency;
};
/// What an hour of a machine costs: "0.526 USD/h".
struct HourlyPrice {
  Money money;
};
struct PortNumber {
  std::uint16_t number = 0;
};
/// One value or a list of them.
struct StringList {
  std::vector<std::string> items;
};
/// A text is run by bash; a list is an argv.
struct CommandText {
  std::string shell;
  std::vector<std::string> argv;
  [[nodiscard]] bool empty() const { return shell.empty() && argv.empty(); }
};
/// A mapping of names to texts, in the order written.
struct TextMap {
  std::vector<std::pair<std::string, std::string>> items;
};
/// How one environment variable is to be: set, or a list variable extended at one end.
struct EnvironmentChange {
  enum class Kind { set, prepend, append } kind = Kind::set;
  std::vector<std::string> values;
};
struct EnvironmentChanges {
  std::vector<std::pair<std::string, EnvironmentChange>> items;
};

enum class Presence { required, optional };

/// Something wrong with one value of a recipe, tied to its place by a JSON pointer ("/steps/3/apt/packages/0").
struct FieldProblem {
  enum class At { key, value } at = At::value;
  std::string pointer;
  std::string message;  ///< "`packges` is not a field of apt; did you mean `packages`?"
};

/// Whether `${{ … }}` may still stand where a value is wanted: on the controller facts and secrets are not known yet.
enum class Placeholders { allowed, refused };

/// What documentation, `recipe explain` and the JSON Schema say of one field.
struct FieldDoc {
  std::string name;
  std::string type;      ///< "path", "text", "size", …
  std::string expected;  ///< "an absolute path or one that starts with ~/"
  Presence presence = Presence::optional;
  std::string default_text;  ///< JSON, empty where there is none
  std::string help;
};

}  // namespace gpustrap

#pragma once

#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// A place in a file that a person wrote; line and column count from 1, columns in bytes.
struct SourcePlace {
  std::string file;
  int line = 1, column = 1;
  auto operator<=>(const SourcePlace&) const = default;
};

/// Something wrong at a place: "d2l.yaml:12:5: `packges` is not a field of apt; did you mean `packages`?"
struct SourceProblem {
  SourcePlace place;
  std::string message;
};

/// All problems of a file as one error (recipe), sorted by place, one a line. `consequence` follows their number where there are several.
[[nodiscard]] Error error_of(std::vector<SourceProblem> problems, std::string_view consequence);

/// Where the values of a document stand, by JSON pointer.
class PlaceMap {
 public:
  struct Entry {
    SourcePlace key, value;
    std::string number;  ///< a number with a fraction as it was written, since 3.10 is read as 3.1
  };
  void set(const std::string& pointer, Entry entry) { entries_[pointer] = std::move(entry); }
  /// The entry of `pointer`, or of the nearest value around it.
  [[nodiscard]] const Entry& at(std::string_view pointer) const;
  /// Takes over the entries of `from` below `from_pointer`, as if they stood at `to_pointer`.
  void graft(const PlaceMap& from, const std::string& from_pointer, const std::string& to_pointer);
  /// The place and the words of a problem that names a pointer.
  [[nodiscard]] SourceProblem locate(const FieldProblem& problem) const;

 private:
  std::map<std::string, Entry> entries_;
};

struct YamlDocument {
  std::shared_ptr<Json> value;  ///< null where the text is no YAML at all
  PlaceMap places;
};

/// Longest recipe that is read, and how many values its aliases may unfold to.
constexpr std::size_t kMaxRecipeBytes = 1U << 20U;
constexpr std::size_t kMaxRecipeValues = 50'000;

/// One YAML document. Duplicate keys, tags, keys that are no texts, and aliases that unfold to too much are problems. Plain scalars
/// are null, true, false, whole numbers without a leading zero, numbers with a fraction, or texts; `yes`, `0644` and `1:30` are texts.
[[nodiscard]] YamlDocument read_yaml(const std::string& text, const std::string& file, std::vector<SourceProblem>& problems);

}  // namespace gpustrap

#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// An option of a verb, as the command line takes it.
struct OptionDescription {
  std::vector<std::string> names;  ///< short ones first: "-q", "--quiet"
  std::string value;               ///< what stands behind it: "FILE", or all there is: "text|json|sarif"; empty for a flag
  std::string what;                ///< for people, a fragment of a sentence
  std::string group;               ///< Run, Connection or Output
  bool repeats = false;

  [[nodiscard]] bool takes_value() const { return !value.empty(); }
  /// "-q, --quiet", "-i FILE"
  [[nodiscard]] std::string synopsis() const;
  /// The name it is spoken of by: the first long one, else the short one.
  [[nodiscard]] const std::string& name() const;
};

struct VerbDescription {
  std::string name;      ///< "up", "recipe lint"
  std::string what;      ///< a sentence or two
  std::string places;    ///< the words that are no options: "HOST [STEP]"
  std::string examples;  ///< lines, as help shows them
  std::vector<OptionDescription> options;
};

/// All verbs and what they take, in the order of the overview. Options are declared in options*.cc, and nowhere else: completions, man
/// pages, settings and the tests of help go by this.
[[nodiscard]] std::vector<VerbDescription> describe_verbs();
/// Verbs that begin with `verb` and a space: those of "recipe". Without it.
[[nodiscard]] std::vector<std::string> sub_verbs_of(std::string_view verb);

}  // namespace gpustrap

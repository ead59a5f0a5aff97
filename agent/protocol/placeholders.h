#pragma once

#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// `${{ vars.port }}` inside a text: bytes [begin, end) and the name between the braces.
struct Placeholder {
  std::size_t begin = 0, end = 0;
  std::string name;
};
/// All of them in order. An error (recipe) for one that is not closed or whose name is not words joined by dots.
[[nodiscard]] Result<std::vector<Placeholder>> find_placeholders(std::string_view text);

/// The quote in which the shell is at the end of `text`: ', ", or 0 outside of quotes. Comments are skipped; anything that is misjudged
/// is taken for quoted, which refuses a value rather than letting it out of its quotes.
[[nodiscard]] char shell_quote_at_end(std::string_view text);

/// The value of a name such as "vars.port"; nullopt leaves the placeholder for someone else to fill; an error says why it has none.
using PlaceholderLookup = std::function<Result<std::optional<Json>>(const std::string& name)>;

/// Fills the placeholders in every text below `value`. A text that is nothing but one placeholder takes the type of its value.
/// Inside a longer text a list is its items with commas between (words of their own in a shell text); mappings there are problems, as
/// are unknown names.
void fill_placeholders(Json& value, const std::string& pointer, const PlaceholderLookup& lookup, std::vector<FieldProblem>& problems);
/// The same for the value of a kind key: what goes into a shell text is shell-quoted, and refused where the recipe has put
/// quotes around it already, since two layers of quotes undo each other.
void fill_step_placeholders(StepKind kind, Json& value, const std::string& pointer, const PlaceholderLookup& lookup,
                            std::vector<FieldProblem>& problems);

}  // namespace gpustrap

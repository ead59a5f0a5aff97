#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/protocol/json.h"
#include "controller/fleet_hosts.h"
#include "controller/yaml_document.h"

namespace gpustrap {

/// Names and values of a recipe's vars, in the recipe's order. A null stands for a var that has no default.
using Vars = std::vector<std::pair<std::string, Json>>;

[[nodiscard]] const Json* find_var(const Vars& vars, const std::string& name);
[[nodiscard]] std::vector<std::string> names_of(const Vars& vars);

/// "; did you mean `x`?", or the names there are, introduced by `what`; empty where there are none.
[[nodiscard]] std::string did_you_mean(const std::string& wrong, const std::vector<std::string>& names, std::string_view what);

/// What a recipe is given for its vars: by a hosts file, and by the command line, which counts more.
struct GivenVars {
  const std::vector<std::pair<std::string, std::string>>& command_line;  ///< --var NAME=VALUE
  const std::vector<HostVar>& host;                                      ///< of a hosts file; those that are no var of the recipe are left
};

/// The vars of `document`: its defaults, replaced by `given` (what an include passes, its names known to be right) or, where that is
/// absent, by `outer`. A var may go by another one, `{ by: edition, en: …, zh: … }`: it is the value that
/// stands behind the other's. Problems are appended with their places; the vars are usable only where none were.
[[nodiscard]] Vars read_vars(const Json& document, const PlaceMap& places, const std::optional<Vars>& given, const GivenVars& outer,
                             std::vector<SourceProblem>& problems);

}  // namespace gpustrap

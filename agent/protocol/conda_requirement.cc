#include "agent/protocol/conda_requirement.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kNameLetters = "abcdefghijklmnopqrstuvwxyz0123456789_.-";
constexpr std::string_view kVersionLetters = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._+!-";

bool is_version(std::string_view text) {
  const std::string_view stem = text.substr(0, text.find('*'));
  return !text.empty() && stem.find_first_not_of(kVersionLetters) == std::string_view::npos && text.size() - stem.size() <= 1 &&
         !stem.empty();
}

/// 1.2, 1.2.* and 1.2* behind one "=": everything that begins so.
std::string beginning_with(std::string_view version) {
  while (!version.empty() && (version.back() == '*' || version.back() == '.')) version.remove_suffix(1);
  return fmt::format("=={}.*", version);
}

/// One condition with its operator; "" where it is none.
std::string clause_of(std::string_view text) {
  for (const std::string_view operation : {"==", "!=", "<=", ">=", "~=", "<", ">", "="}) {
    if (!text.starts_with(operation)) continue;
    const std::string_view version = text.substr(operation.size());
    if (!is_version(version)) return {};
    if (operation == "=" || (operation == "==" && version.back() == '*')) return beginning_with(version);
    if (version.back() == '*') return operation == "!=" ? "!=" + beginning_with(version).substr(2) : std::string();
    return std::string(text);
  }
  return {};
}

}  // namespace

Result<CondaRequirement> parse_conda_requirement(std::string_view text) {
  const auto wrong = [&] {
    return fail(ErrorCode::recipe, fmt::format("\"{}\" is no package as conda takes it", text),
                "write name, name=1.2, name==1.2.3, name>=1,<2 or channel::name, without spaces");
  };
  CondaRequirement requirement;
  requirement.text = text;
  std::string_view rest = text;
  if (const std::size_t colons = rest.find("::"); colons != std::string_view::npos) {
    if (colons == 0 || rest[0] == '-') return wrong();
    rest.remove_prefix(colons + 2);
  }
  const std::size_t end = std::min(rest.find_first_not_of(kNameLetters), rest.size());
  requirement.name = rest.substr(0, end);
  rest.remove_prefix(end);
  if (requirement.name.empty() || requirement.name[0] == '-' || requirement.name[0] == '.') return wrong();
  if (rest.empty()) return requirement;
  // name=1.2=build: the build is behind the last "=" that no operator needs.
  const std::size_t operation = std::min(rest.find_first_not_of("=<>!~"), rest.size());
  if (operation == 0) return wrong();
  if (const std::size_t build = rest.find('=', operation);
      rest[0] == '=' && build != std::string_view::npos && rest.find_first_of(",|<>!~") == std::string_view::npos) {
    requirement.build = rest.substr(build + 1);
    if (requirement.build.empty() || requirement.build.find_first_of("= ") != std::string::npos) return wrong();
    rest = rest.substr(0, build);
  }
  const std::string common(rest.substr(0, operation));
  for (const std::string& alternative : split(rest, '|')) {
    std::vector<std::string> clauses;
    for (const std::string& part : split(alternative, ',')) {
      // "=1.2|1.4": the operator in front is meant for all.
      const bool bare = !part.empty() && std::string_view("=<>!~").find(part[0]) == std::string_view::npos;
      std::string clause = clause_of(bare ? common + part : part);
      if (clause.empty()) return wrong();
      clauses.push_back(std::move(clause));
    }
    requirement.versions.push_back(join(clauses, ","));
  }
  return requirement;
}

}  // namespace gpustrap

#include "agent/steps/python_version.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <charconv>
#include <cstdint>
#include <limits>
#include <tuple>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::int64_t kNever = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kAlways = std::numeric_limits<std::int64_t>::max();

/// A version as PEP 440 orders it: release first, then what makes it earlier or later than the plain one.
struct Version {
  std::int64_t epoch = 0;
  std::vector<std::int64_t> release;
  std::pair<std::int64_t, std::int64_t> pre{kAlways, 0};  ///< (0 a, 1 b, 2 rc; number); kAlways: none
  std::int64_t post = kNever;
  std::int64_t dev = kAlways;
  std::string local;
};

/// Takes the number at the front of `text`; 0 where there is none ("1.0rc" means rc0).
std::int64_t take_number(std::string_view& text) {
  std::int64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc()) return 0;
  text.remove_prefix(static_cast<std::size_t>(end - text.data()));
  return value;
}

bool take_word(std::string_view& text, std::string_view word) {
  std::string_view rest = text;
  while (!rest.empty() && (rest[0] == '.' || rest[0] == '-' || rest[0] == '_')) rest.remove_prefix(1);
  if (!rest.starts_with(word)) return false;
  rest.remove_prefix(word.size());
  while (!rest.empty() && (rest[0] == '.' || rest[0] == '-' || rest[0] == '_') && rest.size() > 1 &&
         std::isdigit(static_cast<unsigned char>(rest[1])) != 0) {
    rest.remove_prefix(1);
  }
  text = rest;
  return true;
}

Version parse_version(std::string_view written) {
  std::string lower(trim(written));
  std::transform(lower.begin(), lower.end(), lower.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::string_view text = lower;
  if (text.starts_with('v')) text.remove_prefix(1);
  Version version;
  if (const std::size_t plus = text.find('+'); plus != std::string_view::npos) {
    version.local = text.substr(plus + 1);
    text = text.substr(0, plus);
  }
  if (const std::size_t epoch = text.find('!'); epoch != std::string_view::npos) {
    std::string_view number = text.substr(0, epoch);
    version.epoch = take_number(number);
    text.remove_prefix(epoch + 1);
  }
  while (!text.empty() && std::isdigit(static_cast<unsigned char>(text[0])) != 0) {
    version.release.push_back(take_number(text));
    if (text.size() > 1 && text[0] == '.' && std::isdigit(static_cast<unsigned char>(text[1])) != 0)
      text.remove_prefix(1);
    else
      break;
  }
  while (version.release.size() > 1 && version.release.back() == 0) version.release.pop_back();
  static constexpr std::array<std::pair<std::string_view, std::int64_t>, 8> kPre = {
      {{"alpha", 0}, {"a", 0}, {"beta", 1}, {"b", 1}, {"preview", 2}, {"pre", 2}, {"rc", 2}, {"c", 2}}};
  for (const auto& [word, rank] : kPre) {
    if (!take_word(text, word)) continue;
    version.pre = {rank, take_number(text)};
    break;
  }
  if (take_word(text, "post") || take_word(text, "rev") || take_word(text, "r"))
    version.post = take_number(text);
  else if (text.size() > 1 && text[0] == '-' && std::isdigit(static_cast<unsigned char>(text[1])) != 0) {
    text.remove_prefix(1);
    version.post = take_number(text);
  }
  if (take_word(text, "dev")) {
    version.dev = take_number(text);
    // A development release of no pre-release comes before all of them.
    if (version.pre.first == kAlways && version.post == kNever) version.pre = {kNever, 0};
  }
  return version;
}

int compare_parts(const Version& a, const Version& b, bool with_local) {
  const auto key = [](const Version& version) { return std::tie(version.epoch, version.release, version.pre, version.post, version.dev); };
  if (key(a) != key(b)) return key(a) < key(b) ? -1 : 1;
  if (!with_local || a.local == b.local) return 0;
  return a.local < b.local ? -1 : 1;
}

/// "==1.2.*": the first parts of the release are these.
bool release_starts_with(std::string_view version, std::string_view prefix) {
  const std::vector<std::string> have = split(version.substr(0, version.find('+')), '.');
  const std::vector<std::string> want = split(prefix, '.');
  for (std::size_t i = 0; i < want.size(); ++i) {
    const std::string part = i < have.size() ? have[i] : "0";
    if (parse_version(part).release != parse_version(want[i]).release) return false;
  }
  return true;
}

struct Clause {
  std::string operation;
  std::string version;
};

Result<Clause> parse_clause(std::string_view text) {
  static constexpr std::array<std::string_view, 8> kOperators = {"===", "~=", "==", "!=", "<=", ">=", "<", ">"};
  text = trim(text);
  for (const std::string_view operation : kOperators) {
    if (!text.starts_with(operation)) continue;
    const std::string version(trim(text.substr(operation.size())));
    if (!version.empty() && version.find(' ') == std::string::npos) return Clause{std::string(operation), version};
  }
  return fail(ErrorCode::recipe, fmt::format("\"{}\" is not a version condition such as ==1.2 or >=1,<2", text));
}

bool clause_holds(const std::string& version, const Clause& clause) {
  const bool any_tail = clause.version.ends_with(".*");
  const std::string wanted = any_tail ? clause.version.substr(0, clause.version.size() - 2) : clause.version;
  // A local part of what is installed only counts where the requirement names one.
  const bool with_local = wanted.find('+') != std::string::npos;
  const int order = compare_parts(parse_version(version), parse_version(wanted), with_local);
  if (clause.operation == "===") return version == wanted;
  if (clause.operation == "==") return any_tail ? release_starts_with(version, wanted) : order == 0;
  if (clause.operation == "!=") return any_tail ? !release_starts_with(version, wanted) : order != 0;
  if (clause.operation == "<=") return order <= 0;
  if (clause.operation == ">=") return order >= 0;
  if (clause.operation == "<") return order < 0;
  if (clause.operation == ">") return order > 0;
  // ~=2.1.3 is >=2.1.3 and ==2.1.*
  const std::size_t dot = wanted.rfind('.');
  return order >= 0 && (dot == std::string::npos || release_starts_with(version, wanted.substr(0, dot)));
}

}  // namespace

int compare_python_versions(std::string_view a, std::string_view b) { return compare_parts(parse_version(a), parse_version(b), true); }

std::string normalized_package_name(std::string_view name) {
  std::string normalized;
  for (const char c : name) {
    const bool separator = c == '-' || c == '_' || c == '.';
    if (!separator)
      normalized += static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    else if (!normalized.empty() && normalized.back() != '-')
      normalized += '-';
  }
  return normalized;
}

Result<PythonRequirement> parse_python_requirement(std::string_view text) {
  text = trim(text);
  PythonRequirement requirement;
  requirement.text = text;
  const std::size_t end =
      std::min(text.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-"), text.size());
  requirement.name = normalized_package_name(text.substr(0, end));
  if (requirement.name.empty() || text.starts_with('-')) {
    return fail(ErrorCode::recipe, fmt::format("\"{}\" does not begin with a package's name", text),
                "write it as pip does: name, name==1.2, name[extra]>=1,<2");
  }
  std::string_view rest = trim(text.substr(end));
  if (rest.starts_with('[')) rest = trim(rest.substr(std::min(rest.find(']'), rest.size() - 1) + 1));
  if (rest.starts_with('@')) return requirement;  // from a URL: any version of that name
  if (rest.find(';') != std::string_view::npos) {
    return fail(ErrorCode::recipe, fmt::format("\"{}\" has an environment marker, which only pip can decide", text),
                "use `when` on the step instead");
  }
  if (rest.starts_with('(') && rest.ends_with(')')) rest = rest.substr(1, rest.size() - 2);
  requirement.versions = trim(rest);
  if (requirement.versions.empty()) return requirement;
  for (const std::string& clause : split(requirement.versions, ',')) {
    if (Result<Clause> parsed = parse_clause(clause); !parsed)
      return fail(std::move(parsed).error().in(fmt::format("reading \"{}\"", text)));
  }
  return requirement;
}

Result<bool> python_version_satisfies(std::string_view version, std::string_view versions) {
  if (trim(versions).empty()) return true;
  for (const std::string& text : split(versions, ',')) {
    Result<Clause> clause = parse_clause(text);
    if (!clause) return fail(std::move(clause).error());
    if (!clause_holds(std::string(version), *clause)) return false;
  }
  return true;
}

}  // namespace gpustrap

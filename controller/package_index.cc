#include "controller/package_index.h"

#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

/// Of the largest packages there are some ten thousand.
constexpr std::size_t kMostFiles = 200'000, kLongestName = 300;

std::string lower(std::string_view text) {
  std::string out(text);
  std::transform(out.begin(), out.end(), out.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return out;
}

std::optional<std::vector<IndexedFile>> files_of_json(std::string_view page) {
  const Json document = Json::parse(page, nullptr, false);
  const auto list = document.is_object() ? document.find("files") : document.end();
  if (!document.is_object() || list == document.end() || !list->is_array()) return std::nullopt;
  std::vector<IndexedFile> files;
  for (const Json& one : *list) {
    const auto name = one.is_object() ? one.find("filename") : one.end();
    if (!one.is_object() || name == one.end() || !name->is_string() || files.size() >= kMostFiles) continue;
    IndexedFile file{name->get<std::string>().substr(0, kLongestName), false, {}};
    if (const auto yanked = one.find("yanked"); yanked != one.end()) {
      file.yanked = yanked->is_string() || (yanked->is_boolean() && yanked->get<bool>());
      if (yanked->is_string()) file.reason = yanked->get<std::string>();
    }
    files.push_back(std::move(file));
  }
  return files;
}

/// The few that stand in names and reasons.
std::string unescaped(std::string_view text) {
  constexpr std::array<std::pair<std::string_view, char>, 8> kNames = {
      {{"&amp;", '&'}, {"&lt;", '<'}, {"&gt;", '>'}, {"&quot;", '"'}, {"&#34;", '"'}, {"&#39;", '\''}, {"&#x27;", '\''}, {"&#43;", '+'}}};
  std::string out;
  for (std::size_t i = 0; i < text.size();) {
    const auto known = std::find_if(kNames.begin(), kNames.end(), [&](const auto& one) { return text.substr(i).starts_with(one.first); });
    out += known == kNames.end() ? text[i] : known->second;
    i += known == kNames.end() ? 1 : known->first.size();
  }
  return out;
}

/// The value of an attribute in the text of a tag; nullopt where it has none, empty where it has no value.
std::optional<std::string> attribute(std::string_view tag, std::string_view name) {
  const std::string low = lower(tag);
  for (std::size_t at = low.find(name); at != std::string::npos; at = low.find(name, at + 1)) {
    const bool begins = at > 0 && std::isspace(static_cast<unsigned char>(low[at - 1])) != 0;
    const std::size_t end = at + name.size();
    if (!begins) continue;
    if (end >= tag.size() || tag[end] != '=') return std::string();
    const char quote = end + 1 < tag.size() ? tag[end + 1] : ' ';
    if (quote != '"' && quote != '\'') return unescaped(tag.substr(end + 1, tag.find_first_of(" \t\n", end) - end - 1));
    const std::size_t close = tag.find(quote, end + 2);
    return unescaped(tag.substr(end + 2, close == std::string_view::npos ? close : close - end - 2));
  }
  return std::nullopt;
}

/// Where a tag ends: a `>` in a quoted value ends none.
std::size_t end_of_tag(std::string_view page, std::size_t from) {
  char quote = 0;
  for (std::size_t i = from; i < page.size(); ++i) {
    if (quote != 0)
      quote = page[i] == quote ? '\0' : quote;
    else if (page[i] == '"' || page[i] == '\'')
      quote = page[i];
    else if (page[i] == '>')
      return i;
  }
  return std::string_view::npos;
}

std::optional<std::vector<IndexedFile>> files_of_html(std::string_view page) {
  if (lower(page.substr(0, 4096)).find("<html") == std::string::npos && page.find("<a ") == std::string_view::npos) return std::nullopt;
  std::vector<IndexedFile> files;
  for (std::size_t at = page.find("<a "); at != std::string_view::npos && files.size() < kMostFiles; at = page.find("<a ", at + 1)) {
    const std::size_t end = end_of_tag(page, at);
    if (end == std::string_view::npos) break;
    const std::size_t close = page.find('<', end);
    if (close == std::string_view::npos) break;
    const std::optional<std::string> yanked = attribute(page.substr(at, end - at), "data-yanked");
    files.push_back(
        {unescaped(trim(page.substr(end + 1, std::min(close - end - 1, kLongestName)))), yanked.has_value(), yanked.value_or("")});
  }
  return files;
}

/// "2.1.0rc1" of "v2.1.0-RC1"; zeros at the end of the numbers say nothing.
std::string plain_version(std::string_view version) {
  std::string out;
  for (const char c : lower(version)) {
    if (c == '-' || c == '_') continue;
    out += c;
  }
  if (out.starts_with('v')) out.erase(0, 1);
  const std::size_t end = std::min(out.find_first_not_of("0123456789."), out.size());
  std::string numbers = out.substr(0, end);
  while (numbers.ends_with('.')) numbers.pop_back();
  const std::string rest = out.substr(end);
  while (numbers.ends_with(".0")) numbers.resize(numbers.size() - 2);
  return numbers + rest;
}

}  // namespace

std::optional<std::vector<IndexedFile>> indexed_files(std::string_view page, std::string_view content_type) {
  const std::string_view begin = trim(page.substr(0, 256));
  if (content_type.find("json") != std::string_view::npos || begin.starts_with('{')) return files_of_json(page);
  return files_of_html(page);
}

std::string version_of_file(std::string_view name) {
  if (name.ends_with(".whl")) {
    const std::vector<std::string> parts = split(name, '-');
    return parts.size() >= 5 ? parts[1] : "";
  }
  for (const std::string_view end : {".tar.gz", ".tar.bz2", ".zip", ".tgz"}) {
    if (!name.ends_with(end)) continue;
    const std::string_view stem = name.substr(0, name.size() - end.size());
    // Old ones have dashes in names and none in versions.
    const std::size_t dash = stem.rfind('-');
    return dash == std::string_view::npos ? "" : std::string(stem.substr(dash + 1));
  }
  return {};
}

bool is_version_of(std::string_view version, std::string_view pinned) {
  if (version.empty()) return false;
  if (pinned.ends_with(".*")) {
    const std::string beginning = lower(pinned.substr(0, pinned.size() - 2));
    const std::string whole = lower(version);
    return whole.starts_with(beginning) &&
           (whole.size() == beginning.size() || std::isdigit(static_cast<unsigned char>(whole[beginning.size()])) == 0);
  }
  const auto local = [](std::string_view text) { return text.find('+'); };
  const std::size_t at = local(version);
  if (local(pinned) == std::string_view::npos) return plain_version(version.substr(0, at)) == plain_version(pinned);
  const std::size_t wanted = local(pinned);
  return at != std::string_view::npos && plain_version(version.substr(0, at)) == plain_version(pinned.substr(0, wanted)) &&
         lower(version.substr(at)) == lower(pinned.substr(wanted));
}

std::optional<PinnedPackage> read_pinned(std::string_view requirement) {
  const std::string_view text = trim(requirement.substr(0, requirement.find(';')));
  constexpr std::string_view kMay = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
  const std::size_t end = std::min(text.find_first_not_of(kMay), text.size());
  if (end == 0 || text.front() == '-' || text.find("${{") != std::string_view::npos) return std::nullopt;
  PinnedPackage package;
  for (const char c : lower(text.substr(0, end))) {
    if (c != '-' && c != '_' && c != '.')
      package.name += c;
    else if (!package.name.ends_with('-'))
      package.name += '-';
  }
  std::string_view rest = trim(text.substr(end));
  if (rest.starts_with('[')) {
    const std::size_t close = rest.find(']');
    if (close == std::string_view::npos) return std::nullopt;
    rest = trim(rest.substr(close + 1));
  }
  if (rest.starts_with('@')) return std::nullopt;
  if (!rest.starts_with("==") || rest.find(',') != std::string_view::npos) return package;
  rest.remove_prefix(rest.starts_with("===") ? 3 : 2);
  package.version = trim(rest);
  return package;
}

}  // namespace gpustrap

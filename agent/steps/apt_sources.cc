#include "agent/steps/apt_sources.h"

#include <algorithm>
#include <cctype>
#include <map>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/shown_url.h"

namespace gpustrap {
namespace {

constexpr const char* kParts = "/etc/apt/sources.list.d";

std::string plain_url(std::string_view url) {
  while (url.ends_with('/')) url.remove_suffix(1);
  return std::string(url);
}

std::string plain_suite(std::string_view suite) {
  if (suite.starts_with("./")) suite.remove_prefix(1);
  while (suite.size() > 1 && suite.ends_with('/')) suite.remove_suffix(1);
  return std::string(suite);
}

bool has_suite(const AptPlace& place, const std::string& suite) {
  return std::any_of(place.suites.begin(), place.suites.end(),
                     [&](const std::string& own) { return plain_suite(own) == plain_suite(suite); });
}

/// "deb [arch=amd64 signed-by=/k.gpg] https://… noble main": whether it is of that place.
bool is_entry_of(std::string_view line, const AptPlace& place) {
  line = line.substr(0, line.find('#'));
  std::vector<std::string> parts = words(line);
  if (parts.size() < 3 || (parts[0] != "deb" && parts[0] != "deb-src")) return false;
  std::size_t at = 1;
  if (parts[1].starts_with('[')) {
    while (at < parts.size() && !parts[at].ends_with(']')) ++at;
    ++at;
  }
  return at + 1 < parts.size() && plain_url(parts[at]) == plain_url(place.url) && has_suite(place, parts[at + 1]);
}

std::string lower(std::string_view text) {
  std::string small(text);
  std::transform(small.begin(), small.end(), small.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  return small;
}

/// A deb822 stanza: its lines, as they stand, and its fields.
struct Stanza {
  int first_line = 0;
  std::vector<std::string> lines;
  std::map<std::string, std::string> fields;  ///< names in lower case
};

std::vector<Stanza> stanzas_of(std::string_view text) {
  std::vector<Stanza> stanzas;
  int number = 0;
  std::string field;
  for (const std::string& line : split(text, '\n')) {
    ++number;
    if (trim(line).empty()) {
      stanzas.push_back({number, {line}, {}});
      field.clear();
      continue;
    }
    if (stanzas.empty() || (stanzas.back().lines.size() == 1 && trim(stanzas.back().lines[0]).empty())) stanzas.push_back({number, {}, {}});
    Stanza& stanza = stanzas.back();
    stanza.lines.push_back(line);
    if (line[0] == '#') continue;
    const std::size_t colon = line.find(':');
    if (line[0] == ' ' || line[0] == '\t') {
      if (!field.empty()) stanza.fields[field] += " " + std::string(trim(line));
    } else if (colon != std::string::npos) {
      field = lower(line.substr(0, colon));
      stanza.fields[field] = trim(line.substr(colon + 1));
    }
  }
  return stanzas;
}

}  // namespace

std::string without_one_line_entries(std::string_view text, const AptPlace& place, std::vector<int>& lines) {
  std::vector<std::string> all = split(text, '\n');
  for (std::size_t i = 0; i < all.size(); ++i) {
    if (!is_entry_of(all[i], place)) continue;
    all[i] = "# disabled by gpustrap: " + all[i];
    lines.push_back(static_cast<int>(i) + 1);
  }
  return join(all, "\n");
}

Result<std::string> without_deb822_entries(std::string_view text, const AptPlace& place, std::vector<int>& lines) {
  std::vector<std::string> out;
  for (Stanza& stanza : stanzas_of(text)) {
    const std::string enabled = lower(stanza.fields["enabled"]);
    const bool off = enabled == "no" || enabled == "false" || enabled == "0" || enabled == "off" || enabled == "without";
    const std::vector<std::string> urls = words(stanza.fields["uris"]);
    const std::vector<std::string> suites = words(stanza.fields["suites"]);
    const auto is_ours = [&](const std::string& url) { return plain_url(url) == plain_url(place.url); };
    const auto is_suite = [&](const std::string& suite) { return has_suite(place, suite); };
    const bool named = std::any_of(urls.begin(), urls.end(), is_ours) && std::any_of(suites.begin(), suites.end(), is_suite);
    if (named && !off) {
      if (!std::all_of(urls.begin(), urls.end(), is_ours) || !std::all_of(suites.begin(), suites.end(), is_suite)) {
        return fail(ErrorCode::unsafe, fmt::format("line {} names {} together with other places", stanza.first_line, shown_url(place.url)),
                    "take it out of that entry yourself: apt wants one key for one place");
      }
      std::erase_if(stanza.lines, [](const std::string& line) { return lower(line).starts_with("enabled:"); });
      stanza.lines.insert(stanza.lines.begin(), {"# disabled by gpustrap", "Enabled: no"});
      lines.push_back(stanza.first_line);
    }
    out.insert(out.end(), stanza.lines.begin(), stanza.lines.end());
  }
  return join(out, "\n");
}

Result<std::vector<AptConflict>> conflicting_sources(const Host& host, const AptPlace& place, const std::string& own) {
  std::vector<std::string> paths = {"/etc/apt/sources.list"};
  const Result<std::vector<std::string>> names = host.list(kParts);
  if (!names && names.error().code() != ErrorCode::not_found) return fail(names.error());
  if (names) {
    for (const std::string& name : *names) {
      if (name.ends_with(".list") || name.ends_with(".sources")) paths.push_back(std::string(kParts) + "/" + name);
    }
  }
  std::vector<AptConflict> conflicts;
  for (const std::string& path : paths) {
    if (path == own) continue;
    Result<EditedFile> file = look_at_file(path, host);
    if (!file) return fail(std::move(file).error());
    if (!file->info) continue;
    std::vector<int> lines;
    Result<std::string> text = path.ends_with(".sources") ? without_deb822_entries(file->content, place, lines)
                                                          : without_one_line_entries(file->content, place, lines);
    if (!text) return fail(std::move(text).error().in(path));
    if (lines.empty()) continue;
    std::vector<std::string> numbers;
    numbers.reserve(lines.size());
    for (const int line : lines) numbers.push_back(fmt::format("{}", line));
    conflicts.push_back({*std::move(file), *std::move(text), path + ":" + join(numbers, ",")});
  }
  return conflicts;
}

std::string list_name_prefix(std::string_view url) {
  if (const std::size_t scheme = url.find("://"); scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  std::string name;
  for (const char c : plain_url(url)) {
    // As apt does it: its own separator and what a shell would read are escaped, then slashes become the separator.
    if (c == '/') {
      name += '_';
    } else if (std::string_view("\\|{}[]<>\"^~_=!@#$%^&*").find(c) != std::string_view::npos) {
      name += fmt::format("%{:02x}", static_cast<unsigned char>(c));
    } else {
      name += c;
    }
  }
  return name + "_";
}

}  // namespace gpustrap

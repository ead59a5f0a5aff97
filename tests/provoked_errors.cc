// provoked_errors ROOT FILE: which of the errors that the sources below ROOT can make were made while tests ran that noted them in FILE
// (see note_error in agent/base/result.h). One line for each that was not, then a count; status 1 if there was one.
//
// Counted as provoked besides: defects (`internal`), which no test can bring about; what an end-to-end case looks for in an output, by
// its words or by a row of controller/error_catalogue.cc; and what tests/unprovoked_errors.txt gives a reason for. A reason for something
// that a test does provoke, or that there is no more, counts as one that is missing: the list gets shorter by itself. Not so a reason that
// begins with "sometimes": whether a test provokes that is for a race to decide.
#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <filesystem>
#include <set>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/error_catalogue.h"
#include "tests/support/error_sites.h"

namespace gpustrap {
namespace {

/// There may be more such races than the list knows: a run that misses a few errors says so, and has not failed.
constexpr std::size_t kMayBeMissed = 4;
constexpr std::size_t kLongEnough = 14;  // shorter words stand in many messages

using Place = std::pair<std::string, int>;  // file and line

/// Names in `noted` begin with wherever the compiler found the sources.
std::set<Place> places_in(const std::string& noted) {
  std::set<Place> places;
  for (const std::string& line : split(noted, '\n')) {
    const std::size_t colon = line.rfind(':');
    std::size_t begin = std::max(line.rfind("/agent/") + 1, line.rfind("/controller/") + 1);  // npos + 1 is 0
    if (colon != std::string::npos) places.emplace(line.substr(begin, colon - begin), std::atoi(line.c_str() + colon + 1));
  }
  return places;
}

bool was_provoked(const ErrorSite& site, const std::set<Place>& places) {
  const auto next = places.lower_bound({site.file, site.first_line});
  return next != places.end() && next->first == site.file && next->second <= site.last_line;
}

bool is_a_defect(const ErrorSite& site) {
  return std::all_of(site.codes.begin(), site.codes.end(), [](const std::string& code) { return code == "internal"; });
}

/// What stands in quotes in the scripts of end-to-end cases, where it is long enough to be a message.
std::vector<std::string> words_in_scripts(const std::string& root) {
  std::vector<std::string> words;
  for (const auto& entry : std::filesystem::directory_iterator(root + "/tests/e2e")) {
    const std::string script = read_file(entry.path().string()).value_or("");
    for (const char quote : {'\'', '"'})
      for (const std::string& piece : split(script, quote))
        if (piece.size() >= kLongEnough && piece.find('\n') == std::string::npos && piece.find(' ') != std::string::npos)
          words.push_back(piece);
  }
  return words;
}

/// The words of a message between what is filled in.
std::vector<std::string> fragments_of(std::string says) {
  for (const std::string gap : {"…", " / "})
    for (std::size_t at = says.find(gap); at != std::string::npos; at = says.find(gap, at)) says.replace(at, gap.size(), "\n");
  std::vector<std::string> fragments;
  for (const std::string& piece : split(says, '\n'))
    if (const std::string_view words = trim(piece); words.size() >= kLongEnough) fragments.emplace_back(words);
  return fragments;
}

bool is_looked_for(const ErrorSite& site, const std::vector<std::string>& scripts) {
  const std::vector<std::string> fragments = fragments_of(site.says);
  return std::any_of(fragments.begin(), fragments.end(), [&](const std::string& fragment) {
    return std::any_of(scripts.begin(), scripts.end(), [&](const std::string& words) {
      return words.find(fragment) != std::string::npos || fragment.find(words) != std::string::npos;
    });
  });
}

bool has_a_row_end_to_end(const ErrorSite& site) {
  return std::any_of(error_catalogue().begin(), error_catalogue().end(), [&](const CataloguedError& row) {
    return row.source == site.file && row.test_file.starts_with("tests/e2e/") && site.says.find(row.says) != std::string::npos;
  });
}

/// "file | message | reason", "#" before remarks.
struct Excuse {
  std::string file, says, reason;
  bool is_used = false;
};

std::vector<Excuse> excuses_in(const std::string& text) {
  std::vector<Excuse> excuses;
  for (const std::string& line : split(text, '\n')) {
    const std::size_t first = line.find(" | "), last = line.rfind(" | ");
    if (line.starts_with("#") || first == std::string::npos || last == first) continue;
    excuses.push_back(
        {std::string(line.substr(0, first)), std::string(line.substr(first + 3, last - first - 3)), std::string(line.substr(last + 3))});
  }
  return excuses;
}

int judge(const std::string& root, const std::string& noted) {
  const std::set<Place> places = places_in(noted);
  std::vector<Excuse> excuses = excuses_in(read_file(root + "/tests/unprovoked_errors.txt").value_or(""));
  const std::vector<ErrorSite> sites = error_sites(root);
  const std::vector<std::string> scripts = words_in_scripts(root);
  std::vector<std::string> missed;
  std::size_t provoked = 0, end_to_end = 0, excused = 0, defects = 0;
  for (const ErrorSite& site : sites) {
    const auto excuse =
        std::find_if(excuses.begin(), excuses.end(), [&](const Excuse& of) { return of.file == site.file && of.says == site.says; });
    if (was_provoked(site, places)) {
      if (excuse != excuses.end() && excuse->reason.starts_with("sometimes")) excuse->is_used = true;
      ++provoked;
    } else if (is_looked_for(site, scripts) || has_a_row_end_to_end(site)) {
      ++end_to_end;
    } else if (is_a_defect(site)) {
      ++defects;
    } else if (excuse != excuses.end()) {
      excuse->is_used = true;
      ++excused;
    } else {
      missed.push_back(fmt::format("no test provokes {}:{}: {}", site.file, site.first_line, site.says));
    }
  }
  std::size_t missing = missed.size() > kMayBeMissed ? missed.size() : 0;
  for (const std::string& line : missed) fmt::print("{}  {}\n", missing > 0 ? "FAIL" : "note", line);
  for (const Excuse& excuse : excuses) {
    if (excuse.is_used) continue;
    ++missing;
    fmt::print("FAIL  tests/unprovoked_errors.txt has a reason for what needs none: {} | {}\n", excuse.file, excuse.says);
  }
  fmt::print("{} errors: {} provoked by unit tests, {} end to end, {} defects, {} with a reason, {} missing\n", sites.size(), provoked,
             end_to_end, defects, excused, missed.size());
  return missing == 0 && provoked > 0 ? 0 : 1;
}

}  // namespace
}  // namespace gpustrap

int main(int argc, char** argv) {
  const std::span arguments(argv, static_cast<std::size_t>(argc));
  if (argc != 3) {
    fmt::print(stderr, "usage: provoked_errors ROOT FILE\n");
    return 2;
  }
  const auto noted = gpustrap::read_file(arguments[2]);
  if (!noted) {
    fmt::print(stderr, "provoked_errors: {}\n", noted.error().sentence());
    return 2;
  }
  return gpustrap::judge(arguments[1], *noted);
}

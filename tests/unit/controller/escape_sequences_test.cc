#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "controller/line_printer.h"
#include "controller/screen_text.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::IsSubsetOf;
using ::testing::UnorderedElementsAre;

/// What is between ESC and its end, numbers of rows left out: "[K", "[A", "[31m".
std::set<std::string> sequences_in(const std::string& text) {
  std::set<std::string> found;
  for (std::size_t at = text.find('\x1b'); at != std::string::npos; at = text.find('\x1b', at + 1)) {
    std::size_t end = at + 2;
    while (end < text.size() && (text[end] < '@' || text[end] > '~')) ++end;
    std::string one = text.substr(at + 1, end - at);
    if (one.ends_with('A')) one = "[A";
    found.insert(one);
  }
  return found;
}

// Windows Terminal, macOS Terminal, the Linux console, tmux and xterm all do these alike. Another one needs a reason, and a look there.
TEST(EscapeSequences, AreThoseThatEveryTerminalKnows) {
  std::string written;
  std::size_t columns = 80;
  LinePrinter printer([&](std::string_view text) { written += text; }, [&] { return TerminalSize{columns, 24}; });
  Console console;
  console.colour = true;
  printer.draw({"one", painted(console, kGreen, "two")});
  printer.draw({"one", painted(console, kRed, "2"), "three"});
  printer.record({painted(console, kYellow, "kept")});
  columns = 40;
  printer.draw({painted(console, kCyan, "narrow"), painted(console, kDim, "dim")});
  printer.finish({painted(console, kBold, "end")});
  const std::set<std::string> common = {"[K", "[J", "[A", "[0m", "[1m", "[2m", "[31m", "[32m", "[33m", "[36m"};
  EXPECT_THAT(sequences_in(written), IsSubsetOf(common));
  EXPECT_TRUE(sequences_in(written).contains("[J"));
}

// What prints for itself would not be seen above.
TEST(EscapeSequences, StandInTwoFilesAlone) {
  std::set<std::string> files;
  const std::regex escape(R"re((\\x1[bB]|\\033|\\e\[|\\u001[bB]))re");
  for (const auto& entry : std::filesystem::recursive_directory_iterator(source_folder() + "/controller")) {
    if (!entry.is_regular_file()) continue;
    for (const std::string& line : split(read_file(entry.path().string()).value_or(""), '\n')) {
      if (std::regex_search(line, escape)) files.insert(entry.path().filename().string());
    }
  }
  EXPECT_THAT(files, UnorderedElementsAre("line_printer.cc", "screen_text.cc"));
}

}  // namespace
}  // namespace gpustrap

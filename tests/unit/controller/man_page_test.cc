#include "controller/man_page.h"

#include <gmock/gmock.h>

#include "agent/base/text.h"
#include "controller/command_line.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

std::string hyphens(const std::string& text) {
  std::string roff;
  for (const char c : text) roff += c == '-' ? "\\-" : std::string(1, c);
  return roff;
}

TEST(ManPage, HasEveryVerbAndItsOptions) {
  const std::string page = man_page();
  for (const VerbDescription& verb : describe_verbs()) {
    const std::size_t begins = page.find(".SS \"gpustrap " + verb.name);
    ASSERT_NE(begins, std::string::npos) << verb.name;
    const std::string section = page.substr(begins, page.find("\n.S", begins + 1) - begins);
    for (const OptionDescription& option : verb.options) {
      if (option.name() == "--help") continue;
      EXPECT_THAT(section, HasSubstr(hyphens(option.name()))) << verb.name;
    }
  }
  for (const char* code : {".B 0\ndone", ".B 4\nunreachable", ".B 130\ncancelled"}) EXPECT_THAT(page, HasSubstr(code));
}

TEST(ManPage, HasNoLineThatRoffWouldObeyByAccident) {
  for (const std::string& line : split(man_page(), '\n')) {
    if (line.empty() || (line[0] != '.' && line[0] != '\'')) continue;
    const std::string request = words(line).front();
    EXPECT_THAT(request, ::testing::AnyOf(".\\\"", ".TH", ".SH", ".SS", ".B", ".I", ".RI", ".BR", ".PP", ".TP", ".nf", ".fi")) << line;
  }
}

}  // namespace
}  // namespace gpustrap

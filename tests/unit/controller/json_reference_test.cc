#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "agent/base/file.h"
#include "controller/help_text.h"
#include "controller/options.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

// Whoever adds --json to a verb says in docs/json.md what it prints.
TEST(JsonReference, NamesEveryVerbThatHasIt) {
  std::string headings;
  const std::string document = read_file(source_folder() + "/docs/json.md").value_or("");
  for (std::size_t at = document.find("\n## "); at != std::string::npos; at = document.find("\n## ", at + 1))
    headings += document.substr(at, document.find('\n', at + 1) - at);
  std::vector<std::vector<std::string>> verbs;
  for (const std::string& verb : verb_names()) {
    if (verb != "recipe") verbs.push_back({verb});
  }
  for (const char* verb : {"list", "show", "explain", "lint", "schema", "new", "test"}) verbs.push_back({"recipe", verb});
  std::size_t with_json = 0;
  for (std::vector<std::string> words : verbs) {
    const std::string name = words.size() == 1 ? words[0] : words[0] + " " + words[1];
    words.emplace_back("--help");
    const Result<Options> help = read_options(words);
    ASSERT_TRUE(help) << name;
    if (help->help.find("--json") == std::string::npos) continue;
    ++with_json;
    EXPECT_THAT(headings, HasSubstr("`" + name + "`")) << "docs/json.md has no heading for it";
  }
  EXPECT_GT(with_json, 10U);
}

}  // namespace
}  // namespace gpustrap

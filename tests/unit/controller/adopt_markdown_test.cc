#include "controller/adopt_markdown.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/adopt.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::Not;

std::vector<std::string> commands_in(const std::string& text) {
  std::vector<std::string> lines = split(commands_of_markdown(text).text, '\n');
  std::erase_if(lines, [](const std::string& line) { return line.empty() || line[0] == '#'; });
  return lines;
}

std::vector<std::string> left_in(const std::string& text) {
  std::vector<std::string> left;
  for (const MarkdownCommands::Left& one : commands_of_markdown(text).left)
    left.push_back(fmt::format("{}: {}: {}", one.line, one.what, one.why));
  return left;
}

TEST(AdoptMarkdown, BlocksOfShellTextAreTakenInOrder) {
  for (const char* language : {"bash", "sh", "shell", "console", "zsh", "Bash", "{.bash}", "bash title=\"a\"", "shell-session"})
    EXPECT_THAT(commands_in(fmt::format("# Page\n\nIt's words.\n\n```{}\nmake a\n```\nmore\n```{}\nmake b\n```\n", language, language)),
                ElementsAre("make a", "make b"))
        << language;
  EXPECT_THAT(commands_in("~~~sh\nmake a\n# ```\nmake b\n~~~\n"), ElementsAre("make a", "make b"));
  EXPECT_THAT(commands_in("1. First:\n\n   ```bash\n   cat > a <<END\n     two\n   END\n   ```\n2. ```sh\n   make b\n   ```\n"),
              ElementsAre("cat > a <<END", "  two", "END", "make b"));
  EXPECT_THAT(commands_in("```sh\r\nmake a\r\n```\r\n"), ElementsAre("make a"));
  EXPECT_THAT(commands_in("```sh\nmake a\n"), ElementsAre("make a")) << "a fence that nothing closes ends with the page";
}

TEST(AdoptMarkdown, EachCommandKeepsItsLine) {
  const std::string text =
      "# Page\n\nwords\n\n```bash\nsudo apt-get install -y git\n```\n\n```python\nx = 1\n```\n\n```bash\nmake b\n```\n";
  const std::vector<std::string> lines = split(commands_of_markdown(text).text, '\n');
  EXPECT_EQ(lines.at(5), "sudo apt-get install -y git");
  EXPECT_EQ(lines.at(13), "make b");
  const AdoptedScript adopted = adopt_script(text, "README.md");
  ASSERT_EQ(adopted.reviews.size(), 1U) << adopted.recipe;
  EXPECT_EQ(adopted.reviews[0].script_line, 14);
}

TEST(AdoptMarkdown, WhatIsNoCommandIsLeftAndNamed) {
  EXPECT_THAT(
      left_in("```python\nimport torch\n```\n```\n| 555 |\n```\n```yaml\na: 1\n```\n```\nsudo make\n```\n"),
      ElementsAre("2: a block of python: no shell commands", "5: a block: it names no language, and begins with no command that is known",
                  "8: a block of yaml: no shell commands"));
  EXPECT_THAT(left_in("```bash\nmake a\n```\n```bash\necho 'a\n```\n"),
              ElementsAre("5: a block of bash: line 5: the quote ' is not closed"));
  EXPECT_THAT(left_in("## Uninstall it\n### On Ubuntu\n```bash\nmake a\n```\n## Install\n```bash\nmake b\n```\n"),
              ElementsAre("4: a block of bash: below “Uninstall it”"));
  EXPECT_THAT(commands_in("```bash\nmake a\nimport torch\nprint(torch.__version__)\n→ 2.1\n```\n"), ElementsAre("make a"));
}

TEST(AdoptMarkdown, AnswersAreNoCommands) {
  EXPECT_THAT(commands_in("```console\n$ nvidia-smi\n+---+\n$ mkdir -p \\\n> a\n```\n"), ElementsAre("nvidia-smi", "mkdir -p \\", "a"));
}

TEST(AdoptMarkdown, IsKnownByItsNameOrItsFences) {
  EXPECT_TRUE(is_markdown("words", "setup.md"));
  EXPECT_TRUE(is_markdown("words\n```sh\nmake\n```\n", "the commands"));
  EXPECT_FALSE(is_markdown("#!/bin/sh\ncat > README.md <<END\n```\nmake\n```\nEND\n", "setup"));
  EXPECT_FALSE(is_markdown("cat > README.md <<END\n```\nmake\n```\nEND\n", "the commands"));
  EXPECT_FALSE(is_markdown("make\n", "setup.sh"));
}

TEST(AdoptMarkdown, APageWithoutCommandsIsRefusedWithTheBlockThatItHas) {
  const AdoptedScript adopted = adopt_script("# Page\n```python\nx = 1\n```\n", "README.md");
  EXPECT_EQ(adopted.problem,
            "this is Markdown, and there is no block of shell commands for a host in it: line 3: a block of python, no shell commands");
  EXPECT_THAT(adopted.advice, HasSubstr("```bash"));
  EXPECT_THAT(adopt_script("words\n", "a.md").problem, Not(HasSubstr("line")));
}

TEST(AdoptMarkdown, WhatWasLeftStandsInTheRecipeToo) {
  const AdoptedScript adopted = adopt_script("# Setup\n```bash\nsudo apt-get install -y git\n```\n```python\nx = 1\n```\n", "README.md");
  EXPECT_EQ(adopted.blocks, 1U);
  ASSERT_EQ(adopted.blocks_left.size(), 1U);
  EXPECT_THAT(adopted.recipe, HasSubstr("# Setup\n  - id: apt\n"));
  EXPECT_THAT(adopted.recipe, HasSubstr("# a block of python, line 6   (left out: no shell commands)"));
}

}  // namespace
}  // namespace gpustrap

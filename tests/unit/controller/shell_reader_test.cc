#include "controller/shell_reader.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>
#include <vector>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;

/// "[a b|c]": the words of each statement's commands; `{…}` around what stays text.
std::string outline(const std::string& script) {
  std::string text;
  for (const ShellStatement& statement : read_shell(script)) {
    if (statement.text.empty()) continue;
    if (statement.commands.empty()) {
      text += "{" + statement.text + "}";
      continue;
    }
    text += "[";
    for (const ShellCommand& command : statement.commands) {
      text += command.join == ShellJoin::and_then  ? " && "
              : command.join == ShellJoin::or_else ? " || "
              : command.join == ShellJoin::pipe    ? " | "
                                                   : "";
      std::vector<std::string> parts;
      for (const ShellAssignment& one : command.assignments) parts.push_back(one.name + ":=" + one.value.shown());
      for (const ShellWord& word : command.words) parts.push_back(word.shown());
      for (const ShellRedirect& one : command.redirects)
        parts.push_back(one.op + one.target.shown() + (one.document ? "(" + *one.document + ")" : ""));
      text += join(parts, ",");
    }
    text += statement.background ? "]&" : "]";
  }
  return text;
}

TEST(ShellReader, WordsAndQuotes) {
  EXPECT_EQ(outline("echo a 'b c' \"d e\" f\\ g h\"i\"'j'"), "[echo,a,b c,d e,f g,hij]");
  EXPECT_EQ(outline("echo \"a \\\"b\\\" \\$c \\x\" 'it'\\''s'"), "[echo,a \"b\" $c \\x,it's]");
  EXPECT_EQ(outline("echo a#b # c\necho '' \"\""), "[echo,a#b][echo,,]");
  EXPECT_EQ(outline("conda install \\\n  -y \\\r\n numpy\r\n"), "[conda,install,-y,numpy]");
}

TEST(ShellReader, StatementsEndAtNewlinesSemicolonsAndAmpersands) {
  EXPECT_EQ(outline("a; b\nc & d && e || f | g\n"), "[a][b][c]&[d && e || f | g]");
  EXPECT_EQ(outline("a &&\n  b |\n c"), "[a && b | c]");
  EXPECT_EQ(outline("a && # then\n b"), "[a && b]");
}

TEST(ShellReader, RedirectionsAndHereDocuments) {
  EXPECT_EQ(outline("make >log 2>&1 <in"), "[make,>log,>&1,<in]");
  EXPECT_EQ(outline("echo 2 > a"), "[echo,2,>a]");
  EXPECT_EQ(outline("cat > f <<EOF\na $x\nEOF\nls"), "[cat,>f,<<EOF(a $x\n)][ls]");
  EXPECT_EQ(outline("cat <<-'E F' | sort\n\tone\n\tE F\nls"), "[cat,<<-E F(one\n) | sort][ls]");
  EXPECT_EQ(outline("cat <<A; echo hi\nx\nA\nls"), "{cat <<A; echo hi\nx\nA}[ls]");
  const auto statements = read_shell("cat <<'EOF' > f\n$x\nEOF\ncat <<EOF > g\n$x\nEOF\n");
  ASSERT_EQ(statements.size(), 2U);
  EXPECT_TRUE(statements[0].commands.at(0).redirects.at(0).document_is_plain);
  EXPECT_FALSE(statements[1].commands.at(0).redirects.at(0).document_is_plain);
}

TEST(ShellReader, CompoundCommandsStayWhole) {
  EXPECT_EQ(outline("if a; then\n b\nfi\nc"), "{if a; then\n b\nfi}[c]");
  EXPECT_EQ(outline("for x in 1 2; do if a; then b; fi; done; c"), "{for x in 1 2; do if a; then b; fi; done}[c]");
  EXPECT_EQ(outline("case $x in a) b ;; (c|d) e;; esac\nf"), "{case $x in a) b ;; (c|d) e;; esac}[f]");
  EXPECT_EQ(outline("f() {\n a; b\n}\nf"), "{f() {\n a; b\n}}[f]");
  EXPECT_EQ(outline("f()\n{\n a\n}\nf"), "{f()\n{\n a\n}}[f]");
  EXPECT_EQ(outline("(cd a; b)\nc"), "{(cd a; b)}[c]");
  EXPECT_EQ(outline("a | while read x; do b; done\nc"), "{a | while read x; do b; done}[c]");
  EXPECT_EQ(outline("[[ -e a ]] && b\n! c\nd"), "{[[ -e a ]] && b}{! c}[d]");
  EXPECT_EQ(outline("echo if then fi\nls done"), "[echo,if,then,fi][ls,done]");
}

TEST(ShellReader, WhatIsNotClosedStaysWhole) {
  EXPECT_EQ(outline("a\necho 'b\nc"), "[a]{echo 'b\nc}");
  EXPECT_EQ(outline("a\n\"b"), "[a]{\"b}");
  EXPECT_EQ(outline("a\nif b; then c"), "[a]{if b; then c}");
  EXPECT_EQ(outline("cat <<EOF\nx\n"), "{cat <<EOF\nx}");
  EXPECT_EQ(outline("echo $(a"), "{echo $(a}");
}

TEST(ShellReader, VariablesAndWhatOnlyAShellKnows) {
  const auto words =
      read_shell("x $A/b \"${C}d\" $(e f) `g` ${H:-i} *.j 'k$l' ~/m '~/n' git+https://a/b?c=d[e]").at(0).commands.at(0).words;
  const auto value_of = [](const std::string& name) -> std::optional<std::string> {
    return name == "A" ? std::optional<std::string>("1") : std::nullopt;
  };
  std::vector<std::string> known;
  for (const ShellWord& word : words) known.push_back(word.expanded(value_of).value_or("?"));
  EXPECT_THAT(known, ElementsAre("x", "1/b", "?", "?", "?", "?", "?", "k$l", "~/m", "?", "git+https://a/b?c=d[e]"));
  EXPECT_EQ(words[3].shown(), "$(e f)");
}

TEST(ShellReader, AssignmentsStandBeforeTheCommand) {
  EXPECT_EQ(outline("A=1 B=\"x y\" make C=2"), "[A:=1,B:=x y,make,C=2]");
  EXPECT_EQ(outline("A=$(pwd)"), "[A:=$(pwd)]");
}

TEST(ShellReader, CommentsAreKept) {
  const auto statements = read_shell("#!/bin/sh\n# first\n\na # why\n# last\n");
  ASSERT_EQ(statements.size(), 2U);
  EXPECT_THAT(statements[0].comments, ElementsAre("!/bin/sh", " first", " why"));
  EXPECT_EQ(statements[0].line, 4);
  EXPECT_EQ(statements[0].text, "a");
  EXPECT_THAT(statements[1].comments, ElementsAre(" last"));
}

TEST(ShellReader, FindsCommandsInsideOfCompoundOnes) {
  std::vector<std::string> programs;
  for (const FoundCommand& found :
       find_commands("if test -e a; then sudo b | c; else (d && e) & fi; for x in f g; do h; done; k() { l; }")) {
    if (!found.command.words.empty()) programs.push_back(found.command.words[0].shown());
  }
  EXPECT_THAT(programs, ElementsAre("test", "sudo", "c", "d", "e", "x", "h", "k", "l"));
}

TEST(ShellReader, LooksThroughWhatOnlyRunsACommand) {
  const auto bare = [](const std::string& text) { return bare_command(read_shell(text).at(0).commands.at(0)); };
  EXPECT_EQ(bare("sudo -E -u lab env A=1 nohup make all").words.at(0).shown(), "make");
  EXPECT_EQ(bare("sudo -E -u lab env A=1 nohup make all").user, "lab");
  EXPECT_EQ(bare("sudo A=1 make").assignments.size(), 1U);
  EXPECT_TRUE(bare("sudo make").sudo);
  EXPECT_FALSE(bare("sudo -i").understood);
  EXPECT_TRUE(bare("sudo").words.empty());
}

}  // namespace
}  // namespace gpustrap

#include "controller/adopt_arguments.h"

#include <gtest/gtest.h>

#include <optional>
#include <string>
#include <vector>

namespace gpustrap {
namespace {

std::string filled(const std::string& text, const std::vector<std::optional<std::string>>& arguments) {
  return with_arguments(text, arguments).value_or("only a shell knows");
}

struct Fill {
  const char* text;
  std::vector<std::optional<std::string>> arguments;
  const char* result;
};

TEST(AdoptArguments, StandWhereAShellPutsThem) {
  for (const Fill& one : {
           Fill{"make $1 \"$2\" ${3}", {"a", "b", "c"}, "make a \"b\" c"},
           Fill{"make \"$1\"", {"a b$c\"`"}, "make \"a b\\$c\\\"\\`\""},
           Fill{"make $1", {"a b"}, "make a b"},  // a shell splits it
           Fill{"x=$1 y=\"$1\"", {"a b"}, "x='a b' y=\"a b\""},
           Fill{"[[ $1 == x ]] && make $1", {""}, "[[ '' == x ]] && make "},
           Fill{"make '$1' \\$1 # $1", {"a"}, "make '$1' \\$1 # $1"},
           Fill{"make ${1:-x} ${2:-y} ${3-z} ${2:+w}", {"a", ""}, "make a y z "},
           Fill{"make \"$@\"", {"a", "b c"}, "make \"a\" \"b c\""},
           Fill{"make \"$@\" end", {}, "make  end"},
           Fill{"make \"$*\" $#", {"a", "b"}, "make \"a b\" 2"},
           Fill{"make \"${@:2}\"", {"a", "b", "c"}, "make \"b\" \"c\""},
           Fill{"echo \"$(make \"$1\")\"", {"a"}, "echo \"$(make \"a\")\""},
           Fill{"cat <<END\n$1 \"$2\"\nEND\nmake $1", {"a", "b$"}, "cat <<END\na \"b\\$\"\nEND\nmake a"},
           Fill{"cat <<'END'\n$1\nEND\nmake $1", {"a"}, "cat <<'END'\n$1\nEND\nmake a"},
           Fill{"case $1 in a) make a;; esac; make $1", {"a"}, "case a in a) make a;; esac; make a"},
           Fill{"cd \"$1/x\"", {"~/d"}, "cd \"${HOME}/d/x\""},
           Fill{"make $1", {";reboot"}, "make ';reboot'"},
           Fill{"make ${#x} ${x#$1} $((1 + $1))", {"2"}, "make ${#x} ${x#2} $((1 + 2))"},
       })
    EXPECT_EQ(filled(one.text, one.arguments), one.result) << one.text;
}

TEST(AdoptArguments, WhatOnlyAShellKnowsIsNotFilledIn) {
  for (const Fill& one : {
           Fill{"shift; make $1", {"a", "b"}, ""},
           Fill{"set -- $1; make $1", {"a"}, ""},
           Fill{"for x; do make $x; done", {"a"}, ""},
           Fill{"make ${1%.d}", {"a.d"}, ""},
           Fill{"make ${#1}", {"a"}, ""},
           Fill{"make ${!1}", {"a"}, ""},
           Fill{"make $1", {std::nullopt}, ""},
           Fill{"make \"$@\"", {"a", std::nullopt}, ""},
           Fill{"make $1", {"a;b c"}, ""},
           Fill{"g() { make $1; }; g $1", {"a"}, ""},
       })
    EXPECT_EQ(filled(one.text, one.arguments), "only a shell knows") << one.text;
  EXPECT_EQ(with_arguments("make $1", {}, MissingArgument::unknown), std::nullopt);
  EXPECT_EQ(with_arguments("make ${1:-a} $#", {}, MissingArgument::unknown), "make a 0");
}

TEST(AdoptArguments, TheFirstIsNamed) {
  EXPECT_EQ(argument_in("make a ${2:-b} $1"), "${2:-b}");
  EXPECT_EQ(argument_in("awk '{print $1}' # $1"), "");
}

}  // namespace
}  // namespace gpustrap

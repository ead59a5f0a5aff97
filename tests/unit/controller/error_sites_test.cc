#include "tests/support/error_sites.h"

#include <gmock/gmock.h>

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

ErrorSite only_site(std::string_view text) {
  const std::vector<ErrorSite> sites = error_sites_in("a.cc", text);
  EXPECT_THAT(sites, SizeIs(1)) << text;
  return sites.empty() ? ErrorSite{} : sites.front();
}

TEST(ErrorSites, AreWhereACodeIsAnErrorsFirstArgument) {
  EXPECT_THAT(only_site("fail(ErrorCode::io, \"a\")").codes, ElementsAre("io"));
  EXPECT_THAT(only_site("x = Error(ErrorCode::tls, why);").codes, ElementsAre("tls"));
  EXPECT_THAT(only_site("return {ErrorCode::usage, \"b\", \"c\"};").codes, ElementsAre("usage"));
  EXPECT_THAT(only_site("return {bad ? ErrorCode::tls : ErrorCode::network, line};").codes, ElementsAre("tls", "network"));
}

TEST(ErrorSites, AreNotWhereACodeIsAskedFor) {
  for (const char* text : {"if (e.code() == ErrorCode::io) f(a, b);", "// fail(ErrorCode::io, \"a\")", "f(\"fail(ErrorCode::io, \");",
                           "ErrorText{ErrorCode::io, \"a\"}", "put(a, ErrorCode::io, b);", "case ErrorCode::io: return 4;"})
    EXPECT_THAT(error_sites_in("a.cc", text), IsEmpty()) << text;
}

TEST(ErrorSites, SpanTheirBrackets) {
  const ErrorSite site = only_site("\n// (\nreturn fail(\n    ErrorCode::io,\n    f(\")\"),\n    \"do\");\n");
  EXPECT_EQ(site.first_line, 3);
  EXPECT_EQ(site.last_line, 6);
  EXPECT_EQ(site.says, "…");
  EXPECT_EQ(site.todo, "do");
}

TEST(ErrorSites, SayWhatPeopleRead) {
  const auto said = [](const std::string& expression) { return only_site("fail(ErrorCode::io, " + expression + ")").says; };
  EXPECT_EQ(said("\"one \" \"two\""), "one two");
  EXPECT_EQ(said("fmt::format(\"{} of {{x}} is `{}`\", join(a, \", \"), b)"), "… of {x} is `…`");
  EXPECT_EQ(said("\"it is \" + quote_value(x, \"?\") + \", not y\""), "it is …, not y");
  EXPECT_EQ(said("is_here ? \"one\" : fmt::format(\"no {}\", name)"), "one / no …");
  EXPECT_EQ(said("std::string(\"a\") + 'b' + R\"(c\"d)\""), "a…c\"d");
  EXPECT_EQ(said("\"a\\nb \\\"c\\\"\""), "a b \"c\"");
  EXPECT_EQ(said("why"), "…");
  EXPECT_EQ(said("\"takes \" + (many ? \"two\" : \"one\")"), "takes two / one");
}

TEST(ErrorSites, AConstantOfTheFileIsItsText) {
  EXPECT_EQ(only_site("constexpr char kWhy[] = \"it \" \"rains\";\nfail(ErrorCode::io, kWhy)").says, "it rains");
  EXPECT_EQ(only_site("constexpr std::string_view kDo = \"wait\";\nfail(ErrorCode::io, why, \"or: \" + std::string(kDo))").todo,
            "or: wait");
}

TEST(ErrorSites, TextThatIsNoProgramDoesNoHarm) {
  for (const char* text :
       {"fail(ErrorCode::io, ", "\"", "R\"(", "ErrorCode::io,", ")))(ErrorCode::io, a)", "'", "fail(ErrorCode::io, \"\\"})
    (void)error_sites_in("a.cc", text);
  std::string deep = "fail(ErrorCode::io, ";
  deep.append(1000, '(');
  EXPECT_THAT(error_sites_in("a.cc", deep), IsEmpty());
}

}  // namespace
}  // namespace gpustrap

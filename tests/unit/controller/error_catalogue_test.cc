#include "controller/error_catalogue.h"

#include <gmock/gmock.h>

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <map>
#include <set>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "tests/support/error_sites.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

const std::string& text_of(std::string_view path) {
  static std::map<std::string, std::string> texts;
  std::string& text = texts[std::string(path)];
  if (text.empty()) text = read_file(source_folder() + "/" + std::string(path)).value_or("");
  return text;
}

/// "agent/steps/" before "agent/": the first that fits counts.
constexpr std::array<std::pair<std::string_view, std::string_view>, 4> kParts = {
    {{"agent/steps/", "Of a step"}, {"agent/", "Of the agent"}, {"controller/cloud/", "Of EC2"}, {"controller/", "Of the controller"}}};

std::string cell(std::string text) {
  for (std::size_t at = text.find('|'); at != std::string::npos; at = text.find('|', at + 2)) text.insert(at, "\\");
  for (std::size_t at = text.find('<'); at != std::string::npos; at = text.find('<', at + 2)) text.insert(at, "\\");
  return text;
}

/// Every error that the sources make, by its words.
std::string every_message() {
  const std::vector<ErrorSite> sites = error_sites(source_folder());
  std::string text =
      "\n## Every message\n\nMade of the sources: what gpustrap itself says, with “…” for what is filled in and “ / ” between wordings "
      "that a "
      "condition\nchooses. Before it stands what was being done. A call of the system that fails is told in the system's own words.\n";
  std::set<const ErrorSite*> listed;
  std::size_t passed_on = 0;
  for (const auto& [folder, title] : kParts) {
    std::set<std::string> rows;
    for (const ErrorSite& site : sites) {
      if (!site.file.starts_with(folder) || !listed.insert(&site).second) continue;
      const bool has_words = std::any_of(site.says.begin(), site.says.end(), [](char c) { return c >= 'a' && c <= 'z'; });
      if (has_words)
        rows.insert(fmt::format("| {} | {} | {} |\n", cell(site.says), join(site.codes, ", "), cell(site.todo)));
      else
        ++passed_on;
    }
    text += fmt::format("\n### {}\n\n| it says | kind | what to do |\n|---|---|---|\n", title);
    for (const std::string& row : rows) text += row;
  }
  return text + fmt::format("\nAt {} more places gpustrap passes on what another program or a server said.\n", passed_on);
}

TEST(ErrorCatalogue, TheDocumentIsUpToDate) {
  const std::string document = error_catalogue_document() + every_message();
  const std::string path = source_folder() + "/docs/errors.md";
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    ASSERT_TRUE(write_file_atomically(path, document));
    return;
  }
  EXPECT_EQ(text_of("docs/errors.md"), document)
      << "docs/errors.md is stale; write it again with\n"
         "  GPUSTRAP_UPDATE_GOLDEN=1 build/debug/unit_controller --gtest_filter='ErrorCatalogue.*'";
}

TEST(ErrorCatalogue, EveryMessageStandsInItsSource) {
  for (const CataloguedError& error : error_catalogue()) {
    ASSERT_FALSE(text_of(error.source).empty()) << error.source << " is not there: " << error.what;
    EXPECT_NE(text_of(error.source).find(error.says), std::string::npos) << error.source << " does not say `" << error.says << "` any more";
    EXPECT_FALSE(error.todo.empty()) << error.what;
  }
}

TEST(ErrorCatalogue, EveryMessageIsProvokedByATest) {
  for (const CataloguedError& error : error_catalogue()) {
    ASSERT_FALSE(text_of(error.test_file).empty()) << error.test_file << " is not there: " << error.what;
    EXPECT_NE(text_of(error.test_file).find(error.test), std::string::npos)
        << error.test_file << " has no test `" << error.test << "`, which is to provoke: " << error.what;
  }
}

TEST(ErrorCatalogue, ExitCodesAreThoseOfTheCommand) {
  for (const CataloguedError& error : error_catalogue()) {
    if (!error.code) continue;
    const bool of_step = error.source.starts_with("agent/") && error.exit == ExitCode::step_failed;
    EXPECT_EQ(error.exit, of_step ? ExitCode::step_failed : exit_code_of(*error.code)) << error.what;
  }
}

TEST(ErrorCatalogue, HasEveryCodeAndEveryExit) {
  const auto has_code = [](ErrorCode code) {
    return std::any_of(error_catalogue().begin(), error_catalogue().end(),
                       [&](const CataloguedError& error) { return error.code == code; });
  };
  for (int code = 0; code <= static_cast<int>(ErrorCode::internal); ++code)
    EXPECT_TRUE(has_code(static_cast<ErrorCode>(code))) << error_code_name(static_cast<ErrorCode>(code));
  for (const ExitCode exit :
       {ExitCode::step_failed, ExitCode::usage, ExitCode::plan_changes, ExitCode::unreachable, ExitCode::host_key, ExitCode::authentication,
        ExitCode::cloud, ExitCode::not_proven, ExitCode::detached, ExitCode::busy, ExitCode::cancelled}) {
    EXPECT_TRUE(std::any_of(error_catalogue().begin(), error_catalogue().end(), [&](const CataloguedError& error) {
      return error.exit == exit;
    })) << static_cast<int>(exit);
  }
}

}  // namespace
}  // namespace gpustrap

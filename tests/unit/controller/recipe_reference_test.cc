#include "controller/recipe_reference.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdlib>
#include <fstream>
#include <string>

#include "agent/base/file.h"
#include "agent/protocol/step_spec.h"
#include "controller/recipe_loader.h"
#include "tests/support/folders.h"

namespace gpustrap {
namespace {

using ::testing::HasSubstr;

const std::string kDocument = source_folder() + "/docs/recipes.md";
constexpr std::string_view kMarker =
    "<!-- Everything below is made from agent/protocol/step_spec.h; the test RecipeReference says how. -->\n\n";

TEST(RecipeReference, TheDocumentIsUpToDate) {
  const std::string document = read_file(kDocument).value_or("");
  const std::size_t marker = document.find(kMarker);
  ASSERT_NE(marker, std::string::npos) << kDocument << " has lost its marker: " << kMarker;
  const std::string wanted = document.substr(0, marker + kMarker.size()) + recipe_reference();
  if (std::getenv("GPUSTRAP_UPDATE_GOLDEN") != nullptr) {
    std::ofstream(kDocument) << wanted;
    return;
  }
  EXPECT_EQ(document, wanted) << "docs/recipes.md is stale; write it again with\n"
                                 "  GPUSTRAP_UPDATE_GOLDEN=1 build/debug/unit_controller --gtest_filter='RecipeReference.*'";
}

/// The blocks that are marked as whole recipes must load.
TEST(RecipeReference, ExamplesOfTheDocumentLoad) {
  const std::string document = read_file(kDocument).value_or("");
  std::size_t examples = 0;
  for (std::size_t at = document.find("```yaml\nname:"); at != std::string::npos; at = document.find("```yaml\nname:", at)) {
    at += 8;
    const std::string path = ::testing::TempDir() + "gpustrap_example_" + std::to_string(examples++) + ".yaml";
    std::ofstream(path) << document.substr(at, document.find("\n```\n", at) + 1 - at);
    const auto loaded = load_recipe(path, {});
    EXPECT_TRUE(loaded.has_value()) << loaded.error().why();
    (void)std::remove(path.c_str());
  }
  EXPECT_GE(examples, 2U);
}

TEST(ExplainKind, NamesEveryField) {
  for (const std::string& name : step_kind_names()) {
    const auto text = explain_kind(name);
    ASSERT_TRUE(text.has_value());
    for (const FieldDoc& field : describe_step_kind(*step_kind_from_name(name)).fields) EXPECT_THAT(*text, HasSubstr("\n  " + field.name));
  }
  const auto unknown = explain_kind("jupiter");
  ASSERT_FALSE(unknown.has_value());
  EXPECT_EQ(unknown.error().why(), "there is no kind `jupiter`; did you mean `jupyter`?");
}

}  // namespace
}  // namespace gpustrap

#include "controller/machine_choice.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <fstream>

#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

class MachineChoiceTest : public ::testing::Test {
 protected:
  Result<GpuNeed> check(const std::string& steps, const std::vector<std::string>& types) {
    std::ofstream(folder_ / "one.yaml") << "name: one\nsteps:\n" + steps;
    Options options;
    options.recipe = folder_ / "one.yaml";
    options.cloud.types = types;
    const Result<Machines> machines = machines_of(options);
    if (!machines) return fail(machines.error());
    return check_recipe(options, *machines);
  }
  TemporaryDirectory folder_;
};

TEST_F(MachineChoiceTest, EveryTypeThatMayBeTakenIsCheckedAgainstTheRecipe) {
  const std::string cuda9 = "  - nvidia_driver: {}\n  - cuda: { version: \"9.0\" }\n",
                    cuda11 = "  - nvidia_driver: {}\n  - cuda: { version: \"11.1\" }\n";
  EXPECT_THAT(check(cuda9, {"g4dn.xlarge"}).error().why(), HasSubstr("would fail on g4dn.xlarge"));
  ASSERT_TRUE(check(cuda11, {"g4dn.xlarge"})) << check(cuda11, {"g4dn.xlarge"}).error().sentence();
  const Result<GpuNeed> second = check(cuda11, {"g4dn.xlarge", "g6.xlarge"});  // an L4 knows no CUDA before 11.8
  ASSERT_FALSE(second) << "only the first was looked at";
  EXPECT_THAT(second.error().why(), AllOf(HasSubstr("would fail on g6.xlarge"), HasSubstr("so it is not rented")));
  EXPECT_THAT(second.error().hint(), HasSubstr("--gpu l4"));
}

TEST_F(MachineChoiceTest, ARecipeThatNeedsAGpuIsNotRentedATypeWithoutOne) {
  for (const char* steps : {"  - nvidia_driver: {}\n", "  - nvidia_smi: {}\n", "  - require: { gpu: true }\n",
                            "  - nvidia_driver: {}\n  - cuda: { version: \"12.4\" }\n"}) {
    const Result<GpuNeed> none = check(steps, {"m7i.large"});
    ASSERT_FALSE(none) << steps;
    EXPECT_EQ(none.error().code(), ErrorCode::recipe);
    EXPECT_THAT(none.error().why(), AllOf(HasSubstr("needs a GPU"), HasSubstr("m7i.large has none"), HasSubstr("so it is not rented")))
        << steps;
    EXPECT_THAT(none.error().hint(), HasSubstr("--gpu t4"));
    EXPECT_THAT(check(steps, {"g6f.large"}).error().why(), HasSubstr("g6f.large has a part of one"));
    EXPECT_EQ(check(steps, {"x99.large"}).value_or(GpuNeed::never), GpuNeed::always) << "not known here: EC2 says what it has";
  }
  EXPECT_THAT(check("  - nvidia_driver: {}\n", {"g4dn.xlarge", "m7i.large"}).error().why(), HasSubstr("m7i.large"));
}

TEST_F(MachineChoiceTest, ARecipeThatAsksWhetherThereIsAGpuRunsWithoutOne) {
  EXPECT_EQ(check("  - nvidia_driver: {}\n    when: { gpu: true }\n", {"m7i.large"}).value_or(GpuNeed::always), GpuNeed::never);
  EXPECT_EQ(check("  - file: { path: /etc/x, content: y }\n", {"m7i.large", "g6f.large"}).value_or(GpuNeed::always), GpuNeed::never);
}

TEST(MachineWords, AGpuThatComesInOtherNumbersIsNamedInThose) {
  Options options;
  options.gpus = {"a100"};
  EXPECT_THAT(machines_of(options).error().hint(), HasSubstr("--gpu 8xa100"));
  options.gpus = {"2xt4"};
  EXPECT_THAT(machines_of(options).error().hint(), AllOf(HasSubstr("--gpu t4"), HasSubstr("--gpu 4xt4")));
  options.gpus = {"k80"};
  EXPECT_THAT(machines_of(options).error().why(), HasSubstr("EC2 has retired its machines"));
  options.gpus = {"4xa10g"};
  options.cloud.types = {"g5"};
  EXPECT_EQ(machines_of(options).error().code(), ErrorCode::usage);
  EXPECT_EQ(machines_of(options).error().why(), "--type g5: a type has a size");
  EXPECT_EQ(machines_of(options).error().hint(), "for instance --type g5.xlarge");
  options.cloud.types.clear();
  EXPECT_THAT(machines_of(options)->types, ElementsAre("g5.12xlarge"));
}

}  // namespace
}  // namespace gpustrap

#include "controller/complaint.h"

#include <gtest/gtest.h>

namespace gpustrap {
namespace {

TEST(Complaint, SaysWhatAndThenWhatToDo) {
  const Error error(ErrorCode::unreachable, "no route", "is it running?");
  EXPECT_EQ(complaint(error, "", 0), "gpustrap: no route\n  is it running?\n");
  EXPECT_EQ(complaint(Error(ErrorCode::unreachable, "no route"), "", 0), "gpustrap: no route\n");
}

TEST(Complaint, NamesTheHostInTheAgentsAdvice) {
  const Error error(ErrorCode::busy, "d2l runs there", "follow it with `gpustrap attach HOST`, or: gpustrap cancel HOST");
  EXPECT_EQ(complaint(error, "ubuntu@gpu1", 0),
            "gpustrap: d2l runs there\n  follow it with `gpustrap attach ubuntu@gpu1`, or: gpustrap cancel ubuntu@gpu1\n");
  EXPECT_EQ(complaint(error, "", 0).find("ubuntu"), std::string::npos);
  const Error example(ErrorCode::usage, "two words", "write ubuntu@HOST, or HOSTS");
  EXPECT_EQ(complaint(example, "gpu1", 0), "gpustrap: two words\n  write ubuntu@HOST, or HOSTS\n");
}

TEST(Complaint, BreaksLinesBetweenWords) {
  const Error error(ErrorCode::authentication, "gpu1 does not let ubuntu in", "is the key right, and the user?\nssh -v gpu1 says more");
  EXPECT_EQ(complaint(error, "", 24),
            "gpustrap: gpu1 does not\n  let ubuntu in\n  is the key right, and\n  the user?\n  ssh -v gpu1 says more\n");
}

TEST(Complaint, ManyProblemsBeginWithTheirPlace) {
  const Error error(ErrorCode::recipe, "lab.yaml:1:7: this says more than fits in forty columns\nlab.yaml:2:1: that",
                    "2 problems; nothing was changed");
  EXPECT_EQ(complaint(error, "gpu1", 41),
            "lab.yaml:1:7: this says more than fits in forty columns\nlab.yaml:2:1: that\ngpustrap: 2 problems; nothing was changed\n");
}

TEST(Complaint, TakesControlCharactersOut) {
  const Error error(ErrorCode::protocol, "it said \x1b[31mred\a", "\x1b]0;title\alook");
  const std::string text = complaint(error, "", 0);
  EXPECT_EQ(text.find('\x1b'), std::string::npos);
  EXPECT_EQ(text.find('\a'), std::string::npos);
}

TEST(Complaint, ProgramsGetTheSameInParts) {
  const Json document = error_document(Error(ErrorCode::usage, "it said \x1b[31mred", "look\xff"));
  EXPECT_EQ(document.dump(), R"({"code":"usage","message":"it said red","hint":"look�"})");
}

}  // namespace
}  // namespace gpustrap

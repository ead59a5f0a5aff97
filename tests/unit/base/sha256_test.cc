#include "agent/base/sha256.h"

#include <gtest/gtest.h>

#include "agent/base/result.h"

namespace gpustrap {
namespace {

TEST(Sha256, MatchesThePublishedVectors) {
  // FIPS 180-4 examples.
  EXPECT_EQ(sha256_hex(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(sha256_hex("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha256, StartsAfreshAfterHex) {
  Sha256 digest;
  digest.add("noise");
  (void)digest.hex();
  digest.add("a");
  digest.add("bc");
  EXPECT_EQ(digest.hex(), sha256_hex("abc"));
}

TEST(Error, ReadsFromTheOutsideIn) {
  const Error error = Error(ErrorCode::permission, "Permission denied").in("reading motd").in("checking file:motd");
  EXPECT_EQ(error.sentence(), "checking file:motd: reading motd: Permission denied");
}

TEST(Error, EveryCodeHasANameThatComesBack) {
  for (int i = 0; i <= static_cast<int>(ErrorCode::internal); ++i) {
    const auto code = static_cast<ErrorCode>(i);
    EXPECT_EQ(error_code_from_name(error_code_name(code)), code);
  }
}

}  // namespace
}  // namespace gpustrap

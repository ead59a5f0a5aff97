#include "agent/openpgp_key.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <string>

#include "tests/support/fake_gpu_host.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// A primary key packet in the old format that holds `body`.
std::string old_packet(const std::string& body) {
  return std::string{'\x99', static_cast<char>(body.size() >> 8U), static_cast<char>(body.size() & 0xFFU)} + body;
}

TEST(OpenPgpKey, ReadsAnArmouredKeyAsGpgDoes) {
  const auto fingerprints = key_fingerprints(kStandInKey);
  ASSERT_TRUE(fingerprints.has_value()) << fingerprints.error().sentence();
  EXPECT_THAT(*fingerprints, ElementsAre(kStandInFingerprint));
}

TEST(OpenPgpKey, SeesEveryKeyOfAFile) {
  const auto fingerprints = key_fingerprints(std::string(kStandInKey) + kStandInKey);
  ASSERT_TRUE(fingerprints.has_value());
  EXPECT_THAT(*fingerprints, ElementsAre(kStandInFingerprint, kStandInFingerprint));
}

TEST(OpenPgpKey, ReadsBothFormatsOfPackets) {
  const std::string body("\x04key", 4);
  const auto old_format = key_fingerprints(old_packet(body));
  ASSERT_TRUE(old_format.has_value()) << old_format.error().sentence();
  // A new-format packet of the same body, after a packet of another kind (13, a user's name).
  const auto new_format = key_fingerprints(std::string("\xcd\x02hi\xc6\x04", 6) + body);
  ASSERT_TRUE(new_format.has_value()) << new_format.error().sentence();
  EXPECT_EQ(*old_format, *new_format);
  const std::string large = '\x04' + std::string(9000, 'k');
  ASSERT_TRUE(key_fingerprints(old_packet(large)).has_value());
  EXPECT_EQ(*key_fingerprints(std::string("\xc6\xff\x00\x00\x23\x29", 6) + large), *key_fingerprints(old_packet(large)));
}

TEST(OpenPgpKey, RefusesWhatIsNone) {
  for (const std::string& file : {std::string("<html>"), std::string(), std::string("\x99\x02\x0d cut"), old_packet("\x03old")}) {
    const auto fingerprints = key_fingerprints(file);
    ASSERT_FALSE(fingerprints.has_value());
    EXPECT_THAT(fingerprints.error().why(), HasSubstr("it is no OpenPGP public key"));
  }
}

}  // namespace
}  // namespace gpustrap

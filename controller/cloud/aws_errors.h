#pragma once

#include <chrono>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>

#include <tl/expected.hpp>

#include "agent/base/result.h"

namespace gpustrap {

/// A call that failed: AWS's own code to branch on, and the error in words.
struct AwsFailure {
  std::string code;  ///< "InvalidGroup.Duplicate"; empty where no answer came
  Error error;
};
template <class T> using AwsResult = tl::expected<T, AwsFailure>;

/// The error alone, for who does not branch on AWS's codes.
template <class T> [[nodiscard]] Result<T> without_code(AwsResult<T> result) {
  if (!result) return fail(std::move(result).error().error);
  if constexpr (std::is_void_v<T>)
    return {};
  else
    return *std::move(result);
}

/// What to do about an error without a person.
enum class AwsRemedy {
  none,
  throttled,  ///< ask again, slower
  soon,       ///< AWS's own trouble: ask again
  new_keys,   ///< keys that have expired: fetch others, once
  clock,      ///< a time that AWS does not accept: correct it by AWS's own, once
  elsewhere,  ///< another zone or type may have what this one has not
  not_yet,    ///< what was made a moment ago is not known everywhere yet
};
[[nodiscard]] AwsRemedy remedy_of(std::string_view code, int status);

/// What AWS answered, and what it was asked.
struct AwsRefusal {
  std::string code, message;
  int status = 0;
  std::string service, action, region;
  std::string keys_from;                     ///< "the profile lab"
  std::optional<std::chrono::seconds> skew;  ///< how far this machine's clock is ahead of AWS's
};
/// In words: the cause, what AWS said, what to do.
[[nodiscard]] AwsFailure explain_refusal(const AwsRefusal& refusal);

/// "4 minutes behind AWS's", "2 hours ahead of AWS's".
[[nodiscard]] std::string skew_text(std::chrono::seconds ahead);

}  // namespace gpustrap

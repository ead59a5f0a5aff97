#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"

namespace gpustrap {

/// Reads the members of one JSON object that a peer sent. The first thing wrong is kept; later calls then do nothing, so a
/// caller reads all members and asks once. Members that nobody asks for are ignored: a newer peer may say more.
class Members {
 public:
  enum class Wanted { required, optional };

  /// `what` names the object in errors: "step_finished", "facts". `document` must outlive this.
  Members(const Json& document, std::string what);

  template <class T> void must(const char* name, T& value) { take(name, Wanted::required, value); }
  template <class T> void may(const char* name, T& value) { take(name, Wanted::optional, value); }
  /// A required text that is one of `names`, which are in the order of the enum.
  template <class Enum> void one_of(const char* name, const std::vector<std::string>& names, Enum& value) {
    if (const auto index = index_of(name, names)) value = static_cast<Enum>(*index);
  }
  /// Calls `read` for each element of an array, until one returns an error.
  void each(const char* name, Wanted wanted, const std::function<std::optional<Error>(const Json&)>& read);
  /// An object or array to read by other means; nullptr where absent or where something was wrong before.
  [[nodiscard]] const Json* find(const char* name, Wanted wanted);
  void fail_with(Error error);

  [[nodiscard]] const std::optional<Error>& error() const { return error_; }

 private:
  [[nodiscard]] std::optional<std::size_t> index_of(const char* name, const std::vector<std::string>& names);
  void take(const char* name, Wanted wanted, std::string& value);
  void take(const char* name, Wanted wanted, bool& value);
  void take(const char* name, Wanted wanted, std::int64_t& value);
  void take(const char* name, Wanted wanted, std::uint64_t& value);
  void take(const char* name, Wanted wanted, std::chrono::milliseconds& value);
  void take(const char* name, Wanted wanted, std::vector<std::string>& value);
  void wrong(const char* name, std::string_view expected);

  const Json& document_;
  std::string what_;
  std::optional<Error> error_;
};

}  // namespace gpustrap

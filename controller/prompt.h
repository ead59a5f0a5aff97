#pragma once

#include <optional>
#include <string>

namespace gpustrap {

// Questions to the person at the terminal, over /dev/tty, so that redirected output does not hide them.

/// Whether there is a terminal to ask at.
[[nodiscard]] bool can_ask();
/// A yes only for "y" or "yes".
[[nodiscard]] bool ask_yes_no(const std::string& question);
/// What was typed, without showing it; nullopt where nobody answered or Ctrl-C was pressed. The terminal's echo is back on every way out.
[[nodiscard]] std::optional<std::string> ask_secret(const std::string& question);

/// Whoever is asked: the person at the terminal, or somebody who asks that person for many hosts, one question after the other.
class Person {
 public:
  virtual ~Person() = default;
  [[nodiscard]] virtual bool is_there() = 0;
  /// A yes only where it was said.
  [[nodiscard]] virtual bool yes_no(const std::string& question) = 0;
  /// nullopt where nobody answered.
  [[nodiscard]] virtual std::optional<std::string> secret(const std::string& question) = 0;
};

}  // namespace gpustrap

#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

// What probe.sh has seen of a host, in sections. The host is not trusted: sizes are bounded, names are plain, text is free of control
// characters.

struct Section {
  /// Exit statuses that say that nothing was seen.
  static constexpr int kNotPermitted = 77, kLate = 124, kUnanswered = 125, kNotRun = 126, kAbsent = 127;
  std::string name;
  int status = 0;  ///< of the command; 255 where it is not known
  std::string text;
  /// Whether the question was asked and came to its end. Else what is missing in the text is no evidence of anything.
  [[nodiscard]] bool is_answered() const { return status != kLate && status != kUnanswered && status != 137; }
};

class Evidence {
 public:
  static constexpr std::size_t kMostSections = 200, kMostBytes = 1U << 20U;

  enum class Ending {
    whole,
    cut,  ///< nobody waited for the rest: the sections that are whole count
  };
  /// From all that the probe's command has printed; a login's greeting may come first. Error protocol for anything that is not whole.
  [[nodiscard]] static Result<Evidence> read(std::string_view said, Ending ending = Ending::whole);

  /// nullptr for a section that is not there.
  [[nodiscard]] const Section* find(std::string_view name) const;
  /// Whether its command ran, with whatever result.
  [[nodiscard]] bool was_seen(std::string_view name) const;
  /// Empty where there is none.
  [[nodiscard]] const std::string& text(std::string_view name) const;
  /// Its lines that are not empty, without spaces at their ends.
  [[nodiscard]] std::vector<std::string> lines(std::string_view name) const;
  /// The rest of the first line that begins with `key` and a space: "clock" of system.
  [[nodiscard]] std::string value(std::string_view name, std::string_view key) const;

  /// Sections that were asked for here since this was called last, and are not answered, or not there: what was concluded in the
  /// meantime is worth nothing.
  [[nodiscard]] std::vector<std::string> take_doubts() const { return std::exchange(doubts_, {}); }
  /// Gives each of these that is not there the status kUnanswered, and this for its text.
  void put_missing(const std::vector<std::string>& names, int status, const std::string& text);

  /// Adds a section, in the place of one of that name.
  void put(Section section);
  [[nodiscard]] const std::vector<Section>& sections() const& { return sections_; }
  [[nodiscard]] std::vector<Section> sections() && { return std::move(sections_); }
  /// As the probe would print it.
  [[nodiscard]] std::string write() const;

 private:
  std::vector<Section> sections_;
  mutable std::vector<std::string> doubts_;  ///< a note beside the evidence, not part of it
};

}  // namespace gpustrap

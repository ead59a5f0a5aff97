#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/event.h"

namespace gpustrap {

/// The single source of truth of a run: events.jsonl, one event a line, numbered from 1 without gaps, so that line N is event N.
/// Only the runner writes it.
class Journal {
 public:
  /// Creates the file, or takes up the journal of a runner that died: a torn last line is dropped.
  [[nodiscard]] static Result<Journal> open(const std::string& path);

  enum class Durability { lazy, synced };  ///< synced: fdatasync before append returns
  /// Writes the event with the next number and the host's time. Returns the line as written.
  [[nodiscard]] Result<std::string> append(decltype(Event::body) body, Durability durability = Durability::lazy);
  [[nodiscard]] std::uint64_t last() const { return last_; }

 private:
  Journal(UniqueFd file, std::uint64_t last) : file_(std::move(file)), last_(last) {}
  UniqueFd file_;
  std::uint64_t last_ = 0;
};

/// Reads a journal while it grows.
class JournalTail {
 public:
  /// Starts behind event `after`; waits for it where the journal has not got there yet.
  [[nodiscard]] static Result<JournalTail> open(const std::string& path, std::uint64_t after);
  /// Whole lines that were added since, at most about `limit` bytes (at least one line); empty where there is nothing new.
  [[nodiscard]] Result<std::string> next(std::size_t limit = 256U << 10U);
  /// Becomes readable when the journal grew (inotify). Call drained() after waking up.
  [[nodiscard]] int descriptor() const { return notify_.get(); }
  void drained();
  [[nodiscard]] std::uint64_t position() const { return position_; }

 private:
  JournalTail() = default;
  UniqueFd file_;
  UniqueFd notify_;
  std::int64_t offset_ = 0;     ///< behind the last whole line: a torn one may still be cut off and written anew
  std::uint64_t position_ = 0;  ///< number of the last line seen
  std::uint64_t after_ = 0;
};

/// What a reader who has seen `after` events, the last runner among them `incarnation` (0: not known), has seen beyond this journal: the
/// number of the last event that both know, or nullopt where the reader has seen nothing that was lost. A power loss takes away lines
/// that were not yet synced, and the next runner goes on from before them.
[[nodiscard]] Result<std::optional<std::uint64_t>> rewound_to(const std::string& path, std::uint64_t after, std::uint64_t incarnation);

}  // namespace gpustrap

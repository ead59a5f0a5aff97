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
/// Only the runner writes it. It keeps room on the disk for its own end: blocks behind the last line are its own already, so that a disk
/// that fills up ends the run with that cause, and not the journal in the middle of a sentence.
class Journal {
 public:
  /// Creates the file, or takes up the journal of a runner that died: a torn last line is dropped.
  [[nodiscard]] static Result<Journal> open(const std::string& path);

  enum class Durability { lazy, synced };  ///< synced: fdatasync before append returns
  /// Writes the event with the next number and the host's time. Returns the line as written. Output is refused (no_space) once the disk
  /// is full; what else there is to say still has its room.
  [[nodiscard]] Result<std::string> append(decltype(Event::body) body, Durability durability = Durability::lazy);
  [[nodiscard]] std::uint64_t last() const { return last_; }
  /// The disk is full: only the room for the end is left.
  [[nodiscard]] bool is_short_of_room() const { return is_short_; }
  /// Gives back the room that the end did not need. Nothing is appended after it.
  void close_room();

 private:
  Journal(UniqueFd file, std::uint64_t last, std::int64_t size) : file_(std::move(file)), last_(last), size_(size), room_(size) {}
  void take_room();
  UniqueFd file_;
  std::uint64_t last_ = 0;
  std::int64_t size_ = 0;  ///< in bytes, up to the last whole line
  std::int64_t room_ = 0;  ///< up to here the disk's blocks are the file's own; size_ where the file system cannot promise any
  bool can_keep_room_ = true;
  bool is_short_ = false;
};

/// Reads a journal while it grows.
class JournalTail {
 public:
  /// Starts behind event `after`; waits for it where the journal has not got there yet. `Growth::ignored` is for who reads what is there
  /// and no more: to give a watch back takes the kernel ten milliseconds.
  enum class Growth { watched, ignored };
  [[nodiscard]] static Result<JournalTail> open(const std::string& path, std::uint64_t after, Growth growth = Growth::watched);
  /// Whole lines that were added since, at most about `limit` bytes (at least one line); empty where there is nothing new.
  [[nodiscard]] Result<std::string> next(std::size_t limit = 256U << 10U);
  /// Becomes readable when the journal grew (inotify; where the system has none left, 50 times a second). Call drained() after waking up.
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

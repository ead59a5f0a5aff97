#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "controller/copy_plan.h"

namespace gpustrap {

/// The next bytes of a tar that is being received; empty at its end. Valid until the next call.
using TarSource = std::function<Result<std::string_view>()>;

/// Takes a tar apart while it comes. Names and sizes are the sender's word.
class TarReader {
 public:
  struct Member {
    std::string path;  ///< without "./" before it
    CopyEntry entry;
    bool is_hard_link = false;
  };
  [[nodiscard]] static Result<TarReader> open(TarSource source);
  TarReader(TarReader&&) noexcept;
  ~TarReader();

  /// False at the end.
  [[nodiscard]] Result<bool> next(Member& member);
  /// The content of the member that next() gave, piece by piece. What of it is not wanted need not be read.
  [[nodiscard]] Result<void> read(const std::function<Result<void>(std::string_view bytes)>& take);

 private:
  struct State;
  explicit TarReader(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// Takes the bytes of a tar that is being made.
using TarSink = std::function<Result<void>(std::string_view bytes)>;

class TarWriter {
 public:
  [[nodiscard]] static Result<TarWriter> open(TarSink sink);
  TarWriter(TarWriter&&) noexcept;
  ~TarWriter();

  /// A file of entry.size bytes, or a link.
  [[nodiscard]] Result<void> begin(const std::string& path, const CopyEntry& entry);
  [[nodiscard]] Result<void> add(std::string_view bytes);
  [[nodiscard]] Result<void> end();

 private:
  struct State;
  explicit TarWriter(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace gpustrap

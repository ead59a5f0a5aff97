#pragma once

#include <chrono>
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>

struct z_stream_s;

namespace gpustrap {

/// Lines on their way to a controller, over a descriptor that does not block. Where the link turns out to be slower than packing, and the
/// controller has said that it can, the rest is packed: logs shrink to a thirtieth. Packing holds nothing back: what is there goes out
/// as soon as the descriptor takes it.
class LineOutput {
 public:
  using Clock = std::chrono::steady_clock;

  /// `fd` must outlive this. Packing begins where less than `slow` bytes a second get through.
  explicit LineOutput(int fd, std::size_t slow = kSlow) : fd_(fd), slow_(slow) {}

  /// The controller reads packed lines, too.
  void allow_packing() { may_pack_ = true; }
  /// Whole lines.
  void add(std::string lines);
  /// Writes what the descriptor takes now; false where nobody reads it any more.
  [[nodiscard]] bool flush();
  [[nodiscard]] bool empty() const { return waiting() == 0; }
  /// Bytes that are not written yet.
  [[nodiscard]] std::size_t waiting() const { return unsent_.size() - sent_ + unpacked_.size() - packed_; }
  [[nodiscard]] bool is_packing() const { return stream_ != nullptr; }

  /// What zlib packs of such text with one core of a small instance is about four times this.
  static constexpr std::size_t kSlow = 15'000'000;

 private:
  struct StreamEnd {
    void operator()(z_stream_s* stream) const;
  };

  void watch_rate(std::size_t put, bool is_blocked);
  void begin_packing();
  void pack();

  int fd_;
  std::size_t slow_;
  bool may_pack_ = false;
  std::string unsent_;  ///< bytes for the descriptor, of which the first sent_ are gone
  std::size_t sent_ = 0;
  std::string unpacked_;  ///< lines to pack, of which the first packed_ are in the stream
  std::size_t packed_ = 0;
  std::unique_ptr<z_stream_s, StreamEnd> stream_;
  bool is_blocked_ = false;  ///< since watched_since_, the descriptor has taken watched_ bytes, and never all that there were
  Clock::time_point watched_since_{};
  std::size_t watched_ = 0;
};

}  // namespace gpustrap

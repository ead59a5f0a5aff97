#include "agent/line_output.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>

#include "agent/protocol/request.h"

namespace gpustrap {
namespace {

/// For how long a link is looked at before it is called slow.
constexpr auto kWatch = std::chrono::milliseconds(30);
/// Packed at once: the buffers stay small, and the descriptor gets the next piece soon.
constexpr std::size_t kPiece = 256U << 10U;

/// More than zlib holds back at its usual sizes: 16 Ki symbols and its buffer of 64 KiB.
constexpr std::size_t kHeldBack = 256U << 10U;

/// Drops the first `taken` bytes once they are most of `text`, so that dropping costs nothing in the long run.
void drop(std::string& text, std::size_t& taken) {
  if (taken < text.size() && taken < kPiece) return;
  text.erase(0, taken);
  taken = 0;
}

}  // namespace

void LineOutput::StreamEnd::operator()(z_stream_s* stream) const {
  ::deflateEnd(stream);
  delete stream;
}

void LineOutput::add(std::string lines) {
  std::string& waiting = stream_ ? unpacked_ : unsent_;
  std::size_t& gone = stream_ ? packed_ : sent_;
  if (gone == waiting.size()) {
    waiting = std::move(lines);
    gone = 0;
  } else {
    waiting += lines;
  }
}

bool LineOutput::flush() {
  while (true) {
    if (sent_ == unsent_.size() && stream_) pack();
    if (sent_ == unsent_.size()) {
      is_blocked_ = false;
      return true;
    }
    const ssize_t put = ::write(fd_, unsent_.data() + sent_, unsent_.size() - sent_);
    if (put < 0 && errno == EINTR) continue;
    if (put < 0 && errno != EAGAIN) return false;
    const std::size_t taken = put < 0 ? 0 : static_cast<std::size_t>(put);
    sent_ += taken;
    drop(unsent_, sent_);
    watch_rate(taken, put < 0);
    if (put < 0) return true;
  }
}

void LineOutput::watch_rate(std::size_t put, bool is_blocked) {
  if (stream_ || !may_pack_) return;
  if (!is_blocked_) {
    is_blocked_ = is_blocked;
    watched_since_ = Clock::now();
    watched_ = 0;
    return;
  }
  watched_ += put;
  const auto time = std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - watched_since_);
  if (time < kWatch) return;
  is_blocked_ = false;
  const double rate = static_cast<double>(watched_) * 1e6 / static_cast<double>(time.count());
  if (rate < static_cast<double>(slow_)) begin_packing();
}

void LineOutput::begin_packing() {
  // Behind the end of the line that is on its way.
  const std::size_t newline = sent_ > 0 && unsent_[sent_ - 1] == '\n' ? sent_ - 1 : unsent_.find('\n', sent_);
  if (newline == std::string::npos) return;
  auto stream = std::make_unique<z_stream>();
  if (::deflateInit(stream.get(), Z_BEST_SPEED) != Z_OK) return;  // no memory for it: it goes on as it is
  stream_.reset(stream.release());
  unpacked_ = unsent_.substr(newline + 1);
  unsent_.resize(newline + 1);
  unsent_.append(kPackedLine).append("\n");
}

void LineOutput::pack() {
  if (packed_ == unpacked_.size()) return;
  const std::size_t piece = std::min(unpacked_.size() - packed_, kPiece);
  const bool is_all = packed_ + piece == unpacked_.size();
  // NOLINTNEXTLINE(cppcoreguidelines-pro-type-const-cast): zlib reads it only
  stream_->next_in = reinterpret_cast<Bytef*>(const_cast<char*>(unpacked_.data() + packed_));
  stream_->avail_in = static_cast<uInt>(piece);
  // Beside this piece, what zlib holds back of the pieces before may come: all of it fits, so that a flush is never left half done.
  unsent_.resize(::deflateBound(stream_.get(), piece) + kHeldBack);
  stream_->next_out = reinterpret_cast<Bytef*>(unsent_.data());
  stream_->avail_out = static_cast<uInt>(unsent_.size());
  // Nothing that the reader could have is held back; in the middle of much, the stream is left to itself.
  ::deflate(stream_.get(), is_all ? Z_SYNC_FLUSH : Z_NO_FLUSH);
  unsent_.resize(unsent_.size() - stream_->avail_out);
  sent_ = 0;
  packed_ += piece;
  drop(unpacked_, packed_);
}

}  // namespace gpustrap

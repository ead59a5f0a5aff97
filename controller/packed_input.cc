#include "controller/packed_input.h"

#include <zlib.h>

#include <algorithm>
#include <utility>

#include <fmt/format.h>

namespace gpustrap {
namespace {

constexpr std::size_t kPiece = 256U << 10U;

}  // namespace

void PackedInput::StreamEnd::operator()(z_stream_s* stream) const {
  ::inflateEnd(stream);
  delete stream;
}

PackedInput::~PackedInput() = default;
PackedInput::PackedInput(PackedInput&&) noexcept = default;
PackedInput& PackedInput::operator=(PackedInput&&) noexcept = default;

Result<PackedInput> PackedInput::begin() {
  auto stream = std::make_unique<z_stream>();
  if (::inflateInit(stream.get()) != Z_OK) return fail(ErrorCode::internal, "zlib cannot start");
  PackedInput input;
  input.stream_.reset(stream.release());
  return input;
}

void PackedInput::add(std::string_view bytes) {
  bytes_.erase(0, std::exchange(taken_, 0));
  bytes_ += bytes;
}

Result<std::size_t> PackedInput::next(std::string& into) {
  const std::size_t before = into.size();
  into.resize(before + kPiece);
  // zlib does not write to its input, and says so only where ZLIB_CONST is defined.
  stream_->next_in = reinterpret_cast<Bytef*>(bytes_.data() + taken_);
  stream_->avail_in = static_cast<uInt>(bytes_.size() - taken_);
  stream_->next_out = reinterpret_cast<Bytef*>(into.data() + before);
  stream_->avail_out = static_cast<uInt>(kPiece);
  const int status = ::inflate(stream_.get(), Z_SYNC_FLUSH);
  taken_ = bytes_.size() - stream_->avail_in;
  into.resize(before + kPiece - stream_->avail_out);
  // Z_BUF_ERROR: there was nothing to read, or no more comes of it.
  if (status != Z_OK && status != Z_BUF_ERROR) {
    return fail(ErrorCode::protocol, fmt::format("the packed lines are damaged ({})", status == Z_STREAM_END    ? "they end"
                                                                                      : stream_->msg == nullptr ? "zlib"
                                                                                                                : stream_->msg));
  }
  return into.size() - before;
}

}  // namespace gpustrap

#include <zlib.h>

#include <array>

#include "controller/embedded_agents.h"

namespace gpustrap {

Result<std::string> gunzip(std::string_view bytes) {
  z_stream stream{};
  constexpr int kGzipHeader = 16;
  if (inflateInit2(&stream, kGzipHeader + MAX_WBITS) != Z_OK) return fail(ErrorCode::internal, "zlib cannot start");
  // zlib does not write to its input, and says so only where ZLIB_CONST is defined.
  stream.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes.data()));
  stream.avail_in = static_cast<uInt>(bytes.size());
  std::string content;
  std::array<char, 64 * 1024> buffer{};
  int status = Z_OK;
  while (status == Z_OK) {
    stream.next_out = reinterpret_cast<Bytef*>(buffer.data());
    stream.avail_out = static_cast<uInt>(buffer.size());
    status = inflate(&stream, Z_NO_FLUSH);
    content.append(buffer.data(), buffer.size() - stream.avail_out);
  }
  inflateEnd(&stream);
  if (status != Z_STREAM_END) return fail(ErrorCode::internal, "the embedded agent is damaged");
  return content;
}

}  // namespace gpustrap

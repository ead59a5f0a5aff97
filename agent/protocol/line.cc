#include "agent/protocol/line.h"

#include <utility>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

/// Deeper documents than this are not ours; writing one back recurses once a level.
constexpr int kMaxDepth = 64;

}  // namespace

void LineReader::add(std::string_view bytes) {
  if (begin_ > 0 && begin_ >= buffer_.size() / 2) {
    buffer_.erase(0, begin_);
    searched_ -= begin_;
    begin_ = 0;
  }
  buffer_.append(bytes);
}

Result<std::optional<std::string>> LineReader::next() {
  const std::size_t newline = buffer_.find('\n', searched_);
  const std::size_t length = (newline == std::string::npos ? buffer_.size() : newline + 1) - begin_;
  if (length > kMaxLine) {
    return fail(ErrorCode::protocol, "a line of more than 1 MiB: " + first_line(strip_control(rest().substr(0, 200)), 80));
  }
  if (newline == std::string::npos) {
    searched_ = buffer_.size();
    return std::optional<std::string>();
  }
  std::string line = buffer_.substr(begin_, newline - begin_);
  begin_ = searched_ = newline + 1;
  return std::optional<std::string>(std::move(line));
}

Result<Json> parse_line(std::string_view line) {
  bool too_deep = false;
  const auto limit_depth = [&](int depth, Json::parse_event_t, Json&) {
    too_deep = too_deep || depth > kMaxDepth;
    return !too_deep;
  };
  Json document = Json::parse(line, limit_depth, /*allow_exceptions=*/false);
  if (too_deep) return fail(ErrorCode::protocol, "a document nested deeper than 64 levels");
  if (document.is_discarded() || !document.is_object()) {
    return fail(ErrorCode::protocol, "not a JSON object: " + first_line(strip_control(line.substr(0, 200)), 80));
  }
  return document;
}

std::string to_line(const Json& document) { return document.dump(-1, ' ', false, Json::error_handler_t::replace) + "\n"; }

}  // namespace gpustrap

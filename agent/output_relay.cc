#include "agent/output_relay.h"

#include <poll.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// One output event carries at most this much, so that a line of JSON stays far below kMaxLine even when every byte is escaped.
constexpr std::size_t kOutputChunk = 64U << 10U;
/// A line without an end is cut here.
constexpr std::size_t kLongestOutputLine = 16U << 10U;

bool has_input(int fd) {
  pollfd entry{fd, POLLIN, 0};
  return ::poll(&entry, 1, 0) > 0 && (entry.revents & (POLLIN | POLLHUP)) != 0;
}

}  // namespace

void OutputRelay::begin() {
  out_rest_.clear();
  err_rest_.clear();
  record_rest_.clear();
}

Result<bool> OutputRelay::read(StepProcess& process, std::vector<StepRecord>& records) {
  bool came = false;
  if (Result<void> read = read_output(process.output, "out", out_rest_, came); !read) return fail(std::move(read).error());
  if (Result<void> read = read_output(process.errors, "err", err_rest_, came); !read) return fail(std::move(read).error());
  std::array<char, 16 * 1024> buffer{};
  while (process.records.valid()) {
    const ssize_t got = ::read(process.records.get(), buffer.data(), buffer.size());
    if (got < 0) break;
    if (got == 0) {
      process.records.reset();
      break;
    }
    came = true;
    record_rest_.append(buffer.data(), static_cast<std::size_t>(got));
  }
  for (std::size_t newline = record_rest_.find('\n'); newline != std::string::npos; newline = record_rest_.find('\n')) {
    const std::string line = record_rest_.substr(0, newline);
    record_rest_.erase(0, newline + 1);
    // A process that says something odd has failed; the runner says so when no outcome has come.
    if (Result<StepRecord> record = step_record_from_line(line, step_)) records.push_back(std::move(*record));
  }
  return came;
}

Result<void> OutputRelay::drain(StepProcess& process) {
  bool came = false;
  while (process.output.valid() && has_input(process.output.get())) {
    if (Result<void> read = read_output(process.output, "out", out_rest_, came); !read) return read;
  }
  while (process.errors.valid() && has_input(process.errors.get())) {
    if (Result<void> read = read_output(process.errors, "err", err_rest_, came); !read) return read;
  }
  for (const auto& [stream, rest] : {std::pair<std::string_view, std::string*>{"out", &out_rest_}, {"err", &err_rest_}}) {
    if (rest->empty()) continue;
    if (Result<void> said = say(stream, *rest + "\n"); !said) return said;
    rest->clear();
  }
  return {};
}

Result<void> OutputRelay::say(std::string_view stream, std::string_view text) {
  // A step's own words may be a diff of any length; an event must fit into a line of the protocol.
  while (text.size() > kOutputChunk) {
    const std::size_t newline = text.rfind('\n', kOutputChunk - 1);
    std::size_t end = newline == std::string_view::npos ? 0 : newline + 1;
    for (std::size_t most = kLongestOutputLine; end == 0; most *= 2) {
      if (most >= text.size())
        end = text.size();
      else
        end = masking_ == nullptr ? most : masking_->safe_end(text, most);
    }
    if (end == text.size()) break;
    if (Result<void> said = say_piece(stream, text.substr(0, end)); !said) return said;
    text.remove_prefix(end);
  }
  return say_piece(stream, text);
}

Result<void> OutputRelay::say_piece(std::string_view stream, std::string_view text) {
  if (truncated_) return {};
  if (bytes_ + text.size() > cap_) {
    truncated_ = true;
    return say_(StepTruncated{step_, bytes_});
  }
  Result<void> said = say_(StepOutput{step_, std::string(stream), to_utf8(text)});
  if (!said && said.error().code() == ErrorCode::no_space) {
    // The journal keeps what room there is for how the step ends.
    truncated_ = true;
    return say_(StepTruncated{step_, bytes_});
  }
  bytes_ += text.size();
  return said;
}

Result<void> OutputRelay::read_output(UniqueFd& fd, std::string_view stream, std::string& rest, bool& came) {
  std::array<char, kOutputChunk> buffer{};
  for (int piece = 0; piece < 4 && fd.valid(); ++piece) {
    // No more than one event takes, with the unfinished line that is there: what is beyond would be an event of a line or two.
    const std::size_t room = buffer.size() - std::min(rest.size(), buffer.size() / 2);
    const ssize_t got = ::read(fd.get(), buffer.data(), room);
    if (got < 0) return {};
    if (got == 0) {
      fd.reset();
      return {};
    }
    came = true;
    rest.append(buffer.data(), static_cast<std::size_t>(got));
    if (Result<void> said = say_whole_lines(stream, rest); !said) return said;
  }
  return {};
}

Result<void> OutputRelay::say_whole_lines(std::string_view stream, std::string& rest) {
  while (true) {
    std::size_t end = rest.size() > kOutputChunk ? rest.rfind('\n', kOutputChunk) : rest.rfind('\n');
    if (end == std::string::npos) {
      if (rest.size() < kLongestOutputLine) return {};
      end = masking_ == nullptr ? kLongestOutputLine : masking_->safe_end(rest, kLongestOutputLine);
      if (end == 0) return {};  // all of it may be a secret, whose end is still to come
      --end;
    }
    if (Result<void> said = say(stream, std::string_view(rest).substr(0, end + 1)); !said) return said;
    rest.erase(0, end + 1);
  }
}

}  // namespace gpustrap

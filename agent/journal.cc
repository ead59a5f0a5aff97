#include "agent/journal.h"

#include <fcntl.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <utility>

#include "agent/base/file.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {

namespace {

/// How often a tail looks where it can have no watch.
constexpr long kLookAgainNs = 20'000'000;
/// For the end of a run: a few hundred steps that end or are skipped, at a few hundred bytes each.
constexpr std::int64_t kRoomForEnd = 256 << 10;
/// Room is taken in pieces, so that it costs one call for many lines.
constexpr std::int64_t kRoomPiece = 512 << 10;

bool is_full(int error) { return error == ENOSPC || error == EDQUOT; }

}  // namespace

Result<Journal> Journal::open(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return fail(errno_error(errno, "opening " + path));
  std::uint64_t lines = 0;
  off_t whole = 0;  // bytes up to and including the last newline
  off_t offset = 0;
  std::array<char, 64 * 1024> buffer{};
  while (true) {
    const ssize_t got = ::pread(file.get(), buffer.data(), buffer.size(), offset);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading " + path));
    if (got == 0) break;
    for (ssize_t i = 0; i < got; ++i) {
      if (buffer[static_cast<std::size_t>(i)] != '\n') continue;
      ++lines;
      whole = offset + i + 1;
    }
    offset += got;
  }
  if (whole < offset && ::ftruncate(file.get(), whole) != 0) return fail(errno_error(errno, "dropping the torn last line of " + path));
  Journal journal(std::move(file), lines, whole);
  journal.take_room();
  return journal;
}

void Journal::take_room() {
  if (!can_keep_room_ || room_ - size_ >= kRoomForEnd) return;
  const std::int64_t wanted = size_ + kRoomForEnd + kRoomPiece;
  if (::fallocate(file_.get(), FALLOC_FL_KEEP_SIZE, size_, wanted - size_) == 0) {
    room_ = wanted;
    is_short_ = false;
  } else if (is_full(errno)) {
    is_short_ = true;
  } else {
    can_keep_room_ = false;  // a file system that cannot: the journal is written as long as there is room
  }
}

void Journal::close_room() {
  const int cut = ::ftruncate(file_.get(), size_);
  (void)cut;  // it keeps a few blocks more than it needs, no more
}

Result<std::string> Journal::append(decltype(Event::body) body, Durability durability) {
  Event event;
  event.seq = last_ + 1;
  event.time_ms = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
  event.body = std::move(body);
  std::string line = to_line(event);
  take_room();
  if (is_short_ && std::holds_alternative<StepOutput>(event.body)) return fail(errno_error(ENOSPC, "writing the journal"));
  if (Result<void> wrote = write_all(file_.get(), line); !wrote) {
    // A part of a line must not stay: the next event would be glued to it. The room behind it goes with it.
    const int kept = ::ftruncate(file_.get(), size_);
    (void)kept;
    room_ = size_;
    return fail(std::move(wrote).error().in("writing the journal"));
  }
  size_ += static_cast<std::int64_t>(line.size());
  last_ = event.seq;
  if (durability == Durability::synced && ::fdatasync(file_.get()) != 0) return fail(errno_error(errno, "syncing the journal"));
  return line;
}

Result<JournalTail> JournalTail::open(const std::string& path, std::uint64_t after, Growth growth) {
  JournalTail tail;
  tail.after_ = after;
  tail.file_ = UniqueFd(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!tail.file_.valid()) return fail(errno_error(errno, "opening " + path));
  if (growth == Growth::ignored) return tail;
  tail.notify_ = UniqueFd(::inotify_init1(IN_NONBLOCK | IN_CLOEXEC));
  if (tail.notify_.valid() && ::inotify_add_watch(tail.notify_.get(), path.c_str(), IN_MODIFY) >= 0) return tail;
  // A user has 128 of them (fs.inotify.max_user_instances), and containers and editors take them all: the clock wakes instead.
  tail.notify_ = UniqueFd(::timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC));
  const itimerspec each{.it_interval = {0, kLookAgainNs}, .it_value = {0, kLookAgainNs}};
  if (!tail.notify_.valid() || ::timerfd_settime(tail.notify_.get(), 0, &each, nullptr) != 0)
    return fail(errno_error(errno, "watching " + path));
  return tail;
}

void JournalTail::drained() {
  std::array<char, 4096> buffer{};
  while (::read(notify_.get(), buffer.data(), buffer.size()) > 0) {}
}

Result<std::string> JournalTail::next(std::size_t limit) {
  std::string lines;
  if (position_ >= after_) {
    // All of it is wanted: read where it will be sent from.
    struct stat info {};
    if (::fstat(file_.get(), &info) != 0) return fail(errno_error(errno, "reading the journal"));
    lines.resize(static_cast<std::size_t>(std::clamp<std::int64_t>(info.st_size - offset_, 0, static_cast<std::int64_t>(limit))));
    const ssize_t got = lines.empty() ? 0 : ::pread(file_.get(), lines.data(), lines.size(), offset_);
    if (got < 0 && errno != EINTR) return fail(errno_error(errno, "reading the journal"));
    const std::string_view read(lines.data(), static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
    lines.resize(read.rfind('\n') + 1);  // none: npos + 1
    if (!lines.empty() || read.size() < limit) {
      position_ += static_cast<std::uint64_t>(std::count(lines.begin(), lines.end(), '\n'));
      offset_ += static_cast<std::int64_t>(lines.size());
      return lines;
    }
  }
  std::string partial;
  std::array<char, 64 * 1024> buffer{};
  while (lines.size() < limit) {
    const ssize_t got = ::pread(file_.get(), buffer.data(), buffer.size(), offset_ + static_cast<off_t>(partial.size()));
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading the journal"));
    if (got == 0) break;
    std::string_view piece(buffer.data(), static_cast<std::size_t>(got));
    while (!piece.empty()) {
      const std::size_t newline = piece.find('\n');
      if (newline == std::string_view::npos) {
        partial += piece;
        break;
      }
      ++position_;
      if (position_ > after_) {
        lines += partial;
        lines += piece.substr(0, newline + 1);
      }
      offset_ += static_cast<std::int64_t>(partial.size() + newline + 1);
      partial.clear();
      piece.remove_prefix(newline + 1);
    }
  }
  return lines;
}

Result<std::optional<std::uint64_t>> rewound_to(const std::string& path, std::uint64_t after, std::uint64_t incarnation) {
  Result<JournalTail> tail = JournalTail::open(path, 0, JournalTail::Growth::ignored);
  if (!tail) return fail(std::move(tail).error());
  while (true) {
    Result<std::string> lines = tail->next();
    if (!lines) return fail(std::move(lines).error());
    if (lines->empty()) break;
    for (std::string_view rest = *lines; !rest.empty();) {
      const std::size_t newline = rest.find('\n');
      const std::string_view line = rest.substr(0, newline);
      rest.remove_prefix(newline + 1);
      if (incarnation == 0 || !line.starts_with("{\"event\":\"runner_started\"")) continue;
      const Result<Json> document = parse_line(line);
      if (!document) continue;
      const Result<Event> event = event_from_json(*document);
      if (!event) continue;
      const auto* runner = std::get_if<RunnerStarted>(&event->body);
      // A runner that the reader has not seen took up the journal before the reader's last event.
      if (runner != nullptr && runner->incarnation > incarnation && runner->after < after) return std::optional(runner->after);
    }
  }
  if (tail->position() < after) return std::optional(tail->position());
  return std::optional<std::uint64_t>();
}

}  // namespace gpustrap

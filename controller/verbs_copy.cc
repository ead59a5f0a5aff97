// `pull` and `push`: files from a host and to it.
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/agent_push.h"
#include "controller/complaint.h"
#include "controller/console.h"
#include "controller/conversation.h"
#include "controller/copy.h"
#include "controller/display_width.h"
#include "controller/interrupts.h"
#include "controller/line_printer.h"
#include "controller/return_pauses.h"
#include "controller/run_log.h"
#include "controller/screen_text.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// A host that went away is tried again for so long; the same command later goes on as well.
constexpr auto kComeBackLimit = std::chrono::minutes(2);
constexpr auto kFrame = std::chrono::milliseconds(100);
/// So much work at most is forgotten where the copy is ended from outside; saving takes a twentieth of the time at most.
constexpr auto kRemember = std::chrono::seconds(3);
constexpr int kRememberShare = 20;
constexpr auto kPlainHeartbeat = std::chrono::seconds(10);
/// Of those that were kept, or did not go, so many are named; --json names all.
constexpr std::size_t kNamed = 20;

void print(int descriptor, const std::string& text) { static_cast<void>(write_all(descriptor, text).has_value()); }

std::string files_text(std::uint64_t count) { return fmt::format("{} {}", count, count == 1 ? "file" : "files"); }

/// The line at the bottom of a terminal; elsewhere a line every now and then.
class CopyScreen {
 public:
  CopyScreen(Console console, Detail detail, bool json)
      : console_(std::move(console)), detail_(detail), json_(json), printer_(console_.write, console_.size) {}

  void progress(const CopyProgress& progress) {
    if (json_ || detail_ == Detail::quiet) return;
    const Clock::time_point now = Clock::now();
    const bool is_live = console_.live && detail_ == Detail::normal;
    if (now - shown_ < (is_live ? std::chrono::milliseconds(kFrame) : std::chrono::milliseconds(kPlainHeartbeat))) return;
    shown_ = now;
    const double seconds = std::chrono::duration<double>(now - began_).count();
    if (!first_) first_ = progress.bytes;
    const auto rate =
        static_cast<std::uint64_t>(static_cast<double>(progress.bytes - std::min(progress.bytes, *first_)) / std::max(seconds, 0.1));
    const std::string line = fmt::format("  {}/{}   {}   {}/s", progress.files, files_text(progress.all_files),
                                         byte_fraction(progress.bytes, progress.all_bytes), human_bytes(rate));
    if (is_live)
      printer_.draw({cut_to_width(line, std::max<std::size_t>(console_.size().columns, 20) - 1, ellipsis_of(console_))});
    else
      console_.write(line + "\n");
  }
  void copied(const std::string& path) {
    if (!json_ && detail_ == Detail::verbose) console_.write(fmt::format("  {}\n", shown_on(console_, path)));
  }
  void clear() {
    if (console_.live) printer_.draw({});
  }
  [[nodiscard]] const Console& console() const { return console_; }

 private:
  Console console_;
  Detail detail_;
  bool json_;
  LinePrinter printer_;
  Clock::time_point began_ = Clock::now(), shown_ = began_;
  std::optional<std::uint64_t> first_;
};

/// Saves what was copied every now and then: without it a later copy would take a file that was changed on both sides for an old one.
class Remembering {
 public:
  explicit Remembering(const CopyMemory& memory) : memory_(memory) {}
  void copied() { is_new_ = true; }
  void look() {
    const Clock::time_point now = Clock::now();
    if (!is_new_ || now < next_) return;
    is_new_ = false;
    (void)memory_.save();  // its error is told at the end
    next_ = Clock::now() + std::max<Clock::duration>(kRemember, kRememberShare * (Clock::now() - now));
  }

 private:
  const CopyMemory& memory_;
  bool is_new_ = true;  ///< what was found to be the same is noted before anything is copied
  Clock::time_point next_ = Clock::now() + kRemember;
};

Json lines_document(const std::vector<CopyReport::Line>& lines, const char* reason) {
  Json list = Json::array();
  for (const CopyReport::Line& line : lines) list.push_back({{"path", line.path}, {reason, line.why}});
  return list;
}

Json document_of(const Options& options, const CopyRequest& request, const CopyReport& report, const std::optional<Error>& error) {
  Json document = {{request.direction == CopyDirection::pull ? "pull" : "push", 1},
                   {"host", options.destination()},
                   {"from", to_utf8(request.source)},
                   {"to", to_utf8(report.to)},
                   {"dry_run", request.dry_run},
                   {"copied", report.copied},
                   {"same", report.same},
                   {"modes", report.modes},
                   {"bytes", report.bytes},
                   {"kept", lines_document(report.kept, "reason")},
                   {"failed", lines_document(report.failed, "reason")},
                   {"skipped", lines_document(report.skipped, "reason")}};
  if (request.dry_run) document["would_copy"] = report.would;
  if (error) document["error"] = error_document(*error);
  return document;
}

void name_some(std::string& text, const Console& console, const std::string& title, const std::vector<CopyReport::Line>& lines) {
  if (lines.empty()) return;
  text += title + "\n";
  for (std::size_t i = 0; i < std::min(lines.size(), kNamed); ++i)
    text += fmt::format("  {}: {}\n", shown_on(console, lines[i].path), shown_on(console, lines[i].why));
  if (lines.size() > kNamed) text += fmt::format("  {} {} more\n", ellipsis_of(console), lines.size() - kNamed);
}

std::string modes_text(const CopyReport& report, std::string_view verb) {
  return report.modes == 0 ? "" : fmt::format(", of which {} {} another mode", report.modes, verb);
}

std::string text_of(const CopyRequest& request, const CopyReport& report, const Console& console, Detail detail) {
  std::string text;
  if (request.dry_run) {
    for (const std::string& path : report.would) text += fmt::format("  {}\n", shown_on(console, path));
    const auto files =
        std::count_if(report.would.begin(), report.would.end(), [](const std::string& path) { return !path.ends_with('/'); });
    text += fmt::format("{} would be copied to {}; {} as they are there already{}.\n", files_text(static_cast<std::uint64_t>(files)),
                        shown_path(report.to), report.same, modes_text(report, "would get"));
  } else if (detail != Detail::quiet) {
    text += fmt::format("{} copied to {} ({}); {} as they were{}.\n", files_text(report.copied), shown_path(report.to),
                        human_bytes(report.bytes), report.same, modes_text(report, "got"));
  }
  name_some(text, console, "Kept as they are at the target (--overwrite takes the source's):", report.kept);
  name_some(text, console, "Left out:", report.skipped);
  name_some(text, console, "Not copied:", report.failed);
  return text;
}

/// Ctrl-C ends a copy that has begun, once what is no use to the next one is cleared away; a second one ends it as it is. Before it has
/// begun, and between two connections, there is nothing to clear away, and the signal does what it always does.
class CopyStop {
 public:
  void begin() { interrupts_.emplace(); }
  void end() { interrupts_.reset(); }
  [[nodiscard]] bool is_asked() { return look() >= 1; }
  [[nodiscard]] bool is_asked_again() { return look() >= 2; }

 private:
  int look() {
    while (interrupts_ && interrupts_->take()) ++times_;
    return times_;
  }
  std::optional<Interrupts> interrupts_;
  int times_ = 0;
};

/// The same for the same command: what a push that was cut has left is found again.
std::string stage_of(const CopyRequest& request) {
  std::string machine(256, '\0');
  if (::gethostname(machine.data(), machine.size() - 1) != 0) machine = "?";
  const std::string key = fmt::format("{}\n{}\n{}\n{}", machine.c_str(), ::getuid(), request.source, request.target);
  return ".gpustrap-push-" + sha256_hex(key).substr(0, 16);
}

/// Whether the same command may come further than this one: not where a name or a right is missing.
bool may_go_on(ErrorCode code) {
  return code != ErrorCode::not_found && code != ErrorCode::permission && code != ErrorCode::usage && code != ErrorCode::unsafe;
}

VerbResult copy(const Options& options, CopyDirection direction) {
  CopyRequest request;
  request.direction = direction;
  request.source = options.path;
  request.target = options.folder;
  request.rules = {options.overwrite, options.checksum};
  request.dry_run = options.dry_run;
  request.nonce = make_nonce();
  const bool is_pull = direction == CopyDirection::pull;
  if (!is_pull) {  // before anybody is asked anything
    struct stat info {};
    if (::stat(request.source.c_str(), &info) != 0)
      return fail(errno_error(errno, "looking at " + shown_path(request.source)).with_hint("push copies from this machine to the host"));
  }
  std::error_code none;
  std::string& here = is_pull ? request.target : request.source;
  const bool has_slash = here.ends_with('/');
  here = std::filesystem::absolute(here, none).lexically_normal().string();
  if (has_slash && !here.ends_with('/')) here += "/";
  request.stage = stage_of(request);

  const std::unique_ptr<Status> status = make_silent_status();
  HostAccess access(options, Rights::whatever, *status);
  if (Result<void> connected = access.connect(); !connected) return fail(std::move(connected).error());
  const Result<std::string> state = state_directory();
  if (!state) return fail(state.error());
  const CopyPlaces places = places_of(request);
  Result<CopyMemory> memory =
      CopyMemory::load(*state, options.host, is_pull ? places.source : places.target, is_pull ? places.target : places.source);
  if (!memory) return fail(std::move(memory).error());

  CopyScreen screen(console_of(STDOUT_FILENO, options.colour), options.detail, options.json);
  Remembering remembering(*memory);
  CopyWatch watch;
  watch.progress = [&](const CopyProgress& progress) {
    screen.progress(progress);
    remembering.look();
  };
  watch.copied = [&](const std::string& path) {
    screen.copied(path);
    remembering.copied();
    remembering.look();
  };
  CopyStop stop;
  watch.begins = [&] { stop.begin(); };
  watch.stopped = [&] { return stop.is_asked(); };
  watch.abandoned = [&] { return stop.is_asked_again(); };
  CopyReport report;
  std::uint64_t copied = 0, bytes = 0, modes = 0;
  std::optional<Error> error;
  std::optional<Clock::time_point> lost;
  ReturnPauses pauses;
  while (true) {
    report = CopyReport();
    error.reset();
    const Result<void> done = copy_files(access.session(), request, *memory, watch, report);
    // What an earlier attempt brought is there already for this one.
    report.same -= std::min(report.same, copied);
    copied = report.copied += copied;
    bytes = report.bytes += bytes;
    modes = report.modes += modes;
    if (done) break;
    error = done.error();
    if (error->code() != ErrorCode::unreachable || stop.is_asked()) break;
    screen.clear();
    (void)memory->save();  // its error is told at the end
    stop.end();
    status->notice(fmt::format("connection lost ({}); coming back to go on", error->why()));
    lost = Clock::now();
    Result<void> back = fail(*error);
    while (!back && Clock::now() - *lost < kComeBackLimit) {
      std::this_thread::sleep_for(pauses.next(Haste::none));
      back = access.connect();
      if (!back && back.error().code() == ErrorCode::host_key) break;
    }
    if (back) continue;
    error = Error(back.error()).with_hint("the same command goes on from here");
    break;
  }
  screen.clear();
  if (!request.dry_run) {
    if (const Result<void> kept = memory->save(); !kept) status->notice("What was copied is not remembered: " + kept.error().sentence());
  }
  if (options.json)
    print(STDOUT_FILENO, to_line(document_of(options, request, report, error)));
  else if (!error || report.copied > 0)
    print(STDOUT_FILENO, text_of(request, report, screen.console(), options.detail));
  if (error) return fail(may_go_on(error->code()) ? Error(*error).with_hint("the same command goes on from here") : *error);
  return report.failed.empty() ? ExitCode::ok : ExitCode::step_failed;
}

}  // namespace

VerbResult verb_pull(const Options& options) { return copy(options, CopyDirection::pull); }

VerbResult verb_push(const Options& options) { return copy(options, CopyDirection::push); }

}  // namespace gpustrap

#include "agent/idle_guard.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <ctime>
#include <functional>
#include <memory>
#include <optional>
#include <thread>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/found_notebooks.h"
#include "agent/gather_facts.h"
#include "agent/host_power.h"
#include "agent/identity.h"
#include "agent/idle_rules.h"
#include "agent/idle_signs.h"
#include "agent/idle_store.h"
#include "agent/notebook_use.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/money.h"
#include "agent/real_host.h"
#include "agent/token.h"

namespace gpustrap {
namespace {

/// As AWS advises: a notice comes two minutes ahead.
constexpr auto kSpotPause = std::chrono::seconds(5);
constexpr auto kSystemdLimit = std::chrono::seconds(60);
constexpr std::string_view kDone = "done";
constexpr std::string_view kUnitFolder = "/etc/systemd/system/";
constexpr std::string_view kWanted = "/etc/systemd/system/timers.target.wants/gpustrap-idle.timer";

std::int64_t wall_ms() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch()).count();
}

std::chrono::milliseconds since_boot() {
  return std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::steady_clock::now().time_since_epoch());
}

/// "14:05", UTC like the clocks of rented machines.
std::string clock_at(std::int64_t ms) {
  const std::time_t time = ms / 1000;
  std::tm parts{};
  ::gmtime_r(&time, &parts);
  return fmt::format("{:02}:{:02}", parts.tm_hour, parts.tm_min);
}

/// A time of day as it may stand in a file's name.
std::string digits_of(const std::string& clock) {
  std::string digits;
  for (const char c : clock)
    if (c >= '0' && c <= '9' && digits.size() < 4) digits += c;
  return digits;
}

/// To the journal of the unit: `journalctl -u gpustrap-idle`.
void say(std::string_view line) { fmt::print(stderr, "{}\n", line); }

/// To everybody who has a terminal open; of those that cannot take it now nobody is waited for.
void tell_terminals(const std::string& message) {
  std::vector<std::string> terminals;
  const std::unique_ptr<DIR, int (*)(DIR*)> folder(::opendir("/dev/pts"), ::closedir);
  while (const dirent* entry = folder ? ::readdir(folder.get()) : nullptr) {
    const std::string name = entry->d_name;
    if (name.find_first_not_of("0123456789") == std::string::npos) terminals.push_back("/dev/pts/" + name);
  }
  for (const char* console : {"tty1", "ttyS0", "hvc0"}) terminals.push_back(std::string("/dev/") + console);
  for (const std::string& path : terminals) {
    const UniqueFd terminal(::open(path.c_str(), O_WRONLY | O_NOCTTY | O_NONBLOCK | O_CLOEXEC | O_NOFOLLOW));
    if (terminal.valid() && ::isatty(terminal.get()) == 1)
      static_cast<void>(write_all(terminal.get(), "\r\n\a" + message + "\r\n").has_value());
  }
}

/// With its user's rights; a folder that is gone took it along.
void remove_note(const Facts& facts, const IdleRecord::Note& note) {
  const Result<Identity> user = identity_of_uid(note.uid);
  if (!user) return;
  static_cast<void>(said_by(*user, [&] {
    static_cast<void>(RealHost(facts, *user, *user, {}).remove(note.path));
    return std::string();
  }));
}

class Guard {
 public:
  Guard(const AgentPaths& paths, std::string metadata)
      : files_{paths},
        facts_(gather_facts()),
        host_(facts_, identity_of_self(), identity_of_self(), {}),
        asks_metadata_(!metadata.empty()),
        metadata_(metadata.empty() ? std::string(kMetadataUrl) : std::move(metadata)) {}

  Result<void> run() {
    std::optional<IdleRules> rules = rules_in(read_file(files_.rules()).value_or(""));
    if (!rules)
      return fail(ErrorCode::not_found, "there are no rules in " + files_.rules(), "run the recipe with its step `idle_stop` again");
    rules_ = *std::move(rules);
    record_ = record_in(read_file(files_.record()).value_or(""));
    IdleRecord of_boot = record_in(read_file(files_.record_of_boot()).value_or(""));
    const bool is_newer = record_.memory.boot != facts_.boot_id || of_boot.memory.at > record_.memory.at;
    if (of_boot.memory.boot == facts_.boot_id && is_newer) record_ = std::move(of_boot);
    const std::chrono::milliseconds begun = since_boot();
    if (Result<void> looked = look(); !looked) return looked;
    return is_spot() ? watch_spot(begun) : Result<void>();
  }

 private:
  Result<void> look() {
    const IdleSample before = sample_in(read_file(files_.sample()).value_or(""));
    IdleSample sample = take_sample(host_, files_.paths, ::getpid());
    notebooks_ = notebook_services(files_.paths);
    for (const NotebookService& notebook : notebooks_) add_notebook_use(ask_notebook(host_, notebook), sample);
    for (const std::string& answer : ask_found_notebooks(host_, notebooks_)) add_notebook_use(answer, sample);
    IdleMoment moment;
    moment.boot = facts_.boot_id;
    moment.at = std::chrono::duration_cast<seconds>(sample.at);
    const auto ticks = static_cast<double>(::sysconf(_SC_CLK_TCK));
    moment.signs = signs_of_use(before, sample, ticks);
    for (const ProcessTime& process : sample.processes)
      if (process.pid == 1) moment.up = moment.at - seconds(static_cast<std::int64_t>(static_cast<double>(process.start) / ticks));
    moment.kept = kept_for(keep_in(read_file(files_.keep()).value_or("")), moment.boot, moment.at, wall_ms());
    IdleDecision decision = decide(rules_, std::move(record_.memory), moment);
    record_.memory = std::move(decision.memory);
    const IdleVerdict& verdict = decision.verdict;
    act(verdict);
    const Result<void> sampled = write_file_atomically(files_.sample(), sample_text(sample), 0600);
    const Json status = idle_status(rules_, record_, moment, verdict, wall_ms());
    const Result<void> saved = save();
    const Result<void> told = write_file_atomically(files_.status(), to_line(status), 0644);
    // A disk that is full, or read-only, does not keep the host on.
    if (verdict.is == IdleVerdict::Is::stop && !host_is_shutting_down()) return stop(verdict);
    if (!sampled) return sampled;
    return saved ? told : saved;
  }

  Result<void> save() {
    const std::string text = record_text(record_);
    const Result<void> of_boot = write_file_atomically(files_.record_of_boot(), text, 0600);
    Result<void> kept = write_file_atomically(files_.record(), text, 0600);
    return kept ? of_boot : kept;
  }

  void act(const IdleVerdict& verdict) {
    // Also what is left of an earlier boot.
    forget_notes([&](const IdleRecord::Note& note) { return note.boot != facts_.boot_id || (verdict.take_back && !note.spot); });
    if (verdict.take_back && !verdict.warn_now) tell("gpustrap: this host stays on.");
    if (verdict.tell_most_spent && !verdict.warn_now) tell(most_spent());
    if (!verdict.warn_now) return;
    const std::int64_t at = wall_ms() + std::chrono::milliseconds(*verdict.stops_in).count();
    std::string text = warning(verdict, clock_at(at));
    if (is_spot()) text += "\nIt is a spot instance: when it stops it is gone, and everything on its disk with it.";
    tell(text);
    leave_notes(fmt::format("GPUSTRAP-STOPS-AT-{}-UTC.txt", digits_of(clock_at(at))), text, false);
  }

  /// On a machine of nobody's cloud the address of the metadata leads nowhere.
  bool is_spot() { return (!facts_.cloud_type.empty() || asks_metadata_) && metadata_.is_spot(); }

  [[nodiscard]] std::string hostname() const { return facts_.hostname.empty() ? "HOST" : strip_control(facts_.hostname); }

  [[nodiscard]] std::string warning(const IdleVerdict& verdict, const std::string& when) const {
    if (verdict.cause == StopCause::budget)
      return fmt::format(
          "gpustrap: {} stops at {} UTC, at work or not, because its budget is spent: {}.\nSave what you need. `keep` does not put "
          "this off: a larger `budget` in the recipe, run again, does.",
          hostname(), when, spent());
    return fmt::format(
        "gpustrap: {} stops at {} UTC, because nothing was done on it for {}.\nRun a cell or type something here, and it stays on; "
        "for longer, on your own machine: gpustrap keep {} 2h",
        hostname(), when, human_duration(*verdict.idle), hostname());
  }

  [[nodiscard]] std::string spent() const {
    const IdleBudget& budget = *rules_.budget;
    return fmt::format("{} of {}, {} at {}", rounded_money(budget.cost(record_.memory.powered)), money_text(budget.limit),
                       human_duration(record_.memory.powered), price_text(budget.price));
  }

  [[nodiscard]] std::string most_spent() const {
    return fmt::format("gpustrap: four fifths of this host's budget are spent: {}.", spent());
  }

  static void tell(const std::string& text) {
    std::string one_line = text, for_terminals;
    std::replace(one_line.begin(), one_line.end(), '\n', ' ');
    say(one_line);
    for (const char c : text) for_terminals += c == '\n' ? std::string("\r\n") : std::string(1, c);
    tell_terminals(for_terminals);
  }

  void leave_notes(const std::string& name, const std::string& text, bool spot) {
    for (const NotebookService& notebook : notebooks_) {
      const std::string path = notebook.dir + "/" + name;
      const std::string trouble = said_by(notebook.login, [&] {
        RealHost user(facts_, notebook.login, notebook.login, {});
        const Result<void> wrote = user.write(path, text + "\n", {0644, std::nullopt, std::nullopt});
        return wrote ? std::string(kDone) : wrote.error().sentence();
      });
      if (trouble != kDone)
        say("no warning in the notebook folder: " + (trouble.empty() ? "it does not answer" : trouble));
      else
        record_.notes.push_back({path, notebook.login.uid, facts_.boot_id, spot});
    }
  }

  template <class Over> void forget_notes(const Over& is_over) {
    const auto kept = std::stable_partition(record_.notes.begin(), record_.notes.end(), std::not_fn(is_over));
    for (auto note = kept; note != record_.notes.end(); ++note) remove_note(facts_, *note);
    record_.notes.erase(kept, record_.notes.end());
  }

  Result<void> stop(const IdleVerdict& verdict) {
    record_.last_stop = {verdict.cause == StopCause::budget ? "the budget was spent: " + spent()
                                                            : fmt::format("nothing was done for {}", human_duration(*verdict.idle)),
                         wall_ms()};
    if (Result<void> kept = save(); !kept) say("why it stops is not kept: " + kept.error().sentence());
    tell(fmt::format("gpustrap: this host stops now: {}.", record_.last_stop->why));
    return stop_host("gpustrap: " + record_.last_stop->why);
  }

  // ---- spot instances

  Result<void> watch_spot(std::chrono::milliseconds begun) {
    const auto end = begun + look_interval(rules_) - kSpotPause;
    std::int64_t keep_seen = change_of_keep();
    while (true) {
      if (Result<void> seen = take_notice(metadata_.notice()); !seen) return seen;
      if (since_boot() >= end) return {};
      std::this_thread::sleep_for(kSpotPause);
      if (change_of_keep() == keep_seen) continue;
      keep_seen = change_of_keep();
      if (Result<void> looked = look(); !looked) return looked;
    }
  }

  /// Another number when `keep` was said, or taken back.
  [[nodiscard]] std::int64_t change_of_keep() const {
    struct stat info {};
    return ::stat(files_.keep().c_str(), &info) == 0 ? static_cast<std::int64_t>(info.st_ino) ^ info.st_mtim.tv_nsec : 0;
  }

  Result<void> take_notice(const std::optional<SpotNotice>& notice) {
    if (!notice || (record_.spot && record_.spot->notice == *notice && record_.spot->boot == facts_.boot_id)) return {};
    record_.spot = {*notice, wall_ms(), facts_.boot_id};
    if (Result<void> kept = save(); !kept) return kept;
    if (notice->action.empty()) {
      tell("gpustrap: AWS may take this spot instance back soon, and advises to move away (rebalance recommendation).");
    } else {
      const std::string when = clock_of(notice->time);
      const std::string text =
          fmt::format("gpustrap: AWS takes this spot instance back at {} ({}). Save what you need now.", when, notice->action);
      tell(text);
      leave_notes(fmt::format("GPUSTRAP-SPOT-ENDS-AT-{}-UTC.txt", digits_of(when)), text, true);
      if (Result<void> kept = save(); !kept) return kept;
    }
    sync_disks();
    // What everybody may know follows without another look at the whole host.
    Result<Json> status = parse_line(trim(read_file(files_.status()).value_or("{}")));
    if (!status || !status->is_object()) return {};
    (*status)["spot"] = {{"action", notice->action}, {"time", notice->time}, {"seen_ms", record_.spot->seen_ms}, {"this_boot", true}};
    return write_file_atomically(files_.status(), to_line(*status), 0644);
  }

  IdleFiles files_;
  Facts facts_;
  RealHost host_;
  bool asks_metadata_;
  Metadata metadata_;
  IdleRules rules_;
  IdleRecord record_;
  std::vector<NotebookService> notebooks_;
};

std::string unit_path(const char* unit) { return std::string(kUnitFolder) + unit; }

Result<void> systemctl(std::vector<std::string> words) {
  Subprocess call;
  call.argv = {"systemctl"};
  call.argv.insert(call.argv.end(), words.begin(), words.end());
  call.timeout = kSystemdLimit;
  const Result<SubprocessResult> done = run_subprocess(call);
  if (!done) return fail(done.error());
  if (done->exit_code != 0)
    return fail(ErrorCode::command,
                fmt::format("systemd refuses `systemctl {}`: {}", join(words, " "), first_line(strip_control(done->err))),
                fmt::format("`systemctl status {}` on the host says more; then run the same command again", kIdleTimer));
  return {};
}

}  // namespace

Result<void> guard_once(const AgentPaths& paths, const std::string& metadata) {
  if (Result<void> made = make_directories(paths.runtime, 0700); !made) return made;
  // What everybody may know lies there by a name that everybody knows; the rest has modes of its own.
  if (::chmod(paths.runtime.c_str(), 0711) != 0) return fail(errno_error(errno, "opening " + paths.runtime));
  return Guard(paths, metadata).run();
}

bool idle_guard_is_there() { return path_exists(unit_path(kIdleTimer)) || path_exists(unit_path(kIdleService)); }

Result<void> remove_idle_guard(const AgentPaths& paths) {
  if (path_exists("/run/systemd/system")) {
    // The timer first: it would start the other again.
    for (const char* unit : {kIdleTimer, kIdleService}) {
      if (Result<void> stopped = systemctl({"stop", unit}); !stopped && path_exists(unit_path(unit))) return stopped;
    }
  }
  for (const std::string& path : {std::string(kWanted), unit_path(kIdleTimer), unit_path(kIdleService)}) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail(errno_error(errno, "removing " + path));
  }
  const IdleFiles files{paths};
  for (const IdleRecord::Note& note : record_in(read_file(files.record()).value_or("")).notes) remove_note(Facts{}, note);
  if (path_exists("/run/systemd/system")) return systemctl({"daemon-reload"});
  return {};
}

}  // namespace gpustrap

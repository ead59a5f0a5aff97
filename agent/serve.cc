#include "agent/serve.h"

#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <thread>
#include <tuple>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/control_socket.h"
#include "agent/fetched_ahead.h"
#include "agent/gather_facts.h"
#include "agent/host_power.h"
#include "agent/identity.h"
#include "agent/idle_store.h"
#include "agent/journal.h"
#include "agent/line_output.h"
#include "agent/log.h"
#include "agent/mirrors.h"
#include "agent/private_memory.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"
#include "agent/removal.h"
#include "agent/run_store.h"
#include "agent/runner_process.h"
#include "agent/service_states.h"
#include "agent/shared_file.h"
#include "agent/token.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// With this much unsent the journal is not read on: a slow link holds back `serve`, never the run.
constexpr std::size_t kUnsentLimit = 1U << 20U;
/// Before its first event a runner gathers facts; after its last one it may have systemd read its units anew: seconds on a busy host.
constexpr auto kTidyLimit = std::chrono::seconds(90);
constexpr auto kTidyPause = std::chrono::milliseconds(10);
/// Events of one moment travel together: for this long after some were sent, others gather. Nobody sees the difference, and a run of
/// twenty steps that are done already takes two packets instead of sixty. Where much is said it is passed on sooner.
constexpr auto kGather = std::chrono::milliseconds(15), kGatherMuch = std::chrono::milliseconds(2);
constexpr std::size_t kMuch = 16U << 10U;
/// How long nothing is heard before the runner is looked after.
constexpr auto kLook = std::chrono::milliseconds(1000);

bool is_same_choice(const StepChoice& a, const StepChoice& b) {
  return std::tie(a.tags, a.left_out, a.forced) == std::tie(b.tags, b.left_out, b.forced);
}

/// "all but apt, conda; motd forced"
std::string choice_text(const StepChoice& choice) {
  constexpr std::size_t kNamed = 8;
  const auto names = [](std::vector<std::string> all) {
    const std::size_t others = all.size() > kNamed ? all.size() - kNamed : 0;
    all.resize(all.size() - others);
    return strip_control(join(all, ", ")) + (others > 0 ? fmt::format(" and {} more", others) : "");
  };
  std::string text = choice.left_out.empty() ? "all" : "all but " + names(choice.left_out);
  if (!choice.tags.empty()) text += "; of tag " + names(choice.tags);
  if (!choice.forced.empty()) text += "; " + names(choice.forced) + " forced";
  return text;
}

class Server {
 public:
  Server(AgentPaths paths, const Identity& login, int in_fd, int out_fd)
      : paths_(std::move(paths)), login_(login), in_fd_(in_fd), out_fd_(out_fd), output_(out_fd) {}

  int run(const std::string& said) {
    send(to_json(Hello{kProtocolVersion, "gpustrap-agent " GPUSTRAP_VERSION, {std::string(kZlibFeature)}}));
    last_heard_ = last_said_ = Clock::now();
    if (!output_.flush()) return 0;  // whoever waits for hello need not wait for what is asked
    requests_.add(said);
    ended_ = !take_lines();
    while (true) {
      if (!output_.flush()) return 0;
      if (ended_ && output_.empty()) return 0;
      const auto gather = last_much_ ? kGatherMuch : kGather;
      const auto to_gather = last_read_ + gather - Clock::now();
      const bool may_read = tail_ && to_gather <= Clock::duration::zero();
      std::array<pollfd, 4> polled = {pollfd{ended_ ? -1 : in_fd_, POLLIN, 0}, pollfd{output_.empty() ? -1 : out_fd_, POLLOUT, 0},
                                      pollfd{may_read && output_.waiting() < kUnsentLimit ? tail_->descriptor() : -1, POLLIN, 0},
                                      pollfd{signals_.get(), POLLIN, 0}};
      const auto wait = tail_ && !may_read ? std::chrono::ceil<std::chrono::milliseconds>(to_gather) : kLook;
      const int ready = ::poll(polled.data(), polled.size(), static_cast<int>(wait.count()));
      if (ready < 0 && errno != EINTR) return 1;
      if (ready > 0 && polled[0].revents != 0 && !read_requests()) ended_ = true;
      if (ready > 0 && polled[3].revents != 0) pass_on_signals();
      if (tail_ && (runner_let_go_ || Clock::now() - last_read_ >= gather) && !read_journal()) return 1;
      const Clock::time_point now = Clock::now();
      if (now - last_heard_ > kSilenceLimit) return 0;  // the controller is gone; the run is not
      if (now - last_said_ > kHeartbeat) send(to_json(Signal{Heartbeat{}}));
      if (ready == 0 && may_read) look_after_runner();
    }
  }

 private:
  void send(const Json& document) {
    output_.add(to_line(document));
    last_said_ = Clock::now();
  }
  void answer(std::uint64_t number, Result<Json> value) {
    Reply reply;
    reply.number = number;
    if (value)
      reply.value = std::make_shared<const Json>(std::move(*value));
    else
      reply.error = error_text(value.error());
    send(to_json(reply));
  }

  /// False at the end of the controller's words.
  bool read_requests() {
    std::array<char, 64 * 1024> buffer{};
    const ssize_t got = ::read(in_fd_, buffer.data(), buffer.size());
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (got <= 0) return false;
    last_heard_ = Clock::now();
    requests_.add({buffer.data(), static_cast<std::size_t>(got)});
    return take_lines();
  }

  bool take_lines() {
    while (true) {
      Result<std::optional<std::string>> line = requests_.next();
      if (!line) {
        answer(0, fail(line.error()));
        return false;
      }
      if (!line->has_value()) return true;
      if (!take(**line)) return false;
    }
  }

  bool take(const std::string& text) {
    Result<Json> document = parse_line(text);
    if (!document) {
      answer(0, fail(std::move(document).error()));
      return false;
    }
    Result<ControllerLine> line = controller_line_from_json(*document);
    if (!line) {
      const Json number = document->value("request", Json(0));
      answer(number.is_number_unsigned() ? number.get<std::uint64_t>() : 0, fail(std::move(line).error()));
      return true;
    }
    if (const auto* hello = std::get_if<Hello>(&*line)) {
      const auto& theirs = hello->features;
      if (std::find(theirs.begin(), theirs.end(), kZlibFeature) != theirs.end()) output_.allow_packing();
      if (hello->protocol == kProtocolVersion) return true;
      answer(0, fail(ErrorCode::protocol,
                     fmt::format("this agent speaks protocol {}, {} speaks {}", kProtocolVersion, hello->program, hello->protocol),
                     "use the same release on both sides"));
      return false;
    }
    if (auto* request = std::get_if<Request>(&*line)) {
      std::visit([&](auto& body) { handle(request->number, body); }, request->body);
    }
    return !is_shared_;
  }

  // ---- requests

  static std::string origin() {
    const char* connection = std::getenv("SSH_CONNECTION");
    return connection == nullptr ? "" : first_line(connection).substr(0, first_line(connection).find(' '));
  }

  /// A plan leaves no trace in the state: its journal lives where a reboot removes it.
  [[nodiscard]] AgentPaths paths_for(RunMode mode) const {
    return mode == RunMode::plan ? AgentPaths{paths_.runtime + "/plan", paths_.runtime + "/plan"} : paths_;
  }

  /// Who keeps another run from starting. A runner that is about to write its first event is waited for, and so is one whose run is over:
  /// it tidies up and then lets go, and its run is neither joined nor said to be in progress.
  static std::optional<RunLock::Holder> holder_of_open_run(const AgentPaths& paths) {
    const Clock::time_point deadline = Clock::now() + kTidyLimit;
    std::string over;
    std::optional<RunLock::Holder> holder = RunLock::holder(paths);
    while (holder && Clock::now() < deadline) {
      if (holder->run != over) {
        const Result<RunSummary> held = summarize_run(paths, holder->run);
        const bool has_begun = held && !held->digest.empty();
        if (has_begun && held->state != "finished") return holder;
        if (has_begun) over = holder->run;
      }
      std::this_thread::sleep_for(kTidyPause);
      holder = RunLock::holder(paths);
    }
    return holder;
  }

  void handle(std::uint64_t number, RunRequest& request) {
    const AgentPaths paths = paths_for(request.mode);
    if (!request.same_as.empty() && !fill_from_earlier_run(paths, request))
      return answer(number, fail(ErrorCode::not_found, "no run on this host asked for the same", "send the whole request"));
    if (const std::optional<RunLock::Holder> holder = holder_of_open_run(paths)) {
      join_or_refuse(number, request.recipe, request.choice, paths, *holder);
      return;
    }
    RunDescription run;
    run.id = request.run;
    run.mode = request.mode;
    run.recipe = std::move(request.recipe);
    run.login = login_;
    run.login.proxy = proxies_for(login_.proxy, request.network);
    run.network = std::move(request.network);
    run.choice = std::move(request.choice);
    if (Result<void> stored = store_run(paths, run); !stored) return answer(number, fail(std::move(stored).error()));
    Pipe alive;  // for as long as this agent is
    if (request.shares) {
      if (Result<Pipe> pipe = make_pipe()) alive = *std::move(pipe);
      shares_ = std::move(alive.write_end);
    }
    if (Result<void> started = start_runner_process(paths, run.id, origin(), alive.read_end.get(), &run); !started) {
      if (started.error().code() == ErrorCode::busy) {
        // Another agent was faster: this run has never been.
        drop_run(paths, run.id);
        if (const std::optional<RunLock::Holder> holder = holder_of_open_run(paths))
          return join_or_refuse(number, run.recipe, run.choice, paths, *holder);
      }
      return answer(number, fail(std::move(started).error()));
    }
    answer(number, Json{{"run", run.id}, {"attached", false}});
    follow(paths, run.id, 0);
  }

  /// The same recipe is followed as it runs; but only where the same steps of it were asked for, or somebody would be shown the end of
  /// another run than the one that they have asked for.
  void join_or_refuse(std::uint64_t number, const Recipe& recipe, const StepChoice& choice, const AgentPaths& paths,
                      const RunLock::Holder& holder) {
    const Result<RunSummary> running = summarize_run(paths, holder.run);
    std::string of_steps;
    if (running && running->digest == digest_of(recipe)) {
      const Result<RunDescription> other = load_run(paths, holder.run);
      if (!other || is_same_choice(other->choice, choice)) {
        answer(number, Json{{"run", holder.run}, {"attached", true}});
        follow(paths, holder.run, 0);
        return;
      }
      of_steps =
          fmt::format(" with another choice of steps ({}) than this command's ({})", choice_text(other->choice), choice_text(choice));
    }
    const std::string other = running ? running->recipe : "another recipe";
    std::string since;
    if (running) {
      const auto now = std::chrono::duration_cast<std::chrono::milliseconds>(std::chrono::system_clock::now().time_since_epoch());
      since =
          fmt::format(", for {}", human_duration(std::chrono::milliseconds(std::max<std::int64_t>(now.count() - running->since_ms, 0))));
    }
    answer(number,
           fail(ErrorCode::busy,
                fmt::format("a run of {} is in progress on this host{}{}{} (run {})", other, of_steps, since,
                            holder.from.empty() ? "" : ", started from " + holder.from, holder.run),
                of_steps.empty() ? "follow it with `gpustrap attach HOST`, or stop it with `gpustrap cancel HOST`"
                                 : "wait for its end with `gpustrap attach HOST`, or stop it with `gpustrap cancel HOST`; then give "
                                   "the same command again"));
  }

  /// Without root this agent cannot look at root's runs; whoever misses one is told how.
  [[nodiscard]] std::string hint_unless_hidden(const std::string& otherwise) const {
    const bool hidden = ::geteuid() != 0 && path_exists(system_paths().state);
    return hidden ? "runs that needed root are seen with --ask-sudo-password" : otherwise;
  }

  void handle(std::uint64_t number, AttachRequest& request) {
    if (request.run.empty()) request.run = newest_run(paths_).value_or("");
    if (request.run.empty())
      return answer(number, fail(ErrorCode::not_found, "there was no run on this host yet",
                                 hint_unless_hidden("start one with `gpustrap up RECIPE HOST`")));
    for (const AgentPaths& paths : {paths_, paths_for(RunMode::plan)}) {
      if (!is_run_id(request.run) || !path_exists(journal_path(paths, request.run))) continue;
      const Result<RunSummary> summary = summarize_run(paths, request.run);
      if (!summary) return answer(number, fail(summary.error()));
      Json value = {{"run", request.run}, {"live", summary->state == "running"}, {"last", summary->last}};
      const Result<std::optional<std::uint64_t>> rewound = rewound_to(journal_path(paths, request.run), request.after, request.incarnation);
      if (!rewound) return answer(number, fail(rewound.error()));
      if (*rewound) value["rewound"] = {{"to", **rewound}};
      answer(number, std::move(value));
      follow(paths, request.run, rewound->value_or(request.after));
      return;
    }
    answer(number, fail(ErrorCode::not_found, fmt::format("there is no run {} on this host", strip_control(request.run)),
                        "`gpustrap status HOST` names the last one"));
  }

  void handle(std::uint64_t number, const StatusRequest&) {
    Json value;
    const Facts facts = gather_facts();
    value["facts"] = to_json(facts);
    value["run"] = nullptr;
    if (const std::optional<std::string> run = newest_run(paths_)) {
      const Result<RunSummary> summary = summarize_run(paths_, *run);
      if (!summary) return answer(number, fail(summary.error()));
      value["run"] = to_json(*summary);
    }
    value["notebooks"] = Json::array();
    for (const NotebookService& notebook : notebook_services(paths_)) {
      value["notebooks"].push_back({{"service", notebook.name}, {"port", notebook.port}});
    }
    value["services"] = service_states(paths_, kept_services(paths_), facts.systemd);
    answer(number, std::move(value));
  }

  void handle(std::uint64_t number, const CancelRequest& request) {
    const std::optional<RunLock::Holder> holder = RunLock::holder(paths_);
    if (!holder) return answer(number, fail(ErrorCode::not_found, "no run is in progress on this host", hint_unless_hidden("")));
    Result<UniqueFd> socket = connect_control_socket(paths_.socket());
    if (!socket) return answer(number, fail(std::move(socket).error()));
    const Json line{{"cancel", request.by.empty() ? origin() : request.by}, {"now", request.now}};
    if (Result<void> sent = write_all(socket->get(), to_line(line)); !sent) {
      return answer(number, fail(std::move(sent).error().in("asking run " + holder->run + " to stop")));
    }
    answer(number, Json{{"run", holder->run}});
  }

  void handle(std::uint64_t number, const TokenRequest& request) { answer(number, jupyter_token(paths_, login_, request.service)); }

  void handle(std::uint64_t number, SecretsRequest& request) {
    const std::optional<RunLock::Holder> holder = RunLock::holder(paths_);
    Result<void> sent;
    if (!holder || holder->run != request.run) {
      sent =
          fail(ErrorCode::not_found, "the run that these secrets are for is not in progress", "`gpustrap status HOST` shows how it ended");
    } else {
      sent = send_secrets(paths_.socket(), request.values);
    }
    for (auto& [name, value] : request.values) clear_text(value);
    if (!sent) return answer(number, fail(sent.error()));
    answer(number, Json{{"run", request.run}});
  }

  void handle(std::uint64_t number, const ShareRequest& request) {
    if (request.how == ShareRequest::How::none) {
      shares_.reset();
      return answer(number, Json::object());
    }
    is_shared_ = true;
    Result<UniqueFd> step = connect_to_wanted(ahead_folder(identity_of_self()), request.sha256);
    // A step of the login's own has the cache that is its own, where root has no business.
    if (!step && login_.uid != ::geteuid()) {
      if (Result<void> became = become(login_); !became) return answer(number, fail(std::move(became).error()));
      step = connect_to_wanted(ahead_folder(login_), request.sha256);
    }
    if (!step) return answer(number, fail(std::move(step).error()));
    answer(number, Json::object());
    if (!output_.flush() || !output_.empty()) return;
    if (request.how == ShareRequest::How::give)
      give_shared(*std::move(step), in_fd_, out_fd_);
    else
      take_shared(*std::move(step), in_fd_, request.from);
  }

  void handle(std::uint64_t number, const RemoveRequest& request) {
    if (const std::optional<RunLock::Holder> holder = request.preview ? std::nullopt : holder_of_open_run(paths_)) {
      return answer(number, fail(ErrorCode::busy, fmt::format("run {} is in progress", holder->run),
                                 "wait for it, or stop it with `gpustrap cancel HOST`"));
    }
    answer(number, request.preview ? Result<Json>(removal_list(paths_, login_)) : remove_all(paths_, login_));
  }

  void handle(std::uint64_t number, const KeepRequest& request) { answer(number, keep_host(paths_, request.seconds)); }

  // ---- events

  void follow(const AgentPaths& paths, const std::string& run, std::uint64_t after) {
    Result<JournalTail> tail = JournalTail::open(journal_path(paths, run), after);
    if (!tail) return answer(0, fail(std::move(tail).error()));
    followed_paths_ = paths;
    followed_run_ = run;
    run_ended_ = false;
    runner_let_go_ = false;
    tail_.emplace(std::move(*tail));
    if (Result<UniqueFd> socket = connect_control_socket(paths.socket())) signals_ = std::move(*socket);
  }

  /// False where the journal cannot be read on.
  bool read_journal() {
    runner_let_go_ = false;
    tail_->drained();
    std::size_t passed_on = 0;
    while (output_.waiting() < kUnsentLimit) {
      Result<std::string> lines = tail_->next();
      if (!lines) {
        log_note("cannot follow " + followed_run_ + ": " + lines.error().sentence());
        return false;
      }
      if (lines->empty()) break;
      last_said_ = Clock::now();
      // The last line of a run; the member stands first in its line.
      run_ended_ = run_ended_ || lines->starts_with("{\"event\":\"run_finished\"") ||
                   lines->find("\n{\"event\":\"run_finished\"") != std::string::npos;
      passed_on += lines->size();
      output_.add(*std::move(lines));
      last_read_ = Clock::now();
      last_much_ = passed_on >= kMuch;
      if (!output_.flush()) return false;
    }
    if (run_ended_) {
      tail_.reset();
      signals_.reset();
    }
    return true;
  }

  void pass_on_signals() {
    std::array<char, 16 * 1024> buffer{};
    const ssize_t got = ::read(signals_.get(), buffer.data(), buffer.size());
    if (got == 0 || (got < 0 && errno != EAGAIN && errno != EINTR)) {
      signals_.reset();
      runner_let_go_ = true;
    }
    if (got <= 0) return;
    signal_lines_.add({buffer.data(), static_cast<std::size_t>(got)});
    while (true) {
      Result<std::optional<std::string>> line = signal_lines_.next();
      if (!line || !line->has_value()) return;
      if (output_.empty()) output_.add(**line + "\n");  // droppable: never queued behind what must arrive
    }
  }

  /// Nothing was heard for a second: is there still a runner? One that died is started again and takes up its journal.
  void look_after_runner() {
    if (RunLock::holder(followed_paths_)) {
      if (!signals_.valid()) {
        if (Result<UniqueFd> socket = connect_control_socket(followed_paths_.socket())) signals_ = std::move(*socket);
      }
      return;
    }
    const Result<RunSummary> summary = summarize_run(followed_paths_, followed_run_);
    if (!summary || summary->state != "interrupted") return;
    // On its way down: what began now would fail for no reason of its own. systemd goes on with the run at the next boot.
    if (host_is_shutting_down()) return;
    log_note("run " + followed_run_ + " lost its runner; starting another");
    const Result<void> started = start_runner_process(followed_paths_, followed_run_, origin());
    if (started || started.error().code() == ErrorCode::busy) return;  // busy: systemd or another agent was faster
    // Said, because a controller takes an end without a word for a lost connection, and comes back again and again.
    answer(0, fail(Error(started.error()).in("going on with run " + followed_run_)));
    ended_ = true;
  }

  AgentPaths paths_;
  Identity login_;
  int in_fd_;
  int out_fd_;
  LineReader requests_;
  LineReader signal_lines_;
  LineOutput output_;
  std::optional<JournalTail> tail_;
  AgentPaths followed_paths_;
  std::string followed_run_;
  bool run_ended_ = false;
  bool runner_let_go_ = false;  ///< it has ended, most likely: what it wrote last is not made to wait
  bool ended_ = false;
  bool is_shared_ = false;  ///< this conversation was about a file, and is over
  UniqueFd shares_;         ///< closed: nobody brings files to the run
  UniqueFd signals_;
  Clock::time_point last_heard_{};
  Clock::time_point last_said_{};
  Clock::time_point last_read_{};  ///< when events were last sent
  bool last_much_ = false;         ///< and that they were many
};

}  // namespace

int serve(const AgentPaths& paths, const Identity& login, int in_fd, int out_fd, const std::string& said) {
  ::signal(SIGPIPE, SIG_IGN);
  close_process_to_others();
  if (!set_nonblocking(in_fd) || !set_nonblocking(out_fd)) return 1;
  return Server(paths, login, in_fd, out_fd).run(said);
}

}  // namespace gpustrap

#include "controller/fleet.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <numeric>
#include <system_error>
#include <thread>
#include <utility>
#include <variant>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/complaint.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;
using std::chrono::milliseconds;

/// Between two looks at the keyboard and at the clock.
constexpr milliseconds kTick{100};
/// How long hosts that are left may take to notice it. Who still waits for a connection then has begun nothing.
constexpr milliseconds kLeaveLimit{2'000};

milliseconds steady_now() { return std::chrono::duration_cast<milliseconds>(Clock::now().time_since_epoch()); }

HostEnd end_of(const Error& error) {
  HostEnd end;
  end.exit = exit_code_of(error.code());
  end.why = error.sentence();
  end.hint = error.hint();
  return end;
}

bool is_running(const Json& status) {
  const auto run = status.find("run");
  if (run == status.end() || !run->is_object()) return false;
  const auto state = run->find("state");
  return state != run->end() && state->is_string() && state->get<std::string>() == "running";
}

/// Signals are the main thread's: it reads the answers at the terminal, and Ctrl-C has to end that.
class SignalsElsewhere {
 public:
  SignalsElsewhere() {
    sigset_t ours;
    ::sigemptyset(&ours);
    for (const int number : {SIGINT, SIGTERM, SIGHUP}) ::sigaddset(&ours, number);
    ::pthread_sigmask(SIG_BLOCK, &ours, &before_);
  }
  ~SignalsElsewhere() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsElsewhere(const SignalsElsewhere&) = delete;
  SignalsElsewhere& operator=(const SignalsElsewhere&) = delete;

 private:
  sigset_t before_{};
};

}  // namespace

/// What the threads have in common. It outlives the Fleet where a thread does.
struct Fleet::Shared {
  enum class Stop { no, no_more, leave, cancel };

  std::vector<FleetMember> members;
  FleetWork work;
  std::shared_ptr<FleetScreen> screen;
  TargetResolver resolver;

  std::mutex mutex;
  std::condition_variable changed;
  std::size_t next = 0, left = 0;  ///< the next to be taken up; those that have not ended
  std::size_t round = 0;           ///< what was left behind of an earlier one counts no more
  std::atomic<Stop> stop{Stop::no};
  std::shared_ptr<PassedFiles> files = std::make_shared<PassedFiles>();
  std::atomic<std::size_t> at_work{0};  ///< hosts whose run is followed

  /// What one host is told; each word once.
  class Ear {
   public:
    explicit Ear(const std::atomic<Stop>& stop) : stop_(stop) {}
    std::optional<Interrupt> take() {
      const Stop now = stop_.load();
      if (now == heard_ || now == Stop::no || now == Stop::no_more) return std::nullopt;
      heard_ = now;
      return Interrupt{now == Stop::leave ? Interrupt::What::leave : Interrupt::What::cancel};
    }

   private:
    const std::atomic<Stop>& stop_;
    Stop heard_ = Stop::no;
  };

  /// The way to one host and the talk with it.
  struct Talk {
    /// `tick` is called at least ten times a second while the talk goes on.
    Talk(Shared& shared, std::size_t host, std::function<void(const Event&, std::string_view)> log, std::function<void()> tick)
        : ear(shared.stop),
          access(shared.members[host].options, rights_for(shared.members[host]), shared.screen->of(host), around(shared)),
          sharing(
              shared.files, [this](const ShareRequest& request) { return access.share(request); }, [this] { client.tell(ShareRequest{}); }),
          client(RunSurroundings{[this](const Request& first) { return access.start_agent(first); },
                                 shared.screen->of(host),
                                 std::move(log),
                                 [this, tick = std::move(tick)] {
                                   tick();
                                   return ear.take();
                                 },
                                 steady_now,
                                 [](milliseconds time) { std::this_thread::sleep_for(time); },
                                 [this] { return access.was_connected(); },
                                 CtrlC::leaves_then_cancels,
                                 {},
                                 [this] { return sharing.pump(); }}) {}

    static Rights rights_for(const FleetMember& member) {
      return member.recipe && needs_root(*member.recipe) ? Rights::root : Rights::whatever;
    }

    static AccessSurroundings around(Shared& shared) {
      AccessSurroundings surroundings;
      surroundings.person = shared.screen.get();
      surroundings.sudo_password = shared.work.sudo_password;
      surroundings.remember = false;  // all of them at once, in the end
      surroundings.resolver = &shared.resolver;
      surroundings.stop = [&shared] { return shared.stop.load() != Stop::no; };
      surroundings.notice = [&shared](const std::string& sentence) { shared.screen->announce_once(sentence); };
      return surroundings;
    }

    Ear ear;
    HostAccess access;
    HostSharing sharing;
    RunClient client;
  };

  /// A file is had from where it was fetched for as long as others may want it, and so long its host is stayed with.
  void stay_with(Talk& talk) {
    while (talk.sharing.gives() && at_work.load() > 0 && stop.load() == Stop::no) { std::this_thread::sleep_for(talk.sharing.pump()); }
  }

  [[nodiscard]] RunRequest request_for(std::size_t host) const {
    RunRequest request;
    request.run = members.size() == 1 ? work.run : fmt::format("{}-{:03}", work.run, host + 1);
    request.mode = work.mode;
    request.recipe = *members[host].recipe;
    request.choice = work.choice;
    request.network = work.network;
    request.shares = members.size() > 1 && work.stay == Stay::until_finished && work.mode == RunMode::apply && shares_files(request.recipe);
    return request;
  }

  /// `tell` hears how it ended before this returns.
  void run(std::size_t host, const std::function<void(HostEnd end)>& tell) {
    std::optional<RunLog> log;
    std::string trouble;  // the failed step and its cause
    std::string hint;
    const bool follows = work.act == FleetWork::Act::follow;
    const RunRequest request = follows ? RunRequest() : request_for(host);
    HostSharing* sharing = nullptr;  // none where nothing is shared: then nobody answers
    const auto note = [&](const Event& event, std::string_view line) {
      if (const auto* started = std::get_if<RunStarted>(&event.body); started != nullptr && !log) {
        const std::string& run = follows ? started->run : request.run;
        Result<RunLog> made = state_directory().and_then([&](const std::string& state) {
          return RunLog::create(state, run, members[host].options.destination(), RunLog::Forget::nothing);
        });
        if (made) {
          log.emplace(*std::move(made)).write(RunLog::Writes::when_flushed);
        } else {
          screen->announce_once("These runs are not logged on this machine: " + made.error().sentence());
        }
      }
      if (const auto* step = std::get_if<StepFinished>(&event.body);
          step != nullptr && step->outcome == Outcome::failed && trouble.empty()) {
        trouble = fmt::format("{}: {}", step->step, first_line(step->error ? step->error->message : step->reason, 300));
        hint = step->error ? step->error->hint : "";
      }
      if (const auto* wanted = std::get_if<FileWanted>(&event.body); wanted != nullptr && sharing != nullptr)
        sharing->wanted(wanted->sha256, wanted->have);
      if (log) log->event(event, line);
    };
    // Runs of many hosts say much at once: their logs are written a few times a second.
    milliseconds written = steady_now();
    const auto write_log = [&] {
      if (!log || steady_now() - written < kTick) return;
      log->flush();
      written = steady_now();
    };
    Talk talk(*this, host, note, write_log);
    if (request.shares) sharing = &talk.sharing;
    talk.client.hand_over(work.secrets);
    ++at_work;
    const Result<RunResult> result = follows ? talk.client.attach() : talk.client.run(request, work.stay);
    --at_work;
    HostEnd end;
    if (!result) {
      end = end_of(result.error());
      // Whoever was still on the way there when all were left has begun nothing.
      if (stop.load() != Stop::no && !talk.client.started()) return tell(left_alone());
    } else {
      end.exit = result->exit;
      end.finished = result->finished;
      end.run = result->run;
      end.why = trouble;
      end.hint = hint;
    }
    if (log) end.log = log->path();
    log.reset();
    tell(std::move(end));
    stay_with(talk);
  }

  Rehearsal rehearse(std::size_t host) {
    Talk talk(
        *this, host, [](const Event&, std::string_view) {}, [] {});
    const auto status = talk.client.ask(StatusRequest{});
    if (!status) return Rehearsal{{}, end_of(status.error())};
    if (is_running(**status)) return {};  // it is followed, or refused; nothing begins
    Result<std::vector<Event>> plan = talk.client.rehearse(request_for(host));
    if (!plan) return Rehearsal{{}, end_of(plan.error())};
    return Rehearsal{*std::move(plan), std::nullopt};
  }

  [[nodiscard]] HostEnd left_alone() const {
    HostEnd end;
    end.exit = stop.load() == Stop::cancel ? ExitCode::cancelled : ExitCode::detached;
    end.begun = false;
    return end;
  }

  /// Starts as many threads as may run at once; each takes the next host until there is none. `done` is given what came of each.
  template <class Do, class Done>
  void start(const std::shared_ptr<Shared>& self, const std::vector<std::size_t>& which, Do act, Done done) {
    {
      const std::lock_guard lock(mutex);
      next = 0;
      left = which.size();
      ++round;
    }
    const SignalsElsewhere signals;
    const std::size_t threads = std::min(std::max<std::size_t>(work.parallel, 1), which.size());
    for (std::size_t i = 0; i < threads; ++i) {
      const auto work_through = [self, which, act, done, mine = round] {
        while (true) {
          std::size_t index = 0;
          {
            const std::lock_guard lock(self->mutex);
            if (mine != self->round || self->next == which.size() || self->stop.load() != Stop::no) return;
            index = self->next++;
          }
          const std::size_t host = which[index];
          const milliseconds began = steady_now();
          self->screen->begin(host);
          auto outcome = act(*self, host);
          const std::lock_guard lock(self->mutex);
          if (mine != self->round) return;
          done(index, std::move(outcome), steady_now() - began);
          --self->left;
          self->changed.notify_all();
        }
      };
      try {
        std::thread(work_through).detach();  // one that waits for a host's answer must not hold up the end
      } catch (const std::system_error&) {   // so many threads are not to be had; those there are take all hosts
        if (i > 0) return;
        screen->announce("This machine gives no thread to work with; is a limit set (ulimit -u)?");
        stop = Stop::leave;
        return;
      }
    }
  }
};

Fleet::Fleet(std::vector<FleetMember> members, FleetWork work, std::shared_ptr<FleetScreen> screen) : shared_(std::make_shared<Shared>()) {
  shared_->members = std::move(members);
  shared_->work = std::move(work);
  shared_->screen = std::move(screen);
}

Fleet::~Fleet() = default;

bool Fleet::interrupted() const { return shared_->stop.load() != Shared::Stop::no; }

bool Fleet::cancelled() const { return shared_->stop.load() == Shared::Stop::cancel; }

/// The main thread's part: the keyboard, the questions, the screen.
void Fleet::watch(const std::function<bool()>& is_over, CtrlC ctrl_c) {
  using Stop = Shared::Stop;
  std::optional<milliseconds> first_ctrl_c;
  std::optional<milliseconds> give_up;
  const auto stop = [&](Stop how) {
    shared_->stop = how;
    shared_->screen->stop_asking();
    // A run that is cancelled comes to its end; those that are left notice it at once.
    give_up = how == Stop::leave ? std::optional(steady_now() + kLeaveLimit) : std::nullopt;
  };
  while (true) {
    {
      std::unique_lock lock(shared_->mutex);
      if (is_over()) return;
      shared_->changed.wait_for(lock, kTick);
      if (is_over()) return;
    }
    while (shared_->screen->ask_next()) {}
    while (const std::optional<Interrupt> interrupt = interrupts_.take()) {
      const Stop before = shared_->stop.load();
      const bool is_late = before == Stop::no_more && interrupt->at - *first_ctrl_c >= kSecondCtrlC;
      if (interrupt->what == Interrupt::What::leave || before == Stop::cancel || ctrl_c == CtrlC::leaves || is_late) {
        stop(Stop::leave);
      } else if (before == Stop::no) {
        first_ctrl_c = interrupt->at;
        stop(Stop::no_more);
        shared_->screen->announce("Leaving; what runs goes on on its host. Ctrl-C again within 3 s cancels it.");
      } else if (before == Stop::no_more) {
        stop(Stop::cancel);
        shared_->screen->announce("Cancelling after the current steps; Ctrl-C again leaves at once.");
      }
    }
    if (shared_->stop.load() == Stop::no_more && steady_now() - *first_ctrl_c >= kSecondCtrlC) stop(Stop::leave);
    shared_->screen->tick();
    if (give_up && steady_now() >= *give_up) return;
  }
}

std::vector<Rehearsal> Fleet::rehearse(const std::vector<std::size_t>& which) {
  const auto rehearsals = std::make_shared<std::vector<Rehearsal>>(which.size());
  const auto ended = std::make_shared<std::vector<char>>(which.size());
  shared_->start(
      shared_, which, [](Shared& shared, std::size_t host) { return shared.rehearse(host); },
      [rehearsals, ended](std::size_t index, Rehearsal rehearsal, milliseconds elapsed) {
        if (rehearsal.failure) rehearsal.failure->elapsed = elapsed;
        (*rehearsals)[index] = std::move(rehearsal);
        (*ended)[index] = 1;
      });
  watch([this] { return shared_->left == 0 || interrupted(); }, CtrlC::leaves);
  const std::lock_guard lock(shared_->mutex);
  ++shared_->round;
  for (std::size_t i = 0; i < which.size(); ++i) {
    if ((*ended)[i] == 0) (*rehearsals)[i].failure = shared_->left_alone();
  }
  return *rehearsals;
}

std::vector<Result<Json>> Fleet::ask(const Ask& ask) {
  const std::size_t count = shared_->members.size();
  const auto answers = std::make_shared<std::vector<std::optional<Result<Json>>>>(count);
  std::vector<std::size_t> everyone(count);
  std::iota(everyone.begin(), everyone.end(), std::size_t{0});
  shared_->start(
      shared_, everyone,
      [ask](Shared& shared, std::size_t host) {
        Shared::Talk talk(
            shared, host, [](const Event&, std::string_view) {}, [] {});
        return ask(host, talk.access, talk.client);
      },
      [answers](std::size_t index, Result<Json> answer, milliseconds) { (*answers)[index].emplace(std::move(answer)); });
  watch([this] { return shared_->left == 0 || interrupted(); }, CtrlC::leaves);
  std::vector<Result<Json>> all;
  const std::lock_guard lock(shared_->mutex);
  ++shared_->round;
  for (const std::optional<Result<Json>>& answer : *answers)
    all.push_back(answer ? *answer : Result<Json>(fail(ErrorCode::cancelled, "interrupted before it answered")));
  return all;
}

std::vector<HostEnd> Fleet::run(const std::vector<std::size_t>& which) {
  const auto ends = std::make_shared<std::vector<std::optional<HostEnd>>>(which.size());
  const auto screen = shared_->screen;
  shared_->start(
      shared_, which,
      [](Shared& shared, std::size_t host) {
        const milliseconds began = steady_now();
        HostEnd end;
        shared.run(host, [&](HostEnd how) {
          end = std::move(how);
          end.elapsed = steady_now() - began;
          shared.screen->ended(host, end);
        });
        return end;
      },
      [ends](std::size_t index, HostEnd end, milliseconds) { (*ends)[index] = std::move(end); });
  // Once no more are begun, those that are at work count.
  watch(
      [&] {
        if (shared_->left == 0) return true;
        const auto ended =
            static_cast<std::size_t>(std::count_if(ends->begin(), ends->end(), [](const auto& end) { return end.has_value(); }));
        return interrupted() && shared_->stop.load() != Shared::Stop::no_more && ended == shared_->next;
      },
      CtrlC::leaves_then_cancels);
  std::vector<HostEnd> all;
  const std::lock_guard lock(shared_->mutex);
  ++shared_->round;
  for (const std::optional<HostEnd>& end : *ends) all.push_back(end.value_or(shared_->left_alone()));
  return all;
}

}  // namespace gpustrap

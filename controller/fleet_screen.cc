#include "controller/fleet_screen.h"

#include <algorithm>
#include <utility>

namespace gpustrap {

class FleetScreen::OneOfMany : public Status {
 public:
  OneOfMany(FleetScreen& screen, std::size_t host) : screen_(screen), host_(host) {}

  void activity(const Activity& activity) override {
    tell([&](FleetView& view) { view.activity(host_, activity); });
  }
  void event(const Event& event) override {
    tell([&](FleetView& view) { view.event(host_, event); });
  }
  void progress(const Progress& progress) override {
    tell([&](FleetView& view) { view.progress(host_, progress); });
  }
  void connection_lost(const Error& why) override {
    tell([&](FleetView& view) { view.connection_lost(host_, why); });
  }
  void connection_back() override {
    tell([&](FleetView& view) { view.connection_back(host_); });
  }
  void rewound(std::uint64_t seen, std::uint64_t to) override {
    tell([&](FleetView& view) { view.rewound(host_, seen, to); });
  }
  void notice(std::string_view sentence) override {
    tell([&](FleetView& view) { view.notice(host_, sentence); });
  }
  // The end of one host is no end of the view, and its time passes with that of all.
  void ending(const Ending& /*ending*/) override {}
  void pause() override {}
  void tick() override {}

 private:
  template <class Say> void tell(Say say) {
    const std::lock_guard lock(screen_.drawing_);
    say(*screen_.view_);
  }

  FleetScreen& screen_;
  std::size_t host_;
};

FleetScreen::FleetScreen(std::unique_ptr<FleetView> view, std::size_t hosts) : view_(std::move(view)), somebody_(can_ask()) {
  for (std::size_t i = 0; i < hosts; ++i) hosts_.push_back(std::make_unique<OneOfMany>(*this, i));
}

FleetScreen::~FleetScreen() = default;

Status& FleetScreen::of(std::size_t host) { return *hosts_[host]; }

void FleetScreen::begin(std::size_t host) {
  const std::lock_guard lock(drawing_);
  view_->begin(host);
}

void FleetScreen::ended(std::size_t host, const HostEnd& end) {
  const std::lock_guard lock(drawing_);
  view_->ended(host, end);
}

void FleetScreen::announce(const std::string& sentence) {
  const std::lock_guard lock(drawing_);
  view_->announce(sentence);
}

void FleetScreen::announce_once(const std::string& sentence) {
  const std::lock_guard lock(drawing_);
  if (std::find(announced_.begin(), announced_.end(), sentence) != announced_.end()) return;
  announced_.push_back(sentence);
  view_->announce(sentence);
}

void FleetScreen::tick() {
  const std::lock_guard lock(drawing_);
  view_->tick();
}

void FleetScreen::summary(const std::vector<HostEnd>& ends, const std::vector<std::string>& next) {
  const std::lock_guard lock(drawing_);
  view_->summary(ends, next);
}

void FleetScreen::set_paused(bool paused) {
  const std::lock_guard lock(drawing_);
  paused ? view_->pause() : view_->resume();
}

std::optional<std::string> FleetScreen::wait_for(Question& question) {
  std::unique_lock lock(asking_);
  if (asking_stopped_) return std::nullopt;
  questions_.push_back(&question);
  answered_.wait(lock, [&] { return question.answered; });
  return question.answer;
}

bool FleetScreen::yes_no(const std::string& question) {
  Question asked{question};
  return wait_for(asked).has_value();
}

std::optional<std::string> FleetScreen::secret(const std::string& question) {
  Question asked{question, true};
  return wait_for(asked);
}

bool FleetScreen::ask_next() {
  std::unique_lock lock(asking_);
  if (questions_.empty()) return false;
  Question* question = questions_.front();
  const auto known = secrets_.find(question->text);
  std::optional<std::string> answer;
  if (question->secret && known != secrets_.end()) {
    answer = known->second;
  } else if (!asking_stopped_) {
    // The other hosts go on meanwhile, and who else has a question waits.
    lock.unlock();
    set_paused(true);
    if (question->secret)
      answer = ask_secret(question->text);
    else if (ask_yes_no(question->text))
      answer.emplace();
    set_paused(false);
    lock.lock();
    if (question->secret) secrets_[question->text] = answer;
  }
  questions_.pop_front();
  question->answered = true;
  question->answer = std::move(answer);
  answered_.notify_all();
  return true;
}

void FleetScreen::stop_asking() {
  const std::lock_guard lock(asking_);
  asking_stopped_ = true;
  for (Question* question : questions_) question->answered = true;
  questions_.clear();
  answered_.notify_all();
}

}  // namespace gpustrap

#include <algorithm>
#include <cstddef>
#include <map>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "controller/run_report.h"

// docs/report.md defines what is computed here.

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

constexpr std::size_t kNone = static_cast<std::size_t>(-1);

/// Something that took time: a step within one runner, a download, a restart.
struct Work {
  CriticalPart part;
  std::string step;
  milliseconds chain{0};       ///< the longest chain that ends with it
  std::size_t before = kNone;  ///< its link before this one
};

bool is_barrier(const std::string& kind) { return kind == "require" || kind == "wait" || kind == "reboot"; }

class Paths {
 public:
  explicit Paths(RunReport& report) : report_(report) {
    for (std::size_t i = 0; i < report.steps.size(); ++i) {
      const ReportedStep& step = report.steps[i];
      index_of_[step.title.id] = i;
      for (const StepSpan& span : step.spans) add({CriticalPart::What::step, i, span.from, span.to}, step.title.id);
    }
    for (std::size_t i = 0; i < report.downloads.size(); ++i) {
      const ReportedDownload& one = report.downloads[i];
      add({CriticalPart::What::download, i, one.from, one.to}, one.step);
    }
    for (std::size_t i = 0; i < report.restarts.size(); ++i) {
      const ReportedRestart& one = report.restarts[i];
      add({CriticalPart::What::restart, i, one.from, one.to}, "");
    }
    std::stable_sort(works_.begin(), works_.end(),
                     [](const Work& a, const Work& b) { return std::pair(a.part.to, a.part.from) < std::pair(b.part.to, b.part.from); });
  }

  /// What waits ends later than what it waits for, so that in this order every chain is known when it is asked for.
  void find() {
    std::size_t last = kNone;
    for (std::size_t i = 0; i < works_.size(); ++i) {
      Work& work = works_[i];
      // A download within its step is a part of it; only one that ran ahead is a link of its own.
      const bool is_link = work.part.what != CriticalPart::What::download || report_.downloads[work.part.index].ahead;
      if (!is_link) continue;
      for (std::size_t k = 0; k < i; ++k) {
        if (!waits_for(work, works_[k]) || (work.before != kNone && works_[k].chain <= works_[work.before].chain)) continue;
        work.before = k;
      }
      work.chain = work.part.to - work.part.from + (work.before == kNone ? milliseconds(0) : works_[work.before].chain);
      if (last == kNone || work.chain >= works_[last].chain) last = i;
    }
    if (last != kNone) report_.path_length = works_[last].chain;
    for (; last != kNone; last = works_[last].before) {
      const CriticalPart& part = works_[last].part;
      report_.path.insert(report_.path.begin(), part);
      switch (part.what) {
        case CriticalPart::What::step: report_.steps[part.index].critical = true; break;
        case CriticalPart::What::download: report_.downloads[part.index].critical = true; break;
        case CriticalPart::What::restart: report_.restarts[part.index].critical = true; break;
      }
    }
  }

  /// The times in which nothing ran.
  void find_gaps() {
    std::vector<IdleGap> waits = std::move(report_.gaps);  // where somebody was waited for
    report_.gaps.clear();
    std::vector<const Work*> starts;
    for (const Work& work : works_) starts.push_back(&work);
    std::stable_sort(starts.begin(), starts.end(), [](const Work* a, const Work* b) { return a->part.from < b->part.from; });
    RunTime busy_until{0};
    std::string before;
    const auto gap = [&](RunTime to, const std::string& after) {
      if (to <= busy_until) return;
      IdleGap one{busy_until, to, before, after, false};
      for (const IdleGap& wait : waits) one.for_secret = one.for_secret || (wait.from >= one.from && wait.from <= one.to);
      report_.idle += one.length();
      report_.gaps.push_back(std::move(one));
    };
    for (const Work* work : starts) {
      gap(work->part.from, work->step);
      if (work->part.to < busy_until) continue;
      busy_until = work->part.to;
      before = work->step;
    }
    gap(report_.wall, "");
  }

 private:
  void add(CriticalPart part, const std::string& step) { works_.push_back({part, step}); }

  const ReportedStep* step_of(const Work& work) const {
    const auto found = index_of_.find(work.step);
    return found == index_of_.end() ? nullptr : &report_.steps[found->second];
  }

  bool waits_for(const Work& later, const Work& earlier) const {
    if (earlier.part.to > later.part.from || &later == &earlier) return false;
    if (earlier.part.what == CriticalPart::What::restart || later.part.what == CriticalPart::What::restart)
      return earlier.part.what != CriticalPart::What::download;
    const ReportedStep* step = step_of(later);
    const ReportedStep* other = step_of(earlier);
    if (step == nullptr || other == nullptr) return false;
    if (earlier.part.what == CriticalPart::What::download)
      return later.part.what == CriticalPart::What::step && report_.downloads[earlier.part.index].ahead && earlier.step == later.step;
    // A download that runs ahead of its step needs none of what the step needs, but no barrier is overtaken.
    if (later.part.what == CriticalPart::What::download)
      return is_barrier(other->title.kind) && index_of_.at(earlier.step) < index_of_.at(later.step);
    if (!step->needs) return true;  // whatever had ended by then
    const bool needed = std::find(step->needs->begin(), step->needs->end(), earlier.step) != step->needs->end();
    return needed || earlier.step == later.step || (!step->title.uses.empty() && step->title.uses == other->title.uses);
  }

  RunReport& report_;
  std::vector<Work> works_;
  std::map<std::string, std::size_t> index_of_;
};

}  // namespace

void find_where_time_went(RunReport& report) {
  Paths paths(report);
  paths.find();
  paths.find_gaps();
}

}  // namespace gpustrap

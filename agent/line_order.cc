#include "agent/line_order.h"

#include <algorithm>

namespace gpustrap {
namespace {

/// What a step of the kind usually takes once its files are there. The order of magnitude is all that matters, and that none takes nothing:
/// of a row of downloads the first is needed first.
std::chrono::seconds usual_work(StepKind kind) {
  switch (kind) {
    case StepKind::nvidia_driver:
    case StepKind::cuda:
    case StepKind::reboot: return std::chrono::seconds(60);
    case StepKind::apt:
    case StepKind::apt_repository:
    case StepKind::deb:
    case StepKind::conda:
    case StepKind::conda_env:
    case StepKind::pip:
    case StepKind::git: return std::chrono::seconds(20);
    case StepKind::command:
    case StepKind::wait:
    case StepKind::venv:
    case StepKind::nvidia_smi:
    case StepKind::service:
    case StepKind::jupyter: return std::chrono::seconds(5);
    case StepKind::require:
    case StepKind::download:
    case StepKind::archive:
    case StepKind::file:
    case StepKind::block:
    case StepKind::directory:
    case StepKind::symlink:
    case StepKind::environment:
    case StepKind::idle_stop: break;
  }
  return std::chrono::seconds(1);
}

}  // namespace

std::vector<std::chrono::seconds> work_behind(const std::vector<BranchStep>& steps) {
  std::vector<std::chrono::seconds> work(steps.size());
  // From the last one on, each has been told by all that come after it how long those take.
  for (std::size_t i = steps.size(); i-- > 0;) {
    if (!steps[i].is_over) work[i] += usual_work(steps[i].kind);
    for (const std::size_t before : steps[i].after) work[before] = std::max(work[before], work[i]);
  }
  return work;
}

std::size_t LineOrder::look(std::vector<Transfer>& transfers, LineShare::Clock::time_point now) {
  std::stable_sort(transfers.begin(), transfers.end(), [](const Transfer& a, const Transfer& b) {
    if (a.behind != b.behind) return a.behind > b.behind;
    if (a.awaited != b.awaited) return a.awaited == LineShare::Awaited::yes;
    return a.step < b.step;
  });
  const auto share = [&](LineShare& line, std::size_t place) {
    if (transfers.size() < place + 2) {
      line.forget();
      return LineShare::kAll;
    }
    const Transfer& transfer = transfers[place];
    const std::size_t beside = line.look({transfer.step, transfer.awaited, transfer.bytes, transfer.missing, transfer.counted_at}, now);
    return beside == LineShare::kAll ? beside : place + 1 + beside;
  };
  if (const std::size_t may_go = share(first_, 0); may_go != LineShare::kAll) {
    second_.forget();
    return may_go;
  }
  return share(second_, 1);
}

}  // namespace gpustrap

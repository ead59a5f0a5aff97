#include "agent/steps/nvidia_repository.h"

#include <algorithm>
#include <cctype>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "agent/protocol/step_spec.h"
#include "agent/steps/kinds.h"
#include "agent/steps/step.h"

namespace gpustrap {
namespace {

/// As the pin that NVIDIA's own keyring package brings: above the distribution's 500, so that the two are not mixed.
constexpr std::int64_t kPriority = 600;

Result<void> add(Host& host, StepLog& log, const AptRepositorySpec& spec) {
  const std::unique_ptr<Step> step = make_apt_repository_step(spec);
  const Result<StepState> state = step->check(host);
  if (!state) return fail(state.error());
  if (state->is == StepState::Is::satisfied) return {};
  log.say(fmt::format("NVIDIA's repository {}: {}", spec.url.text, state->reason));
  return step->apply(host, log);
}

}  // namespace

std::string NvidiaRepository::url() const {
  if (!mirror || !answer.url.starts_with(base)) return answer.url;
  return mirror->text + (mirror->text.ends_with('/') ? "" : "/") + answer.url.substr(base.size());
}

Result<void> add_nvidia_repository(Host& host, StepLog& log, const NvidiaRepository& repository) {
  const std::string fingerprint = repository.fingerprint.empty() ? repository.answer.fingerprint : repository.fingerprint;
  if (fingerprint.empty()) {
    return fail(ErrorCode::unsupported, fmt::format("which key signs NVIDIA's repository {} is not recorded here", repository.answer.name),
                "give the key's `fingerprint`, as NVIDIA's installation guide for this release names it");
  }
  AptRepositorySpec spec;
  spec.name = "nvidia-cuda";
  spec.url = Url{repository.url() + "/"};
  spec.priority = kPriority;
  spec.fingerprint = fingerprint;
  // The key's file is called by the end of its fingerprint, in small letters or in capitals.
  std::string id = fingerprint.substr(fingerprint.size() - 8);
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  spec.key = Url{fmt::format("{}{}.pub", spec.url.text, id)};
  Result<void> added = add(host, log, spec);
  if (added || added.error().code() != ErrorCode::not_found) return added;
  std::transform(id.begin(), id.end(), id.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
  spec.key = Url{fmt::format("{}{}.pub", spec.url.text, id)};
  return add(host, log, spec);
}

}  // namespace gpustrap

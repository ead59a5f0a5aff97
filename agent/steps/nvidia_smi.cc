#include <algorithm>
#include <optional>
#include <string>
#include <vector>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/steps/kinds.h"
#include "agent/steps/nvidia_diagnosis.h"
#include "agent/steps/nvidia_probe.h"
#include "agent/steps/nvidia_query.h"

namespace gpustrap {
namespace {

class NvidiaSmiStep : public Step {
 public:
  explicit NvidiaSmiStep(NvidiaSmiSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<SmiAnswer> answer = ask_nvidia_smi(host);
    if (!answer) return fail(answer.error());
    if (const std::optional<Error> unmet = unmet_demand(host, *answer)) return StepState::unsatisfied(unmet->why());
    std::string told = describe(*answer);
    if (!spec_.probe || answer->gpus.empty()) return StepState::satisfied(std::move(told));
    const std::optional<GpuProof> proof = read_proof(host);
    const GpuProof now = proof_of(host, answer->gpus);
    const std::string stale = proof ? proof_difference(*proof, now) : "not proven yet";
    if (stale.empty())
      return StepState::satisfied(fmt::format("{}, proven {} ago, same boot and driver", told,
                                              human_duration(std::chrono::seconds(std::max<std::int64_t>(now.time - proof->time, 0)))));
    if (probe_interpreter(host).empty())
      return StepState::unknown(fmt::format("{}, {}: the probe needs a Python, which an earlier step may install", told, stale));
    return StepState::unsatisfied(fmt::format("{}, {}", told, stale), "allocate memory and run a kernel on every GPU");
  }

  /// Nothing but the proof can be made here; every other demand is the driver's or the instance's to meet.
  Result<void> apply(Host& host, StepLog& log) override {
    const Result<SmiAnswer> answer = ask_nvidia_smi(host);
    if (!answer) return fail(answer.error());
    if (std::optional<Error> unmet = unmet_demand(host, *answer)) {
      for (const std::string& line : split(answer->said, '\n')) {
        if (answer->gpus.empty() && !trim(line).empty()) log.say(line);
      }
      return fail(*std::move(unmet));
    }
    if (!spec_.probe || answer->gpus.empty()) return {};
    const std::string interpreter = probe_interpreter(host);
    if (interpreter.empty()) {
      return fail(ErrorCode::not_found, "the probe needs a Python, and this host has none",
                  "add a step before this one: apt: { packages: [python3-minimal] }; or say `probe: false`");
    }
    if (Result<void> proven = probe_gpus(host, log, interpreter, answer->gpus); !proven) return proven;
    return write_proof(host, proof_of(host, answer->gpus));
  }

 private:
  /// The first that is not met, with its cause and what to do.
  [[nodiscard]] std::optional<Error> unmet_demand(const Host& host, const SmiAnswer& answer) const {
    if (!answer.works()) {
      Error error = diagnose_nvidia_smi(host, answer);
      const bool none_is_fine = spec_.min_gpus == 0 && host.facts().gpus.empty() && !answer.timed_out;
      if (none_is_fine) return std::nullopt;
      return error;
    }
    for (const AnsweringGpu& gpu : answer.gpus) {
      if (gpu.memory || gpu.memory_text == "[N/A]" || gpu.memory_text == "[Not Supported]") continue;
      SmiAnswer lost = answer;  // "[GPU is lost]", "[Unknown Error]", "ERR!" in an answer that otherwise succeeds
      lost.exit_code = 15;
      const Error cause = diagnose_nvidia_smi(host, lost);
      return Error(ErrorCode::io, fmt::format("GPU {} ({}) answers `{}`: {}", gpu.index, gpu.name, gpu.memory_text, cause.why()),
                   cause.hint());
    }
    if (static_cast<std::int64_t>(answer.gpus.size()) < spec_.min_gpus) return diagnose_missing_gpus(host, answer, spec_.min_gpus);
    if (!spec_.min_driver.empty() && compare_versions(answer.gpus.front().driver, spec_.min_driver) < 0) {
      return Error(ErrorCode::unsupported,
                   fmt::format("driver {} is loaded, {} or newer wanted", answer.gpus.front().driver, spec_.min_driver),
                   "install a newer driver and reboot, or lower `min_driver`");
    }
    if (!spec_.min_memory) return std::nullopt;
    for (const AnsweringGpu& gpu : answer.gpus) {
      if (!gpu.memory) {
        return Error(ErrorCode::unsupported,
                     fmt::format("GPU {} ({}) has no memory of its own to compare, {} wanted", gpu.index, gpu.name,
                                 human_size(spec_.min_memory->bytes)),
                     "it shares the system's: leave `min_memory` out, and ask for `memory` in a `require` step");
      }
      if (*gpu.memory < spec_.min_memory->bytes) {
        return Error(ErrorCode::unsupported,
                     fmt::format("GPU {} ({}) has {} of memory, {} wanted", gpu.index, gpu.name, human_size(*gpu.memory),
                                 human_size(spec_.min_memory->bytes)),
                     "choose an instance with a larger GPU, or lower `min_memory`: a GPU sold as 16 GB shows 15 GiB");
      }
    }
    return std::nullopt;
  }

  [[nodiscard]] static std::string describe(const SmiAnswer& answer) {
    if (answer.gpus.empty()) return "no GPU, and none is asked for";
    return fmt::format("{}, driver {}", describe_gpus(answer.gpus), answer.gpus.front().driver);
  }

  NvidiaSmiSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_nvidia_smi_step(const StepSpec& spec) { return std::make_unique<NvidiaSmiStep>(std::get<NvidiaSmiSpec>(spec)); }

}  // namespace gpustrap

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"

namespace gpustrap {
namespace {

class SymlinkStep : public Step {
 public:
  explicit SymlinkStep(SymlinkSpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const std::string path = host.expand(spec_.path.text);
    const std::string target = host.expand(spec_.target.text);
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (!*info) return StepState::unsatisfied(path + " does not exist", fmt::format("link {} to {}", path, target));
    if ((*info)->type != FileType::symlink) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, which a link never replaces", path, describe_type((*info)->type)),
                  "move it away, or choose another path");
    }
    const Result<std::string> now = host.read_link(path);
    if (!now) return fail(now.error());
    if (*now != target) return StepState::unsatisfied(fmt::format("{} points to {}, {} wanted", path, *now, target));
    const Result<std::optional<FileInfo>> there = host.info(target);
    return StepState::satisfied(fmt::format("{} points to {}{}", path, target, there && !*there ? ", which does not exist" : ""));
  }

  Result<void> apply(Host& host, StepLog& /*log*/) override {
    const std::string path = host.expand(spec_.path.text);
    if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
    return host.make_symlink(path, host.expand(spec_.target.text));
  }

 private:
  SymlinkSpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_symlink_step(const StepSpec& spec) { return std::make_unique<SymlinkStep>(std::get<SymlinkSpec>(spec)); }

}  // namespace gpustrap

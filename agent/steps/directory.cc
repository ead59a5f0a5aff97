#include <fmt/format.h>

#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"

namespace gpustrap {
namespace {

class DirectoryStep : public Step {
 public:
  explicit DirectoryStep(DirectorySpec spec) : spec_(std::move(spec)), wanted_{spec_.mode, spec_.owner, spec_.group} {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<std::string> path = follow_link(host.expand(spec_.path.text), host);
    if (!path) return fail(path.error());
    const Result<std::optional<FileInfo>> info = host.info(*path);
    if (!info) return fail(info.error());
    if (!*info) return StepState::unsatisfied(*path + " does not exist", "make the directory " + *path);
    if ((*info)->type != FileType::directory) {
      return fail(ErrorCode::unsafe, fmt::format("{} is {}, a directory is wanted", *path, describe_type((*info)->type)),
                  "move it away, or choose another path");
    }
    const Result<std::string> difference = ownership_difference(**info, wanted_, host);
    if (!difference) return fail(difference.error());
    if (!difference->empty()) return StepState::unsatisfied(*difference);
    return StepState::satisfied(*path + (made_ ? " made" : " exists"));
  }

  Result<void> apply(Host& host, StepLog& /*log*/) override {
    const Result<std::string> path = follow_link(host.expand(spec_.path.text), host);
    if (!path) return fail(path.error());
    const Result<FileAttributes> attributes = attributes_of(wanted_, host);
    if (!attributes) return fail(attributes.error());
    const Result<std::optional<FileInfo>> before = host.info(*path);
    made_ = before && !*before;
    return host.make_directory(*path, *attributes);
  }

 private:
  DirectorySpec spec_;
  WantedOwnership wanted_;
  bool made_ = false;
};

}  // namespace

std::unique_ptr<Step> make_directory_step(const StepSpec& spec) { return std::make_unique<DirectoryStep>(std::get<DirectorySpec>(spec)); }

}  // namespace gpustrap

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/managed_block.h"

namespace gpustrap {
namespace {

class BlockStep : public Step {
 public:
  explicit BlockStep(BlockSpec spec) : spec_(std::move(spec)), name_{spec_.marker, spec_.comment} {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<EditedFile> file = look_at_file(host.expand(spec_.path.text), host);
    if (!file) return fail(file.error());
    const Result<std::string> wanted = wanted_text(*file);
    if (!wanted) return fail(wanted.error());
    const bool done = *wanted == file->content && (file->info || spec_.absent);
    if (done && spec_.absent) return StepState::satisfied(fmt::format("{} has no block `{}`, as wanted", file->path, spec_.marker));
    if (done) return StepState::satisfied(fmt::format("the block `{}` of {} is as wanted", spec_.marker, file->path));
    return content_differs(*file, *wanted, std::nullopt);
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<EditedFile> file = look_at_file(host.expand(spec_.path.text), host);
    if (!file) return fail(file.error());
    const Result<std::string> wanted = wanted_text(*file);
    if (!wanted) return fail(wanted.error());
    if (!file->info) {
      if (Result<void> made = host.make_directory(parent_of(file->path), {}); !made) return made;
    }
    // A new block takes nothing away. One that is replaced may hold what somebody wrote into it.
    const Result<std::optional<std::vector<std::string>>> block = lines_of_block(file->content, name_);
    if (!block) return fail(block.error());
    if (*block) {
      if (Result<void> kept = keep_backup(*file, host, log); !kept) return kept;
    }
    return host.write(file->path, *wanted, {});
  }

 private:
  [[nodiscard]] Result<std::string> wanted_text(const EditedFile& file) const {
    Result<std::string> text =
        spec_.absent ? without_block(file.content, name_) : with_block(file.content, name_, text_lines(spec_.content), BlockPlace::end);
    if (!text) return fail(std::move(text).error().in(file.path));
    return text;
  }

  BlockSpec spec_;
  BlockName name_;
};

}  // namespace

std::unique_ptr<Step> make_block_step(const StepSpec& spec) { return std::make_unique<BlockStep>(std::get<BlockSpec>(spec)); }

}  // namespace gpustrap

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/ownership.h"

namespace gpustrap {
namespace {

class FileStep : public Step {
 public:
  explicit FileStep(FileSpec spec) : spec_(std::move(spec)), wanted_{spec_.mode, spec_.owner, spec_.group} {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override { return spec_.absent ? check_absent(host) : check_present(host); }

  Result<void> apply(Host& host, StepLog& log) override { return spec_.absent ? remove(host, log) : write(host, log); }

 private:
  [[nodiscard]] Result<StepState> check_present(const Host& host) const {
    const Result<EditedFile> file = look_at_file(host.expand(spec_.path.text), host);
    if (!file) return fail(file.error());
    if (!file->info || file->content != spec_.content) {
      return content_differs(*file, spec_.content, spec_.mode ? std::optional<unsigned>(spec_.mode->bits) : std::nullopt);
    }
    const Result<std::string> difference = ownership_difference(*file->info, wanted_, host);
    if (!difference) return fail(difference.error());
    if (!difference->empty()) return StepState::unsatisfied(fmt::format("{}: {}", file->path, *difference));
    const Result<bool> planted = is_planted(*file, host);
    if (!planted) return fail(planted.error());
    if (*planted) return StepState::unsatisfied(fmt::format("{} belongs to uid {}, who can change it", file->path, file->info->uid));
    return StepState::satisfied(file->path + " is as wanted");
  }

  [[nodiscard]] Result<StepState> check_absent(const Host& host) const {
    const std::string path = host.expand(spec_.path.text);
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (!*info) return StepState::satisfied(path + " does not exist, as wanted");
    if ((*info)->type == FileType::regular || (*info)->type == FileType::symlink) {
      return StepState::unsatisfied(path + " exists", "remove " + path + ((*info)->type == FileType::regular ? ", after a backup" : ""));
    }
    return fail(ErrorCode::unsafe, fmt::format("{} is {}, only a file would be removed", path, describe_type((*info)->type)),
                "remove it yourself where that is meant");
  }

  Result<void> write(Host& host, StepLog& log) {
    const Result<EditedFile> file = look_at_file(host.expand(spec_.path.text), host);
    if (!file) return fail(file.error());
    Result<FileAttributes> attributes = attributes_of(wanted_, host);
    if (!attributes) return fail(attributes.error());
    const Result<bool> planted = is_planted(*file, host);
    if (!planted) return fail(planted.error());
    if (file->info && file->content == spec_.content && !*planted) return host.set_attributes(file->path, *attributes);
    if (!file->info) {
      if (Result<void> made = host.make_directory(parent_of(file->path), {}); !made) return made;
    }
    if (Result<void> kept = keep_backup(*file, host, log); !kept) return kept;
    if (*planted) {
      attributes->uid = 0;
      if (!attributes->gid) attributes->gid = 0;
      if (!attributes->mode) attributes->mode = 0644;
    }
    return host.write(file->path, spec_.content, *attributes);
  }

  /// A user's file where everybody may put one. Whom the recipe gives it to may have it.
  [[nodiscard]] Result<bool> is_planted(const EditedFile& file, const Host& host) const {
    if (!file.info || !spec_.owner.empty()) return false;
    return may_be_planted(file.path, *file.info, host);
  }

  /// A link is removed itself; what it points to is somebody else's.
  Result<void> remove(Host& host, StepLog& log) {
    const std::string path = host.expand(spec_.path.text);
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info) return fail(info.error());
    if (*info && (*info)->type == FileType::regular) {
      const Result<EditedFile> file = look_at_file(path, host);
      if (!file) return fail(file.error());
      if (Result<void> kept = keep_backup(*file, host, log); !kept) return kept;
    } else if (*info && (*info)->type == FileType::symlink) {
      const Result<std::string> target = host.read_link(path);
      if (!target) return fail(target.error());
      log.say(fmt::format("removing the link {}, which pointed to {}", path, *target));
    }
    return host.remove(path);
  }

  FileSpec spec_;
  WantedOwnership wanted_;
};

}  // namespace

std::unique_ptr<Step> make_file_step(const StepSpec& spec) { return std::make_unique<FileStep>(std::get<FileSpec>(spec)); }

}  // namespace gpustrap

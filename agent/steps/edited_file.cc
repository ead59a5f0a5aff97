#include "agent/steps/edited_file.h"

#include <fmt/format.h>

#include "agent/steps/ownership.h"
#include "agent/steps/text_diff.h"

namespace gpustrap {
namespace {

/// A file that differs this often from all its backups is not edited by people.
constexpr int kMostBackups = 100;

}  // namespace

Result<EditedFile> look_at_file(const std::string& path, const Host& host) {
  Result<std::string> where = follow_link(path, host);
  if (!where) return fail(std::move(where).error());
  EditedFile file;
  file.path = *std::move(where);
  Result<std::optional<FileInfo>> info = host.info(file.path);
  if (!info) return fail(std::move(info).error());
  if (!*info) return file;
  file.info = *info;
  if (file.info->type != FileType::regular) {
    return fail(ErrorCode::unsafe, fmt::format("{} is {}, a file is wanted", file.path, describe_type(file.info->type)),
                "move it away, or choose another path");
  }
  Result<std::string> content = host.read(file.path);
  if (!content) return fail(std::move(content).error());
  file.content = *std::move(content);
  return file;
}

StepState content_differs(const EditedFile& file, std::string_view wanted, std::optional<unsigned> shown_mode) {
  const auto is_private = [](std::optional<unsigned> mode) { return mode && (*mode & 0004U) == 0; };
  const bool hidden = is_private(shown_mode) || (file.info && is_private(file.info->mode));
  const TextDiff diff = diff_texts(file.content, wanted, file.path);
  const std::string changes = hidden ? "" : diff.unified;
  if (!file.info) return StepState::unsatisfied(file.path + " does not exist", changes);
  return StepState::unsatisfied(fmt::format("{}: {}", file.path, diff.summary()), changes);
}

Result<void> keep_backup(const EditedFile& file, Host& host, StepLog& log, std::string_view ending) {
  if (!file.info) return {};
  for (int number = 1; number <= kMostBackups; ++number) {
    const std::string backup = fmt::format("{}.gpustrap-backup{}{}", file.path, number == 1 ? "" : fmt::format(".{}", number), ending);
    const Result<std::optional<FileInfo>> info = host.info(backup);
    if (!info) return fail(info.error());
    if (*info) {
      if ((*info)->type != FileType::regular || (*info)->size != file.info->size) continue;
      const Result<std::string> kept = host.read(backup);
      if (kept && *kept == file.content) return {};
      continue;
    }
    FileAttributes attributes;
    attributes.mode = file.info->mode & 0777U;
    if (host.self().uid == 0) {
      attributes.uid = file.info->uid;
      attributes.gid = file.info->gid;
    } else if (file.info->uid != host.self().uid || file.info->gid != host.self().gid) {
      // The copy belongs to someone else than the file did, so its group and others may be other people.
      attributes.mode = 0600;
    }
    if (Result<void> wrote = host.write(backup, file.content, attributes); !wrote) return wrote;
    log.say(fmt::format("kept what stood in {} as {}", file.path, backup));
    return {};
  }
  return fail(ErrorCode::unsafe, fmt::format("{} has {} backups already", file.path, kMostBackups),
              "something else rewrites this file again and again; look at the backups, then remove them");
}

}  // namespace gpustrap

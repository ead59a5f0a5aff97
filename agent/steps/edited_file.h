#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/steps/step.h"

namespace gpustrap {

/// A file that a step edits as a whole or in part, as it stands.
struct EditedFile {
  std::string path;              ///< behind links; see follow_link
  std::optional<FileInfo> info;  ///< nothing where there is no file
  std::string content;
};

/// What stands at `path`. Error unsafe where that is not a regular file.
[[nodiscard]] Result<EditedFile> look_at_file(const std::string& path, const Host& host);

/// Unsatisfied, with the difference as the reason and the diff as the changes. Of a file that not everybody may read, the content
/// is not shown: a diff ends up in logs. `shown_mode` is the mode that the file will have.
[[nodiscard]] StepState content_differs(const EditedFile& file, std::string_view wanted, std::optional<unsigned> shown_mode);

/// Keeps what stands there as FILE.gpustrap-backup before it is replaced, with its mode. A backup that exists is never replaced:
/// other content goes to FILE.gpustrap-backup.2 and so on, the same content is kept once.
/// `ending` is put behind that name, for folders whose readers complain about files of unknown endings.
[[nodiscard]] Result<void> keep_backup(const EditedFile& file, Host& host, StepLog& log, std::string_view ending = {});

}  // namespace gpustrap

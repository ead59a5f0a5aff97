#include "agent/steps/conda_prefix.h"

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/steps/ownership.h"
#include "agent/steps/state_paths.h"

namespace gpustrap {
namespace {

std::string note_path(const Host& host, const std::string& folder) {
  return fmt::format("{}/{}.json", state_directory(host, "conda"), sha256_hex(folder).substr(0, 32));
}

Result<bool> is_there(const Host& host, const std::string& path) {
  const Result<std::optional<FileInfo>> info = host.info(path);
  if (!info) return fail(info.error());
  return info->has_value();
}

}  // namespace

Result<std::map<std::string, CondaPackage>> conda_packages(const Host& host, const std::string& environment) {
  std::map<std::string, CondaPackage> packages;
  const Result<std::vector<std::string>> files = host.list(environment + "/conda-meta");
  if (!files) {
    if (files.error().code() == ErrorCode::not_found) return packages;
    return fail(files.error());
  }
  for (const std::string& file : *files) {
    // NAME-VERSION-BUILD.json; only the name may have dashes of its own.
    if (!file.ends_with(".json")) continue;
    const std::string stem = file.substr(0, file.size() - 5);
    const std::size_t build = stem.rfind('-');
    if (build == std::string::npos || build == 0) continue;
    const std::size_t version = stem.rfind('-', build - 1);
    if (version == std::string::npos || version == 0) continue;
    packages[stem.substr(0, version)] = {stem.substr(version + 1, build - version - 1), stem.substr(build + 1)};
  }
  return packages;
}

Result<CondaPrefix> look_at_conda_prefix(const Host& host, const std::string& prefix) {
  const Result<std::optional<FileInfo>> info = host.info(prefix);
  if (!info) return fail(info.error());
  if (!*info) return CondaPrefix::absent;
  if ((*info)->type != FileType::directory) {
    return fail(ErrorCode::unsafe, fmt::format("{} is {}, a folder for conda is wanted", prefix, describe_type((*info)->type)),
                "move it away, or choose another `prefix`");
  }
  const Result<std::vector<std::string>> inside = host.list(prefix);
  if (!inside) return fail(inside.error());
  if (inside->empty()) return CondaPrefix::empty;
  bool begun = false;
  // The installer makes these two first and removes them last.
  for (const char* name : {"/install_tmp", "/.messages.txt"}) {
    const Result<bool> there = is_there(host, prefix + name);
    if (!there) return fail(there.error());
    begun = begun || *there;
  }
  const Result<std::map<std::string, CondaPackage>> packages = conda_packages(host, prefix);
  if (!packages) return fail(packages.error());
  bool whole = packages->contains("conda");
  for (const char* name : {"/bin/conda", "/bin/python"}) {
    const Result<bool> there = is_there(host, prefix + name);
    if (!there) return fail(there.error());
    whole = whole && *there;
  }
  if (whole && !begun) return CondaPrefix::complete;
  for (const char* name : {"/conda-meta", "/_conda", "/conda.exe"}) {
    const Result<bool> there = is_there(host, prefix + name);
    if (!there) return fail(there.error());
    begun = begun || *there;
  }
  return begun ? CondaPrefix::cut : CondaPrefix::foreign;
}

std::string conda_work(const Host& host, const std::string& folder) {
  const Result<std::string> text = host.read(note_path(host, folder));
  if (!text) return {};
  const Json note = Json::parse(*text, nullptr, false);
  if (!note.is_object() || !note.contains("doing") || !note["doing"].is_string() || !note.contains("inode") ||
      !note["inode"].is_number_unsigned()) {
    return {};
  }
  const Result<std::optional<FileInfo>> info = host.info(folder);
  if (!info || !*info || (*info)->inode != note["inode"].get<std::uint64_t>()) return {};
  return note["doing"].get<std::string>();
}

Result<void> begin_conda_work(Host& host, const std::string& folder, std::string_view doing) {
  const Result<std::optional<FileInfo>> info = host.info(folder);
  if (!info) return fail(info.error());
  const Json note = {{"folder", to_utf8(folder)}, {"inode", *info ? (*info)->inode : 0}, {"doing", doing}};
  const std::string path = note_path(host, folder);
  if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
  return host.write(path, note.dump() + "\n", {});
}

Result<void> end_conda_work(Host& host, const std::string& folder) {
  const std::string path = note_path(host, folder);
  const Result<bool> there = is_there(host, path);
  if (!there) return fail(there.error());
  return *there ? host.remove(path) : Result<void>();
}

Result<void> clear_folder(Host& host, const std::string& folder) {
  const Result<std::vector<std::string>> inside = host.list(folder);
  if (!inside) return inside.error().code() == ErrorCode::not_found ? Result<void>() : fail(inside.error());
  for (const std::string& name : *inside) {
    if (Result<void> removed = host.remove_tree(fmt::format("{}/{}", folder, name)); !removed) return removed;
  }
  (void)host.remove(folder);  // a disk that is mounted there stays
  return {};
}

}  // namespace gpustrap

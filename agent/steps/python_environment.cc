#include "agent/steps/python_environment.h"

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/steps/conda_prefix.h"
#include "agent/steps/python_version.h"

namespace gpustrap {
namespace {

/// Follows links to their end; false where one leads nowhere.
bool leads_somewhere(const Host& host, std::string path) {
  for (int step = 0; step < 16; ++step) {
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (!info || !*info) return false;
    if ((*info)->type != FileType::symlink) return true;
    const Result<std::string> target = host.read_link(path);
    if (!target) return false;
    path = target->starts_with('/') ? *target : parent_of(path) + "/" + *target;
  }
  return false;
}

/// "name: value" at the start of a METADATA file.
std::string metadata_field(const std::string& text, std::string_view name) {
  for (const std::string& line : split(text, '\n')) {
    if (trim(line).empty()) break;  // the description follows
    if (line.starts_with(name) && line.size() > name.size() && line[name.size()] == ':')
      return std::string(trim(std::string_view(line).substr(name.size() + 1)));
  }
  return {};
}

/// "torch-2.1.0+cu121.dist-info" holds name and version already; only odd names need the file.
std::pair<std::string, std::string> name_and_version(const Host& host, const std::string& folder, const std::string& site_packages) {
  const std::string stem = folder.substr(0, folder.rfind('.'));
  const std::size_t dash = stem.find('-');
  if (dash != std::string::npos && stem.find('-', dash + 1) == std::string::npos)
    return {normalized_package_name(stem.substr(0, dash)), stem.substr(dash + 1)};
  const Result<std::string> metadata = host.read(site_packages + "/" + folder + "/METADATA");
  if (!metadata) return {};
  return {normalized_package_name(metadata_field(*metadata, "Name")), metadata_field(*metadata, "Version")};
}

/// An environment of conda that has a Python.
Result<std::optional<PythonEnvironment>> find_conda_environment(const Host& host, const std::string& path) {
  const Result<std::map<std::string, CondaPackage>> packages = conda_packages(host, path);
  if (!packages) return fail(packages.error());
  const auto python = packages->find("python");
  const std::string interpreter = path + "/bin/python";
  if (python == packages->end() || !leads_somewhere(host, interpreter)) return std::optional<PythonEnvironment>();
  return std::optional<PythonEnvironment>({path, python->second.version, interpreter, false});
}

}  // namespace

Result<std::optional<PythonEnvironment>> find_python_environment(const Host& host, const std::string& path) {
  const Result<std::string> config = host.read(path + "/pyvenv.cfg");
  if (!config) {
    if (config.error().code() == ErrorCode::not_found) return find_conda_environment(host, path);
    return fail(config.error());
  }
  PythonEnvironment environment;
  environment.path = path;
  environment.interpreter = path + "/bin/python";
  for (const std::string& line : split(*config, '\n')) {
    const std::size_t equals = line.find('=');
    if (equals == std::string::npos) continue;
    const std::string key(trim(std::string_view(line).substr(0, equals)));
    const std::string value(trim(std::string_view(line).substr(equals + 1)));
    if (key == "version" || key == "version_info") environment.version = value;
    if (key == "include-system-site-packages") environment.system_site_packages = value == "true";
  }
  if (!leads_somewhere(host, environment.interpreter)) {
    return fail(ErrorCode::not_found, fmt::format("{} exists, but the Python that it was made with is gone", path),
                fmt::format("the system's Python was replaced; move it away (mv {0} {0}.old) and run the same command again", path));
  }
  return std::optional<PythonEnvironment>(std::move(environment));
}

Result<std::map<std::string, std::string>> installed_python_packages(const Host& host, const PythonEnvironment& environment) {
  std::map<std::string, std::string> packages;
  const Result<std::vector<std::string>> libraries = host.list(environment.path + "/lib");
  if (!libraries) return fail(libraries.error());
  // An environment that has moved to another Python keeps the folder of the one before, which nothing reads any more.
  const std::vector<std::string> numbers = split(environment.version, '.');
  const std::string current = numbers.size() < 2 ? "" : fmt::format("python{}.{}", numbers[0], numbers[1]);
  for (const std::string& library : *libraries) {
    if (!library.starts_with("python")) continue;
    if (!current.empty() && library != current && library != current + "t") continue;  // t: built without the lock
    const std::string site_packages = environment.path + "/lib/" + library + "/site-packages";
    const Result<std::vector<std::string>> folders = host.list(site_packages);
    if (!folders) continue;
    for (const std::string& folder : *folders) {
      if (!folder.ends_with(".dist-info")) continue;
      auto [name, version] = name_and_version(host, folder, site_packages);
      if (!name.empty()) packages[name] = version;
    }
  }
  return packages;
}

}  // namespace gpustrap

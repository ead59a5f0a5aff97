#include "agent/resume_unit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdio>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"

namespace gpustrap {
namespace {

constexpr const char* kAgentFolder = "/usr/local/lib/gpustrap";
constexpr std::size_t kLargestAgent = std::size_t{1} << 30U;  // one with sanitizers and symbols has 300 MB

/// Steps may wait for the network and change packages: the unit neither hurries them nor takes the run along when one of them runs out
/// of memory. Only root can write the name that it starts.
constexpr const char* kText = R"(# Written by gpustrap, and removed when its run is over.
[Unit]
Description=gpustrap: takes up the run that a restart of this host interrupted
Wants=network-online.target
After=network-online.target local-fs.target dbus.service

[Service]
Type=simple
ExecStart={} resume
KillMode=mixed
TimeoutStopSec=600
OOMPolicy=continue
Restart=no

[Install]
WantedBy=multi-user.target
)";

/// A new name in a folder is on the disk once the folder is.
Result<void> sync_folder(const std::string& path) {
  const UniqueFd folder(::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (!folder.valid() || ::fsync(folder.get()) != 0) return fail(errno_error(errno, "syncing " + path));
  return {};
}

}  // namespace

Result<std::string> ResumeUnit::agent_path() const {
  std::string self(PATH_MAX, '\0');
  const ssize_t length = ::readlink("/proc/self/exe", self.data(), self.size());
  if (length < 0) return fail(errno_error(errno, "finding this program"));
  self.resize(static_cast<std::size_t>(length));
  const std::string folder = kAgentFolder;
  if (self.starts_with(folder + "/agent-")) return self;
  Result<std::string> digest = sha256_of_file("/proc/self/exe");
  if (!digest) return fail(std::move(digest).error());
  std::string name = folder + "/agent-" + *digest;
  if (path_exists(root_ + name)) return name;
  Result<std::string> program = read_file("/proc/self/exe", kLargestAgent);
  if (!program) return fail(std::move(program).error());
  if (Result<void> made = make_directories(root_ + folder, 0755); !made) return fail(std::move(made).error());
  if (Result<void> wrote = write_file_atomically(root_ + name, *program, 0755); !wrote) return fail(std::move(wrote).error());
  if (Result<void> synced = sync_folder(root_ + folder); !synced) return fail(std::move(synced).error());
  return name;
}

Result<void> ResumeUnit::install() const {
  const Result<std::string> agent = agent_path();
  if (!agent) return fail(agent.error());
  const std::string text = fmt::format(kText, *agent);
  const Result<std::string> there = read_file(unit_path());
  if (there && *there == text && path_exists(link_path())) return {};
  if (Result<void> made = make_directories(parent_of(link_path()), 0755); !made) return made;
  if (Result<void> wrote = write_file_atomically(unit_path(), text, 0644); !wrote) return wrote;
  const std::string target = std::string("../") + kName;
  if (::symlink(target.c_str(), link_path().c_str()) != 0 && errno != EEXIST) return fail(errno_error(errno, "making " + link_path()));
  if (Result<void> synced = sync_folder(parent_of(unit_path())); !synced) return synced;
  return sync_folder(parent_of(link_path()));
}

Result<void> ResumeUnit::remove() const {
  for (const std::string& path : {link_path(), unit_path()}) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) return fail(errno_error(errno, "removing " + path));
  }
  return {};
}

bool ResumeUnit::is_there() const { return path_exists(unit_path()) || path_exists(link_path()); }

}  // namespace gpustrap

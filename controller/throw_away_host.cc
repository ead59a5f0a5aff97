#include "controller/throw_away_host.h"

#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

struct NeededProgram {
  const char *name, *package;
};
constexpr NeededProgram kPrograms[] = {
    {"mmdebstrap", "mmdebstrap"}, {"systemd-nspawn", "systemd-container"}, {"ip", "iproute2"},     {"nft", "nftables"},
    {"ssh", "openssh-client"},    {"ssh-keygen", "openssh-client"},        {"openssl", "openssl"}, {"nsenter", "util-linux"},
    {"apt-get", "apt"},
};

/// The first host of a release takes the time of an installation; every other one some seconds.
constexpr std::chrono::minutes kBootLimit{15}, kDownLimit{3};

bool can_run(const std::string& path) { return ::access(path.c_str(), X_OK) == 0; }

std::vector<std::string> program_folders() {
  const char* path = std::getenv("PATH");
  std::vector<std::string> folders = split(path == nullptr ? "" : path, ':');
  folders.insert(folders.end(), {"/usr/sbin", "/sbin"});
  return folders;
}

/// Root's rights, or a sudo that gives them without asking from now on. The question is sudo's own, at the terminal.
Result<void> have_rights() {
  if (::geteuid() == 0) return {};
  Subprocess sudo;
  sudo.argv = ::isatty(STDIN_FILENO) == 1 ? std::vector<std::string>{"sudo", "-v"} : std::vector<std::string>{"sudo", "-n", "true"};
  sudo.own_group = false;
  const Result<SubprocessResult> asked = run_subprocess(sudo);
  if (asked && asked->exit_code == 0) return {};
  return fail(ErrorCode::usage, "throw-away hosts need root: mounts, network namespaces and systemd-nspawn",
              "run it as root, or as a user who may use sudo");
}

Result<void> write_program(const std::string& path, const std::string& text) { return write_file_atomically(path, text, 0755); }

/// As e2e suites do it: ssh looks up the home in the password file, so its configuration is given by a program before it in PATH.
Result<void> make_private_ssh(const std::string& folder, const std::string& programs) {
  std::string real = "/usr/bin/ssh";
  for (const std::string& there : program_folders()) {
    if (can_run(there + "/ssh")) {
      real = there + "/ssh";
      break;
    }
  }
  if (Result<void> made = make_directories(programs, 0700); !made) return made;
  const std::string config =
      fmt::format("Host *\n    UserKnownHostsFile {0}/known_hosts\n    GlobalKnownHostsFile /dev/null\n    IdentityAgent none\n", folder);
  if (Result<void> written = write_file_atomically(folder + "/ssh_config", config, 0600); !written) return written;
  return write_program(programs + "/ssh",
                       fmt::format("#!/bin/sh\nexec {} -F {} \"$@\"\n", shell_quote(real), shell_quote(folder + "/ssh_config")));
}

}  // namespace

Result<std::string> find_testbed(const std::string& said, const std::string& program) {
  if (!said.empty()) {
    for (const std::string& path : {said + "/testbed", said}) {
      struct stat info {};
      if (::stat(path.c_str(), &info) == 0 && S_ISREG(info.st_mode) && can_run(path)) return path;
    }
    return fail(ErrorCode::usage, fmt::format("GPUSTRAP_TESTBED is {}, and there is no program `testbed`", said),
                "name its folder, or unset it");
  }
  std::string folder = parent_of(program);
  for (const char* place : {"/share/gpustrap/testbed/testbed", "/../share/gpustrap/testbed/testbed"}) {
    if (can_run(folder + place)) return folder + place;
  }
  for (int up = 0; up < 4 && folder.size() > 1; ++up) {  // build/release/gpustrap in the sources
    if (can_run(folder + "/tests/testbed/testbed")) return folder + "/tests/testbed/testbed";
    folder = parent_of(folder);
  }
  return fail(ErrorCode::usage, "the testbed, which boots throw-away hosts, does not lie beside this program",
              "unpack the whole release archive, or name its folder share/gpustrap/testbed in GPUSTRAP_TESTBED");
}

std::vector<std::string> missing_packages(const std::vector<std::string>& folders) {
  std::vector<std::string> missing;
  for (const NeededProgram& program : kPrograms) {
    const bool there =
        std::any_of(folders.begin(), folders.end(), [&](const std::string& folder) { return can_run(folder + "/" + program.name); });
    if (!there && std::find(missing.begin(), missing.end(), program.package) == missing.end()) missing.emplace_back(program.package);
  }
  return missing;
}

Result<ThrowAwayHost> ThrowAwayHost::boot(const std::string& testbed, const std::vector<std::string>& options) {
  const std::vector<std::string> missing = missing_packages(program_folders());
  if (std::find(missing.begin(), missing.end(), "apt") != missing.end())
    return fail(ErrorCode::usage, "throw-away hosts are made of Debian's or Ubuntu's packages, and this machine has no apt",
                "test on a Debian or Ubuntu machine, or against a host of your own: gpustrap up RECIPE HOST, twice");
  if (!missing.empty())
    return fail(ErrorCode::usage, fmt::format("this machine cannot boot throw-away hosts yet: it lacks {}", join(missing, ", ")),
                "sudo apt-get install " + join(missing, " "));
  if (Result<void> rights = have_rights(); !rights) return fail(std::move(rights).error());

  std::string folder = "/var/tmp/gpustrap-recipe-test.XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return fail(errno_error(errno, "making a folder in /var/tmp"));
  ThrowAwayHost host(testbed, folder);
  if (Result<void> made = make_private_ssh(folder, host.programs()); !made) return fail(std::move(made).error());
  Subprocess boot;
  boot.argv = {testbed, "boot", "test"};
  boot.argv.insert(boot.argv.end(), options.begin(), options.end());
  boot.env = {{"GPUSTRAP_TESTBED_DIR", folder + "/testbed"}};
  boot.timeout = kBootLimit;
  boot.keep = Subprocess::Keep::end;
  const Result<SubprocessResult> booted = run_subprocess(boot);
  if (!booted) return fail(Error(booted.error()).in("starting the testbed"));
  for (const std::string& line : split(booted->out, '\n')) {
    if (line.starts_with("address=")) host.address_ = line.substr(8);
    if (line.starts_with("user=")) host.user_ = line.substr(5);
    if (line.starts_with("key=")) host.key_ = line.substr(4);
  }
  if (booted->exit_code != 0 || host.address_.empty() || host.user_.empty() || host.key_.empty()) {
    const std::string said = strip_control(last_lines(trim(booted->err), 3));
    return fail(Error(ErrorCode::io,
                      booted->timed_out ? "the host was not up in time"
                      : said.empty()    ? "the testbed said nothing"
                                        : said,
                      "its packages come from this machine's own sources: does `apt-get update` work here?")
                    .in("booting a throw-away host"));
  }
  return host;
}

ThrowAwayHost::ThrowAwayHost(ThrowAwayHost&& from) noexcept
    : testbed_(std::move(from.testbed_)),
      folder_(std::exchange(from.folder_, {})),
      address_(std::move(from.address_)),
      user_(std::move(from.user_)),
      key_(std::move(from.key_)) {}

/// In a process group of its own, so that a Ctrl-C which ends the test does not end the cleaning up.
ThrowAwayHost::~ThrowAwayHost() {
  if (folder_.empty()) return;
  Subprocess down;
  down.argv = {testbed_, "down"};
  down.env = {{"GPUSTRAP_TESTBED_DIR", folder_ + "/testbed"}};
  down.timeout = kDownLimit;
  const Result<SubprocessResult> gone = run_subprocess(down);
  if (!gone || gone->exit_code != 0) {
    const std::string said = fmt::format("gpustrap: the throw-away host is not gone: {}\n  GPUSTRAP_TESTBED_DIR={}/testbed {} down\n",
                                         gone ? first_line(strip_control(trim(gone->err))) : gone.error().sentence(), folder_, testbed_);
    static_cast<void>(write_all(STDERR_FILENO, said).has_value());
    return;
  }
  static_cast<void>(remove_tree_at(AT_FDCWD, folder_).has_value());
}

std::string ThrowAwayHost::keep() {
  const std::string folder = std::exchange(folder_, {});
  return fmt::format("GPUSTRAP_TESTBED_DIR={0}/testbed {1} down && rm -r {0}", folder, shell_quote(testbed_));
}

}  // namespace gpustrap

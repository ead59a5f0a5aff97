#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "agent/protocol/conda_installers.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"

// The typed specs of all step kinds, shared by the controller's loader and the agent. A spec lists its fields once, in
// fields(): reading, writing, documentation and schema all go through it. `kShorthand` is the field that a bare value means.

namespace gpustrap {

struct Compat;
struct PriceList;

enum class StepKind : std::uint8_t {
  require,
  wait,
  apt,
  download,
  archive,
  file,
  block,
  directory,
  symlink,
  environment,
  command,
  service,
  venv,
  pip,
  nvidia_smi,
  jupyter,
  git,
  deb,
  apt_repository,
  reboot,
  conda,
  conda_env,
  nvidia_driver,
  cuda,
  idle_stop
};

/// Whence the hosts of one run have a file.
enum class Fetch { origin, shared };
constexpr std::string_view kFetchHelp =
    "shared: of many hosts, one fetches it and the others have it from there, by its sha256; origin: each fetches it itself";

struct RequireSpec {
  static constexpr StepKind kKind = StepKind::require;
  static constexpr std::string_view kName = "require", kShorthand = "",
                                    kHelp = "Asks for an operating system, room and a GPU before anything is changed.";
  StringList os, arch;
  std::optional<ByteSize> disk_free, memory;
  std::optional<std::int64_t> cpus;
  std::optional<bool> gpu, systemd;
  template <class V> void fields(V& v) {
    v("os", os, Presence::optional, "any of these: `ubuntu >= 22.04`, `debian`");
    v("arch", arch, Presence::optional, "any of these: x86_64, aarch64");
    v("disk_free", disk_free, Presence::optional, "free space on /; asked only while another step still has work to do");
    v("memory", memory, Presence::optional, "total memory");
    v("cpus", cpus, Presence::optional, "number of processors");
    v("gpu", gpu, Presence::optional, "an NVIDIA GPU on the PCI bus");
    v("systemd", systemd, Presence::optional, "systemd as PID 1");
  }
};

struct WaitSpec {
  static constexpr StepKind kKind = StepKind::wait;
  static constexpr std::string_view kName = "wait", kShorthand = "", kHelp = "Waits for first-boot work, a lock, a port or a file.";
  bool cloud_init = false, apt = false;
  std::optional<PortNumber> port;
  std::optional<HostPath> file;
  Duration limit{std::chrono::minutes(10)};
  template <class V> void fields(V& v) {
    v("cloud_init", cloud_init, Presence::optional, "until cloud-init has finished; its recoverable errors (exit 2) are accepted");
    v("apt", apt, Presence::optional, "until no other process holds the locks of apt and dpkg");
    v("port", port, Presence::optional, "until something listens on this loopback port");
    v("file", file, Presence::optional, "until this file exists");
    v("limit", limit, Presence::optional, "how long at most");
  }
};

struct AptSpec {
  static constexpr StepKind kKind = StepKind::apt;
  static constexpr std::string_view kName = "apt", kShorthand = "packages", kHelp = "Installs Debian packages.";
  enum class State { present, latest, absent };
  bool update = false;
  Duration max_age{std::chrono::hours(24)};
  StringList packages, hold;
  State state = State::present;
  bool recommends = true;
  bool fast = false;
  template <class V> void fields(V& v) {
    v("packages", packages, Presence::optional, "names, or name=version");
    v("state", state, Presence::optional, "what is wanted of them");
    v("update", update, Presence::optional,
      "refresh the package lists where they are older than max_age; always done before an install that needs it");
    v("max_age", max_age, Presence::optional, "how old the lists may be");
    v("hold", hold, Presence::optional, "packages that upgrades must leave alone");
    v("recommends", recommends, Presence::optional, "also install what the packages recommend");
    v("fast", fast, Presence::optional,
      "dpkg syncs once at the end, not after each file: quicker; if the power fails meanwhile, files of these packages may be left empty");
  }
};

struct DownloadSpec {
  static constexpr StepKind kKind = StepKind::download;
  static constexpr std::string_view kName = "download", kShorthand = "", kHelp = "Fetches one file, resuming what was cut.";
  Url url;
  std::vector<Url> mirrors;
  HostPath to;
  std::optional<Sha256Digest> sha256;
  std::optional<FileMode> mode;
  Fetch fetch = Fetch::origin;
  template <class V> void fields(V& v) {
    v("url", url, Presence::required, "where it is");
    v("mirrors", mirrors, Presence::optional, "tried in turn where url fails");
    v("to", to, Presence::required, "the file to make; with a trailing / a folder, and the name comes from the URL");
    v("sha256", sha256, Presence::optional, "digest of its content");
    v("mode", mode, Presence::optional, "permissions");
    v("fetch", fetch, Presence::optional, kFetchHelp);
  }
};

struct ArchiveSpec {
  static constexpr StepKind kKind = StepKind::archive;
  static constexpr std::string_view kName = "archive", kShorthand = "",
                                    kHelp = "Fetches and unpacks a zip or tar archive; never overwrites a file that you changed.";
  std::optional<Url> url;
  std::vector<Url> mirrors;
  std::optional<HostPath> path;
  HostPath to;
  std::optional<Sha256Digest> sha256;
  std::int64_t strip = 0;
  ByteSize max_size{std::uint64_t{64} << 30U};
  Fetch fetch = Fetch::origin;
  template <class V> void fields(V& v) {
    v("url", url, Presence::optional, "where it is (this or path)");
    v("mirrors", mirrors, Presence::optional, "tried in turn where url fails");
    v("path", path, Presence::optional, "an archive that is on the host already");
    v("to", to, Presence::required, "folder to unpack into; nothing is written outside of it");
    v("sha256", sha256, Presence::optional, "digest of the archive");
    v("strip", strip, Presence::optional, "leading folders to drop from every name");
    v("max_size", max_size, Presence::optional, "most that it may unpack to: a guard against bombs");
    v("fetch", fetch, Presence::optional, kFetchHelp);
  }
};

struct FileSpec {
  static constexpr StepKind kKind = StepKind::file;
  static constexpr std::string_view kName = "file", kShorthand = "",
                                    kHelp = "A file with this content; what stood there before is kept once as FILE.gpustrap-backup.";
  HostPath path;
  std::string content;
  std::optional<FileMode> mode;
  std::string owner, group;
  bool absent = false;
  template <class V> void fields(V& v) {
    v("path", path, Presence::required, "the file");
    v("content", content, Presence::optional, "its whole text");
    v("mode", mode, Presence::optional, "permissions");
    v("owner", owner, Presence::optional, "user name");
    v("group", group, Presence::optional, "group name");
    v("absent", absent, Presence::optional, "the file must not exist");
  }
};

struct BlockSpec {
  static constexpr StepKind kKind = StepKind::block;
  static constexpr std::string_view kName = "block", kShorthand = "",
                                    kHelp = "A marked block of lines inside a file whose other lines are left alone.";
  HostPath path;
  std::string content, marker, comment = "#";
  bool absent = false;
  template <class V> void fields(V& v) {
    v("path", path, Presence::required, "the file; made where it does not exist");
    v("content", content, Presence::optional, "the lines of the block");
    v("marker", marker, Presence::required, "name of the block, unique in the file");
    v("comment", comment, Presence::optional, "what starts a comment in that file");
    v("absent", absent, Presence::optional, "the block must not be there");
  }
};

struct DirectorySpec {
  static constexpr StepKind kKind = StepKind::directory;
  static constexpr std::string_view kName = "directory", kShorthand = "path", kHelp = "A directory.";
  HostPath path;
  std::optional<FileMode> mode;
  std::string owner, group;
  template <class V> void fields(V& v) {
    v("path", path, Presence::required, "the directory; missing parents are made");
    v("mode", mode, Presence::optional, "permissions");
    v("owner", owner, Presence::optional, "user name");
    v("group", group, Presence::optional, "group name");
  }
};

struct SymlinkSpec {
  static constexpr StepKind kKind = StepKind::symlink;
  static constexpr std::string_view kName = "symlink", kShorthand = "",
                                    kHelp = "A symbolic link. A file or directory that stands there is never replaced.";
  HostPath path, target;
  template <class V> void fields(V& v) {
    v("path", path, Presence::required, "the link");
    v("target", target, Presence::required, "what it points to");
  }
};

struct EnvironmentSpec {
  static constexpr StepKind kKind = StepKind::environment;
  static constexpr std::string_view kName = "environment", kShorthand = "",
                                    kHelp = "Environment variables of logins: set, or list variables extended once.";
  enum class Scope { login, system };
  Scope scope = Scope::login;
  EnvironmentChanges variables;
  template <class V> void fields(V& v) {
    v("scope", scope, Presence::optional, "login: a managed block in ~/.bashrc; system: a file in /etc/profile.d");
    v.rest("NAME", variables, "a text sets the variable; {prepend: …} or {append: …} extends a list");
  }
};

struct CommandSpec {
  static constexpr StepKind kKind = StepKind::command;
  static constexpr std::string_view kName = "command", kShorthand = "run",
                                    kHelp = "Runs a command; satisfied when what it creates exists or `unless` succeeds.";
  CommandText run, unless;
  StringList creates;
  std::optional<HostPath> chdir;
  template <class V> void fields(V& v) {
    v("run", run, Presence::required, "a text is run by bash -eo pipefail (sh where there is no bash), a list is an argv");
    v("creates", creates, Presence::optional, "paths that exist once it has run");
    v("unless", unless, Presence::optional, "a command that only looks; exit 0 means there is nothing to do");
    v("chdir", chdir, Presence::optional, "directory to run in");
  }
};

struct ServiceSpec {
  static constexpr StepKind kKind = StepKind::service;
  static constexpr std::string_view kName = "service", kShorthand = "name", kHelp = "A systemd service: unit text, enabled, running.";
  std::string name;
  std::optional<std::string> unit;
  bool enabled = true, running = true;
  std::optional<PortNumber> port;
  template <class V> void fields(V& v) {
    v("name", name, Presence::required, "without .service");
    v("unit", unit, Presence::optional, "the unit file's text; without it the unit must exist");
    v("enabled", enabled, Presence::optional, "started at boot");
    v("running", running, Presence::optional, "active now");
    v("port", port, Presence::optional, "a loopback port that must answer");
  }
};

struct VenvSpec {
  static constexpr StepKind kKind = StepKind::venv;
  static constexpr std::string_view kName = "venv", kShorthand = "path", kHelp = "A Python virtual environment.";
  HostPath path;
  std::string python = "python3";
  bool system_site_packages = false;
  template <class V> void fields(V& v) {
    v("path", path, Presence::required, "its folder");
    v("python", python, Presence::optional, "interpreter: a name on PATH, an absolute path, or a version such as 3.11");
    v("system_site_packages", system_site_packages, Presence::optional, "see the system's packages too");
  }
};

struct PipSpec {
  static constexpr StepKind kKind = StepKind::pip;
  static constexpr std::string_view kName = "pip", kShorthand = "",
                                    kHelp = "Python packages in an environment: a virtual one or one of conda.";
  HostPath venv, conda{"~/conda"};
  std::string env;
  StringList packages;
  std::optional<HostPath> requirements;
  std::optional<Url> index;
  bool upgrade = false;
  template <class V> void fields(V& v) {
    v("venv", venv, Presence::optional, "folder of a virtual environment (this or env)");
    v("env", env, Presence::optional, "name of a conda environment (this or venv)");
    v("conda", conda, Presence::optional, "folder of the conda that `env` belongs to");
    v("packages", packages, Presence::optional, "requirements: name, name==1.2, name>=1,<2, name[extra]");
    v("requirements", requirements, Presence::optional, "a requirements file on the host");
    v("index", index, Presence::optional, "package index; the host's own pip settings otherwise");
    v("upgrade", upgrade, Presence::optional, "to the newest version that satisfies, at every run");
  }
};

struct NvidiaSmiSpec {
  static constexpr StepKind kKind = StepKind::nvidia_smi;
  static constexpr std::string_view kName = "nvidia_smi", kShorthand = "",
                                    kHelp = "The GPUs answer, are as many and as large as asked, and compute.";
  std::int64_t min_gpus = 1;
  std::optional<ByteSize> min_memory;
  std::string min_driver;
  bool probe = false;
  template <class V> void fields(V& v) {
    v("min_gpus", min_gpus, Presence::optional, "how many GPUs at least");
    v("min_memory", min_memory, Presence::optional, "memory of every GPU");
    v("min_driver", min_driver, Presence::optional, "driver version or newer");
    v("probe", probe, Presence::optional, "allocate memory and read a kernel's result back on every GPU");
  }
};

struct JupyterSpec {
  static constexpr StepKind kKind = StepKind::jupyter;
  static constexpr std::string_view kName = "jupyter", kShorthand = "",
                                    kHelp = "A Jupyter server as a service of the login user, on the host's loopback, behind a token.";
  HostPath venv, conda{"~/conda"}, dir{"~"};
  std::string env;
  PortNumber port{8888};
  std::string name = "gpustrap-jupyter";
  bool is_public = false;
  std::optional<HostPath> certificate, key;
  template <class V> void fields(V& v) {
    v("venv", venv, Presence::optional, "folder of a virtual environment that has jupyterlab or notebook (this or env)");
    v("env", env, Presence::optional, "name of a conda environment that has one of them (this or venv)");
    v("conda", conda, Presence::optional, "folder of the conda that `env` belongs to");
    v("dir", dir, Presence::optional, "folder that it shows");
    v("port", port, Presence::optional, "port on the host's loopback");
    v("name", name, Presence::optional, "name of the systemd service");
    v("public", is_public, Presence::optional,
      "open to the network: all interfaces, TLS, and the password in env JUPYTER_PASSWORD, a secret");
    v("certificate", certificate, Presence::optional, "with public: its certificate, PEM; one is made where none is given");
    v("key", key, Presence::optional, "with certificate: its private key, PEM");
  }
};

struct GitSpec {
  static constexpr StepKind kKind = StepKind::git;
  static constexpr std::string_view kName = "git", kShorthand = "",
                                    kHelp = "A clone of a git repository; your commits and edits in it are never touched.";
  std::string url, ref;
  HostPath to;
  bool update = true, submodules = false;
  std::optional<std::int64_t> depth;
  template <class V> void fields(V& v) {
    v("url", url, Presence::required, "https://, ssh://, user@host:path, or an absolute path on the host");
    v("to", to, Presence::required, "folder of the work tree");
    v("ref", ref, Presence::optional, "branch, tag or commit; the repository's default branch otherwise");
    v("update", update, Presence::optional,
      "ask for newer commits of the branch at every run, and fast-forward where you have changed nothing");
    v("depth", depth, Presence::optional, "how many commits of history to fetch; all otherwise");
    v("submodules", submodules, Presence::optional, "also fetch its submodules");
  }
};

struct DebSpec {
  static constexpr StepKind kKind = StepKind::deb;
  static constexpr std::string_view kName = "deb", kShorthand = "",
                                    kHelp = "A Debian package from a file, with what it depends on; one that is newer already is left.";
  std::optional<Url> url;
  std::vector<Url> mirrors;
  std::optional<HostPath> path;
  std::optional<Sha256Digest> sha256;
  std::string package, version;
  Fetch fetch = Fetch::origin;
  template <class V> void fields(V& v) {
    v("url", url, Presence::optional, "where it is (this or path)");
    v("mirrors", mirrors, Presence::optional, "tried in turn where url fails");
    v("path", path, Presence::optional, "a .deb that is on the host already");
    v("sha256", sha256, Presence::optional, "digest of the file; required with url");
    v("package", package, Presence::optional, "the package's name: a host that has it is known without fetching the file; with version");
    v("version", version, Presence::optional, "the package's version; with package");
    v("fetch", fetch, Presence::optional, kFetchHelp);
  }
};

struct AptRepositorySpec {
  static constexpr StepKind kKind = StepKind::apt_repository;
  static constexpr std::string_view kName = "apt_repository", kShorthand = "",
                                    kHelp = "A repository of Debian packages, with the one key that it is trusted by.";
  std::string name;
  Url url;
  StringList suites{{"/"}}, components, architectures;
  std::optional<Url> key, keyring;
  std::optional<Sha256Digest> sha256;
  std::string fingerprint;
  std::optional<std::int64_t> priority;
  std::string pin;
  template <class V> void fields(V& v) {
    v("name", name, Presence::required, "names its files: /etc/apt/sources.list.d/NAME.sources and so on");
    v("url", url, Presence::required, "where it is");
    v("suites", suites, Presence::optional, "releases of it, such as the host's codename; / for a flat repository");
    v("components", components, Presence::optional, "parts of a suite, such as main; none for a flat repository");
    v("architectures", architectures, Presence::optional, "Debian's names of them, such as amd64; all of the host's otherwise");
    v("key", key, Presence::optional, "its public key, armoured or not (this or keyring)");
    v("keyring", keyring, Presence::optional, "a .deb that brings its key, such as cuda-keyring (this or key)");
    v("sha256", sha256, Presence::optional, "digest of the key or the .deb, as it is downloaded; required with keyring");
    v("fingerprint", fingerprint, Presence::optional,
      "the key's fingerprint, 40 hex digits: the file must hold this one key (this or sha256)");
    v("priority", priority, Presence::optional, "pin its packages with this priority: 500 is normal, above 1000 downgrades");
    v("pin", pin, Presence::optional,
      "which packages the priority is for, as in `Pin:` (`release l=NAME`); those of the URL's host otherwise");
  }
};

struct RebootSpec {
  static constexpr StepKind kKind = StepKind::reboot;
  static constexpr std::string_view kName = "reboot", kShorthand = "mode",
                                    kHelp = "Restarts the host, and goes on with the run by itself once it is back.";
  enum class Mode { when_required, always };
  Mode mode = Mode::when_required;
  std::string message;
  bool allow_disruption = false;
  Duration limit{std::chrono::minutes(5)};
  template <class V> void fields(V& v) {
    v("mode", mode, Presence::optional,
      "when_required: where the system asks for a restart or has a newer kernel than the one that runs; always: once in every run");
    v("message", message, Presence::optional, "what users of the host are told");
    v("allow_disruption", allow_disruption, Presence::optional, "restart even while other users are logged in or programs use the GPUs");
    v("limit", limit, Presence::optional, "how long the host may take to go down");
  }
};

struct CondaSpec {
  static constexpr StepKind kKind = StepKind::conda;
  static constexpr std::string_view kName = "conda", kShorthand = "distribution",
                                    kHelp = "A conda of its own for the login user; one that is there already is used.";
  CondaDistribution distribution = CondaDistribution::miniforge;
  std::string version;
  HostPath prefix{"~/conda"};
  bool init = true, accept_tos = false;
  std::optional<Url> url;
  std::vector<Url> mirrors;
  std::optional<Sha256Digest> sha256;
  Fetch fetch = Fetch::origin;
  template <class V> void fields(V& v) {
    v("distribution", distribution, Presence::optional, "whose installer; miniconda and anaconda are under Anaconda's Terms of Service");
    v("version", version, Presence::optional,
      "the installer's version, such as 26.3.2-3 or py313_26.5.3-1; an older conda is updated to it; the one gpustrap knows otherwise");
    v("prefix", prefix, Presence::optional, "its folder");
    v("init", init, Presence::optional, "let `conda init` put its block into ~/.bashrc");
    v("accept_tos", accept_tos, Presence::optional,
      "you have read and accept Anaconda's Terms of Service (https://www.anaconda.com/legal); nothing accepts them for you");
    v("url", url, Presence::optional, "another place that serves the same installer");
    v("mirrors", mirrors, Presence::optional, "tried in turn where url fails");
    v("sha256", sha256, Presence::optional, "digest of the installer; required for a version that gpustrap does not know");
    v("fetch", fetch, Presence::optional, kFetchHelp);
  }
};

struct CondaEnvSpec {
  static constexpr StepKind kKind = StepKind::conda_env;
  static constexpr std::string_view kName = "conda_env", kShorthand = "name",
                                    kHelp = "An environment of a conda, with Python and packages.";
  std::string name, python;
  HostPath conda{"~/conda"};
  StringList packages, channels, pip;
  std::optional<HostPath> file;
  template <class V> void fields(V& v) {
    v("name", name, Presence::required, "its name; base is the conda itself");
    v("conda", conda, Presence::optional, "folder of the conda");
    v("python", python, Presence::optional, "version of Python, such as 3.11");
    v("packages", packages, Presence::optional, "as conda takes them: name, name=1.2, name==1.2.3, name>=1,<2, channel::name");
    v("channels", channels, Presence::optional,
      "these and no others, the first first, such as conda-forge; conda's own settings otherwise");
    v("file", file, Presence::optional, "an environment.yml on the host, applied again whenever it has changed");
    v("pip", pip, Presence::optional, "Python packages that pip installs into it afterwards");
  }
};

/// Folder of the environment that `pip` and `jupyter` name in one of two ways.
template <class Spec> [[nodiscard]] std::string environment_folder(const Spec& spec) {
  if (spec.env.empty()) return spec.venv.text;
  return spec.env == "base" ? spec.conda.text : spec.conda.text + "/envs/" + spec.env;
}

struct NvidiaDriverSpec {
  static constexpr StepKind kKind = StepKind::nvidia_driver;
  static constexpr std::string_view kName = "nvidia_driver", kShorthand = "branch",
                                    kHelp = "An NVIDIA driver that serves the host's GPUs, loaded; a container's is only looked at.";
  enum class Modules { automatic, open, proprietary };
  enum class Source { automatic, ubuntu, nvidia, debian };
  enum class Reboot { if_needed, never, always };
  enum class FabricManager { automatic, always, never };
  std::string branch = "auto", cuda;
  Modules modules = Modules::automatic;
  Source source = Source::automatic;
  Reboot reboot = Reboot::if_needed;
  bool hold = true, persistence = true, allow_disruption = false;
  FabricManager fabric_manager = FabricManager::automatic;
  std::optional<Url> mirror;
  std::string fingerprint;
  Duration limit{std::chrono::minutes(5)};
  /// From the recipe, by agent/plan; no field of the step.
  std::shared_ptr<const Compat> tables;
  template <class V> void fields(V& v) {
    v("branch", branch, Presence::optional, "auto: a loaded driver that serves the GPUs stays, else the best branch for them; or a number");
    v("cuda", cuda, Presence::optional, "a CUDA that the driver must run, such as 12.4; that of the recipe's `cuda` step otherwise");
    v("modules", modules, Presence::optional, "kernel modules; auto: open ones where the GPUs work with them");
    v("source", source, Presence::optional,
      "whose packages; auto: Ubuntu's own, signed and built, before NVIDIA's; debian: the branch that the release has");
    v("reboot", reboot, Presence::optional, "if_needed: only where the module cannot be loaded otherwise; always: after each installation");
    v("hold", hold, Presence::optional, "keep upgrades away from kernel and driver, which must fit each other");
    v("persistence", persistence, Presence::optional, "nvidia-persistenced, which keeps idle GPUs initialised");
    v("fabric_manager", fabric_manager, Presence::optional, "auto: where NVSwitches join the GPUs, at exactly the driver's version");
    v("mirror", mirror, Presence::optional, "base URL of a copy of NVIDIA's repositories: what stands before ubuntu2404/x86_64");
    v("fingerprint", fingerprint, Presence::optional, "of the key that signs the repository, 40 hex digits; NVIDIA's otherwise");
    v("allow_disruption", allow_disruption, Presence::optional, "go on while programs use the GPUs or other users are logged in");
    v("limit", limit, Presence::optional, "how long the host may take to go down for a restart");
  }
};

struct CudaSpec {
  static constexpr StepKind kKind = StepKind::cuda;
  static constexpr std::string_view kName = "cuda", kShorthand = "version",
                                    kHelp = "A CUDA toolkit that the GPUs and their driver can run, and /usr/local/cuda leading to it.";
  enum class From { repository, deb, runfile };
  std::string version = "auto";
  From from = From::repository;
  std::optional<Url> url;
  std::vector<Url> mirrors;
  std::optional<HostPath> path;
  std::optional<Sha256Digest> sha256;
  bool is_default = true;
  std::optional<Url> mirror;
  std::string fingerprint;
  /// From the recipe, by agent/plan; no fields of the step. The branch is that of the recipe's `nvidia_driver` step.
  std::shared_ptr<const Compat> tables;
  std::string driver_branch;
  Fetch fetch = Fetch::origin;
  template <class V> void fields(V& v) {
    v("version", version, Presence::optional, "auto: the best that GPUs and driver run; or 12, or 12.4");
    v("from", from, Presence::optional,
      "repository: NVIDIA's for this release; deb: a local repository in a .deb; runfile: NVIDIA's installer. A toolkit that is there is "
      "taken "
      "as it is");
    v("url", url, Presence::optional, "of the .deb or the runfile (this or path)");
    v("mirrors", mirrors, Presence::optional, "tried in turn where url fails");
    v("path", path, Presence::optional, "a .deb or runfile that is on the host already");
    v("sha256", sha256, Presence::optional, "digest of the file; required with url");
    v("fetch", fetch, Presence::optional, kFetchHelp);
    v("default", is_default, Presence::optional, "/usr/local/cuda leads to it");
    v("mirror", mirror, Presence::optional, "base URL of a copy of NVIDIA's repositories: what stands before ubuntu2404/x86_64");
    v("fingerprint", fingerprint, Presence::optional, "of the key that signs the repository, 40 hex digits; NVIDIA's otherwise");
  }
};

struct IdleStopSpec {
  static constexpr StepKind kKind = StepKind::idle_stop;
  static constexpr std::string_view kName = "idle_stop", kShorthand = "after",
                                    kHelp = "Shuts the host down once nothing has been done on it for a while, or a budget is spent.";
  std::optional<Duration> after, warn;
  std::optional<Money> budget;
  std::optional<HourlyPrice> price;
  bool absent = false;
  /// From the recipe, by agent/plan; no field of the step.
  std::shared_ptr<const PriceList> prices;
  template <class V> void fields(V& v) {
    v("after", after, Presence::optional, "how long nothing must have been done: no GPU, kernel, typing, CPU, network, run or apt at work");
    v("warn", warn, Presence::optional,
      "how long before terminals and notebook folders are told; 5m, or half of `after` where that is less");
    v("budget", budget, Presence::optional, "what the hours that the host is on may cost in all; then it stops even where it is at work");
    v("price", price, Presence::optional, "what an hour costs, such as 0.526 USD/h; gpustrap knows that of EC2's GPU types");
    v("absent", absent, Presence::optional, "nothing stops the host any more");
  }
};

/// In the order of StepKind.
using StepSpec = std::variant<RequireSpec, WaitSpec, AptSpec, DownloadSpec, ArchiveSpec, FileSpec, BlockSpec, DirectorySpec, SymlinkSpec,
                              EnvironmentSpec, CommandSpec, ServiceSpec, VenvSpec, PipSpec, NvidiaSmiSpec, JupyterSpec, GitSpec, DebSpec,
                              AptRepositorySpec, RebootSpec, CondaSpec, CondaEnvSpec, NvidiaDriverSpec, CudaSpec, IdleStopSpec>;
constexpr std::size_t kStepKindCount = std::variant_size_v<StepSpec>;

/// Whether it says `fetch: shared`.
[[nodiscard]] bool is_shared(const StepSpec& spec);
[[nodiscard]] std::string_view step_kind_name(StepKind kind);
[[nodiscard]] std::optional<StepKind> step_kind_from_name(std::string_view name);
[[nodiscard]] const std::vector<std::string>& step_kind_names();

/// Reads the value of a kind key. Problems are appended with pointers below `pointer`; the spec returned is usable only where none were
/// added.
[[nodiscard]] StepSpec read_step_spec(StepKind kind, const Json& value, const std::string& pointer, Placeholders placeholders,
                                      std::vector<FieldProblem>& problems);
/// Every field that differs from its default.
[[nodiscard]] Json write_step_spec(const StepSpec& spec);

struct StepKindDoc {
  std::string name, help, shorthand;
  std::vector<FieldDoc> fields;
};
[[nodiscard]] StepKindDoc describe_step_kind(StepKind kind);

}  // namespace gpustrap

#include "controller/doctor/looks.h"

#include <algorithm>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

// CUDA toolkits, the libraries that programs find, Python's wheels, containers.

namespace gpustrap {
namespace {

struct Toolkit {
  std::string path, state, target, version;
};

std::vector<Toolkit> toolkits_of(const Patient& p) {
  std::vector<Toolkit> all;
  for (const std::string& line : p.evidence.lines("cuda")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() >= 2) all.push_back({parts[0], parts[1], parts.size() > 2 ? parts[2] : "", parts.size() > 3 ? parts[3] : ""});
  }
  return all;
}

/// "12.4" of "12.4.1".
std::string minor_of(const std::string& version) {
  const std::vector<std::string> parts = split(version, '.');
  return parts.size() < 2 ? version : parts[0] + "." + parts[1];
}

/// The oldest driver that runs programs of this CUDA at all: that of its major version. Empty where the tables do not know it.
std::string oldest_driver(const Patient& p, const std::string& cuda) {
  for (const MajorRow& row : p.compat.majors) {
    if (row.major == branch_of(cuda)) return row.driver;
  }
  for (const CudaRow& row : p.compat.cuda) {
    if (row.version == minor_of(cuda)) return row.driver;
  }
  return {};
}

/// What an environment has: the packages of its metadata, and what its frameworks say of themselves.
struct PythonEnvironment {
  std::map<std::string, std::string> packages;  ///< name with underscores to version
  std::string torch_version, torch_cuda;        ///< "2.14.0+cu132"; "13.2", "None" where it has none
  std::vector<std::string> torch_lines;
  std::string tensorflow_capabilities, tensorflow_cuda;
  bool has_cudnn = false;  ///< in its own lib folder, as conda puts it
};

std::string quoted_in(const std::string& text) {
  const std::size_t begin = text.find_first_of("'\"", text.find('=') == std::string::npos ? 0 : text.find('='));
  if (begin == std::string::npos) return {};
  return text.substr(begin + 1, text.find(text[begin], begin + 1) - begin - 1);
}

/// `', '12.3'` and `": "12.3", …` as words.
std::string without_marks(std::string text) {
  std::replace_if(
      text.begin(), text.end(), [](char c) { return contains("'\",:=[](){}", std::string_view(&c, 1)); }, ' ');
  return text;
}

std::map<std::string, PythonEnvironment> environments_of(const Patient& p) {
  std::map<std::string, PythonEnvironment> all;
  for (const std::string& line : p.evidence.lines("python")) {
    const std::size_t colon = line.find(": ");
    if (colon == std::string::npos || !line.starts_with('/')) continue;
    PythonEnvironment& one = all[line.substr(0, colon)];
    const std::string rest = line.substr(colon + 2);
    if (rest.starts_with("torch/version.py: ")) {
      one.torch_lines.push_back(line);
      const std::string said = rest.substr(18);
      if (said.starts_with("__version__")) one.torch_version = quoted_in(said);
      if (said.starts_with("cuda")) one.torch_cuda = contains(said, "None") && quoted_in(said).empty() ? "None" : quoted_in(said);
    } else if (rest.starts_with("tensorflow/build_info: ")) {
      if (contains(rest, "cuda_compute_capabilities")) one.tensorflow_capabilities = rest;
      if (contains(rest, "cuda_version")) one.tensorflow_cuda = version_in(without_marks(rest.substr(rest.find("cuda_version") + 12)));
    } else if (rest == "lib/libcudnn") {
      one.has_cudnn = true;
    } else if (rest.ends_with(".dist-info")) {
      const std::string stem = rest.substr(0, rest.size() - 10);
      const std::size_t dash = stem.find('-');
      if (dash != std::string::npos) one.packages[stem.substr(0, dash)] = stem.substr(dash + 1);
    }
  }
  return all;
}

/// The CUDA of PyTorch's build: by what it says itself, else by its name "+cu118".
std::string torch_cuda_of(const PythonEnvironment& one) {
  if (!one.torch_cuda.empty()) return one.torch_cuda;
  const auto torch = one.packages.find("torch");
  const std::string version = one.torch_version.empty() && torch != one.packages.end() ? torch->second : one.torch_version;
  const std::size_t at = version.find("+cu");
  if (at != std::string::npos && version.size() >= at + 6) {
    const std::string digits = version.substr(at + 3);
    return digits.substr(0, digits.size() - 1) + "." + digits.substr(digits.size() - 1);
  }
  return contains(version, "+cpu") ? "None" : "";
}

std::string pip_of(const std::string& environment) { return shell_quote(environment + "/bin/python") + " -m pip"; }

/// "cu126" for driver 535: the newest build of PyTorch that the driver and GPU run, for advice.
std::string fitting_build(const Patient& p) {
  const GpuRow* gpu = p.has_gpu() ? find_gpu(p.compat, p.facts.gpus.front()) : nullptr;
  const std::string compute = gpu == nullptr ? "" : gpu->compute;
  for (const FrameworkRow& row : p.compat.frameworks) {
    if (row.package != "torch" || (!row.arch.empty() && row.arch != p.facts.arch)) continue;
    const std::string driver = row.driver.empty() ? oldest_driver(p, row.cuda) : row.driver;
    if (!p.facts.driver.empty() && compare_versions(p.facts.driver, driver) < 0) continue;
    if (!compute.empty() && !row.first_compute.empty() && compare_versions(compute, row.first_compute) < 0) continue;
    if (!compute.empty() && !row.last_compute.empty() && compare_versions(compute, row.last_compute) > 0) continue;
    return row.build;
  }
  return {};
}

std::vector<std::string> torch_again(const Patient& p, const std::string& environment) {
  const std::string build = fitting_build(p);
  if (build.empty())
    return {"# no build of PyTorch that is known here runs on this GPU with this driver; a newer driver: gpustrap up cuda HOST"};
  return {fmt::format("{} install --force-reinstall torch --index-url https://download.pytorch.org/whl/{}", pip_of(environment), build)};
}

/// Lines "FILE:NUMBER:TEXT" of login files and of the system's, about a variable.

}  // namespace

Verdict look_cuda_too_new(const Patient& p) {
  if (!p.has_gpu() || p.facts.driver.empty()) return irrelevant();
  for (const Toolkit& one : toolkits_of(p)) {
    if (one.path != "/usr/local/cuda" || one.version.empty()) continue;
    const std::string oldest = oldest_driver(p, one.version);
    if (oldest.empty() || compare_versions(p.facts.driver, oldest) >= 0) return fine();
    const std::string major = branch_of(one.version), minor = split(minor_of(one.version), '.').back();
    return found(
        {fmt::format("/usr/local/cuda is {} ({})", one.version, one.target), "loaded driver " + p.facts.driver},
        fmt::format("CUDA {} needs driver {} or newer, and {} is loaded: its programs do not start", one.version, oldest, p.facts.driver),
        {"# from your own machine, a newer driver: gpustrap up cuda HOST",
         fmt::format("# or, on data-centre GPUs: sudo apt-get install cuda-compat-{}-{}", major, minor)},
        {step_of("driver", "nvidia_driver", {{"cuda", minor_of(one.version)}})});
  }
  return fine();
}

Verdict look_cuda_dangling(const Patient& p) {
  const std::vector<Toolkit> all = toolkits_of(p);
  const auto link = std::find_if(all.begin(), all.end(), [](const Toolkit& one) { return one.path == "/usr/local/cuda"; });
  if (link == all.end() || link->state != "dangling") return all.empty() ? irrelevant() : fine();
  std::string there;
  for (const Toolkit& one : all) {
    if (one.state == "nvcc") there = one.path;
  }
  return found({"/usr/local/cuda leads to " + link->target + ", which is not there"}, "/usr/local/cuda leads to a toolkit that is gone",
               {there.empty() ? "# from your own machine: gpustrap up cuda HOST"
                              : fmt::format("sudo ln -sfn {} /usr/local/cuda", shell_quote(there))},
               there.empty() ? std::vector<Json>{}
                             : std::vector<Json>{step_of("link", "symlink", {{"path", "/usr/local/cuda"}, {"target", there}})});
}

Verdict look_libcuda_stub(const Patient& p) {
  std::vector<std::string> evidence;
  for (const std::string& line : p.evidence.lines("libraries")) {
    if (contains(line, "/stubs/")) evidence.push_back(line);
  }
  for (const std::string& line : p.evidence.lines("library-configuration")) {
    if (contains(line, "stubs")) evidence.push_back(line);
  }
  for (const char* variable : {"LD_LIBRARY_PATH"}) {
    for (const std::string& line : settings_of(p, variable)) {
      if (contains(line, "/stubs")) evidence.push_back(line);
    }
  }
  if (evidence.empty()) return p.evidence.was_seen("libraries") ? fine() : unseen(p, "libraries");
  return found(std::move(evidence),
               "programs find the toolkit's stub of libcuda, which is for linking alone, in place of the driver's: CUDA finds no device",
               {"# take the stubs folder out of the file that is named above, then:", "sudo ldconfig"});
}

Verdict look_library_path(const Patient& p) {
  std::vector<std::string> evidence;
  for (const std::string& line : settings_of(p, "LD_LIBRARY_PATH")) {
    if (contains(line, "cuda") || contains(line, "cudnn") || contains(line, "nvidia") || contains(line, "conda")) evidence.push_back(line);
  }
  if (evidence.empty()) return fine();
  std::string wheels;
  for (const auto& [path, one] : environments_of(p)) {
    const bool brings_cuda = std::any_of(one.packages.begin(), one.packages.end(), [](const auto& package) {
      return package.first.starts_with("nvidia_cu") || package.first == "torch" || package.first == "tensorflow" ||
             package.first.starts_with("jax");
    });
    if (brings_cuda && wheels.empty()) wheels = path;
  }
  if (!wheels.empty()) evidence.push_back(wheels + ": wheels that bring their own CUDA libraries");
  const std::string without_line = take_out(evidence.front());
  Verdict verdict = found(
      std::move(evidence),
      wheels.empty() ? "LD_LIBRARY_PATH puts these libraries before all others, for every program of a login"
                     : "LD_LIBRARY_PATH puts the system's CUDA libraries before those that Python's wheels bring: imports fail, or compute "
                       "with another version",
      {without_line, "# then log in again; ld.so knows the libraries by: sudo ldconfig /usr/local/cuda/lib64"});
  if (wheels.empty()) verdict.severity = Severity::note;
  return verdict;
}

Verdict look_visible_devices(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  std::vector<std::string> evidence;
  for (const std::string& line : settings_of(p, "CUDA_VISIBLE_DEVICES")) {
    const std::optional<std::string> value = value_set(line, "CUDA_VISIBLE_DEVICES");
    if (value && (value->empty() || *value == "-1" || *value == "NoDevFiles")) evidence.push_back(line);
  }
  if (evidence.empty()) return fine();
  const std::string without_line = take_out(evidence.front());
  return found(std::move(evidence), "CUDA_VISIBLE_DEVICES hides all GPUs from every program of a login",
               {without_line, "# then log in again"});
}

Verdict look_framework_driver(const Patient& p) {
  if (!p.has_gpu() || p.facts.driver.empty()) return irrelevant();
  const auto environments = environments_of(p);
  if (environments.empty()) return irrelevant();
  for (const auto& [path, one] : environments) {
    const std::string cuda = torch_cuda_of(one);
    const std::string wanted = cuda.empty() || cuda == "None" ? "" : oldest_driver(p, cuda);
    if (!wanted.empty() && compare_versions(p.facts.driver, wanted) < 0) {
      std::vector<std::string> evidence =
          one.torch_lines.empty() ? std::vector<std::string>{path + ": torch " + one.packages.at("torch")} : one.torch_lines;
      evidence.push_back("loaded driver " + p.facts.driver);
      std::vector<std::string> commands = torch_again(p, path);
      commands.emplace_back("# or a newer driver, from your own machine: gpustrap up cuda HOST");
      return found(
          std::move(evidence),
          fmt::format("PyTorch was built for CUDA {}, which needs driver {} or newer, and {} is loaded", cuda, wanted, p.facts.driver),
          std::move(commands), {step_of("driver", "nvidia_driver", {{"cuda", minor_of(cuda)}})});
    }
    for (const auto& [package, version] : one.packages) {
      // jax_cuda13_plugin, nvidia_cuda_runtime_cu13: their names say the major version.
      const std::size_t at = package.starts_with("jax_cuda") ? 8 : package.starts_with("cupy_cuda") ? 9 : std::string::npos;
      if (at == std::string::npos) continue;
      const std::string major = package.substr(at, 2);
      const std::string floor = oldest_driver(p, major + ".0");
      if (floor.empty() || compare_versions(p.facts.driver, floor) >= 0) continue;
      return found(
          {path + ": " + package + " " + version, "loaded driver " + p.facts.driver},
          fmt::format("{} is for CUDA {}, which needs driver {} or newer, and {} is loaded", package, major, floor, p.facts.driver),
          {"# a newer driver, from your own machine: gpustrap up cuda HOST",
           fmt::format("# or the build for the CUDA before: {} install 'jax[cuda12]'", pip_of(path))},
          driver_steps());
    }
  }
  return fine();
}

Verdict look_framework_cpu(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  bool any = false;
  for (const auto& [path, one] : environments_of(p)) {
    const auto torch = one.packages.find("torch");
    const bool has_jax = one.packages.count("jax") > 0;
    any = any || torch != one.packages.end() || has_jax;
    if (torch != one.packages.end() && torch_cuda_of(one) == "None")
      return found(one.torch_lines.empty() ? std::vector<std::string>{path + ": torch " + torch->second} : one.torch_lines,
                   "PyTorch is installed in a build for the processor alone: it will not use the GPU", torch_again(p, path));
    if (one.packages.count("tensorflow_cpu") > 0)
      return found({path + ": tensorflow_cpu " + one.packages.at("tensorflow_cpu")},
                   "TensorFlow is installed in a build for the processor alone: it will not use the GPU",
                   {pip_of(path) + " uninstall tensorflow-cpu", pip_of(path) + " install 'tensorflow[and-cuda]'"});
    const bool has_plugin =
        std::any_of(one.packages.begin(), one.packages.end(), [](const auto& package) { return package.first.starts_with("jax_cuda"); });
    if (has_jax && !has_plugin)
      return found({path + ": jax " + one.packages.at("jax") + ", no jax_cuda plugin"},
                   "JAX is installed without its CUDA plugin: it will not use the GPU", {pip_of(path) + " install 'jax[cuda12]'"});
  }
  return any ? fine() : irrelevant();
}

// TensorFlow's wheel loads CUDA's libraries by name, and computes on the processor where it finds none.
Verdict look_framework_libraries(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  const bool has_system =
      !matching(p.evidence.lines("loose-cudnn"), "/libcudnn").empty() || !matching(p.evidence.lines("libraries"), "libcudnn").empty();
  bool any = false;
  for (const auto& [path, one] : environments_of(p)) {
    const auto tensorflow = one.packages.find("tensorflow");
    if (tensorflow == one.packages.end() || one.tensorflow_cuda.empty()) continue;
    any = true;
    const bool has_wheels = std::any_of(one.packages.begin(), one.packages.end(),
                                        [](const auto& package) { return package.first.starts_with("nvidia_cudnn"); });
    if (has_wheels || one.has_cudnn || has_system) continue;
    const bool has_extra = compare_versions(tensorflow->second, "2.14") >= 0;
    return found({path + ": tensorflow " + tensorflow->second + ", built for CUDA " + one.tensorflow_cuda,
                  "no libcudnn in it, and none in the system"},
                 "TensorFlow finds no CUDA libraries (`Cannot dlopen some GPU libraries`), and computes on the processor",
                 {has_extra ? fmt::format("{} install 'tensorflow[and-cuda]=={}'   # the same version, with its libraries; or the newest:",
                                          pip_of(path), tensorflow->second)
                            : fmt::format("# this TensorFlow takes CUDA {} and its cuDNN from the system; newer ones bring them along:",
                                          one.tensorflow_cuda),
                  pip_of(path) + " install 'tensorflow[and-cuda]'"});
  }
  return any ? fine() : irrelevant();
}

Verdict look_wheel_architecture(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  const auto environments = environments_of(p);
  if (environments.empty()) return irrelevant();
  for (const PciGpu& gpu : p.facts.gpus) {
    const GpuRow* known = find_gpu(p.compat, gpu);
    if (known == nullptr) continue;
    const std::string &name = known->name, &compute = known->compute;
    const std::string first_cuda = first_cuda_of(p.compat, *known);
    for (const auto& [path, one] : environments) {
      const std::string cuda = torch_cuda_of(one);
      if (cuda.empty() || cuda == "None") continue;
      const auto torch = one.packages.find("torch");
      const std::string version = !one.torch_version.empty() ? one.torch_version : torch == one.packages.end() ? "" : torch->second;
      std::string why;
      if (!first_cuda.empty() && compare_versions(cuda, first_cuda) < 0)
        why = fmt::format("CUDA {} is the first that knows its architecture", first_cuda);
      for (const FrameworkRow& row : p.compat.frameworks) {
        if (row.package != "torch" || minor_of(version.substr(0, version.find('+'))) != row.version || row.cuda != cuda) continue;
        if (!row.arch.empty() && row.arch != p.facts.arch) continue;
        if (!row.last_compute.empty() && compare_versions(compute, row.last_compute) > 0)
          why = "that build ends at compute capability " + row.last_compute;
        if (!row.first_compute.empty() && compare_versions(compute, row.first_compute) < 0)
          why = "that build begins at compute capability " + row.first_compute;
      }
      if (why.empty()) continue;
      return found({fmt::format("{}: torch {}, CUDA {}", path, version, cuda),
                    fmt::format("{} {}: compute capability {}", gpu.address, name, compute)},
                   fmt::format("PyTorch's build has no code for the {} ({}): \"no kernel image is available\"", name, why),
                   torch_again(p, path));
    }
  }
  return fine();
}

Verdict look_cudnn_twice(const Patient& p) {
  std::vector<std::string> system;
  for (const std::string& line : p.evidence.lines("libraries")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() > 2 && parts[0].starts_with("libcudnn.so.")) system.push_back(parts[2]);
  }
  for (const std::string& line : matching(p.evidence.lines("loose-cudnn"), "/libcudnn")) system.push_back(line);
  if (system.empty()) return irrelevant();
  const auto version_of = [](const std::string& file) {
    return file.substr(file.rfind(".so.") == std::string::npos ? file.size() : file.rfind(".so.") + 4);
  };
  for (const auto& [path, one] : environments_of(p)) {
    for (const auto& [package, version] : one.packages) {
      if (!package.starts_with("nvidia_cudnn")) continue;
      for (const std::string& file : system) {
        const std::string its = version_of(file);
        const std::vector<std::string> wheel = split(version, '.');
        const std::string short_wheel =
            join({wheel.begin(), wheel.begin() + std::min<std::ptrdiff_t>(3, static_cast<std::ptrdiff_t>(wheel.size()))}, ".");
        if (its == short_wheel || its == version) continue;
        return found({file, path + ": " + package + " " + version},
                     fmt::format("there are two cuDNN: {} of the system's and {} of a wheel; whichever is found first is loaded, in parts",
                                 its, short_wheel),
                     {"dpkg -S " + shell_quote(file) + "   # whose it is: sudo apt-get remove that package, where only Python needs cuDNN",
                      "# a copy that no package has: move it away, then sudo ldconfig"});
      }
    }
  }
  return fine();
}

Verdict look_toolkit_missing(const Patient& p) {
  const std::string& said = p.evidence.text("containers");
  const bool has_runtime = contains(said, "program docker") || contains(said, "program podman");
  if (!p.has_gpu() || !has_runtime || p.facts.container) return irrelevant();
  if (contains(said, "program nvidia-ctk") || contains(said, "program nvidia-container-runtime")) return fine();
  return found({contains(said, "program docker") ? "docker is installed" : "podman is installed", "no nvidia-ctk"},
               "containers can be given no GPU: the NVIDIA Container Toolkit is not installed",
               {"# its repository: https://docs.nvidia.com/datacenter/cloud-native/container-toolkit/latest/install-guide.html",
                "sudo apt-get install nvidia-container-toolkit", "sudo nvidia-ctk runtime configure --runtime=docker",
                "sudo systemctl reload-or-restart docker"});
}

Verdict look_docker_group(const Patient& p) {
  if (p.user == "root" || !contains(p.evidence.text("containers"), "program docker")) return irrelevant();
  const std::string group = p.evidence.value("containers", "group");
  if (!group.starts_with("docker:")) return irrelevant();
  const std::string own = p.evidence.value("login", "groups");
  const std::vector<std::string> groups = words(own);
  if (std::find(groups.begin(), groups.end(), "docker") != groups.end()) return fine();
  const std::string add = fmt::format("usermod -aG docker {}", shell_quote(p.user));
  return found({"groups of " + p.user + ": " + own, "/etc/group: " + group},
               fmt::format("{} is not in the group docker: docker says `permission denied` without sudo", p.user),
               {"sudo " + add + "   # whoever is in it has root's rights", "# then log in again"},
               {step_of("group", "command", {{"run", add}, {"unless", fmt::format("id -nG {} | grep -qw docker", shell_quote(p.user))}})});
}

Verdict look_toolkit_not_set(const Patient& p) {
  const std::string& said = p.evidence.text("containers");
  if (!p.has_gpu() || !contains(said, "program docker") || !contains(said, "program nvidia-ctk")) return irrelevant();
  const std::size_t begin = said.find("daemon.json\n");
  const std::string text = begin == std::string::npos ? "" : said.substr(begin + 12, said.find("end of daemon.json") - begin - 12);
  const Json document = Json::parse(text, nullptr, false);
  if (!trim(text).empty() && (document.is_discarded() || !document.is_object()))
    return found({"/etc/docker/daemon.json: " + first_line(trim(text))},
                 "/etc/docker/daemon.json is no JSON: docker does not start with it",
                 {"sudo nano /etc/docker/daemon.json", "sudo systemctl restart docker   # restarts containers"});
  const bool has_runtime =
      document.is_object() && document.contains("runtimes") && document["runtimes"].is_object() && document["runtimes"].contains("nvidia");
  if (has_runtime || contains(said, "cdi ")) return fine();
  return found({text.empty() ? "/etc/docker/daemon.json: none" : "/etc/docker/daemon.json: no runtime nvidia", "nvidia-ctk is installed"},
               "the NVIDIA Container Toolkit is installed, but docker does not know it",
               {"sudo nvidia-ctk runtime configure --runtime=docker", "sudo systemctl reload-or-restart docker"},
               {step_of("runtime", "command",
                        {{"run", "nvidia-ctk runtime configure --runtime=docker && systemctl reload-or-restart docker"},
                         {"unless", "grep -q nvidia /etc/docker/daemon.json"}})});
}

Verdict look_conda_terms(const Patient& p) {
  const std::vector<std::string> lines = p.evidence.lines("conda");
  if (lines.empty()) return irrelevant();
  for (const std::string& line : lines) {
    if (!contains(line, "has conda-anaconda-tos")) continue;
    const std::string prefix = line.substr(0, line.find(": "));
    const bool accepted = !matching(lines, "accepted ").empty() || !matching(lines, "auto_accept").empty();
    bool uses_defaults = true;
    for (const std::string& one : lines) {
      if (contains(one, ".condarc:") && (contains(one, "conda-forge") || contains(one, "nodefaults"))) uses_defaults = false;
    }
    for (const std::string& one : lines) {
      if (contains(one, ".condarc:") && (contains(one, "- defaults") || contains(one, "repo.anaconda.com"))) uses_defaults = true;
    }
    if (accepted || !uses_defaults) return fine();
    return found({line, "no accepted terms, and the channels are Anaconda's own"},
                 "conda refuses to make an environment: Anaconda's Terms of Service have not been accepted (CondaToSNonInteractiveError)",
                 {"# read https://www.anaconda.com/legal; to accept them:",
                  shell_quote(prefix + "/bin/conda") + " tos accept --override-channels --channel https://repo.anaconda.com/pkgs/main",
                  shell_quote(prefix + "/bin/conda") + " tos accept --override-channels --channel https://repo.anaconda.com/pkgs/r",
                  "# or use conda-forge, which has none: " + shell_quote(prefix + "/bin/conda") +
                      " create --override-channels -c conda-forge -n NAME python"});
  }
  return fine();
}

}  // namespace gpustrap

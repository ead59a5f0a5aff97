#include "controller/adopt_commands.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/lint_words.h"

namespace gpustrap {

namespace {

/// Whether a package is the driver or comes with it: nvidia-driver-535, libnvidia-compute-535-server, nvidia-352-uvm, nvidia-open. Beside
/// the driver that fits, one of another branch would break both.
bool is_of_driver(const std::string& name) {
  if (is_among(name, {"nvidia-driver", "nvidia-open", "nvidia-kernel-dkms", "nvidia-kernel-open-dkms"}) || name.starts_with("cuda-drivers"))
    return true;
  if (name.find("nvidia") == std::string::npos && !name.starts_with("libcuda1-")) return false;
  for (const std::string& part : split(name, '-')) {
    if (part.size() == 3 && part.find_first_not_of("0123456789") == std::string::npos) return true;
  }
  return false;
}

}  // namespace

bool Adopter::adopt_apt(Words& words) {
  if (!words.read({"-y", "-q", "-qq", "-yq", "-yqq", "-qy", "-qqy", "--yes", "--assume-yes", "--quiet", "--no-install-recommends",
                   "--fix-missing", "-f", "--reinstall", "--allow-downgrades", "--no-install-suggests"},
                  {"-o", "-t"}, 1) ||
      words.rest.empty() || (!words.of_kernel.empty() && words.rest[0] != "install") || !words.value({"-t"}).empty() ||
      words.has({"--reinstall", "--allow-downgrades"}))
    return false;
  const std::string what = words.rest[0];
  words.rest.erase(words.rest.begin());
  if (what == "update" && words.rest.empty()) return absorb("`apt` refreshes the lists where an install needs it");
  if (is_among(what, {"clean", "autoclean", "autoremove"}) && words.rest.empty()) return absorb("only frees room");
  if (words.rest.empty() && !words.of_kernel.empty()) return absorb("`nvidia_driver` installs what the running kernel needs");
  if (!is_among(what, {"install", "remove", "purge"}) || words.rest.empty()) return false;
  std::vector<std::string> packages, files;
  std::string driver, cuda;
  for (const std::string& name : words.rest) {
    if (name.ends_with(".deb") && name.find('/') != std::string::npos) {
      files.push_back(name);
    } else if (what == "install" && (name == "cuda" || name.starts_with("cuda-toolkit") ||
                                     (name.starts_with("cuda-") && name.size() > 5 && name[5] >= '0' && name[5] <= '9'))) {
      cuda = name;
    } else if (what == "install" && is_of_driver(name)) {
      if (driver.empty() || name.find("driver") != std::string::npos) driver = name;
    } else {
      packages.push_back(name);
    }
  }
  std::vector<std::string> paths;
  for (const std::string& file : files) {
    const auto path = state_.path_of(file);
    if (!path) return false;
    paths.push_back(*path);
  }
  if (!packages.empty()) {
    Json fields = {{"packages", packages}};
    if (what != "install") fields["state"] = "absent";
    if (words.has({"--no-install-recommends"})) fields["recommends"] = false;
    AdoptedStep& step = add("apt", std::move(fields));
    if (!words.of_kernel.empty())
      step.reviews.push_back(fmt::format("without {}: `nvidia_driver` installs what the running kernel needs", join(words.of_kernel, " ")));
  }
  if (!add_debs(paths)) return false;
  if (!driver.empty() || cuda == "cuda")
    add("nvidia_driver", {{"branch", "auto"}})
        .reviews.push_back(
            fmt::format("the script installs `{}`; this takes the driver that fits the GPU", driver.empty() ? cuda : driver));
  if (!cuda.empty()) {
    std::string version = "auto";
    const std::size_t digit = cuda.find_first_of("0123456789");
    if (digit != std::string::npos) {
      version = cuda.substr(digit);
      std::replace(version.begin(), version.end(), '-', '.');
    }
    add("cuda", {{"version", version}})
        .reviews.push_back(fmt::format("the script installs the package `{}`; this takes the toolkit alone", cuda));
  }
  return true;
}

bool Adopter::adopt_dpkg(Words& words) {
  if (!words.read({"-i", "--install"}, {}, 1) || !words.has({"-i", "--install"}) || words.rest.empty()) return false;
  for (const std::string& file : words.rest) {
    if (!state_.path_of(file)) return false;
  }
  std::vector<std::string> paths;
  for (const std::string& file : words.rest) paths.push_back(*state_.path_of(file));
  return add_debs(paths);
}

std::optional<std::string> Adopter::path_for_root(const std::string& path) {
  if (!path.starts_with('~')) return path;
  const auto fetched = state_.downloads.find(path);
  if (fetched == state_.downloads.end()) return std::nullopt;
  const std::string moved = "/var/cache/adopted/" + name_of_path(path);
  state_.steps[fetched->second.step].fields["to"] = moved;
  state_.steps[fetched->second.step].as.clear();
  return moved;
}

bool Adopter::add_debs(const std::vector<std::string>& paths) {
  for (const std::string& path : paths) {
    const auto where = path_for_root(path);
    if (!where) return false;
    add("deb", {{"path", *where}});
  }
  return true;
}

bool Adopter::adopt_installer(Words& words) {
  std::size_t at = is_among(words.program, {"sh", "bash"}) ? 1 : 0;
  if (at >= words.all.size()) return false;
  const std::string file = name_of_path(words.all[at]);
  const auto path = state_.path_of(words.all[at]);
  if (!path) return false;
  if (file.starts_with("cuda_") && at == 1) return adopt_runfile(file, *path);
  const std::string distribution = file.starts_with("Miniconda")   ? "miniconda"
                                   : file.starts_with("Anaconda")  ? "anaconda"
                                   : file.starts_with("Miniforge") ? "miniforge"
                                                                   : "";
  if (distribution.empty() || !words.read({"-b", "-u", "-f", "-s", "-c"}, {"-p"}, at + 1) || !words.rest.empty()) return false;
  std::string prefix = words.value({"-p"});
  // The lines below name the folder by the installer's own default.
  if (prefix.empty()) prefix = "~/" + distribution + (file.starts_with("Miniconda2") || file.starts_with("Anaconda2") ? "2" : "3");
  const auto where = state_.path_of(prefix);
  if (!where) return false;
  const auto fetched = state_.downloads.find(*path);
  if (fetched != state_.downloads.end()) state_.drop(state_.steps[fetched->second.step], "`conda` fetches its own installer");
  Json fields = {{"distribution", distribution}, {"prefix", *where}, {"init", false}};
  if (distribution != "miniforge") fields["accept_tos"] = "${{ vars.accept_tos }}";
  AdoptedStep& step = add("conda", std::move(fields));
  step.comments.push_back(segment_.text);
  run_as(step, words);
  step.reviews.push_back(fmt::format("the script runs {}; this takes the version that gpustrap knows, with its digest", file));
  if (distribution != "miniforge") {
    state_.asks_terms = true;
    step.reviews.push_back("Anaconda's Terms of Service are yours to read and accept: --var accept_tos=true, or `distribution: miniforge`");
  }
  state_.conda_prefix = *where;
  state_.conda_env = "base";
  state_.conda_step = state_.steps.size() - 1;
  return true;
}

bool Adopter::adopt_runfile(const std::string& file, const std::string& path) {
  std::string version = file.substr(5, file.find('_', 5) - 5);
  const std::size_t second = version.find('.', version.find('.') + 1);
  if (version.find('.') == std::string::npos || version.find_first_not_of("0123456789.") != std::string::npos) return false;
  version = version.substr(0, second);
  const auto where = path_for_root(path);
  if (!where) return false;
  add("nvidia_driver", {{"cuda", version}})
      .reviews.push_back("the runfile brings a driver of its own age; this takes one that serves the GPU");
  add("cuda", {{"version", version}, {"from", "runfile"}, {"path", *where}})
      .reviews.push_back("is there a newer CUDA for the GPU? `gpustrap recipe explain cuda --gpu t4`");
  return true;
}

Json Adopter::with_conda(Json fields) const {
  if (!state_.conda_prefix.empty() && state_.conda_prefix != "~/conda") fields["conda"] = state_.conda_prefix;
  return fields;
}

bool Adopter::adopt_conda(Words& words) {
  if (words.all.size() < 2) return false;
  const std::string what = words.all[1];
  if (what == "init" && words.all.size() <= 3) {
    if (!state_.conda_step) return false;
    state_.steps[*state_.conda_step].fields["init"] = true;
    state_.steps[*state_.conda_step].comments.push_back(segment_.text);
    return true;
  }
  if (what == "activate") return words.all.size() == 3 && activate(words.all[2]);
  if (what == "deactivate") return activate("base");
  if (what != "create" && what != "install") return false;
  if (!words.read({"-y", "--yes", "-q", "--quiet"}, {"-n", "--name", "-c", "--channel"}, 2)) return false;
  std::string name = words.value({"-n", "--name"});
  if (name.empty() && what == "create") return false;
  if (name.empty()) name = state_.venv.empty() && !state_.conda_env.empty() ? state_.conda_env : "base";
  if (name == "root") name = "base";  // as conda called it once
  Json fields = {{"name", name}};
  std::vector<std::string> packages, channels;
  for (const std::string& package : words.rest) {
    const std::size_t equals = package.find('=');
    if (what == "create" && package.starts_with("python=") && package.find('=', equals + 1) == std::string::npos)
      fields["python"] = package.substr(equals + 1);
    else
      packages.push_back(package);
  }
  for (const auto& [option, value] : words.values) {
    if (option == "-c" || option == "--channel") channels.push_back(value);
  }
  if (!packages.empty()) fields["packages"] = packages;
  if (!channels.empty()) fields["channels"] = channels;
  if (what == "install" && packages.empty()) return false;
  AdoptedStep& step = add("conda_env", with_conda(std::move(fields)));
  run_as(step, words);
  if (state_.conda_prefix.empty())
    step.reviews.push_back(
        "the script takes the conda that it finds on its PATH; this is the one in ~/conda: `conda: FOLDER` names another");
  return true;
}

bool Adopter::make_venv(const std::string& folder, const Words& words) {
  const auto path = state_.path_of(folder);
  if (!path) return false;
  run_as(add("venv", {{"path", *path}}), words);
  return true;
}

bool Adopter::adopt_python(Words& words) {
  std::size_t from = 1;
  if (words.program.starts_with("python")) {
    if (words.all.size() < 4 || words.all[1] != "-m") return false;
    if (words.all[2] == "venv")
      return words.all.size() == 4 && words.all[0].find('/') == std::string::npos && make_venv(words.all[3], words);
    if (words.all[2] != "pip") return false;
    from = 3;
  }
  if (words.all.size() <= from + 1 || words.all[from] != "install") return false;
  if (!words.read({"-q", "--quiet", "-U", "--upgrade", "--no-cache-dir", "--user"}, {"-r", "--requirement", "-i", "--index-url"}, from + 1))
    return false;
  for (const std::string& package : words.rest) {
    if (package.starts_with('.') || package.starts_with('/') || package.ends_with(".whl")) return false;
  }
  Json fields = Json::object();
  std::string made;
  if (words.all[0].find('/') != std::string::npos) {
    const std::size_t bin = words.all[0].rfind("/bin/");
    const auto path = bin == std::string::npos ? std::nullopt : state_.path_of(words.all[0].substr(0, bin));
    if (!path || *path == "/usr" || *path == "/usr/local") return false;
    if (*path == state_.conda_prefix)
      fields = with_conda({{"env", "base"}});
    else
      fields["venv"] = *path;
  } else if (!state_.venv.empty()) {
    fields["venv"] = state_.venv;
  } else if (!state_.conda_env.empty()) {
    fields = with_conda({{"env", state_.conda_env}});
  } else {
    made = "~/env";
    fields["venv"] = made;
  }
  if (!words.rest.empty()) fields["packages"] = words.rest;
  if (const std::string file = words.value({"-r", "--requirement"}); !file.empty()) {
    const auto path = state_.path_of(file);
    if (!path) return false;
    fields["requirements"] = *path;
  }
  if (words.rest.empty() && !fields.contains("requirements")) return false;
  if (const std::string index = words.value({"-i", "--index-url"}); !index.empty()) fields["index"] = index;
  if (words.has({"-U", "--upgrade"})) fields["upgrade"] = true;
  if (!made.empty()) {
    // apt has what a Debian Python leaves out of itself; pip's own comments belong to the step that installs.
    AdoptedStep& packages = add("apt", {{"packages", Json::array({"python3-venv"})}});
    packages.reviews.push_back(
        "the script installs into the system's Python, which newer systems refuse; the steps below make ~/env for it");
    add("venv", {{"path", made}});
    state_.venv = made;
  }
  add("pip", std::move(fields));
  return true;
}

}  // namespace gpustrap

// Words of Ansible, cloud-init, GitHub Actions, Docker and shells, for people who know those.
#include "agent/protocol/foreign_words.h"

#include <algorithm>
#include <array>
#include <utility>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

using Row = std::pair<std::string_view, std::string_view>;  // what is meant; its other names

constexpr std::array<Row, 17> kKinds = {{
    {"command", "shell run cmd exec execute script bash sh runcmd raw"},
    {"apt", "package packages apt-get apt_get aptitude install"},
    {"apt_repository", "repository repo ppa apt_key apt-key add-apt-repository"},
    {"file", "copy template write write_file write_files touch content"},
    {"block", "lineinfile blockinfile append"},
    {"directory", "mkdir folder dir"},
    {"symlink", "link ln"},
    {"download", "get_url wget curl url"},
    {"archive", "unarchive unzip untar extract tar zip"},
    {"service", "systemd systemctl unit daemon"},
    {"environment", "export environ variables"},
    {"venv", "virtualenv python"},
    {"pip", "pip3 requirements pip_install"},
    {"conda", "anaconda miniconda miniforge"},
    {"jupyter", "notebook jupyterlab lab"},
    {"nvidia_driver", "driver nvidia gpu_driver"},
    {"reboot", "restart shutdown"},
}};

constexpr std::array<Row, 18> kFields = {{
    {"ref", "branch tag commit version revision rev"},
    {"to", "dest destination target dst path into dir directory folder chdir output"},
    {"url", "src source link from repo uri href address"},
    {"target", "src source from to"},
    {"path", "dest destination file filename to name location folder dir"},
    {"packages", "name names pkg pkgs package install"},
    {"chdir", "cwd workdir working_dir working_directory working-directory dir"},
    {"run", "cmd command script shell exec"},
    {"creates", "created makes"},
    {"unless", "not_if only_unless if_not"},
    {"content", "text body contents data"},
    {"as", "user become become_user sudo run_as"},
    {"needs", "depends_on depends requires require after dependencies"},
    {"when", "if only_if condition"},
    {"env", "environment environ variables"},
    {"steps", "tasks jobs run"},
    {"vars", "variables env defaults"},
    {"name", "title"},
}};

constexpr std::array<Row, 9> kFacts = {{
    {"gpu.count", "gpus gpu_count ngpus num_gpus"},
    {"gpu.present", "gpu has_gpu"},
    {"memory", "ram mem memory_total"},
    {"cpus", "cores cpu cpu_count nproc processors"},
    {"os_version", "version release os_release"},
    {"os_name", "distribution distro"},
    {"disk_free", "disk"},
    {"arch", "architecture machine"},
    {"hostname", "host name"},
}};

bool has_word(std::string_view words_of, std::string_view word) {
  const std::vector<std::string> all = words(words_of);
  return std::find(all.begin(), all.end(), word) != all.end();
}

}  // namespace

std::string_view kind_meant_by(std::string_view word) {
  const auto* const row = std::find_if(kKinds.begin(), kKinds.end(), [&](const Row& of) { return has_word(of.second, word); });
  return row == kKinds.end() ? std::string_view() : row->first;
}

std::string_view fact_meant_by(std::string_view word) {
  const auto* const row = std::find_if(kFacts.begin(), kFacts.end(), [&](const Row& of) { return has_word(of.second, word); });
  return row == kFacts.end() ? std::string_view() : row->first;
}

std::string field_meant_by(std::string_view word, const std::vector<std::string>& names) {
  const auto* const row = std::find_if(kFields.begin(), kFields.end(), [&](const Row& of) {
    return has_word(of.second, word) && std::find(names.begin(), names.end(), of.first) != names.end();
  });
  return row == kFields.end() ? std::string() : std::string(row->first);
}

}  // namespace gpustrap

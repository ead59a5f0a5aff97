#include <algorithm>
#include <initializer_list>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/adopt_state.h"
#include "controller/lint_words.h"

namespace gpustrap {
namespace {

bool is_among(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The words of one command with all that the script has said filled in.
struct Words {
  std::vector<std::string> all;
  std::string program;
  bool sudo = false;
  std::string user;

  /// Splits into options and the rest. `valued`: options with a value behind them. False for an option that is not known.
  bool read(std::initializer_list<std::string_view> flags, std::initializer_list<std::string_view> valued, std::size_t from) {
    for (std::size_t i = from; i < all.size(); ++i) {
      const std::string& word = all[i];
      const std::size_t equals = word.find('=');
      if (word == "--") continue;
      if (word.size() < 2 || word[0] != '-') {
        rest.push_back(word);
      } else if (is_among(word, flags)) {
        given.push_back(word);
      } else if (is_among(word, valued)) {
        if (++i >= all.size()) return false;
        values.emplace_back(word, all[i]);
      } else if (word.starts_with("--") && equals != std::string::npos && is_among(word.substr(0, equals), valued)) {
        values.emplace_back(word.substr(0, equals), word.substr(equals + 1));
      } else {
        return false;
      }
    }
    return true;
  }
  [[nodiscard]] bool has(std::initializer_list<std::string_view> names) const {
    return std::any_of(given.begin(), given.end(), [&](const std::string& one) { return is_among(one, names); });
  }
  [[nodiscard]] std::string value(std::initializer_list<std::string_view> names) const {
    for (const auto& [name, value] : values) {
      if (is_among(name, names)) return value;
    }
    return {};
  }
  std::vector<std::string> given, rest;
  std::vector<std::pair<std::string, std::string>> values;
};

class Adopter {
 public:
  Adopter(const AdoptSegment& segment, AdoptState& state) : segment_(segment), state_(state) {}

  bool run() {
    if (segment_.commands.size() == 2 && adopt_echo_into_tee()) return true;
    if (segment_.commands.size() == 2 && is_yes(segment_.commands[0])) return adopt_one(segment_.commands[1]);
    if (segment_.commands.size() != 1) return false;
    return adopt_one(segment_.commands[0]);
  }

 private:
  bool is_yes(const ShellCommand& command) const { return command.words.size() == 1 && state_.text_of(command.words[0]) == "yes"; }

  std::optional<Words> words_of(const ShellCommand& command) const {
    BareCommand bare = bare_command(command);
    if (!bare.understood || bare.nohup) return std::nullopt;
    for (const auto& list : {command.assignments, bare.assignments}) {
      for (const ShellAssignment& one : list) {
        if (!is_among(one.name, {"DEBIAN_FRONTEND", "NEEDRESTART_MODE", "NEEDRESTART_SUSPEND"})) return std::nullopt;
      }
    }
    Words words;
    words.sudo = bare.sudo;
    words.user = bare.user;
    for (const ShellWord& word : bare.words) {
      const std::optional<std::string> text = state_.text_of(word);
      if (!text) return std::nullopt;
      words.all.push_back(*text);
    }
    if (words.all.empty()) return std::nullopt;
    words.program = name_of_path(words.all[0]);
    return words;
  }

  AdoptedStep& add(std::string kind, Json fields) {
    AdoptedStep& step = state_.add(std::move(kind), std::move(fields));
    step.original = segment_.text;
    return step;
  }
  /// For kinds that run as the login user, or by where their path is.
  static void run_as(AdoptedStep& step, const Words& words) {
    if (words.sudo) step.as = words.user.empty() ? "root" : words.user;
  }

  bool adopt_one(const ShellCommand& command) {
    if (command.words.empty()) return adopt_assignments(command);
    if (adopt_write(command)) return true;
    auto words = words_of(command);
    if (!words) return false;
    const bool quiet = std::all_of(command.redirects.begin(), command.redirects.end(), [](const ShellRedirect& one) {
      const std::string target = one.target.shown();
      return one.op.find('>') != std::string::npos && (target == "/dev/null" || target == "1" || target == "2");
    });
    if (!quiet) return false;
    if (segment_.background && words->program != "jupyter" && words->program != "jupyter-lab") return false;
    const std::string& p = words->program;
    if (p == "cd") return change_folder(*words);
    if (is_among(p, {"export"})) return adopt_export(command);
    if (is_among(p, {"set", "clear", "true", ":", "shopt", "hash", "history", "exit"}) &&
        !(p == "exit" && words->all.size() > 1 && words->all[1] != "0"))
      return absorb("it means nothing to a recipe");
    if (p == "newgrp" || (is_among(p, {"bash", "zsh"}) && words->all.size() == 1)) return absorb("each step starts a shell of its own");
    if (p == "ssh" && words->all.size() > 2) return absorb("for the machine you sit at: `gpustrap up` connects and opens the tunnel");
    if (p == "chmod" && words->all.size() == 3 && words->all[2].ends_with(".pem"))
      return absorb("for the machine you sit at: ssh wants its key private");
    if (is_among(p, {"apt-get", "apt"})) return adopt_apt(*words);
    if (p == "dpkg") return adopt_dpkg(*words);
    if (p == "wget" || p == "curl") return adopt_fetch(*words);
    if (p == "unzip") return adopt_unzip(*words);
    if (p == "tar") return adopt_tar(*words);
    if (p == "git") return adopt_git(*words);
    if (is_among(p, {"sh", "bash"}) || p.ends_with(".run") || p.ends_with(".sh")) return adopt_installer(*words);
    if (is_among(p, {"source", "."})) return adopt_source(*words);
    if (is_among(p, {"conda", "mamba"})) return adopt_conda(*words);
    if (is_among(p, {"pip", "pip3"}) || is_among(p, {"python", "python3"})) return adopt_python(*words);
    if (p == "virtualenv" && words->all.size() == 2) return make_venv(words->all[1], *words);
    if (p == "systemctl") return adopt_systemctl(*words);
    if (p == "ln") return adopt_link(*words);
    if (p == "mkdir") return adopt_mkdir(*words);
    if (p == "rm") return adopt_rm(*words);
    if (p == "mv") return adopt_mv(*words);
    if (p == "nvidia-smi" && words->all.size() == 1) return add("nvidia_smi", Json::object()), true;
    if (p == "jupyter" || p == "jupyter-lab" || p == "jupyter-notebook") return adopt_jupyter(*words);
    if (p == "reboot" || (p == "shutdown" && words->all.size() > 1 && words->all[1] == "-r")) {
      add("reboot", {{"mode", "when_required"}})
          .reviews.push_back("the script restarts the host in any case; here it is only where the system asks for it");
      return true;
    }
    return false;
  }

  bool absorb(std::string_view why) { return state_.absorb(segment_.text, why), true; }

  bool adopt_assignments(const ShellCommand& command) {
    if (command.assignments.empty() || !command.redirects.empty()) return false;
    for (const ShellAssignment& one : command.assignments) remember(one.name, state_.text_of(one.value), segment_.text, false);
    return absorb("known to the steps below");
  }
  void remember(const std::string& name, std::optional<std::string> value, const std::string& text, bool exported) {
    AdoptState::Variable& variable = state_.variables[name];
    variable.value = std::move(value);
    variable.text = text;
    variable.exported = variable.exported || exported;
  }
  bool adopt_export(const ShellCommand& command) {
    for (std::size_t i = 1; i < command.words.size(); ++i) {
      const std::string shown = command.words[i].shown();
      const std::size_t equals = shown.find('=');
      const std::string name = shown.substr(0, equals);
      if (!is_env_name(name)) return false;
    }
    for (std::size_t i = 1; i < command.words.size(); ++i) {
      const std::string shown = command.words[i].shown();
      const std::size_t equals = shown.find('=');
      if (equals == std::string::npos) {
        state_.variables[shown].exported = true;
        continue;
      }
      // A PATH that grows needs no value: steps name their programs.
      const std::optional<std::string> text = state_.text_of(command.words[i]);
      remember(shown.substr(0, equals), text ? std::optional<std::string>(text->substr(equals + 1)) : std::nullopt, segment_.text, true);
    }
    return absorb("known to the steps below");
  }
  static bool is_env_name(const std::string& name) {
    return !name.empty() && !(name[0] >= '0' && name[0] <= '9') && std::all_of(name.begin(), name.end(), [](char c) {
      return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
    });
  }

  bool change_folder(const Words& words) {
    if (words.all.size() > 2) return false;
    const std::optional<std::string> before = state_.folder;
    if (words.all.size() == 1)
      state_.folder = "~";
    else if (words.all[1] == "-")
      state_.folder = state_.folder_before;
    else
      state_.folder = state_.path_of(words.all[1]);
    state_.folder_before = before;
    return absorb("known to the steps below");
  }

  bool adopt_apt(Words& words) {
    if (!words.read({"-y", "-q", "-qq", "-yq", "-yqq", "-qy", "-qqy", "--yes", "--assume-yes", "--quiet", "--no-install-recommends",
                     "--fix-missing", "-f", "--reinstall", "--allow-downgrades", "--no-install-suggests"},
                    {"-o", "-t"}, 1) ||
        words.rest.empty() || !words.value({"-t"}).empty() || words.has({"--reinstall", "--allow-downgrades"}))
      return false;
    const std::string what = words.rest[0];
    words.rest.erase(words.rest.begin());
    if (what == "update" && words.rest.empty()) return absorb("`apt` refreshes the lists where an install needs it");
    if (is_among(what, {"clean", "autoclean", "autoremove"}) && words.rest.empty()) return absorb("only frees room");
    if (!is_among(what, {"install", "remove", "purge"}) || words.rest.empty()) return false;
    std::vector<std::string> packages, files;
    std::string driver, cuda;
    for (const std::string& name : words.rest) {
      if (name.ends_with(".deb") && name.find('/') != std::string::npos) {
        files.push_back(name);
      } else if (what == "install" && (name == "cuda" || name.starts_with("cuda-toolkit") ||
                                       (name.starts_with("cuda-") && name.size() > 5 && name[5] >= '0' && name[5] <= '9'))) {
        cuda = name;
      } else if (what == "install" &&
                 (name.starts_with("nvidia-driver-") || name.starts_with("cuda-drivers") || name.starts_with("nvidia-headless-"))) {
        driver = name;
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
      add("apt", std::move(fields));
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

  bool adopt_dpkg(Words& words) {
    if (!words.read({"-i", "--install"}, {}, 1) || !words.has({"-i", "--install"}) || words.rest.empty()) return false;
    for (const std::string& file : words.rest) {
      if (!state_.path_of(file)) return false;
    }
    std::vector<std::string> paths;
    for (const std::string& file : words.rest) paths.push_back(*state_.path_of(file));
    return add_debs(paths);
  }

  /// Root's steps have a home of their own: what the script fetches into the user's goes to a place that both mean.
  std::optional<std::string> path_for_root(const std::string& path) {
    if (!path.starts_with('~')) return path;
    const auto fetched = state_.downloads.find(path);
    if (fetched == state_.downloads.end()) return std::nullopt;
    const std::string moved = "/var/cache/adopted/" + name_of_path(path);
    state_.steps[fetched->second.step].fields["to"] = moved;
    state_.steps[fetched->second.step].as.clear();
    return moved;
  }
  bool add_debs(const std::vector<std::string>& paths) {
    for (const std::string& path : paths) {
      const auto where = path_for_root(path);
      if (!where) return false;
      add("deb", {{"path", *where}});
    }
    return true;
  }

  bool adopt_fetch(Words& words) {
    const bool is_wget = words.program == "wget";
    const bool known = is_wget
                           ? words.read({"-q", "-c", "-nv", "-nc", "-N", "--quiet", "--continue", "--no-verbose", "--show-progress", "-qc"},
                                        {"-O", "--output-document", "-P", "--directory-prefix", "-qO", "--tries", "-t", "--timeout"}, 1)
                           : words.read({"-O",
                                         "-L",
                                         "-s",
                                         "-S",
                                         "-f",
                                         "-fsSL",
                                         "-sSL",
                                         "-sL",
                                         "-LO",
                                         "-OL",
                                         "-fsSLO",
                                         "-sSLO",
                                         "-fLO",
                                         "-sLO",
                                         "-fL",
                                         "--location",
                                         "--silent",
                                         "--fail",
                                         "--show-error",
                                         "--remote-name",
                                         "-C",
                                         "-#",
                                         "--progress-bar"},
                                        {"-o", "--output", "-Lo", "-sLo", "-fsSLo", "-sSLo", "-fLo", "--retry"}, 1);
    if (!known || words.rest.size() != 1) return false;
    std::string url = words.rest[0];
    if (is_wget && url.find("://") == std::string::npos && url.find('.') != std::string::npos && url.find('/') != std::string::npos)
      url = "http://" + url;
    if (!url.starts_with("https://") && !url.starts_with("http://")) return false;
    if (url.find_first_of("*\"<>\\^`{|} ") != std::string::npos) return false;
    std::string to = words.value({"-O", "-qO", "--output-document", "-o", "--output", "-Lo", "-sLo", "-fsSLo", "-sSLo", "-fLo"});
    const bool keeps_name = is_wget || words.has({"-O", "-LO", "-OL", "-fsSLO", "-sSLO", "-fLO", "-sLO", "--remote-name"});
    if (to == "-" || (to.empty() && !keeps_name)) return false;
    if (to.empty()) to = name_of_path(url.substr(url.find("://") + 3));
    if (to.empty() || url.substr(url.find("://") + 3).find('/') == std::string::npos) return false;
    if (const std::string folder = words.value({"-P", "--directory-prefix"}); !folder.empty()) to = folder + "/" + to;
    const auto path = state_.path_of(to);
    if (!path) return false;
    AdoptedStep& step = add("download", {{"url", url}, {"to", *path}});
    run_as(step, words);
    state_.downloads[*path] = {url, state_.steps.size() - 1};
    return true;
  }

  /// An archive that lies at `path`: by its URL where a step above fetches it for nothing else.
  bool unpack(const std::string& file, const std::string& folder, std::int64_t strip, const Words& words) {
    const auto path = state_.path_of(file);
    const auto to = state_.path_of(folder);
    if (!path || !to) return false;
    Json fields = Json::object();
    const auto fetched = state_.downloads.find(*path);
    if (fetched != state_.downloads.end() && !state_.steps[fetched->second.step].dropped) {
      AdoptedStep& download = state_.steps[fetched->second.step];
      download.dropped = true;
      state_.comments.insert(state_.comments.begin(), download.original);
      state_.comments.insert(state_.comments.begin(), download.comments.begin(), download.comments.end());
      fields["url"] = fetched->second.url;
    } else {
      fields["path"] = *path;
    }
    fields["to"] = *to;
    if (strip > 0) fields["strip"] = strip;
    AdoptedStep& step = add("archive", std::move(fields));
    step.comments.push_back(segment_.text);
    run_as(step, words);
    return true;
  }

  bool adopt_unzip(Words& words) {
    if (!words.read({"-q", "-qq", "-o", "-n", "-u", "-qo", "-oq"}, {"-d"}, 1) || words.rest.size() != 1) return false;
    const std::string folder = words.value({"-d"});
    std::string file = words.rest[0];
    if (!file.ends_with(".zip")) file += ".zip";
    return unpack(file, folder.empty() ? "." : folder, 0, words);
  }

  bool adopt_tar(Words& words) {
    // `tar xzf FILE` and `tar -xzf FILE`: a bundle with f at its end, whatever the compression.
    if (words.all.size() < 3) return false;
    std::string bundle = words.all[1];
    if (bundle.starts_with('-')) bundle.erase(0, 1);
    if (bundle.empty() || bundle[0] == '-' || bundle.find('x') == std::string::npos || bundle.back() != 'f' ||
        bundle.find_first_not_of("xzjJvpf") != std::string::npos)
      return false;
    words.all.erase(words.all.begin() + 1);
    if (!words.read({"--no-same-owner", "-v"}, {"-C", "--directory", "--strip-components", "--strip"}, 1) || words.rest.size() != 1)
      return false;
    const std::string folder = words.value({"-C", "--directory"});
    const std::string strip = words.value({"--strip-components", "--strip"});
    if (!strip.empty() && strip.find_first_not_of("0123456789") != std::string::npos) return false;
    return unpack(words.rest[0], folder.empty() ? "." : folder, strip.empty() || strip.size() > 2 ? 0 : std::stoi(strip), words);
  }

  bool adopt_git(Words& words) {
    if (words.all.size() < 3 || words.all[1] != "clone") return false;
    if (!words.read({"-q", "--quiet", "--recursive", "--recurse-submodules", "--single-branch"}, {"-b", "--branch", "--depth"}, 2) ||
        words.rest.empty() || words.rest.size() > 2)
      return false;
    const std::string url = words.rest[0];
    std::string to =
        words.rest.size() > 1 ? words.rest[1] : name_of_path(url.substr(url.rfind(':') == std::string::npos ? 0 : url.rfind(':') + 1));
    if (words.rest.size() == 1 && to.ends_with(".git")) to.erase(to.size() - 4);
    const auto path = state_.path_of(to);
    if (!path || to.empty()) return false;
    Json fields = {{"url", url}, {"to", *path}};
    if (const std::string ref = words.value({"-b", "--branch"}); !ref.empty()) fields["ref"] = ref;
    const std::string depth = words.value({"--depth"});
    if (!depth.empty() && depth.size() < 6 && depth.find_first_not_of("0123456789") == std::string::npos)
      fields["depth"] = std::stoi(depth);
    if (words.has({"--recursive", "--recurse-submodules"})) fields["submodules"] = true;
    run_as(add("git", std::move(fields)), words);
    return true;
  }

  bool adopt_installer(Words& words) {
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
    if (prefix.empty())
      prefix =
          "~/" + distribution + (distribution == "anaconda" || file.starts_with("Miniconda3") || distribution == "miniforge" ? "3" : "");
    const auto where = state_.path_of(prefix);
    if (!where) return false;
    const auto fetched = state_.downloads.find(*path);
    if (fetched != state_.downloads.end()) {
      state_.steps[fetched->second.step].dropped = true;
      state_.comments.insert(state_.comments.begin(), state_.steps[fetched->second.step].original);
    }
    Json fields = {{"distribution", distribution}, {"prefix", *where}, {"init", false}};
    if (distribution != "miniforge") fields["accept_tos"] = "${{ vars.accept_tos }}";
    AdoptedStep& step = add("conda", std::move(fields));
    step.comments.push_back(segment_.text);
    run_as(step, words);
    step.reviews.push_back(fmt::format("the script runs {}; this takes the version that gpustrap knows, with its digest", file));
    if (distribution != "miniforge") {
      state_.asks_terms = true;
      step.reviews.push_back(
          "Anaconda's Terms of Service are yours to read and accept: --var accept_tos=true, or `distribution: miniforge`");
    }
    state_.conda_prefix = *where;
    state_.conda_env = "base";
    state_.conda_step = state_.steps.size() - 1;
    return true;
  }

  /// cuda_10.1.243_418.87.00_linux.run: the toolkit from the file, and a driver that serves the GPU instead of the file's own.
  bool adopt_runfile(const std::string& file, const std::string& path) {
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

  bool adopt_source(Words& words) {
    if (words.all.size() < 2) return false;
    const std::string& file = words.all[1];
    const std::string name = name_of_path(file);
    if (is_among(name, {".bashrc", ".profile", ".bash_profile", "profile"})) return absorb("each step starts a shell of its own");
    if (name == "activate" && file.find('/') == std::string::npos) return words.all.size() == 3 && activate(words.all[2]);
    if (name == "activate" && file.ends_with("/bin/activate")) {
      const auto path = state_.path_of(file.substr(0, file.size() - 13));
      if (!path) return false;
      if (*path == state_.conda_prefix) return activate(words.all.size() > 2 ? words.all[2] : "base");
      state_.venv = *path;
      return absorb("the steps below name the environment");
    }
    if (name == "conda.sh") return absorb("the steps below name the environment");
    return false;
  }

  bool activate(const std::string& env) {
    state_.venv.clear();
    state_.conda_env = env;
    return absorb("the steps below name the environment");
  }

  [[nodiscard]] Json with_conda(Json fields) const {
    if (!state_.conda_prefix.empty() && state_.conda_prefix != "~/conda") fields["conda"] = state_.conda_prefix;
    return fields;
  }

  bool adopt_conda(Words& words) {
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
    run_as(add("conda_env", with_conda(std::move(fields))), words);
    return true;
  }

  bool make_venv(const std::string& folder, const Words& words) {
    const auto path = state_.path_of(folder);
    if (!path) return false;
    run_as(add("venv", {{"path", *path}}), words);
    return true;
  }

  bool adopt_python(Words& words) {
    std::size_t from = 1;
    if (words.program.starts_with("python")) {
      if (words.all.size() < 4 || words.all[1] != "-m") return false;
      if (words.all[2] == "venv")
        return words.all.size() == 4 && words.all[0].find('/') == std::string::npos && make_venv(words.all[3], words);
      if (words.all[2] != "pip") return false;
      from = 3;
    }
    if (words.all.size() <= from + 1 || words.all[from] != "install") return false;
    if (!words.read({"-q", "--quiet", "-U", "--upgrade", "--no-cache-dir", "--user"}, {"-r", "--requirement", "-i", "--index-url"},
                    from + 1))
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

  bool adopt_systemctl(Words& words) {
    if (!words.read({"--now", "-q", "--quiet"}, {}, 1) || words.rest.empty()) return false;
    const std::string what = words.rest[0];
    if (what == "daemon-reload" || what == "status" || what == "is-active") return absorb("`service` sees to it");
    if (!is_among(what, {"enable", "start", "restart", "disable", "stop"}) || words.rest.size() != 2) return false;
    std::string name = words.rest[1];
    if (name.ends_with(".service")) name.erase(name.size() - 8);
    if (name.find('.') != std::string::npos) return false;
    if (!state_.steps.empty() && state_.steps.back().kind == "service" && state_.steps.back().fields["name"] == name &&
        is_among(what, {"enable", "start", "restart"}) && !state_.steps.back().fields.contains("running")) {
      state_.steps.back().comments.push_back(segment_.text);
      return true;
    }
    Json fields = {{"name", name}};
    if (what == "disable" || what == "stop") fields["enabled"] = fields["running"] = false;
    AdoptedStep& step = add("service", std::move(fields));
    if (what == "enable" && !words.has({"--now"})) step.reviews.push_back("this also starts it now");
    if (what == "start") step.reviews.push_back("this also starts it at boot");
    if (what == "restart") step.reviews.push_back("this starts it; where its settings change, it is not restarted");
    return true;
  }

  bool adopt_link(Words& words) {
    if (!words.read({"-s", "-sf", "-fs", "-sfn", "-snf", "-f", "-n", "-sfv", "--symbolic", "--force"}, {}, 1) || words.rest.size() != 2)
      return false;
    if (!words.has({"-s", "-sf", "-fs", "-sfn", "-snf", "-sfv", "--symbolic"})) return false;
    const auto target = state_.path_of(words.rest[0]);
    std::string where = words.rest[1];
    if (where == "." || where.ends_with('/')) where += "/" + name_of_path(words.rest[0]);
    const auto path = state_.path_of(where);
    if (!target || !path) return false;
    // `rm LINK; ln -s … LINK`: the step leads a link anew by itself.
    if (!state_.steps.empty() && state_.steps.back().kind == "command" && state_.steps.back().removes == *path) {
      state_.steps.back().dropped = true;
      state_.comments.insert(state_.comments.begin(), state_.steps.back().original);
      state_.comments.insert(state_.comments.begin(), state_.steps.back().comments.begin(), state_.steps.back().comments.end());
    }
    AdoptedStep& step = add("symlink", {{"path", *path}, {"target", *target}});
    run_as(step, words);
    return true;
  }

  bool adopt_mkdir(Words& words) {
    if (!words.read({"-p", "-v", "-pv", "--parents"}, {"-m", "--mode"}, 1) || words.rest.empty()) return false;
    for (const std::string& folder : words.rest) {
      if (!state_.path_of(folder)) return false;
    }
    for (const std::string& folder : words.rest) {
      Json fields = {{"path", *state_.path_of(folder)}};
      if (const std::string mode = words.value({"-m", "--mode"}); !mode.empty()) fields["mode"] = mode;
      run_as(add("directory", std::move(fields)), words);
    }
    return true;
  }

  /// Files that a step above has fetched for a moment. Anything else stays a command.
  bool adopt_rm(Words& words) {
    if (!words.read({"-f", "-r", "-rf", "-fr", "-v"}, {}, 1) || words.rest.empty()) return false;
    for (const std::string& file : words.rest) {
      const auto path = state_.path_of(file);
      if (!path) return false;
      const bool was_fetched = state_.downloads.contains(*path);
      if (!was_fetched) return false;
    }
    return absorb("a rerun would fetch it again; what is unpacked while it comes leaves no file");
  }

  /// What was fetched goes to where it is wanted at once.
  bool adopt_mv(Words& words) {
    if (!words.read({"-f", "-v"}, {}, 1) || words.rest.size() != 2) return false;
    const auto from = state_.path_of(words.rest[0]);
    std::string where = words.rest[1];
    if (where == "." || where.ends_with('/')) where += "/" + name_of_path(words.rest[0]);
    const auto to = state_.path_of(where);
    if (!from || !to || (words.sudo && to->starts_with('~'))) return false;
    const auto fetched = state_.downloads.find(*from);
    if (fetched == state_.downloads.end() || state_.steps[fetched->second.step].dropped) return false;
    AdoptedStep& download = state_.steps[fetched->second.step];
    download.fields["to"] = *to;
    download.comments.push_back(segment_.text);
    if (words.sudo) download.as.clear();
    state_.downloads[*to] = fetched->second;
    state_.downloads.erase(*from);
    return true;
  }

  bool adopt_jupyter(Words& words) {
    if (words.all.size() > 1 && std::find(words.all.begin(), words.all.end(), "--generate-config") != words.all.end())
      return absorb("`jupyter` brings its settings along");
    if (words.program == "jupyter" && (words.all.size() < 2 || !is_among(words.all[1], {"notebook", "lab"}))) return false;
    if (!words.read({"--no-browser", "--allow-root"},
                    {"--ip", "--port", "--notebook-dir", "--NotebookApp.token", "--ServerApp.token", "--NotebookApp.password"},
                    words.program == "jupyter" ? 2 : 1))
      return false;
    Json fields = Json::object();
    if (!state_.venv.empty())
      fields["venv"] = state_.venv;
    else if (!state_.conda_env.empty())
      fields = with_conda({{"env", state_.conda_env}});
    else
      return false;
    const std::string dir = words.value({"--notebook-dir"});
    const auto path = dir.empty() ? state_.folder : state_.path_of(dir);
    if (path && *path != "~") fields["dir"] = *path;
    const std::string port = words.value({"--port"});
    if (!port.empty() && port.size() < 6 && port.find_first_not_of("0123456789") == std::string::npos) fields["port"] = std::stoi(port);
    AdoptedStep& step = add("jupyter", std::move(fields));
    step.reviews.push_back(
        "listens on the host's loopback behind a token, as a service; is jupyterlab or notebook among the packages above?");
    return true;
  }

  // What is written into files: echo, printf, cat and tee.

  struct Written {
    std::string path, text;
    bool append = false, sudo = false;
  };

  /// `echo TEXT`, with what a login's own variables are left to the login.
  std::optional<std::string> echoed(const ShellCommand& command) const {
    const BareCommand bare = bare_command(command);
    if (bare.words.size() < 2 || bare.words[0].shown() != "echo") return std::nullopt;
    std::vector<std::string> parts;
    for (std::size_t i = 1; i < bare.words.size(); ++i) {
      if (i == 1 && bare.words[i].shown().starts_with('-')) return std::nullopt;
      const auto text = bare.words[i].expanded([&](const std::string& name) -> std::optional<std::string> {
        if (name == "PATH" || name == "LD_LIBRARY_PATH") return "$" + name;
        if (name == "HOME") return "$HOME";
        return state_.value_of(name);
      });
      if (!text) return std::nullopt;
      parts.push_back(*text);
    }
    return join(parts, " ") + "\n";
  }

  bool write(const Written& written) {
    const auto path = state_.path_of(written.path);
    if (!path || *path == "/dev/null") return false;
    const std::string name = name_of_path(*path);
    const bool is_profile = is_among(name, {".bashrc", ".profile", ".bash_profile"}) && path->starts_with("~");
    if (written.append && is_profile) {
      if (auto changes = variables_in(written.text)) {
        add("environment", *std::move(changes));
        return true;
      }
    }
    if (!written.append) {
      AdoptedStep& step = add("file", {{"path", *path}, {"content", written.text}});
      if (written.sudo) step.as = "root";
      return true;
    }
    const bool takes_hash = is_profile || path->starts_with("/etc/") || name.ends_with(".conf") || name.ends_with(".sh") ||
                            name.ends_with(".py") || name.starts_with('.');
    std::string text = written.text;
    while (text.ends_with('\n')) text.pop_back();
    if (!takes_hash || text.empty()) return false;
    const std::size_t same = static_cast<std::size_t>(std::count_if(state_.steps.begin(), state_.steps.end(), [&](const AdoptedStep& step) {
      return step.kind == "block" && step.fields["path"] == *path;
    }));
    AdoptedStep& step =
        add("block", {{"path", *path}, {"marker", same == 0 ? "adopted" : fmt::format("adopted-{}", same + 1)}, {"content", text}});
    if (written.sudo) step.as = "root";
    return true;
  }

  /// Lines that are all `export NAME=VALUE`, as an environment step has them.
  static std::optional<Json> variables_in(const std::string& text) {
    Json changes = Json::object();
    for (const std::string& line : split(text, '\n')) {
      if (trim(line).empty()) continue;
      const auto statements = read_shell(line);
      if (statements.size() != 1 || statements[0].commands.size() != 1) return std::nullopt;
      const ShellCommand& command = statements[0].commands[0];
      std::string shown;
      if (command.words.empty() && command.assignments.size() == 1 && command.redirects.empty())
        shown = command.assignments[0].name + "=" + command.assignments[0].value.shown();
      else if (command.words.size() == 2 && command.words[0].shown() == "export")
        shown = command.words[1].shown();
      else
        return std::nullopt;
      const std::size_t equals = shown.find('=');
      if (equals == std::string::npos) return std::nullopt;
      const std::string name = shown.substr(0, equals);
      std::string value = shown.substr(equals + 1);
      if (value.starts_with("${HOME}/")) value = "~" + value.substr(7);
      const std::string self = "${" + name + "}";
      Json change;
      if (value.starts_with(self + ":"))
        change["append"] = Json::array({value.substr(self.size() + 1)});
      else if (value.ends_with(":" + self))
        change["prepend"] = Json::array({value.substr(0, value.size() - self.size() - 1)});
      else if (value.ends_with("${" + name + ":+:" + self + "}"))
        change["prepend"] = Json::array({value.substr(0, value.size() - name.size() - self.size() - 5)});
      else
        change = value;
      const std::string rest = change.is_string() ? value : change.begin().value()[0].get<std::string>();
      if (rest.find_first_of("$`") != std::string::npos || rest.empty() || !is_env_name(name) || changes.contains(name) || name == "scope")
        return std::nullopt;
      changes[name] = std::move(change);
    }
    if (changes.empty()) return std::nullopt;
    return changes;
  }

  bool adopt_write(const ShellCommand& command) {
    std::optional<Written> written;
    std::optional<std::string> text = echoed(command);
    for (const ShellRedirect& one : command.redirects) {
      if (one.document) {
        const std::string program = command.words.size() == 1 ? command.words[0].shown() : "";
        const BareCommand bare = bare_command(command);
        const bool is_tee = !bare.words.empty() && bare.words[0].shown() == "tee";
        if (text || !one.document_is_plain || (program != "cat" && !is_tee)) return false;
        text = *one.document;
        if (!is_tee) continue;
        Written tee{"", "", false, bare.sudo};
        for (std::size_t i = 1; i < bare.words.size(); ++i) {
          const std::string word = state_.text_of(bare.words[i]).value_or("");
          if (word == "-a")
            tee.append = true;
          else if (word.empty() || !tee.path.empty() || word[0] == '-')
            return false;
          else
            tee.path = word;
        }
        written = tee;
      } else if ((one.op == ">" || one.op == ">>") && one.descriptor < 0) {
        const auto target = state_.text_of(one.target);
        if (!target) return false;
        if (written && *target == "/dev/null") continue;
        if (written) return false;
        written = Written{*target, "", one.op == ">>", false};
      } else {
        return false;
      }
    }
    if (!text || !written || written->path.empty()) return false;
    written->text = *text;
    return write(*written);
  }

  /// `echo TEXT | sudo tee -a FILE`.
  bool adopt_echo_into_tee() {
    const ShellCommand& second = segment_.commands[1];
    if (second.join != ShellJoin::pipe || !segment_.commands[0].redirects.empty()) return false;
    const auto text = echoed(segment_.commands[0]);
    const auto words = words_of(second);
    if (!text || !words || words->program != "tee") return false;
    Written written{"", *text, false, words->sudo};
    for (std::size_t i = 1; i < words->all.size(); ++i) {
      if (words->all[i] == "-a" || words->all[i] == "--append")
        written.append = true;
      else if (words->all[i].starts_with('-') || !written.path.empty())
        return false;
      else
        written.path = words->all[i];
    }
    for (const ShellRedirect& one : second.redirects) {
      if (one.target.shown() != "/dev/null") return false;
    }
    return !written.path.empty() && write(written);
  }

  const AdoptSegment& segment_;
  AdoptState& state_;
};

}  // namespace

bool adopt_segment(const AdoptSegment& segment, AdoptState& state) {
  const AdoptState before = state;
  const auto is_of_another_home = [&](const AdoptedStep& step) {
    return step.as == "root" && std::any_of(step.fields.begin(), step.fields.end(), [](const Json& value) {
             return value.is_string() && value.get_ref<const std::string&>().starts_with('~');
           });
  };
  if (Adopter(segment, state).run() &&
      std::none_of(state.steps.begin() + static_cast<std::ptrdiff_t>(before.steps.size()), state.steps.end(), is_of_another_home))
    return true;
  state = before;
  return false;
}

}  // namespace gpustrap

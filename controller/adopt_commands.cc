#include "controller/adopt_commands.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/lint_words.h"

namespace gpustrap {

bool Words::read(std::initializer_list<std::string_view> flags, std::initializer_list<std::string_view> valued, std::size_t from) {
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

bool Adopter::run() {
  if (segment_.commands.size() == 2 && adopt_echo_into_tee()) return true;
  if (segment_.commands.size() == 2 && is_yes(segment_.commands[0])) return adopt_one(segment_.commands[1]);
  if (only_looks()) return absorb("it only looks or speaks");
  std::size_t count = segment_.commands.size();
  while (count > 1 && only_shortens(segment_.commands[count - 1])) --count;
  return count == 1 && adopt_one(segment_.commands[0]);
}

namespace {

bool is_silent(const ShellRedirect& one) {
  const std::string target = one.target.shown();
  return one.op.find('>') != std::string::npos && (target == "/dev/null" || target == "1" || target == "2");
}

/// Whether a command asks for nothing but what is, or says something.
bool looks(const ShellCommand& command) {
  if (!command.assignments.empty() || !std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return false;
  const BareCommand bare = bare_command(command);
  if (bare.words.empty() || !bare.assignments.empty() || !bare.understood || bare.nohup) return false;
  std::vector<std::string> words;
  for (const ShellWord& word : bare.words) {
    for (const ShellPart& part : word.parts) {
      if (part.kind == ShellPart::Kind::opaque && part.text != "*") return false;  // what is run in there may do anything
    }
    words.push_back(word.shown());
  }
  const std::string program = name_of_path(words[0]);
  const std::string second = words.size() > 1 ? words[1] : "";
  if (is_among(program, {"echo", "printf", "lsmod", "lspci", "lsblk", "lscpu",  "lsb_release", "uname", "whoami", "nproc", "free", "df",
                         "du",   "ls",     "which", "type",  "wc",    "uptime", "pwd",         "id",    "groups", "grep",  "egrep"}))
    return true;
  if (is_among(program, {"cat", "head", "tail", "cut", "tr"})) return command.join == ShellJoin::pipe || words.size() > 1;
  if (program == "hostname" || program == "date") return words.size() == 1;
  if (program == "apt-cache" || (program == "ubuntu-drivers" && is_among(second, {"devices", "list"}))) return true;
  if (program == "dpkg") return is_among(second, {"-l", "-s", "-L", "--list", "--status"});
  if (is_among(program, {"pip", "pip3", "conda", "docker"}) && is_among(second, {"list", "show", "freeze", "info", "ps", "images"}))
    return true;
  if (program == "nvidia-smi")
    return words.size() > 1 && std::all_of(words.begin() + 1, words.end(), [](const std::string& word) {
             return word.starts_with("--query") || word.starts_with("--format") || word == "-L" || word == "-q";
           });
  return words.size() == 2 && is_among(second, {"--version", "-V", "-version"});
}

}  // namespace

bool Adopter::only_looks() const { return !segment_.background && std::all_of(segment_.commands.begin(), segment_.commands.end(), looks); }

/// `| tail -2`, `| tee install.log`: what a person sees of a command, not what it does.
bool Adopter::only_shortens(const ShellCommand& command) {
  const BareCommand bare = bare_command(command);
  if (command.join != ShellJoin::pipe || bare.words.empty() || bare.sudo) return false;
  if (!std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return false;
  const std::string program = bare.words[0].shown();
  return is_among(program, {"tail", "head", "cat"}) || (program == "tee" && bare.words.back().shown().ends_with(".log"));
}

bool Adopter::is_yes(const ShellCommand& command) const { return command.words.size() == 1 && state_.text_of(command.words[0]) == "yes"; }

std::optional<Words> Adopter::words_of(const ShellCommand& command) const {
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
  const bool installs = !bare.words.empty() && is_among(bare.words[0].shown(), {"apt-get", "apt", "apt-fast"});
  for (const ShellWord& word : bare.words) {
    const std::optional<std::vector<std::string>> fields = state_.fields_of(word);
    const std::string shown = word.shown();
    // `$SUDO apt-get …`, where the script works out whether it needs sudo.
    if (&word == &bare.words.front() && shown == "${SUDO}" && bare.words.size() > 1) {
      const auto sudo = state_.variables.find("SUDO");
      if (sudo == state_.variables.end() || sudo->second.text.find("sudo") == std::string::npos) return std::nullopt;
      words.sudo = !fields || !fields->empty();
      continue;
    }
    if (!fields && installs && shown.starts_with("linux-") && shown.find("uname -r") != std::string::npos) {
      words.of_kernel.push_back(shown);
      continue;
    }
    if (!fields) {
      const std::vector<std::string> files = state_.fetched_by(word);
      if (files.empty()) return std::nullopt;
      words.all.insert(words.all.end(), files.begin(), files.end());
      continue;
    }
    words.all.insert(words.all.end(), fields->begin(), fields->end());
  }
  if (words.all.empty()) return std::nullopt;
  words.program = name_of_path(words.all[0]);
  return words;
}

AdoptedStep& Adopter::add(std::string kind, Json fields) {
  AdoptedStep& step = state_.add(std::move(kind), std::move(fields));
  step.original = segment_.text;
  return step;
}

void Adopter::run_as(AdoptedStep& step, const Words& words) {
  if (words.sudo) step.as = words.user.empty() ? "root" : words.user;
}

bool Adopter::adopt_one(const ShellCommand& command) {
  if (command.words.empty()) return adopt_assignments(command);
  if (adopt_write(command)) return true;
  // Values that only a shell knows go along with the steps that need them.
  if (is_among(command.words[0].shown(), {"export", "readonly", "declare", "typeset", "local"}) && command.assignments.empty() &&
      command.redirects.empty())
    return adopt_declaration(command);
  auto words = words_of(command);
  if (!words) return false;
  if (!std::all_of(command.redirects.begin(), command.redirects.end(), is_silent)) return false;
  if (segment_.background && words->program != "jupyter" && words->program != "jupyter-lab") return false;
  const std::string& p = words->program;
  if (p == "cd") return change_folder(*words);
  if (is_among(p, {"set", "clear", "true", ":", "shopt", "hash", "history", "exit"}) &&
      !(p == "exit" && words->all.size() > 1 && words->all[1] != "0"))
    return absorb("it means nothing to a recipe");
  if (p == "newgrp" || (is_among(p, {"bash", "zsh"}) && words->all.size() == 1)) return absorb("each step starts a shell of its own");
  if ((p == "ssh" || p == "scp") && words->all.size() > 2)
    return absorb("for the machine you sit at: `gpustrap up` connects and opens the tunnel");
  if (p == "chmod" && words->all.size() == 3 && words->all[2].ends_with(".pem"))
    return absorb("for the machine you sit at: ssh wants its key private");
  if (p == "sleep") return absorb("a step is over when its work is done");
  if (p == "chmod" && words->all.size() == 3 && make_mode(words->all[1], words->all[2])) return true;
  if (is_among(p, {"apt-get", "apt", "apt-fast"})) return adopt_apt(*words);
  if (p == "dpkg") return adopt_dpkg(*words);
  if (p == "modprobe" && words->all.size() == 2 && words->all[1].starts_with("nvidia")) return absorb("`nvidia_driver` loads it");
  if (p == "ubuntu-drivers" && words->all.size() > 1 && is_among(words->all[1], {"install", "autoinstall"})) {
    add("nvidia_driver", {{"branch", "auto"}})
        .reviews.push_back("the script lets `ubuntu-drivers` choose; this takes what fits GPU and CUDA");
    return true;
  }
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

bool Adopter::absorb(std::string_view why) { return state_.absorb(segment_.text, why), true; }

bool Adopter::adopt_assignments(const ShellCommand& command) {
  if (command.assignments.empty() || !command.redirects.empty()) return false;
  for (const ShellAssignment& one : command.assignments) remember(one.name, state_.text_of(one.value), raw(one.value), false);
  return absorb("known to the steps below");
}

void Adopter::remember(const std::string& name, std::optional<std::string> value, const std::string& text, bool exported) {
  if (is_among(name, {"DEBIAN_FRONTEND", "NEEDRESTART_MODE", "NEEDRESTART_SUSPEND"})) return;  // steps see to it that nobody is asked
  state_.assign(name, std::move(value), text, exported);
}

std::string Adopter::raw(const ShellWord& word) const {
  const std::size_t from = word.begin - segment_.commands[0].begin;
  return from <= segment_.text.size() ? segment_.text.substr(from, word.end - word.begin) : word.shown();
}

bool Adopter::adopt_declaration(const ShellCommand& command) {
  bool exported = command.words[0].shown() == "export";
  std::size_t from = 1;
  for (; from < command.words.size() && command.words[from].shown().starts_with('-'); ++from) {
    const std::string options = command.words[from].shown();
    if (options.find_first_not_of("rxig", 1) != std::string::npos) return false;  // arrays, functions, references
    exported = exported || options.find('x') != std::string::npos;
  }
  for (std::size_t i = from; i < command.words.size(); ++i) {
    const std::string shown = command.words[i].shown();
    if (!is_env_name(shown.substr(0, shown.find('=')))) return false;
  }
  for (std::size_t i = from; i < command.words.size(); ++i) {
    const std::string shown = command.words[i].shown();
    const std::size_t equals = shown.find('=');
    const std::string name = shown.substr(0, equals);
    if (equals == std::string::npos) {
      AdoptState::Variable& variable = state_.variables[name];
      if (exported && !variable.exported && !variable.value && !variable.text.empty()) variable.text += "\nexport " + name;
      variable.exported = variable.exported || exported;
      continue;
    }
    // A PATH that grows needs no value: steps name their programs.
    const std::optional<std::string> text = state_.text_of(command.words[i]);
    remember(name, text ? std::optional<std::string>(text->substr(equals + 1)) : std::nullopt,
             (exported ? "export " : "") + raw(command.words[i]), exported);
  }
  return absorb("known to the steps below");
}

bool Adopter::is_env_name(const std::string& name) {
  return !name.empty() && !(name[0] >= '0' && name[0] <= '9') && std::all_of(name.begin(), name.end(), [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
  });
}

bool Adopter::change_folder(const Words& words) {
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

bool Adopter::adopt_source(Words& words) {
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
  constexpr std::string_view kCarried = "carried into the commands below";
  if (name == "conda.sh") return state_.source(segment_.text, {"conda", "mamba"}), absorb("the steps below name the environment");
  if (words.sudo || words.all.size() != 2) return false;
  if (name == "os-release")
    return state_.source(segment_.text,
                         {"ID", "ID_LIKE", "NAME", "PRETTY_NAME", "VERSION", "VERSION_ID", "VERSION_CODENAME", "UBUNTU_CODENAME"}),
           absorb(kCarried);
  if (name == "lsb-release")
    return state_.source(segment_.text, {"DISTRIB_ID", "DISTRIB_RELEASE", "DISTRIB_CODENAME", "DISTRIB_DESCRIPTION"}), absorb(kCarried);
  if (name == "nvm.sh") return state_.source(segment_.text, {"nvm", "npm", "npx", "node", "yarn"}), absorb(kCarried);
  // What another file sets may be anything: it comes along by a path that does not depend on the folder.
  const auto path = state_.path_of(file);
  if (!path) return false;
  const bool is_home = path->starts_with("~/");
  state_.source(fmt::format(". {}", is_home ? "~/" + shell_quote(path->substr(2)) : shell_quote(*path)), {});
  return absorb(kCarried);
}

bool Adopter::activate(const std::string& env) {
  state_.venv.clear();
  state_.conda_env = env;
  return absorb("the steps below name the environment");
}

bool Adopter::adopt_systemctl(Words& words) {
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

bool Adopter::adopt_jupyter(Words& words) {
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

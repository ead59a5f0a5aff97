#include "controller/doctor/looks.h"

#include <algorithm>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/login_shell.h"

// What every program of a login takes for granted: a shell that runs commands, PATH, /dev/null, files that may be read, Python.

namespace gpustrap {
namespace {

constexpr std::string_view kSystemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// "FILE:NUMBER:TEXT".
struct FileLine {
  std::string file, number, text;
};
FileLine file_line(const std::string& line) {
  const std::size_t first = line.find(':');
  const std::size_t second = first == std::string::npos ? first : line.find(':', first + 1);
  if (second == std::string::npos) return {line, "", ""};
  return {line.substr(0, first), line.substr(first + 1, second - first - 1), line.substr(second + 1)};
}

/// Whether a shell reads this file before a command of sshd's.
bool reads_for_a_command(std::string_view shell, std::string_view file) {
  if (file == "/etc/environment" || file.ends_with("/.ssh/environment")) return true;
  const std::string_view name = shell.substr(shell.rfind('/') + 1);
  if (file.ends_with("bashrc") || file.ends_with(".bashrc")) return name == "bash" || name.empty();
  if (contains(file, "zsh")) return name == "zsh";
  return contains(file, name);
}

/// Whether a line keeps what PATH had, or names the system's folders itself. PAM takes /etc/environment as it stands: $PATH is none there.
bool leaves_path_whole(const FileLine& line) {
  if (contains(line.text, "/usr/bin") && contains(line.text, "/bin")) return true;
  const bool is_shell = line.file != "/etc/environment" && !line.file.ends_with("/.ssh/environment");
  return is_shell && (contains(line.text, "$PATH") || contains(line.text, "${PATH") || contains(line.text, "fish_add_path"));
}

/// The command that puts the system's folders back, in a shell that finds none of its programs.
std::string path_repair(const FileLine& line) {
  const bool is_shell = line.file != "/etc/environment" && !line.file.ends_with("/.ssh/environment");
  const std::string root = line.file.starts_with("/etc/") ? "/usr/bin/sudo " : "";
  return fmt::format("{}/bin/sed -i.bak '{}s|\\bPATH=\"\\?|&{}:|' {}", root, line.number, is_shell ? "$PATH" : kSystemPath,
                     shell_quote(line.file));
}

bool is_assignment(std::string_view word) {
  const std::size_t equals = word.find('=');
  return equals != std::string_view::npos && equals > 0 &&
         word.substr(0, equals).find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_") ==
             std::string_view::npos;
}

/// Where a value ends: behind its quotes, or before the word's end.
std::size_t end_of_value(std::string_view text, std::size_t at) {
  char quote = 0;
  for (; at < text.size(); ++at) {
    if (quote != 0)
      quote = text[at] == quote ? '\0' : quote;
    else if (text[at] == '"' || text[at] == '\'')
      quote = text[at];
    else if (std::string_view(" \t;&|)").find(text[at]) != std::string_view::npos)
      break;
  }
  return at;
}

}  // namespace

std::vector<std::string> settings_of(const Patient& p, std::string_view variable) {
  std::vector<std::string> lines = matching(p.evidence.lines("login-files"), variable);
  for (std::string& line : matching(p.evidence.lines("environment"), variable)) lines.push_back(std::move(line));
  return lines;
}

std::optional<std::string> value_set(const std::string& line, std::string_view variable) {
  const FileLine where = file_line(line);
  const std::string_view text = where.text;
  const std::string wanted = std::string(variable) + "=";
  std::optional<std::string> value;
  for (std::size_t at = text.find(wanted); at != std::string_view::npos; at = text.find(wanted, at + 1)) {
    if (at > 0 && std::string_view(" \t;&|").find(text[at - 1]) == std::string_view::npos) continue;
    // What stands before it in the same command: other variables, or a word that sets them for good.
    const std::size_t separator = at == 0 ? std::string_view::npos : text.find_last_of(";&|", at - 1);
    bool is_for_good = false, is_setting = true;
    for (const std::string& word : words(text.substr(separator == std::string_view::npos ? 0 : separator + 1,
                                                     at - (separator == std::string_view::npos ? 0 : separator + 1)))) {
      if (word == "export" || word == "declare" || word == "typeset" || word == "readonly")
        is_for_good = true;
      else if (word != "then" && word != "else" && word != "do" && word != "{" && word != "-x" && word != "-gx" && !is_assignment(word))
        is_setting = false;
    }
    if (!is_setting) continue;
    const std::size_t begin = at + wanted.size(), end = end_of_value(text, begin);
    // `NAME= program` sets it for that program alone.
    const std::vector<std::string> behind = words(text.substr(end, text.find_first_of(";&|#)", end) - end));
    if (!is_for_good &&
        !std::all_of(behind.begin(), behind.end(), [](const std::string& word) { return is_assignment(word) || word == "}"; }))
      continue;
    value = std::string(text.substr(begin, end - begin));
    std::erase_if(*value, [](char c) { return c == '"' || c == '\'' || c == ' '; });
  }
  return value;
}

std::string take_out(const std::string& line) {
  const FileLine place = file_line(line);
  // In a file of a shell's a command that does nothing stands for it: the line may be all that an `if` has.
  return fmt::format("{}sed -i.bak '{}s/^/{}/' {}", place.file.starts_with("/etc/") ? "sudo " : "", place.number,
                     place.file == "/etc/environment" ? "#" : ": #", shell_quote(place.file));
}

Verdict look_login_files(const Patient& p) {
  if (const std::string fault = p.evidence.value("login-shell", "fault"); !fault.empty()) {
    std::vector<std::string> ways;
    for (const std::string& line : split(ways_past_the_login_shell(), '\n')) ways.push_back("# " + line);
    return found({fault}, "a file that the login shell reads before every command keeps it from running any", std::move(ways));
  }
  if (!p.evidence.was_seen("login")) return unseen(p, "login");
  const std::string shell = p.evidence.value("login", "shell");
  if (!p.evidence.value("login", "path-lacks").empty()) {
    const std::string path = p.evidence.value("login", "path");
    std::vector<std::string> evidence = {"PATH=" + path}, commands;
    for (const std::string& line : p.evidence.lines("login-path")) {
      const FileLine one = file_line(line);
      if (!reads_for_a_command(shell, one.file) || leaves_path_whole(one)) continue;
      evidence.push_back(line);
      commands.push_back(path_repair(one));
    }
    if (commands.empty())
      commands.emplace_back("# let the line that sets PATH keep what it had: PATH=$PATH:/more   (~/.bashrc, /etc/environment)");
    commands.emplace_back("# then log in again");
    return found(std::move(evidence),
                 "PATH has none of the system's folders: no login, no `ssh HOST command` and no notebook finds a program",
                 std::move(commands));
  }
  if (const auto took = number_of(p.evidence.value("login-shell", "took"))) {
    Verdict verdict = found(
        {fmt::format("{} s from the login to the first command", *took)}, "a file that the login shell reads holds up every command",
        {"# see what waits in it: " + std::string(shell.ends_with("zsh") ? "zsh -xc : 2>&1" : "bash -xic exit 2>&1") + " | ts || less",
         "# then move it behind the line that returns where nobody types: case $- in *i*) ;; *) return ;; esac"});
    verdict.severity = Severity::warning;
    return verdict;
  }
  return fine();
}

// A limit holds for each login of the user's. Root's processes are not counted.
Verdict look_limits(const Patient& p) {
  struct Limit {
    std::string_view line, item, what;
    std::uint64_t least;
  };
  // The agent, a notebook and a shell are some 60 processes and threads; each keeps some files open, and maps its libraries.
  constexpr Limit kLimits[] = {{"limit processes ", "nproc", "processes", 200},
                               {"limit open files ", "nofile", "open files", 256},
                               {"limit address space ", "as", "bytes of memory in each program", std::uint64_t{2} << 30U}};
  const bool is_root = p.evidence.value("limits", "uid") == "0";
  std::vector<std::string> evidence, commands, causes;
  for (const Limit& one : kLimits) {
    for (const std::string& line : p.evidence.lines("limits")) {
      if (!line.starts_with(one.line)) continue;
      const std::vector<std::string> parts = words(line.substr(one.line.size()));
      const auto most = parts.empty() ? std::nullopt : number_of(parts[0]);
      if (!most || *most >= one.least || (is_root && one.item == "nproc")) continue;
      evidence.push_back(fmt::format("/proc/self/limits: {} {}", *most, one.what));
      causes.push_back(fmt::format("{} {}", *most, one.what));
      for (const std::string& setting : p.evidence.lines("limits")) {
        if (!setting.starts_with("set ")) continue;
        const FileLine place = file_line(setting.substr(4));
        const std::vector<std::string> fields = words(place.text);
        const auto value = fields.size() == 4 ? number_of(fields[3]) : std::nullopt;
        if (!value || fields[2] != one.item || *value * (one.item == "as" ? 1024 : 1) >= one.least) continue;
        evidence.push_back(setting.substr(4));
        commands.push_back(fmt::format("sudo sed -i.bak '{}s/^/# /' {}", place.number, shell_quote(place.file)));
      }
    }
  }
  std::string words_of_shell;
  if (const std::string said = p.evidence.value("programs", "fails"); said == "processes" || said.starts_with("processes ")) {
    words_of_shell = trim(std::string_view(said).substr(9));
    evidence.push_back(words_of_shell.empty() ? "20 processes cannot be started at once" : words_of_shell);
  } else if (causes.empty()) {
    return fine();
  }
  if (commands.empty())
    commands.emplace_back(
        "# raise it where it is set: nproc, nofile and as in /etc/security/limits.d, ulimit in ~/.profile, TasksMax of user-.slice");
  else
    commands.insert(commands.begin(), "# where not even sudo starts: as root, from the provider's console, without `sudo`");
  commands.emplace_back("# then log in again");
  return found(std::move(evidence),
               causes.empty() ? "the host cannot start programs for this login: no more processes can be made"
                              : fmt::format("a login may have {} at most: programs of it do not start, or end in the middle of their work",
                                            join(causes, ", ")),
               std::move(commands));
}

Verdict look_programs(const Patient& p) {
  std::vector<std::string> evidence, packages, commands;
  for (const std::string& line : p.evidence.lines("programs")) {
    if (!line.starts_with("fails ") || words(line).size() < 2 || words(line)[1] == "processes") continue;
    const std::string name = words(line)[1];
    const std::string said(trim(std::string_view(line).substr(6 + name.size())));
    evidence.push_back(name + ": " + (said.empty() ? "does not answer as it must" : said));
    const std::string package = name == "grep" || name == "sed" ? name : "coreutils";
    if (std::find(packages.begin(), packages.end(), package) == packages.end()) packages.push_back(package);
    if (commands.empty()) commands.push_back("command -v " + name + "   # one in a folder of your own PATH may stand before the system's");
  }
  if (evidence.empty()) return fine();
  commands.push_back("sudo apt-get install --reinstall " + join(packages, " ") + "   # or: sudo dnf reinstall " + join(packages, " "));
  commands.push_back("# where that needs the program itself: copy it from a host of the same release: gpustrap push HOST FILE");
  return found(std::move(evidence), "a basic program of the system is missing or broken: nothing else can be looked at",
               std::move(commands));
}

Verdict look_null_device(const Patient& p) {
  if (!p.evidence.was_seen("basics")) return unseen(p, "basics");
  struct Device {
    std::string_view path, minor;
  };
  for (const Device& one : {Device{"/dev/null", "3"}, Device{"/dev/zero", "5"}, Device{"/dev/urandom", "9"}}) {
    for (const std::string& line : p.evidence.lines("basics")) {
      const std::vector<std::string> parts = words(line);
      if (parts.size() < 3 || parts[0] != "device" || parts[1] != one.path) continue;
      const bool is_it = parts.size() > 7 && parts[2].starts_with("crw-rw-rw-") && parts[6] == "1," && parts[7] == one.minor;
      if (is_it) continue;
      // A container's engine brings the node in, where nobody can make one.
      std::vector<std::string> commands = {fmt::format("sudo rm -f {0} && sudo mknod -m 666 {0} c 1 {1}", one.path, one.minor)};
      std::vector<Json> steps = {step_of("device", "command",
                                         {{"run", fmt::format("rm -f {0}; mknod -m 666 {0} c 1 {1}", one.path, one.minor)},
                                          {"unless", fmt::format("test -c {0} && test \"$(stat -c %a {0})\" = 666", one.path)}})};
      if (p.facts.container) {
        commands.emplace_back("# where mknod is refused: start the container anew");
        steps.clear();
      }
      return found({line.substr(7)},
                   fmt::format("{} is not the device that it should be: scripts, sudo, apt and ssh fail in odd ways", one.path),
                   std::move(commands), std::move(steps));
    }
  }
  return fine();
}

Verdict look_files_closed(const Patient& p) {
  if (!p.evidence.was_seen("basics")) return unseen(p, "basics");
  std::vector<std::string> evidence, files;
  for (const std::string& line : p.evidence.lines("basics")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || parts[0] != "unreadable") continue;
    files.push_back(parts[1]);
    evidence.push_back(line.substr(parts[0].size() + parts[1].size() + 2));
  }
  if (files.empty()) return fine();
  const std::string all = join(files, " ");
  return found(std::move(evidence),
               fmt::format("who logs in cannot read {}, which every program reads: names of users and hosts are not found", files.front()),
               {"sudo chmod 644 " + all}, {step_of("readable", "command", {{"run", "chmod 644 " + all}})});
}

Verdict look_preload(const Patient& p) {
  if (!p.evidence.was_seen("basics")) return unseen(p, "basics");
  std::vector<std::string> evidence, commands;
  std::string script;
  for (const std::string& line : p.evidence.lines("basics")) {
    if (!line.starts_with("preload-missing ")) continue;
    const std::string library = line.substr(16);
    evidence.push_back("/etc/ld.so.preload: " + library + " is not there");
    if (library.find_first_of("'|\\&*[^$") == std::string::npos) script += fmt::format("\\|{}|d; ", library);
  }
  if (evidence.empty()) return fine();
  const std::string run = fmt::format("sed -i.bak '{}' /etc/ld.so.preload", script);
  return found(std::move(evidence), "/etc/ld.so.preload names a library that is not there: every program complains, which breaks scripts",
               {"sudo " + run}, {step_of("preload", "command", {{"run", run}})});
}

Verdict look_python_gone(const Patient& p) {
  if (!p.evidence.was_seen("basics")) return unseen(p, "basics");
  std::string packaged = p.evidence.value("basics", "python-packaged");
  // "3.12.3-0ubuntu2" is python3.12.
  if (const std::size_t dot = packaged.find('.'); dot != std::string::npos)
    packaged.resize(std::min(packaged.find_first_not_of("0123456789", dot + 1), packaged.size()));
  const std::vector<std::string> there = matching(p.evidence.lines("basics"), "python /usr/bin/");
  for (const std::string& line : p.evidence.lines("basics")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || parts[0] != "python-gone") continue;
    const std::string& path = parts[1];
    std::vector<std::string> evidence = {parts[2] == "nothing" ? path + " is not there"
                                                               : fmt::format("{} leads to {}, which is not there", path, parts[2])};
    for (const std::string& one : there) evidence.push_back(one.substr(7) + " is there");
    if (path != "/usr/bin/python3")
      return found(std::move(evidence), "python3 leads nowhere: whoever calls it by its name gets `command not found`",
                   {"sudo rm " + path + "   # then /usr/bin/python3 is found again"},
                   {step_of("python", "command", {{"run", "rm -f " + path}})});
    const std::string wanted = packaged.empty() ? (there.size() == 1 ? there.front().substr(16) : "") : "python" + packaged;
    const bool has_wanted =
        std::any_of(there.begin(), there.end(), [&](const std::string& one) { return one == "python /usr/bin/" + wanted; });
    if (!wanted.empty() && has_wanted)
      return found(std::move(evidence), "python3 leads nowhere: apt's and cloud-init's own scripts fail, too",
                   {fmt::format("sudo ln -sfn {} /usr/bin/python3", wanted)},
                   {step_of("python", "command", {{"run", fmt::format("ln -sfn {} /usr/bin/python3", wanted)}})});
    return found(
        std::move(evidence), "python3 leads nowhere: apt's and cloud-init's own scripts fail, too",
        {wanted.empty() ? "ls -l /usr/bin/python3*" : fmt::format("sudo apt-get install -y --reinstall lib{0}-minimal {0}-minimal", wanted),
         fmt::format("sudo ln -sfn {} /usr/bin/python3", wanted.empty() ? "python3.N" : wanted)});
  }
  return fine();
}

Verdict look_venv_gone(const Patient& p) {
  if (!p.evidence.was_seen("basics")) return unseen(p, "basics");
  std::vector<std::string> evidence, commands;
  for (const std::string& line : p.evidence.lines("basics")) {
    if (!line.starts_with("venv-gone ")) continue;
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3) continue;
    const std::string& python = parts[1];
    const std::string folder = line.substr(11 + python.size());
    evidence.push_back(fmt::format("{}: its Python was {}, which is not there", folder, python));
    commands.push_back(
        fmt::format("python3 -m venv --clear {}   # anew, and empty: its packages have to be installed again", shell_quote(folder)));
  }
  if (evidence.empty()) return fine();
  commands.insert(commands.begin(), "# bring that Python back, which keeps the packages; or, with the one that is there:");
  return found(std::move(evidence), "an environment of Python's has lost the Python that it was made with: nothing in it starts",
               std::move(commands));
}

Verdict look_python_variables(const Patient& p) {
  if (!p.evidence.was_seen("login")) return unseen(p, "login");
  std::vector<std::string> evidence, commands;
  bool home = false;
  for (const char* variable : {"PYTHONHOME", "PYTHONPATH"}) {
    const std::string value = p.evidence.value("login", variable);
    std::vector<std::string> lines;
    for (const std::string& line : settings_of(p, variable)) {
      if (!value_set(line, variable).value_or("").empty()) lines.push_back(line);
    }
    if (value.empty() && lines.empty()) continue;
    home = home || std::string_view(variable) == "PYTHONHOME";
    if (!value.empty()) evidence.push_back(fmt::format("{}={}", variable, value));
    for (const std::string& line : lines) {
      evidence.push_back(line);
      commands.push_back(take_out(line));
    }
  }
  if (evidence.empty()) return fine();
  if (commands.empty())
    commands.emplace_back("# take it out of the file that sets it: grep -rn PYTHON ~/.ssh/environment /etc/security/pam_env.conf");
  commands.emplace_back("# then log in again; for this shell: unset PYTHONHOME PYTHONPATH");
  Verdict verdict = found(std::move(evidence),
                          home ? "PYTHONHOME is set for every login: every Python but that one fails to start (no module named 'encodings')"
                               : "PYTHONPATH is set for every login: its modules come before those of every environment",
                          std::move(commands));
  if (!home) verdict.severity = Severity::warning;
  return verdict;
}

Verdict look_sudo_terminal(const Patient& p) {
  const std::vector<std::string> said = matching(p.evidence.lines("login"), "must have a tty");
  if (said.empty()) return p.evidence.value("login", "rights") == "root" ? irrelevant() : fine();
  const std::string file = "/etc/sudoers.d/zz-without-terminal", line = shell_quote("Defaults:" + p.user + " !requiretty");
  return found(
      {said.front().substr(said.front().starts_with("sudo-said ") ? 10 : 0)},
      "sudo works at a terminal alone (requiretty): no program can use it, gpustrap neither",
      {"# at a terminal: ssh -t HOST", fmt::format("echo {0} | sudo tee -a {1} && sudo chmod 440 {1} && sudo visudo -c", line, file)});
}

}  // namespace gpustrap

#include <algorithm>
#include <array>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"
#include "controller/shell_reader.h"

namespace gpustrap {
namespace {

bool is_among(const std::string& word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// One shell text of a step, looked at command by command.
class ShellReview {
 public:
  ShellReview(LintReview& review, std::string text, std::string pointer, bool only_looks)
      : review_(review), text_(std::move(text)), pointer_(std::move(pointer)), only_looks_(only_looks) {}

  void look() {
    const std::vector<FoundCommand> commands = find_commands(text_);
    waits_ = std::any_of(commands.begin(), commands.end(),
                         [](const FoundCommand& one) { return !one.command.words.empty() && one.command.words[0].shown() == "wait"; });
    verifies_ = text_.find("sha256sum") != std::string::npos || text_.find("sha512sum") != std::string::npos ||
                text_.find("shasum") != std::string::npos || text_.find("gpg --verify") != std::string::npos ||
                text_.find("gpgv") != std::string::npos;
    activates_ = text_.find("activate") != std::string::npos;
    for (const FoundCommand& one : commands) look_at(one);
    look_at_end();
    if (!only_looks_ && !commands.empty() &&
        std::all_of(commands.begin(), commands.end(), [](const FoundCommand& one) { return is_of_shell(one); }))
      add("shell-state-lost", source_of(commands.front().command), "this changes nothing but its own shell, which ends with the step");
  }

 private:
  void add(std::string_view rule, std::string_view evidence, std::string message, std::optional<Severity> severity = std::nullopt) {
    review_.add(rule, pointer_, evidence, std::move(message), severity);
  }
  /// Whether a command leaves nothing behind but what its shell knows.
  static bool is_of_shell(const FoundCommand& found) {
    const BareCommand bare = bare_command(found.command);
    if (!found.command.redirects.empty() || bare.sudo) return false;
    if (bare.words.empty()) return !found.command.assignments.empty();
    const std::string first = bare.words[0].shown();
    const std::string second = bare.words.size() > 1 ? bare.words[1].shown() : "";
    return is_among(first, {"cd", "export", "alias", "source", ".", "umask", "ulimit", "unset"}) ||
           (is_among(first, {"conda", "mamba", "micromamba", "pyenv"}) && is_among(second, {"activate", "deactivate", "shell"})) ||
           (first == "module" && second == "load");
  }
  /// What stands in the text from the first word on, for finding the place again.
  [[nodiscard]] std::string source_of(const ShellCommand& command) const {
    return text_.substr(command.begin, std::min(command.end, text_.size()) - command.begin);
  }

  /// A command of our own behind the text is one for the reader, too, where everything before it is closed.
  void look_at_end() {
    const std::vector<ShellStatement> statements = read_shell(text_ + "\n:\n");
    if (statements.empty() || (statements.back().text == ":" && !statements.back().commands.empty())) return;
    const std::string rest = statements.back().text;
    // Between ` ` an apostrophe may be in a comment.
    if (rest.find('`') != std::string::npos) return;
    add("shell-unclosed", rest.substr(0, rest.find('\n')), "what begins here has no end for the shell");
  }

  void look_at(const FoundCommand& found) {
    const ShellCommand& command = found.command;
    if (command.join != ShellJoin::pipe) {
      fetched_ = yes_ = false;
      said_.clear();
    }
    const BareCommand bare = bare_command(command);
    const std::string source = source_of(command);
    words_.clear();
    for (const ShellWord& word : bare.words) words_.push_back(word.shown());
    program_ = words_.empty() ? "" : name_of_path(words_[0]);
    if (only_looks_) return look_at_guard(command, source);
    if (bare.sudo) add("sudo-in-command", source, fmt::format("`sudo {}` in a command", program_));
    if ((found.background && !waits_) || bare.nohup || program_ == "setsid" || program_ == "daemonize")
      add("background-process", source, fmt::format("`{}` is left in the background", program_));
    if ((program_ == "screen" && has_option({"-d", "-dm", "-dmS"})) || (program_ == "tmux" && has_option({"-d"})))
      add("background-process", source, fmt::format("`{}` leaves a program in the background", program_));
    look_at_questions(command, source);
    look_at_apt(command, source);
    look_at_restart(source);
    look_at_fetch(command, source);
    look_at_tls(command, bare, source);
    look_at_files(command, source);
    look_at_pip(source, bare.sudo);
    yes_ = yes_ || program_ == "yes";
    fetched_ = fetched_ || program_ == "curl" || program_ == "wget";
  }

  [[nodiscard]] bool has_option(std::initializer_list<std::string_view> options) const {
    return std::any_of(words_.begin(), words_.end(), [&](const std::string& word) { return is_among(word, options); });
  }
  /// The first word behind the program that is no option.
  [[nodiscard]] std::string verb() const {
    for (std::size_t i = 1; i < words_.size(); ++i) {
      if (words_[i] == "-o" || words_[i] == "-t")
        ++i;
      else if (!words_[i].starts_with('-'))
        return words_[i];
    }
    return {};
  }

  /// What it reads comes from somewhere: a pipe, a file, a text.
  [[nodiscard]] static bool is_fed(const ShellCommand& command) {
    return command.join == ShellJoin::pipe || std::any_of(command.redirects.begin(), command.redirects.end(),
                                                          [](const ShellRedirect& one) { return one.op.starts_with('<'); });
  }

  void look_at_questions(const ShellCommand& command, const std::string& source) {
    const bool is_screen = is_among(program_, {"vi", "vim", "nvim", "nano", "emacs", "pico", "top", "htop", "visudo"}) ||
                           (is_among(program_, {"less", "more"}) && !is_fed(command));
    const bool is_password = program_ == "passwd" && !is_fed(command) && !has_option({"--stdin", "-l", "-d", "-e", "-S", "-u"});
    const bool is_jupyter = program_ == "jupyter" && words_.size() > 2 && words_[2] == "password";
    const bool is_container = is_among(program_, {"docker", "podman", "nerdctl"}) && has_option({"-it", "-ti", "-t", "--tty"});
    if (is_screen || is_password || is_jupyter || is_container ||
        (program_ == "read" && !is_fed(command) && has_option({"-p", "-s", "-sp", "-rp", "-rsp"})))
      add("command-asks", source,
          fmt::format("`{}` needs somebody at a terminal", program_ == "jupyter" ? "jupyter … password" : program_));
  }

  void look_at_apt(const ShellCommand& command, const std::string& source) {
    const auto is_for_all = [](const std::string& path) { return path.starts_with("/etc/apt/trusted.gpg"); };
    const bool keeps = is_among(program_, {"gpg", "tee", "cp", "mv", "install", "cat", "curl", "wget"});
    const bool into_all = std::any_of(words_.begin(), words_.end(), is_for_all) ||
                          std::any_of(command.redirects.begin(), command.redirects.end(),
                                      [&](const ShellRedirect& one) { return one.op.starts_with('>') && is_for_all(one.target.shown()); });
    if (keeps && into_all) add("key-unpinned", source, "a key in /etc/apt/trusted.gpg.d is trusted for every repository");
    if (program_ == "apt-key") return add("key-unpinned", source, "`apt-key` trusts a key for every repository");
    if (!is_among(program_, {"apt", "apt-get", "aptitude"})) return;
    const std::string what = verb();
    const bool asks =
        is_among(what, {"install", "remove", "purge", "upgrade", "dist-upgrade", "full-upgrade", "autoremove", "build-dep", "reinstall"});
    const bool answered = yes_ || has_option({"-y", "--yes", "--assume-yes", "-qq", "-qqy", "-yq", "-yqq", "-qy"});
    if (asks && !answered)
      add("apt-interactive", source, fmt::format("`{} {}` without -y asks, and nobody answers", program_, what));
    else if (asks || what == "update")
      add("apt-in-command", source, fmt::format("`{} {}` in a command", program_, what));
  }

  void look_at_restart(const std::string& source) {
    const bool by_name = is_among(program_, {"reboot", "shutdown", "poweroff", "halt"});
    const bool by_systemctl = program_ == "systemctl" && is_among(verb(), {"reboot", "poweroff", "halt", "kexec"});
    if (by_name || by_systemctl || (program_ == "init" && words_.size() > 1 && is_among(words_[1], {"0", "6"})))
      add("reboot-in-command", source,
          fmt::format("`{}` in a command", by_name ? program_ : program_ + " " + (words_.size() > 1 ? words_[1] : "")));
  }

  void look_at_fetch(const ShellCommand& command, const std::string& source) {
    const bool is_interpreter = is_among(program_, {"sh", "bash", "dash", "zsh", "python", "python3", "perl", "ruby", "node"});
    const bool runs_input = std::all_of(words_.begin() + (words_.empty() ? 0 : 1), words_.end(),
                                        [](const std::string& word) { return word.starts_with('-'); }) ||
                            has_option({"-s", "-"});
    if (is_interpreter && fetched_ && command.join == ShellJoin::pipe && runs_input)
      add("pipe-to-shell", source, fmt::format("what is fetched goes straight into `{}`", program_));
    if (is_interpreter || is_among(program_, {"eval", "source", "."})) {
      for (const std::string& word : words_) {
        for (const std::string_view begin : {"<(curl", "<(wget", "$(curl", "$(wget", "`curl", "`wget"}) {
          if (word.find(begin) != std::string::npos)
            add("pipe-to-shell", source, fmt::format("what is fetched goes straight into `{}`", program_));
        }
      }
    }
    if (program_ != "curl" && program_ != "wget") return;
    bool of_others = false;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      const std::string& word = words_[i];
      if (!word.starts_with("http://") && !word.starts_with("https://")) continue;
      if (is_plain_http(word))
        add("url-plain-http", word, fmt::format("{} is fetched in the open", quote_value(word)),
            verifies_ ? Severity::warning : Severity::error);
      if (const std::string moving = moving_word(word); !moving.empty())
        add("url-unpinned", word, fmt::format("`{}` in {} means another file tomorrow", moving, quote_value(word)));
      const std::string rest = word.substr(word.find("://") + 3);
      const std::string host = rest.substr(0, rest.find_first_of(":/"));
      of_others = of_others || (host != "localhost" && !host.starts_with("127.") && host != "169.254.169.254");
    }
    const bool is_piped = command.end < text_.size() && trim(text_.substr(command.end)).starts_with('|');
    const bool saves = program_ == "wget" ||
                       has_option({"-O", "-o", "-LO", "-fLO", "-OL", "-fsSLO", "-sSLO", "-sLO", "--output", "--remote-name"}) ||
                       !command.redirects.empty();
    if (of_others && saves && !verifies_ && !is_piped)
      add("digest-missing", source, fmt::format("`{}` fetches a file, and nothing compares its digest", program_));
  }

  void look_at_tls(const ShellCommand& command, const BareCommand& bare, const std::string& source) {
    bool off = false;
    for (const std::string& word : words_) {
      const bool all_flags = program_ == "curl" && word.size() > 1 && word[0] == '-' && word[1] != '-' &&
                             word.find('k') != std::string::npos &&
                             word.substr(1).find_first_not_of("fsSLgGiIjlnNOqRvk46#") == std::string::npos;
      off = off || (program_ == "curl" && (word == "--insecure" || all_flags));
      off = off || (program_ == "wget" && word == "--no-check-certificate");
      off = off || (word.starts_with("--trusted-host") && text_.find("pip") != std::string::npos);
      off = off || (program_ == "git" && (word == "http.sslVerify=false" || word == "http.sslverify=false"));
      off = off || (is_among(program_, {"apt", "apt-get"}) &&
                    (word == "--allow-unauthenticated" || word.find("Verify-Peer=false") != std::string::npos));
    }
    off = off || (program_ == "git" && source.find("http.sslVerify false") != std::string::npos);
    off = off || (program_ == "conda" &&
                  (source.find("ssl_verify false") != std::string::npos || source.find("ssl_verify no") != std::string::npos));
    off = off || (program_ == "npm" && source.find("strict-ssl false") != std::string::npos);
    std::vector<ShellAssignment> assignments = command.assignments;
    assignments.insert(assignments.end(), bare.assignments.begin(), bare.assignments.end());
    for (const ShellAssignment& one : assignments) {
      const std::string value = one.value.shown();
      off = off || (one.name == "GIT_SSL_NO_VERIFY" && value != "0" && value != "false");
      off = off || (one.name == "PYTHONHTTPSVERIFY" && value == "0") || (one.name == "NODE_TLS_REJECT_UNAUTHORIZED" && value == "0");
    }
    if (off)
      add("tls-unchecked", source, fmt::format("`{}` is told not to check certificates", program_.empty() ? "the command" : program_));
  }

  void look_at_files(const ShellCommand& command, const std::string& source) {
    if (program_ == "chmod") {
      const std::string mode = verb();
      if (is_world_writable(mode)) add("world-writable", source, fmt::format("`chmod {}` lets every user write", mode));
    }
    std::string appended, written;
    for (const ShellRedirect& redirect : command.redirects) {
      if ((redirect.op != ">>" && redirect.op != ">") || !is_profile(redirect.target.shown())) continue;
      written = redirect.target.shown();
      if (redirect.op == ">>") appended = written;
    }
    if (program_ == "tee") {
      for (const std::string& word : words_) {
        if (is_profile(word)) written = word;
      }
      if (has_option({"-a", "--append"})) appended = written;
    }
    if (program_ == "echo" || program_ == "printf") said_ = said();
    for (const ShellRedirect& redirect : command.redirects) said_ += redirect.document.value_or("");
    if (written.empty()) return;
    if (!appended.empty()) add("shell-profile", source, fmt::format("adds to {} at every run", appended));
    look_at_login_text(review_, said_, written, pointer_);
  }

  /// What `echo` and `printf` print, as far as it shows.
  [[nodiscard]] std::string said() const {
    std::vector<std::string> rest;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      if (!words_[i].starts_with('-')) rest.push_back(words_[i]);
    }
    std::string text = join(rest, " ");
    for (std::size_t at = text.find("\\n"); at != std::string::npos; at = text.find("\\n", at)) text.replace(at, 2, "\n");
    return text + "\n";
  }

  void look_at_pip(const std::string& source, bool sudo) {
    const bool is_pip = is_among(words_.empty() ? "" : words_[0], {"pip", "pip3", "/usr/bin/pip", "/usr/bin/pip3"});
    const bool is_module = is_among(words_.empty() ? "" : words_[0], {"python", "python3", "/usr/bin/python3"}) && words_.size() > 3 &&
                           words_[1] == "-m" && words_[2] == "pip";
    if (!is_pip && !is_module) return;
    const bool installs = std::find(words_.begin(), words_.end(), "install") != words_.end();
    if (installs && (sudo || !activates_)) add("pip-outside-environment", source, "pip installs into the system's Python");
  }

  void look_at_guard(const ShellCommand& command, const std::string& source) {
    const std::string what = verb();
    const bool acts =
        is_among(program_, {"rm", "mv", "cp", "mkdir", "touch", "tee", "dd", "ln", "chmod", "chown", "kill", "pkill", "useradd", "reboot",
                            "truncate", "install"}) ||
        (is_among(program_, {"apt", "apt-get", "dpkg"}) && is_among(what, {"install", "remove", "update", "upgrade"})) ||
        (program_ == "git" && is_among(what, {"clone", "pull", "checkout", "fetch", "reset"})) ||
        (is_among(program_, {"pip", "pip3", "conda", "mamba"}) && is_among(what, {"install", "create", "update", "remove"})) ||
        (program_ == "systemctl" && is_among(what, {"start", "stop", "restart", "enable", "disable", "daemon-reload"})) ||
        (program_ == "sed" && has_option({"-i"}));
    bool writes = false;
    for (const ShellRedirect& redirect : command.redirects) {
      const std::string target = redirect.target.shown();
      writes = writes || (redirect.op.find('>') != std::string::npos && !redirect.op.starts_with(">&") && target != "/dev/null" &&
                          target != "/dev/stderr" && target != "/dev/stdout");
    }
    if (acts || writes) add("guard-acts", source, fmt::format("`{}` in `unless` changes something, and `plan` runs it", program_));
  }

  LintReview& review_;
  std::string text_, pointer_;
  bool only_looks_;
  bool waits_ = false, verifies_ = false, activates_ = false;
  bool fetched_ = false, yes_ = false;  // somewhere before in this pipeline
  std::string said_;                    // what `echo` gives to this pipeline
  std::vector<std::string> words_;
  std::string program_;
};

}  // namespace

void lint_commands(LintReview& review) {
  for (const LintStep& step : review.steps) {
    if (step.kind != StepKind::command) continue;
    for (const char* field : {"run", "unless"}) {
      const Json* value = step.field(field);
      if (value == nullptr || (!value->is_string() && !value->is_array())) continue;
      ShellReview(review, step.shell_text(field), step.place_of(field), std::string_view(field) == "unless").look();
    }
  }
}

}  // namespace gpustrap

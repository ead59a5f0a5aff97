#include <algorithm>
#include <cctype>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"
#include "controller/shell_reader.h"

// Secrets that stand in a recipe as they are: in variables, in options of commands, and in the files of programs that log in.

namespace gpustrap {
namespace {

bool is_among(const std::string& word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_hex(const std::string& text, std::size_t size) {
  return text.size() == size && text.find_first_not_of("0123456789abcdefABCDEF") == std::string::npos;
}

/// One place of a step: a text, and where it stands.
class SecretReview {
 public:
  SecretReview(LintReview& review, std::string pointer) : review_(review), pointer_(std::move(pointer)) {}

  void named(const std::string& name, const std::string& value) {
    if (is_secret_name_for_people(name) && is_literal_secret(value))
      add(value, fmt::format("{} has its value in plain text", quote_value(name)));
  }

  void look_at_shell(const std::string& text) {
    std::string piped;  // what `echo` says to the command behind the pipe
    for (const FoundCommand& found : find_commands(text)) {
      if (found.command.join != ShellJoin::pipe) piped.clear();
      for (const ShellAssignment& one : found.command.assignments) named(one.name, one.value.plain().value_or(""));
      const BareCommand bare = bare_command(found.command);
      for (const ShellAssignment& one : bare.assignments) named(one.name, one.value.plain().value_or(""));
      words_.clear();
      for (const ShellWord& word : bare.words) words_.push_back(word.shown());
      program_ = words_.empty() ? "" : name_of_path(words_[0]);
      look_at_options();
      look_at_program();
      look_at_input(found.command, piped);
      if (program_ == "export") {
        for (const ShellWord& word : bare.words) pair(word.plain().value_or(""));
      }
      if (program_ == "echo" || program_ == "printf") piped = words_.back();
    }
  }

  /// What programs keep their secrets in, whatever writes the file.
  void look_at_written(const std::string& text) {
    look_at_netrc(text);
    look_at_kaggle(text);
    for (const std::string_view name : {"NotebookApp.token", "ServerApp.token", "IdentityProvider.token", "NotebookApp.password",
                                        "ServerApp.password", "PasswordIdentityProvider.hashed_password"}) {
      for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
        const std::string value = value_behind(text, at + name.size());
        if (is_literal_secret(value)) add(value, fmt::format("`{}` has its value in plain text", name));
      }
    }
  }

  /// Lines of a file: `NAME=value` as in .env, `Environment=NAME=value` and `Exec…=` of a unit.
  void look_at_lines(const std::string& text) {
    for (const std::string& one : split(text, '\n')) {
      std::string_view line = trim(one);
      if (line.starts_with("Environment=")) {
        for (const FoundCommand& found : find_commands("export " + std::string(line.substr(12)))) {
          for (const ShellWord& word : found.command.words) pair(word.plain().value_or(""));
        }
      } else if (line.starts_with("Exec") && line.find('=') != std::string_view::npos) {
        look_at_shell(std::string(line.substr(std::min(line.find_first_not_of("-@:+!", line.find('=') + 1), line.size()))));
      } else {
        if (line.starts_with("export ")) line = trim(line.substr(7));
        const std::string_view name = line.substr(0, line.find('='));
        const bool is_variable = !name.empty() && name.find_first_not_of("ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") == std::string_view::npos;
        if (is_variable) named(std::string(name), value_behind(std::string(line), name.size()));
      }
    }
  }

 private:
  void add(const std::string& value, std::string message) { review_.add_secret("secret-in-text", pointer_, value, std::move(message)); }
  void option(const std::string& value, const std::string& option) {
    if (is_literal_secret(value)) add(value, fmt::format("`{}` has its value in plain text", option));
  }
  void pair(const std::string& text) {
    if (const std::size_t equals = text.find('='); equals != std::string::npos) named(text.substr(0, equals), text.substr(equals + 1));
  }
  [[nodiscard]] std::string word(std::size_t i) const { return i < words_.size() ? words_[i] : std::string(); }

  /// `curl -u me:password`, `--password=…`, `--token …`, `--ServerApp.token=…`.
  void look_at_options() {
    for (std::size_t i = 1; i < words_.size(); ++i) {
      const std::string next = word(i + 1);
      const std::size_t equals = words_[i].find('=');
      const std::string name = words_[i].substr(0, equals);
      if (program_ == "curl" && (name == "-u" || name == "--user") && next.find(':') != std::string::npos)
        option(next.substr(next.find(':') + 1), name);
      if (!name.starts_with("--") || !is_secret_name_for_people(name.substr(2))) continue;
      if (equals != std::string::npos)
        option(words_[i].substr(equals + 1), name);
      else if (!next.starts_with('-'))
        option(next, name);
    }
  }

  /// Programs with an option or a word of their own for it.
  void look_at_program() {
    const bool is_docker = is_among(program_, {"docker", "podman", "nerdctl", "docker-compose"});
    const bool is_mysql = is_among(program_, {"mysql", "mysqldump", "mysqladmin", "mariadb", "mariadb-dump"});
    bool logs_in = false;
    for (std::size_t i = 1; i < words_.size(); ++i) {
      const std::string& text = words_[i];
      if (is_docker && is_among(text, {"-e", "--env", "--build-arg"})) pair(word(i + 1));
      if (is_docker && text.starts_with("--env=")) pair(text.substr(6));
      if (is_docker && text.starts_with("-e") && text.find('=') != std::string::npos) pair(text.substr(2));
      if (is_mysql && text.starts_with("-p") && text.size() > 2) option(text.substr(2), "-p");
      if (program_ == "sshpass" && text.starts_with("-p")) {
        option(text.size() > 2 ? text.substr(2) : word(i + 1), "-p");
        break;
      }
      if (is_docker && logs_in && text == "-p") option(word(i + 1), "-p");
      if (program_ == "wandb" && logs_in && (is_hex(text, 40) || text.starts_with("wandb_v1_"))) option(text, "wandb login");
      if (program_ == "ngrok" && (text == "authtoken" || text == "add-authtoken")) option(word(i + 1), "ngrok " + text);
      if (program_ == "redis-cli" && text == "-a") option(word(i + 1), text);
      logs_in = logs_in || text == "login";
    }
  }

  /// `echo user:password | chpasswd`, and the like.
  void look_at_input(const ShellCommand& command, const std::string& piped) {
    const bool is_chpasswd = program_ == "chpasswd";
    const bool is_sudo = !command.words.empty() && command.words[0].shown() == "sudo" &&
                         std::any_of(command.words.begin(), command.words.end(), [](const ShellWord& w) { return w.shown() == "-S"; });
    const bool is_passwd = program_ == "passwd" && std::find(words_.begin(), words_.end(), "--stdin") != words_.end();
    if (!is_chpasswd && !is_sudo && !is_passwd) return;
    std::vector<std::string> inputs = {piped};
    for (const ShellRedirect& redirect : command.redirects) {
      if (redirect.op == "<<<") inputs.push_back(redirect.target.shown());
      if (redirect.document) inputs.push_back(*redirect.document);
    }
    for (const std::string& input : inputs) {
      for (const std::string& one : words(input)) {
        const std::string line = one.substr(0, one.find("\\n"));
        const std::size_t colon = is_chpasswd ? line.find(':') : std::string::npos;
        if (is_chpasswd && colon == std::string::npos) continue;
        option(colon == std::string::npos ? line : line.substr(colon + 1), program_.empty() || !is_sudo ? program_ : "sudo -S");
      }
    }
  }

  /// What `= 'value'` behind a name says; empty where nothing does.
  static std::string value_behind(const std::string& text, std::size_t at) {
    std::string_view rest = std::string_view(text).substr(at);
    rest = rest.substr(0, rest.find('\n'));
    rest = trim(rest);
    if (!rest.starts_with('=')) return {};
    rest = trim(rest.substr(1));
    if (rest.size() > 1 && rest[0] == 'u' && (rest[1] == '\'' || rest[1] == '"')) rest.remove_prefix(1);
    if (rest.starts_with('\'') || rest.starts_with('"')) return std::string(rest.substr(1, rest.find(rest[0], 1) - 1));
    return std::string(rest.substr(0, rest.find_first_of(" \t'\";&|)")));
  }

  /// `machine HOST login NAME password SECRET`.
  void look_at_netrc(const std::string& text) {
    const std::vector<std::string> all = words(text);
    for (std::size_t i = 0; i + 5 < all.size(); ++i) {
      if (!all[i].ends_with("machine") || all[i + 2] != "login" || all[i + 4] != "password") continue;
      const std::string value = all[i + 5].substr(0, all[i + 5].find_first_of("'\"\\"));
      if (is_literal_secret(value)) add(value, "the `password` of a .netrc is in plain text");
    }
  }

  /// kaggle.json: a mapping with `username` and `key`.
  void look_at_kaggle(std::string text) {
    text.erase(std::remove(text.begin(), text.end(), '\\'), text.end());
    if (text.find("\"username\"") == std::string::npos) return;
    std::size_t at = text.find("\"key\"");
    if (at == std::string::npos) return;
    at = text.find_first_not_of(" \t\n:", at + 5);
    if (at == std::string::npos || text[at] != '"') return;
    const std::string value = text.substr(at + 1, text.find('"', at + 1) - at - 1);
    if (is_literal_secret(value)) add(value, "the `key` of a kaggle.json is in plain text");
  }

  LintReview& review_;
  std::string pointer_;
  std::vector<std::string> words_;
  std::string program_;
};

void look_at_variables(LintReview& review, const LintStep& step) {
  const auto env = step.step->find("env");
  if (env != step.step->end() && env->is_object()) {
    for (const auto& [name, value] : env->items()) {
      if (value.is_string()) SecretReview(review, join_pointer(step.pointer + "/env", name)).named(name, value.get<std::string>());
    }
  }
  if (step.kind != StepKind::environment) return;
  for (const auto& [name, value] : step.fields.items()) {
    if (value.is_string()) SecretReview(review, step.place_of(name)).named(name, value.get<std::string>());
  }
}

}  // namespace

void lint_secrets(LintReview& review) {
  for (const LintStep& step : review.steps) {
    look_at_variables(review, step);
    for_each_text(*step.step, step.pointer,
                  [&](const std::string& text, const std::string& pointer) { SecretReview(review, pointer).look_at_written(text); });
    if (step.kind == StepKind::command) {
      SecretReview(review, step.place_of("run")).look_at_shell(step.shell_text("run"));
      SecretReview(review, step.place_of("unless")).look_at_shell(step.shell_text("unless"));
    }
    if (step.kind == StepKind::file || step.kind == StepKind::block)
      SecretReview(review, step.place_of("content")).look_at_lines(step.text("content"));
    if (step.kind == StepKind::service) SecretReview(review, step.place_of("unit")).look_at_lines(step.text("unit"));
  }
}

}  // namespace gpustrap

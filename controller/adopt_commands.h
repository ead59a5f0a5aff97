#pragma once

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "controller/adopt_state.h"

// What the files adopt_*.cc share that know commands.

namespace gpustrap {

[[nodiscard]] inline bool is_among(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

/// The words of one command with all that the script has said filled in.
struct Words {
  std::vector<std::string> all;
  std::string program;
  bool sudo = false;
  std::string user;
  std::vector<std::string> of_kernel;  ///< packages of the running kernel: "linux-headers-$(uname -r)"

  /// Splits into options and the rest. `valued`: options with a value behind them. False for an option that is not known.
  bool read(std::initializer_list<std::string_view> flags, std::initializer_list<std::string_view> valued, std::size_t from);
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

/// Takes one segment as typed steps, where it knows its commands.
class Adopter {
 public:
  Adopter(const AdoptSegment& segment, AdoptState& state) : segment_(segment), state_(state) {}
  bool run();

 private:
  bool is_yes(const ShellCommand& command) const;
  std::optional<Words> words_of(const ShellCommand& command) const;
  AdoptedStep& add(std::string kind, Json fields);
  /// For kinds that run as the login user, or by where their path is.
  static void run_as(AdoptedStep& step, const Words& words);
  [[nodiscard]] bool only_looks() const;
  static bool only_shortens(const ShellCommand& command);
  bool adopt_one(const ShellCommand& command);
  bool absorb(std::string_view why);
  bool adopt_assignments(const ShellCommand& command);
  void remember(const std::string& name, std::optional<std::string> value, const std::string& text, bool exported);
  /// export, readonly, declare, typeset, local: assignments, each with its options.
  bool adopt_declaration(const ShellCommand& command);
  [[nodiscard]] std::string raw(const ShellWord& word) const;
  static bool is_env_name(const std::string& name);
  bool change_folder(const Words& words);
  /// `chmod +x FILE` of what a step above fetches.
  bool make_mode(const std::string& mode, const std::string& file);
  bool adopt_apt(Words& words);
  bool adopt_dpkg(Words& words);
  /// Root's steps have a home of their own: what the script fetches into the user's goes to a place that both mean.
  std::optional<std::string> path_for_root(const std::string& path);
  bool add_debs(const std::vector<std::string>& paths);
  bool adopt_fetch(Words& words);
  /// An archive that lies at `path`: by its URL where a step above fetches it for nothing else.
  bool unpack(const std::string& file, const std::string& folder, std::int64_t strip, const Words& words);
  bool adopt_unzip(Words& words);
  bool adopt_tar(Words& words);
  bool adopt_git(Words& words);
  bool adopt_installer(Words& words);
  /// cuda_10.1.243_418.87.00_linux.run: the toolkit from the file, and a driver that serves the GPU instead of the file's own.
  bool adopt_runfile(const std::string& file, const std::string& path);
  bool adopt_source(Words& words);
  bool activate(const std::string& env);
  [[nodiscard]] Json with_conda(Json fields) const;
  bool adopt_conda(Words& words);
  bool make_venv(const std::string& folder, const Words& words);
  bool adopt_python(Words& words);
  bool adopt_systemctl(Words& words);
  bool adopt_link(Words& words);
  bool adopt_mkdir(Words& words);
  /// Files that a step above has fetched for a moment. Anything else stays a command.
  bool adopt_rm(Words& words);
  /// What was fetched goes to where it is wanted at once.
  bool adopt_mv(Words& words);
  bool adopt_jupyter(Words& words);
  // What is written into files: echo, printf, cat and tee.
  struct Written {
    std::string path, text;
    bool append = false, sudo = false;
  };
  /// `echo TEXT`, with what a login's own variables are left to the login.
  std::optional<std::string> echoed(const ShellCommand& command) const;
  bool write(const Written& written);
  /// Lines that are all `export NAME=VALUE`, as an environment step has them.
  static std::optional<Json> variables_in(const std::string& text);
  bool adopt_write(const ShellCommand& command);
  /// `echo TEXT | sudo tee -a FILE`.
  bool adopt_echo_into_tee();
  const AdoptSegment& segment_;
  AdoptState& state_;
};

}  // namespace gpustrap

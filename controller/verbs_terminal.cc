// Completions and the manual page: what a terminal is told of the command line.
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <string>

#include "agent/base/file.h"
#include "agent/protocol/json.h"
#include "controller/completion.h"
#include "controller/console.h"
#include "controller/man_page.h"
#include "controller/settings_text.h"
#include "controller/user_config.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

VerbResult print(std::string_view text) {
  if (Result<void> written = write_all(STDOUT_FILENO, text); !written) return fail(std::move(written).error());
  return ExitCode::ok;
}

}  // namespace

VerbResult verb_completion(const Options& options) {
  return print(options.shell == "bash" ? bash_completion() : options.shell == "zsh" ? zsh_completion() : fish_completion());
}

VerbResult verb_complete(const Options& options) { return print(completion_lines(complete(options.command, completion_world()))); }

VerbResult verb_config(const Options& options) {
  const Result<std::vector<SettingValue>> said = user_settings();
  if (!said) return fail(said.error());
  const Result<UserConfig> config = load_user_config();
  if (!config) return fail(config.error());
  const std::vector<EffectiveSetting> all = effective_settings(*said, std::getenv("NO_COLOR"));
  if (options.json) return print(settings_document(all, config->path).dump(2) + "\n");
  const std::string file = config->path.empty() || path_exists(config->path) ? config->path : config->path + " is not there";
  return print(settings_text(all, file, options.origin));
}

VerbResult verb_man(const Options&) {
  if (!person_is_here()) return print(man_page());
  // man(1) pages it and knows the terminal; `-l -` reads its standard input.
  std::FILE* man = ::popen("man -l - 2>/dev/null", "w");
  if (man == nullptr) return print(man_page());
  const std::string page = man_page();
  std::fwrite(page.data(), 1, page.size(), man);
  return ::pclose(man) == 0 ? VerbResult(ExitCode::ok) : print(page);
}

}  // namespace gpustrap

#include "controller/adopt_commands.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/lint_words.h"

namespace gpustrap {

namespace {

/// `-fSsLO` as `-f -S -s -L -O`: of curl's, those that change nothing about what is trusted.
std::vector<std::string> unbundled(const std::vector<std::string>& words) {
  std::vector<std::string> single;
  for (const std::string& word : words) {
    const bool is_bundle = word.size() > 2 && word[0] == '-' && word.find_first_not_of("fsSLOo", 1) == std::string::npos;
    for (std::size_t i = 1; is_bundle && i < word.size(); ++i) single.push_back({'-', word[i]});
    if (!is_bundle) single.push_back(word);
  }
  return single;
}

}  // namespace

bool Adopter::adopt_fetch(Words& words) {
  const bool is_wget = words.program == "wget";
  if (!is_wget) words.all = unbundled(words.all);
  const bool known = is_wget
                         ? words.read({"-q", "-c", "-nv", "-nc", "-N", "--quiet", "--continue", "--no-verbose", "--show-progress", "-qc"},
                                      {"-O", "--output-document", "-P", "--directory-prefix", "-qO", "--tries", "-t", "--timeout"}, 1)
                         : words.read({"-O", "-L", "-s", "-S", "-f", "-#", "--location", "--silent", "--fail", "--show-error",
                                       "--remote-name", "--progress-bar"},
                                      {"-o", "--output", "--retry", "-C"}, 1);
  if (!known || words.rest.size() != 1) return false;
  std::string url = words.rest[0];
  if (is_wget && url.find("://") == std::string::npos && url.find('.') != std::string::npos && url.find('/') != std::string::npos)
    url = "http://" + url;
  if (!url.starts_with("https://") && !url.starts_with("http://")) return false;
  if (url.find_first_of("*\"<>\\^`{|} ") != std::string::npos) return false;
  std::string to = words.value({"-O", "-qO", "--output-document", "-o", "--output"});
  const bool keeps_name = is_wget || words.has({"-O", "--remote-name"});
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

bool Adopter::unpack(const std::string& file, const std::string& folder, std::int64_t strip, const Words& words) {
  const auto path = state_.path_of(file);
  const auto to = state_.path_of(folder);
  if (!path || !to) return false;
  Json fields = Json::object();
  const auto fetched = state_.downloads.find(*path);
  if (fetched != state_.downloads.end() && !state_.steps[fetched->second.step].dropped) {
    state_.drop(state_.steps[fetched->second.step], "`archive` fetches it");
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

bool Adopter::adopt_unzip(Words& words) {
  if (!words.read({"-q", "-qq", "-o", "-n", "-u", "-qo", "-oq"}, {"-d"}, 1) || words.rest.size() != 1) return false;
  const std::string folder = words.value({"-d"});
  std::string file = words.rest[0];
  if (!file.ends_with(".zip")) file += ".zip";
  return unpack(file, folder.empty() ? "." : folder, 0, words);
}

bool Adopter::adopt_tar(Words& words) {
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

bool Adopter::adopt_git(Words& words) {
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
  if (!depth.empty() && depth.size() < 6 && depth.find_first_not_of("0123456789") == std::string::npos) fields["depth"] = std::stoi(depth);
  if (words.has({"--recursive", "--recurse-submodules"})) fields["submodules"] = true;
  run_as(add("git", std::move(fields)), words);
  return true;
}

bool Adopter::adopt_link(Words& words) {
  if (!words.read({"-s", "-sf", "-fs", "-sfn", "-snf", "-f", "-n", "-sfv", "--symbolic", "--force"}, {}, 1) || words.rest.size() != 2)
    return false;
  if (!words.has({"-s", "-sf", "-fs", "-sfn", "-snf", "-sfv", "--symbolic"})) return false;
  const auto target = state_.path_of(words.rest[0]);
  std::string where = words.rest[1];
  if (where == "." || where.ends_with('/')) where += "/" + name_of_path(words.rest[0]);
  const auto path = state_.path_of(where);
  if (!target || !path) return false;
  // `rm LINK; ln -s … LINK`: the step leads a link anew by itself.
  if (!state_.steps.empty() && state_.steps.back().kind == "command" && state_.steps.back().removes == *path)
    state_.drop(state_.steps.back(), "`symlink` leads a link anew by itself");
  AdoptedStep& step = add("symlink", {{"path", *path}, {"target", *target}});
  run_as(step, words);
  return true;
}

bool Adopter::adopt_mkdir(Words& words) {
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

bool Adopter::adopt_rm(Words& words) {
  if (!words.read({"-f", "-r", "-rf", "-fr", "-v"}, {}, 1) || words.rest.empty()) return false;
  if (std::all_of(words.rest.begin(), words.rest.end(), [](const std::string& path) {
        return path.starts_with("/var/lib/apt/lists") || path.starts_with("/var/cache/apt/") || path == "/tmp/*" || path == "/var/tmp/*";
      }))
    return absorb("only frees room, and what is in /tmp may be somebody's");
  for (const std::string& file : words.rest) {
    const auto path = state_.path_of(file);
    if (!path) return false;
    const bool was_fetched = state_.downloads.contains(*path);
    if (!was_fetched) return false;
  }
  return absorb("a rerun would fetch it again; what is unpacked while it comes leaves no file");
}

bool Adopter::make_mode(const std::string& mode, const std::string& file) {
  const auto path = state_.path_of(file);
  const auto fetched = path ? state_.downloads.find(*path) : state_.downloads.end();
  if (fetched == state_.downloads.end() || state_.steps[fetched->second.step].dropped) return false;
  const bool is_octal = (mode.size() == 3 || mode.size() == 4) && mode.find_first_not_of("01234567") == std::string::npos;
  if (!is_octal && !is_among(mode, {"+x", "a+x", "u+x", "ugo+x"})) return false;
  AdoptedStep& download = state_.steps[fetched->second.step];
  download.fields["mode"] = !is_octal ? "0755" : mode.size() == 3 ? "0" + mode : mode;
  download.comments.push_back(segment_.text);
  return true;
}

bool Adopter::adopt_mv(Words& words) {
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

std::optional<std::string> Adopter::echoed(const ShellCommand& command) const {
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

bool Adopter::write(const Written& written) {
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

std::optional<Json> Adopter::variables_in(const std::string& text) {
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

bool Adopter::adopt_write(const ShellCommand& command) {
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

bool Adopter::adopt_echo_into_tee() {
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

}  // namespace gpustrap

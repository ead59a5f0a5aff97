#include "agent/steps/conda_command.h"

#include <chrono>
#include <string_view>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/mirrors.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr int kAttempts = 3;
/// A whole environment of 500 packages has 600 kB.
constexpr std::size_t kMostJson = std::size_t{8} << 20U;

std::string text_of(const Json& document, const char* name) {
  const auto found = document.find(name);
  return found != document.end() && found->is_string() ? strip_control(found->get<std::string>()) : std::string();
}

std::string list_of(const Json& document, const char* name) {
  std::vector<std::string> texts;
  const auto found = document.find(name);
  if (found == document.end() || !found->is_array()) return {};
  for (const Json& item : *found) {
    if (item.is_string()) texts.push_back(strip_control(item.get<std::string>()));
  }
  return join(texts, ", ");
}

bool has(std::string_view text, std::string_view part) { return text.find(part) != std::string_view::npos; }

/// The URLs that a message names, without the rest of their lines.
std::string urls_in(const std::string& message) {
  std::vector<std::string> urls;
  for (const std::string& line : split(message, '\n')) {
    const std::string_view text = trim(line);
    if (text.starts_with("- http") && urls.size() < 4) urls.emplace_back(trim(text.substr(1)));
  }
  return join(urls, ", ");
}

/// What a solver says of a conflict takes many lines; these say most.
std::string conflict_in(const std::string& message) {
  std::vector<std::string> lines;
  for (const std::string& line : split(message, '\n')) {
    const std::string_view text = trim(line);
    if (text.empty() || text.starts_with("Encountered problems") || text.starts_with("LibMamba")) continue;
    lines.emplace_back(text);
    if (lines.size() == 3) break;
  }
  return join(lines, " ");
}

/// "{"fetch":"numpy 1.26 | 7 MB","finished":false,"maxval":1,"progress":0.25}", with a zero byte behind the line before.
bool shows_progress(std::string_view line, StepLog& log) {
  while (!line.empty() && line.front() == '\0') line.remove_prefix(1);
  if (line.empty()) return true;
  if (!line.starts_with("{\"fetch\"")) return false;
  const Json document = Json::parse(line, nullptr, false);
  if (!document.is_object()) return false;
  const auto part = document.find("progress");
  std::string what = text_of(document, "fetch");
  what = trim(std::string_view(what).substr(0, what.find('|')));
  if (part != document.end() && part->is_number()) log.share("fetching " + what, part->get<double>());
  return true;
}

/// `conda env` ends without a newline, and a last line without one is never offered to takes_line.
Json parse_answer(const std::string& json) {
  Json document = Json::parse(json, nullptr, false);
  return document.is_object() ? document : Json::parse(json + "}", nullptr, false);
}

void say_changes(const Json& document, StepLog& log) {
  const Json actions = document.value("actions", Json::object());
  if (!actions.is_object()) return;
  for (const auto& [key, verb] : {std::pair{"UNLINK", "removed"}, std::pair{"LINK", "installed"}}) {
    const auto found = actions.find(key);
    if (found == actions.end() || !found->is_array()) continue;
    for (const Json& package : *found) {
      if (package.is_object()) log.say(fmt::format("{} {} {}", verb, text_of(package, "name"), text_of(package, "version")));
    }
  }
}

}  // namespace

Error conda_error(const std::string& json, const std::string& said) {
  const Json document = parse_answer(json);
  const std::string everything = json + said;
  if (has(everything, "No space left on device") || has(everything, "NoSpaceLeftError") || has(everything, "Disk quota exceeded"))
    return {ErrorCode::no_space, "the disk is full",
            "make room (df -h; `conda clean --all` empties conda's own cache), then run the same command again"};
  if (!document.is_object()) {
    const std::string last = first_line(strip_control(last_lines(trim(said.empty() ? json : said), 1)));
    return {ErrorCode::command, last.empty() ? "conda failed without a word" : "conda failed: " + last,
            "the step's output has all that it said"};
  }
  // Of several downloads that failed, one tells.
  if (const auto errors = document.find("errors"); errors != document.end() && errors->is_array() && !errors->empty())
    return conda_error(errors->front().dump(-1, ' ', false, Json::error_handler_t::replace), said);
  const std::string name = text_of(document, "exception_name");
  std::string message = text_of(document, "message");
  if (message.empty()) message = text_of(document, "error");
  const std::string line = first_line(trim(message), 300);
  if (has(name, "ToS")) {
    const std::string channels = urls_in(message);
    return {ErrorCode::recipe, fmt::format("the Terms of Service of {} are not accepted", channels.empty() ? "a channel" : channels),
            "read them (https://www.anaconda.com/legal), then say `accept_tos: true` on the `conda` step; or ask for nothing there: "
            "`channels: [conda-forge]` on this step"};
  }
  if (name == "NoChannelsConfiguredError")
    return {ErrorCode::recipe, "this conda has no channel to take packages from", "name one: `channels: [conda-forge]`"};
  if (name == "PackagesNotFoundError" || name == "PackagesNotFoundInChannelsError" || name == "ResolvePackageNotFound") {
    const std::string packages = list_of(document, "packages");
    const std::string channels = list_of(document, "channel_urls");
    return {ErrorCode::not_found,
            packages.empty() ? line : fmt::format("{} is in no channel asked{}", packages, channels.empty() ? "" : " (" + channels + ")"),
            "check name and version, or add the channel that has it, such as `channels: [conda-forge]`"};
  }
  if (has(name, "Unsatisfiable") || has(name, "SpecsConfigurationConflict")) {
    return {ErrorCode::recipe, "the packages exclude each other: " + conflict_in(message),
            "loosen a version, or give what conflicts an environment of its own"};
  }
  if (name == "UnavailableInvalidChannel") {
    return {ErrorCode::not_found, fmt::format("{} is no channel: it has no repodata.json", text_of(document, "channel_url")),
            "check the channel's name or URL"};
  }
  if (has(name, "HTTPError") || has(name, "ConnectionError") || has(name, "ProxyError") || has(name, "SSLError")) {
    const std::string url = text_of(document, "url");
    return {has(name, "SSL") ? ErrorCode::tls : ErrorCode::network, line,
            url.empty()
                ? "run the same command again; what has been fetched is kept"
                : fmt::format("look whether the host reaches {}; then run the same command again: what has been fetched is kept", url)};
  }
  if (has(name, "ChecksumMismatch"))
    return {ErrorCode::digest, line, "the channel or a proxy on the way changed the file; run the same command again"};
  if (has(name, "NotWritable") || has(name, "NoWritable") || name == "PermissionError")
    return {ErrorCode::permission, line, "is this conda of the user that the step runs as? (`as:`)"};
  if (has(name, "LockError") || has(name, "LockFile"))
    return {ErrorCode::busy, line, "another conda is at work; run the same command again"};
  return {ErrorCode::command, line.empty() ? "conda failed" : "conda failed: " + line, "the step's output has all that it said"};
}

Result<void> run_conda(Host& host, StepLog& log, const std::string& prefix, const std::vector<std::string>& arguments) {
  Command command;
  command.argv = {prefix + "/bin/conda"};
  command.argv.insert(command.argv.end(), arguments.begin(), arguments.end());
  command.env = {{"CONDA_NOTIFY_OUTDATED_CONDA", "false"}, {"PYTHONUNBUFFERED", "1"}};
  const std::string mirror = host.mirror().place("conda");
  for (int attempt = 1;; ++attempt) {
    std::string json;
    command.takes_line = [&](std::string_view line) {
      if (shows_progress(line, log)) return true;
      while (!line.empty() && line.front() == '\0') line.remove_prefix(1);
      // What comes before is the output of others: of pip, for an environment.yml that has packages for it.
      if (json.empty() && line != "{") return false;
      if (json.size() < kMostJson) json.append(line).append("\n");
      return true;
    };
    if (attempt == 1 && !mirror.empty()) say_mirror(host, log, "channels", mirror);
    log.say("conda solves and fetches; it may be silent for some minutes");
    const Result<CommandResult> result = host.act(command, log);
    if (!result) return fail(result.error());
    const Json document = parse_answer(json);
    if (result->exit_code == 0) {
      if (document.is_object()) say_changes(document, log);
      return {};
    }
    if (result->exit_code == 127) return fail(command_error(command, *result));
    // Old ones print a traceback into their JSON: it belongs to the record.
    if (!document.is_object() && !json.empty()) log.say(last_lines(strip_control(json), 20));
    const Error why = conda_error(json, result->err.empty() ? result->out : result->err);
    const bool is_fetching = why.code() == ErrorCode::network || why.code() == ErrorCode::not_found;
    if (why.code() != ErrorCode::network || attempt == kAttempts) return fail(is_fetching ? by_way_of(host, why, mirror) : why);
    log.say(fmt::format("trying again: {}", why.why()));
    host.pause(std::chrono::seconds(5 * attempt));
  }
}

}  // namespace gpustrap

#include "controller/report_files.h"

#include <dirent.h>
#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <map>
#include <memory>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/run_log.h"

namespace gpustrap {
namespace {

/// The runs of one command on many hosts have their ids' beginning in common.
constexpr std::size_t kCommandIdLength = std::string_view("20260801-141503-7f3a").size();

}  // namespace

/// Oldest first: ids begin with the time.
std::vector<std::string> logged_runs(const std::string& state) {
  const std::string folder = state + "/runs";
  std::vector<std::string> runs;
  const std::unique_ptr<DIR, int (*)(DIR*)> handle(::opendir(folder.c_str()), ::closedir);
  if (!handle) return runs;
  while (const dirent* entry = ::readdir(handle.get())) {
    if (is_run_id(entry->d_name) && path_exists(folder + "/" + entry->d_name + "/events.jsonl")) runs.emplace_back(entry->d_name);
  }
  std::sort(runs.begin(), runs.end());
  return runs;
}

std::string run_log_path(const std::string& state, const std::string& run) { return state + "/runs/" + run + "/events.jsonl"; }

bool is_called(const std::string& host, const std::string& word) {
  return !host.empty() && (host == word || host.substr(host.rfind('@') + 1) == word);
}

Result<std::vector<RunFile>> find_run_logs(const std::string& state, const std::string& word) {
  if (word.find('/') != std::string::npos || word.ends_with(".jsonl")) return std::vector<RunFile>{{word, ""}};
  const std::vector<std::string> runs = logged_runs(state);
  const auto file_of = [&](const std::string& run) { return RunFile{run_log_path(state, run), host_of_run(state, run)}; };
  if (runs.empty())
    return fail(ErrorCode::not_found, "no run is logged on this machine yet", "`gpustrap up` and `gpustrap attach` log theirs");
  std::vector<RunFile> files;
  const std::string begin = word.empty() ? runs.back().substr(0, kCommandIdLength) : word;
  for (const std::string& run : runs) {
    if (run == begin || run.starts_with(begin + "-")) files.push_back(file_of(run));
  }
  if (!files.empty()) return files;
  for (auto run = runs.rbegin(); run != runs.rend(); ++run) {
    const RunFile file = file_of(*run);
    if (is_called(file.host, word)) return std::vector<RunFile>{file};
  }
  const RunFile newest = file_of(runs.back());
  return fail(ErrorCode::not_found, fmt::format("no run of `{}` is logged on this machine, and none is called so", word),
              fmt::format("`gpustrap attach {}` brings its last run here; the newest that is here is {}{}", shell_quote(word), runs.back(),
                          newest.host.empty() ? "" : " of " + strip_control(newest.host)));
}

Result<std::vector<RunReport>> read_run_log(const RunFile& file) {
  const UniqueFd fd(::open(file.path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!fd.valid()) return fail(errno_error(errno, "reading " + file.path));
  std::map<std::string, RunReportBuilder> by_host;
  LineReader lines;
  std::size_t number = 0;
  const auto take_lines = [&]() -> Result<void> {
    while (true) {
      Result<std::optional<std::string>> line = lines.next();
      ++number;
      if (!line) return fail(std::move(line).error());
      if (!*line) {
        --number;
        return {};
      }
      if (trim(**line).empty()) continue;
      Result<Json> document = parse_line(**line);
      if (!document) return fail(std::move(document).error());
      const auto host = document->find("host");
      const std::string whose = host != document->end() && host->is_string() ? host->get<std::string>() : file.host;
      if (Result<void> added = by_host[whose].add_document(*document); !added) return added;
    }
  };
  std::array<char, 1U << 16U> piece{};
  while (true) {
    const ssize_t got = ::read(fd.get(), piece.data(), piece.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading " + file.path));
    if (got == 0) break;
    lines.add({piece.data(), static_cast<std::size_t>(got)});
    if (Result<void> taken = take_lines(); !taken)
      return fail(std::move(taken).error().in(fmt::format("reading {}, line {}", file.path, number)));
  }
  std::vector<RunReport> reports;
  for (const auto& [host, builder] : by_host) {
    if (builder.has_run()) reports.push_back(builder.finish(host));
  }
  if (reports.empty())
    return fail(ErrorCode::not_found, fmt::format("no run begins in {}", file.path),
                "it is to be a log of events, or what `gpustrap up --json` printed");
  return reports;
}

}  // namespace gpustrap

#include "agent/host.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {

const Mirror& Host::mirror() const {
  static const Mirror none;
  return none;
}

Result<FetchedArchive> Host::fetch_and_unpack(const FetchRequest& request, const UnpackRequest& unpack, StepLog& log) {
  Result<FetchResult> fetched = fetch(request, log);
  if (!fetched) return fail(std::move(fetched).error());
  // An archive never unpacks to much less than itself, so this much is needed at least; unpacking sees to the rest.
  if (const Result<std::uint64_t> room = disk_free(unpack.to); room && *room < fetched->size) {
    return fail(ErrorCode::no_space,
                fmt::format("No space left: {} free in {}, the packed archive alone has {}", human_bytes(*room), unpack.to,
                            human_bytes(fetched->size)),
                "free some space there, or enlarge the disk, and run again");
  }
  Result<std::vector<UnpackedEntry>> entries = this->unpack(unpack, log);
  if (!entries) return fail(std::move(entries).error());
  return FetchedArchive{*std::move(fetched), *std::move(entries)};
}

std::optional<FetchResult> Host::take_fetched(const FetchRequest&, StepLog&) { return std::nullopt; }

std::size_t Host::fetch_many(const std::vector<FetchRequest>& requests, StepLog& log) {
  std::size_t came = 0;
  for (const FetchRequest& request : requests) {
    const Result<FetchResult> fetched = fetch(request, log);
    if (!fetched) {
      log.say(fetched.error().sentence());
      break;
    }
    ++came;
  }
  return came;
}

std::string Host::expand(std::string_view path) const {
  if (path == "~") return self().home;
  if (path.starts_with("~/")) return self().home + std::string(path.substr(1));
  return std::string(path);
}

/// Of a program that met SIGKILL, and of a shell whose last program did.
constexpr int kKilled = 137;

Error command_error(const Command& command, const CommandResult& result) {
  const std::string name = first_line(join(command.argv, " "), 80);
  std::string evidence = first_line(last_lines(strip_control(result.err), 1));
  if (evidence.empty()) evidence = first_line(last_lines(strip_control(result.out), 1));
  if (result.exit_code == 127) {
    return {ErrorCode::not_found, fmt::format("`{}` is not on this host", command.argv.empty() ? name : command.argv.front()),
            "install it, or correct its name"};
  }
  if (result.exit_code == kKilled) {
    return {ErrorCode::command, fmt::format("`{}` was killed (exit {}){}{}", name, kKilled, evidence.empty() ? "" : ": ", evidence),
            "if memory ran out (dmesg | grep -i oom), use a larger instance or add swap; then run the same command again"};
  }
  return {ErrorCode::command, fmt::format("`{}` failed (exit {}){}{}", name, result.exit_code, evidence.empty() ? "" : ": ", evidence)};
}

}  // namespace gpustrap

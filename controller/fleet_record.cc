#include "controller/fleet_record.h"

#include <utility>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/protocol/json.h"

namespace gpustrap {

Result<FleetRecord> FleetRecord::load(const std::string& state, const std::string& recipe, const std::string& hosts) {
  FleetRecord record;
  record.path_ = state + "/fleets/" + sha256_hex(recipe + "\n" + hosts).substr(0, 16) + ".json";
  record.recipe_ = recipe;
  record.hosts_ = hosts;
  const Result<std::string> text = read_file(record.path_);
  if (!text && text.error().code() == ErrorCode::not_found) return record;
  if (!text) return fail(Error(text.error()).in("reading how the last run ended"));
  const Json document = Json::parse(*text, nullptr, false);
  const auto ends = document.is_object() ? document.find("ends") : document.end();
  if (!document.is_object() || ends == document.end() || !ends->is_object())
    return fail(ErrorCode::io, record.path_ + " does not say how the last run ended", "remove it, and run on all hosts once more");
  for (const auto& [host, exit] : ends->items()) {
    if (exit.is_number_integer()) record.ends_[host] = exit.get<int>();
  }
  return record;
}

bool FleetRecord::has_failed(const std::string& host) const {
  const auto end = ends_.find(host);
  return end != ends_.end() && end->second != static_cast<int>(ExitCode::ok);
}

Result<void> FleetRecord::save() const {
  if (Result<void> made = make_directories(parent_of(path_), 0700); !made) return made;
  Json ends = Json::object();
  for (const auto& [host, exit] : ends_) ends[host] = exit;
  return write_file_atomically(path_, Json{{"recipe", recipe_}, {"hosts", hosts_}, {"ends", std::move(ends)}}.dump(2) + "\n", 0600);
}

}  // namespace gpustrap

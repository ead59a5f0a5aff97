#include "controller/copy_plan.h"

#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

constexpr std::string_view kPart = ".gpustrap-part-", kStage = ".gpustrap-push-";
constexpr std::size_t kLongestPath = 4095, kLongestPart = 255, kLargestMemory = std::size_t{256} << 20U;

std::string_view name_of(CopyEntry::Type type) {
  switch (type) {
    case CopyEntry::Type::file: return "a file";
    case CopyEntry::Type::folder: return "a folder";
    case CopyEntry::Type::link: return "a symlink";
    case CopyEntry::Type::other: break;
  }
  return "neither file nor folder";
}

bool matches(const CopyEntry& entry, const CopyMark& mark) { return entry.size == mark.size && entry.mtime == mark.mtime; }

/// Two that differ: which of them counts.
CopyDecision decide_between(const CopyEntry& source, const CopyEntry& target, const CopyMark* mark, const CopyRules& rules) {
  using Act = CopyDecision::Act;
  if (rules.overwrite) return {Act::copy};
  if (mark != nullptr && !matches(target, *mark)) return {Act::keep, matches(source, *mark) ? "changed there" : "changed on both sides"};
  if (target.mtime > source.mtime) return {Act::keep, "newer there"};
  if (target.mtime == source.mtime) return {Act::keep, "as old there, and another one"};
  return {Act::copy};
}

}  // namespace

CopyDecision decide(const CopyEntry& source, const CopyEntry* target, const CopyMark* mark, const CopyRules& rules, Content content) {
  using Act = CopyDecision::Act;
  using Type = CopyEntry::Type;
  if (source.type == Type::other) return {Act::skip, std::string(name_of(source.type))};
  if (target == nullptr) return {Act::copy};
  if (source.type != target->type) {
    // A folder is never given up for a file, nor a file for a folder: what is in it would be lost, or come to stand elsewhere.
    const bool may_replace = rules.overwrite && source.type != Type::folder && target->type != Type::folder && target->type != Type::other;
    return may_replace ? CopyDecision{Act::copy} : CopyDecision{Act::keep, fmt::format("{} is in its place", name_of(target->type))};
  }
  if (source.type == Type::folder) return {Act::same};
  if (source.type == Type::link)
    return source.target == target->target ? CopyDecision{Act::same} : decide_between(source, *target, mark, rules);
  if (source.size != target->size || content == Content::different) return decide_between(source, *target, mark, rules);
  if (content == Content::equal || (source.mtime == target->mtime && !rules.checksum)) return {Act::same};
  return {Act::compare};
}

bool is_path_below(std::string_view path) {
  if (path.empty() || path.size() > kLongestPath || path.find('\0') != std::string_view::npos) return false;
  for (const std::string& part : split(path, '/')) {
    if (part.empty() || part == "." || part == ".." || part.size() > kLongestPart) return false;
  }
  return true;
}

std::string shown_path(std::string_view path) {
  std::string shown = strip_control(to_utf8(path));
  std::replace_if(
      shown.begin(), shown.end(), [](char c) { return c == '\n' || c == '\t'; }, ' ');
  return shown;
}

std::string part_name(std::string_view path, const CopyEntry& entry) {
  const std::size_t slash = path.rfind('/');
  const std::string folder(slash == std::string_view::npos ? "" : path.substr(0, slash + 1));
  const std::string name(slash == std::string_view::npos ? path : path.substr(slash + 1));
  return folder + std::string(kPart) + sha256_hex(fmt::format("{}\n{}\n{}", entry.size, entry.mtime, name)).substr(0, 16);
}

bool is_part(std::string_view path) {
  for (const std::string& part : split(path, '/')) {
    if (part.starts_with(kPart) || part.starts_with(kStage)) return true;
  }
  return false;
}

Result<CopyMemory> CopyMemory::load(const std::string& state, const std::string& host, const std::string& there, const std::string& here) {
  CopyMemory memory;
  const std::string key = fmt::format("{}\n{}\n{}", host, there, here);
  memory.path_ = fmt::format("{}/copies/{}.json", state, sha256_hex(key).substr(0, 32));
  if (!path_exists(memory.path_)) return memory;
  const Result<std::string> text = read_file(memory.path_, kLargestMemory);
  if (!text) return fail(Error(text.error()).in("reading what was copied before"));
  const Json document = Json::parse(*text, nullptr, false);
  const auto files = document.is_object() ? document.find("files") : document.end();
  if (files == document.end() || !files->is_array())
    return fail(ErrorCode::io, memory.path_ + " is damaged", "remove that file: what differs on both sides then goes by its times alone");
  for (const Json& mark : *files) {
    if (mark.is_array() && mark.size() == 3 && mark[0].is_string() && mark[1].is_number_unsigned() && mark[2].is_number_integer())
      memory.marks_[mark[0].get<std::string>()] = {mark[1].get<std::uint64_t>(), mark[2].get<std::int64_t>()};
  }
  if (const auto parts = document.find("parts"); parts != document.end() && parts->is_array()) {
    for (const Json& part : *parts) {
      if (part.is_string() && is_path_below(part.get<std::string>()) && is_part(part.get<std::string>()))
        memory.parts_.insert(part.get<std::string>());
    }
  }
  return memory;
}

const CopyMark* CopyMemory::find(const std::string& path) const {
  const auto found = marks_.find(path);
  return found == marks_.end() ? nullptr : &found->second;
}

Result<void> CopyMemory::save() const {
  Json files = Json::array();  // an object would look for its key each time
  for (const auto& [path, mark] : marks_) {
    if (is_utf8(path)) files.push_back({path, mark.size, mark.mtime});
  }
  Json document = {{"version", 1}, {"files", std::move(files)}};
  for (const std::string& part : parts_) {
    if (is_utf8(part)) document["parts"].push_back(part);
  }
  if (Result<void> made = make_directories(parent_of(path_), 0700); !made) return made;
  return write_file_atomically(path_, document.dump() + "\n", 0600);
}

}  // namespace gpustrap

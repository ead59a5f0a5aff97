#include "agent/protocol/members.h"

#include <algorithm>
#include <limits>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"

namespace gpustrap {

Members::Members(const Json& document, std::string what) : document_(document), what_(std::move(what)) {
  if (!document_.is_object()) error_ = Error(ErrorCode::protocol, what_ + " is not an object");
}

void Members::fail_with(Error error) {
  if (!error_) error_ = std::move(error);
}

void Members::wrong(const char* name, std::string_view expected) {
  fail_with(Error(ErrorCode::protocol, fmt::format("`{}` of {} is not {}", name, what_, expected)));
}

const Json* Members::find(const char* name, Wanted wanted) {
  if (error_) return nullptr;
  const auto found = document_.find(name);
  if (found != document_.end()) return &*found;
  if (wanted == Wanted::required) fail_with(Error(ErrorCode::protocol, fmt::format("{} without `{}`", what_, name)));
  return nullptr;
}

void Members::take(const char* name, Wanted wanted, std::string& value) {
  const Json* found = find(name, wanted);
  if (found == nullptr) return;
  if (!found->is_string()) return wrong(name, "a string");
  value = found->get<std::string>();
}

void Members::take(const char* name, Wanted wanted, bool& value) {
  const Json* found = find(name, wanted);
  if (found == nullptr) return;
  if (!found->is_boolean()) return wrong(name, "true or false");
  value = found->get<bool>();
}

void Members::take(const char* name, Wanted wanted, std::int64_t& value) {
  const Json* found = find(name, wanted);
  if (found == nullptr) return;
  constexpr auto kMost = static_cast<std::uint64_t>(std::numeric_limits<std::int64_t>::max());
  if (!found->is_number_integer() || (found->is_number_unsigned() && found->get<std::uint64_t>() > kMost))
    return wrong(name, "a whole number");
  value = found->get<std::int64_t>();
}

void Members::take(const char* name, Wanted wanted, std::uint64_t& value) {
  const Json* found = find(name, wanted);
  if (found == nullptr) return;
  // A document built in memory holds signed numbers where a parsed one holds unsigned ones.
  if (!found->is_number_integer() || (!found->is_number_unsigned() && found->get<std::int64_t>() < 0)) {
    return wrong(name, "a whole number, 0 or more");
  }
  value = found->get<std::uint64_t>();
}

void Members::take(const char* name, Wanted wanted, std::chrono::milliseconds& value) {
  std::int64_t count = value.count();
  take(name, wanted, count);
  value = std::chrono::milliseconds(count);
}

void Members::take(const char* name, Wanted wanted, std::vector<std::string>& value) {
  std::vector<std::string> items;
  each(name, wanted, [&](const Json& item) -> std::optional<Error> {
    if (!item.is_string()) return Error(ErrorCode::protocol, fmt::format("`{}` of {} is not a list of strings", name, what_));
    items.push_back(item.get<std::string>());
    return std::nullopt;
  });
  if (!error_) value = std::move(items);
}

std::optional<std::size_t> Members::index_of(const char* name, const std::vector<std::string>& names) {
  std::string text;
  must(name, text);
  if (error_) return std::nullopt;
  const auto found = std::find(names.begin(), names.end(), text);
  if (found != names.end()) return static_cast<std::size_t>(found - names.begin());
  wrong(name, "one of " + join(names, ", "));
  return std::nullopt;
}

void Members::each(const char* name, Wanted wanted, const std::function<std::optional<Error>(const Json&)>& read) {
  const Json* found = find(name, wanted);
  if (found == nullptr) return;
  if (!found->is_array()) return wrong(name, "a list");
  for (const Json& item : *found) {
    if (auto problem = read(item)) return fail_with(*std::move(problem));
  }
}

}  // namespace gpustrap

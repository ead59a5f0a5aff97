#include "agent/protocol/network.h"

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/members.h"

namespace gpustrap {
namespace {

std::string_view without_slash(std::string_view url) {
  while (url.ends_with('/')) url.remove_suffix(1);
  return url;
}

/// "apt https://…", "downloads https://… https://…": no address has a space in it.
std::optional<MirrorPlace> place_in(const std::string& text) {
  std::vector<std::string> parts = words(text);
  if (parts.size() < 2 || parts.size() > 3 || strip_control(text) != text || !parts.back().starts_with("http")) return std::nullopt;
  return MirrorPlace{parts.front(), parts.size() == 3 ? parts[1] : std::string(), parts.back()};
}

}  // namespace

std::string Mirror::place(std::string_view what) const {
  for (const MirrorPlace& one : places) {
    if (one.what == what && one.from.empty()) return one.to;
  }
  return {};
}

std::string Mirror::any(std::string_view what) const {
  for (const MirrorPlace& one : places) {
    if (one.what == what) return one.to;
  }
  return {};
}

std::optional<std::string> Mirror::by_prefix(std::string_view what, std::string_view url) const {
  for (const MirrorPlace& one : places) {
    const std::string_view beginning = without_slash(one.from);
    if (one.what != what || beginning.empty() || !url.starts_with(beginning)) continue;
    const std::string_view rest = url.substr(beginning.size());
    if (rest.empty() || rest[0] == '/' || rest[0] == '?') return std::string(without_slash(one.to)).append(rest);
  }
  return std::nullopt;
}

void Mirror::forget(std::string_view what) {
  std::erase_if(places, [&](const MirrorPlace& one) { return one.what == what; });
}

void read_network(Members& members, Network& network) {
  const Json* value = members.find("network", Members::Wanted::optional);
  if (value == nullptr) return;
  Members of_network(*value, "the network");
  std::vector<std::string> places;
  of_network.may("proxy", network.proxy);
  of_network.may("no_proxy", network.no_proxy);
  of_network.may("mirror", network.mirror.name);
  of_network.may("places", places);
  bool is_right = network.mirror.name.empty() || is_plain_id(network.mirror.name);  // it names a folder
  for (const std::string& text : places) {
    std::optional<MirrorPlace> place = place_in(text);
    is_right = is_right && place && !network.mirror.name.empty();
    if (place) network.mirror.places.push_back(*std::move(place));
  }
  if (!is_right) of_network.fail_with(Error(ErrorCode::protocol, "the network has a mirror that is none"));
  if (of_network.error()) members.fail_with(*of_network.error());
}

void write_network(const Network& network, Json& document) {
  if (network.empty()) return;
  Json value = Json::object();
  if (!network.proxy.empty()) value["proxy"] = network.proxy;
  if (!network.no_proxy.empty()) value["no_proxy"] = network.no_proxy;
  std::vector<std::string> places;
  for (const MirrorPlace& place : network.mirror.places)
    places.push_back(place.what + (place.from.empty() ? " " : " " + place.from + " ") + place.to);
  if (!places.empty()) {
    value["mirror"] = network.mirror.name;
    value["places"] = places;
  }
  document["network"] = std::move(value);
}

}  // namespace gpustrap

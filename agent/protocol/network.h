#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/protocol/json_fwd.h"

// How a run gets at what it takes from elsewhere: through which proxy, and from which mirror instead. No part of a recipe and of its
// digest: the same recipe by another way is the same recipe.

namespace gpustrap {

class Members;

/// Where a mirror has what others serve.
struct MirrorPlace {
  std::string what;  ///< apt, pypi, conda, conda_defaults or downloads
  std::string from;  ///< how addresses begin that are looked for there; empty: all of that sort
  std::string to;
};

/// For who is far from where things are. Places whose `from` is longer come first.
struct Mirror {
  std::string name;
  std::vector<MirrorPlace> places;
  /// The place for all addresses of that sort; empty where there is none.
  [[nodiscard]] std::string place(std::string_view what) const;
  /// Any place of that sort; empty where there is none.
  [[nodiscard]] std::string any(std::string_view what) const;
  /// The address by the first place that it begins like; nullopt where there is none.
  [[nodiscard]] std::optional<std::string> by_prefix(std::string_view what, std::string_view url) const;
  void forget(std::string_view what);
};

struct Network {
  std::string proxy;                  ///< "http://HOST:PORT"; empty: what the login's environment says
  std::vector<std::string> no_proxy;  ///< hosts and domains that are reached without it
  Mirror mirror;
  [[nodiscard]] bool empty() const { return proxy.empty() && mirror.places.empty(); }
};

/// The member `network` of a request, an event and a stored run, which may be missing:
/// {"proxy", "no_proxy": […], "mirror": NAME, "places": ["pypi URL", "downloads BEGINNING URL"]}.
void read_network(Members& members, Network& network);
void write_network(const Network& network, Json& document);

}  // namespace gpustrap

#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "agent/base/result.h"
#include "agent/protocol/json_fwd.h"
#include "agent/protocol/recipe.h"
#include "controller/status.h"

namespace gpustrap {

/// Where a recipe's notebook listens on the host's loopback.
struct NotebookPlace {
  std::string service;
  std::uint16_t port = 0;
  bool tls = false;  ///< open to the network, and so it speaks TLS
};
/// Of the recipe's first jupyter step; nullopt where it has none.
[[nodiscard]] std::optional<NotebookPlace> notebook_of(const Recipe& recipe);

/// What the agent says of a notebook, checked: a host is not trusted with what becomes a URL here.
struct NotebookToken {
  std::string token;
  NotebookPlace place;
};
[[nodiscard]] Result<NotebookToken> read_token(const Json& reply);

enum class Transport { plain, tls };
/// http://localhost:PORT/lab?token=TOKEN, or https
[[nodiscard]] Notebook notebook_at(std::uint16_t local_port, const std::string& token, Transport transport = Transport::plain);

/// Asks for /api/status on 127.0.0.1:port with the token until it answers 200 or `limit` is over. `pump` carries the tunnel's bytes
/// meanwhile, for at most the time given. With TLS the certificate is not looked at: the tunnel has led to the host that was meant.
[[nodiscard]] Result<void> prove_notebook(std::uint16_t port, const std::string& token, Transport transport,
                                          std::chrono::milliseconds limit,
                                          const std::function<Result<void>(std::chrono::milliseconds)>& pump);

}  // namespace gpustrap

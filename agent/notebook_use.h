#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/host.h"
#include "agent/idle_signs.h"
#include "agent/token.h"

namespace gpustrap {

/// What `work` returns, done in a process of that user's. Empty where it does not come to an end in 20 s: the user may stop that process,
/// and a folder may lie on a disk of the network that does not answer.
[[nodiscard]] std::string said_by(const Identity& user, const std::function<std::string()>& work);

/// What a notebook's server says of its kernels, as its REST API gives it: {"kernels": […], "sessions": […], "files": {path: when it was
/// changed}}. Asked on the loopback with the login's own rights and token, and only where the port is that user's: nobody else is to be
/// told the token. Empty where nothing answers.
[[nodiscard]] std::string ask_notebook(const Host& host, const NotebookService& notebook);

/// Whether whatever listens on that port, on any address, is that user's.
[[nodiscard]] bool is_port_of(const Host& host, std::uint16_t port, uid_t user);

/// How one server is asked.
struct NotebookDoor {
  std::string url;                  ///< to its paths: "http://127.0.0.1:8888/"
  std::string token;                ///< empty: without one
  std::string dir;                  ///< that it shows; empty: nothing is known of its files
  std::chrono::milliseconds limit;  ///< of each question; there are two
  std::uint16_t port = 0;           ///< to tell it from others by, in what is said of it; 0: it is the only one of its kind
};
/// What ask_notebook returns, with `port` beside it; by whoever has the user's rights already.
[[nodiscard]] std::string said_at(const NotebookDoor& door);

/// Kernels that compute are at work; one that has answered since the last look, and a notebook that was saved, were used. What is only
/// open, or holds memory of a GPU, is not: an open tab asks the server every few seconds, and so the server's own `last_activity` says
/// nothing. Its terminals are pseudo-terminals of the host like any others.
void add_notebook_use(std::string_view answer, IdleSample& sample);

}  // namespace gpustrap

#include "controller/notebook_tunnel.h"

#include <algorithm>
#include <chrono>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/protocol/json.h"
#include "controller/console.h"
#include "controller/return_pauses.h"

namespace gpustrap {
namespace {

using std::chrono::milliseconds;

/// The service has just passed its own check on the host; through the tunnel it answers within a moment, or something is wrong.
constexpr milliseconds kProofLimit{20'000};
constexpr std::uint16_t kFirstPort = 8889;
constexpr int kOpenAttempts = 3;

/// The port that was asked for, or else the remembered one while it is free, or else the next free one.
Result<std::unique_ptr<Tunnel>> open_tunnel(SshSession& session, const Options& options, std::uint16_t remote) {
  if (options.forward) return Tunnel::open(session, remote, options.forward->local);
  if (options.last_local_port != 0) {
    Result<std::unique_ptr<Tunnel>> same = Tunnel::open(session, remote, options.last_local_port);
    if (same || same.error().code() == ErrorCode::unreachable) return same;
  }
  return Tunnel::open(session, remote, std::nullopt, kFirstPort);
}

/// Tries until the host answers: it may be rebooting, or this machine asleep. False where Ctrl-C came first.
/// Error host_key where something else answers in the host's place.
Result<bool> reconnect(Conversation& talk, Tunnel& tunnel) {
  ReturnPauses pauses;
  for (Haste haste = Haste::none;;) {
    const milliseconds pause = pauses.next(haste);
    for (milliseconds waited{0}; waited < pause; waited += milliseconds(100)) {
      if (talk.interrupt()) return false;
      std::this_thread::sleep_for(milliseconds(100));
    }
    const Result<void> connected = talk.access().connect();
    if (!connected && connected.error().code() == ErrorCode::host_key) return fail(connected.error());
    if (!connected) {
      haste = connected.error().code() == ErrorCode::authentication ? Haste::refused : Haste::none;
      continue;
    }
    tunnel.go_on_over(talk.access().session());
    return true;
  }
}

/// An IPv6 address stands in brackets.
std::string url_host(const std::string& host) { return host.find(':') == std::string::npos ? host : "[" + host + "]"; }

Result<OpenNotebook> open_once(Conversation& talk, const Options& options, const std::optional<NotebookPlace>& place) {
  talk.status().activity({"opening the notebook", 0, 0});
  const auto reply = talk.client().ask(TokenRequest{place ? place->service : ""});
  if (!reply) return fail(Error(reply.error()).in("asking for the notebook's token"));
  const Result<NotebookToken> token = read_token(**reply);
  if (!token) return fail(token.error());
  std::uint16_t remote = place && place->port != 0 ? place->port : token->place.port;
  if (options.forward && options.forward->remote != 0) remote = options.forward->remote;
  // The agent may have been asked over a kept connection; a tunnel needs one of its own.
  if (Result<void> connected = talk.access().connect(); !connected) return fail(std::move(connected).error());
  Result<std::unique_ptr<Tunnel>> tunnel = open_tunnel(talk.access().session(), options, remote);
  if (!tunnel) return fail(std::move(tunnel).error());
  const std::uint16_t local = (*tunnel)->local_port();
  remember_local_port(options.host, local, talk.status());
  const Transport transport = token->place.tls ? Transport::tls : Transport::plain;
  const Result<void> proven = prove_notebook(local, token->token, transport, kProofLimit, [&](milliseconds wait) -> Result<void> {
    talk.status().tick();
    if (talk.interrupt()) return fail(ErrorCode::cancelled, "interrupted");
    return (*tunnel)->pump(wait);
  });
  if (!proven) return fail(proven.error());
  Notebook notebook = notebook_at(local, token->token, transport);
  // Without the token: the network's way in is the password.
  if (token->place.tls) notebook.network_url = fmt::format("https://{}:{}/lab", url_host(options.host), token->place.port);
  return OpenNotebook{std::move(notebook), *std::move(tunnel)};
}

}  // namespace

Result<OpenNotebook> open_notebook(Conversation& talk, const Options& options, const std::optional<NotebookPlace>& place) {
  for (int attempt = 1;; ++attempt) {
    Result<OpenNotebook> open = open_once(talk, options, place);
    // A link that breaks here says nothing about the notebook.
    const bool is_loss = !open && open.error().code() == ErrorCode::unreachable && talk.access().was_connected();
    if (!is_loss || attempt == kOpenAttempts) return open;
  }
}

VerbResult hold_tunnel(Conversation& talk, Tunnel& tunnel) {
  while (!talk.interrupt()) {
    const Result<void> carried = tunnel.pump(milliseconds(200));
    if (carried) continue;
    if (carried.error().code() != ErrorCode::unreachable) return fail(carried.error());
    talk.status().connection_lost(carried.error());
    if (Result<bool> back = reconnect(talk, tunnel); !back)
      return fail(std::move(back).error());
    else if (!*back)
      break;
    talk.status().connection_back();
  }
  return ExitCode::ok;
}

VerbResult end_with_notebook(Conversation& talk, const Options& options, const NotebookPlace& place, Ending ending) {
  Result<OpenNotebook> open = open_notebook(talk, options, place);
  if (!open) {
    ending.exit = open.error().code() == ErrorCode::cancelled ? ExitCode::detached : ExitCode::not_proven;
    ending.not_proven = open.error().sentence();
    talk.status().ending(ending);
    return ending.exit;
  }
  const bool hold = !options.no_tunnel && !options.json && person_is_here();
  ending.notebook = open->notebook;
  ending.notebook->held = hold;
  talk.status().ending(ending);
  if (!hold) return ending.exit;
  VerbResult held = hold_tunnel(talk, *open->tunnel);
  if (held) talk.status().notice(fmt::format("The tunnel is closed; open it again with: gpustrap tunnel {}", options.destination()));
  return held;
}

}  // namespace gpustrap

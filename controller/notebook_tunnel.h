#pragma once

#include "controller/conversation.h"
#include "controller/notebook.h"
#include "controller/tunnel.h"
#include "controller/verbs.h"

namespace gpustrap {

/// A notebook that has answered through its tunnel.
struct OpenNotebook {
  Notebook notebook;
  std::unique_ptr<Tunnel> tunnel;
};

/// Asks the agent for the token, opens the tunnel on the port that -L names, the remembered one, or the next free one from 8889, and
/// proves that the notebook answers. `place` is the recipe's; without one, the agent's word counts.
[[nodiscard]] Result<OpenNotebook> open_notebook(Conversation& talk, const Options& options, const std::optional<NotebookPlace>& place);

/// Carries bytes until Ctrl-C; a lost connection is taken up again on the same local port.
[[nodiscard]] VerbResult hold_tunnel(Conversation& talk, Tunnel& tunnel);

/// How `up` ends where the recipe has a notebook: proves it, prints the end, and holds the tunnel where a person is at the terminal.
[[nodiscard]] VerbResult end_with_notebook(Conversation& talk, const Options& options, const NotebookPlace& place, Ending ending);

}  // namespace gpustrap

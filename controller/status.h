#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/event.h"
#include "controller/exit_code.h"

namespace gpustrap {

/// What goes on before the first event or after the last: connecting, sending the agent, proving the notebook.
struct Activity {
  std::string text;
  std::uint64_t done = 0, total = 0;  ///< bytes; total 0 where there is nothing to count
};

/// A notebook that answered through the tunnel.
struct Notebook {
  std::string url;  ///< with its token: for terminals and `gpustrap url`
  std::string url_without_token;
  bool held = false;             ///< the tunnel stays open until Ctrl-C
  std::string network_url = {};  ///< where the network finds it; empty where it listens on the loopback alone
};

/// How a command that followed a run ended.
struct Ending {
  ExitCode exit = ExitCode::ok;
  std::optional<RunFinished> finished;  ///< none where the run goes on, or was not seen to its end
  std::optional<Notebook> notebook;
  std::string not_proven;         ///< why the notebook could not be shown to answer; empty where it was, or there is none
  std::string log;                ///< path of the readable log on this machine
  std::string again;              ///< the command that goes on from here
  std::vector<std::string> next;  ///< what the recipe says people can do now, a line each
};

/// What happened, told once each and in order; how to say it is the implementation's affair. Everything that comes from the host
/// is passed on as it came: implementations strip control characters.
class Status {
 public:
  virtual ~Status() = default;
  virtual void activity(const Activity& activity) = 0;
  virtual void event(const Event& event) = 0;
  /// The same, for those who pass it on as the host wrote it: `line` is its line of the journal, newline included.
  virtual void said(const Event& event, std::string_view) { this->event(event); }
  virtual void progress(const Progress& progress) = 0;
  /// The connection is gone; another attempt follows.
  virtual void connection_lost(const Error& why) = 0;
  virtual void connection_back() = 0;
  /// Of the events told so far, those behind number `to` are no longer true: the host lost them when it went down. Others follow in their
  /// place.
  virtual void rewound(std::uint64_t seen, std::uint64_t to) = 0;
  /// A sentence of gpustrap's own for the person who watches.
  virtual void notice(std::string_view sentence) = 0;
  /// The last call. An error that ended the command is not part of it: main says it on stderr.
  virtual void ending(const Ending& ending) = 0;
  /// Something else is about to use the terminal: a question, another program.
  virtual void pause() = 0;
  /// Time has passed; called at least ten times a second while something runs.
  virtual void tick() = 0;
};

}  // namespace gpustrap

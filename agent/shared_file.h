#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"

// `fetch: shared`: a step that is about to fetch listens in its cache, says so by an event, and waits. The controller answers by an agent
// that gives what comes here to other hosts, or that takes it from one; its connection is the answer, and the end of its connection the
// end of that. Nothing is waited for once the conversation with the controller is over.

namespace gpustrap {

/// Who may pass files on between hosts, as a step's process knows it.
struct SharedFiles {
  std::string folder;   ///< where to listen: the user's own, for nobody else
  int controller = -1;  ///< a pipe whose other end closes when the run's controller is gone, or brings no files any more; -1: none
  std::function<void(const std::string& sha256, std::uint64_t have)> say_wanted;
  std::uint64_t keep_free = 0;  ///< bytes of the disk: nobody says how much comes from another host
};

struct SharedAnswer {
  UniqueFd socket;         ///< of whoever answered; not valid: nobody does
  bool brings = false;     ///< the file's bytes come here; else whoever is there wants them: by hand_over() and say_whole()
  std::uint64_t from = 0;  ///< where in the file those begin that come
};
/// Asks for the file, of which the first `have` bytes are here, and waits for the answer. Not valid where another step of this user asks
/// for the same, too.
[[nodiscard]] SharedAnswer ask_for_shared(const SharedFiles& files, const std::string& sha256, std::uint64_t have);
/// Waits for the socket to be readable, or for the controller to go: false.
[[nodiscard]] bool await_shared(const SharedAnswer& answer, const SharedFiles& files);
/// Lets the other side read `file`, as it is and as it grows.
void hand_over(const SharedAnswer& answer, int file);
/// What was handed over will not grow any more, because it is whole. Where the socket ends without this, it was given up.
void say_whole(const SharedAnswer& answer);

/// The connection to the step that waits for this file in `folder`. Error not_found where none does.
[[nodiscard]] Result<UniqueFd> connect_to_wanted(const std::string& folder, const std::string& sha256);
/// Gives what the step gets, by what is asked for on `in`, to `out`; both do not block. Returns at the end of `in`, when it is silent, or
/// when the step gives up.
void give_shared(UniqueFd step, int in, int out);
/// Takes the file, of which `in` has what is behind its first `from` bytes, to the step.
void take_shared(UniqueFd step, int in, std::uint64_t from);

}  // namespace gpustrap

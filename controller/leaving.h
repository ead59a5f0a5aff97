#pragma once

#include <sys/types.h>

#include <string>

namespace gpustrap {

/// A process that makes the way to a host, such as a ProxyCommand: who leaves before the login is done ends it, with its children.
class WayToHost {
 public:
  explicit WayToHost(pid_t process);
  ~WayToHost();
  WayToHost(const WayToHost&) = delete;
  WayToHost& operator=(const WayToHost&) = delete;

 private:
  pid_t process_;
};
/// Ends all that there are. May be called of a signal handler.
void end_ways_to_hosts();

/// While it lives, Ctrl-C, SIGTERM and SIGHUP end the program at once, with exit code 130 and this line: whatever blocks (a name server, a
/// host that takes connections and says nothing) cannot hold it. Does nothing where somebody catches or ignores them.
class LeavesAtOnce {
 public:
  explicit LeavesAtOnce(const std::string& line);
  ~LeavesAtOnce();
  LeavesAtOnce(const LeavesAtOnce&) = delete;
  LeavesAtOnce& operator=(const LeavesAtOnce&) = delete;

 private:
  bool catches_ = false;
};

}  // namespace gpustrap

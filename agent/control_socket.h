#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/line.h"
#include "agent/protocol/secrets.h"

namespace gpustrap {

/// What is asked of a runner.
struct ControlHandlers {
  std::function<void(const std::string& by, bool now)> cancel;
  std::function<void(const SecretValues& values)> secrets;
};

/// The runner's ear: a local socket (0600, its owner's alone) by which every `serve` hears signals and passes on
/// a cancel or secrets. Lines on it never leave the host: {"cancel": "who", "now": false} or {"secrets": {name: value}} one way, signals the other.
class ControlSocket {
 public:
  [[nodiscard]] static Result<ControlSocket> listen(const std::string& path);
  ~ControlSocket();
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = delete;

  void descriptors(std::vector<int>& into) const;
  /// Accepts or reads; calls a handler for each line that is understood.
  void readable(int descriptor, const ControlHandlers& handlers);
  /// To every listener that can take it at once.
  void broadcast(const std::string& line);
  /// Closes what listens now: there will be no more signals. Whoever hears it reads the journal's end at once.
  void let_go() { clients_.clear(); }

 private:
  struct Client {
    UniqueFd fd;
    LineReader lines;
  };
  ControlSocket(UniqueFd listener, std::string path) : listener_(std::move(listener)), path_(std::move(path)) {}
  UniqueFd listener_;
  std::string path_;
  std::map<int, Client> clients_;
};

/// Hands secrets to the runner that listens at `path`.
[[nodiscard]] Result<void> send_secrets(const std::string& path, const SecretValues& values);
/// The other end; an error (not_found) where no runner listens.
[[nodiscard]] Result<UniqueFd> connect_control_socket(const std::string& path);

}  // namespace gpustrap

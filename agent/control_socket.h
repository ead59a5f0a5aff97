#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/base/unique_fd.h"
#include "agent/protocol/line.h"

namespace gpustrap {

/// The runner's ear: a local socket (0600, its owner's alone) by which every `serve` hears signals and passes on a cancel.
/// Lines on it never leave the host: {"cancel": "who"} one way, signals as they are the other.
class ControlSocket {
 public:
  [[nodiscard]] static Result<ControlSocket> listen(const std::string& path);
  ~ControlSocket();
  ControlSocket(ControlSocket&&) = default;
  ControlSocket& operator=(ControlSocket&&) = delete;

  void descriptors(std::vector<int>& into) const;
  /// Accepts or reads; calls `on_cancel` with who asked.
  void readable(int descriptor, const std::function<void(const std::string&)>& on_cancel);
  /// To every listener that can take it at once.
  void broadcast(const std::string& line);

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

/// The other end; an error (not_found) where no runner listens.
[[nodiscard]] Result<UniqueFd> connect_control_socket(const std::string& path);

}  // namespace gpustrap

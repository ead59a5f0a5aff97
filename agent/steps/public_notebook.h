#pragma once

#include <string>

#include "agent/base/result.h"
#include "agent/host.h"
#include "agent/protocol/step_spec.h"

namespace gpustrap {

/// A notebook that is open to the network: what it needs beside a loopback one, and whether that is so. The password is in the step's
/// environment as JUPYTER_PASSWORD and reaches programs of the environment's Python that way alone. Everything is the login user's.
class PublicNotebook {
 public:
  explicit PublicNotebook(const JupyterSpec& spec) : spec_(spec) {}

  /// Holds the server's configuration with the password's hash; 0700.
  [[nodiscard]] std::string folder(const Host& host) const;
  [[nodiscard]] std::string certificate(const Host& host) const;
  [[nodiscard]] std::string key(const Host& host) const;

  struct Seen {
    std::string trouble;      ///< empty: it answers with TLS and that certificate, and refuses whoever has neither password nor token
    std::string fingerprint;  ///< of the certificate: SHA-256, as browsers show it
  };
  /// Errors: recipe (no password, or a short one), command (the environment's Python cannot tell).
  [[nodiscard]] Result<Seen> look(const Host& host, const std::string& token) const;
  /// Hashes the password, and makes a certificate where none is given and none is valid.
  [[nodiscard]] Result<void> prepare(Host& host, StepLog& log) const;

 private:
  [[nodiscard]] Command command(const Host& host, const std::string& verb, const std::string& token) const;

  const JupyterSpec& spec_;
};

}  // namespace gpustrap

#pragma once

#include <optional>
#include <string>

#include "agent/base/result.h"

namespace gpustrap {

/// A key for instances: its private half stays in its file, the public one is what EC2 is given.
struct OwnKey {
  std::string path;        ///< of the private key
  std::string public_key;  ///< "ssh-ed25519 AAAA…"
  /// Made of the public key, so that the same key has the same name everywhere and is uploaded once.
  [[nodiscard]] std::string name() const;
};

/// Whether a fingerprint that EC2 tells is the public key's; nothing where it is of a kind that is not known. Of ed25519 EC2 tells SHA-256
/// as ssh-keygen has it, of RSA that was imported MD5 of its DER form; compatible clouds tell SHA-256 of that, too.
[[nodiscard]] std::optional<bool> has_fingerprint(const std::string& public_key, const std::string& fingerprint);

/// The key in `path`; made anew, 0600 and without a passphrase, where nothing is there and `make` says so. What is there is never written.
enum class MakeKey { never, where_missing };
[[nodiscard]] Result<OwnKey> own_key(const std::string& path, MakeKey make);

}  // namespace gpustrap

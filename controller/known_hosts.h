#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "agent/base/result.h"

namespace gpustrap {

/// What known_hosts files say of one host, in the forms of sshd(8): patterns, hashed names, `@revoked`. A line that cannot be read says
/// nothing, and takes nothing from the others; where libssh meets one, it forgets the whole file.
class KnownHosts {
 public:
  /// `name` stands there as "gpu1" or "[gpu1]:2222". A file that is not there says nothing.
  /// Error host_key: a file that cannot be read, since it may revoke the very key that comes.
  [[nodiscard]] static Result<KnownHosts> read(const std::vector<std::string>& files, const std::string& name);
  explicit KnownHosts(const std::string& name);
  /// One more file's text.
  void take(std::string_view text, const std::string& file);

  enum class Verdict { unknown, other_type, changed, known, revoked };  ///< where lines differ, the last of these counts
  struct Answer {
    Verdict verdict = Verdict::unknown;
    std::string file;  ///< where it is said
    int line = 0;
  };
  /// About a key, as base64 of its bytes.
  [[nodiscard]] Answer ask(std::string_view key) const;
  /// What the host's keys are: "ssh-ed25519".
  [[nodiscard]] std::vector<std::string> types() const;

 private:
  struct Line {
    std::string bytes, type, file;
    int number = 0;
    bool revoked = false;
  };
  std::string name_;
  std::vector<Line> lines_;  ///< about this host
};

/// The bytes of a key, which ssh writes as base64.
[[nodiscard]] std::string key_bytes_of(std::string_view key);
/// The type that stands in a key's bytes, given as base64; empty where they are none.
[[nodiscard]] std::string key_type_of(std::string_view key);

/// Writes a line behind those that are there, also where the last of them has no newline.
[[nodiscard]] Result<void> add_known_host(const std::string& file, const std::string& name, std::string_view key);

}  // namespace gpustrap

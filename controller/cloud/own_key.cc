#include "controller/cloud/own_key.h"

#include <unistd.h>

#include <cerrno>
#include <chrono>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"

namespace gpustrap {
namespace {

Result<std::string> ssh_keygen(std::vector<std::string> arguments) {
  Subprocess process;
  process.argv = {"ssh-keygen"};
  process.argv.insert(process.argv.end(), arguments.begin(), arguments.end());
  process.timeout = std::chrono::seconds(20);
  process.env = {{"SSH_ASKPASS", "/bin/false"}, {"SSH_ASKPASS_REQUIRE", "force"}};  // a passphrase is asked for elsewhere
  const Result<SubprocessResult> ended = run_subprocess(process);
  if (!ended) return fail(Error(ended.error()).in("running ssh-keygen"));
  if (ended->exit_code == 127) return fail(ErrorCode::not_found, "ssh-keygen is not installed", "sudo apt install openssh-client");
  if (ended->exit_code != 0) return fail(ErrorCode::command, fmt::format("ssh-keygen: {}", strip_control(first_line(trim(ended->err)))));
  return ended->out;
}

/// Made beside its place and linked there: of two commands at once one wins, and both use its key.
Result<void> make_key(const std::string& path) {
  if (Result<void> made = make_directories(parent_of(path), 0700); !made) return made;
  const std::string draft = fmt::format("{}.new-{}", path, ::getpid());
  ::unlink(draft.c_str());
  const Result<std::string> made = ssh_keygen({"-q", "-t", "ed25519", "-N", "", "-C", "gpustrap", "-f", draft});
  if (!made) return fail(Error(made.error()).in("making a key"));
  const bool placed = ::link(draft.c_str(), path.c_str()) == 0;
  const int problem = errno;
  if (placed) static_cast<void>(::rename((draft + ".pub").c_str(), (path + ".pub").c_str()));
  ::unlink(draft.c_str());
  ::unlink((draft + ".pub").c_str());
  if (!placed && problem != EEXIST) return fail(errno_error(problem, "making " + path));
  return {};
}

}  // namespace

std::string OwnKey::name() const {
  const std::vector<std::string> fields = words(public_key);
  return "gpustrap-" + sha256_hex(fields.size() < 2 ? public_key : fields[0] + " " + fields[1]).substr(0, 12);
}

Result<OwnKey> own_key(const std::string& path, MakeKey make) {
  if (!path_exists(path)) {
    if (make == MakeKey::never)
      return fail(ErrorCode::usage, fmt::format("-i {}: no such file", path), "give the private key, or leave -i out");
    if (Result<void> made = make_key(path); !made) return fail(std::move(made).error());
  }
  const std::string shown = make == MakeKey::never ? "-i " + path : path;
  const std::string anew =
      "gpustrap made this key and never writes it again: put it back from a copy, or move it away, and it makes another";
  // The private key has the last word: a .pub beside it may be another's.
  Result<std::string> text = ssh_keygen({"-y", "-f", path});
  if (!text) text = read_file(path + ".pub", 64U << 10U);  // one with a passphrase
  if (!text)
    return fail(ErrorCode::usage, fmt::format("{}: its public half cannot be read", shown),
                make == MakeKey::never ? fmt::format("ssh-keygen -y -f {0} > {0}.pub", shell_quote(path)) : anew);
  const std::vector<std::string> fields = words(first_line(trim(*text), 64U << 10U));
  if (fields.size() < 2 || (fields[0] != "ssh-ed25519" && fields[0] != "ssh-rsa"))
    return fail(ErrorCode::usage, fmt::format("{}: EC2 takes ed25519 and RSA keys alone", shown),
                make == MakeKey::never ? "leave -i out, and gpustrap makes one" : anew);
  return OwnKey{path, fields[0] + " " + fields[1] + " gpustrap"};
}

}  // namespace gpustrap

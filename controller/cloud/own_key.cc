#include "controller/cloud/own_key.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <chrono>
#include <string_view>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/cloud/ec2.h"

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

Result<void> sync_file(const std::string& path) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC));
  if (!file.valid() || ::fsync(file.get()) != 0) return fail(errno_error(errno, "writing " + path));
  return {};
}

/// Made beside its place and linked there: of two commands at once one wins, and both use its key.
Result<void> make_key(const std::string& path) {
  if (Result<void> made = make_directories(parent_of(path), 0700); !made)
    return fail(std::move(made).error().with_hint("nothing was ordered; see whether the disk is full and whether you may write there"));
  const std::string draft = fmt::format("{}.new-{}", path, ::getpid());
  ::unlink(draft.c_str());
  const Result<std::string> made = ssh_keygen({"-q", "-t", "ed25519", "-N", "", "-C", "gpustrap", "-f", draft});
  // Whole on the disk before it has its name, under which it is never written again.
  const Result<void> kept = made ? sync_file(draft) : Result<void>(fail(made.error()));
  const bool placed = kept && ::link(draft.c_str(), path.c_str()) == 0;
  const int problem = errno;
  if (placed) static_cast<void>(::rename((draft + ".pub").c_str(), (path + ".pub").c_str()));
  ::unlink(draft.c_str());
  ::unlink((draft + ".pub").c_str());
  const std::string advice = fmt::format("nothing was ordered; see whether the disk of {} is full and whether you may write there", path);
  if (!kept) return fail(Error(kept.error()).in("making the key " + path).with_hint(advice));
  if (!placed && problem != EEXIST) return fail(errno_error(problem, "making the key " + path).with_hint(advice));
  return {};
}

/// The fields of a public key as SSH writes them: a length of four bytes before each.
std::vector<std::string> ssh_fields(std::string_view blob) {
  std::vector<std::string> fields;
  while (blob.size() >= 4) {
    std::size_t length = 0;
    for (int i = 0; i < 4; ++i) length = length << 8U | static_cast<unsigned char>(blob[static_cast<std::size_t>(i)]);
    blob.remove_prefix(4);
    if (length > blob.size()) break;
    fields.emplace_back(blob.substr(0, length));
    blob.remove_prefix(length);
  }
  return fields;
}

/// An element of DER: tag, length, content.
std::string der(char tag, const std::string& content) {
  std::string length;
  for (std::size_t left = content.size(); left > 0; left >>= 8U) length.insert(length.begin(), static_cast<char>(left & 0xffU));
  if (content.size() < 128) return std::string{tag, static_cast<char>(content.size())} + content;
  return std::string{tag, static_cast<char>(0x80U | length.size())} + length + content;
}

/// As SubjectPublicKeyInfo; empty for another kind of key.
std::string der_of(const std::string& blob) {
  using namespace std::string_literals;
  const std::vector<std::string> fields = ssh_fields(blob);
  constexpr char kSequence = 0x30, kInteger = 0x02, kBits = 0x03;
  if (fields.size() == 2 && fields[0] == "ssh-ed25519")
    return der(kSequence, der(kSequence, "\x06\x03\x2b\x65\x70"s) + der(kBits, "\0"s + fields[1]));
  if (fields.size() == 3 && fields[0] == "ssh-rsa") {  // SSH has the exponent first
    const std::string key = der(kSequence, der(kInteger, fields[2]) + der(kInteger, fields[1]));
    return der(kSequence, der(kSequence, "\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x01\x01\x05\0"s) + der(kBits, "\0"s + key));
  }
  return {};
}

std::string digest(std::string_view bytes, const EVP_MD* kind) {
  std::string out(EVP_MAX_MD_SIZE, '\0');
  unsigned int length = 0;
  EVP_Digest(bytes.data(), bytes.size(), reinterpret_cast<unsigned char*>(out.data()), &length, kind, nullptr);
  out.resize(length);
  return out;
}

}  // namespace

std::optional<bool> has_fingerprint(const std::string& public_key, const std::string& fingerprint) {
  const std::vector<std::string> words_of_key = words(public_key);
  const std::optional<std::string> blob = words_of_key.size() < 2 ? std::nullopt : base64_decoded(words_of_key[1]);
  if (!blob) return std::nullopt;
  std::string told = fingerprint.starts_with("SHA256:") ? fingerprint.substr(7) : fingerprint;
  if (const std::size_t colons = static_cast<std::size_t>(std::count(told.begin(), told.end(), ':')); colons == 15 || colons == 31) {
    const std::string form = der_of(*blob);
    if (form.empty()) return std::nullopt;
    std::string hex;
    for (const char byte : digest(form, colons == 15 ? EVP_md5() : EVP_sha256()))
      hex += fmt::format("{}{:02x}", hex.empty() ? "" : ":", static_cast<unsigned char>(byte));
    std::transform(told.begin(), told.end(), told.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
    return told == hex;
  }
  while (told.ends_with('=')) told.pop_back();
  if (told.size() != 43) return std::nullopt;  // of 32 bytes
  std::string own = base64_encoded(digest(*blob, EVP_sha256()));
  while (own.ends_with('=')) own.pop_back();
  return told == own;
}

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

#include "agent/base/sha256.h"

// The plain functions of libcrypto: its newer interface fetches an implementation first, which takes most of a millisecond in each
// process that needs one digest, and a rerun is made of such processes.
#define OPENSSL_SUPPRESS_DEPRECATED
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <vector>

#include "agent/base/unique_fd.h"

namespace gpustrap {

struct Sha256::Context {
  Context() { SHA256_Init(&state); }
  SHA256_CTX state;
};

Sha256::Sha256() : context_(std::make_unique<Context>()) {}
Sha256::~Sha256() = default;
Sha256::Sha256(Sha256&&) noexcept = default;
Sha256& Sha256::operator=(Sha256&&) noexcept = default;

void Sha256::add(std::string_view bytes) { SHA256_Update(&context_->state, bytes.data(), bytes.size()); }

std::string Sha256::hex() {
  std::array<unsigned char, SHA256_DIGEST_LENGTH> digest{};
  SHA256_Final(digest.data(), &context_->state);
  SHA256_Init(&context_->state);
  static constexpr std::string_view kDigits = "0123456789abcdef";
  std::string text;
  text.reserve(digest.size() * 2);
  for (const unsigned char byte : digest) {
    text += kDigits[byte >> 4];
    text += kDigits[byte & 0xF];
  }
  return text;
}

std::string Sha256::hex_so_far() const {
  Sha256 copy;
  copy.context_->state = context_->state;
  return copy.hex();
}

bool is_sha256(std::string_view text) { return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

std::string sha256_hex(std::string_view bytes) {
  Sha256 digest;
  digest.add(bytes);
  return digest.hex();
}

Result<std::string> sha256_of_file(const std::string& path) {
  UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
  if (!file.valid()) return fail(errno_error(errno, "reading " + path));
  // A pipe or a device would be waited for, or has no end.
  struct stat info {};
  if (::fstat(file.get(), &info) != 0) return fail(errno_error(errno, "reading " + path));
  if (!S_ISREG(info.st_mode)) return fail(Error(ErrorCode::unsupported, "it is not a file", "name a file").in("reading " + path));
  Sha256 digest;
  std::vector<char> buffer(256 * 1024);
  while (true) {
    const ssize_t got = ::read(file.get(), buffer.data(), buffer.size());
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail(errno_error(errno, "reading " + path));
    if (got == 0) return digest.hex();
    digest.add({buffer.data(), static_cast<std::size_t>(got)});
  }
}

}  // namespace gpustrap

#include "controller/known_hosts.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cctype>
#include <cerrno>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "controller/cloud/ec2.h"
#include "controller/run_log.h"
#include "controller/ssh_config.h"
#include "controller/ssh_wire.h"

namespace gpustrap {
namespace {

/// An organisation's file of 100,000 hosts has some 40 MB.
constexpr std::size_t kLargestFile = 64U << 20U;

/// "|1|SALT|HASH": the HMAC-SHA1 of a name, so that a stolen file names nobody.
bool is_hash_of(const std::string& field, const std::string& name) {
  const std::vector<std::string> parts = split(field, '|');
  if (parts.size() != 4 || parts[1] != "1") return false;
  const std::optional<std::string> salt = base64_decoded(parts[2]), hash = base64_decoded(parts[3]);
  if (!salt || !hash) return false;
  std::array<unsigned char, EVP_MAX_MD_SIZE> made{};
  unsigned size = 0;
  HMAC(EVP_sha1(), salt->data(), static_cast<int>(salt->size()), reinterpret_cast<const unsigned char*>(name.data()), name.size(),
       made.data(), &size);
  return *hash == std::string_view(reinterpret_cast<const char*>(made.data()), size);
}

bool names(std::string field, const std::string& name) {
  if (field.starts_with('|')) return is_hash_of(field, name);
  std::replace(field.begin(), field.end(), ',', ' ');
  return host_line_takes(field, name);
}

/// The type in a key's bytes: the first of several strings. Empty where that is not what they are.
std::string type_in(std::string_view bytes) {
  const std::optional<std::string_view> type = take_ssh_string(bytes);
  if (!type || bytes.empty()) return {};
  while (!bytes.empty()) {
    if (!take_ssh_string(bytes)) return {};
  }
  return std::string(*type);
}

}  // namespace

KnownHosts::KnownHosts(const std::string& name) : name_(name) {
  std::transform(name_.begin(), name_.end(), name_.begin(), [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
}

Result<KnownHosts> KnownHosts::read(const std::vector<std::string>& files, const std::string& name) {
  KnownHosts hosts(name);
  for (const std::string& file : files) {
    const Result<std::string> text = read_file(file, kLargestFile);
    if (text)
      hosts.take(*text, file);
    else if (text.error().code() != ErrorCode::not_found)
      return fail(ErrorCode::host_key, fmt::format("{} cannot be read: {}", file, text.error().why()),
                  "it says which host keys are right: let it be read, or take it out of ssh's configuration");
  }
  return hosts;
}

void KnownHosts::take(std::string_view text, const std::string& file) {
  int number = 0;
  while (!text.empty()) {
    const std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    ++number;
    std::vector<std::string> fields = words(line);
    if (fields.empty() || fields[0].starts_with('#')) continue;
    const std::string marker = fields[0].starts_with('@') ? fields[0] : "";
    if (!marker.empty()) fields.erase(fields.begin());
    // A @cert-authority vouches for certificates, which libssh does not ask for.
    if ((!marker.empty() && marker != "@revoked") || fields.size() < 3 || !names(fields[0], name_)) continue;
    std::optional<std::string> bytes = base64_decoded(fields[2]);
    if (bytes && type_in(*bytes) == fields[1]) lines_.push_back({*std::move(bytes), fields[1], file, number, !marker.empty()});
  }
}

KnownHosts::Answer KnownHosts::ask(std::string_view key) const {
  const std::string bytes = key_bytes_of(key);
  const std::string type = type_in(bytes);
  Answer answer;
  for (const Line& line : lines_) {
    if (line.revoked && line.bytes != bytes) continue;
    const Verdict verdict = line.revoked          ? Verdict::revoked
                            : line.bytes == bytes ? Verdict::known
                            : line.type == type   ? Verdict::changed
                                                  : Verdict::other_type;
    if (verdict > answer.verdict) answer = {verdict, line.file, line.number};
  }
  return answer;
}

std::vector<std::string> KnownHosts::types() const {
  std::vector<std::string> types;
  for (const Line& line : lines_) {
    if (!line.revoked) types.push_back(line.type);
  }
  return types;
}

std::string key_bytes_of(std::string_view key) { return base64_decoded(key).value_or(""); }

std::string key_type_of(std::string_view key) { return type_in(key_bytes_of(key)); }

Result<void> add_known_host(const std::string& file, const std::string& name, std::string_view key) {
  if (Result<void> made = make_own_directories(parent_of(file)); !made) return made;
  const UniqueFd fd(::open(file.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!fd.valid()) return fail(errno_error(errno, "opening " + file));
  const off_t size = ::lseek(fd.get(), 0, SEEK_END);
  char last = '\n';
  const bool is_torn = size > 0 && ::pread(fd.get(), &last, 1, size - 1) == 1 && last != '\n';
  // In one write: many hosts may be met at once.
  const Result<void> written = write_all(fd.get(), fmt::format("{}{} {} {}\n", is_torn ? "\n" : "", name, key_type_of(key), key));
  if (!written) return fail(Error(written.error()).in("writing " + file));
  return {};
}

}  // namespace gpustrap

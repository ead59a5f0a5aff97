#include "controller/cloud/host_keys.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstddef>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/subprocess.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

constexpr std::string_view kBegin = "-----BEGIN SSH HOST KEY KEYS-----", kEnd = "-----END SSH HOST KEY KEYS-----";
constexpr std::size_t kMostKeys = 16, kLongestKey = 4096;

bool is_key(const std::vector<std::string>& fields) {
  if (fields.size() < 2 || fields[1].size() > kLongestKey || fields[1].size() < 32) return false;
  const std::string& type = fields[0];
  if (!type.starts_with("ssh-") && !type.starts_with("ecdsa-sha2-")) return false;
  const auto plain = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '-'; };
  const auto base64 = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '+' || c == '/' || c == '=';
  };
  return type != "ssh-dss" && std::all_of(type.begin(), type.end(), plain) && std::all_of(fields[1].begin(), fields[1].end(), base64);
}

}  // namespace

std::vector<std::string> host_keys_in(std::string_view console) {
  const std::size_t end = console.rfind(kEnd);
  const std::size_t begin = end == std::string_view::npos ? end : console.rfind(kBegin, end);
  if (begin == std::string_view::npos) return {};
  std::vector<std::string> keys;
  for (const std::string& line : split(console.substr(begin + kBegin.size(), end - begin - kBegin.size()), '\n')) {
    // A console may put a timestamp before each line: "[   21.3] cloud-init[812]: ssh-ed25519 …".
    std::vector<std::string> fields = words(strip_control(line));
    const auto type = std::find_if(fields.begin(), fields.end(),
                                   [](const std::string& word) { return word.starts_with("ssh-") || word.starts_with("ecdsa-sha2-"); });
    fields.erase(fields.begin(), type);
    if (is_key(fields) && keys.size() < kMostKeys) keys.push_back(fields[0] + " " + fields[1]);
  }
  return keys;
}

Result<void> forget_host_keys(const std::string& known_hosts, const std::string& host) {
  if (!path_exists(known_hosts)) return {};
  // ssh-keygen knows hashed names, which only it can find.
  Subprocess process;
  process.argv = {"ssh-keygen", "-q", "-f", known_hosts, "-R", host};
  process.timeout = std::chrono::seconds(20);
  const Result<SubprocessResult> ended = run_subprocess(process);
  if (!ended) return fail(Error(ended.error()).in("running ssh-keygen"));
  if (ended->exit_code == 127) return fail(ErrorCode::not_found, "ssh-keygen is not installed", "sudo apt install openssh-client");
  if (ended->exit_code == 0 || ended->err.find("not found in") != std::string::npos) return {};
  return fail(ErrorCode::io, fmt::format("ssh-keygen -R {}: {}", host, strip_control(first_line(trim(ended->err)))),
              fmt::format("put {} right, or move it away", known_hosts));
}

Result<void> pin_host_keys(const std::string& known_hosts, const std::string& host, const std::vector<std::string>& keys) {
  if (Result<void> made = make_directories(parent_of(known_hosts), 0700); !made) return made;
  if (Result<void> forgotten = forget_host_keys(known_hosts, host); !forgotten) return forgotten;
  const UniqueFd file(::open(known_hosts.c_str(), O_RDWR | O_CREAT | O_APPEND | O_CLOEXEC, 0600));
  if (!file.valid()) return fail(errno_error(errno, "opening " + known_hosts));
  std::string text;
  const off_t size = ::lseek(file.get(), 0, SEEK_END);
  char last = '\n';
  if (size > 0 && ::pread(file.get(), &last, 1, size - 1) == 1 && last != '\n') text += '\n';
  for (const std::string& key : keys) text += host + " " + key + "\n";
  return write_all(file.get(), text);
}

}  // namespace gpustrap

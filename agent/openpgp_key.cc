#include "agent/openpgp_key.h"

#include <openssl/evp.h>

#include <array>
#include <cstdint>
#include <optional>

#include <fmt/format.h>

namespace gpustrap {
namespace {

constexpr std::string_view kArmour = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
/// Packet tag of a public key; those of subkeys, names and signatures have others.
constexpr unsigned kPublicKey = 6;

tl::unexpected<Error> no_key(std::string_view why) {
  return fail(ErrorCode::unsupported, fmt::format("it is no OpenPGP public key: {}", why), "does the address lead to the key itself?");
}

std::optional<unsigned> sextet(char c) {
  constexpr std::string_view kDigits = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
  const std::size_t at = kDigits.find(c);
  return at == std::string_view::npos ? std::nullopt : std::optional(static_cast<unsigned>(at));
}

/// The bytes of all armoured blocks.
std::string without_armour(std::string_view file) {
  std::string bytes;
  for (std::size_t begin = file.find(kArmour); begin != std::string_view::npos; begin = file.find(kArmour)) {
    file.remove_prefix(begin + kArmour.size());
    const std::string_view block = file.substr(0, file.find("-----END"));
    // Headers such as Version: end with an empty line.
    std::size_t at = std::min(block.find("\n\n"), block.find("\r\n\r\n"));
    unsigned bits = 0, count = 0;
    for (at = std::min(at, block.size()); at < block.size() && block[at] != '='; ++at) {
      const std::optional<unsigned> digit = sextet(block[at]);
      if (!digit) continue;
      bits = (bits << 6U | *digit) & 0xFFFFU;
      count += 6;
      if (count < 8) continue;
      count -= 8;
      bytes.push_back(static_cast<char>(bits >> count & 0xFFU));
    }
  }
  return bytes;
}

struct Packet {
  unsigned tag = 0;
  std::string_view body;
};

unsigned byte_at(std::string_view bytes, std::size_t at) { return static_cast<unsigned char>(bytes[at]); }

std::size_t big_endian(std::string_view bytes) {
  std::size_t number = 0;
  for (std::size_t i = 0; i < bytes.size(); ++i) number = number << 8U | byte_at(bytes, i);
  return number;
}

/// Takes one packet off the front; nullopt where it is cut or of a length that keys do not use (partial, open-ended).
std::optional<Packet> take_packet(std::string_view& bytes) {
  if (bytes.size() < 2 || (byte_at(bytes, 0) & 0x80U) == 0) return std::nullopt;
  const unsigned head = byte_at(bytes, 0), first = byte_at(bytes, 1);
  Packet packet;
  std::size_t header = 2, length = first;
  if ((head & 0x40U) != 0) {  // the new format
    packet.tag = head & 0x3FU;
    if (first >= 192) header = first < 224 ? 3 : 6;
    if (bytes.size() < header || (first >= 224 && first < 255)) return std::nullopt;
    if (header == 3) length = (std::size_t{first - 192} << 8U) + byte_at(bytes, 2) + 192;
    if (header == 6) length = big_endian(bytes.substr(2, 4));
  } else {
    packet.tag = head >> 2U & 0x0FU;
    const std::size_t digits = std::size_t{1} << (head & 3U);
    header = 1 + digits;
    if (digits == 8 || bytes.size() < header) return std::nullopt;
    length = big_endian(bytes.substr(1, digits));
  }
  if (bytes.size() - header < length) return std::nullopt;
  packet.body = bytes.substr(header, length);
  bytes.remove_prefix(header + length);
  return packet;
}

/// SHA-1 over 0x99, the length in two bytes, and the packet's body (RFC 4880, 12.2).
std::string fingerprint_of(std::string_view body) {
  std::string hashed = {'\x99', static_cast<char>(body.size() >> 8U), static_cast<char>(body.size() & 0xFFU)};
  hashed += body;
  std::array<unsigned char, EVP_MAX_MD_SIZE> digest{};
  unsigned size = 0;
  EVP_Digest(hashed.data(), hashed.size(), digest.data(), &size, EVP_sha1(), nullptr);
  std::string hex;
  for (unsigned i = 0; i < size; ++i) hex += fmt::format("{:02X}", digest.at(i));
  return hex;
}

}  // namespace

Result<std::vector<std::string>> key_fingerprints(std::string_view file) {
  const std::string plain = file.find(kArmour) == std::string_view::npos ? std::string(file) : without_armour(file);
  std::vector<std::string> fingerprints;
  for (std::string_view rest = plain; !rest.empty();) {
    const std::optional<Packet> packet = take_packet(rest);
    if (!packet) return no_key("its packets are cut or damaged");
    if (packet->tag != kPublicKey) continue;
    if (packet->body.empty() || packet->body[0] != 4 || packet->body.size() > 0xFFFF) return no_key("its version is not 4");
    fingerprints.push_back(fingerprint_of(packet->body));
  }
  if (fingerprints.empty()) return no_key("there is no key in it");
  return fingerprints;
}

}  // namespace gpustrap

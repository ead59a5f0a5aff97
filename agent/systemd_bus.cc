#include "agent/systemd_bus.h"

#include <poll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <cstring>
#include <ctime>

#include <fmt/format.h>

#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

/// systemd answers in a millisecond, and once it reads its units anew in seconds.
constexpr auto kLimit = std::chrono::seconds(10);
/// Longer messages are no answers to these questions.
constexpr std::size_t kMaxMessage = 64U << 10U;

constexpr std::string_view kUnit = "org.freedesktop.systemd1.Unit", kService = "org.freedesktop.systemd1.Service";

struct Property {
  std::string_view name, interface;
};
constexpr std::array<Property, 9> kProperties = {{{"LoadState", kUnit},
                                                  {"NeedDaemonReload", kUnit},
                                                  {"UnitFileState", kUnit},
                                                  {"ActiveState", kUnit},
                                                  {"SubState", kUnit},
                                                  {"ActiveEnterTimestamp", kUnit},
                                                  {"Type", kService},
                                                  {"Result", kService},
                                                  {"MainPID", kService}}};

constexpr std::size_t aligned(std::size_t offset, std::size_t to) { return (offset + to - 1) / to * to; }

void pad(std::string& bytes, std::size_t to) { bytes.resize(aligned(bytes.size(), to)); }

void put_number(std::string& bytes, std::uint32_t number) {
  pad(bytes, 4);
  for (unsigned shift = 0; shift < 32; shift += 8) bytes += static_cast<char>(number >> shift);
}

void put_text(std::string& bytes, std::string_view text) {
  put_number(bytes, static_cast<std::uint32_t>(text.size()));
  bytes.append(text).append(1, '\0');
}

/// A header field: its code, and a variant of an object path or a string.
void put_field(std::string& bytes, char code, char type, std::string_view text) {
  pad(bytes, 8);
  bytes.append({code, 1, type, 0});
  put_text(bytes, text);
}

std::uint64_t number_at(std::string_view bytes, std::size_t at, std::size_t size) {
  std::uint64_t number = 0;
  for (std::size_t i = size; i-- > 0;) number = number << 8U | static_cast<unsigned char>(bytes[at + i]);
  return number;
}

/// The number of the call that a message answers; 0 where its header does not say so.
std::uint32_t reply_serial(std::string_view fields) {
  constexpr char kReplySerial = 5;
  // Behind the fixed part, at offset 16: aligned as the fields are.
  for (std::size_t at = 0; at + 4 <= fields.size(); at = aligned(at, 8)) {
    const char code = fields[at];
    const char type = fields[at + 2];
    if (fields[at + 1] != 1) return 0;
    at += 4;
    const std::size_t length_size = type == 'g' ? 1 : 4;
    if (at + length_size > fields.size()) return 0;
    const std::uint64_t number = number_at(fields, at, length_size);
    if (code == kReplySerial) return type == 'u' ? static_cast<std::uint32_t>(number) : 0;
    at += length_size;
    if (type == 's' || type == 'o' || type == 'g') at += number + 1;
  }
  return 0;
}

std::string time_text(std::uint64_t microseconds) {
  if (microseconds == 0) return {};
  const auto seconds = static_cast<std::time_t>(microseconds / 1'000'000);
  std::tm parts{};
  ::gmtime_r(&seconds, &parts);
  std::array<char, 64> text{};
  return {text.data(), ::strftime(text.data(), text.size(), "%a %Y-%m-%d %H:%M:%S UTC", &parts)};
}

/// A connection on which everything is asked at once.
UniqueFd ask(const std::string& path, const std::string& questions) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (path.size() >= sizeof address.sun_path) return {};
  std::memcpy(address.sun_path, path.c_str(), path.size() + 1);
  UniqueFd fd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
  if (!fd.valid() || ::connect(fd.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) return {};
  if (::send(fd.get(), questions.data(), questions.size(), MSG_NOSIGNAL) != static_cast<ssize_t>(questions.size())) return {};
  return fd;
}

}  // namespace

std::string unit_object(std::string_view unit) {
  std::string path = "/org/freedesktop/systemd1/unit/";
  for (const char c : unit) {
    const bool is_letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    const bool is_digit = c >= '0' && c <= '9';
    if (is_letter || (is_digit && !path.ends_with('/')))
      path += c;
    else
      path += fmt::format("_{:02x}", static_cast<unsigned char>(c));
  }
  return path;
}

std::string get_property(std::uint32_t serial, std::string_view object, std::string_view interface, std::string_view property) {
  std::string body;
  put_text(body, interface);
  put_text(body, property);
  std::string message = {'l', BusMessage::call, 0, 1};
  put_number(message, static_cast<std::uint32_t>(body.size()));
  put_number(message, serial);
  put_number(message, 0);  // the length of the fields, below
  constexpr std::size_t kFixed = 16;
  put_field(message, 1, 'o', object);
  put_field(message, 2, 's', "org.freedesktop.DBus.Properties");
  put_field(message, 3, 's', "Get");
  put_field(message, 6, 's', "org.freedesktop.systemd1");
  pad(message, 8);
  message.append({8, 1, 'g', 0, 2, 's', 's', 0});
  std::string length;
  put_number(length, static_cast<std::uint32_t>(message.size() - kFixed));
  message.replace(kFixed - 4, 4, length);
  pad(message, 8);
  return message + body;
}

std::optional<BusMessage> take_message(std::string_view& bytes, bool& is_wrong) {
  constexpr std::size_t kFixed = 16;
  if (bytes.size() < kFixed) return std::nullopt;
  const std::size_t fields = number_at(bytes, 12, 4);
  const std::size_t body = number_at(bytes, 4, 4);
  is_wrong = bytes[0] != 'l' || bytes[3] != 1 || fields > kMaxMessage || body > kMaxMessage;
  const std::size_t begin = aligned(kFixed + fields, 8);
  if (is_wrong || bytes.size() < begin + body) return std::nullopt;
  BusMessage message;
  message.type = static_cast<std::uint8_t>(bytes[1]);
  message.reply_to = reply_serial(bytes.substr(kFixed, fields));
  message.body = bytes.substr(begin, body);
  bytes.remove_prefix(begin + body);
  return message;
}

std::optional<std::string> value_in(std::string_view body) {
  if (body.size() < 8 || body[0] != 1 || body[2] != 0) return std::nullopt;
  const std::uint64_t number = number_at(body, 4, 4);
  switch (body[1]) {
    case 's': return body.size() < 8 + number ? std::nullopt : std::optional(std::string(body.substr(8, number)));
    case 'b': return number != 0 ? "yes" : "no";
    case 'u': return std::to_string(number);
    case 't': return body.size() < 16 ? std::nullopt : std::optional(time_text(number_at(body, 8, 8)));
    default: return std::nullopt;
  }
}

std::optional<std::string> show_unit(const std::string& unit, const std::vector<std::string>& properties, const std::string& socket) {
  // The user is root, whose number in hexadecimal digits of text is 30; everything is sent without waiting for an answer.
  std::string questions = std::string(1, '\0') + "AUTH EXTERNAL 30\r\nBEGIN\r\n";
  const std::string object = unit_object(unit);
  std::uint32_t asked = 0;
  for (const std::string& name : properties) {
    const auto* known = std::find_if(kProperties.begin(), kProperties.end(), [&](const Property& one) { return one.name == name; });
    if (known == kProperties.end()) return std::nullopt;
    questions += get_property(++asked, object, known->interface, name);
  }
  const UniqueFd fd = ask(socket, questions);
  if (!fd.valid()) return std::nullopt;
  std::string said;
  bool is_let_in = false;
  std::vector<std::optional<std::string>> values(properties.size());
  for (const Clock::time_point deadline = Clock::now() + kLimit; asked > 0;) {
    const auto left = std::chrono::duration_cast<std::chrono::milliseconds>(deadline - Clock::now()).count();
    pollfd polled{fd.get(), POLLIN, 0};
    if (left <= 0 || ::poll(&polled, 1, static_cast<int>(left)) <= 0) return std::nullopt;
    std::array<char, 4096> buffer{};
    const ssize_t got = ::read(fd.get(), buffer.data(), buffer.size());
    if (got <= 0) return std::nullopt;
    said.append(buffer.data(), static_cast<std::size_t>(got));
    std::string_view rest = said;
    if (!is_let_in) {
      const std::size_t end = rest.find("\r\n");
      if (end == std::string_view::npos) continue;
      if (!rest.starts_with("OK ")) return std::nullopt;
      rest.remove_prefix(end + 2);
      is_let_in = true;
    }
    bool is_wrong = false;
    while (const std::optional<BusMessage> message = take_message(rest, is_wrong)) {
      if (message->type == BusMessage::error) return std::nullopt;
      if (message->type != BusMessage::reply || message->reply_to == 0 || message->reply_to > values.size()) continue;
      std::optional<std::string>& value = values[message->reply_to - 1];
      if (value || !(value = value_in(message->body))) return std::nullopt;
      --asked;
    }
    if (is_wrong) return std::nullopt;
    said.erase(0, said.size() - rest.size());
  }
  std::string text;
  for (std::size_t i = 0; i < values.size(); ++i) text += fmt::format("{}={}\n", properties[i], *values[i]);
  return text;
}

}  // namespace gpustrap

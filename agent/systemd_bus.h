#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace gpustrap {

/// What `systemctl show --property=… UNIT` prints with TZ=UTC, of systemd itself: it is asked on the socket on which it answers systemctl's
/// questions, without starting a program for each. nullopt where it cannot be asked so (no root, no such socket, a property that is not
/// known here, an answer that was not expected); systemctl may know then.
[[nodiscard]] std::optional<std::string> show_unit(const std::string& unit, const std::vector<std::string>& properties,
                                                   const std::string& socket = "/run/systemd/private");

// The parts of it, in the words of the D-Bus specification (0.38, "Message Protocol"), for tests.

/// How the manager names a unit: /org/freedesktop/systemd1/unit/ssh_2eservice
[[nodiscard]] std::string unit_object(std::string_view unit);
/// A call of org.freedesktop.DBus.Properties.Get with this serial number.
[[nodiscard]] std::string get_property(std::uint32_t serial, std::string_view object, std::string_view interface,
                                       std::string_view property);

/// A reply, or whatever else came.
struct BusMessage {
  enum Type : std::uint8_t { call = 1, reply = 2, error = 3, signal = 4 };
  std::uint8_t type = 0;
  std::uint32_t reply_to = 0;
  std::string_view body;
};
/// Takes a whole message off the front of `bytes`. `is_wrong`: what stands there is none, or an overly long one; otherwise nullopt means
/// that more bytes are needed.
[[nodiscard]] std::optional<BusMessage> take_message(std::string_view& bytes, bool& is_wrong);
/// The value in a body that holds a variant of a string, boolean, number or time, as systemctl writes it.
[[nodiscard]] std::optional<std::string> value_in(std::string_view body);

}  // namespace gpustrap

#include "agent/protocol/event_line.h"

#include <charconv>
#include <cstdint>
#include <optional>
#include <system_error>
#include <utility>

#include <fmt/format.h>

#include "agent/base/eight_bytes.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

constexpr std::string_view kShort = "\b\t\n\f\r\"\\";
constexpr std::string_view kShortNames = "btnfr\"\\";

/// Of what stands for itself within a JSON text.
std::size_t plain_length(std::string_view text) {
  return length_until(
      text, [](std::uint64_t eight) { return any_below(eight, 0x20) | any_is(eight, '"') | any_is(eight, '\\'); },
      [](unsigned char c) { return c < 0x20 || c == '"' || c == '\\'; });
}

void append_text(std::string& line, std::string_view text) {
  line += '"';
  while (true) {
    const std::size_t plain = plain_length(text);
    line += text.substr(0, plain);
    text.remove_prefix(plain);
    if (text.empty()) break;
    const std::size_t known = kShort.find(text[0]);
    if (known != std::string_view::npos) {
      line += '\\';
      line += kShortNames[known];
    } else {
      line += fmt::format("\\u{:04x}", static_cast<unsigned char>(text[0]));
    }
    text.remove_prefix(1);
  }
  line += '"';
}

/// Reads the members of a line that this file wrote, in its order. Anything else, be it right or wrong, is left to the parser.
class OutputReader {
 public:
  explicit OutputReader(std::string_view line) : rest_(line) {}

  bool literal(std::string_view wanted) {
    if (!rest_.starts_with(wanted)) return false;
    rest_.remove_prefix(wanted.size());
    return true;
  }

  template <class Number> bool number(Number& into) {
    const auto [end, wrong] = std::from_chars(rest_.data(), rest_.data() + rest_.size(), into);
    if (wrong != std::errc() || *rest_.data() == '-' || *rest_.data() == '0') return false;
    rest_.remove_prefix(static_cast<std::size_t>(end - rest_.data()));
    return true;
  }

  bool text(std::string& into) {
    if (!literal("\"")) return false;
    into.reserve(rest_.size());
    while (true) {
      const std::size_t plain = plain_length(rest_);
      into += rest_.substr(0, plain);
      rest_.remove_prefix(plain);
      if (literal("\"")) return true;
      if (rest_.size() < 2 || rest_[0] != '\\') return false;
      const std::size_t known = kShortNames.find(rest_[1]);
      if (known == std::string_view::npos) return false;
      into += kShort[known];
      rest_.remove_prefix(2);
    }
  }

  [[nodiscard]] bool at_end() const { return rest_.empty(); }

 private:
  std::string_view rest_;
};

constexpr std::string_view kOutputHead = "{\"event\":\"step_output\",\"seq\":";

std::optional<Event> output_from(std::string_view line) {
  if (!line.starts_with(kOutputHead) || !is_utf8(line)) return std::nullopt;
  OutputReader read(line);
  Event event;
  StepOutput body;
  const bool is_whole = read.literal(kOutputHead) && read.number(event.seq) && read.literal(",\"time_ms\":") &&
                        read.number(event.time_ms) && read.literal(",\"step\":") && read.text(body.step) && read.literal(",\"stream\":") &&
                        read.text(body.stream) && read.literal(",\"text\":") && read.text(body.text) && read.literal("}") && read.at_end();
  if (!is_whole) return std::nullopt;
  event.body = std::move(body);
  return event;
}

}  // namespace

std::string to_line(const Event& event) {
  const auto* output = std::get_if<StepOutput>(&event.body);
  if (output == nullptr || !is_utf8(output->text) || !is_utf8(output->step) || !is_utf8(output->stream)) return to_line(to_json(event));
  std::string line = fmt::format("{}{},\"time_ms\":{},\"step\":", kOutputHead, event.seq, event.time_ms);
  line.reserve(line.size() + output->text.size() + output->text.size() / 16 + 100);
  append_text(line, output->step);
  line += ",\"stream\":";
  append_text(line, output->stream);
  line += ",\"text\":";
  append_text(line, output->text);
  line += "}\n";
  return line;
}

Result<AgentLine> agent_line_from(std::string_view line) {
  if (std::optional<Event> output = output_from(line)) return AgentLine(*std::move(output));
  Result<Json> document = parse_line(line);
  if (!document) return fail(std::move(document).error());
  return agent_line_from_json(*document);
}

}  // namespace gpustrap

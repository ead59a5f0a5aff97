#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/request.h"

// Whatever a peer sends is refused or understood, and what was understood can be written and read again.

namespace {

template <class Line> void write_again(const Line& line) {
  std::visit(
      [](const auto& body) {
        if constexpr (requires { gpustrap::to_json(body); }) {
          if (!gpustrap::parse_line(gpustrap::to_line(gpustrap::to_json(body)))) std::abort();
        }
      },
      line);
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string bytes(data, data + size);
  LineReader reader;
  reader.add(bytes);
  while (true) {
    const auto line = reader.next();
    if (!line || !*line) break;
    const auto document = parse_line(**line);
    const auto quick = agent_line_from(**line);
    const auto slow = document ? agent_line_from_json(*document) : Result<AgentLine>(fail(document.error()));
    if (quick.has_value() != slow.has_value()) std::abort();
    if (quick && std::holds_alternative<Event>(*quick) && to_line(std::get<Event>(*quick)) != to_line(to_json(std::get<Event>(*slow))))
      std::abort();
    if (!document) continue;
    if (const auto from_agent = agent_line_from_json(*document)) write_again(*from_agent);
    if (const auto from_controller = controller_line_from_json(*document)) write_again(*from_controller);
  }
  return 0;
}

#include "controller/json_printer.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/event_line.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {

JsonPrinter::JsonPrinter(Write events, Write messages) : events_(std::move(events)), messages_(std::move(messages)) {}

void JsonPrinter::event(const Event& event) { events_(to_line(event)); }

void JsonPrinter::connection_lost(const Error& why) { messages_(fmt::format("gpustrap: connection lost: {}\n", strip_control(why.why()))); }

void JsonPrinter::connection_back() { messages_("gpustrap: connected again\n"); }

void JsonPrinter::rewound(std::uint64_t seen, std::uint64_t to) {
  events_(to_line(Json{{"rewound", {{"to", to}}}}));
  messages_(fmt::format("gpustrap: the host lost the events {} to {} when it went down; others follow in their place\n", to + 1, seen));
}

void JsonPrinter::notice(std::string_view sentence) { messages_(fmt::format("gpustrap: {}\n", strip_control(sentence))); }

void JsonPrinter::ending(const Ending& ending) {
  if (ending.exit == ExitCode::detached)
    messages_(fmt::format("gpustrap: the run goes on on the host; to follow it: {}\n", strip_control(ending.again)));
  if (ending.notebook)
    messages_(fmt::format("gpustrap: {} (`gpustrap url` prints it with its token)\n", ending.notebook->url_without_token));
  if (!ending.not_proven.empty())
    messages_(fmt::format("gpustrap: all steps are done, but the notebook did not answer: {}\n", strip_control(ending.not_proven)));
}

}  // namespace gpustrap

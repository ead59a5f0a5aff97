#include "controller/removal_text.h"

#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/complaint.h"

namespace gpustrap {
namespace {

Json list_of(const Json& reply, const char* name) {
  const auto member = reply.find(name);
  return member != reply.end() && member->is_array() ? *member : Json::array();
}

}  // namespace

std::string removal_text(const Json& reply) {
  std::string text;
  for (const auto& [name, title] : {std::pair{"paths", "file or folder"}, std::pair{"units", "systemd unit"}}) {
    for (const Json& item : list_of(reply, name)) {
      if (item.is_string()) text += fmt::format("  {}  {}\n", title, strip_control(item.get<std::string>()));
    }
  }
  return text;
}

std::string run_of_reply(const Json& reply) {
  const auto run = reply.find("run");
  return run != reply.end() && run->is_string() ? strip_control(first_line(run->get<std::string>(), 80)) : "";
}

Json removal_document(const std::string& host, const Json& reply, bool removed) {
  return {{"remove", 1}, {"host", host}, {"removed", removed}, {"paths", list_of(reply, "paths")}, {"units", list_of(reply, "units")}};
}

std::string_view stop_text(bool now) { return now ? "stops now" : "stops after its current step"; }

Json cancel_document(const std::string& host, const Result<Json>& answer) {
  Json document = {{"cancel", 1}, {"host", host}};
  if (answer) {
    const std::string run = run_of_reply(*answer);
    document["run"] = run.empty() ? Json() : Json(run);
    return document;
  }
  document["error"] = error_document(answer.error());
  return document;
}

}  // namespace gpustrap

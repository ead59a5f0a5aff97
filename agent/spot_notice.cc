#include "agent/spot_notice.h"

#include <chrono>
#include <utility>

#include "agent/base/text.h"
#include "agent/http_transfer.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

/// It answers from the machine's own hypervisor, within milliseconds.
constexpr auto kAnswerLimit = std::chrono::seconds(2);
constexpr std::size_t kLongest = 40;

std::string text_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? first_line(strip_control(to_utf8(member->get<std::string>())), kLongest) : "";
}

}  // namespace

std::optional<std::string> Metadata::get(std::string_view path) {
  for (int attempt = 0; attempt < 2; ++attempt) {
    HttpQuestion question;
    question.limit = kAnswerLimit;
    if (token_.empty()) {
      question.method = "PUT";
      question.url = url_ + "/latest/api/token";
      question.headers = {"X-aws-ec2-metadata-token-ttl-seconds: 300"};
      const Result<HttpAnswer> answer = http_ask(question);
      if (!answer || answer->status != 200) return std::nullopt;
      token_ = first_line(strip_control(answer->body));
    }
    question.method = "GET";
    question.url = url_ + "/latest/" + std::string(path);
    question.headers = {"X-aws-ec2-metadata-token: " + token_};
    Result<HttpAnswer> answer = http_ask(question);
    if (answer && answer->status == 200) return std::move(answer->body);
    if (!answer || answer->status != 401) return std::nullopt;
    token_.clear();  // it has expired
  }
  return std::nullopt;
}

bool Metadata::is_spot() {
  const std::optional<std::string> life = get("meta-data/instance-life-cycle");
  return life && trim(*life) == "spot";
}

std::optional<SpotNotice> Metadata::notice() {
  if (const auto text = get("meta-data/spot/instance-action")) {
    if (std::optional<SpotNotice> notice = spot_action_in(*text)) return notice;
  }
  const auto text = get("meta-data/events/recommendations/rebalance");
  return text ? rebalance_in(*text) : std::nullopt;
}

std::optional<SpotNotice> spot_action_in(std::string_view text) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  SpotNotice notice{text_in(document, "action"), text_in(document, "time")};
  return notice.action.empty() ? std::nullopt : std::optional<SpotNotice>(std::move(notice));
}

std::optional<SpotNotice> rebalance_in(std::string_view text) {
  const Json document = Json::parse(text, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  SpotNotice notice{"", text_in(document, "noticeTime")};
  return notice.time.empty() ? std::nullopt : std::optional<SpotNotice>(std::move(notice));
}

std::string clock_of(std::string_view time) {
  const std::size_t t = time.find('T');
  const bool is_time = t == 10 && time.size() >= 16 && time[13] == ':' && time.ends_with('Z');
  return is_time ? std::string(time.substr(11, 5)) + " UTC" : std::string(time);
}

}  // namespace gpustrap

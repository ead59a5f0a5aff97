#pragma once

#include <chrono>
#include <deque>
#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "controller/cloud/aws_time.h"
#include "controller/cloud/http.h"

namespace gpustrap {

/// Answers in the order they were put in, and keeps what it was asked.
class FakeHttp : public Http {
 public:
  struct Log {
    std::vector<HttpRequest> requests;
    std::deque<Result<HttpResponse>> answers;
  };
  explicit FakeHttp(Log& log) : log_(log) {}

  Result<HttpResponse> send(const HttpRequest& request) override {
    log_.requests.push_back(request);
    if (log_.answers.empty()) return fail(ErrorCode::unreachable, "nobody answers");
    Result<HttpResponse> answer = std::move(log_.answers.front());
    log_.answers.pop_front();
    return answer;
  }

 private:
  Log& log_;
};

inline HttpResponse answer_of(int status, std::string body, HttpHeaders headers = {}) {
  return {status, std::move(headers), std::move(body)};
}

/// What EC2 says where it refuses.
inline HttpResponse refusal_of(int status, const std::string& code, const std::string& message, HttpHeaders headers = {}) {
  return {status, std::move(headers),
          "<Response><Errors><Error><Code>" + code + "</Code><Message>" + message +
              "</Message></Error></Errors><RequestID>r</RequestID></Response>"};
}

/// A clock that goes on only by waiting.
struct FakeTime {
  AwsTime now = *read_iso_time("2026-11-21T12:00:00Z");
  std::vector<std::chrono::milliseconds> pauses;
  std::function<void()> while_waiting;  ///< what happens elsewhere during each pause
  CloudClock clock() {
    return {[this] { return now; },
            [this](std::chrono::milliseconds time) {
              pauses.push_back(time);
              now += time;
              if (while_waiting) while_waiting();
            },
            [] { return 0.5; }};
  }
};

}  // namespace gpustrap

#include "controller/host_status.h"

#include <gmock/gmock.h>

#include <string>
#include <vector>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::EndsWith;
using ::testing::HasSubstr;
using ::testing::Not;
using ::testing::StartsWith;

constexpr std::int64_t kNow = 10'000'000;

const char* const kLook =
    "gpustrap-look 1\nkernel 6.8.0\nuptime 259500.5\nload 0.10 0.25 1.50 1/200 77\nmemory MemTotal: 16000000 kB\n"
    "memory MemAvailable: 8000000 kB\ncpus 8\ndisk 100000000 50000000 /\ndisk 200000000 4000000 /home\nservice state jupyter active\n"
    "service port jupyter open\ngpu 0, Tesla T4, 3000, 15360, 45, 580.65.06\nend\n";

Console plain_console() {
  Console console;
  console.write = [](std::string_view) {};
  return console;
}

FleetMember member(const std::string& name) {
  FleetMember member;
  member.name = name;
  member.options.host = name;
  member.options.user = "ubuntu";
  return member;
}

Json agent(const std::string& state, const std::string& end, const std::string& failed = "") {
  Json steps = Json::array();
  if (!failed.empty()) steps.push_back({{"step", failed}, {"outcome", "failed"}, {"reason", "no such package: \x1b[31mtorch"}});
  return {{"facts",
           {{"hostname", "gpu1"},
            {"os", "ubuntu"},
            {"os_version", "24.04"},
            {"uptime_s", 259500},
            {"kernel", "6.8.0"},
            {"driver", "580.65.06"},
            {"cpus", 8},
            {"memory", 16384000000}}},
          {"run",
           {{"run", "20260801-141503-7f3a"},
            {"recipe", "d2l"},
            {"state", state},
            {"end", end},
            {"since_ms", kNow - 65'000},
            {"step", state == "running" ? "pip" : ""},
            {"counts", {{"changed", 9}, {"unchanged", 2}}},
            {"steps", std::move(steps)}}},
          {"notebooks", Json::array({{{"service", "jupyter"}, {"port", 8888}}})}};
}

HostStatus status(const std::string& name, const Json& reply, const std::string& look = kLook) {
  // As it comes over the wire, where a number without a sign has none.
  return read_host_status(member(name), Result<Json>(Json{{"agent", Json::parse(reply.dump())}, {"trouble", ""}, {"look", look}}));
}

HostStatus silent(const std::string& name) {
  return read_host_status(member(name), fail(ErrorCode::unreachable, "connecting to 203.0.113.9: connection refused"));
}

TEST(HostStatus, TellsOneHost) {
  const std::string text = status_text(status("gpu1", agent("finished", "ok")), plain_console(), kNow);
  EXPECT_THAT(text, StartsWith("ubuntu@gpu1   Ubuntu 24.04\n"));
  for (const char* part :
       {"up 3d", "0.10 0.25 1.50 on 8 CPUs", "7.6 of 15.3 GiB memory free", "/: 47.7 of 95.4 GiB free; /home: 3.8 of",
        "driver    580.65.06", "Tesla T4, 2.9 of 15.0 GiB used, 45 % busy", "d2l done, started 1m05s ago: 9 changed, 2 unchanged",
        "jupyter active on the host's port 8888; open it with: gpustrap open ubuntu@gpu1", "http://localhost:8889/lab"})
    EXPECT_THAT(text, HasSubstr(part));
  for (const std::string& line : split(text, '\n')) EXPECT_LE(display_width(line), 110U) << line;
}

TEST(HostStatus, FitsANarrowTerminal) {
  Console console = plain_console();
  console.person = true;
  console.size = [] { return TerminalSize{60, 24}; };
  const std::string text = status_text(status("gpu1", agent("finished", "failed", "pip")), console, kNow);
  for (const std::string& line : split(text, '\n')) EXPECT_LT(display_width(line), 60U) << line;
  EXPECT_THAT(text, HasSubstr("\n            "));
}

TEST(HostStatus, TellsAFailedStepWithItsReasonAndNoEscapes) {
  const std::string text = status_text(status("gpu1", agent("finished", "failed", "pip")), plain_console(), kNow);
  EXPECT_THAT(text, HasSubstr("  failed    pip: no such package: torch\n"));
}

TEST(HostStatus, TellsAHostThatGpustrapHasNeverBeenOn) {
  const std::string text = status_text(status("gpu1", Json()), plain_console(), kNow);
  EXPECT_THAT(text, HasSubstr("gpustrap has never been on this host"));
  EXPECT_THAT(text, HasSubstr("on 8 CPUs"));
  EXPECT_THAT(text, HasSubstr("Tesla T4"));
}

TEST(HostStatus, StandsByWhatIsWrong) {
  EXPECT_EQ(standing_of(silent("a")), Standing::silent);
  EXPECT_EQ(standing_of(status("a", agent("finished", "failed"))), Standing::trouble);
  EXPECT_EQ(standing_of(status("a", agent("interrupted", ""))), Standing::trouble);
  EXPECT_EQ(standing_of(status("a", agent("running", ""))), Standing::running);
  EXPECT_EQ(standing_of(status("a", agent("finished", "ok"))), Standing::well);
  EXPECT_EQ(standing_of(status("a", Json())), Standing::well);
  EXPECT_EQ(standing_of(status("a", agent("finished", "ok"), "gpustrap-look 1\nservice state jupyter failed\n")), Standing::trouble);
  EXPECT_EQ(standing_of(status("a", agent("finished", "ok"), "gpustrap-look 1\ngpu No devices were found\n")), Standing::trouble);
}

TEST(HostStatus, TableFitsAndBeginsWithWhatIsWrong) {
  std::vector<HostStatus> hosts = {status("gpu1", agent("finished", "ok")),
                                   status("a-host-with-a-rather-long-name.lab.example.org", agent("running", "")), silent("gpu3"),
                                   status("gpu4", agent("finished", "failed", "pip")), status("gpu5", Json())};
  const std::vector<std::string> lines = status_table(hosts, plain_console(), 79, kNow);
  ASSERT_EQ(lines.size(), 6U);
  for (const std::string& line : lines) EXPECT_LE(display_width(line), 79U) << line;
  EXPECT_THAT(lines[0], StartsWith("host "));
  EXPECT_THAT(lines[1], StartsWith("gpu3 "));
  EXPECT_THAT(lines[1], HasSubstr("unreachable: connecting to 203"));
  EXPECT_THAT(lines[2], HasSubstr("d2l failed: pip"));
  EXPECT_THAT(lines[2], HasSubstr("T4 45%"));
  EXPECT_THAT(lines[2], HasSubstr("580.65.06  active"));
  EXPECT_THAT(lines[3], StartsWith("a-host"));
  EXPECT_THAT(lines[3], HasSubstr("d2l: pip"));
  EXPECT_THAT(lines[4], HasSubstr("d2l done, 1m05s"));
  EXPECT_THAT(lines[5], HasSubstr("never set up"));
  EXPECT_THAT(status_table(hosts, plain_console(), 0, kNow)[3], StartsWith("a-host-with-a-rather-long-name.lab.example.org  "));
}

TEST(HostStatus, TheTableTellsHowLongHostsAreIdleWhereOneStopsByItself) {
  HostStatus guarded = status("gpu1", agent("finished", "ok"));
  const HostStatus other = status("gpu2", agent("finished", "ok"));
  EXPECT_THAT(status_table({guarded, other}, plain_console(), 0, kNow)[0], EndsWith("up"));
  guarded.idle.emplace();
  guarded.idle->state = "quiet";
  guarded.idle->idle_for_s = 720;
  for (const std::size_t columns : {0U, 79U}) {
    const std::vector<std::string> lines = status_table({guarded, other}, plain_console(), columns, kNow);
    EXPECT_THAT(lines[0], EndsWith("  idle"));
    EXPECT_THAT(lines[1], EndsWith("  12m00s"));
    for (const std::string& line : lines) EXPECT_TRUE(columns == 0 || display_width(line) <= columns) << line;
  }
}

TEST(HostStatus, DocumentSaysWhatTheLinesSay) {
  const Result<Json> answer(Json{{"agent", Json::parse(agent("finished", "ok").dump())}, {"trouble", ""}, {"look", kLook}});
  const Json document = status_document(read_host_status(member("gpu1"), answer), answer);
  EXPECT_EQ(document["status"], 1);
  EXPECT_EQ(document["answers"], true);
  EXPECT_EQ(document["run"]["recipe"], "d2l");
  EXPECT_EQ(document["notebooks"][0]["url"], "http://localhost:8889/lab");
  EXPECT_EQ(document["machine"]["gpus"][0]["utilisation"], 45);
  EXPECT_EQ(document["machine"]["disks"][1]["path"], "/home");
  const Result<Json> none = fail(ErrorCode::host_key, "the key is another", "look at it");
  const Json refused = status_document(read_host_status(member("gpu1"), none), none);
  EXPECT_EQ(refused["answers"], false);
  EXPECT_EQ(refused["error"]["code"], "host_key");
  EXPECT_FALSE(refused.contains("facts"));
}

Json with_services(const std::string& services) {
  Json reply = agent("finished", "ok");
  reply["facts"]["systemd"] = true;
  reply["services"] = Json::parse(services);
  return reply;
}

TEST(HostStatus, TellsTheServicesOfTheRecipes) {
  const HostStatus host = status(
      "gpu1",
      with_services(
          R"([{"service":"jupyter","kind":"jupyter","port":8888,"wanted":"running","state":"active","sub":"running","since_ms":2800000,"restarts":1},
              {"service":"ray-head","kind":"service","port":6379,"wanted":"running","state":"active","sub":"running","since_ms":2800000,"restarts":0},
              {"service":"worker","kind":"service","wanted":"running","state":"failed","result":"exit-code","since_ms":9000000,"restarts":5},
              {"service":"old","kind":"service","wanted":"stopped","state":"inactive","since_ms":9000000},
              {"service":"gone","kind":"service","wanted":"running","state":"missing"}])"),
      std::string(kLook) + "service port ray-head open\n");
  const std::string text = status_text(host, plain_console(), kNow);
  EXPECT_THAT(text, HasSubstr("  notebook  jupyter active for 2h00m, restarted 1 time, on the host's port 8888; open it with"));
  EXPECT_THAT(text, HasSubstr("  service   ray-head active for 2h00m, port 6379 open\n"));
  EXPECT_THAT(text, HasSubstr("  service   worker failed for 16m40s (exit-code), restarted 5 times; what it said: "
                              "gpustrap ssh ubuntu@gpu1 sudo journalctl -u worker\n"));
  EXPECT_THAT(text, HasSubstr("  service   old inactive for 16m40s, as wanted\n"));
  EXPECT_THAT(text, HasSubstr("  service   gone is gone, and a run had set it up"));
  EXPECT_THAT(text, Not(HasSubstr("service   jupyter")));
  EXPECT_EQ(standing_of(host), Standing::trouble);
  EXPECT_THAT(status_table({host}, plain_console(), 120, kNow)[1], HasSubstr("worker failed"));
}

TEST(HostStatus, ServicesThatAreWellAreCountedInTheTable) {
  const HostStatus host = status("gpu1", with_services(R"([{"service":"a","kind":"service","state":"active"},
                                                           {"service":"b","kind":"service","state":"activating","sub":"start"}])"));
  EXPECT_EQ(standing_of(host), Standing::well);
  EXPECT_THAT(status_table({host}, plain_console(), 120, kNow)[1], HasSubstr("2 well"));
  const HostStatus loops = status("gpu1", with_services(R"([{"service":"a","kind":"service","state":"activating","sub":"auto-restart"}])"));
  EXPECT_EQ(standing_of(loops), Standing::trouble);
}

TEST(HostStatus, DocumentHasTheServices) {
  const Result<Json> answer(Json{
      {"agent", with_services(R"([{"service":"ray-head","kind":"service","port":6379,"wanted":"running","state":"active","sub":"running",
                                        "result":"success","since_ms":2800000,"restarts":2}])")},
      {"trouble", ""},
      {"look", std::string(kLook) + "service port ray-head closed\n"}});
  const Json document = status_document(read_host_status(member("gpu1"), answer), answer);
  EXPECT_EQ(document["services"],
            Json::parse(R"([{"service":"ray-head","kind":"service","wanted":"running","state":"active","sub":"running",
                                                   "result":"success","since_ms":2800000,"restarts":2,"port":6379,"listening":false}])"));
}

// All of it is a host's word.
TEST(HostStatus, TakesNothingAmiss) {
  for (const Json& reply : {Json::object(), Json{{"run", 5}, {"facts", "x"}, {"notebooks", 7}},
                            Json{{"run", {{"state", 1}, {"steps", {1, "a", {{"outcome", 5}}}}, {"counts", {{"a", "b"}}}}}},
                            Json{{"notebooks", {{{"port", 70000}}, {{"port", "x"}}, 5}}}, Json{{"services", 7}},
                            Json{{"services", {1, "a", {{"service", 5}}, {{"service", "\x1b[2J"}}, {{"port", 1}}}}},
                            Json{{"run", {{"waiting_for_secrets", {{"\x1b[2J", 1}}}, {"state", "running"}}}}}) {
    const HostStatus host = status("gpu1", reply);
    EXPECT_THAT(status_text(host, plain_console(), kNow), Not(HasSubstr("\x1b")));
    EXPECT_EQ(host.notebooks.size(), 0U);
    EXPECT_EQ(host.services.size(), 0U);
    EXPECT_EQ(status_table({host}, plain_console(), 79, kNow).size(), 2U);
  }
}

}  // namespace
}  // namespace gpustrap

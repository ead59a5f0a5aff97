#include "agent/service_states.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

KeptService service(const std::string& name, std::uint16_t port = 0) { return {name, "service", port, true, false}; }

TEST(ServiceStates, AreReadOffWhatSystemctlShows) {
  const Json states = service_states_in(
      "LoadState=loaded\nActiveState=active\nSubState=running\nResult=success\nNRestarts=2\n"
      "ActiveEnterTimestamp=Sat 2026-11-21 09:00:00 UTC\nInactiveEnterTimestamp=Sat 2026-11-21 08:59:58 UTC\n"
      "\n"
      "LoadState=loaded\nActiveState=failed\nSubState=failed\nResult=exit-code\nNRestarts=5\n"
      "ActiveEnterTimestamp=\nInactiveEnterTimestamp=Sat 2026-11-21 10:00:00 UTC\n",
      {service("ray-head", 6379), service("worker")});
  ASSERT_EQ(states.size(), 2U);
  EXPECT_EQ(states[0],
            Json::parse(R"({"service":"ray-head","kind":"service","port":6379,"wanted":"running","state":"active","sub":"running",
                                       "result":"success","since_ms":1795251600000,"restarts":2})"));
  EXPECT_EQ(states[1].at("state"), "failed");
  EXPECT_EQ(states[1].at("result"), "exit-code");
  EXPECT_EQ(states[1].at("since_ms"), 1795255200000);
  EXPECT_EQ(states[1].at("restarts"), 5);
}

TEST(ServiceStates, OneThatIsGoneIsToldOfOnlyWhereTheNewestRunHasLeftItThere) {
  KeptService left = service("left");
  left.was_there = true;
  const Json states = service_states_in("LoadState=not-found\nActiveState=inactive\n\nLoadState=not-found\nActiveState=inactive\n",
                                        {service("of-old"), left});
  ASSERT_EQ(states.size(), 1U);
  EXPECT_EQ(states[0], Json::parse(R"({"service":"left","kind":"service","wanted":"running","state":"missing"})"));
}

TEST(ServiceStates, WhatOldSystemdsDoNotCountIsLeftOut) {
  const Json states = service_states_in("LoadState=loaded\nActiveState=inactive\nSubState=dead\n", {service("web")});
  ASSERT_EQ(states.size(), 1U);
  EXPECT_FALSE(states[0].contains("restarts"));
  EXPECT_FALSE(states[0].contains("since_ms"));
}

TEST(ServiceStates, OfNothingIsNothing) {
  EXPECT_EQ(service_states_in("", {}), Json::array());
  EXPECT_EQ(service_states_in("", {service("web")}), Json::array());
  EXPECT_EQ(service_states({"/nowhere", "/nowhere"}, {}, true), Json::array());
}

}  // namespace
}  // namespace gpustrap

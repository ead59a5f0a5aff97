#include "agent/systemd_bus.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <functional>
#include <string>
#include <thread>
#include <utility>
#include <vector>

#include "agent/base/file.h"
#include "agent/base/unique_fd.h"
#include "tests/support/folders.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

const std::vector<std::string> kAsked = {"LoadState", "NeedDaemonReload", "UnitFileState",        "ActiveState", "SubState",
                                         "Type",      "Result",           "ActiveEnterTimestamp", "MainPID"};

/// What systemd 252 was asked, and what it answered.
std::string recorded(const std::string& name) { return *read_file(source_folder() + "/tests/golden/systemd/" + name, 1U << 20U); }

/// In systemd's place: takes one connection, reads `questions` bytes, and writes the answers, so many bytes at a time.
class StandInManager {
 public:
  StandInManager(std::size_t questions, std::string answers, std::size_t piece) {
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    std::memcpy(address.sun_path, path().c_str(), path().size() + 1);
    listener_ = UniqueFd(::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    EXPECT_EQ(::bind(listener_.get(), reinterpret_cast<const sockaddr*>(&address), sizeof address), 0);
    EXPECT_EQ(::listen(listener_.get(), 1), 0);
    thread_ = std::thread([this, questions, answers = std::move(answers), piece] {
      const UniqueFd connection(::accept(listener_.get(), nullptr, nullptr));
      std::array<char, 4096> buffer{};
      while (heard_.size() < questions) {
        const ssize_t got = ::read(connection.get(), buffer.data(), buffer.size());
        if (got <= 0) return;
        heard_.append(buffer.data(), static_cast<std::size_t>(got));
      }
      for (std::size_t at = 0; at < answers.size(); at += piece) {
        const std::size_t size = std::min(piece, answers.size() - at);
        if (::send(connection.get(), answers.data() + at, size, MSG_NOSIGNAL) < 0) return;
      }
    });
  }
  ~StandInManager() { end(); }
  void end() {
    if (thread_.joinable()) thread_.join();
  }
  [[nodiscard]] std::string path() const { return folder_ / "private"; }
  [[nodiscard]] const std::string& heard() const { return heard_; }

 private:
  TemporaryDirectory folder_;
  UniqueFd listener_;
  std::string heard_;
  std::thread thread_;
};

TEST(SystemdBus, AsksAndReadsAsSystemdWasSeenToTakeAndAnswer) {
  for (const std::size_t piece : {std::size_t{1}, std::size_t{7}, std::size_t{4096}}) {
    StandInManager manager(recorded("questions").size(), recorded("answers"), piece);
    EXPECT_EQ(show_unit("ssh.service", kAsked, manager.path()).value_or("nothing"),
              "LoadState=loaded\nNeedDaemonReload=no\nUnitFileState=enabled\nActiveState=active\nSubState=running\nType=notify\n"
              "Result=success\nActiveEnterTimestamp=Sun 2026-11-22 04:00:50 UTC\nMainPID=33\n");
    manager.end();
    EXPECT_EQ(manager.heard(), recorded("questions"));
  }
}

TEST(SystemdBus, NamesUnitsAsSystemdDoes) {
  EXPECT_EQ(unit_object("ssh.service"), "/org/freedesktop/systemd1/unit/ssh_2eservice");
  EXPECT_EQ(unit_object("0a0-b@c.service"), "/org/freedesktop/systemd1/unit/_30a0_2db_40c_2eservice");
}

TEST(SystemdBus, LeavesItToSystemctlWhereItIsNotAnsweredAsExpected) {
  const std::string answers = recorded("answers");
  const std::size_t questions = recorded("questions").size();
  const std::size_t first = answers.find("\r\n") + 2;
  const auto with = [&](std::size_t at, char byte) {
    std::string changed = answers;
    changed[first + at] = byte;
    return changed;
  };
  const std::vector<std::pair<std::string, std::string>> bad = {
      {"not let in", "REJECTED EXTERNAL\r\n"},    {"cut", answers.substr(0, answers.size() - 1)}, {"nothing", ""},
      {"the other order of bytes", with(0, 'B')}, {"an error", with(1, BusMessage::error)},       {"endless", with(7, 0x7f)},
  };
  for (const auto& [what, said] : bad) {
    StandInManager manager(questions, said, 4096);
    EXPECT_FALSE(show_unit("ssh.service", kAsked, manager.path()).has_value()) << what;
  }
  EXPECT_FALSE(show_unit("ssh.service", {"LoadState"}, "/nowhere/private").has_value());
  EXPECT_FALSE(show_unit("ssh.service", {"Environment"}, "/nowhere/private").has_value());
}

TEST(SystemdBus, SignalsInBetweenArePassedOver) {
  const std::string answers = recorded("answers");
  const std::size_t first = answers.find("\r\n") + 2;
  std::string signal = get_property(1, "/org/freedesktop/systemd1", "org.freedesktop.systemd1.Manager", "UnitNew");
  signal[1] = BusMessage::signal;
  StandInManager manager(recorded("questions").size(), answers.substr(0, first) + signal + answers.substr(first), 4096);
  EXPECT_TRUE(show_unit("ssh.service", kAsked, manager.path()).has_value());
}

TEST(SystemdBus, AUnitThatWasNeverActiveHasNoTime) {
  EXPECT_EQ(value_in(std::string_view("\1t\0\0\0\0\0\0\0\0\0\0\0\0\0\0", 16)).value_or("nothing"), "");
  EXPECT_FALSE(value_in(std::string_view("\1t\0\0\0\0\0\0", 8)).has_value());
  EXPECT_FALSE(value_in(std::string_view("\1s\0\0\x10\0\0\0short", 13)).has_value());
  EXPECT_FALSE(value_in("").has_value());
}

}  // namespace
}  // namespace gpustrap

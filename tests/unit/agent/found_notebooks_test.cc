#include "agent/found_notebooks.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>

#include "agent/idle_signs.h"
#include "agent/notebook_use.h"
#include "tests/support/fake_host.h"
#include "tests/support/temporary_directory.h"

namespace gpustrap {
namespace {

using ::testing::ElementsAre;
using ::testing::IsEmpty;
using ::testing::SizeIs;

/// As jupyter_server 2 writes it.
std::string server(const std::string& port, const std::string& more = "", int pid = ::getpid()) {
  return "{\"base_url\": \"/\", \"hostname\": \"localhost\", \"password\": false, \"pid\": " + std::to_string(pid) + ", \"port\": " + port +
         ", \"root_dir\": \"/home/u/work\", \"secure\": false, \"sock\": \"\", \"token\": \"5f3c\", \"url\": \"http://localhost:8890/\", "
         "\"version\": \"2.14.0\"" +
         more + "}";
}

TEST(FoundNotebooks, AreReadAsTheyAreWritten) {
  const std::optional<FoundNotebook> found = found_notebook_in(server("8890"));
  ASSERT_TRUE(found);
  EXPECT_EQ(found->pid, ::getpid());
  EXPECT_EQ(found->port, 8890);
  EXPECT_EQ(found->address + found->base + found->token, "127.0.0.1/5f3c");
  EXPECT_EQ(found->dir, "/home/u/work");
  EXPECT_FALSE(found->tls);
  const std::optional<FoundNotebook> old =
      found_notebook_in(R"({"base_url":"/user/a@b","hostname":"::1","notebook_dir":"/srv","pid":7,"port":9999,"secure":true,"token":""})");
  ASSERT_TRUE(old);
  EXPECT_EQ(old->address + old->base + old->token, "[::1]/user/a@b/");
  EXPECT_EQ(old->dir, "/srv");
  EXPECT_TRUE(old->tls);
}

TEST(FoundNotebooks, AreAskedOverTheLoopbackAlone) {
  const auto address = [](const std::string& hostname) {
    const std::optional<FoundNotebook> found = found_notebook_in(R"({"pid":7,"port":8890,"base_url":"/","hostname":")" + hostname + "\"}");
    return found ? found->address : "none";
  };
  for (const char* here : {"", "localhost", "127.0.0.1", "0.0.0.0", "::", "*"}) EXPECT_EQ(address(here), "127.0.0.1") << here;
  EXPECT_EQ(address("::1"), "[::1]");
  for (const char* elsewhere : {"172.31.4.7", "lab.example", "localhost.evil.example", "169.254.169.254", "2001:db8::1"})
    EXPECT_EQ(address(elsewhere), "none") << elsewhere;
}

TEST(FoundNotebooks, NothingInThemBecomesMoreThanAPathAndAToken) {
  for (const char* bad :
       {"", "[]", "{", "{}", R"({"pid":7,"port":0,"base_url":"/"})", R"({"pid":7,"port":70000,"base_url":"/"})",
        R"({"pid":7,"port":"8890","base_url":"/"})", R"({"pid":0,"port":8890,"base_url":"/"})", R"({"pid":7,"port":8890,"base_url":"x/"})",
        R"({"pid":7,"port":8890,"base_url":"/a?b=/"})", R"({"pid":7,"port":8890,"base_url":"/a b/"})",
        R"({"pid":7,"port":8890,"base_url":"/a\u0000/"})", R"({"pid":7,"port":8890,"base_url":"/","token":"a\r\nHost: x"})",
        R"({"pid":99999999999,"port":8890,"base_url":"/"})"})
    EXPECT_FALSE(found_notebook_in(bad)) << bad;
  EXPECT_EQ(found_notebook_in(R"({"pid":7,"port":8890,"base_url":"/","root_dir":"work"})")->dir, "") << "relative to what is not known";
}

class RuntimeFolder : public ::testing::Test {
 protected:
  std::string put(const std::string& name, const std::string& text) {
    const std::string path = folder_ / name;
    std::ofstream(path) << text;
    return path;
  }
  std::vector<int> ports(uid_t user = ::getuid()) {
    std::vector<int> all;
    for (const FoundNotebook& one : found_notebooks_in(folder_.path(), user)) all.push_back(one.port);
    return all;
  }
  static std::string mine(const std::string& kind = "jpserver-") { return kind + std::to_string(::getpid()) + ".json"; }
  TemporaryDirectory folder_;
};

TEST_F(RuntimeFolder, HoldsServersThatLive) {
  put(mine(), server("8890"));
  put(mine("nbserver-"), server("8890"));
  put("jpserver-4194303.json", server("8891", "", 4194303));
  put("jpserver-x.json", server("8892"));
  put("kernel-" + std::to_string(::getpid()) + ".json", server("8893"));
  put("jpserver-" + std::to_string(::getppid()) + ".json", server("8894"));
  EXPECT_THAT(ports(), ElementsAre(8890)) << "each once; no dead ones, no other files, none that names another process";
  EXPECT_THAT(found_notebooks_in(folder_ / "none", ::getuid()), IsEmpty());
}

TEST_F(RuntimeFolder, WhatIsNotTheUsersOwnPlainFileIsNotRead) {
  const std::string path = put(mine(), server("8890"));
  EXPECT_THAT(ports(::getuid() + 1), IsEmpty());
  std::filesystem::rename(path, folder_ / "elsewhere");
  std::filesystem::create_symlink(folder_ / "elsewhere", path);
  EXPECT_THAT(ports(), IsEmpty());
  std::filesystem::remove(path);
  ASSERT_EQ(::mkfifo(path.c_str(), 0600), 0);
  EXPECT_THAT(ports(), IsEmpty()) << "and it is not waited for";
  std::filesystem::remove(path);
  put(mine(), server("8890", ", \"x\": \"" + std::string(70U << 10U, 'x') + "\""));
  EXPECT_THAT(ports(), IsEmpty()) << "longer than any such file";
}

const std::string kHead = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n";
std::string socket_line(const std::string& address, const std::string& state, unsigned uid) {
  return "   0: " + address + " 00000000:0000 " + state + " 00000000:00000000 00:00000000 00000000  " + std::to_string(uid) +
         "        0 12345 1 0000000000000000 100 0 0 10 0\n";
}

TEST(ListeningPeople, ArePeopleAndRoot) {
  const std::string table = kHead + socket_line("0100007F:22B8", "0A", 1000) + socket_line("0100007F:22B9", "0A", 1000) +
                            socket_line("00000000:0016", "0A", 0) + socket_line("0100007F:1538", "0A", 114) +
                            socket_line("0100007F:22BA", "01", 1001) + socket_line("0100007F:22BB", "0A", 65534);
  EXPECT_THAT(listening_people(table), ElementsAre(1000U, 0U)) << "no service's own user, nobody who only talks";
  EXPECT_THAT(listening_people("nothing of the kind\n\n"), IsEmpty());
}

TEST(ListeningPeople, TellTheirTokenToNobodyElse) {
  FakeHost host;
  host.put("/proc/net/tcp", kHead + socket_line("0100007F:22BA", "0A", 1000));
  EXPECT_TRUE(is_port_of(host, 8890, 1000));
  EXPECT_FALSE(is_port_of(host, 8890, 1001));
  EXPECT_FALSE(is_port_of(host, 8891, 1000));
  host.put("/proc/net/tcp6", kHead + socket_line("00000000000000000000000001000000:22BA", "0A", 1001));
  EXPECT_FALSE(is_port_of(host, 8890, 1000)) << "somebody else listens there on another address";
}

TEST(NotebookUse, OfSeveralServersSaysWhichByThePort) {
  IdleSample sample;
  add_notebook_use(R"({"port":8890,"kernels":[{"id":"3f2a","execution_state":"busy","last_activity":"t"}],)"
                   R"("sessions":[{"path":"train.ipynb","kernel":{"id":"3f2a"}}],"files":{"train.ipynb":7}})",
                   sample);
  ASSERT_THAT(sample.now, SizeIs(1));
  EXPECT_EQ(sample.now[0].text, "train.ipynb (port 8890) computes");
  ASSERT_THAT(sample.marks, SizeIs(2));
  EXPECT_EQ(sample.marks[1].sign.text, "train.ipynb (port 8890) was saved");
}

}  // namespace
}  // namespace gpustrap

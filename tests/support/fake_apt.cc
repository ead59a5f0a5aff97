#include "tests/support/fake_apt.h"

#include <algorithm>
#include <vector>

#include "agent/base/text.h"
#include "agent/steps/apt_sources.h"

namespace gpustrap {
namespace {

constexpr const char* kStatus = "/var/lib/dpkg/status";

CommandResult fake_apt_get(FakeHost& host, const Command& command) {
  const std::string said = join(command.argv, " ");
  if (said.ends_with(" update")) {
    for (const std::string& word : command.argv) {
      if (!word.starts_with("Dir::Etc::sourcelist=")) continue;
      for (const std::string& line : split(host.content(word.substr(21)), '\n')) {
        if (line.starts_with("URIs: ")) host.put("/var/lib/apt/lists/" + list_name_prefix(line.substr(6)) + "InRelease", "");
      }
    }
    return {};
  }
  const std::vector<std::string> deb = split(host.content(command.argv.back()), ':');
  if (deb.size() != 4) return {100, "", "E: Invalid archive\n"};
  std::string status = host.content(kStatus);
  if (const std::size_t old = status.find("Package: " + deb[1] + "\n"); old != std::string::npos)
    status.erase(old, status.find("\n\n", old) + 2 - old);
  host.put(kStatus, status + dpkg_stanza(deb[1], deb[2]));
  return {};
}

}  // namespace

std::string dpkg_stanza(const std::string& name, const std::string& version, const std::string& status) {
  return "Package: " + name + "\nStatus: " + status + "\nArchitecture: amd64\nVersion: " + version + "\nDescription: x\n more\n\n";
}

std::string fake_deb(const std::string& package, const std::string& version, const std::string& architecture) {
  return "deb:" + package + ":" + version + ":" + architecture;
}

FakeHost host_with_dpkg(const std::string& status) {
  FakeHost host({{kStatus, status}, {"/etc/apt/sources.list", "deb http://deb.example.org/debian bookworm main\n"}});
  host.put_directory("/var/lib/apt/lists");
  host.put_directory("/etc/apt/sources.list.d");
  host.put_directory("/etc/apt/preferences.d");
  host.on({"apt-get"}, fake_apt_get);
  // Asked what it would download, it installs nothing.
  host.answer({"apt-get", "-q", "-y", "-o", "Debug::NoLocking=1", "-o", "Acquire::ForceHash=SHA256", "--print-uris"}, {});
  host.on({"dpkg-deb", "-f"}, [](FakeHost& fake, const Command& command) -> CommandResult {
    const std::vector<std::string> deb = split(fake.content(command.argv[2]), ':');
    if (deb.size() != 4 || deb[0] != "deb") return {2, "", "dpkg-deb: error: '" + command.argv[2] + "' is not a Debian format archive\n"};
    return {0, "Package: " + deb[1] + "\nVersion: " + deb[2] + "\nArchitecture: " + deb[3] + "\n", ""};
  });
  host.on({"dpkg", "--compare-versions"}, [](FakeHost&, const Command& command) {
    return CommandResult{command.argv[2] > command.argv[4] ? 0 : 1, "", ""};
  });
  host.answer({"dpkg", "--print-architecture"}, {0, "amd64\n", ""});
  host.answer({"dpkg", "--print-foreign-architectures"}, {0, "", ""});
  return host;
}

}  // namespace gpustrap

#include "agent/found_notebooks.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <chrono>
#include <memory>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"
#include "agent/identity.h"
#include "agent/notebook_use.h"
#include "agent/protocol/json.h"

namespace gpustrap {
namespace {

using Clock = std::chrono::steady_clock;

constexpr auto kAllWithin = std::chrono::seconds(15), kAnswerLimit = std::chrono::seconds(2);
constexpr std::size_t kMostServers = 8, kMostPeople = 16, kMostEntries = 1000, kLargestFile = 64U << 10U;
/// People begin here on every distribution that gpustrap knows; from 65534 on are nobody and the passing users of services.
constexpr uid_t kFirstPerson = 1000, kBehindPeople = 65534;

std::string text_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_string() ? member->get<std::string>() : std::string();
}

std::int64_t number_in(const Json& object, const char* name) {
  const auto member = object.find(name);
  return member != object.end() && member->is_number_integer() ? member->get<std::int64_t>() : 0;
}

/// By which address of the loopback a server is reached that was told to listen there; empty: by none.
std::string address_for(std::string_view listens) {
  if (listens == "::1" || listens == "[::1]") return "[::1]";
  const bool everywhere = listens.empty() || listens == "0.0.0.0" || listens == "*" || listens == "::";
  return everywhere || listens == "localhost" || listens.starts_with("127.") ? "127.0.0.1" : "";
}

/// It becomes a part of an address: nothing that could end the path, or begin another.
bool is_path(std::string_view text) {
  return text.starts_with('/') && text.size() <= 200 && std::all_of(text.begin(), text.end(), [](char c) {
           return std::isalnum(static_cast<unsigned char>(c)) != 0 || std::string_view("/._~%@+-").find(c) != std::string_view::npos;
         });
}

/// It becomes a part of a header.
bool is_token(std::string_view text) {
  return text.size() <= 512 && std::all_of(text.begin(), text.end(), [](char c) { return c > ' ' && c < 127; });
}

/// The process in "jpserver-4711.json", or none.
std::optional<int> process_of(std::string_view name) {
  for (const std::string_view kind : {"jpserver-", "nbserver-"}) {
    if (!name.starts_with(kind) || !name.ends_with(".json")) continue;
    const std::string_view number = name.substr(kind.size(), name.size() - kind.size() - 5);
    int pid = 0;
    const auto [end, problem] = std::from_chars(number.data(), number.data() + number.size(), pid);
    if (problem == std::errc() && end == number.data() + number.size() && pid > 0) return pid;
  }
  return std::nullopt;
}

bool is_process_of(int pid, uid_t user) {
  struct stat info {};
  return ::stat(fmt::format("/proc/{}", pid).c_str(), &info) == 0 && info.st_uid == user;
}

std::optional<FoundNotebook> read_found(const std::string& path, uid_t user) {
  const UniqueFd file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));  // not blocked by a pipe that nobody writes to
  struct stat info {};
  if (!file.valid() || ::fstat(file.get(), &info) != 0 || !S_ISREG(info.st_mode) || info.st_uid != user) return std::nullopt;
  const Result<std::string> text = read_all(file.get(), kLargestFile);
  return text ? found_notebook_in(*text) : std::nullopt;
}

}  // namespace

std::optional<FoundNotebook> found_notebook_in(std::string_view text) {
  const Json said = Json::parse(text, nullptr, false);
  if (!said.is_object()) return std::nullopt;
  const std::int64_t pid = number_in(said, "pid"), port = number_in(said, "port");
  FoundNotebook found;
  found.address = address_for(text_in(said, "hostname"));
  found.base = text_in(said, "base_url");
  if (!found.base.ends_with('/')) found.base += '/';
  found.token = text_in(said, "token");
  found.dir = text_in(said, said.contains("root_dir") ? "root_dir" : "notebook_dir");
  if (!found.dir.starts_with('/')) found.dir.clear();
  const auto tls = said.find("secure");
  found.tls = tls != said.end() && tls->is_boolean() && tls->get<bool>();
  if (pid <= 0 || pid > 1 << 22 || port <= 0 || port > 65535 || found.address.empty() || !is_path(found.base) || !is_token(found.token))
    return std::nullopt;
  found.pid = static_cast<int>(pid);
  found.port = static_cast<std::uint16_t>(port);
  return found;
}

std::vector<FoundNotebook> found_notebooks_in(const std::string& folder, uid_t user) {
  std::vector<std::string> names;
  const std::unique_ptr<DIR, int (*)(DIR*)> open(::opendir(folder.c_str()), ::closedir);
  std::size_t seen = 0;
  while (const dirent* entry = open && ++seen <= kMostEntries ? ::readdir(open.get()) : nullptr) {
    // Files of servers that were killed stay for ever: only who lives counts.
    const std::optional<int> pid = process_of(entry->d_name);
    if (pid && is_process_of(*pid, user)) names.emplace_back(entry->d_name);
  }
  std::sort(names.begin(), names.end());
  std::vector<FoundNotebook> all;
  for (const std::string& name : names) {
    std::optional<FoundNotebook> one = read_found(folder + "/" + name, user);
    if (!one || one->pid != process_of(name)) continue;
    // A server of today leaves both files.
    const bool twice = std::any_of(all.begin(), all.end(), [&](const FoundNotebook& other) { return other.port == one->port; });
    if (!twice && all.size() < kMostServers) all.push_back(*std::move(one));
  }
  return all;
}

std::vector<uid_t> listening_people(std::string_view table) {
  std::vector<uid_t> people;
  for (const std::string& line : split(table, '\n')) {
    const std::vector<std::string> fields = words(line);
    if (fields.size() <= 9 || fields[3] != "0A") continue;  // LISTEN
    uid_t uid = 0;
    const auto [end, problem] = std::from_chars(fields[7].data(), fields[7].data() + fields[7].size(), uid);
    const bool is_person = problem == std::errc() && *end == '\0' && (uid == 0 || (uid >= kFirstPerson && uid < kBehindPeople));
    if (is_person && people.size() < kMostPeople && std::find(people.begin(), people.end(), uid) == people.end()) people.push_back(uid);
  }
  return people;
}

std::vector<std::string> ask_found_notebooks(const Host& host, const std::vector<NotebookService>& known) {
  const Clock::time_point until = Clock::now() + kAllWithin;
  const std::string table = host.read("/proc/net/tcp").value_or("") + "\n" + host.read("/proc/net/tcp6").value_or("");
  const auto is_known = [&](const FoundNotebook& one) {
    return std::any_of(known.begin(), known.end(), [&](const NotebookService& other) { return other.port == one.port; });
  };
  std::vector<std::string> answers;
  for (const uid_t uid : listening_people(table)) {
    const Result<Identity> user = identity_of_uid(uid);
    if (!user || Clock::now() >= until) continue;
    const std::string said = said_by(*user, [&] {
      std::string lines;
      for (const std::string& folder : {user->home + "/.local/share/jupyter/runtime", fmt::format("/run/user/{}/jupyter", uid)}) {
        for (const FoundNotebook& one : found_notebooks_in(folder, uid)) {
          if (is_known(one) || Clock::now() >= until || !is_port_of(host, one.port, uid)) continue;
          const NotebookDoor door{fmt::format("{}://{}:{}{}", one.tls ? "https" : "http", one.address, one.port, one.base), one.token,
                                  one.dir, kAnswerLimit, one.port};
          lines += said_at(door);
        }
      }
      return lines;
    });
    for (std::string& line : split(said, '\n')) {
      if (!line.empty()) answers.push_back(std::move(line));
    }
  }
  return answers;
}

}  // namespace gpustrap

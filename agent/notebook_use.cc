#include "agent/notebook_use.h"

#include <poll.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <chrono>
#include <functional>
#include <map>
#include <thread>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/http_transfer.h"
#include "agent/identity.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"

namespace gpustrap {
namespace {

constexpr auto kAnswerLimit = std::chrono::seconds(5), kWorkLimit = std::chrono::seconds(20);
constexpr std::size_t kMostKernels = 200, kMostBytes = 4U << 20U, kLongestName = 80;

Json list_at(const NotebookDoor& door, const char* what) {
  HttpQuestion question;
  question.url = door.url + "api/" + what;
  if (!door.token.empty()) question.headers = {"Authorization: token " + door.token};
  question.limit = door.limit;
  question.any_certificate = true;  // its own, mostly self-made; the port is known to be its user's
  const Result<HttpAnswer> answer = http_ask(question);
  if (!answer || answer->status != 200) return {};
  Json list = Json::parse(answer->body, nullptr, false);
  return list.is_array() ? list : Json();
}

std::string text_in(const Json& object, const char* name) {
  const auto member = object.is_object() ? object.find(name) : object.end();
  return member != object.end() && member->is_string() ? member->get<std::string>() : std::string();
}

std::string short_name(std::string_view text) { return first_line(strip_control(to_utf8(text)), kLongestName); }

}  // namespace

bool is_port_of(const Host& host, std::uint16_t port, uid_t user) {
  const std::string wanted = fmt::format(":{:04X}", port), uid = fmt::format("{}", user);
  bool is_theirs = false;
  for (const char* table : {"/proc/net/tcp", "/proc/net/tcp6"}) {
    const Result<std::string> text = host.read(table);
    for (const std::string& line : text ? split(*text, '\n') : std::vector<std::string>()) {
      const std::vector<std::string> fields = words(line);
      if (fields.size() <= 9 || !fields[1].ends_with(wanted) || fields[3] != "0A") continue;
      if (fields[7] != uid) return false;  // on another address of this machine, somebody else's
      is_theirs = true;
    }
  }
  return is_theirs;
}

std::string said_by(const Identity& user, const std::function<std::string()>& work) {
  Result<Pipe> pipe = make_pipe();
  if (!pipe) return {};
  const pid_t child = ::fork();
  if (child < 0) return {};
  if (child == 0) {
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (::geteuid() == 0 && user.uid != 0 && !become(user)) ::_exit(1);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);  // it is forgotten with the user
    ::_exit(write_all(pipe->write_end.get(), work()) ? 0 : 1);
  }
  pipe->write_end.reset();
  using Clock = std::chrono::steady_clock;
  const Clock::time_point deadline = Clock::now() + kWorkLimit;
  std::string said;
  bool ended = false;
  while (!ended && said.size() < kMostBytes) {
    const auto left = std::chrono::ceil<std::chrono::milliseconds>(deadline - Clock::now());
    pollfd entry{pipe->read_end.get(), POLLIN, 0};
    const int ready = left.count() <= 0 ? 0 : ::poll(&entry, 1, static_cast<int>(left.count()));
    if (ready == 0 || (ready < 0 && errno != EINTR)) break;
    std::array<char, 64U << 10U> buffer{};
    const ssize_t got = ready < 0 ? -1 : ::read(pipe->read_end.get(), buffer.data(), buffer.size());
    if (got > 0) said.append(buffer.data(), static_cast<std::size_t>(got));
    ended = got == 0;
  }
  if (!ended) ::kill(child, SIGKILL);
  int status = 0;
  // One that waits for a disk does not end by SIGKILL either; it is left behind.
  for (int pause = 0; pause < 100; ++pause) {
    const pid_t gone = ::waitpid(child, &status, WNOHANG);
    if (gone == child) return ended && status == 0 ? said : std::string();
    if (gone < 0 && errno != EINTR) return {};
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  }
  return {};
}

std::string said_at(const NotebookDoor& door) {
  Json answer = {{"kernels", list_at(door, "kernels")}, {"sessions", list_at(door, "sessions")}, {"port", door.port}};
  answer["files"] = Json::object();
  for (const Json& session : answer["sessions"]) {
    const std::string path = text_in(session, "path");
    struct stat info {};
    if (!door.dir.empty() && !path.empty() && answer["files"].size() < kMostKernels && ::stat((door.dir + "/" + path).c_str(), &info) == 0)
      answer["files"][path] = static_cast<std::int64_t>(info.st_mtim.tv_sec);
  }
  return to_line(answer);
}

std::string ask_notebook(const Host& host, const NotebookService& notebook) {
  if (!is_port_of(host, notebook.port, notebook.login.uid)) return {};
  return said_by(notebook.login, [&]() -> std::string {
    const Result<std::string> token = read_file(token_path(notebook.login.home, notebook.name), 4096);
    if (!token) return {};
    return said_at({fmt::format("{}://127.0.0.1:{}/", notebook.is_public ? "https" : "http", notebook.port), std::string(trim(*token)),
                    notebook.dir, kAnswerLimit, 0});
  });
}

void add_notebook_use(std::string_view answer, IdleSample& sample) {
  const Json said = Json::parse(answer, nullptr, false);
  if (!said.is_object()) return;
  const auto list = [&](const char* name) {
    const auto member = said.find(name);
    return member != said.end() && member->is_array() ? *member : Json::array();
  };
  const auto port = said.find("port");
  const bool one_of_many = port != said.end() && port->is_number_unsigned() && *port != 0U;
  const std::string where = one_of_many ? fmt::format(" (port {})", port->get<std::uint64_t>()) : "";
  std::map<std::string, std::string> notebook_of;  // by the kernel's id
  for (const Json& session : list("sessions")) {
    if (session.is_object() && session.contains("kernel")) notebook_of[text_in(session.at("kernel"), "id")] = text_in(session, "path");
  }
  std::size_t count = 0;
  for (const Json& kernel : list("kernels")) {
    if (++count > kMostKernels) break;
    const std::string id = text_in(kernel, "id");
    const auto known = notebook_of.find(id);
    const std::string called = known != notebook_of.end() && !known->second.empty() ? short_name(known->second)
                                                                                    : fmt::format("kernel {}", short_name(id).substr(0, 8));
    const std::string name = called + where;
    if (text_in(kernel, "execution_state") == "busy") sample.now.push_back({UseSign::Of::notebook, fmt::format("{} computes", name)});
    sample.marks.push_back({{UseSign::Of::notebook, fmt::format("{} was used", name)}, short_name(text_in(kernel, "last_activity"))});
  }
  const auto files = said.find("files");
  if (files == said.end() || !files->is_object()) return;
  for (const auto& [path, changed] : files->items()) {
    if (changed.is_number_integer())
      sample.marks.push_back({{UseSign::Of::notebook, fmt::format("{}{} was saved", short_name(path), where)},
                              fmt::format("{}", changed.get<std::int64_t>())});
  }
}

}  // namespace gpustrap

#include <fcntl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <memory>
#include <optional>
#include <string>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "controller/notebook_tunnel.h"
#include "controller/run_log.h"
#include "controller/verbs.h"

namespace gpustrap {
namespace {

constexpr std::uint16_t kUsualPort = 8889;

void print(int descriptor, const std::string& text) { static_cast<void>(write_all(descriptor, text).has_value()); }

/// The terminal has echoed ^C; the shell's prompt belongs on a line of its own.
void leave_ctrl_c_line() {
  if (::isatty(STDERR_FILENO) == 1) print(STDERR_FILENO, "\n");
}

/// Starts the desktop's opener on a file and forgets it: some stay as long as the browser does.
Result<void> open_in_browser(const std::string& file) {
  const pid_t child = ::fork();
  if (child < 0) return fail(errno_error(errno, "starting the browser"));
  if (child == 0) {
    if (::fork() != 0) ::_exit(0);
    ::setsid();
    const int null = ::open("/dev/null", O_RDWR);
    for (const int standard : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO}) ::dup2(null, standard);
    for (const char* opener : {"xdg-open", "open"}) ::execlp(opener, opener, file.c_str(), static_cast<char*>(nullptr));
    ::_exit(127);
  }
  int status = 0;
  while (::waitpid(child, &status, 0) < 0 && errno == EINTR) {}
  return {};
}

/// A page that only this user can read and that leads on: the token must not stand on a command line, where `ps` shows it to everyone.
Result<std::string> write_forwarding_page(const Notebook& notebook) {
  Result<std::string> state = state_directory();
  if (!state) return state;
  if (Result<void> made = make_directories(*state, 0700); !made) return fail(std::move(made).error());
  const std::string path = *state + "/open.html";
  const std::string page = fmt::format(
      "<!DOCTYPE html><meta charset=\"utf-8\"><meta http-equiv=\"refresh\" content=\"0; url={}\"><title>gpustrap</title>\n", notebook.url);
  if (Result<void> written = write_file_atomically(path, page, 0600); !written) return fail(std::move(written).error());
  return path;
}

Result<OpenNotebook> open_for(Conversation& talk, const Options& options) {
  Result<OpenNotebook> open = open_notebook(talk, options, std::nullopt);
  if (!open)
    return fail(std::move(open).error().with_hint(
        fmt::format("gpustrap status {} tells how the notebook's service fares", strip_control(options.destination()))));
  print(STDERR_FILENO, fmt::format("The notebook is at {}; Ctrl-C closes the tunnel, and the notebook keeps running.\n",
                                   open->notebook.url_without_token));
  return open;
}

/// The port that -L names, where it is not the notebook's or there is no notebook.
Result<std::optional<std::uint16_t>> other_port(Conversation& talk, const Options& options) {
  if (!options.forward || options.forward->remote == 0) return std::nullopt;
  const auto reply = talk.client().ask(TokenRequest{});
  if (!reply && reply.error().code() != ErrorCode::not_found) return fail(reply.error());
  if (reply) {
    const Result<NotebookToken> token = read_token(**reply);
    if (token && token->place.port == options.forward->remote) return std::nullopt;
  }
  return options.forward->remote;
}

/// Carries bytes to a port of the host's loopback; what answers there is the user's affair, and nothing is proven.
VerbResult carry_port(Conversation& talk, std::uint16_t local, std::uint16_t remote) {
  // The agent may have been asked over a kept connection; a tunnel needs one of its own.
  if (Result<void> connected = talk.access().connect(); !connected) return fail(std::move(connected).error());
  const Result<std::unique_ptr<Tunnel>> tunnel = Tunnel::open(talk.access().session(), remote, local);
  if (!tunnel) return fail(tunnel.error());
  print(STDERR_FILENO, fmt::format("localhost:{} leads to the host's own port {}; Ctrl-C closes the tunnel.\n", local, remote));
  VerbResult held = hold_tunnel(talk, **tunnel);
  leave_ctrl_c_line();
  return held;
}

}  // namespace

VerbResult verb_tunnel(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const Result<std::optional<std::uint16_t>> other = other_port(talk, options);
  if (!other) return fail(other.error());
  if (*other) return carry_port(talk, options.forward->local, **other);
  Result<OpenNotebook> open = open_for(talk, options);
  if (!open) return fail(std::move(open).error());
  if (::isatty(STDOUT_FILENO) == 1) print(STDOUT_FILENO, open->notebook.url + "\n");
  VerbResult held = hold_tunnel(talk, *open->tunnel);
  leave_ctrl_c_line();
  return held;
}

VerbResult verb_url(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  const auto reply = talk.client().ask(TokenRequest{});
  if (!reply) return fail(reply.error());
  const Result<NotebookToken> token = read_token(**reply);
  if (!token) return fail(token.error());
  const std::uint16_t port = options.forward ? options.forward->local : options.last_local_port != 0 ? options.last_local_port : kUsualPort;
  const std::string url = notebook_at(port, token->token, token->place.tls ? Transport::tls : Transport::plain).url;
  const Json document = {
      {"url", 1}, {"host", options.destination()}, {"service", token->place.service}, {"port", token->place.port}, {"address", url}};
  print(STDOUT_FILENO, options.json ? to_line(document) : url + "\n");
  return ExitCode::ok;
}

VerbResult verb_open(const Options& options) {
  Conversation talk(options, Rights::whatever, make_silent_status());
  Result<OpenNotebook> open = open_for(talk, options);
  if (!open) return fail(std::move(open).error());
  const Result<std::string> page = write_forwarding_page(open->notebook);
  if (!page) return fail(page.error());
  if (Result<void> started = open_in_browser(*page); !started) return fail(std::move(started).error());
  VerbResult held = hold_tunnel(talk, *open->tunnel);
  leave_ctrl_c_line();
  ::unlink(page->c_str());
  return held;
}

}  // namespace gpustrap

#include <sys/random.h>

#include <algorithm>
#include <array>
#include <chrono>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/steps/kinds.h"
#include "agent/steps/port_owner.h"
#include "agent/steps/public_notebook.h"
#include "agent/steps/systemd_unit.h"
#include "agent/token.h"

namespace gpustrap {
namespace {

/// A first start compiles its byte code and may build its front end; slow disks take most of this.
constexpr auto kStartLimit = std::chrono::seconds(120);
constexpr auto kPause = std::chrono::milliseconds(300);
constexpr int kOk = 200;
constexpr int kForbidden = 403;

bool is_token(std::string_view text) {
  return text.size() >= 32 && text.size() <= 128 &&
         text.find_first_not_of("0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ._-") == std::string_view::npos;
}

Result<std::string> make_token() {
  std::array<unsigned char, 16> bytes{};  // 128 bits; the address that carries it still fits into a line of a terminal
  if (::getrandom(bytes.data(), bytes.size(), 0) != static_cast<ssize_t>(bytes.size()))
    return fail(ErrorCode::io, "the kernel gave no random bytes");
  std::string token;
  for (const unsigned char byte : bytes) token += fmt::format("{:02x}", byte);
  return token;
}

class JupyterStep : public Step {
 public:
  explicit JupyterStep(JupyterSpec spec) : spec_(std::move(spec)), unit_(spec_.name), public_(spec_) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    Result<StepState> state = look(host);
    if (state) state->reason += SystemdUnit::caveat(host);
    if (state && spec_.is_public) state->reason = "open to the network: " + state->reason;
    return state;
  }

  Result<void> apply(Host& host, StepLog& log) override {
    const Result<std::string> program = server_program(host);
    if (!program) return fail(program.error());
    if (program->empty()) {
      return fail(ErrorCode::not_found, fmt::format("no Jupyter server is installed in {}", venv(host)),
                  fmt::format("add a step before this one: pip: {{ {}: {}, packages: [jupyterlab] }}", spec_.env.empty() ? "venv" : "env",
                              spec_.env.empty() ? spec_.venv.text : spec_.env));
    }
    if (Result<void> free = check_port_is_free(host); !free) return free;
    if (Result<void> kept = ensure_token(host); !kept) return kept;
    if (Result<void> made = host.as_login().make_directory(directory(host), {}); !made) return made;
    if (spec_.is_public) {
      log.say(fmt::format("the notebook will be open to the network on port {}, with TLS and a password", spec_.port.number));
      // An unfit password is refused before anything ends.
      if (const Result<PublicNotebook::Seen> fit = public_.look(host, ""); !fit) return fail(fit.error());
      // A server that went on with the old password, should this run end here, would look as if it had the new one.
      if (const Result<UnitState> own = unit_.state(host); own && own->active == "active") {
        if (Result<void> stopped = SystemdUnit::control(host, log, {"stop", unit_.service()}); !stopped) return stopped;
      }
      if (Result<void> prepared = public_.prepare(host, log); !prepared) return prepared;
    }
    if (Result<void> wrote = unit_.write(host, unit_text(host, *program)); !wrote) return wrote;
    for (const std::vector<std::string>& words :
         {std::vector<std::string>{"daemon-reload"}, {"enable", unit_.service()}, {"restart", unit_.service()}}) {
      if (Result<void> done = SystemdUnit::control(host, log, words); !done) return done;
    }
    return wait_until_it_answers(host, log);
  }

 private:
  [[nodiscard]] Result<StepState> look(const Host& host) const {
    const Result<std::string> program = server_program(host);
    if (!program) return fail(program.error());
    if (program->empty()) return StepState::unsatisfied(fmt::format("no Jupyter server is installed in {}", venv(host)));
    const Result<std::string> unit = host.read(unit_.path(host));
    if (!unit && unit.error().code() != ErrorCode::not_found) return fail(unit.error());
    if (!unit) return StepState::unsatisfied("the service does not exist");
    if (*unit != unit_text(host, *program)) return StepState::unsatisfied("the service's unit differs");
    const Result<bool> kept = unit_.is_kept_up(host);
    if (!kept) return fail(kept.error());
    if (!*kept) return StepState::unsatisfied(host.facts().systemd ? "the service is not started at boot" : "the service does not run");
    // Only what is our own server is shown the token: anybody may listen on a port that a server has left.
    const Result<UnitState> state = unit_.state(host);
    if (!state) return fail(state.error());
    if (state->active != "active") return StepState::unsatisfied(fmt::format("the service does not run ({})", state->active));
    if (state->reload_needed) return StepState::unsatisfied("systemd has not read the changed unit yet");
    if (unit_.runs_an_older_unit(host, *state)) return StepState::unsatisfied("the service still runs as its unit was before");
    const Result<std::string> token = read_token(host);
    if (!token) return fail(token.error());
    if (token->empty()) return StepState::unsatisfied("there is no token that only its user can read");
    if (spec_.is_public) {
      Result<PublicNotebook::Seen> seen = public_.look(host, *token);
      if (!seen) return fail(std::move(seen).error());
      if (!seen->trouble.empty()) return StepState::unsatisfied(std::move(seen->trouble));
      return StepState::satisfied(fmt::format("answers on port {} of all interfaces with TLS and a password, certificate SHA-256 {}",
                                              spec_.port.number, seen->fingerprint));
    }
    if (!answers(host, *token))
      return StepState::unsatisfied(fmt::format("nothing answers with its token on 127.0.0.1:{}", spec_.port.number));
    return StepState::satisfied(fmt::format("answers on 127.0.0.1:{}, and only with its token", spec_.port.number));
  }

  [[nodiscard]] std::string venv(const Host& host) const { return host.as_login().expand(environment_folder(spec_)); }
  [[nodiscard]] std::string directory(const Host& host) const { return host.as_login().expand(spec_.dir.text); }

  /// The server that is installed, JupyterLab first; empty where there is none.
  [[nodiscard]] Result<std::string> server_program(const Host& host) const {
    for (const char* name : {"jupyter-lab", "jupyter-notebook", "jupyter-server"}) {
      const std::string path = fmt::format("{}/bin/{}", venv(host), name);
      const Result<std::optional<FileInfo>> info = host.as_login().info(path);
      if (!info) return fail(info.error());
      if (*info) return path;
    }
    return std::string();
  }

  /// PATH only: a global LD_LIBRARY_PATH would shadow the libraries that wheels bring. The token is in a file that the server reads itself.
  [[nodiscard]] std::string unit_text(const Host& host, const std::string& program) const {
    const Identity& login = host.login();
    std::string text = fmt::format(
        "# Written by gpustrap; changes are overwritten by the next run.\n"
        "[Unit]\nDescription=Jupyter server of {}\nAfter=network.target\n\n"
        "[Service]\nUser={}\nWorkingDirectory={}\n",
        login.name, login.name, directory(host));
    text += fmt::format(
        "Environment={}\n",
        unit_word("PATH=" + venv(host) + "/bin:/usr/local/cuda/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"));
    text += fmt::format("Environment={}\n", unit_word("JUPYTER_TOKEN_FILE=" + token_path(login.home, spec_.name)));
    std::string tls;
    if (spec_.is_public) {
      text += fmt::format("Environment={}\n", unit_word("JUPYTER_CONFIG_PATH=" + public_.folder(host)));
      tls = fmt::format(" {} {}", unit_word("--ServerApp.certfile=" + public_.certificate(host)),
                        unit_word("--ServerApp.keyfile=" + public_.key(host)));
    }
    text += fmt::format("ExecStart={} --no-browser --ServerApp.ip={} --ServerApp.port={} --ServerApp.port_retries=0 {}{}{}\n",
                        unit_word(program), spec_.is_public ? "0.0.0.0" : "127.0.0.1", spec_.port.number,
                        unit_word("--ServerApp.root_dir=" + directory(host)), login.uid == 0 ? " --allow-root" : "", tls);
    return text + "Restart=on-failure\nRestartSec=5\n\n[Install]\nWantedBy=multi-user.target\n";
  }

  /// Empty where there is none that is fit: only its user's, and nothing but a token.
  [[nodiscard]] Result<std::string> read_token(const Host& host) const {
    const std::string path = token_path(host.login().home, spec_.name);
    const Result<std::optional<FileInfo>> info = host.as_login().info(path);
    if (!info) return fail(info.error());
    const bool fit = *info && (*info)->type == FileType::regular && ((*info)->mode & 077U) == 0 && (*info)->uid == host.login().uid;
    if (!fit) return std::string();
    Result<std::string> token = host.as_login().read(path);
    if (!token) return fail(std::move(token).error());
    return is_token(*token) ? *token : std::string();
  }

  Result<void> ensure_token(Host& host) const {
    const Result<std::string> there = read_token(host);
    if (!there) return fail(there.error());
    if (!there->empty()) return {};
    const std::string path = token_path(host.login().home, spec_.name);
    Result<std::string> token = make_token();
    if (!token) return fail(std::move(token).error());
    if (Result<void> made = host.as_login().make_directory(parent_of(path), {}); !made) return made;
    return host.as_login().write(path, *token, {0600, std::nullopt, std::nullopt});
  }

  /// With its token the server answers, and without it does not let in.
  [[nodiscard]] bool answers(const Host& host, const std::string& token) const {
    if (spec_.is_public) {
      if (!host.port_answers(spec_.port.number)) return false;
      const Result<PublicNotebook::Seen> seen = public_.look(host, token);
      return seen && seen->trouble.empty();
    }
    const Result<int> with = host.http_status(spec_.port.number, "/api/status?token=" + token);
    if (!with || *with != kOk) return false;
    const Result<int> without = host.http_status(spec_.port.number, "/api/status");
    return without && *without == kForbidden;
  }

  [[nodiscard]] Result<void> check_port_is_free(const Host& host) const {
    if (!host.port_answers(spec_.port.number)) return {};
    const Result<UnitState> own = unit_.state(host);
    if (own && own->active == "active") return {};  // our own, about to be restarted
    return fail(ErrorCode::busy, fmt::format("port {} is taken by {}", spec_.port.number, owner_of_port(host, spec_.port.number)),
                "stop that program, or choose another `port` in the recipe");
  }

  Result<void> wait_until_it_answers(Host& host, StepLog& log) const {
    const Result<std::string> token = read_token(host);
    if (!token) return fail(token.error());
    log.say(fmt::format("waiting for it to answer on 127.0.0.1:{}", spec_.port.number));
    for (std::chrono::milliseconds waited{0}; waited < kStartLimit; waited += kPause) {
      const Result<UnitState> state = unit_.state(host);
      const bool died = state && (state->active == "failed" || state->sub == "auto-restart");
      if (died) return fail(unit_.failure(host, "it ended right after its start"));
      if (state && state->active == "active" && answers(host, *token)) return {};
      host.pause(kPause);
    }
    return fail(unit_.failure(host, fmt::format("it did not answer within {}", human_duration(kStartLimit))));
  }

  JupyterSpec spec_;
  SystemdUnit unit_;
  PublicNotebook public_;
};

}  // namespace

std::unique_ptr<Step> make_jupyter_step(const StepSpec& spec) { return std::make_unique<JupyterStep>(std::get<JupyterSpec>(spec)); }

}  // namespace gpustrap

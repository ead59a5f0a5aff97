#include "controller/prompt.h"

#include <fcntl.h>
#include <signal.h>
#include <termios.h>
#include <unistd.h>

#include <cerrno>
#include <string_view>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/base/unique_fd.h"

namespace gpustrap {
namespace {

/// A terminal hands on no longer line.
constexpr std::size_t kLongestAnswer = 4096;

UniqueFd open_terminal() { return UniqueFd(::open("/dev/tty", O_RDWR | O_CLOEXEC | O_NOCTTY)); }

/// One line; nullopt at its end, or where a signal came in between.
std::optional<std::string> read_answer(int terminal) {
  std::string answer;
  char c = 0;
  while (true) {
    const ssize_t got = ::read(terminal, &c, 1);
    if (got <= 0) return std::nullopt;
    if (c == '\n') return answer;
    if (answer.size() < kLongestAnswer) answer += c;
  }
}

void ignore_signal(int) {}

/// No echo while it lives. The signals that would end the program are caught instead: they interrupt the read, and the echo comes back.
class Unseen {
 public:
  explicit Unseen(int terminal) : terminal_(terminal) {
    struct sigaction action {};
    action.sa_handler = ignore_signal;
    ::sigemptyset(&action.sa_mask);
    for (std::size_t i = 0; i < 3; ++i) ::sigaction(kSignals[i], &action, &before_[i]);
    known_ = ::tcgetattr(terminal_, &modes_) == 0;
    if (!known_) return;
    termios unseen = modes_;
    unseen.c_lflag &= ~static_cast<tcflag_t>(ECHO);
    unseen.c_lflag |= ECHONL;
    ::tcsetattr(terminal_, TCSAFLUSH, &unseen);
  }
  ~Unseen() {
    if (known_) ::tcsetattr(terminal_, TCSAFLUSH, &modes_);
    for (std::size_t i = 0; i < 3; ++i) ::sigaction(kSignals[i], &before_[i], nullptr);
  }
  Unseen(const Unseen&) = delete;
  Unseen& operator=(const Unseen&) = delete;

 private:
  static constexpr int kSignals[] = {SIGINT, SIGTERM, SIGHUP};
  int terminal_;
  termios modes_{};
  bool known_ = false;
  struct sigaction before_[3]{};
};

}  // namespace

bool can_ask() { return open_terminal().valid(); }

bool ask_yes_no(const std::string& question) {
  const UniqueFd terminal = open_terminal();
  if (!terminal.valid() || !write_all(terminal.get(), question + " [y/N] ")) return false;
  const std::optional<std::string> answer = read_answer(terminal.get());
  if (!answer) return false;
  const std::string_view word = trim(*answer);
  return word == "y" || word == "Y" || word == "yes" || word == "Yes" || word == "YES";
}

std::optional<std::string> ask_secret(const std::string& question) {
  const UniqueFd terminal = open_terminal();
  if (!terminal.valid()) return std::nullopt;
  const Unseen unseen(terminal.get());
  if (!write_all(terminal.get(), question)) return std::nullopt;
  return read_answer(terminal.get());
}

}  // namespace gpustrap

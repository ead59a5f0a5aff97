#include <algorithm>

#include "controller/lint.h"

namespace gpustrap {
namespace {

using enum Severity;

// An id is never given a new meaning, and never taken back: recipes name it.
const std::vector<LintRule> kRules = {
    // What the recipe does each time.
    {"recipe-error", error, "The recipe does not load.", "`up` and `plan` refuse it, and nothing is changed.",
     "correct the place that is named"},
    {"command-unguarded", warning, "A `command` without `creates` and `unless`.",
     "Nobody can tell whether it has been done: it runs at every `up`, and `plan` can only say that it would run.",
     "say `creates:` with a path that exists afterwards, or `unless:` with a command that only looks"},
    {"guard-acts", warning, "`unless` with a command that changes something.",
     "`plan` runs `unless` to look, and promises to change nothing.", "let `unless` only look: test, grep -q, dpkg -s, cmp"},
    {"guard-not-kept", warning, "`creates`, or a file that is fetched, below /tmp, /run or /dev/shm.",
     "It is gone after a restart of the host, and the step does its work again.",
     "choose a path that stays, such as one below ~ or /var/lib"},
    {"background-process", warning, "A command that leaves a program in the background (`&`, nohup, screen, tmux).",
     "It ends with the run or with the next restart, and nothing sees whether it still runs.",
     "use a `service` step, or `jupyter` for a notebook"},
    {"reboot-in-command", warning, "A command that restarts or stops the host.",
     "The run takes it for a crash: it cannot tell users, wait for dpkg, or know that the restart was meant.",
     "use the step `reboot: when_required` or `reboot: always`"},
    {"shell-state-lost", warning, "A `command` that only changes its own shell: cd, export, activate.",
     "Each step has a shell of its own, which ends with it: the next one knows nothing of it.",
     "say it where it is needed: `chdir:` or `env:` beside `run:`, or all of it in one `command`; `environment` is for logins"},
    {"shell-unclosed", error, "A quote, a here-document or a block such as `if` that has no end.",
     "The shell refuses all of the text, when the steps before it are done already.",
     "close it; between ' and ' an apostrophe ends the text, and the end of a here-document stands alone in its line"},
    {"not-expanded", error, "A variable, `~` or wildcard where nothing replaces it.",
     "It is taken as it stands: a folder called `$HOME`, a file called `*.so`.", "write the path itself, or `~/…` for the home"},
    // Where things come from.
    {"digest-missing", warning, "A download without `sha256`.",
     "What the server sends is taken as it is: another file, or somebody else's, is not noticed.",
     "add `sha256:`, as the publisher lists it or as `sha256sum` says of a copy that you trust"},
    {"url-unpinned", warning, "A URL that means another file tomorrow (`latest`, `master`, `main`, `HEAD`).",
     "Two hosts set up a week apart differ, and a digest stops fitting.", "name the version in the URL"},
    {"url-plain-http", warning, "A URL that begins with http://.",
     "Anybody on the way can read and replace what comes; an error where no digest would notice.",
     "write https://, which nearly every server speaks"},
    {"tls-unchecked", error, "A command that turns off the check of certificates.", "Anybody on the way can answer for the server.",
     "leave the option out; where a proxy has a certificate of its own, add its CA to the host's"},
    {"host-key-unchecked", warning, "`StrictHostKeyChecking no` or a known_hosts file of /dev/null.",
     "Anybody on the way can answer for the SSH server, and reads what is sent.",
     "add the server's key to known_hosts, or use `accept-new`"},
    {"pipe-to-shell", warning, "A download that goes straight into a shell or interpreter.",
     "What runs is whatever the server sends today, whole or cut off in the middle.",
     "fetch it with `download` and its `sha256`, then run the file in a `command`"},
    {"key-unpinned", error,
     "`apt-key` or /etc/apt/trusted.gpg.d, which trust a key for every repository, or `trusted=yes`, which asks for none.",
     "The key may sign packages of any repository, Debian's too; with none, whoever answers does. Debian 13 has no apt-key any more.",
     "use `apt_repository` with `key` and `sha256` or `fingerprint`"},
    {"repository-key-retired", error, "NVIDIA's signing key 7fa2af80, which was replaced in April 2022.",
     "apt answers NO_PUBKEY A4B469963BF863CC.", "use the steps `nvidia_driver` and `cuda`, which know the key of each release"},
    {"package-gone", warning, "A package that no longer exists, or is an empty shell.", "The install fails, or installs nothing.",
     "use what took its place"},
    {"pip-requirement", error, "A requirement that pip cannot read.", "The step fails on every host.",
     "one package for each item of the list: `name==1.2`"},
    {"file-twice", error, "Two `file` steps for one path that want different things of it.",
     "Each run undoes what the one before has done, and none is ever done.",
     "say it in one step, or give the two conditions that exclude each other"},
    {"script-folded", error, "A script whose lines were joined into one (`>` in YAML).",
     "The first line is a comment for the shell, and everything stands in it: nothing is done.", "write `|` in place of `>`"},
    // What the host becomes.
    {"path-overwritten", error, "PATH for every login, without what it was before.", "Logins find neither ls nor sudo any more.",
     "extend it: `PATH: { prepend: … }` in `environment`, or `PATH=/opt/tool/bin:$PATH` in a shell's file"},
    {"ld-library-path", warning, "LD_LIBRARY_PATH for every login.",
     "It comes before the libraries that wheels of PyTorch, TensorFlow and JAX bring along, which then fail in odd ways.",
     "leave it out: ld.so knows an installed toolkit; or set it in `env` of the one step or service that needs it"},
    {"jupyter-open", warning, "A notebook that listens beyond the host's loopback.",
     "Whoever reaches the port and has the token or password runs programs as you.",
     "leave the server on 127.0.0.1 and use the tunnel of `gpustrap up`"},
    {"jupyter-no-token", error, "A notebook server without token or password.", "Everybody who reaches the port runs programs as you.",
     "use the step `jupyter`, which makes a token"},
    {"secret-in-text", error, "A password, token or private key in plain text.",
     "It stays in the repository's history, in the run's log and in the recipe's copy on the host.",
     "declare it under `secrets:` and write `${{ secrets.NAME }}`; then change it, since it has been shown"},
    {"world-writable", warning, "A file or folder that every user may write to (mode 777, 666).",
     "Any program of any user on the host can replace what is in it.", "give it an owner, and a mode such as \"0755\" or \"0644\""},
    {"home-of-one-user", warning, "A path below /home/NAME or /root.", "The user is ubuntu on one image, ec2-user or admin on the next.",
     "write `~/…`, which is the home of who logs in"},
    {"shell-profile", warning, "A command that appends to ~/.bashrc, ~/.profile or /etc/profile.",
     "Every run that is not stopped by a guard adds the lines once more.",
     "use `environment` for variables, or `block`, which keeps marked lines"},
    // Steps that know better than a command.
    {"unit-malformed", error, "A systemd unit with a section that systemd does not know, or a service's without `[Service]`.",
     "systemd passes over the section: the service does not start, or starts without what stands there.", "correct the section's name"},
    {"sudo-in-command", warning, "`sudo` in a command.",
     "It may ask for a password, which nobody is there to type, and it hides from `plan` that the step needs root.",
     "write `as: root` (or `as: USER`) beside `command:`, and leave sudo out"},
    {"apt-interactive", warning, "apt-get that asks: no -y.", "It waits for an answer that nobody gives, and fails.",
     "use the step `apt`; in a command, `apt-get -y` with DEBIAN_FRONTEND=noninteractive"},
    {"command-asks", warning, "A command for somebody at a terminal: an editor, a pager, `passwd`, `read`, `docker run -it`.",
     "Nobody is there: it fails, or waits until the step's time is up.",
     "write files with `file` or `block`, and give passwords and answers as options or on standard input"},
    {"apt-in-command", note, "apt-get in a command.",
     "It does not wait for the locks that a fresh instance holds, and a rerun does it again.", "use the step `apt`"},
    {"pip-outside-environment", warning, "pip that installs into the system's Python.",
     "Debian 12 and Ubuntu 24.04 refuse it (externally-managed-environment), and older ones break their own tools.",
     "use `venv` or `conda_env`, and the step `pip`"},
    {"driver-by-package", warning, "An NVIDIA driver or the package `cuda` by `apt`.",
     "The package `cuda` brings a driver of its own, and a branch by name may not serve the GPU or the kernel.",
     "use `nvidia_driver` and `cuda`, which choose by GPU, kernel and release"},
    {"terms-accepted", note, "Anaconda's Terms of Service are accepted in the recipe.",
     "Whoever runs the recipe accepts them, perhaps without knowing.",
     "let a var say so, `accept_tos: \"${{ vars.accept_tos }}\"`, or use miniforge"},
    {"disruption-allowed", note, "`allow_disruption: true` in the recipe.", "The host restarts while others are logged in or compute.",
     "leave it out, and use `gpustrap up --allow-disruption` where it is meant"},
    {"idle-stop-short", warning, "`idle_stop` after less than ten minutes.",
     "Whoever reads, or goes for a coffee, comes back to a host that is off.", "choose 20m or more; 30m is usual"},
    {"budget-price-unsaid", note, "`idle_stop` with a `budget` and no `price`.",
     "gpustrap knows on-demand prices of EC2's GPU types, of one region and day; a spot instance costs less, and elsewhere the step fails.",
     "say what an hour costs: `price: 0.526 USD/h`"},
    // What the world no longer has.
    {"os-end-of-life", warning, "A release of Ubuntu or Debian that gets no security fixes any longer.",
     "Its archives move away, and drivers and CUDA are no longer made for it.", "ask for Ubuntu 22.04 or newer, or Debian 12 or newer"},
    {"os-unknown", error, "An operating system that does not exist.",
     "`require` fails on every host, and a step with such a `when` is skipped on every host.",
     "write its ID as /etc/os-release has it: `ubuntu`, `debian`"},
    {"gpu-retired", warning, "An EC2 instance type or a GPU that can no longer be rented.", "No host will ever match.",
     "g4dn (T4) is the oldest family that can be rented; `gpustrap recipe explain RECIPE --gpu t4` says what runs there"},
    {"cuda-driver-unknown", error, "A CUDA, a driver branch, or a pair of them that does not exist or does not run.",
     "The step fails on every host.", "`gpustrap recipe explain cuda --gpu GPU` says what runs; `auto` chooses"},
    // What the servers say that it names; only with --upstream.
    {"upstream-gone", error,
     "An address, a package's version or a channel that is not there any more, or an address that leads to one that is not encrypted "
     "(`--upstream`).",
     "The step fails on every host that does not have the file yet.", "name the address that the publisher gives today"},
    {"upstream-yanked", warning, "A Python package pinned to a version that its author has withdrawn (`--upstream`).",
     "pip still installs it, with a warning; there is mostly a reason not to want it.", "pin another version of it"},
    {"upstream-changed", error, "A file that has another digest than the recipe names (`--upstream-full`).",
     "The step refuses it on every host that does not have the file yet.",
     "look whether the publisher says that it was replaced, and name the new digest; else do not trust it"},
    {"upstream-key", error, "A repository's key that has expired, will soon, or is none (`--upstream`).",
     "apt takes nothing from that repository.", "name the publisher's present key, and its digest or fingerprint"},
    {"upstream-silent", warning, "A server that could not be asked, or gave no answer to go by (`--upstream`).",
     "Whether its file is still there is not known.", "ask again later; where it stays so, name another source or a mirror"},
    // How the recipe reads.
    {"var-unused", warning, "A var that nothing uses.", "`--var` of it is accepted and changes nothing.", "use it or remove it"},
    {"secret-unused", warning, "A secret that nothing uses.", "`up` asks for it all the same.", "use it or remove it"},
    {"description-missing", note, "A recipe without `description`.", "`gpustrap recipe list` has nothing to say of it.",
     "add a line: `description: …`"},
    {"review", note, "A comment `# review: …`.", "Somebody, or `gpustrap adopt`, left something to be looked at.",
     "look at it, then delete the comment"},
    {"pasted-character", warning, "A quote, space or dash as web pages and word processors make them.",
     "Shells, packages and paths take it for a letter like any other, and the two look the same.", "type it anew"},
    {"placeholder-form", warning, "`{{ vars.x }}`, `${ vars.x }` or `$vars.x`, which is no placeholder.",
     "It stays as it stands: a folder is called `{{ vars.x }}` then.", "write `${{ vars.x }}`"},
    // The ignores themselves.
    {"allow-unused", warning, "`# lint: allow RULE` where that rule finds nothing.", "It may hide something later.", "delete the comment"},
    {"allow-unexplained", warning, "`# lint: allow RULE` without a reason.",
     "Nobody knows later whether it still holds; what it is about is reported all the same.", "write why behind the rule's id"},
    {"allow-unknown", warning, "`# lint: allow` with a rule that does not exist.", "It ignores nothing.",
     "write the id as lint shows it in brackets"},
};

}  // namespace

std::string_view severity_name(Severity severity) { return severity == error ? "error" : severity == warning ? "warning" : "note"; }

const std::vector<LintRule>& lint_rules() { return kRules; }

const LintRule* find_lint_rule(std::string_view id) {
  const auto found = std::find_if(kRules.begin(), kRules.end(), [&](const LintRule& rule) { return rule.id == id; });
  return found == kRules.end() ? nullptr : &*found;
}

}  // namespace gpustrap

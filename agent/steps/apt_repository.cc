#include <algorithm>
#include <array>
#include <cctype>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/openpgp_key.h"
#include "agent/shown_url.h"
#include "agent/steps/apt_get.h"
#include "agent/steps/apt_lock.h"
#include "agent/steps/apt_sources.h"
#include "agent/steps/deb_package.h"
#include "agent/steps/dpkg_status.h"
#include "agent/steps/edited_file.h"
#include "agent/steps/kinds.h"
#include "agent/steps/state_paths.h"

// A repository is tried under another name before anything that apt reads is touched: one whose key or address is wrong would
// make every later apt-get on the host fail. The key is kept as it was downloaded, so that its digest on the host is the one that the
// recipe pins; apt reads armoured keys where their name ends in .asc.

namespace gpustrap {
namespace {

constexpr std::string_view kArmour = "-----BEGIN PGP PUBLIC KEY BLOCK-----";
/// apt and its key folders complain about files of other endings, but not about this one.
constexpr std::string_view kBackupEnding = ".save";

std::string host_of(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme != std::string_view::npos) url.remove_prefix(scheme + 3);
  url = url.substr(0, url.find('/'));
  return std::string(url.substr(0, url.rfind(':')));
}

class AptRepositoryStep : public Step {
 public:
  explicit AptRepositoryStep(AptRepositorySpec spec) : spec_(std::move(spec)) {}

  [[nodiscard]] Result<StepState> check(const Host& host) const override {
    const Result<DpkgStatus> status = DpkgStatus::read(host);
    if (!status) return fail(status.error());
    std::vector<std::string> reasons;
    std::string changes;
    const Result<std::string> keyring = keyring_in_place(host, reasons);
    if (!keyring) return fail(keyring.error());
    const Result<EditedFile> source = look_at_file(source_path(), host);
    if (!source) return fail(source.error());
    if (!source->info) {
      reasons.push_back(source->path + " does not exist");
    } else if (!keyring->empty() && source->content != source_text(*keyring)) {
      const StepState differs = content_differs(*source, source_text(*keyring), std::nullopt);
      reasons.push_back(differs.reason);
      changes = differs.changes;
    }
    const Result<std::vector<AptConflict>> conflicts = conflicting_sources(host, place(), source_path());
    if (!conflicts) return fail(conflicts.error());
    for (const AptConflict& conflict : *conflicts) reasons.push_back(conflict.summary + " names the same repository and is to be disabled");
    if (spec_.priority) {
      const Result<EditedFile> pin = look_at_file(pin_path(), host);
      if (!pin) return fail(pin.error());
      if (pin->content != pin_text()) reasons.push_back(pin->info ? pin->path + " has another pin" : pin->path + " does not exist");
    }
    if (reasons.empty() && !has_lists(host)) reasons.emplace_back("its package lists have not been fetched");
    if (!reasons.empty()) return StepState::unsatisfied(join(reasons, "; "), changes);
    return StepState::satisfied(fmt::format("{} with {}", shown_url(spec_.url.text), *keyring));
  }

  Result<void> apply(Host& host, StepLog& log) override {
    std::vector<std::string> ignored;
    Result<std::string> keyring = keyring_in_place(host, ignored);
    if (!keyring) return fail(std::move(keyring).error());
    std::string trial_keyring = *keyring;
    if (keyring->empty() && spec_.keyring) {
      if (const Result<DebName> installed = install_deb(host, log, keyring_deb()); !installed) return fail(installed.error());
      keyring = keyring_in_place(host, ignored);
      if (!keyring) return fail(std::move(keyring).error());
      trial_keyring = *keyring;
    } else if (keyring->empty()) {
      Result<std::string> fetched = fetch_key(host, log);
      if (!fetched) return fail(std::move(fetched).error());
      trial_keyring = *std::move(fetched);
      keyring = key_path(trial_keyring.substr(trial_keyring.rfind('.')));
    }
    if (Result<void> tried = try_it(host, log, trial_keyring); !tried) {
      if (trial_keyring != *keyring) {
        if (Result<void> removed = host.remove(trial_keyring); !removed) log.say(removed.error().sentence());
      }
      return tried;
    }
    if (Result<void> placed = place_key(host, log, trial_keyring, *keyring); !placed) return placed;
    // Between these two, apt would find two entries that disagree about their key: the old ones go first.
    if (Result<void> disabled = disable_others(host, log); !disabled) return disabled;
    if (Result<void> wrote = write_kept(host, log, source_path(), source_text(*keyring)); !wrote) return wrote;
    if (!spec_.priority) return {};
    return write_kept(host, log, pin_path(), pin_text());
  }

 private:
  [[nodiscard]] std::string source_path() const { return fmt::format("/etc/apt/sources.list.d/{}.sources", spec_.name); }
  [[nodiscard]] std::string pin_path() const { return "/etc/apt/preferences.d/" + spec_.name; }
  [[nodiscard]] std::string key_path(std::string_view ending) const { return fmt::format("/etc/apt/keyrings/{}{}", spec_.name, ending); }
  [[nodiscard]] AptPlace place() const { return {spec_.url.text, spec_.suites.items}; }

  [[nodiscard]] WantedDeb keyring_deb() const {
    WantedDeb deb;
    deb.urls.push_back(spec_.keyring->text);
    deb.sha256 = spec_.sha256->hex;
    return deb;
  }

  [[nodiscard]] std::string source_text(const std::string& keyring) const {
    std::string text = "# Written by gpustrap.\nTypes: deb\n";
    text += fmt::format("URIs: {}\nSuites: {}\n", spec_.url.text, join(spec_.suites.items, " "));
    if (!spec_.components.items.empty()) text += fmt::format("Components: {}\n", join(spec_.components.items, " "));
    if (!spec_.architectures.items.empty()) text += fmt::format("Architectures: {}\n", join(spec_.architectures.items, " "));
    return text + fmt::format("Signed-By: {}\n", keyring);
  }

  [[nodiscard]] std::string pin_text() const {
    const std::string which = spec_.pin.empty() ? fmt::format("origin \"{}\"", host_of(spec_.url.text)) : spec_.pin;
    return fmt::format("# Written by gpustrap.\nPackage: *\nPin: {}\nPin-Priority: {}\n", which, *spec_.priority);
  }

  /// The path of the keyring, where it is as pinned; empty, and a reason more, where it is not.
  Result<std::string> keyring_in_place(const Host& host, std::vector<std::string>& reasons) const {
    if (spec_.keyring) return keyring_of_package(host, reasons);
    std::string other;
    for (const char* ending : {".asc", ".gpg"}) {
      const std::string path = key_path(ending);
      const Result<std::optional<FileInfo>> info = host.info(path);
      if (!info) return fail(info.error());
      if (!*info) continue;
      const Result<std::string> key = host.read(path);
      if (!key) return fail(key.error());
      if (why_not_this_key(*key).empty()) return path;
      other = path;
    }
    reasons.push_back(other.empty() ? "its key is not there"
                                    : fmt::format("{} holds {}, another key is wanted", other, name_of_key(host, other)));
    return std::string();
  }

  /// Why this is not the key that the recipe names; empty where it is.
  [[nodiscard]] std::string why_not_this_key(const std::string& key) const {
    if (spec_.sha256 && sha256_hex(key) != spec_.sha256->hex)
      return fmt::format("it has sha256 {}, wanted was {}", sha256_hex(key), spec_.sha256->hex);
    if (spec_.fingerprint.empty()) return {};
    const Result<std::vector<std::string>> fingerprints = key_fingerprints(key);
    if (!fingerprints) return fingerprints.error().why();
    std::string wanted = spec_.fingerprint;
    std::transform(wanted.begin(), wanted.end(), wanted.begin(), [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    // A second key in the file would be trusted just as much.
    if (*fingerprints == std::vector<std::string>{wanted}) return {};
    return fmt::format("it holds {}, wanted was {} alone", join(*fingerprints, " and "), wanted);
  }

  Result<std::string> keyring_of_package(const Host& host, std::vector<std::string>& reasons) const {
    const Result<StepState> state = check_deb(host, keyring_deb());
    if (!state) return fail(state.error());
    if (state->is != StepState::Is::satisfied) {
      reasons.push_back(state->reason);
      return std::string();
    }
    const Result<std::optional<DebName>> name = name_of_deb(host, keyring_deb());
    if (!name) return fail(name.error());
    const std::string package = *name ? (*name)->package : std::string();
    const Result<std::string> files = host.read("/var/lib/dpkg/info/" + package + ".list");
    if (!files) return fail(files.error());
    std::vector<std::string> keyrings;
    for (const std::string& file : split(*files, '\n')) {
      const bool in_place = file.starts_with("/usr/share/keyrings/") || file.starts_with("/etc/apt/keyrings/");
      if (in_place && (file.ends_with(".gpg") || file.ends_with(".asc"))) keyrings.push_back(file);
    }
    if (keyrings.size() == 1) return keyrings.front();
    return fail(
        ErrorCode::unsupported,
        keyrings.empty() ? package + " brings no keyring" : fmt::format("{} brings several keyrings: {}", package, join(keyrings, " ")),
        "give the repository's key itself: `key` instead of `keyring`");
  }

  /// Its fingerprints where gpg is there to tell them, else its digest. NVIDIA's old key is in many recipes still, so it is named.
  static std::string name_of_key(const Host& host, const std::string& path) {
    Command command;
    command.argv = {"gpg", "--batch", "--show-keys", "--with-colons", path};
    const Result<CommandResult> shown = host.look(command);
    std::vector<std::string> names;
    bool primary = false;
    if (shown && shown->exit_code == 0) {
      for (const std::string& line : split(shown->out, '\n')) {
        const std::vector<std::string> fields = split(line, ':');
        if (fields[0] == "pub") primary = true;
        if (fields[0] != "fpr" || !primary || fields.size() < 10) continue;
        primary = false;  // those of subkeys follow
        std::string name = strip_control(fields[9]);
        if (name.ends_with("7FA2AF80")) name += " (NVIDIA's until 2022-04-27)";
        names.push_back(std::move(name));
      }
    }
    if (!names.empty()) return "key " + join(names, " ");
    const Result<std::string> digest = host.digest(path);
    return digest ? fmt::format("a key with sha256 {}…", digest->substr(0, 12)) : std::string("a key");
  }

  /// Path of the key under a name of its own, in the folder that it is to stand in.
  Result<std::string> fetch_key(Host& host, StepLog& log) const {
    FileAttributes folder;
    if (Result<void> made = host.make_directory("/etc/apt/keyrings", folder); !made) return fail(std::move(made).error());
    FetchRequest request;
    request.urls = {spec_.key->text};
    if (spec_.sha256) request.sha256 = spec_.sha256->hex;
    request.attributes.mode = 0644;  // apt's own unprivileged user reads it
    request.to = key_path(".gpustrap-new");
    const Result<FetchResult> fetched = host.fetch(request, log);
    if (!fetched) return fail(fetched.error());
    const Result<std::string> key = host.read(request.to);
    if (!key) return fail(key.error());
    const bool armoured = key->find(kArmour) != std::string::npos;
    // Binary keys begin with a public-key packet (tag 6), in the old format or the new.
    const auto first = static_cast<unsigned char>(key->empty() ? '\0' : key->front());
    const bool binary = (first & 0xFCU) == 0x98U || first == 0xC6U;
    if (!armoured && !binary) {
      if (Result<void> removed = host.remove(request.to); !removed) return fail(std::move(removed).error());
      return fail(ErrorCode::unsupported, shown_url(spec_.key->text) + " is no OpenPGP public key",
                  "does the address lead to the key itself?");
    }
    if (const std::string why = why_not_this_key(*key); !why.empty()) {
      if (Result<void> removed = host.remove(request.to); !removed) return fail(std::move(removed).error());
      return fail(ErrorCode::digest, fmt::format("{} is not the key that is trusted: {}", shown_url(spec_.key->text), why),
                  "compare with the fingerprint that the repository's own instructions name");
    }
    const std::string named = key_path(armoured ? ".gpustrap-new.asc" : ".gpustrap-new.gpg");
    if (Result<void> renamed = host.rename(request.to, named); !renamed) return fail(std::move(renamed).error());
    return named;
  }

  /// Fetches the lists of this repository alone, with nothing of the host's own configuration changed.
  Result<void> try_it(Host& host, StepLog& log, const std::string& keyring) const {
    const std::string trial = state_directory(host, "apt-trial") + "/" + spec_.name + ".sources";
    if (Result<void> made = host.make_directory(parent_of(trial), {}); !made) return made;
    if (Result<void> wrote = host.write(trial, source_text(keyring), {}); !wrote) return wrote;
    Result<void> updated = wait_for_apt_locks(host, log, kAptLockLimit);
    if (updated) {
      updated = run_apt_get(host, log,
                            {"-o", "Dir::Etc::sourcelist=" + trial, "-o", "Dir::Etc::sourceparts=-", "-o", "APT::Get::List-Cleanup=0", "-o",
                             "APT::Update::Error-Mode=any", "update"});
    }
    if (Result<void> removed = host.remove(trial); !removed) return removed;
    if (!updated) return fail(std::move(updated).error().in("fetching the lists of " + shown_url(spec_.url.text)));
    if (has_lists(host)) return {};
    return fail(ErrorCode::command, fmt::format("apt fetched no lists from {}", shown_url(spec_.url.text)),
                "are `url` and `suites` right?");
  }

  Result<void> place_key(Host& host, StepLog& log, const std::string& from, const std::string& to) const {
    if (from == to) return {};
    for (const char* ending : {".asc", ".gpg"}) {
      const std::string path = key_path(ending);
      const Result<EditedFile> old = look_at_file(path, host);
      if (!old) return fail(old.error());
      if (!old->info) continue;
      log.say(fmt::format("{} held {}; it is replaced by {}", path, name_of_key(host, path), name_of_key(host, from)));
      if (Result<void> kept = keep_backup(*old, host, log, kBackupEnding); !kept) return kept;
      if (path == to) continue;
      if (Result<void> removed = host.remove(path); !removed) return removed;
    }
    return host.rename(from, to);
  }

  Result<void> disable_others(Host& host, StepLog& log) const {
    const Result<std::vector<AptConflict>> conflicts = conflicting_sources(host, place(), source_path());
    if (!conflicts) return fail(conflicts.error());
    for (const AptConflict& conflict : *conflicts) {
      log.say(fmt::format("{} names the same repository and is disabled", conflict.summary));
      if (Result<void> kept = keep_backup(conflict.file, host, log, kBackupEnding); !kept) return kept;
      if (Result<void> wrote = host.write(conflict.file.path, conflict.text, {}); !wrote) return wrote;
    }
    return {};
  }

  static Result<void> write_kept(Host& host, StepLog& log, const std::string& path, const std::string& text) {
    const Result<EditedFile> file = look_at_file(path, host);
    if (!file) return fail(file.error());
    if (file->info && file->content == text) return {};
    if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
    if (Result<void> kept = keep_backup(*file, host, log, kBackupEnding); !kept) return kept;
    FileAttributes readable;
    readable.mode = 0644;
    return host.write(path, text, readable);
  }

  [[nodiscard]] bool has_lists(const Host& host) const {
    const std::string prefix = list_name_prefix(spec_.url.text);
    const Result<std::vector<std::string>> names = host.list("/var/lib/apt/lists");
    return names && std::any_of(names->begin(), names->end(), [&](const std::string& name) {
             return name.starts_with(prefix) && (name.ends_with("InRelease") || name.ends_with("Release"));
           });
  }

  AptRepositorySpec spec_;
};

}  // namespace

std::unique_ptr<Step> make_apt_repository_step(const StepSpec& spec) {
  return std::make_unique<AptRepositoryStep>(std::get<AptRepositorySpec>(spec));
}

}  // namespace gpustrap

#include "agent/protocol/step_spec.h"

#include <algorithm>
#include <array>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/conda_requirement.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/json.h"

namespace gpustrap {

template <> struct EnumNames<AptSpec::State> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"present", "latest", "absent"};
    return all;
  }
};

template <> struct EnumNames<Fetch> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"origin", "shared"};
    return all;
  }
};

template <> struct EnumNames<EnvironmentSpec::Scope> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"login", "system"};
    return all;
  }
};

template <> struct EnumNames<RebootSpec::Mode> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"when_required", "always"};
    return all;
  }
};

template <> struct EnumNames<CondaDistribution> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"miniforge", "miniconda", "anaconda"};
    return all;
  }
};

template <> struct EnumNames<NvidiaDriverSpec::Modules> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"auto", "open", "proprietary"};
    return all;
  }
};

template <> struct EnumNames<NvidiaDriverSpec::Source> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"auto", "ubuntu", "nvidia", "debian"};
    return all;
  }
};

template <> struct EnumNames<NvidiaDriverSpec::Reboot> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"if_needed", "never", "always"};
    return all;
  }
};

template <> struct EnumNames<NvidiaDriverSpec::FabricManager> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"auto", "always", "never"};
    return all;
  }
};

template <> struct EnumNames<CudaSpec::From> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"repository", "deb", "runfile"};
    return all;
  }
};

namespace {

template <std::size_t... Index> constexpr bool kinds_follow_enum(std::index_sequence<Index...> /*all*/) {
  return ((static_cast<std::size_t>(std::variant_alternative_t<Index, StepSpec>::kKind) == Index) && ...);
}
static_assert(kinds_follow_enum(std::make_index_sequence<kStepKindCount>()), "StepSpec lists the specs in the order of StepKind");

/// One row per kind, made from the specs themselves, so that a new kind needs no second list.
struct KindRow {
  std::string_view name, help, shorthand;
  StepSpec (*make)();
};
template <std::size_t... Index> constexpr std::array<KindRow, kStepKindCount> kind_rows(std::index_sequence<Index...> /*all*/) {
  return {{{std::variant_alternative_t<Index, StepSpec>::kName, std::variant_alternative_t<Index, StepSpec>::kHelp,
            std::variant_alternative_t<Index, StepSpec>::kShorthand, [] { return StepSpec(std::in_place_index<Index>); }}...}};
}
constexpr std::array<KindRow, kStepKindCount> kKinds = kind_rows(std::make_index_sequence<kStepKindCount>());

const KindRow& row_of(StepKind kind) { return kKinds.at(static_cast<std::size_t>(kind)); }

constexpr std::string_view kLowerDigits = "abcdefghijklmnopqrstuvwxyz0123456789";

bool is_made_of(std::string_view text, std::string_view first, std::string_view later) {
  return !text.empty() && first.find(text[0]) != std::string_view::npos && text.find_first_not_of(later) == std::string_view::npos;
}

/// "git", "libc6:amd64", "git=1:2.39.5-0+deb12u2". apt takes a leading dash as an option and a trailing one as a removal.
bool is_debian_package(std::string_view text) {
  const std::size_t equals = text.find('=');
  const std::string_view name = text.substr(0, equals);
  const bool has_version = equals != std::string_view::npos;
  return is_made_of(name, kLowerDigits, "abcdefghijklmnopqrstuvwxyz0123456789+-.:") && name.size() >= 2 && name.back() != '-' &&
         (!has_version ||
          is_made_of(text.substr(equals + 1), "0123456789", "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.+-:~*"));
}

void check_items(const StringList& list, std::string_view field, SpecReader& reader, bool (*is_right)(std::string_view),
                 std::string_view expected) {
  for (const std::string& item : list.items) {
    if (!is_right(item)) reader.say_at_item(field, item, fmt::format("holds {}: expected {}", quote_value(item), expected));
  }
}

bool is_service_name(std::string_view text) {
  return is_made_of(text, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_",
                    "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.@:-") &&
         !text.ends_with(".service");
}

void check_service_name(const std::string& name, SpecReader& reader) {
  if (name.empty() || is_service_name(name)) return;
  reader.say_at("name", fmt::format("is {}: expected a systemd service's name without .service", quote_value(name)));
}

void check_user_name(const std::string& name, std::string_view field, SpecReader& reader) {
  if (name.empty() || is_made_of(name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ_",
                                 "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")) {
    return;
  }
  reader.say_at(field, fmt::format("is {}: expected a {} name", quote_value(name), field == "group" ? "group" : "user"));
}

// What a kind's fields must be together. Each asks the reader whether a field is given, not the spec whether it is empty:
// a value that is wrong or not known yet is given too.

template <class Spec> void check(const Spec& /*spec*/, SpecReader& /*reader*/) {}

void check_fetch(Fetch fetch, bool has_digest, SpecReader& reader) {
  if (fetch != Fetch::shared || has_digest) return;
  reader.say_at(
      "fetch", "is shared, which needs `sha256`: what another host sends is believed by its digest alone; give that, or leave `fetch` out");
}

void check(const RequireSpec& spec, SpecReader& reader) {
  if (!reader.has("os") && !reader.has("arch") && !reader.has("disk_free") && !reader.has("memory") && !reader.has("cpus") &&
      !reader.has("gpu") && !reader.has("systemd")) {
    reader.say_missing("asks for nothing: expected at least one of os, arch, disk_free, memory, cpus, gpu, systemd");
  }
  for (const std::string& os : spec.os.items) {
    const std::size_t end = std::min(os.find_first_of(" <>="), os.size());
    const std::string_view condition = trim(std::string_view(os).substr(end));
    if (!is_made_of(std::string_view(os).substr(0, end), kLowerDigits, "abcdefghijklmnopqrstuvwxyz0123456789_-") ||
        (!condition.empty() && !version_matches("1", condition))) {
      reader.say_at_item(
          "os", os,
          fmt::format("holds {}: expected an os-release ID and a comparison, such as `ubuntu >= 22.04` or `debian`", quote_value(os)));
    }
  }
  check_arch(spec.arch, reader);
}

void check(const WaitSpec& /*spec*/, SpecReader& reader) {
  if (!reader.has("cloud_init") && !reader.has("apt") && !reader.has("port") && !reader.has("file")) {
    reader.say_missing("waits for nothing: expected at least one of cloud_init, apt, port, file");
  }
}

void check(const AptSpec& spec, SpecReader& reader) {
  if (!reader.has("packages") && !reader.has("update") && !reader.has("hold")) {
    reader.say_missing("has nothing to do: expected at least one of packages, update, hold");
  }
  for (const std::string& item : spec.packages.items) {
    if (is_debian_package(item)) continue;
    const std::string_view advice = item.find_first_of(" ,") != std::string::npos ? "; each package is an item of its own: [git, curl]"
                                    : item.find("==") != std::string::npos        ? "; one `=` stands before a version"
                                    : item.ends_with(".deb")                      ? "; a file is installed by a step `deb`"
                                                                                  : "";
    reader.say_at_item("packages", item,
                       fmt::format("holds {}: expected a Debian package's name or name=version{}", quote_value(item), advice));
  }
  check_items(spec.hold, "hold", reader, is_debian_package, "a Debian package's name");
  if (spec.state == AptSpec::State::absent && !spec.hold.items.empty()) reader.say_at("hold", "does not go with `state: absent`");
}

void check(const DownloadSpec& spec, SpecReader& reader) {
  const std::string_view url = spec.url.text;
  const std::string_view path = url.substr(0, url.find_first_of("?#"));
  const bool has_name = !path.ends_with('/') && std::count(path.begin(), path.end(), '/') >= 3;
  if (!url.empty() && spec.to.text.ends_with('/') && !has_name) {
    reader.say_at("to", "is a folder, and the URL has no file name at its end: expected the name of the file");
  }
  check_fetch(spec.fetch, reader.has("sha256"), reader);
}

void check(const ArchiveSpec& spec, SpecReader& reader) {
  if (reader.has("url") == reader.has("path")) {
    reader.say_missing(reader.has("url") ? "has `url` and `path`: expected one of them" : "needs a field `url` or `path`");
  }
  if (reader.has("mirrors") && !reader.has("url")) reader.say_at("mirrors", "goes with `url` only");
  check_fetch(spec.fetch, reader.has("sha256"), reader);
  if (reader.has("fetch") && !reader.has("url")) reader.say_at("fetch", "goes with `url` only");
  if (spec.strip > 100) reader.say_at("strip", fmt::format("is `{}`: expected at most 100", spec.strip));
}

void check(const FileSpec& spec, SpecReader& reader) {
  if (spec.absent && reader.has("content")) reader.say_at("absent", "is true, but there is `content`: expected one of them");
  if (!spec.absent && !reader.has("content") && !reader.deferred("absent"))
    reader.say_missing("needs a field `content`, or `absent: true`");
  check_user_name(spec.owner, "owner", reader);
  check_user_name(spec.group, "group", reader);
  if (spec.path.text == "~" || spec.path.text.ends_with('/'))
    reader.say_at("path", fmt::format("is {}: expected a file, not a folder", quote_value(spec.path.text)));
}

void check(const BlockSpec& spec, SpecReader& reader) {
  if (spec.absent && reader.has("content")) reader.say_at("absent", "is true, but there is `content`: expected one of them");
  if (!spec.absent && !reader.has("content") && !reader.deferred("absent"))
    reader.say_missing("needs a field `content`, or `absent: true`");
  if (spec.marker.find('\n') != std::string::npos || (reader.has("marker") && !reader.deferred("marker") && trim(spec.marker).empty())) {
    reader.say_at("marker", "must be one line that is not empty");
  }
  if (spec.comment.find('\n') != std::string::npos || (!reader.deferred("comment") && trim(spec.comment).empty())) {
    reader.say_at("comment", "must be one line that is not empty");
  }
}

void check(const DirectorySpec& spec, SpecReader& reader) {
  check_user_name(spec.owner, "owner", reader);
  check_user_name(spec.group, "group", reader);
}

void check(const EnvironmentSpec& spec, SpecReader& reader) {
  if (spec.variables.items.empty() && !reader.unusable()) reader.say_missing("changes nothing: expected at least one variable");
}

void check(const ServiceSpec& spec, SpecReader& reader) {
  check_service_name(spec.name, reader);
  if (reader.has("port") && !spec.running) reader.say_at("port", "cannot answer with `running: false`");
}

void check(const VenvSpec& spec, SpecReader& reader) {
  if (spec.python.empty() || spec.python[0] == '-' || spec.python.find_first_of(" \n\t") != std::string::npos) {
    reader.say_at("python",
                  fmt::format("is {}: expected a name on PATH, an absolute path or a version such as \"3.11\"", quote_value(spec.python)));
  }
}

/// A name is a folder's name below conda's envs/.
void check_conda_environment(const std::string& name, std::string_view field, SpecReader& reader) {
  if (name.empty() || is_plain_id(name)) return;
  reader.say_at(field, fmt::format("is {}: expected the name of a conda environment, not a path", quote_value(name)));
}

template <class Spec> void check_environment(const Spec& spec, SpecReader& reader) {
  if (reader.has("venv") == reader.has("env"))
    reader.say_missing(reader.has("venv") ? "has `venv` and `env`: expected one of them" : "needs a field `venv` or `env`");
  if (reader.has("conda") && !reader.has("env")) reader.say_at("conda", "goes with `env` only");
  check_conda_environment(spec.env, "env", reader);
}

void check(const PipSpec& spec, SpecReader& reader) {
  check_environment(spec, reader);
  if (!reader.has("packages") && !reader.has("requirements"))
    reader.say_missing("has nothing to do: expected `packages` or `requirements`");
  const auto is_requirement = [](std::string_view text) { return text[0] != '-' && text.find('\n') == std::string_view::npos; };
  check_items(spec.packages, "packages", reader, is_requirement, "a requirement, not an option of pip");
}

void check(const NvidiaSmiSpec& spec, SpecReader& reader) {
  if (!spec.min_driver.empty() && !is_made_of(spec.min_driver, "0123456789", "0123456789.")) {
    reader.say_at("min_driver",
                  fmt::format("is {}: expected a driver version such as \"550\" or \"550.54.15\"", quote_value(spec.min_driver)));
  }
}

void check(const JupyterSpec& spec, SpecReader& reader) {
  check_environment(spec, reader);
  check_service_name(spec.name, reader);
  if (!reader.deferred("port") && spec.port.number > 0 && spec.port.number < 1024) {
    reader.say_at("port", fmt::format("is `{}`: expected 1024 or more, since the server runs as the login user", spec.port.number));
  }
  if (reader.has("certificate") != reader.has("key"))
    reader.say_missing(fmt::format("needs `{}` too: certificate and key go together", reader.has("key") ? "certificate" : "key"));
  else if (reader.has("certificate") && !spec.is_public && !reader.deferred("public"))
    reader.say_at("certificate", "goes with `public: true`: a notebook on the loopback has no TLS");
}

/// "https://…", "ssh://…", "git@example.org:course.git", "/srv/course.git". Not "ext::sh -c …", which runs a command.
bool is_git_url(std::string_view url) {
  const auto is_plain = [](unsigned char c) { return c > 0x20 && c != 0x7F; };
  if (url.empty() || url[0] == '-' || !std::all_of(url.begin(), url.end(), is_plain)) return false;
  for (const std::string_view scheme : {"https://", "http://", "ssh://", "git://", "file:///"}) {
    if (url.starts_with(scheme)) return url.size() > scheme.size();
  }
  if (url[0] == '/') return true;
  const std::size_t colon = url.find(':');
  return colon != std::string_view::npos && colon > 0 && colon + 1 < url.size() && url.substr(colon, 2) != "::" &&
         url.substr(colon, 3) != "://" && url.find('/') > colon;
}

/// ssh://git@host is a user name that everybody may know; with https it is mostly a token.
bool has_git_credentials(std::string_view url) {
  const std::size_t scheme = url.find("://");
  if (scheme == std::string_view::npos) return false;
  const std::string_view authority = url.substr(scheme + 3, url.find('/', scheme + 3) - scheme - 3);
  const std::size_t at = authority.rfind('@');
  if (at == std::string_view::npos) return false;
  return !url.starts_with("ssh://") || authority.substr(0, at).find(':') != std::string_view::npos;
}

/// What git itself accepts as a name of a branch or tag, or a commit.
bool is_git_ref(std::string_view ref) {
  const auto is_plain = [](unsigned char c) {
    return c > 0x20 && c != 0x7F && std::string_view("~^:?*[\\").find(static_cast<char>(c)) == std::string_view::npos;
  };
  return !ref.empty() && ref[0] != '-' && ref[0] != '/' && !ref.ends_with('/') && !ref.ends_with('.') && !ref.ends_with(".lock") &&
         ref.find("..") == std::string_view::npos && ref.find("@{") == std::string_view::npos && ref.find("//") == std::string_view::npos &&
         std::all_of(ref.begin(), ref.end(), is_plain);
}

void check(const GitSpec& spec, SpecReader& reader) {
  if (has_git_credentials(spec.url)) {
    // The value is not quoted: what stands there may be a password.
    reader.say_at("url", "holds a password or token: expected a URL without credentials, since recipes and logs are shared");
  } else if (!spec.url.empty() && !is_git_url(spec.url)) {
    reader.say_at(
        "url", fmt::format("is {}: expected https://…, ssh://…, user@host:path, or an absolute path on the host", quote_value(spec.url)));
  }
  if (!spec.ref.empty() && !is_git_ref(spec.ref)) {
    reader.say_at("ref", fmt::format("is {}: expected the name of a branch or tag, or a commit", quote_value(spec.ref)));
  }
  if (spec.depth && *spec.depth == 0 && !reader.deferred("depth")) reader.say_at("depth", "is `0`: expected 1 or more");
}

void check(const DebSpec& spec, SpecReader& reader) {
  if (reader.has("url") == reader.has("path")) {
    reader.say_missing(reader.has("url") ? "has `url` and `path`: expected one of them" : "needs a field `url` or `path`");
  }
  if (reader.has("mirrors") && !reader.has("url")) reader.say_at("mirrors", "goes with `url` only");
  if (reader.has("url") && !reader.has("sha256")) reader.say_missing("needs a field `sha256`: a package's scripts run as root");
  if (reader.has("fetch") && !reader.has("url")) reader.say_at("fetch", "goes with `url` only");
  if (reader.has("package") != reader.has("version")) {
    reader.say_missing(reader.has("package") ? "has `package` without `version`" : "has `version` without `package`");
  }
  if (!spec.package.empty() && (!is_debian_package(spec.package) || spec.package.find_first_of("=:") != std::string::npos))
    reader.say_at("package", fmt::format("is {}: expected a Debian package's name", quote_value(spec.package)));
  if (!spec.version.empty() && !is_debian_package("a1=" + spec.version))
    reader.say_at("version", fmt::format("is {}: expected a Debian version such as 1.1-1", quote_value(spec.version)));
}

void check_fingerprint(const std::string& text, SpecReader& reader) {
  if (text.empty() || (text.size() == 40 && is_made_of(text, "0123456789abcdefABCDEF", "0123456789abcdefABCDEF"))) return;
  reader.say_at("fingerprint", fmt::format("is {}: expected 40 hex digits without spaces", quote_value(text)));
}

void check(const AptRepositorySpec& spec, SpecReader& reader) {
  static constexpr std::string_view kWord = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-+~/";
  if (!spec.name.empty() && !is_made_of(spec.name, kLowerDigits, "abcdefghijklmnopqrstuvwxyz0123456789_-"))
    reader.say_at("name", fmt::format("is {}: expected lower-case letters, digits, _ and -", quote_value(spec.name)));
  if (reader.has("key") == reader.has("keyring")) {
    reader.say_missing(reader.has("key") ? "has `key` and `keyring`: expected one of them" : "needs a field `key` or `keyring`");
  }
  const auto is_word = [](std::string_view text) { return is_made_of(text, kWord, kWord); };
  check_items(spec.suites, "suites", reader, is_word, "a suite such as noble, or /");
  check_items(spec.components, "components", reader, is_word, "a component such as main");
  check_items(spec.architectures, "architectures", reader, is_word, "Debian's name of an architecture, such as amd64");
  const bool flat =
      std::any_of(spec.suites.items.begin(), spec.suites.items.end(), [](const std::string& suite) { return suite.ends_with('/'); });
  if (flat && reader.has("components")) reader.say_at("components", "does not go with a flat repository (a suite that ends with /)");
  if (!flat && !reader.has("components") && !reader.deferred("suites")) reader.say_missing("needs a field `components` with these suites");
  if (reader.has("keyring") && !reader.has("sha256"))
    reader.say_missing("needs a field `sha256` with `keyring`: a package's scripts run as root");
  if (!reader.has("sha256") && !reader.has("fingerprint")) reader.say_missing("needs a field `sha256` or `fingerprint`");
  if (reader.has("fingerprint") && reader.has("keyring")) reader.say_at("fingerprint", "goes with `key` only");
  check_fingerprint(spec.fingerprint, reader);
  if (reader.has("pin") && !reader.has("priority")) reader.say_at("pin", "goes with `priority` only");
  if (spec.pin.find('\n') != std::string::npos) reader.say_at("pin", "must be one line");
}

void check(const RebootSpec& spec, SpecReader& reader) {
  if (spec.message.find('\n') != std::string::npos) reader.say_at("message", "has more than one line");
}

/// Installers and conda's own scripts put it into first lines of scripts, which end at a space.
bool is_conda_prefix(std::string_view path) {
  return path != "~" && path != "/" && path.find_first_of(" \t\n'\"") == std::string_view::npos;
}

void check_conda_prefix(const HostPath& path, std::string_view field, SpecReader& reader) {
  if (path.text.empty() || reader.deferred(field) || is_conda_prefix(path.text)) return;
  reader.say_at(field, fmt::format("is {}: expected a folder of conda's own, without spaces and quotes", quote_value(path.text)));
}

void check(const CondaSpec& spec, SpecReader& reader) {
  constexpr std::string_view kVersion = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
  check_conda_prefix(spec.prefix, "prefix", reader);
  if (!spec.version.empty() && !is_made_of(spec.version, kVersion, kVersion)) {
    reader.say_at("version", fmt::format("is {}: expected an installer's version, such as 26.3.2-3", quote_value(spec.version)));
    return;
  }
  if (reader.has("mirrors") && !reader.has("url")) reader.say_at("mirrors", "goes with `url` only");
  if (spec.version.empty() || reader.deferred("version") || reader.deferred("distribution") || reader.has("sha256")) return;
  if (is_pinned_conda_version(spec.distribution, spec.version)) return;
  reader.say_missing(
      fmt::format("needs a field `sha256`: gpustrap knows no digest of version {} (it knows {}); the publisher lists them at {}",
                  spec.version, pinned_conda_version(spec.distribution), conda_digest_source(spec.distribution)));
}

void check(const CondaEnvSpec& spec, SpecReader& reader) {
  check_conda_prefix(spec.conda, "conda", reader);
  check_conda_environment(spec.name, "name", reader);
  if (!spec.python.empty() && !is_made_of(spec.python, "0123456789", "0123456789."))
    reader.say_at("python", fmt::format("is {}: expected a version such as \"3.11\"", quote_value(spec.python)));
  const auto is_package = [](std::string_view text) { return parse_conda_requirement(text).has_value(); };
  check_items(spec.packages, "packages", reader, is_package, "a package as conda takes it: name, name=1.2, name==1.2.3, name>=1,<2");
  const auto is_channel = [](std::string_view text) {
    return !text.empty() && text[0] != '-' && text.find_first_of(" \n") == std::string_view::npos;
  };
  check_items(spec.channels, "channels", reader, is_channel, "a channel's name or URL");
  const auto is_requirement = [](std::string_view text) { return text[0] != '-' && text.find('\n') == std::string_view::npos; };
  check_items(spec.pip, "pip", reader, is_requirement, "a requirement, not an option of pip");
  if (!reader.has("python") && !reader.has("packages") && !reader.has("file") && spec.name != "base")
    reader.say_missing("would be empty: expected `python`, `packages` or `file`");
  if (reader.has("channels") && reader.has("file")) reader.say_at("channels", "does not go with `file`, which names its own");
}

/// "auto", "580".
bool is_auto_or_number(std::string_view text) { return text == "auto" || is_made_of(text, "123456789", "0123456789"); }

/// "12", "12.4".
bool is_cuda_version(std::string_view text) {
  const std::size_t dot = text.find('.');
  return is_made_of(text.substr(0, dot), "123456789", "0123456789") &&
         (dot == std::string_view::npos || is_made_of(text.substr(dot + 1), "0123456789", "0123456789"));
}

void check(const NvidiaDriverSpec& spec, SpecReader& reader) {
  if (!is_auto_or_number(spec.branch))
    reader.say_at("branch", fmt::format("is {}: expected auto or a driver branch such as \"580\"", quote_value(spec.branch)));
  if (!spec.cuda.empty() && spec.cuda != "auto" && !is_cuda_version(spec.cuda))
    reader.say_at("cuda", fmt::format("is {}: expected auto or a CUDA version such as \"12.4\"", quote_value(spec.cuda)));
  check_fingerprint(spec.fingerprint, reader);
}

void check(const CudaSpec& spec, SpecReader& reader) {
  if (spec.version != "auto" && !is_cuda_version(spec.version))
    reader.say_at("version", fmt::format("is {}: expected auto or a CUDA version such as \"12.4\"", quote_value(spec.version)));
  check_fingerprint(spec.fingerprint, reader);
  if (spec.from == CudaSpec::From::repository && !reader.deferred("from")) {
    for (const char* field : {"url", "mirrors", "path", "sha256", "fetch"})
      if (reader.has(field)) reader.say_at(field, "goes with `from: deb` or `from: runfile` only");
    return;
  }
  for (const char* field : {"mirror", "fingerprint"})
    if (reader.has(field) && !reader.deferred("from")) reader.say_at(field, "goes with `from: repository` only");
  if (reader.has("url") == reader.has("path")) {
    reader.say_missing(reader.has("url") ? "has `url` and `path`: expected one of them" : "needs a field `url` or `path`");
  }
  if (reader.has("fetch") && !reader.has("url")) reader.say_at("fetch", "goes with `url` only");
  if (reader.has("mirrors") && !reader.has("url")) reader.say_at("mirrors", "goes with `url` only");
  if (reader.has("url") && !reader.has("sha256")) reader.say_missing("needs a field `sha256`: what it holds runs as root");
  if (spec.version == "auto" && !reader.deferred("version")) reader.say_missing("needs a field `version`: the one that the file holds");
}

void check(const IdleStopSpec& spec, SpecReader& reader) {
  if (spec.absent) {
    for (const char* field : {"after", "warn", "budget", "price"})
      if (reader.has(field)) reader.say_at(field, "does not go with `absent: true`");
    return;
  }
  if (!reader.has("after") && !reader.has("budget") && !reader.deferred("absent"))
    reader.say_missing("would stop nothing: expected `after`, `budget`, or both");
  // What is 0 here may also be a value that was wrong, and has been told.
  if (spec.after && spec.warn && spec.after->time.count() > 0 && spec.warn->time >= spec.after->time && !reader.deferred("after"))
    reader.say_at("warn", fmt::format("is {}: expected less than `after`, since the warning comes so long before the stop",
                                      quote_value(FieldType<Duration>::write(*spec.warn))));
  if (spec.warn && spec.warn->time.count() == 0 && reader.has("warn") && !reader.deferred("warn"))
    reader.say_at("warn", "is 0s: expected some minutes, or nobody is told before the host stops");
  if (reader.has("price") && !reader.has("budget")) reader.say_at("price", "goes with `budget` only");
  const bool has_money = spec.budget && !spec.budget->currency.empty(), has_price = spec.price && !spec.price->money.currency.empty();
  if (has_money && spec.budget->millionths == 0) reader.say_at("budget", "is nothing: expected more than 0");
  if (has_price && spec.price->money.millionths == 0) reader.say_at("price", "is nothing: an hour that costs nothing needs no budget");
  if (has_money && has_price && spec.budget->currency != spec.price->money.currency)
    reader.say_at("price",
                  fmt::format("is in {}, and `budget` in {}: expected one currency", spec.price->money.currency, spec.budget->currency));
}

}  // namespace

bool is_shared(const StepSpec& spec) {
  const auto says_so = [](const auto* fields) { return fields != nullptr && fields->fetch == Fetch::shared; };
  return says_so(std::get_if<DownloadSpec>(&spec)) || says_so(std::get_if<ArchiveSpec>(&spec)) || says_so(std::get_if<DebSpec>(&spec)) ||
         says_so(std::get_if<CondaSpec>(&spec)) || says_so(std::get_if<CudaSpec>(&spec));
}

std::string_view step_kind_name(StepKind kind) { return row_of(kind).name; }

std::optional<StepKind> step_kind_from_name(std::string_view name) {
  const auto* found = std::find_if(kKinds.begin(), kKinds.end(), [&](const KindRow& row) { return row.name == name; });
  if (found == kKinds.end()) return std::nullopt;
  return static_cast<StepKind>(found - kKinds.begin());
}

const std::vector<std::string>& step_kind_names() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> all;
    for (const KindRow& row : kKinds) all.emplace_back(row.name);
    return all;
  }();
  return names;
}

StepSpec read_step_spec(StepKind kind, const Json& value, const std::string& pointer, Placeholders placeholders,
                        std::vector<FieldProblem>& problems) {
  const KindRow& row = row_of(kind);
  StepSpec spec = row.make();
  std::visit(
      [&](auto& fields) {
        SpecReader reader(std::string(row.name), row.shorthand, value, pointer, placeholders, problems);
        fields.fields(reader);
        reader.finish();
        if (!reader.unusable()) check(fields, reader);
      },
      spec);
  return spec;
}

Json write_step_spec(const StepSpec& spec) {
  return std::visit(
      [](auto copy) {
        SpecWriter writer;
        decltype(copy) defaults;
        defaults.fields(writer);
        writer.start_values();
        copy.fields(writer);
        return writer.take();
      },
      spec);
}

StepKindDoc describe_step_kind(StepKind kind) {
  const KindRow& row = row_of(kind);
  StepSpec spec = row.make();
  SpecDocs docs;
  std::visit([&](auto& fields) { fields.fields(docs); }, spec);
  return {std::string(row.name), std::string(row.help), std::string(row.shorthand), docs.take()};
}

}  // namespace gpustrap

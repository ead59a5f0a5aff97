#include <algorithm>
#include <set>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_upstream.h"
#include "controller/lint_words.h"
#include "controller/package_index.h"
#include "controller/shell_reader.h"

namespace gpustrap {
namespace {

using What = UpstreamAddress::What;

constexpr std::string_view kUsualIndex = "https://pypi.org/simple", kUsualChannels = "https://conda.anaconda.org",
                           kDefaults = "https://repo.anaconda.com/pkgs/main";

bool is_fixed_url(std::string_view text) {
  return (text.starts_with("https://") || text.starts_with("http://")) && text.find("${{") == std::string_view::npos &&
         text.find_first_of(" \t\n") == std::string_view::npos;
}

std::string as_text(const Json& value) { return value.is_string() ? value.get<std::string>() : ""; }

std::string without_slash(std::string url) {
  while (url.ends_with('/')) url.pop_back();
  return url;
}

std::string_view authority_of(std::string_view url) {
  const std::size_t begin = url.find("://");
  if (begin == std::string_view::npos) return {};
  const std::string_view rest = url.substr(begin + 3);
  return rest.substr(0, rest.find_first_of("/?#"));
}

/// Of the host itself or of a network that this machine may not be in: what answers here is another.
bool is_private(std::string_view url) {
  std::string_view host = authority_of(url);
  if (const std::size_t at = host.rfind('@'); at != std::string_view::npos) host = host.substr(at + 1);
  if (host.starts_with('[')) return true;
  host = host.substr(0, host.find(':'));
  if (host.find('.') == std::string_view::npos || host.ends_with(".local") || host.ends_with(".internal")) return true;
  const std::vector<std::string> parts = split(host, '.');
  const bool is_number = host.find_first_not_of("0123456789.") == std::string_view::npos;
  if (!is_number || parts.size() != 4) return false;
  return parts[0] == "10" || parts[0] == "127" || parts[0] == "0" || (parts[0] == "192" && parts[1] == "168") ||
         (parts[0] == "169" && parts[1] == "254") || (parts[0] == "172" && parts[1].size() == 2 && parts[1] >= "16" && parts[1] <= "31");
}

/// A password in an address is for the host, and is not shown.
bool has_password(std::string_view url) { return authority_of(url).find('@') != std::string_view::npos; }

class Addresses {
 public:
  explicit Addresses(const Mirror& mirror) : mirror_(mirror) {}

  std::vector<UpstreamAddress> take() { return std::move(found_); }

  void look_at(const LintStep& step) {
    switch (step.kind) {
      case StepKind::apt_repository: return look_at_repository(step);
      case StepKind::git: return add(step.text("url") + "/info/refs?service=git-upload-pack", step.place_of("url"));
      case StepKind::pip: return look_at_packages(step, "packages", step.text("index"));
      case StepKind::conda_env: look_at_packages(step, "pip", ""); return look_at_channels(step);
      case StepKind::command:
        for (const char* field : {"run", "unless"}) look_at_command(step, field);
        return;
      case StepKind::download:
      case StepKind::archive:
      case StepKind::deb:
      case StepKind::conda:
      case StepKind::cuda: break;
      default: return;
    }
    const std::string sha256 = step.text("sha256");
    add(step.text("url"), step.place_of("url"), sha256);
    if (const Json* mirrors = step.field("mirrors"); mirrors != nullptr && mirrors->is_array()) {
      for (std::size_t i = 0; i < mirrors->size(); ++i)
        add(as_text((*mirrors)[i]), step.place_of("mirrors") + "/" + std::to_string(i), sha256);
    }
  }

 private:
  void add(const std::string& url, const std::string& pointer, const std::string& sha256 = {}, What what = What::file) {
    if (is_fixed_url(url)) found_.push_back({what, url, pointer, sha256});
  }

  void look_at_repository(const LintStep& step) {
    const std::string base = without_slash(step.text("url"));
    const std::vector<std::string> suites = step.texts("suites");
    for (const std::string& suite : suites.empty() ? std::vector<std::string>{"/"} : suites) {
      // Flat repositories have no folder `dists`.
      const bool flat = suite.ends_with('/');
      add(flat ? base + (suite == "/" ? "/" : "/" + suite) + "Release" : fmt::format("{}/dists/{}/Release", base, suite),
          step.place_of("url"));
    }
    add(step.text("key"), step.place_of("key"), step.text("sha256"), What::key);
    add(step.text("keyring"), step.place_of("keyring"), step.text("sha256"));
  }

  void look_at_packages(const LintStep& step, const char* field, const std::string& named) {
    const std::string mirrored = named.empty() ? mirror_.place("pypi") : mirror_.by_prefix("downloads", named).value_or("");
    const std::string index = without_slash(!mirrored.empty() ? mirrored : !named.empty() ? named : std::string(kUsualIndex));
    if (!is_fixed_url(index) || has_password(index)) return;
    for_each_item(step, field, [&](const std::string& text, const std::string& pointer) {
      const std::optional<PinnedPackage> package = read_pinned(text);
      if (!package) return;
      UpstreamAddress address{What::package, fmt::format("{}/{}/", index, package->name), pointer, {}, text};
      address.name = package->name;
      address.version = package->version;
      address.is_usual = named.empty() && mirrored.empty();
      found_.push_back(std::move(address));
    });
  }

  void look_at_channels(const LintStep& step) {
    std::set<std::string> seen;
    const auto add_channel = [&](const std::string& name, const std::string& pointer) {
      if (name.empty() || name.find("${{") != std::string::npos || !seen.insert(name).second) return;
      std::string url = name;
      const bool is_named = name.find("://") != std::string::npos;
      if (name == "defaults") {
        const std::string place = mirror_.place("conda_defaults");
        url = place.empty() ? std::string(kDefaults) : without_slash(place) + "/main";
      } else if (!is_named) {
        const std::string place = mirror_.place("conda");
        url = without_slash(place.empty() ? std::string(kUsualChannels) : place) + "/" + name;
      }
      if (!is_fixed_url(url) || has_password(url)) return;
      UpstreamAddress address{What::channel, without_slash(url) + "/noarch/repodata.json", pointer, {}, name};
      address.name = name;
      address.is_usual = !is_named && mirror_.place("conda").empty();
      found_.push_back(std::move(address));
    };
    for_each_item(step, "channels", add_channel);
    for_each_item(step, "packages", [&](const std::string& text, const std::string& pointer) {
      if (const std::size_t colons = text.find("::"); colons != std::string::npos && text.find("://") == std::string::npos)
        add_channel(text.substr(0, colons), pointer);
    });
  }

  void look_at_command(const LintStep& step, const char* field) {
    const Json* value = step.field(field);
    if (value == nullptr) return;
    std::string text = as_text(*value);
    if (value->is_array()) {
      for (const Json& word : *value) text += shell_quote(as_text(word)) + " ";
    }
    for (const auto& [url, is_fetched] : addresses_in_command(text)) {
      if (!is_fixed_url(url) || has_password(url) || is_private(url)) continue;
      UpstreamAddress address{What::command, url, step.place_of(field), {}, url};
      address.is_fetched = is_fetched;
      found_.push_back(std::move(address));
    }
  }

  /// Of a field that is a text or a list of texts.
  static void for_each_item(const LintStep& step, const char* field,
                            const std::function<void(const std::string&, const std::string&)>& visit) {
    if (const Json* value = step.field(field)) for_each_text(*value, step.place_of(field), visit);
  }

  const Mirror& mirror_;
  std::vector<UpstreamAddress> found_;
};

/// Whether a command does no more with an address than to fetch what is there.
bool only_fetches(const std::string& program, const std::vector<std::string>& words) {
  if (program == "git") return words.size() > 1 && words[1] == "clone";
  if (program == "wget" || program == "aria2c") {
    return std::none_of(words.begin(), words.end(), [](const std::string& word) {
      return word.starts_with("--post") || word.starts_with("--method") || word.starts_with("--body");
    });
  }
  if (program != "curl") return false;
  return std::none_of(words.begin() + 1, words.end(), [](const std::string& word) {
    const bool is_cluster = word.size() > 1 && word[0] == '-' && word[1] != '-';
    if (is_cluster) return word.find_first_of("XdFT") != std::string::npos;
    return word.starts_with("--request") || word.starts_with("--data") || word.starts_with("--form") || word.starts_with("--upload") ||
           word.starts_with("--json");
  });
}

}  // namespace

std::vector<UpstreamAddress> upstream_addresses(const LintReview& review, const Mirror& mirror) {
  Addresses addresses(mirror);
  for (const LintStep& step : review.steps) addresses.look_at(step);
  return addresses.take();
}

std::vector<std::pair<std::string, bool>> addresses_in_command(const std::string& text) {
  std::vector<std::pair<std::string, bool>> found;
  for (const FoundCommand& one : find_commands(text)) {
    const BareCommand bare = bare_command(one.command);
    std::vector<std::string> words;
    for (const ShellWord& word : bare.words) words.push_back(word.plain().value_or(""));
    if (words.empty()) continue;
    const std::string program = words[0].substr(words[0].rfind('/') + 1);
    for (std::size_t i = 1; i < words.size(); ++i) {
      // `--index-url=https://…` is an address too; one in the middle of a sentence is none that anybody fetches.
      const std::size_t equals = words[i].starts_with("-") ? words[i].find('=') : std::string::npos;
      std::string url = equals == std::string::npos ? words[i] : words[i].substr(equals + 1);
      if (program == "git" && url.starts_with("http") && only_fetches(program, words))
        url = without_slash(url) + "/info/refs?service=git-upload-pack";
      const auto is_same = [&](const auto& other) { return other.first == url; };
      if (is_fixed_url(url) && std::none_of(found.begin(), found.end(), is_same)) found.emplace_back(url, only_fetches(program, words));
    }
  }
  return found;
}

}  // namespace gpustrap

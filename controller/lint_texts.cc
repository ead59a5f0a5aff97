#include <algorithm>
#include <array>
#include <cctype>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/field_types.h"
#include "controller/lint_review.h"
#include "controller/lint_words.h"
#include "controller/pasted_text.h"

namespace gpustrap {
namespace {

/// Releases without free security fixes by the end of November 2026, Debian's by its LTS team's.
struct OldRelease {
  std::string_view os, version, codename, repository;
};
constexpr OldRelease kOldReleases[] = {
    {"ubuntu", "14.04", "trusty", "ubuntu1404"}, {"ubuntu", "16.04", "xenial", "ubuntu1604"},
    {"ubuntu", "18.04", "bionic", "ubuntu1804"}, {"ubuntu", "20.04", "focal", "ubuntu2004"},
    {"ubuntu", "23.10", "mantic", "ubuntu2310"}, {"ubuntu", "24.10", "oracular", "ubuntu2410"},
    {"ubuntu", "25.04", "plucky", "ubuntu2504"}, {"ubuntu", "25.10", "questing", "ubuntu2510"},
    {"debian", "8", "jessie", "debian8"},        {"debian", "9", "stretch", "debian9"},
    {"debian", "10", "buster", "debian10"},      {"debian", "11", "bullseye", "debian11"},
};

std::string lower(std::string text) {
  std::transform(text.begin(), text.end(), text.begin(),
                 [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; });
  return text;
}

std::string title_of(const OldRelease& release) {
  return fmt::format("{} {}", release.os == "ubuntu" ? "Ubuntu" : "Debian", release.version);
}

/// `ubuntu >= 18.04` lets releases through that are over.
void look_at_asked_systems(LintReview& review, const LintStep& step) {
  if (step.kind != StepKind::require) return;
  for (const std::string& wanted : step.texts("os")) {
    const std::size_t end = std::min(wanted.find_first_of(" <>="), wanted.size());
    const std::string condition(trim(wanted.substr(end)));
    if (condition.empty()) continue;
    std::vector<std::string> old;
    for (const OldRelease& release : kOldReleases) {
      const bool is_interim = release.os == "ubuntu" && release.version != "14.04" && release.version != "16.04" &&
                              release.version != "18.04" && release.version != "20.04";
      const Result<bool> matches = version_matches(release.version, condition);
      // A condition that begins at an LTS release means those behind it, not what came between.
      if (release.os == wanted.substr(0, end) && matches && *matches && !(is_interim && condition.starts_with('>')))
        old.push_back(title_of(release));
    }
    if (!old.empty())
      review.add("os-end-of-life", step.place_of("os"), wanted, fmt::format("`{}` lets {} through", wanted, join(old, ", ")));
  }
}

/// Releases that have security fixes: what a condition may be about.
constexpr OldRelease kGoodReleases[] = {{"ubuntu", "22.04", "", ""},
                                        {"ubuntu", "24.04", "", ""},
                                        {"ubuntu", "26.04", "", ""},
                                        {"debian", "12", "", ""},
                                        {"debian", "13", "", ""}};

/// IDs of os-release.
const std::vector<std::string> kSystems = {
    "ubuntu", "debian", "linuxmint", "pop",       "kali", "raspbian", "elementary", "zorin",         "fedora",
    "rhel",   "centos", "rocky",     "almalinux", "ol",   "amzn",     "sles",       "opensuse-leap", "opensuse-tumbleweed",
    "arch",   "alpine", "nixos",     "gentoo",    "void", "manjaro",  "flatcar",    "azurelinux",    "mariner"};

/// `when: {os_version: <20.04}`, which only releases that are over have; and names that no system has.
void look_at_named_systems(LintReview& review, const LintStep& step) {
  const auto when = step.step->find("when");
  LintStep condition;
  if (when != step.step->end() && when->is_object()) condition.fields = *when;
  const std::string pointer = step.pointer + "/when";
  const auto look = [&](const LintStep& where, const std::string& place) {
    for (const std::string& wanted : where.texts("os")) {
      const std::string name = wanted.substr(0, wanted.find_first_of(" <>="));
      if (name.empty() || name.find('$') != std::string::npos || std::find(kSystems.begin(), kSystems.end(), name) != kSystems.end())
        continue;
      const std::string near = nearest_name(lower(name), kSystems);
      review.add("os-unknown", place, name,
                 fmt::format("no system is called {}{}", quote_value(name), near.empty() ? "" : fmt::format("; did you mean `{}`?", near)));
    }
  };
  look(condition, pointer + "/os");
  if (step.kind == StepKind::require) look(step, step.place_of("os"));

  const std::string version = condition.text("os_version");
  const std::vector<std::string> systems = condition.texts("os");
  const auto is_meant = [&](const OldRelease& release) {
    return (systems.empty() || std::find(systems.begin(), systems.end(), release.os) != systems.end()) &&
           version_matches(release.version, version).value_or(false);
  };
  if (version.empty() || std::any_of(std::begin(kGoodReleases), std::end(kGoodReleases), is_meant)) return;
  std::vector<std::string> old;
  for (const OldRelease& release : kOldReleases) {
    if (is_meant(release)) old.push_back(title_of(release));
  }
  if (!old.empty())
    review.add("os-end-of-life", pointer + "/os_version", version, fmt::format("`{}` is true for nothing but {}", version, join(old, ", ")),
               std::nullopt, "take the step out where no host has such a release any more");
}

void look_at_old_names(LintReview& review, const std::string& text, const std::string& pointer) {
  const std::string small = lower(text);
  for (const OldRelease& release : kOldReleases) {
    for (const std::string_view name : {release.repository, release.codename}) {
      const std::size_t at = find_word(small, name);
      // Codenames are English words, too: only among names of repositories do they mean a release.
      const bool is_name = name == release.repository || small.find("deb ") != std::string::npos ||
                           small.find("://") != std::string::npos || small == name ||
                           small.find(std::string(name) + "-backports") != std::string::npos ||
                           small.find(std::string(name) + "-updates") != std::string::npos;
      if (at == std::string::npos || !is_name) continue;
      review.add("os-end-of-life", pointer, text.substr(at, name.size()),
                 fmt::format("`{}` is {}, which gets no security fixes any longer", name, title_of(release)));
      break;
    }
  }
}

/// Where a type of this family stands: "p2.xlarge", "g3.16xlarge"; else npos.
std::size_t find_type(const std::string& text, const std::string& family) {
  const auto is_alnum = [](char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); };
  const std::string start = family + ".";
  for (std::size_t at = text.find(start); at != std::string::npos; at = text.find(start, at + 1)) {
    const std::size_t size = std::min(text.find_first_not_of("0123456789", at + start.size()), text.size());
    if ((at == 0 || !is_alnum(text[at - 1])) && (text.compare(size, 6, "xlarge") == 0 || text.compare(size, 5, "metal") == 0)) return at;
  }
  return std::string::npos;
}

void look_at_gpus(LintReview& review, const std::string& text, const std::string& pointer) {
  const std::string small = lower(text);
  for (const GpuRow& row : review.compat.gpus) {
    if (!row.retired) continue;
    for (const std::string& family : row.instances.items) {
      const bool goes_on = std::any_of(review.compat.gpus.begin(), review.compat.gpus.end(), [&](const GpuRow& other) {
        return !other.retired &&
               std::find(other.instances.items.begin(), other.instances.items.end(), family) != other.instances.items.end();
      });
      const std::size_t at = goes_on ? std::string::npos : find_type(small, family);
      if (at != std::string::npos)
        review.add("gpu-retired", pointer, text.substr(at, family.size() + 1),
                   fmt::format("{} instances ({}) can no longer be started", family, row.name));
    }
    for (const std::string& alias : row.aliases.items) {
      const bool is_other = std::any_of(review.compat.gpus.begin(), review.compat.gpus.end(), [&](const GpuRow& other) {
        return !other.retired && std::any_of(other.aliases.items.begin(), other.aliases.items.end(),
                                             [&](const std::string& name) { return name.starts_with(alias); });
      });
      const std::size_t at = is_other ? std::string::npos : find_word(small, alias);
      if (at != std::string::npos)
        review.add("gpu-retired", pointer, text.substr(at, alias.size()),
                   fmt::format("no instance with {} can be started any more", row.name), Severity::note);
    }
  }
}

/// `token=''` behind one of the names that the option has had.
bool is_empty_behind(std::string_view text, std::size_t at) {
  std::string_view rest = trim(text.substr(at));
  if (!rest.starts_with('=')) return false;
  rest.remove_prefix(1);
  while (rest.starts_with(' ')) rest.remove_prefix(1);
  if (rest.starts_with('u') && rest.size() > 1 && (rest[1] == '\'' || rest[1] == '"')) rest.remove_prefix(1);
  if (rest.starts_with("''") || rest.starts_with("\"\"")) return true;
  return rest.empty() || rest.front() == ' ' || rest.front() == '\n';
}

void look_at_notebooks(LintReview& review, const std::string& text, const std::string& pointer) {
  if (text.find("jupyter") == std::string::npos && text.find("NotebookApp") == std::string::npos &&
      text.find("ServerApp") == std::string::npos)
    return;
  for (const std::string_view open :
       {"--ip=0.0.0.0", "--ip 0.0.0.0", "--ip=*", "--ip='*'", "--ip=\"*\"", "--ip '*'", "--ip \"*\"", "App.ip = '*'", "App.ip = '0.0.0.0'",
        "App.ip = \"*\"", "App.ip = \"0.0.0.0\"", "App.ip='*'", "App.ip='0.0.0.0'", "App.ip=0.0.0.0", "--ip=::"}) {
    if (text.find(open) != std::string::npos)
      review.add("jupyter-open", pointer, open, fmt::format("`{}` makes the notebook listen on all interfaces", open));
  }
  for (const std::string_view name : {"NotebookApp.token", "ServerApp.token", "IdentityProvider.token"}) {
    const std::size_t at = text.find(name);
    if (at != std::string::npos && is_empty_behind(text, at + name.size()))
      review.add("jupyter-no-token", pointer, name, "an empty token lets everybody in");
  }
}

void look_at_text(LintReview& review, const std::string& text, const std::string& pointer) {
  if (const std::string credential = credential_in(text); !credential.empty())
    review.add_secret("secret-in-text", pointer, credential,
                      credential.starts_with("-----") ? "a private key stands here" : "this looks like a credential");
  look_at_old_names(review, text, pointer);
  look_at_gpus(review, text, pointer);
  look_at_notebooks(review, text, pointer);
  for (const std::string_view off :
       {"StrictHostKeyChecking no", "StrictHostKeyChecking=no", "UserKnownHostsFile /dev/null", "UserKnownHostsFile=/dev/null"}) {
    if (text.find(off) != std::string::npos)
      review.add("host-key-unchecked", pointer, off, fmt::format("`{}`: any server is believed", off));
  }
  const bool is_source = text.find("deb ") != std::string::npos || text.find("deb-src ") != std::string::npos;
  for (const std::string_view all : {"trusted=yes", "Trusted: yes"}) {
    if (text.find(all) != std::string::npos && (is_source || text.find("URIs:") != std::string::npos))
      review.add("key-unpinned", pointer, all, fmt::format("`{}`: apt takes packages that nobody has signed", all));
  }
  if (const std::size_t at = lower(text).find("7fa2af80"); at != std::string::npos)
    review.add("repository-key-retired", pointer, text.substr(at, 8), "the key 7fa2af80 no longer signs NVIDIA's repositories");
}

void look_at_pasted(LintReview& review, const LintStep& step, const std::string& text, const std::string& pointer) {
  const std::string field = pointer.substr(pointer.rfind('/') + 1);
  // What a file or a person reads may hold what it likes.
  if (field == "content" || field == "name" || field == "description" || field == "unit") return;
  const bool is_shell = step.kind == StepKind::command && (pointer == step.place_of("run") || pointer == step.place_of("unless"));
  const auto found = is_shell ? find_pasted_in_shell(text) : find_pasted(text);
  if (found) review.add("pasted-character", pointer, found->bytes, describe(*found));
}

/// `{{ vars.x }}` of other tools, `${vars.x}`, `$vars.x`.
void look_at_placeholder_forms(LintReview& review, const std::string& text, const std::string& pointer) {
  for (const std::string_view space : {"vars.", "secrets.", "facts.", "hosts."}) {
    for (std::size_t at = text.find(space); at != std::string::npos; at = text.find(space, at + 1)) {
      std::size_t begin = at;
      while (begin > 0 && text[begin - 1] == ' ') --begin;
      while (begin > 0 && (text[begin - 1] == '{' || text[begin - 1] == '$')) --begin;
      const std::string opening(trim(std::string_view(text).substr(begin, at - begin)));
      const bool is_right = opening.ends_with("${{");
      const bool is_tried = opening.ends_with("{{") || opening.ends_with("${") || (opening.ends_with('$') && at == begin + 1);
      if (is_right || !is_tried) continue;
      std::size_t end = at;
      while (end < text.size() && (std::isalnum(static_cast<unsigned char>(text[end])) != 0 || text[end] == '.' || text[end] == '_')) ++end;
      const std::string name = text.substr(at, end - at);
      while (end < text.size() && (text[end] == ' ' || text[end] == '}') && opening != "$") ++end;
      const std::string written(trim(std::string_view(text).substr(begin, end - begin)));
      review.add("placeholder-form", pointer, written, fmt::format("`{}` stays as it stands: expected `${{{{ {} }}}}`", written, name));
      break;
    }
  }
}

/// Whether `vars.NAME` (or the like) stands in the text, and no longer name.
bool names_value(const std::string& text, const std::string& name) {
  for (std::size_t at = text.find(name); at != std::string::npos; at = text.find(name, at + 1)) {
    const char next = at + name.size() < text.size() ? text[at + name.size()] : ' ';
    if (next == ' ' || next == '}' || next == '\t') return true;
  }
  return false;
}

/// `{{ folder }}`, which other tools take for the var `folder`.
void look_at_bare_braces(LintReview& review, const std::string& name, const std::string& text) {
  int line = 0;
  for (const std::string& one : split(text, '\n')) {
    ++line;
    for (const std::string& written : {fmt::format("{{{{ {} }}}}", name), fmt::format("{{{{{}}}}}", name)}) {
      const std::size_t at = one.find(written);
      if (at == std::string::npos || (at > 0 && one[at - 1] == '$') || trim(one).starts_with('#')) continue;
      review.add_at("placeholder-form", {review.recipe.source, line, static_cast<int>(at) + 1},
                    fmt::format("`{}` stays as it stands: expected `${{{{ vars.{} }}}}`", written, name));
    }
  }
}

void look_at_vars(LintReview& review, const Json& document, const PlaceMap& places, const std::string& text) {
  const auto vars = document.find("vars");
  if (vars == document.end() || !vars->is_object()) return;
  for (const auto& [name, value] : vars->items()) {
    const std::string pointer = join_pointer("/vars", name);
    const bool is_key = std::any_of(vars->begin(), vars->end(),
                                    [&](const Json& other) { return other.is_object() && other.contains("by") && other["by"] == name; });
    if (!is_key && !names_value(text, "vars." + name))
      review.add_at("var-unused", places.at(pointer).key, fmt::format("nothing uses the var `{}`", name));
    look_at_bare_braces(review, name, text);
    if (value.is_string() && is_secret_name_for_people(name) && is_literal_secret(value.get<std::string>())) {
      review.add_at("secret-in-text", places.at(pointer).value, fmt::format("the var `{}` has its value in plain text", name));
      review.hide(value.get<std::string>());
    }
  }
}

void look_at_secret_uses(LintReview& review, const Json& document, const PlaceMap& places) {
  const auto secrets = document.find("secrets");
  if (secrets == document.end() || !secrets->is_object()) return;
  for (const auto& [name, value] : secrets->items()) {
    const std::string wanted = "secrets." + name;
    const bool used = std::any_of(review.recipe.texts.begin(), review.recipe.texts.end(),
                                  [&](const auto& file) { return names_value(file.second, wanted); });
    if (!used)
      review.add_at("secret-unused", places.at(join_pointer("/secrets", name)).key, fmt::format("nothing uses the secret `{}`", name));
  }
}

void look_at_review_marks(LintReview& review, const std::string& text) {
  constexpr std::string_view kMark = "# review:";
  int line = 0;
  for (const std::string& one : split(text, '\n')) {
    ++line;
    const std::size_t at = one.find(kMark);
    if (at == std::string::npos || (at > 0 && one[at - 1] != ' ')) continue;
    review.add_at("review", {review.recipe.source, line, static_cast<int>(at) + 1}, std::string(trim(one.substr(at + kMark.size()))));
  }
}

}  // namespace

void lint_texts(LintReview& review) {
  for (const LintStep& step : review.steps) {
    look_at_asked_systems(review, step);
    look_at_named_systems(review, step);
    // Its words are apart in a list, and mean something together.
    if (step.kind == StepKind::command && step.field("run") != nullptr && step.field("run")->is_array())
      look_at_notebooks(review, join(step.texts("run"), " "), step.place_of("run"));
    for_each_text(*step.step, step.pointer, [&](const std::string& text, const std::string& pointer) {
      look_at_pasted(review, step, text, pointer);
      look_at_placeholder_forms(review, text, pointer);
      // What `require` asks for is looked at above.
      if (!(step.kind == StepKind::require && pointer.find("/os") != std::string::npos)) look_at_text(review, text, pointer);
    });
  }
  if (!review.recipe.document || !review.recipe.document->is_object()) return;
  const auto description = review.recipe.document->find("description");
  if (description != review.recipe.document->end() && description->is_string())
    look_at_text(review, description->get<std::string>(), "/description");
}

void lint_whole(LintReview& review) {
  const auto found = review.recipe.texts.find(review.recipe.source);
  if (found == review.recipe.texts.end()) return;
  std::vector<SourceProblem> said_before;
  const YamlDocument yaml = read_yaml(found->second, found->first, said_before);
  if (!yaml.value || !yaml.value->is_object()) return;
  look_at_vars(review, *yaml.value, yaml.places, found->second);
  look_at_secret_uses(review, *yaml.value, yaml.places);
  look_at_review_marks(review, found->second);
  if (!yaml.value->contains("description")) review.add_at("description-missing", {found->first, 1, 1}, "the recipe has no `description`");
}

}  // namespace gpustrap

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
#include "controller/shell_reader.h"

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

/// A literal value, not a name of where one is found.
bool is_literal_secret(const std::string& value) {
  return value.size() >= 4 && value.find("${{") == std::string::npos && value.find('$') == std::string::npos && !value.starts_with('/') &&
         !value.starts_with('~') && !value.starts_with('<') && value != "true" && value != "false" && value != "none";
}

/// `curl -u me:password`, `--password=…`, `--token …`.
void look_at_password_options(LintReview& review, const BareCommand& bare, const std::string& pointer) {
  const auto add = [&](const std::string& value, const std::string& option) {
    if (is_literal_secret(value))
      review.add_secret("secret-in-text", pointer, value, fmt::format("`{}` has its value in plain text", option));
  };
  const std::string program = bare.words.empty() ? "" : name_of_path(bare.words[0].shown());
  for (std::size_t i = 1; i < bare.words.size(); ++i) {
    const std::string word = bare.words[i].shown();
    const std::string next = i + 1 < bare.words.size() ? bare.words[i + 1].shown() : "";
    const std::size_t equals = word.find('=');
    const std::string option = word.substr(0, equals);
    if (program == "curl" && (word == "-u" || word == "--user") && next.find(':') != std::string::npos)
      add(next.substr(next.find(':') + 1), word);
    if (!option.starts_with("--") || !is_secret_name_for_people(option.substr(2))) continue;
    if (equals != std::string::npos)
      add(word.substr(equals + 1), option);
    else if (!next.starts_with('-'))
      add(next, option);
  }
}

void look_at_secrets(LintReview& review, const LintStep& step) {
  const auto named = [&](const std::string& name, const std::string& value, const std::string& pointer) {
    if (!is_secret_name_for_people(name) || !is_literal_secret(value)) return;
    review.add_secret("secret-in-text", pointer, value, fmt::format("{} has its value in plain text", quote_value(name)));
  };
  const auto env = step.step->find("env");
  if (env != step.step->end() && env->is_object()) {
    for (const auto& [name, value] : env->items()) {
      if (value.is_string()) named(name, value.get<std::string>(), join_pointer(step.pointer + "/env", name));
    }
  }
  if (step.kind == StepKind::environment) {
    for (const auto& [name, value] : step.fields.items()) {
      if (value.is_string()) named(name, value.get<std::string>(), step.place_of(name));
    }
  }
  if (step.kind != StepKind::command) return;
  const std::string run = step.text("run");
  for (const FoundCommand& found : find_commands(run)) {
    for (const ShellAssignment& one : found.command.assignments) named(one.name, one.value.plain().value_or(""), step.place_of("run"));
    const BareCommand bare = bare_command(found.command);
    look_at_password_options(review, bare, step.place_of("run"));
    if (bare.words.empty() || bare.words[0].shown() != "export") continue;
    for (const ShellWord& word : bare.words) {
      const std::string text = word.plain().value_or("");
      if (const std::size_t equals = text.find('='); equals != std::string::npos)
        named(text.substr(0, equals), text.substr(equals + 1), step.place_of("run"));
    }
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

void look_at_vars(LintReview& review, const Json& document, const PlaceMap& places, const std::string& text) {
  const auto vars = document.find("vars");
  if (vars == document.end() || !vars->is_object()) return;
  for (const auto& [name, value] : vars->items()) {
    const std::string pointer = join_pointer("/vars", name);
    const bool is_key = std::any_of(vars->begin(), vars->end(),
                                    [&](const Json& other) { return other.is_object() && other.contains("by") && other["by"] == name; });
    if (!is_key && !names_value(text, "vars." + name))
      review.add_at("var-unused", places.at(pointer).key, fmt::format("nothing uses the var `{}`", name));
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
    look_at_secrets(review, step);
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

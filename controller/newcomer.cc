#include "controller/newcomer.h"

#include <algorithm>
#include <cstddef>
#include <filesystem>
#include <system_error>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/help_text.h"
#include "controller/ssh_config.h"

namespace gpustrap {
namespace {

const char* const kSeeRecipes = "`gpustrap recipe list` shows the recipes there are";

bool looks_like_key(std::string_view word) {
  for (const std::string_view ending : {".pem", ".key", ".ppk", "id_rsa", "id_ed25519", "id_ecdsa"}) {
    if (word.ends_with(ending)) return true;
  }
  return word.find("/.ssh/") != std::string_view::npos;
}

bool looks_like_recipe_file_name(std::string_view word) { return word.ends_with(".yaml") || word.ends_with(".yml"); }

bool looks_like_recipe_file(std::string_view word) { return word.find('/') != std::string_view::npos || looks_like_recipe_file_name(word); }

bool looks_like_host(std::string_view word) {
  if (looks_like_recipe_file(word) || looks_like_key(word)) return false;
  if (word.find('@') != std::string_view::npos || word == "localhost") return true;
  return word.find('.') != std::string_view::npos && word.front() != '.' && word.back() != '.';
}

Error usage_error(std::string why, std::string hint) { return {ErrorCode::usage, std::move(why), std::move(hint)}; }

/// What a verb takes: "RECIPE HOST", "HOST [STEP]".
struct Shape {
  std::string_view verb;
  std::size_t least, most;
  std::string_view example;
};
constexpr std::size_t kAny = 1000;
constexpr Shape kShapes[] = {
    {"up", 2, kAny, "gpustrap up jupyter ubuntu@HOST -i key.pem"},
    {"plan", 2, kAny, "gpustrap plan jupyter ubuntu@HOST"},
    {"attach", 1, kAny, "gpustrap attach HOST"},
    {"status", 1, kAny, "gpustrap status HOST"},
    {"logs", 1, 2, "gpustrap logs HOST [STEP]"},
    {"cancel", 1, kAny, "gpustrap cancel HOST"},
    {"keep", 1, 2, "gpustrap keep HOST 2h"},
    {"tunnel", 1, 1, "gpustrap tunnel HOST"},
    {"url", 1, 1, "gpustrap url HOST"},
    {"open", 1, 1, "gpustrap open HOST"},
    {"ssh", 1, 1, "gpustrap ssh HOST"},
    {"hosts", 0, 0, "gpustrap hosts --forget HOST"},
    {"remove", 1, kAny, "gpustrap remove HOST"},
    {"pull", 2, 3, "gpustrap pull HOST notebooks ."},
    {"push", 2, 3, "gpustrap push HOST data.zip"},
    {"report", 0, kAny, "gpustrap report HOST --html report.html"},
    {"doctor", 0, kAny, "gpustrap doctor HOST"},
    {"history", 0, kAny, "gpustrap history HOST"},
    {"recipe list", 0, 0, "gpustrap recipe list"},
    {"recipe show", 1, 1, "gpustrap recipe show jupyter"},
    {"recipe explain", 1, 1, "gpustrap recipe explain d2l --gpu t4 --os ubuntu:22.04"},
    {"recipe lint", 1, kAny, "gpustrap recipe lint ./lab.yaml"},
    {"recipe schema", 0, 0, "gpustrap recipe schema > recipe.schema.json"},
    {"recipe test", 1, 1, "gpustrap recipe test ./lab.yaml"},
    {"recipe new", 0, 1, "gpustrap recipe new lab.yaml"},
    {"adopt", 1, 1, "gpustrap adopt setup.sh -o lab.yaml"},
    {"pack", 1, 1, "gpustrap pack d2l"},
    {"completion", 1, 1, "gpustrap completion bash"},
    {"config", 0, 0, "gpustrap config --origin"},
    {"man", 0, 0, "gpustrap man"},
    {"launch", 0, 0, "gpustrap launch --gpu t4 --name lab"},
    {"ls", 0, 0, "gpustrap ls"},
    {"start", 1, kAny, "gpustrap start NAME"},
    {"stop", 1, kAny, "gpustrap stop NAME"},
    {"terminate", 1, kAny, "gpustrap terminate NAME"},
    {"image", 1, 2, "gpustrap image NAME lab-2026"},
    {"quota", 0, 2, "gpustrap quota request 8 --gpu t4"},
    {"version", 0, 0, "gpustrap version"},
};

/// What other tools call a verb.
struct OtherWord {
  std::string_view word, verb;
};
constexpr OtherWord kOtherWords[] = {
    {"run", "up"},    {"apply", "up"},     {"install", "up"},           {"deploy", "up"},       {"provision", "up"},
    {"setup", "up"},  {"bootstrap", "up"}, {"execute", "up"},           {"dry-run", "plan"},    {"check", "plan"},
    {"diff", "plan"}, {"preview", "plan"}, {"validate", "recipe lint"}, {"uninstall", "remove"}};
constexpr std::string_view kDryRuns[] = {"--dry-run", "--dryrun", "--check", "--diff", "--noop", "--simulate", "-n"};

std::string_view verb_of_other_word(std::string_view word) {
  const auto* const found =
      std::find_if(std::begin(kOtherWords), std::end(kOtherWords), [&](const OtherWord& one) { return one.word == word; });
  return found == std::end(kOtherWords) ? std::string_view() : found->verb;
}

/// The example of a verb, or the words that stood behind the wrong one.
std::string with_words(std::string_view verb, const std::vector<std::string>& words) {
  if (words.size() > 1) return fmt::format("gpustrap {} {}", verb, join({words.begin() + 1, words.end()}, " "));
  const auto* const shape = std::find_if(std::begin(kShapes), std::end(kShapes), [&](const Shape& one) { return one.verb == verb; });
  return shape == std::end(kShapes) ? fmt::format("gpustrap {}", verb) : std::string(shape->example);
}

Result<void> check_recipe_and_host(const std::string& verb, const std::vector<std::string>& places, const std::string& hosts_file) {
  if (!hosts_file.empty()) {
    if (places.size() == 1) return {};
    if (places.empty()) {
      return fail(usage_error(fmt::format("{} needs a recipe beside the hosts file", verb),
                              fmt::format("gpustrap {} jupyter -f {}\n{}", verb, hosts_file, kSeeRecipes)));
    }
    return fail(usage_error(fmt::format("the hosts come from {}; `{}` is one word too many", hosts_file, places[1]),
                            fmt::format("to pick some of them: --limit {}", join({places.begin() + 1, places.end()}, ","))));
  }
  if (places.empty())
    return fail(usage_error(fmt::format("{} needs a recipe and a host", verb),
                            fmt::format("gpustrap {} jupyter ubuntu@HOST -i key.pem\n{}", verb, kSeeRecipes)));
  if (places.size() == 1) {
    if (looks_like_host(places[0])) {
      return fail(usage_error(fmt::format("{} needs a recipe before the host", verb),
                              fmt::format("gpustrap {} jupyter {}\n{}", verb, places[0], kSeeRecipes)));
    }
    return fail(
        usage_error(fmt::format("{} needs a host after the recipe", verb), fmt::format("gpustrap {} {} ubuntu@HOST", verb, places[0])));
  }
  // `up jupyter /path/of/key HOST`: whatever the file is called, a path behind the recipe can only be meant as a key.
  for (std::size_t i = 1; i < places.size(); ++i) {
    if (looks_like_recipe_file_name(places[i]) && places.size() > 2)
      return fail(usage_error(fmt::format("`{}` is a file, not a host", places[i]),
                              fmt::format("a file of hosts goes behind -f: -f {}", places[i])));
    if (places[i].find('/') == std::string::npos || places[i].find("://") != std::string::npos || looks_like_recipe_file_name(places[i]))
      continue;
    return fail(usage_error(fmt::format("`{}` is a path, not a host", places[i]), fmt::format("a key goes behind -i: -i {}", places[i])));
  }
  const bool host_first = looks_like_host(places[0]) && !looks_like_host(places[1]);
  if (host_first) {
    return fail(usage_error("the recipe comes before the host", fmt::format("gpustrap {} {} {}", verb, places[1], places[0])));
  }
  if (places[0].find('@') != std::string::npos) {
    return fail(usage_error(fmt::format("`{}` is not the name of a recipe", places[0]), kSeeRecipes));
  }
  return {};
}

}  // namespace

Result<Destination> read_destination(const std::string& word) {
  const auto refuse = [&](const std::string& why, const std::string& hint) {
    return fail(usage_error(fmt::format("`{}`: {}", word, why), hint));
  };
  if (word.starts_with("ssh://")) return refuse("a host is written without ssh://", "USER@HOST, and -p for the port");
  const std::size_t at = word.rfind('@');
  Destination destination;
  if (at != std::string::npos) destination.user = word.substr(0, at);
  destination.host = at == std::string::npos ? word : word.substr(at + 1);
  std::string& host = destination.host;
  if (at == 0) return refuse("there is no user before the @", host);
  if (host.empty()) return refuse("there is no host in it", "USER@HOST, for instance ubuntu@203.0.113.7");
  if (!is_plain_name(host) || !is_plain_name(destination.user))
    return refuse("this cannot be a host", "USER@HOST, for instance ubuntu@203.0.113.7");
  if (host.front() == '[' && host.find(']') != std::string::npos) {
    if (host.back() != ']') return refuse("the port goes behind -p", fmt::format("-p {}", host.substr(host.find(']') + 2)));
    host = host.substr(1, host.size() - 2);
  } else if (std::count(host.begin(), host.end(), ':') == 1) {
    const std::size_t colon = host.find(':');
    const std::string who = destination.user.empty() ? "" : destination.user + "@";
    return refuse("the port goes behind -p", fmt::format("{}{} -p {}", who, host.substr(0, colon), host.substr(colon + 1)));
  }
  if (host.find('/') != std::string::npos) return refuse("this is a path, not a host", "USER@HOST, for instance ubuntu@203.0.113.7");
  return destination;
}

Result<void> check_verb(const std::vector<std::string>& words) {
  const std::string& first = words[0];
  const std::vector<std::string>& verbs = verb_names();
  const auto is_verb = [&](const std::string& word) { return std::find(verbs.begin(), verbs.end(), word) != verbs.end(); };
  if (first == "recipe") {
    const std::vector<std::string> known = sub_verbs_of("recipe");
    if (words.size() > 1 && (words[1] == "-h" || words[1] == "--help")) return {};
    if (words.size() > 1 && std::find(known.begin(), known.end(), words[1]) != known.end()) return {};
    const std::string near = words.size() > 1 ? nearest_name(words[1], known) : "";
    return fail(usage_error(
        words.size() > 1 ? fmt::format("recipe has no `{}`{}", words[1], near.empty() ? "" : fmt::format("; did you mean `{}`?", near))
                         : "recipe needs to know what to do",
        fmt::format("`gpustrap recipe list` shows the recipes there are, `gpustrap recipe new` begins one; also: {}",
                    join({"show", "explain", "lint", "test", "schema"}, ", "))));
  }
  if (is_verb(first)) return {};
  if (first.starts_with('-')) {
    const auto verb = std::find_if(words.begin(), words.end(), is_verb);
    return fail(usage_error(fmt::format("`{}` stands before the verb", first),
                            verb == words.end() ? "gpustrap up jupyter ubuntu@HOST -i key.pem"
                                                : fmt::format("write `gpustrap {} …` first, then the options", *verb)));
  }
  if (looks_like_host(first)) {
    if (words.size() > 1 && !words[1].starts_with('-') && !is_verb(words[1]) && !looks_like_key(words[1])) {
      return fail(usage_error("what is to be done with that host?", fmt::format("gpustrap up {} {}", words[1], first)));
    }
    return fail(usage_error("what is to be done with that host?", fmt::format("gpustrap up jupyter {}\n{}", first, kSeeRecipes)));
  }
  const bool is_alone = words.size() == 1 || looks_like_host(words[1]);
  std::error_code ignored;
  const bool is_file_here = !looks_like_recipe_file_name(first) && is_alone && std::filesystem::is_regular_file(first, ignored);
  if (looks_like_recipe_file_name(first) || is_file_here) {
    // A name without `/` or .yaml is one of gpustrap's own recipes, or a verb: the file has to say that it is one.
    const std::string file = (is_file_here && first.find('/') == std::string::npos ? "./" : "") + first;
    return fail(usage_error(is_file_here ? fmt::format("there is no verb `{}`; for the file of that name write `{}`", first, file)
                                         : "what is to be done with that recipe?",
                            fmt::format("gpustrap recipe lint {0}\ngpustrap plan {0} {1}\ngpustrap up {0} {1}", file,
                                        words.size() > 1 && looks_like_host(words[1]) ? words[1] : "ubuntu@HOST")));
  }
  const std::vector<std::string> of_recipe = sub_verbs_of("recipe");
  if (std::find(of_recipe.begin(), of_recipe.end(), first) != of_recipe.end())
    return fail(usage_error(fmt::format("there is no verb `{0}`; it is `recipe {0}`", first), with_words("recipe " + first, words)));
  if (const std::string_view verb = verb_of_other_word(first); !verb.empty())
    return fail(usage_error(fmt::format("there is no verb `{}`; here it is `{}`", first, verb), with_words(verb, words)));
  const std::string near = nearest_name(first, verbs);
  if (!near.empty())
    return fail(usage_error(fmt::format("there is no verb `{}`; did you mean `{}`?", first, near), "`gpustrap --help` lists the verbs"));
  if (words.size() > 1 && looks_like_host(words[1])) {
    return fail(usage_error(fmt::format("there is no verb `{}`", first), fmt::format("gpustrap up {} {}", first, words[1])));
  }
  return fail(usage_error(fmt::format("there is no verb `{}`", first),
                          fmt::format("`gpustrap --help` lists the verbs; a recipe is run by `gpustrap up {} ubuntu@HOST`", first)));
}

Result<void> check_places(const std::string& verb, const std::vector<std::string>& places, const std::string& hosts_file) {
  if ((verb == "pull" || verb == "push") && places.size() == 1)
    return fail(usage_error(fmt::format("{} needs a path {} {}", verb, verb == "pull" ? "on" : "to copy to", places[0]),
                            fmt::format("gpustrap {} {} {}", verb, places[0], verb == "pull" ? "notebooks ." : "data.zip")));
  // What is copied may be a key.
  const bool copies = verb == "pull" || verb == "push";
  const auto key = copies ? places.end() : std::find_if(places.begin(), places.end(), looks_like_key);
  if (key != places.end()) {
    return fail(usage_error(fmt::format("`{}` looks like a key file", *key), fmt::format("a key goes behind -i: -i {}", *key)));
  }
  if (verb == "up" || verb == "plan") return check_recipe_and_host(verb, places, hosts_file);
  for (const Shape& shape : kShapes) {
    if (shape.verb != verb) continue;
    if (!hosts_file.empty()) {  // only verbs that take many hosts have it
      if (places.empty()) return {};
      return fail(usage_error(fmt::format("the hosts come from {}; `{}` is one word too many", hosts_file, places[0]),
                              fmt::format("to pick some of them: --limit {}", join(places, ","))));
    }
    if (places.size() > shape.most) {
      return fail(usage_error(fmt::format("{}: `{}` is one word too many", verb, places[shape.most]), std::string(shape.example)));
    }
    if (places.size() < shape.least) {
      return fail(usage_error(
          fmt::format("{} needs a {}", verb,
                      verb == "recipe show"                                                         ? "recipe"
                      : verb == "recipe lint" || verb == "recipe test" || verb == "pack"            ? "recipe"
                      : verb == "recipe explain"                                                    ? "recipe or a kind"
                      : verb == "adopt"                                                             ? "shell script"
                      : verb == "start" || verb == "stop" || verb == "terminate" || verb == "image" ? "name (`gpustrap ls` shows them)"
                      : verb == "completion"                                                        ? "shell: bash, zsh or fish"
                                                                                                    : "host"),
          std::string(shape.example)));
    }
  }
  return {};
}

Error unknown_option(const std::string& verb, const std::string& option, const std::vector<std::string>& known) {
  const std::string name = option.substr(0, option.find('='));
  if (verb == "up" && std::find(std::begin(kDryRuns), std::end(kDryRuns), name) != std::end(kDryRuns))
    return usage_error(fmt::format("up has no option {}; `plan` says what would change, and changes nothing", name),
                       "gpustrap plan RECIPE HOST");
  const std::string near = name.starts_with("--") ? nearest_name(name, known) : "";
  return usage_error(fmt::format("{} has no option {}{}", verb, name, near.empty() ? "" : fmt::format("; did you mean {}?", near)),
                     fmt::format("`gpustrap {} --help` lists its options", verb));
}

}  // namespace gpustrap

#include "controller/completion.h"

#include <algorithm>
#include <cctype>
#include <cstddef>
#include <optional>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "controller/command_line.h"
#include "controller/doctor/diagnosis.h"
#include "controller/help_text.h"

namespace gpustrap {
namespace {

bool starts_with(std::string_view text, std::string_view start) { return text.substr(0, start.size()) == start; }

/// "[STEP]", "HOST...", "NAME,..." without what says how often.
std::string bare(std::string word) {
  std::erase_if(word, [](char c) { return c == '[' || c == ']' || c == '.' || c == ','; });
  return word;
}

bool is_said_as_it_stands(const std::string& word) {
  return std::any_of(word.begin(), word.end(), [](unsigned char c) { return std::islower(c) != 0; }) || word == "-";
}

/// What stands before the cursor, as far as it matters for what may follow.
struct Said {
  const VerbDescription* verb = nullptr;
  std::vector<std::string> places;
  std::vector<std::string> options;            ///< names of those given
  const OptionDescription* waiting = nullptr;  ///< the option whose value is being written
  std::string hosts_file;
  bool only_places = false;  ///< behind `--`
};

const OptionDescription* option_named(const VerbDescription& verb, std::string_view name) {
  for (const OptionDescription& option : verb.options) {
    if (std::find(option.names.begin(), option.names.end(), name) != option.names.end()) return &option;
  }
  return nullptr;
}

void take(Said& said, const std::string& word) {
  if (said.waiting != nullptr) {
    if (said.waiting->value == "FILE" && said.waiting->name() == "--hosts") said.hosts_file = word;
    said.waiting = nullptr;
  } else if (said.only_places || word.size() < 2 || word.front() != '-') {
    said.places.push_back(word);
  } else if (word == "--") {
    said.only_places = true;
  } else {
    const OptionDescription* option = option_named(*said.verb, word.substr(0, word.find('=')));
    if (option == nullptr) return;
    said.options.insert(said.options.end(), option->names.begin(), option->names.end());
    if (option->takes_value() && word.find('=') == std::string::npos) said.waiting = option;
  }
}

class Completer {
 public:
  Completer(const CompletionWorld& world, std::string current) : world_(world), current_(std::move(current)) {}

  Completion verbs(const std::vector<VerbDescription>& all, const std::string& prefix) {
    std::vector<std::string> known;
    for (const VerbDescription& verb : all) {
      if (!starts_with(verb.name, prefix)) continue;
      const std::string rest = verb.name.substr(prefix.size());
      const std::string name = rest.substr(0, rest.find(' '));
      if (std::find(known.begin(), known.end(), name) != known.end()) continue;
      known.push_back(name);
      offer({name, name == rest ? verb.what : fmt::format("{} …", join(sub_verbs_of(prefix + name), ", "))});
    }
    return finished();
  }

  Completion word_of(const Said& said) {
    const std::size_t equals = current_.find('=');
    if (said.waiting != nullptr) {
      value_of(*said.waiting, said);
    } else if (!said.only_places && starts_with(current_, "--") && equals != std::string::npos) {
      const OptionDescription* option = option_named(*said.verb, current_.substr(0, equals));
      if (option == nullptr || !option->takes_value()) return finished();
      before_ = current_.substr(0, equals + 1);
      value_of(*option, said);
    } else if (!said.only_places && starts_with(current_, "-") && current_ != "-") {
      options(said);
    } else {
      place(said);
      if (current_ == "-") options(said);
    }
    return finished();
  }

 private:
  /// Candidates are whole words: what is written already is part of them.
  void offer(Candidate candidate) {
    candidate.word = before_ + candidate.word;
    if (!starts_with(candidate.word, current_) || strip_control(candidate.word) != candidate.word) return;
    if (candidate.word.find_first_of(" \t\n") != std::string::npos) return;
    candidate.what = first_line(strip_control(candidate.what), 100);
    found_.candidates.push_back(std::move(candidate));
  }
  void offer_all(const std::vector<Candidate>& candidates) {
    for (const Candidate& candidate : candidates) offer(candidate);
  }

  Completion finished() { return std::move(found_); }

  void options(const Said& said) {
    for (const OptionDescription& option : said.verb->options) {
      const bool given = std::find(said.options.begin(), said.options.end(), option.name()) != said.options.end();
      if (given && !option.repeats) continue;
      for (const std::string& name : option.names) {
        if (starts_with(name, "--") || option.names.size() == 1 || current_ == "-") offer({name, option.what});
      }
    }
  }

  void value_of(const OptionDescription& option, const Said& said) {
    const std::string recipe = said.places.empty() ? "" : said.places[0];
    if (option.name() == "--mirror") {
      offer_all(world_.mirrors());
      offer({"none", "the usual places"});
    } else if (option.name() == "--proxy") {
      offer({"none", "what the host itself has"});
    } else if (option.name() == "--limit") {
      listed();
      offer({"failed", "those that failed last time"});
      if (!said.hosts_file.empty()) offer_all(world_.fleet(said.hosts_file));
    } else if (option.name() == "--gpu") {
      offer_all(world_.gpus());
      offer({"none", "no GPU"});
    } else if (bare(option.value) == "STEP") {
      listed();
      if (!recipe.empty()) offer_all(world_.inside(recipe).steps);
    } else if (bare(option.value) == "TAG") {
      listed();
      if (!recipe.empty()) {
        for (const std::string& tag : world_.inside(recipe).tags) offer({tag});
      }
    } else if (option.value == "NAME=VALUE") {
      if (recipe.empty()) return;
      for (Candidate& var : world_.inside(recipe).vars) {
        var.word += "=";
        var.goes_on = true;
        offer(std::move(var));
      }
    } else {
      any_of(option.value, said);
    }
  }

  /// Of "a,b,c" only what stands behind the last comma is being written.
  void listed() { before_ = current_.substr(0, current_.rfind(',') == std::string::npos ? before_.size() : current_.rfind(',') + 1); }

  void place(const Said& said) {
    std::vector<std::string> places;
    for (const std::string& word : words(said.verb->places)) {
      const std::string option = bare(word);
      const bool is_given = std::find(said.options.begin(), said.options.end(), option) != said.options.end();
      // "HOST [--fix [ID...]]": what stands behind an option may follow it alone.
      if (!starts_with(option, "--")) {
        places.push_back(word);
      } else if (!is_given) {
        if (said.places.size() == places.size()) offer({option});
        break;
      }
    }
    if (places.empty()) return;
    const bool last_repeats = places.back().find("...") != std::string::npos;
    if (said.places.size() >= places.size() && !last_repeats) return;
    any_of(places[std::min(said.places.size(), places.size() - 1)], said);
  }

  /// "RUN|HOST|FILE", "bash|zsh|fish", "[STEP]"
  void any_of(const std::string& what, const Said& said) {
    for (const std::string& one : split(bare(what), '|')) {
      if (is_said_as_it_stands(one))
        offer({one});
      else if (one == "HOST")
        hosts(said);
      else if (one == "RECIPE")
        offer_all(world_.recipes()), offer_all(world_.recipe_files(current_));
      else if (one == "KIND")
        offer_all(world_.kinds());
      else if (one == "RUN")
        offer_all(world_.runs());
      else if (one == "ID")
        classes(said);
      else if (one == "VERB")
        verbs(describe_verbs(), "");
      else if (one == "STEP" && !said.places.empty())
        offer_all(world_.inside(world_.last_recipe(said.places[0])).steps);
      else if (one == "FILE" || one == "SCRIPT" || one == "COMMAND" || one == "DIR" || one == "FOLDER" || one == "PATH")
        found_.files = true;
    }
  }

  void classes(const Said& said) {
    for (const DoctorClass& one : doctor_classes()) {
      const bool given = std::find(said.places.begin(), said.places.end(), one.id) != said.places.end();
      if (!given) offer({std::string(one.id), std::string(one.summary)});
    }
  }

  void hosts(const Said& said) {
    const std::size_t at = current_.find('@');
    if (at != std::string::npos) before_ = current_.substr(0, at + 1);
    for (const Candidate& host : world_.hosts()) {
      const bool given = std::any_of(said.places.begin(), said.places.end(),
                                     [&](const std::string& place) { return place == host.word || (place.ends_with("@" + host.word)); });
      if (!given) offer(host);
    }
  }

  const CompletionWorld& world_;
  std::string current_, before_;
  Completion found_;
};

}  // namespace

Completion complete(const std::vector<std::string>& words, const CompletionWorld& world) {
  const std::vector<VerbDescription> verbs = describe_verbs();
  if (words.empty()) return {};
  Completer completer(world, words.back());
  if (words.size() == 1) return completer.verbs(verbs, "");
  std::size_t begins = 1;
  Said said;
  for (const VerbDescription& verb : verbs) {
    if (verb.name == words[0]) said.verb = &verb;
    if (words.size() > 2 && verb.name == words[0] + " " + words[1]) said.verb = &verb, begins = 2;
  }
  if (said.verb == nullptr) {
    if (words.size() > 2) return {};
    return words[0] == "help" ? completer.verbs(verbs, "") : completer.verbs(verbs, words[0] + " ");
  }
  for (std::size_t i = begins; i + 1 < words.size(); ++i) take(said, words[i]);
  return completer.word_of(said);
}

std::string completion_lines(const Completion& completion) {
  std::vector<Candidate> sorted = completion.candidates;
  std::stable_sort(sorted.begin(), sorted.end(), [](const Candidate& a, const Candidate& b) { return a.word < b.word; });
  sorted.erase(std::unique(sorted.begin(), sorted.end(), [](const Candidate& a, const Candidate& b) { return a.word == b.word; }),
               sorted.end());
  std::string lines;
  for (const Candidate& candidate : sorted) lines += candidate.word + (candidate.what.empty() ? "" : "\t" + candidate.what) + "\n";
  if (completion.files) lines += ":files\n";
  const bool goes_on = !sorted.empty() && std::all_of(sorted.begin(), sorted.end(), [](const Candidate& one) { return one.goes_on; });
  return goes_on ? lines + ":nospace\n" : lines;
}

}  // namespace gpustrap

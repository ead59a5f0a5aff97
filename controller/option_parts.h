#pragma once

#include <memory>
#include <string>
#include <vector>

#include <CLI/CLI.hpp>

#include "agent/base/result.h"
#include "controller/options.h"

namespace gpustrap {

// What the files options*.cc share: the command line while it is being declared and read.

/// What the options write into before it is checked.
struct RawOptions {
  std::string types, disk;
  std::vector<std::string> places;  ///< positional words
  std::vector<std::string> command;
  std::string port, forward, wait, keep, login, forget, parallel, tail;
  std::vector<std::string> vars;
  bool quiet = false, verbose = false, no_colour = false;
  bool keep_off = false;
};

/// Where verbs are declared: each file its own, and all of them write into the same.
struct DeclaredLine {
  CLI::App& app;
  Options& options;
  RawOptions& raw;

  /// A verb with nothing but its help yet.
  CLI::App& add_verb(Verb which, const std::string& name, const std::string& what, CLI::App& parent) const;
  /// One that is about hosts: with what it takes to reach them, and how it shows itself.
  CLI::App& add_host_verb(Verb which, const std::string& name, const std::string& what, const std::string& places) const;
};
/// The words that are no option. CLI11 leaves them, and options that it does not know, to the checks of newcomer.h.
void add_places(CLI::App& app, const std::string& names);

// In the order of the overview.
void declare_host_verbs(const DeclaredLine& line);    // options_hosts.cc: up to history
void declare_author_verbs(const DeclaredLine& line);  // options_author.cc: recipes, adopt, pack
void declare_cloud_verbs(const DeclaredLine& line);   // options_cloud.cc: EC2
/// The words of the verbs about EC2, whose places are instances.
[[nodiscard]] Result<void> check_cloud(Options& options, const RawOptions& raw);

/// --json, for verbs that print one document.
void add_json(CLI::App& app, Options& options);
/// --idle-stop, --budget, --price. options_hosts.cc
void add_guard_options(CLI::App& app, GuardWish& guard);

/// Examples first, then what may be written, in groups; fits 80 columns. options_help.cc
[[nodiscard]] std::shared_ptr<CLI::FormatterBase> make_help_formatter();
/// For CLI11's lists of verbs.
inline bool every_verb(const CLI::App*) { return true; }

}  // namespace gpustrap

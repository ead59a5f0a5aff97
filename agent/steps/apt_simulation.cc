#include "agent/steps/apt_simulation.h"

#include <algorithm>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::size_t kWidth = 90;

/// "[1.2-3]" and "(1.2-3": the version in it.
std::string version_in(const std::string& word, char bracket) {
  if (word.size() < 2 || word.front() != bracket) return {};
  const std::size_t end = word.find_first_of(")]", 1);
  return word.substr(1, end == std::string::npos ? std::string::npos : end - 1);
}

std::string text_of(const SimulatedPackage& package) {
  if (package.to.empty()) return fmt::format("remove {} {}", package.name, package.from);
  if (package.from.empty()) return fmt::format("install {} {}", package.name, package.to);
  return fmt::format("install {} {} in place of {}", package.name, package.to, package.from);
}

}  // namespace

std::vector<SimulatedPackage> simulated_packages(std::string_view said) {
  std::vector<SimulatedPackage> packages;
  for (const std::string& line : split(said, '\n')) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 3 || (parts[0] != "Inst" && parts[0] != "Remv")) continue;
    SimulatedPackage package{parts[1], version_in(parts[2], '['), {}};
    if (parts[0] == "Inst") package.to = version_in(parts[package.from.empty() || parts.size() < 4 ? 2 : 3], '(');
    packages.push_back(std::move(package));
  }
  return packages;
}

std::string simulation_text(const std::vector<SimulatedPackage>& packages, const std::vector<std::string>& asked_for) {
  std::string text, rest;
  std::size_t others = 0, column = 0;
  for (const SimulatedPackage& package : packages) {
    if (std::find(asked_for.begin(), asked_for.end(), package.name) != asked_for.end()) {
      text += text_of(package) + "\n";
      continue;
    }
    const std::string other = package.to.empty() || !package.from.empty() ? text_of(package) : package.name + " " + package.to;
    if (others++ > 0) {
      rest += column + other.size() > kWidth ? ",\n  " : ", ";
      if (rest.ends_with("\n  ")) column = 0;
    }
    rest += other;
    column += other.size() + 2;
  }
  if (others > 0) text += fmt::format("and with {} {} more:\n  {}\n", asked_for.size() == 1 ? "it" : "them", others, rest);
  return text;
}

}  // namespace gpustrap

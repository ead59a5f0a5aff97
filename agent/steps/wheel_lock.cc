#include "agent/steps/wheel_lock.h"

#include <algorithm>
#include <array>
#include <charconv>
#include <cstddef>
#include <utility>

#include "agent/base/sha256.h"
#include "agent/base/text.h"
#include "agent/steps/python_version.h"

namespace gpustrap {
namespace {

constexpr std::size_t kMostPackages = 2000, kMostFiles = 50'000, kLongestName = 250;

/// The value of an option `--name VALUE` or `--name=VALUE` that is all of a line.
std::optional<std::string> option_value(const std::string& line, std::string_view name) {
  if (!line.starts_with(name)) return std::nullopt;
  const std::string_view rest = std::string_view(line).substr(name.size());
  if (rest.empty() || (rest[0] != ' ' && rest[0] != '=')) return std::nullopt;
  return std::string(trim(rest.substr(1)));
}

/// Options that change nothing of which file comes from where.
bool is_harmless(std::string_view line) {
  constexpr std::array kHarmless = {"--require-hashes", "--only-binary",     "--prefer-binary", "--pre",
                                    "--trusted-host",   "--no-binary :none:"};
  return std::any_of(kHarmless.begin(), kHarmless.end(), [&](std::string_view option) { return line.starts_with(option); });
}

std::optional<unsigned> number(std::string_view text) {
  unsigned value = 0;
  const auto [end, wrong] = std::from_chars(text.data(), text.data() + text.size(), value);
  return wrong == std::errc() && end == text.data() + text.size() && !text.empty() ? std::optional(value) : std::nullopt;
}

/// By tags such as cp311 and abi3. The order is pip's: what was made for this Python, what was made for an older one, what runs on any.
unsigned language_fitness(std::string_view python, std::string_view abi, unsigned minor) {
  const std::string exact = "cp3" + std::to_string(minor);
  if (python == exact && abi == exact) return 6;
  if (python == exact && abi == "abi3") return 5;
  if (python == exact && abi == "none") return 4;
  if (python.starts_with("cp3") && abi == "abi3") return number(python.substr(3)).value_or(minor + 1) < minor ? 3 : 0;
  if (abi != "none") return 0;
  if (python == "py3" + std::to_string(minor)) return 2;
  return python == "py3" ? 1 : 0;
}

unsigned platform_fitness(std::string_view platform, const WheelTarget& target) {
  if (platform == "any") return 1;
  if (!platform.ends_with("_" + target.arch)) return 0;
  platform.remove_suffix(target.arch.size() + 1);
  if (platform == "linux") return 2;
  std::optional<unsigned> glibc;
  if (platform == "manylinux1") glibc = 5;
  if (platform == "manylinux2010") glibc = 12;
  if (platform == "manylinux2014") glibc = 17;
  if (platform.starts_with("manylinux_2_")) glibc = number(platform.substr(12));
  return glibc && *glibc <= target.glibc ? 10 + std::min(*glibc, 200U) : 0;
}

int hex_digit(char c) {
  if (c >= '0' && c <= '9') return c - '0';
  const char low = static_cast<char>(c | 0x20);
  return low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/// %2B as +.
std::string percent_decoded(std::string_view text) {
  std::string plain;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const bool is_coded = text[i] == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 && hex_digit(text[i + 2]) >= 0;
    plain += is_coded ? static_cast<char>(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2])) : text[i];
    if (is_coded) i += 2;
  }
  return plain;
}

std::string without_entities(std::string text) {
  constexpr std::array<std::pair<std::string_view, char>, 4> kEntities = {
      {{"&amp;", '&'}, {"&#43;", '+'}, {"&#x2B;", '+'}, {"&#x27;", '\''}}};
  for (const auto& [entity, character] : kEntities) {
    for (std::size_t at = text.find(entity); at != std::string::npos; at = text.find(entity, at + 1))
      text.replace(at, entity.size(), 1, character);
  }
  return text;
}

/// What a link on the page at `base` leads to; empty where that is neither http nor https, or less safe than the page.
std::string resolved(std::string_view link, std::string_view base) {
  const std::size_t scheme_end = base.find("://");
  if (scheme_end == std::string_view::npos) return {};
  const std::string_view scheme = base.substr(0, scheme_end);
  if (link.starts_with("//")) return std::string(scheme) + ":" + std::string(link);
  if (link.starts_with("https://")) return std::string(link);
  if (link.starts_with("http://")) return scheme == "http" ? std::string(link) : std::string();
  if (link.find(':') < link.find('/')) return {};  // another scheme
  const std::size_t path = std::min(base.find('/', scheme_end + 3), base.size());
  std::string folder(link.starts_with('/') ? std::string_view()
                                           : base.substr(path, base.rfind('/') + 1 - std::min(path, base.rfind('/') + 1)));
  std::vector<std::string> parts;
  for (std::string& part : split(folder + std::string(link), '/')) {
    if (part == ".." && !parts.empty()) parts.pop_back();
    if (!part.empty() && part != "." && part != "..") parts.push_back(std::move(part));
  }
  std::string url(base.substr(0, path));
  for (const std::string& part : parts) url += "/" + part;
  return url;
}

}  // namespace

std::vector<std::string> requirement_lines(std::string_view text) {
  std::vector<std::string> lines;
  std::string line;
  for (const std::string& raw : split(text, '\n')) {
    std::string_view part = trim(raw);
    if (part.starts_with('#')) part = {};
    if (const std::size_t comment = part.find(" #"); comment != std::string_view::npos) part = trim(part.substr(0, comment));
    const bool goes_on = part.ends_with('\\');
    if (goes_on) part = trim(part.substr(0, part.size() - 1));
    line += line.empty() || part.empty() ? "" : " ";
    line += part;
    if (!goes_on && !line.empty()) lines.push_back(std::exchange(line, {}));
  }
  if (!line.empty()) lines.push_back(std::move(line));
  return lines;
}

std::optional<WheelLock> read_wheel_lock(std::string_view text) {
  WheelLock lock;
  for (const std::string& line : requirement_lines(text)) {
    if (line.starts_with('-')) {
      std::optional<std::string> index = option_value(line, "--index-url");
      if (!index) index = option_value(line, "-i");
      if (!index && !is_harmless(line)) return std::nullopt;
      if (index) lock.index = *std::move(index);
      continue;
    }
    constexpr std::string_view kHash = "--hash=sha256:";
    LockedPackage package;
    const std::size_t first = line.find(" --");
    if (first == std::string::npos) return std::nullopt;
    for (const std::string& word : words(line.substr(first))) {
      if (!word.starts_with(kHash) || !is_sha256(std::string_view(word).substr(kHash.size()))) return std::nullopt;
      package.sha256.push_back(word.substr(kHash.size()));
    }
    const std::string_view wanted = trim(std::string_view(line).substr(0, first));
    if (wanted.find(';') != std::string_view::npos) continue;
    const Result<PythonRequirement> requirement = parse_python_requirement(wanted);
    if (!requirement || !requirement->versions.starts_with("==")) return std::nullopt;
    package.name = requirement->name;
    package.version = std::string(trim(std::string_view(requirement->versions).substr(requirement->versions.starts_with("===") ? 3 : 2)));
    if (package.version.find_first_of(",*<>=! ") != std::string::npos || package.version.empty()) return std::nullopt;
    lock.packages.push_back(std::move(package));
    if (lock.packages.size() > kMostPackages) return std::nullopt;
  }
  return lock.packages.empty() ? std::nullopt : std::optional(std::move(lock));
}

bool is_wheel_name(std::string_view name) {
  return name.size() <= kLongestName && name.ends_with(".whl") && !name.starts_with('.') && !name.starts_with('-') &&
         std::all_of(name.begin(), name.end(), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                  std::string_view("._+!-").find(c) != std::string_view::npos;
         });
}

unsigned wheel_fitness(std::string_view file, const WheelTarget& target) {
  if (!is_wheel_name(file)) return 0;
  // numpy-2.1.0-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl; a build number may stand behind the version.
  const std::vector<std::string> parts = split(file.substr(0, file.size() - 4), '-');
  if (parts.size() != 5 && parts.size() != 6) return 0;
  unsigned best = 0;
  for (const std::string& python : split(parts[parts.size() - 3], '.')) {
    for (const std::string& abi : split(parts[parts.size() - 2], '.')) {
      const unsigned language = language_fitness(python, abi, target.python);
      for (const std::string& platform : split(parts.back(), '.')) {
        const unsigned there = platform_fitness(platform, target);
        if (language > 0 && there > 0) best = std::max(best, language * 1000 + there);
      }
    }
  }
  return best;
}

std::vector<IndexedFile> read_index_page(std::string_view html, std::string_view url) {
  std::vector<IndexedFile> files;
  // <a href="../../packages/…/numpy-2.1.0-….whl#sha256=…" data-requires-python="…">
  constexpr std::string_view kLink = "href=", kDigest = "#sha256=";
  for (std::size_t at = html.find(kLink); at != std::string_view::npos && files.size() < kMostFiles; at = html.find(kLink, at + 1)) {
    const std::string_view rest = html.substr(at + kLink.size());
    if (rest.empty() || (rest[0] != '"' && rest[0] != '\'')) continue;
    const std::size_t end = rest.find(rest[0], 1);
    if (end == std::string_view::npos) break;
    const std::string link = without_entities(std::string(rest.substr(1, end - 1)));
    const std::size_t digest = link.find(kDigest);
    if (digest == std::string::npos || !is_sha256(std::string_view(link).substr(digest + kDigest.size()))) continue;
    IndexedFile file;
    file.sha256 = link.substr(digest + kDigest.size());
    file.url = resolved(std::string_view(link).substr(0, digest), url);
    const std::string path = file.url.substr(0, file.url.find('?'));
    file.name = percent_decoded(std::string_view(path).substr(path.rfind('/') + 1));
    if (!file.url.empty() && is_wheel_name(file.name)) files.push_back(std::move(file));
  }
  return files;
}

}  // namespace gpustrap

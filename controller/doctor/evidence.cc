#include "controller/doctor/evidence.h"

#include <algorithm>
#include <charconv>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

constexpr std::string_view kHeader = "gpustrap-probe 1", kSection = "@section ", kEnd = "@end ";
/// What a login may print before: message of the day, a profile's chatter.
constexpr std::size_t kGreetingLimit = 64U << 10U;

Error broken(const std::string& why) {
  return {
      ErrorCode::protocol, "the host's answer to the doctor's questions is broken: " + why,
      "`ssh HOST /bin/sh -c :` prints nothing where the login shell runs commands undisturbed; its files are ~/.bashrc (bash), ~/.zshenv "
      "(zsh), config.fish (fish)"};
}

constexpr std::size_t kNoNumber = std::string_view::npos;

/// A number with nothing around it; else kNoNumber, which is more than anything may be.
std::size_t number_in(std::string_view text) {
  std::size_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  return problem != std::errc() || end != text.data() + text.size() ? kNoNumber : value;
}

bool is_plain_name(std::string_view name) {
  return !name.empty() && name.size() <= 32 && name.find_first_not_of("abcdefghijklmnopqrstuvwxyz0123456789-") == std::string_view::npos;
}

/// What every program says on a host whose /etc/ld.so.preload is broken is nothing that this one has to say.
std::string without_loaders_words(std::string text) {
  constexpr std::string_view kWords = "ERROR: ld.so: object '";
  for (std::size_t at = text.find(kWords); at != std::string::npos; at = text.find(kWords, at)) {
    const std::size_t end = text.find('\n', at);
    text.erase(at, end == std::string::npos ? end : end + 1 - at);
  }
  return text;
}

/// Whether a shell or its helper says, in its own name, that it could not start what it was told to.
bool says_no_process(std::string_view text) {
  for (const std::string& line : split(text, '\n')) {
    if (line.ends_with(": Cannot fork") || line.find(": fork: retry: ") != std::string::npos || line.ends_with("can't fork") ||
        line.ends_with(": fork: Resource temporarily unavailable") || line.starts_with("timeout: fork system call failed"))
      return true;
  }
  return false;
}

/// Takes the first line, without its end, off `text`; none where no line is whole.
std::optional<std::string_view> take_line(std::string_view& text) {
  const std::size_t end = text.find('\n');
  if (end == std::string_view::npos) return std::nullopt;
  const std::string_view line = text.substr(0, end);
  text.remove_prefix(end + 1);
  return line;
}

}  // namespace

Result<Evidence> Evidence::read(std::string_view said, Ending ending) {
  if (said.size() > kMostBytes) return fail(broken("it is longer than 1 MiB"));
  const std::string_view whole = said;
  while (true) {
    const std::optional<std::string_view> line = take_line(said);
    if (!line || whole.size() - said.size() > kGreetingLimit) {
      const std::string greeting = first_line(strip_control(to_utf8(trim(whole))), 160);
      return fail(broken(greeting.empty() ? "it said nothing" : fmt::format("it does not begin as it should; it says `{}`", greeting)));
    }
    if (*line == kHeader) break;
  }
  Evidence evidence;
  while (true) {
    const std::optional<std::string_view> line = take_line(said);
    const std::string behind = evidence.sections_.empty() ? "its beginning" : "section " + evidence.sections_.back().name;
    if (!line && ending == Ending::cut) return evidence;
    if (!line) return fail(broken("it breaks off behind " + behind));
    if (line->starts_with(kEnd)) {
      if (number_in(line->substr(kEnd.size())) != evidence.sections_.size()) return fail(broken("sections are missing"));
      return evidence;
    }
    const std::vector<std::string> parts = split(*line, ' ');
    const std::size_t status = parts.size() == 4 ? number_in(parts[2]) : kNoNumber;
    const std::size_t size = parts.size() == 4 ? number_in(parts[3]) : kNoNumber;
    if (!line->starts_with(kSection) || status > 255 || size == kNoNumber || !is_plain_name(parts[1]))
      return fail(broken(fmt::format("behind {} stands `{}`", behind, first_line(strip_control(to_utf8(*line)), 80))));
    if (evidence.find(parts[1]) != nullptr) return fail(broken(fmt::format("section {} comes twice", parts[1])));
    if (evidence.sections_.size() == kMostSections) return fail(broken("it has too many sections"));
    if (size >= said.size() && size != kNoNumber && ending == Ending::cut) return evidence;
    if (size >= said.size() || said[size] != '\n') return fail(broken(fmt::format("section {} is not as long as it says", parts[1])));
    Section section{parts[1], static_cast<int>(status), without_loaders_words(strip_control(to_utf8(said.substr(0, size))))};
    if (says_no_process(section.text)) section.status = Section::kUnanswered;
    evidence.sections_.push_back(std::move(section));
    said.remove_prefix(size + 1);
  }
}

const Section* Evidence::find(std::string_view name) const {
  const auto found = std::find_if(sections_.begin(), sections_.end(), [&](const Section& one) { return one.name == name; });
  if (found == sections_.end() || !found->is_answered()) doubts_.emplace_back(name);
  return found == sections_.end() ? nullptr : &*found;
}

bool Evidence::was_seen(std::string_view name) const {
  const Section* section = find(name);
  if (section == nullptr) return false;
  return section->is_answered() && section->status != Section::kNotPermitted && section->status != Section::kNotRun &&
         section->status != Section::kAbsent;
}

const std::string& Evidence::text(std::string_view name) const {
  static const std::string kNone;
  const Section* section = find(name);
  return section == nullptr || section->status == Section::kUnanswered ? kNone : section->text;
}

std::vector<std::string> Evidence::lines(std::string_view name) const {
  std::vector<std::string> lines;
  for (std::string& line : split(text(name), '\n')) {
    line.erase(line.find_last_not_of(" \t") + 1);
    if (!line.empty()) lines.push_back(std::move(line));
  }
  return lines;
}

std::string Evidence::value(std::string_view name, std::string_view key) const {
  for (const std::string& line : lines(name)) {
    if (line.size() > key.size() && line.starts_with(key) && line[key.size()] == ' ')
      return std::string(trim(std::string_view(line).substr(key.size())));
  }
  return {};
}

void Evidence::put(Section section) {
  const auto found = std::find_if(sections_.begin(), sections_.end(), [&](const Section& one) { return one.name == section.name; });
  if (found != sections_.end())
    *found = std::move(section);
  else
    sections_.push_back(std::move(section));
}

void Evidence::put_missing(const std::vector<std::string>& names, int status, const std::string& text) {
  for (const std::string& name : names) {
    if (find(name) == nullptr) sections_.push_back({name, status, text});
  }
  doubts_.clear();
}

std::string Evidence::write() const {
  std::string text = std::string(kHeader) + "\n";
  for (const Section& one : sections_) text += fmt::format("{}{} {} {}\n{}\n", kSection, one.name, one.status, one.text.size(), one.text);
  return text + fmt::format("{}{}\n", kEnd, sections_.size());
}

}  // namespace gpustrap

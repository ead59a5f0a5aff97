#include "controller/doctor/patient.h"

#include <algorithm>
#include <cctype>
#include <charconv>
#include <ctime>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

char lower(char c) { return static_cast<char>(std::tolower(static_cast<unsigned char>(c))); }

/// "mirror.example Sun, 22 Nov 2026 10:48:00 GMT", as HTTP writes a date.
std::optional<std::int64_t> time_in(const std::string& text) {
  const std::vector<std::string> parts = words(text);
  if (parts.size() < 6) return std::nullopt;
  std::tm time{};
  const std::string date = join({parts.begin() + 2, parts.begin() + 6}, " ");
  if (::strptime(date.c_str(), "%d %b %Y %H:%M:%S", &time) == nullptr) return std::nullopt;
  const std::int64_t seconds = ::timegm(&time);
  return seconds > 0 ? std::optional<std::int64_t>(seconds) : std::nullopt;
}

/// The value of NAME= in os-release.
std::string release_value(const Evidence& evidence, std::string_view name) {
  for (const std::string& line : evidence.lines("system")) {
    if (!line.starts_with(name) || line.size() <= name.size() || line[name.size()] != '=') continue;
    std::string value = line.substr(name.size() + 1);
    std::erase(value, '"');
    return value;
  }
  return {};
}

void read_pci(const Evidence& evidence, Patient& patient) {
  for (const std::string& line : evidence.lines("pci")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() < 4) continue;
    const std::string& kind = parts[2];
    if (kind.starts_with("0300") || kind.starts_with("0302"))
      patient.facts.gpus.push_back({parts[0], parts[1], parts[3], parts.size() > 4 ? parts[4] : ""});
    const StringList& switches = patient.compat.nvswitches;
    if (kind.starts_with("0680") && std::find(switches.items.begin(), switches.items.end(), parts[1]) != switches.items.end())
      ++patient.nvswitches;
  }
}

void read_module(const Evidence& evidence, Patient& patient) {
  for (const std::string& line : evidence.lines("modules")) {
    if (line.starts_with("nvidia ")) patient.nvidia_loaded = true;
    if (line.starts_with("nouveau ")) patient.nouveau_loaded = true;
  }
  const Section* driver = evidence.find("driver");
  if (driver != nullptr && driver->status == 0 && contains(driver->text, "NVRM version")) {
    patient.nvidia_loaded = true;
    patient.facts.driver = version_in(driver->text.substr(driver->text.find("NVRM version")));
    patient.loaded_is_open = contains(driver->text, "Open Kernel Module");
  }
  const Section* module = evidence.find("modinfo");
  if (module != nullptr && module->status == 0) {
    for (const std::string& line : evidence.lines("modinfo")) {
      if (line.starts_with("version:")) patient.module_version = trim(std::string_view(line).substr(8));
      if (line.starts_with("license:")) patient.module_licence = trim(std::string_view(line).substr(8));
    }
  }
  for (const std::string& line : evidence.lines("module-files")) {
    constexpr std::string_view kFolder = "/lib/modules/";
    if (!line.starts_with(kFolder)) continue;
    std::string kernel = line.substr(kFolder.size());
    kernel = kernel.substr(0, kernel.find('/'));
    std::vector<std::string>& others = patient.other_kernels;
    if (kernel != patient.facts.kernel && std::find(others.begin(), others.end(), kernel) == others.end()) others.push_back(kernel);
  }
}

void read_answers(const Evidence& evidence, Patient& patient) {
  const Section* answer = evidence.find("smi");
  if (answer == nullptr || answer->status != 0) return;
  for (const std::string& line : evidence.lines("smi")) {
    std::vector<std::string> fields = split(line, ',');
    for (std::string& field : fields) field = std::string(trim(field));
    if (fields.size() < 7) continue;
    patient.answering.push_back({fields[0], fields[2], fields[3], fields[4], fields[5], fields[6], fields.size() > 7 ? fields[7] : ""});
  }
}

}  // namespace

bool contains(std::string_view text, std::string_view what) { return text.find(what) != std::string_view::npos; }

std::vector<std::string> matching(const std::vector<std::string>& lines, std::string_view what) {
  std::vector<std::string> found;
  for (const std::string& line : lines) {
    const auto at = std::search(line.begin(), line.end(), what.begin(), what.end(), [](char a, char b) { return lower(a) == lower(b); });
    if (at != line.end()) found.push_back(line);
  }
  return found;
}

std::string version_in(std::string_view text) {
  for (const std::string& word : words(text)) {
    const bool plain = word.find_first_not_of("0123456789.") == std::string::npos;
    if (plain && contains(word, ".") && word.front() != '.' && word.back() != '.') return word;
  }
  return {};
}

std::optional<std::uint64_t> number_of(std::string_view text) {
  text = trim(text);
  std::uint64_t value = 0;
  const auto [end, problem] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (problem != std::errc() || end == text.data()) return std::nullopt;
  return value;
}

std::vector<std::string> Patient::kernel_log(std::string_view what) const { return matching(evidence.lines("kernel-log"), what); }

const InstalledPackage* Patient::package(std::string_view name) const {
  const auto found = std::find_if(packages.begin(), packages.end(), [&](const InstalledPackage& one) { return one.name == name; });
  return found == packages.end() ? nullptr : &*found;
}

const InstalledPackage* Patient::package_like(std::string_view prefix) const {
  const auto found =
      std::find_if(packages.begin(), packages.end(), [&](const InstalledPackage& one) { return one.name.starts_with(prefix); });
  return found == packages.end() ? nullptr : &*found;
}

std::string Patient::kernel_flavour() const {
  const std::size_t dash = facts.kernel.rfind('-');
  return dash == std::string::npos ? "generic" : facts.kernel.substr(dash + 1);
}

Patient examine(const Evidence& evidence, const Compat& compat, std::int64_t now, ClockKept own_clock) {
  Patient patient{evidence, compat, now};
  (void)evidence.take_doubts();
  patient.own_clock = own_clock;
  patient.third_clock = time_in(evidence.value("third-clock", "date"));
  if (const std::string capabilities = evidence.value("system", "capabilities"); !capabilities.empty()) {
    constexpr std::uint64_t kSysAdmin = std::uint64_t{1} << 21U;
    std::uint64_t held = 0;
    const auto read = std::from_chars(capabilities.data(), capabilities.data() + capabilities.size(), held, 16);
    patient.may_mount = read.ec != std::errc() || (held & kSysAdmin) != 0;
  }
  Facts& facts = patient.facts;
  const std::vector<std::string> system = evidence.lines("system");
  if (const std::vector<std::string> uname = words(system.empty() ? "" : system.front()); uname.size() == 3) {
    facts.kernel = uname[1];
    facts.arch = uname[2];
  }
  facts.os = release_value(evidence, "ID");
  facts.os_version = release_value(evidence, "VERSION_ID");
  facts.os_name = release_value(evidence, "PRETTY_NAME");
  facts.container = evidence.value("system", "container") == "yes";
  facts.systemd = evidence.value("system", "pid1") == "systemd";
  facts.uptime_s = number_of(evidence.value("system", "uptime")).value_or(0);
  facts.cloud_type = evidence.value("system", "instance");
  patient.wsl = evidence.value("system", "wsl") == "yes";
  if (const auto clock = number_of(evidence.value("system", "clock"))) patient.clock = static_cast<std::int64_t>(*clock);
  patient.user = evidence.value("login", "user");
  patient.home = evidence.value("login", "home");
  patient.is_root = evidence.value("login", "rights") != "none";
  if (const auto memory = number_of(evidence.value("memory", "MemTotal:"))) facts.memory = *memory * 1024;
  for (const std::string& line : evidence.lines("packages")) {
    const std::vector<std::string> parts = words(line);
    if (parts.size() >= 2) patient.packages.push_back({parts[0], parts[1], parts.size() > 2 ? parts[2] : ""});
  }
  read_pci(evidence, patient);
  read_module(evidence, patient);
  read_answers(evidence, patient);
  for (std::string& name : evidence.take_doubts()) {
    if (name == "system" || name == "login")
      patient.doubts.push_back(std::move(name));
    else if (name != "third-clock" && name != "memory" &&
             (name != "smi" || evidence.find("smi") == nullptr || evidence.find("smi")->status == Section::kUnanswered))
      patient.gpu_doubts.push_back(std::move(name));
  }
  (void)evidence.take_doubts();
  return patient;
}

}  // namespace gpustrap

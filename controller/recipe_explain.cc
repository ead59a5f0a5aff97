#include "controller/recipe_explain.h"

#include <algorithm>
#include <charconv>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/demands.h"
#include "agent/protocol/field_types.h"
#include "agent/protocol/json.h"
#include "agent/protocol/line.h"
#include "agent/protocol/recipe.h"
#include "agent/protocol/step_spec.h"
#include "controller/display_width.h"

namespace gpustrap {
namespace {

/// More GPUs than this are in no machine.
constexpr unsigned kMostGpus = 64;

/// A value as a person would write it: "python3-venv, git", "~/env".
std::string shown(const Json& value) {
  if (value.is_string()) {
    const std::string text = strip_control(value.get<std::string>());
    const std::string line = first_line(text, 120);
    return line.size() < trim(text).size() && !line.ends_with("…") ? line + " …" : line;
  }
  if (value.is_array()) {
    std::vector<std::string> items;
    for (const Json& item : value) items.push_back(shown(item));
    return join(items, ", ");
  }
  if (value.is_object()) {
    std::vector<std::string> members;
    for (const auto& [name, member] : value.items()) members.push_back(name + ": " + shown(member));
    return "{" + join(members, ", ") + "}";
  }
  return value.dump();
}

std::string who(const StepEntry& step) {
  const std::string identity = identity_of(step);
  return identity == "login" ? "as the login user" : "as " + identity;
}

/// A field of a spec as text, where the recipe gives one; "" for a placeholder, which only the host can fill.
std::string text_field(const Json& spec, const char* name) {
  if (!spec.is_object() || !spec.contains(name) || !spec[name].is_string()) return {};
  const auto text = spec[name].get<std::string>();
  return text.find("${{") == std::string::npos ? text : "";
}

class Explainer {
 public:
  Explainer(const LoadedRecipe& recipe, const Compat& compat, const ImaginedMachine& machine, std::size_t columns)
      : recipe_(recipe.recipe), compat_(compat), machine_(machine), columns_(columns), written_(write_recipe(recipe.recipe)) {}

  Explanation explain() {
    line("", recipe_.description.empty() ? recipe_.name : recipe_.name + ": " + recipe_.description);
    document_ = {{"explain", 1}, {"recipe", recipe_.name}, {"description", recipe_.description}};
    document_["machine"] = machine_document();
    document_["choice"] = nullptr;
    document_["would_fail"] = false;
    document_["reason"] = nullptr;
    document_["notes"] = Json::array();
    say_machine();
    Json steps = Json::array();
    for (std::size_t i = 0; i < recipe_.steps.size(); ++i) {
      say_step(i);
      steps.push_back(std::move(step_));
    }
    document_["would_fail"] = explanation_.would_fail;
    document_["steps"] = std::move(steps);
    explanation_.document = to_line(document_);
    return std::move(explanation_);
  }

 private:
  void line(const std::string& indent, const std::string& text) {
    const std::string clean = strip_control(text);
    if (columns_ == 0) {
      explanation_.text += indent + clean + "\n";
      return;
    }
    for (const std::string& one : wrap_to_width(indent + clean, columns_, indent + "  ")) explanation_.text += one + "\n";
  }
  /// `of` is the step that it is about, or the whole.
  void would_fail(Json& of, const std::string& indent, const std::string& why) {
    explanation_.would_fail = true;
    of["would_fail"] = true;
    of["reason"] = why;
    line(indent, "would fail: " + why);
  }
  void note(Json& of, const std::string& indent, const std::string& what) {
    of["notes"].push_back(what);
    line(indent, "note: " + what);
  }

  /// The kinds that the resolver answers for; by name, since a recipe may be read by a version that does not have them.
  [[nodiscard]] const StepEntry* step_of(std::string_view kind) const {
    const auto found =
        std::find_if(recipe_.steps.begin(), recipe_.steps.end(), [&](const StepEntry& step) { return step_kind_name(step.kind) == kind; });
    return found == recipe_.steps.end() ? nullptr : &*found;
  }

  [[nodiscard]] CompatQuestion question() const {
    CompatQuestion question = question_of(machine_.facts);
    if (!machine_.os_known) question.os.clear();
    const StepEntry *driver = step_of("nvidia_driver"), *cuda = step_of("cuda");
    const auto said = [](const StepEntry* step, const char* field) -> std::string {
      if (step == nullptr || !step->spec) return {};
      if (step->spec->is_object()) return text_field(*step->spec, field);
      return describe_step_kind(step->kind).shorthand == field ? text_field(Json{{field, *step->spec}}, field) : std::string();
    };
    const auto choose = [](const std::string& first, const std::string& second) {
      return !first.empty() ? first : second.empty() ? "auto" : second;
    };
    const std::string driver_cuda = said(driver, "cuda");
    question.cuda = choose(machine_.cuda, cuda != nullptr ? said(cuda, "version") : driver_cuda);
    question.branch = choose(machine_.branch, said(driver, "branch"));
    const std::string modules = said(driver, "modules"), source = said(driver, "source");
    if (modules == "open") question.modules = ModulesWish::open;
    if (modules == "proprietary") question.modules = ModulesWish::proprietary;
    if (source != "auto") question.source = source;
    if (const std::string from = said(cuda, "from"); from == "runfile" || from == "deb") question.toolkit = ToolkitFrom::runfile;
    // A CUDA that only the driver is asked for comes with something else, such as an environment.
    if (cuda == nullptr && !driver_cuda.empty()) question.toolkit = ToolkitFrom::runfile;
    return question;
  }

  /// What somebody said of it; null where nobody did.
  [[nodiscard]] Json machine_document() const {
    const auto known = [](bool is_known, const std::string& text) { return is_known && !text.empty() ? Json(text) : Json(); };
    Json gpus = machine_.gpus_known ? Json::array() : Json();
    for (const GpuKind& kind : gpu_kinds(compat_, machine_.facts.gpus)) {
      const GpuRow& row = *kind.row;
      gpus.push_back({{"name", row.name},
                      {"count", kind.count},
                      {"memory", row.memory.bytes == 0 ? Json() : Json(row.memory.bytes)},
                      {"instances", row.instances.items},
                      {"retired", row.retired}});
    }
    return {{"os", known(machine_.os_known, machine_.facts.os)},
            {"os_version", known(machine_.os_known, machine_.facts.os_version)},
            {"arch", known(machine_.os_known || machine_.gpus_known, machine_.facts.arch)},
            {"gpus", std::move(gpus)}};
  }

  [[nodiscard]] Json choice_document() const {
    const DriverAnswer& driver = answer_->driver;
    Json sources = Json::array();
    for (const DriverAnswer::Source& source : driver.sources) sources.push_back({{"from", source.from}, {"packages", source.packages}});
    Json choice = {{"reason", answer_->reason},
                   {"driver",
                    {{"branch", driver.branch},
                     {"at_least", driver.at_least.empty() ? Json() : Json(driver.at_least)},
                     {"modules", driver.open ? "open" : "proprietary"},
                     {"sources", std::move(sources)},
                     {"fabric_packages", driver.fabric_packages}}},
                   {"cuda", nullptr}};
    if (!answer_->cuda) return choice;
    const CudaAnswer& cuda = *answer_->cuda;
    const bool from_repository = cuda.from_repository && answer_->repository;
    choice["cuda"] = {{"version", cuda.version},
                      {"package", from_repository ? Json(cuda.package) : Json()},
                      {"repository", from_repository ? Json(answer_->repository->url) : Json()},
                      {"compat_package", cuda.compat_package.empty() ? Json() : Json(cuda.compat_package)}};
    return choice;
  }

  void say_machine() {
    std::vector<std::string> parts;
    if (machine_.os_known) parts.push_back(machine_.facts.os_name);
    if (machine_.os_known || machine_.gpus_known) parts.push_back(machine_.facts.arch);
    if (machine_.gpus_known && machine_.facts.gpus.empty()) parts.emplace_back("no GPU");
    for (const GpuKind& kind : gpu_kinds(compat_, machine_.facts.gpus)) {
      parts.push_back(fmt::format("{}{}{}", kind.count > 1 ? fmt::format("{}x ", kind.count) : "", kind.row->name,
                                  memory_text(*kind.row).empty() ? "" : ", " + memory_text(*kind.row)));
    }
    explanation_.text += "\n";
    line("", parts.empty() ? "On any machine; --gpu t4 and --os ubuntu:24.04 say more" : "On " + join(parts, " · "));
    if (machine_.facts.gpus.empty()) return;
    for (const GpuKind& kind : gpu_kinds(compat_, machine_.facts.gpus)) {
      const GpuRow& row = *kind.row;
      if (row.instances.items.empty()) continue;
      line("  ", fmt::format("EC2: {}{}", join(row.instances.items, ", "), row.retired ? ", which can no longer be started" : ""));
    }
    auto answer = resolve_compat(compat_, question());
    if (!answer) {
      would_fail(document_, "  ", answer.error().sentence());
      if (!answer.error().hint().empty()) line("    ", answer.error().hint());
      return;
    }
    answer_ = *std::move(answer);
    document_["choice"] = choice_document();
    line("  ", answer_->reason);
    for (const std::string& warning : answer_->warnings) note(document_, "  ", warning);
    if (step_of("nvidia_driver") == nullptr)
      note(document_, "  ", "this recipe installs no driver; it takes the one that the machine's image has");
  }

  void say_step(std::size_t index) {
    const StepEntry& step = recipe_.steps[index];
    const std::string kind(step_kind_name(step.kind));
    const StepKindDoc doc = describe_step_kind(step.kind);
    step_ = step_document(index, doc);
    explanation_.text += "\n";
    line("", fmt::format("{}. {}{}, {}{}", index + 1, step.id, step.id == kind ? "" : " (" + kind + ")", who(step), order(step)));
    const std::string indent = "   ";
    if (!step.name.empty()) line(indent, step.name);
    line(indent, doc.help);
    if (say_condition(step, indent)) return;
    if (step.spec) say_fields(*step.spec, doc, indent);
    if (step.kind == StepKind::require) say_demands(step, indent);
    if (kind == "nvidia_driver") say_driver(indent);
    if (kind == "cuda") say_cuda(indent);
    if (step.kind == StepKind::nvidia_smi && machine_.gpus_known && machine_.facts.gpus.empty())
      would_fail(step_, indent, "there is no GPU");
    if (step.kind == StepKind::pip && step.spec) say_frameworks(*step.spec, indent);
  }

  [[nodiscard]] Json step_document(std::size_t index, const StepKindDoc& doc) const {
    const StepEntry& step = recipe_.steps[index];
    const Json& written = written_["steps"][index];
    const Json& spec = written.at(doc.name);
    const bool is_short = !spec.is_object() && !spec.is_null() && !doc.shorthand.empty();
    return {{"id", step.id},
            {"kind", doc.name},
            {"name", step.name.empty() ? Json() : Json(step.name)},
            {"identity", identity_of(step)},
            {"needs", step.needs ? Json(*step.needs) : Json()},
            {"when", written.value("when", Json())},
            {"fields", is_short         ? Json{{doc.shorthand, spec}}
                       : spec.is_null() ? Json::object()
                                        : spec},
            {"skipped", false},
            {"only_where", Json::array()},
            {"would_fail", false},
            {"reason", nullptr},
            {"notes", Json::array()}};
  }

  [[nodiscard]] static std::string order(const StepEntry& step) {
    if (!step.needs) return "";
    return step.needs->empty() ? ", at once" : ", after " + join(*step.needs, ", ");
  }

  /// True where the step is skipped on this machine.
  bool say_condition(const StepEntry& step, const std::string& indent) {
    if (!step.when) return false;
    Condition known = *step.when;
    std::vector<std::string> open;
    if (!machine_.gpus_known && known.gpu) open.emplace_back(*known.gpu ? "there is a GPU" : "there is no GPU"), known.gpu.reset();
    if (!machine_.os_known && !known.os.items.empty())
      open.push_back("the system is " + join(known.os.items, " or ")), known.os.items.clear();
    if (!machine_.os_known && !known.os_version.empty()) open.push_back("its version is " + known.os_version), known.os_version.clear();
    const bool arch_known = machine_.os_known || machine_.gpus_known;
    if (!arch_known && !known.arch.items.empty()) open.push_back("it is " + join(known.arch.items, " or ")), known.arch.items.clear();
    if (const std::string why = unmet_reason(known, machine_.facts); !why.empty()) {
      step_["skipped"] = true;
      step_["reason"] = why;
      line(indent, "skipped: " + why);
      return true;
    }
    step_["only_where"] = open;
    if (!open.empty()) line(indent, "only where " + join(open, " and "));
    return false;
  }

  void say_fields(const Json& spec, const StepKindDoc& doc, const std::string& indent) {
    if (!spec.is_object()) {
      if (!spec.is_null()) line(indent, fmt::format("{}: {}", doc.shorthand, shown(spec)));
      return;
    }
    for (const auto& [name, value] : spec.items()) line(indent, fmt::format("{}: {}", name, shown(value)));
  }

  void say_demands(const StepEntry& step, const std::string& indent) {
    std::vector<FieldProblem> ignored;
    const Json nothing = Json::object();
    StepSpec read = read_step_spec(step.kind, step.spec ? *step.spec : nothing, "", Placeholders::allowed, ignored);
    auto& spec = std::get<RequireSpec>(read);
    spec.memory.reset();
    spec.cpus.reset();
    if (!machine_.os_known) spec.os.items.clear();
    if (!machine_.gpus_known) spec.gpu.reset();
    if (!machine_.os_known && !machine_.gpus_known) spec.arch.items.clear();
    const std::vector<std::string> unmet = unmet_demands(spec, machine_.facts);
    if (!unmet.empty()) would_fail(step_, indent, join(unmet, "; "));
  }

  void say_driver(const std::string& indent) {
    if (!answer_) return;
    const DriverAnswer& driver = answer_->driver;
    line(indent, fmt::format("driver branch {}{}, {} kernel modules", driver.branch,
                             driver.at_least.empty() ? "" : " (at least " + driver.at_least + ")", driver.open ? "open" : "proprietary"));
    for (const DriverAnswer::Source& source : driver.sources) {
      const std::string whose = source.from == "ubuntu"   ? "Ubuntu's own packages, signed and built"
                                : source.from == "debian" ? "Debian's own packages"
                                                          : "NVIDIA's repository";
      line(indent, fmt::format("from {}: {}", whose, join(source.packages, " ")));
    }
    if (!driver.fabric_packages.empty()) line(indent, "with " + join(driver.fabric_packages, " ") + " at exactly the driver's version");
  }

  void say_cuda(const std::string& indent) {
    if (!answer_ || !answer_->cuda) return;
    const CudaAnswer& cuda = *answer_->cuda;
    const std::string where = !machine_.os_known     ? ""
                              : cuda.from_repository ? fmt::format(": {} from {}", cuda.package, answer_->repository->url)
                                                     : ", by runfile";
    line(indent, fmt::format("CUDA {}{}", cuda.version, where));
    if (!cuda.compat_package.empty()) line(indent, "with " + cuda.compat_package);
  }

  void say_frameworks(const Json& spec, const std::string& indent) {
    if (machine_.facts.gpus.empty() || !spec.is_object() || !spec.contains("packages")) return;
    const Json packages = spec["packages"].is_array() ? spec["packages"] : Json::array({spec["packages"]});
    for (const Json& package : packages) {
      if (!package.is_string()) continue;
      const auto text = package.get<std::string>();
      const std::string name = text.substr(0, text.find_first_of(" [<>=!~;"));
      const auto build = resolve_framework(compat_, name, question(), answer_ ? answer_->driver.branch : "");
      if (!build)
        note(step_, indent, build.error().sentence());
      else if (*build)
        note(step_, indent, **build + (name == text ? "" : "; this recipe wants " + text));
    }
  }

  const Recipe& recipe_;
  const Compat& compat_;
  const ImaginedMachine& machine_;
  std::size_t columns_;
  Explanation explanation_;
  Json written_, document_, step_;  ///< the recipe as an agent takes it; what programs get, and of it the step that is being said
  std::optional<CompatAnswer> answer_;
};

Result<void> add_gpus(const Compat& compat, const std::string& word, std::vector<PciGpu>& gpus, std::string& arch) {
  // "8xh100" is eight of them; a name itself may begin with a digit ("1eb8").
  unsigned count = 1;
  std::string name = word;
  const std::size_t x = word.find('x');
  if (x != std::string::npos && x > 0 && word.find_first_not_of("0123456789") == x && word.find(':') == std::string::npos) {
    std::from_chars(word.data(), word.data() + x, count);
    name = word.substr(x + 1);
    if (count == 0 || count > kMostGpus)
      return fail(ErrorCode::usage, fmt::format("--gpu {}: expected 1 to {} GPUs", word, kMostGpus), "for instance --gpu 8xh100");
  }
  const GpuRow* row = find_gpu_by_name(compat, name);
  if (row == nullptr && name.starts_with("10de:") && name.size() == 9) {
    gpus.insert(gpus.end(), count, PciGpu{"", name.substr(5), "", ""});
    return {};
  }
  if (row == nullptr) {
    const std::vector<std::string> names = gpu_names(compat);
    const std::string nearest = nearest_name(name, names);
    return fail(ErrorCode::usage,
                fmt::format("--gpu {}: not a GPU that is known{}", quote_value(word),
                            nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
                fmt::format("GPUs: {}; or a PCI id such as 10de:1eb8, or none", join(names, ", ")));
  }
  gpus.insert(gpus.end(), count, pci_example(*row));
  if (arch.empty()) arch = row->arch;
  return {};
}

/// Of other systems the tables say nothing, and the answer would be made up.
Result<void> check_system(const Compat& compat, const Facts& facts) {
  std::vector<std::string> systems, releases;
  bool known = false;
  for (const DistributionRow& row : compat.distributions) {
    if (std::find(systems.begin(), systems.end(), row.os) == systems.end()) systems.push_back(row.os);
    if (row.os == facts.os) releases.push_back(row.version);
    known = known || (row.os == facts.os && (facts.os_version.empty() || row.version == facts.os_version));
  }
  if (known) return {};
  if (!releases.empty())
    return fail(ErrorCode::usage, fmt::format("--os {}:{}: not a release that is known", facts.os, facts.os_version),
                fmt::format("of {} there are {}", facts.os, join(releases, ", ")));
  const std::string nearest = nearest_name(facts.os, systems);
  return fail(
      ErrorCode::usage,
      fmt::format("--os {}: not a system that is known{}", facts.os, nearest.empty() ? "" : fmt::format("; did you mean `{}`?", nearest)),
      fmt::format("systems: {}; for instance --os ubuntu:24.04", join(systems, ", ")));
}

}  // namespace

Result<ImaginedMachine> imagine_machine(const Compat& compat, const std::vector<std::string>& gpus, const std::string& os,
                                        const std::string& arch) {
  ImaginedMachine machine;
  machine.facts.systemd = true;
  std::string arch_of_gpus;
  for (const std::string& words_of_user : gpus) {
    machine.gpus_known = true;
    for (const std::string& word : split(words_of_user, ',')) {
      if (word == "none") continue;
      if (Result<void> added = add_gpus(compat, word, machine.facts.gpus, arch_of_gpus); !added) return fail(std::move(added).error());
    }
  }
  if (!os.empty()) {
    const std::size_t colon = os.find_first_of(":-= ");
    machine.os_known = true;
    machine.facts.os = os.substr(0, colon);
    machine.facts.os_version = colon == std::string::npos ? "" : os.substr(colon + 1);
    if (!is_plain_id(machine.facts.os) || (colon != std::string::npos && !is_plain_id(machine.facts.os_version)))
      return fail(ErrorCode::usage, fmt::format("--os {}: expected NAME:VERSION", quote_value(os)), "for instance --os ubuntu:24.04");
    if (Result<void> known = check_system(compat, machine.facts); !known) return fail(std::move(known).error());
    machine.facts.os_name = machine.facts.os + (machine.facts.os_version.empty() ? "" : " " + machine.facts.os_version);
  }
  if (!arch.empty() && arch != "x86_64" && arch != "aarch64")
    return fail(ErrorCode::usage, fmt::format("--arch {}: expected x86_64 or aarch64", quote_value(arch)));
  machine.facts.arch = !arch.empty() ? arch : arch_of_gpus.empty() ? "x86_64" : arch_of_gpus;
  return machine;
}

Explanation explain_recipe(const LoadedRecipe& recipe, const Compat& compat, const ImaginedMachine& machine, std::size_t columns) {
  return Explainer(recipe, compat, machine, columns).explain();
}

}  // namespace gpustrap

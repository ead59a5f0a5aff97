#include "agent/protocol/compat.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/facts.h"
#include "agent/protocol/fields_visit.h"
#include "agent/protocol/json.h"

namespace gpustrap {

template <> struct EnumNames<Certainty> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"confirmed", "likely", "open"};
    return all;
  }
};
template <> struct EnumNames<GpuModules> {
  static const std::vector<std::string>& names() {
    static const std::vector<std::string> all = {"proprietary", "open", "open_required"};
    return all;
  }
};

namespace {

bool is_number(std::string_view text) { return !text.empty() && text.find_first_not_of("0123456789") == std::string_view::npos; }

/// "580", "12.4", "580.65.06": numbers with dots between.
bool is_version(std::string_view text) {
  const std::vector<std::string> parts = split(text, '.');
  return std::all_of(parts.begin(), parts.end(), [](const std::string& part) { return is_number(part); });
}

bool is_pair(std::string_view text) { return is_version(text) && std::count(text.begin(), text.end(), '.') == 1; }

bool is_pci_id(std::string_view text) { return text.size() == 4 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos; }

class CompatReader {
 public:
  explicit CompatReader(std::vector<FieldProblem>& problems) : problems_(problems) {}

  Compat read(const Json& document) {
    if (!document.is_object()) {
      say("", fmt::format("the table is {}: expected a mapping of sections", quote_value(document)));
      return std::move(compat_);
    }
    rows(document, "gpus", "a GPU", compat_.gpus);
    rows(document, "architectures", "an architecture", compat_.architectures);
    rows(document, "cuda", "a CUDA", compat_.cuda);
    rows(document, "majors", "a major version", compat_.majors);
    rows(document, "branches", "a branch", compat_.branches);
    row(document, "open_modules", "open_modules", compat_.open_modules);
    rows(document, "distributions", "a distribution", compat_.distributions);
    row(document, "repository", "repository", compat_.repository);
    rows(document, "driver_packages", "driver_packages", compat_.driver_packages);
    read_fabric(document);
    rows(document, "frameworks", "a framework", compat_.frameworks);
    for (const auto& [name, value] : document.items()) {
      if (std::find(sections_.begin(), sections_.end(), name) != sections_.end()) continue;
      const std::string nearest = nearest_name(name, sections_);
      problems_.push_back({FieldProblem::At::key, join_pointer("", name),
                           fmt::format("{} is not a section; {}", quote_value(name),
                                       nearest.empty() ? "the sections are " + join(sections_, ", ") : "did you mean `" + nearest + "`?")});
    }
    if (problems_.empty()) check();
    return std::move(compat_);
  }

 private:
  void say(std::string pointer, std::string message) {
    problems_.push_back({FieldProblem::At::value, std::move(pointer), std::move(message)});
  }

  const Json* section(const Json& document, const std::string& name) {
    sections_.push_back(name);
    const auto found = document.find(name);
    if (found != document.end()) return &*found;
    problems_.push_back({FieldProblem::At::key, "", fmt::format("there is no section `{}`", name)});
    return nullptr;
  }

  template <class Row> void read_row(const Json& value, const std::string& owner, const std::string& pointer, Row& row) {
    SpecReader reader(owner, "", value, pointer, Placeholders::refused, problems_);
    row.fields(reader);
    reader.finish();
  }

  template <class Row> void row(const Json& document, const std::string& name, const std::string& owner, Row& row) {
    if (const Json* value = section(document, name)) read_row(*value, owner, "/" + name, row);
  }

  template <class Row> void read_list(const Json& value, const std::string& pointer, const std::string& owner, std::vector<Row>& rows) {
    if (!value.is_array() || value.empty()) {
      return say(pointer,
                 fmt::format("`{}` is {}: expected a list of rows", pointer.substr(1), value.empty() ? "empty" : quote_value(value)));
    }
    for (std::size_t i = 0; i < value.size(); ++i) read_row(value[i], owner, pointer + "/" + std::to_string(i), rows.emplace_back());
  }

  template <class Row> void rows(const Json& document, const std::string& name, const std::string& owner, std::vector<Row>& rows) {
    if (const Json* value = section(document, name)) read_list(*value, "/" + name, owner, rows);
  }

  void read_fabric(const Json& document) {
    const Json* value = section(document, "fabric_manager");
    if (value == nullptr) return;
    const std::string pointer = "/fabric_manager";
    Json plain = *value;
    if (plain.is_object() && plain.contains("packages")) {
      plain.erase("packages");
      read_list((*value)["packages"], pointer + "/packages", "a package", compat_.fabric_packages);
    } else {
      problems_.push_back({FieldProblem::At::key, pointer, "fabric_manager needs a field `packages`"});
    }
    SpecReader reader("fabric_manager", "", plain, pointer, Placeholders::refused, problems_);
    reader("switches", compat_.nvswitches, Presence::required, "");
    reader("more_than", compat_.fabric_above, Presence::required, "");
    reader.finish();
  }

  /// What one row says must agree with the others.
  void check() {
    check_gpus();
    each("architectures", compat_.architectures, [&](const ArchitectureRow& row, const std::string& at) {
      wants(at + "/compute", row.compute, is_pair, "a compute capability such as \"7.5\"");
      once(at + "/compute", "compute capability", row.compute);
      names_cuda(at + "/first_cuda", row.first_cuda);
    });
    each("cuda", compat_.cuda, [&](const CudaRow& row, const std::string& at) {
      wants(at + "/version", row.version, is_pair, "major.minor");
      once(at + "/version", "CUDA", row.version);
      wants(at + "/driver", row.driver, is_version, "a driver version");
      for (const auto& [name, driver] : row.updates.items) {
        wants(at + "/updates/" + name, driver, is_version, "a driver version");
        if (name[0] != 'u' || !is_number(std::string_view(name).substr(1)))
          say(at + "/updates/" + name, fmt::format("`{}` is not an update: expected u1, u2, …", name));
      }
    });
    each("majors", compat_.majors, [&](const MajorRow& row, const std::string& at) {
      wants(at + "/major", row.major, is_number, "a number");
      once(at + "/major", "major version", row.major);
      wants(at + "/driver", row.driver, is_version, "a driver version");
    });
    each("branches", compat_.branches, [&](const BranchRow& row, const std::string& at) {
      wants(at + "/branch", row.branch, is_number, "a number");
      once(at + "/branch", "branch", row.branch);
    });
    wants("/open_modules/first_branch", compat_.open_modules.first_branch, is_number, "a number");
    wants("/open_modules/only_from", compat_.open_modules.only_from, is_number, "a number");
    each("distributions", compat_.distributions, [&](const DistributionRow& row, const std::string& at) {
      once(at + "/version", "release", row.os + " " + row.version);
      names_cuda(at + "/first_cuda", row.first_cuda);
      names_cuda(at + "/last_cuda", row.last_cuda);
    });
    if (!compat_.repository.base.starts_with("https://") || !compat_.repository.base.ends_with('/'))
      say("/repository/base", fmt::format("`base` is {}: expected https://…/", quote_value(compat_.repository.base)));
    each("driver_packages", compat_.driver_packages, [&](const DriverPackagesRow& row, const std::string& at) { bounds(at, row); });
    each("fabric_manager/packages", compat_.fabric_packages, [&](const FabricPackageRow& row, const std::string& at) { bounds(at, row); });
    each("frameworks", compat_.frameworks, [&](const FrameworkRow& row, const std::string& at) {
      names_cuda(at + "/cuda", row.cuda);
      for (const auto& [field, value] : {std::pair{"/first_compute", row.first_compute}, {"/last_compute", row.last_compute}})
        if (!value.empty()) wants(at + field, value, is_pair, "a compute capability such as \"7.5\"");
      if (!row.driver.empty()) wants(at + "/driver", row.driver, is_version, "a driver version");
    });
  }

  void check_gpus() {
    each("gpus", compat_.gpus, [&](const GpuRow& row, const std::string& at) {
      once(at + "/name", "GPU", row.name);
      for (const std::string& alias : row.aliases.items) once(at + "/aliases", "alias", alias);
      if (row.ids.items.empty()) say(at + "/ids", "`ids` is empty: expected at least one");
      for (const StringList* list : {&row.ids, &row.subsystems})
        for (const std::string& id : list->items)
          wants(at + (list == &row.ids ? "/ids" : "/subsystems"), id, is_pci_id, "four hex digits, lower case");
      for (const std::string& id : row.ids.items) {
        if (row.subsystems.items.empty()) once(at + "/ids", "PCI id", id);
        for (const std::string& subsystem : row.subsystems.items) once(at + "/subsystems", "PCI id", id + ":" + subsystem);
      }
      const bool known = std::any_of(compat_.architectures.begin(), compat_.architectures.end(),
                                     [&](const ArchitectureRow& one) { return one.compute == row.compute; });
      if (!known) say(at + "/compute", fmt::format("compute capability {} is not in `architectures`", quote_value(row.compute)));
      if (!row.first_driver.empty()) wants(at + "/first_driver", row.first_driver, is_version, "a driver version");
      if (!row.last_branch.empty()) wants(at + "/last_branch", row.last_branch, is_number, "the number of a branch");
      names_cuda(at + "/last_cuda", row.last_cuda);
    });
  }

  template <class Row, class Look> void each(const std::string& section, const std::vector<Row>& rows, const Look& look) {
    for (std::size_t i = 0; i < rows.size(); ++i) look(rows[i], "/" + section + "/" + std::to_string(i));
  }

  template <class Row> void bounds(const std::string& at, const Row& row) {
    if (!row.first_branch.empty()) wants(at + "/first_branch", row.first_branch, is_number, "the number of a branch");
    if (!row.last_branch.empty()) wants(at + "/last_branch", row.last_branch, is_number, "the number of a branch");
  }

  void wants(const std::string& at, const std::string& value, bool (*fits)(std::string_view), std::string_view expected) {
    if (!fits(value)) say(at, fmt::format("{} is wrong here: expected {}", quote_value(value), expected));
  }

  void once(const std::string& at, std::string_view what, const std::string& value) {
    if (!seen_.emplace(std::string(what) + " " + value).second) say(at, fmt::format("the {} {} is given twice", what, quote_value(value)));
  }

  void names_cuda(const std::string& at, const std::string& version) {
    if (version.empty()) return;
    const bool known = std::any_of(compat_.cuda.begin(), compat_.cuda.end(), [&](const CudaRow& row) { return row.version == version; });
    if (!known) say(at, fmt::format("CUDA {} is not in `cuda`", quote_value(version)));
  }

  std::vector<FieldProblem>& problems_;
  Compat compat_;
  std::vector<std::string> sections_;
  std::set<std::string> seen_;
};

template <class Row> Json write_row(const Row& row) {
  SpecWriter writer;
  Row defaults, copy = row;
  defaults.fields(writer);
  writer.start_values();
  copy.fields(writer);
  return writer.take();
}

template <class Row> Json write_rows(const std::vector<Row>& rows) {
  Json list = Json::array();
  for (const Row& row : rows) list.push_back(write_row(row));
  return list;
}

}  // namespace

Compat read_compat(const Json& document, std::vector<FieldProblem>& problems) { return CompatReader(problems).read(document); }

Json write_compat(const Compat& compat) {
  return {{"gpus", write_rows(compat.gpus)},
          {"architectures", write_rows(compat.architectures)},
          {"cuda", write_rows(compat.cuda)},
          {"majors", write_rows(compat.majors)},
          {"branches", write_rows(compat.branches)},
          {"open_modules", write_row(compat.open_modules)},
          {"distributions", write_rows(compat.distributions)},
          {"repository", write_row(compat.repository)},
          {"driver_packages", write_rows(compat.driver_packages)},
          {"fabric_manager",
           {{"switches", compat.nvswitches.items}, {"more_than", compat.fabric_above}, {"packages", write_rows(compat.fabric_packages)}}},
          {"frameworks", write_rows(compat.frameworks)}};
}

}  // namespace gpustrap

#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "agent/base/result.h"
#include "agent/protocol/compat_packages.h"
#include "agent/protocol/fields.h"
#include "agent/protocol/json_fwd.h"

// The tables of recipes/compat.yaml, typed: what is known of GPUs, CUDA, drivers and where they come from. The controller reads them
// from YAML, an agent gets them as JSON. compat_resolver.h answers questions from them.

namespace gpustrap {

/// Which kernel modules a GPU works with: the proprietary ones alone, both (open ones preferred), or the open ones alone.
enum class GpuModules { proprietary, open, open_required };

struct GpuRow {
  std::string name;
  StringList aliases, ids, subsystems;
  std::string compute;
  ByteSize memory;
  std::string first_driver, last_branch, last_cuda;
  GpuModules modules = GpuModules::open;
  std::optional<bool> data_centre;
  std::int64_t nvswitch_gpus = 0;
  bool nvswitch_on_pci = true;
  StringList fabric_packages, instances;
  std::string arch;
  bool retired = false;
  std::string refuse, workaround, workaround_branch;
  Certainty certainty = Certainty::confirmed;
  std::string source;
  template <class V> void fields(V& v) {
    v("name", name, Presence::required, "as nvidia-smi prints it");
    v("aliases", aliases, Presence::optional, "what people call it, lower case");
    v("ids", ids, Presence::required, "PCI device ids of vendor 10de, four hex digits");
    v("subsystems", subsystems, Presence::optional, "PCI subsystem devices, where the id alone does not tell");
    v("compute", compute, Presence::required, "compute capability");
    v("memory", memory, Presence::optional, "of one GPU");
    v("first_driver", first_driver, Presence::optional, "oldest driver that knows it");
    v("last_branch", last_branch, Presence::optional, "newest driver branch that serves it; all where not given");
    v("last_cuda", last_cuda, Presence::optional, "newest CUDA that runs on it; all where not given");
    v("modules", modules, Presence::required, "kernel modules");
    v("data_centre", data_centre, Presence::optional, "whether forward compatibility (cuda-compat) is for it; unknown where not given");
    v("nvswitch_gpus", nvswitch_gpus, Presence::optional, "how many of them in one machine are joined by NVSwitches");
    v("nvswitch_on_pci", nvswitch_on_pci, Presence::optional, "whether those switches are PCI functions of the machine");
    v("fabric_packages", fabric_packages, Presence::optional, "packages beside the fabric manager");
    v("instances", instances, Presence::optional, "EC2 families");
    v("arch", arch, Presence::optional, "architecture of its machines where it is always the same");
    v("retired", retired, Presence::optional, "its instances can no longer be started");
    v("refuse", refuse, Presence::optional, "why no driver can be installed for it");
    v("workaround", workaround, Presence::optional, "known trouble and what helps");
    v("workaround_branch", workaround_branch, Presence::optional, "the driver branch that this is about");
    v("certainty", certainty, Presence::optional, "how sure this row is");
    v("source", source, Presence::optional, "where it comes from");
  }
};

struct ArchitectureRow {
  std::string compute, first_cuda;
  Certainty certainty = Certainty::confirmed;
  template <class V> void fields(V& v) {
    v("compute", compute, Presence::required, "compute capability");
    v("first_cuda", first_cuda, Presence::optional, "first CUDA that knows it");
    v("certainty", certainty, Presence::optional, "how sure this row is");
  }
};

struct CudaRow {
  std::string version, driver;
  TextMap updates;
  std::string note;
  Certainty certainty = Certainty::confirmed;
  template <class V> void fields(V& v) {
    v("version", version, Presence::required, "major.minor");
    v("driver", driver, Presence::required, "oldest driver on which all of it works");
    v("updates", updates, Presence::optional, "the same of its updates: u1 is major.minor.1");
    v("note", note, Presence::optional, "what else to know");
    v("certainty", certainty, Presence::optional, "how sure this row is");
  }
};

struct MajorRow {
  std::string major, driver;
  template <class V> void fields(V& v) {
    v("major", major, Presence::required, "major version of CUDA");
    v("driver", driver, Presence::required, "oldest driver of its minor-version compatibility");
  }
};

struct BranchRow {
  std::string branch;
  std::int64_t pick = 0;
  std::string support, last_for;
  Certainty certainty = Certainty::confirmed;
  template <class V> void fields(V& v) {
    v("branch", branch, Presence::required, "number of the branch");
    v("pick", pick, Presence::optional, "rank among those taken where nobody names one; 0: never taken");
    v("support", support, Presence::optional, "how long NVIDIA looks after it");
    v("last_for", last_for, Presence::optional, "GPUs that no later branch serves");
    v("certainty", certainty, Presence::optional, "how sure this row is");
  }
};

struct OpenModulesRow {
  std::string first_branch, only_from;
  Certainty certainty = Certainty::confirmed;
  std::string source;
  template <class V> void fields(V& v) {
    v("first_branch", first_branch, Presence::required, "first branch that has them");
    v("only_from", only_from, Presence::required, "first branch that has nothing else");
    v("certainty", certainty, Presence::optional, "how sure this row is");
    v("source", source, Presence::optional, "where it comes from");
  }
};

struct Compat {
  std::vector<GpuRow> gpus;
  std::vector<ArchitectureRow> architectures;
  std::vector<CudaRow> cuda;
  std::vector<MajorRow> majors;
  std::vector<BranchRow> branches;
  OpenModulesRow open_modules;
  std::vector<DistributionRow> distributions;
  RepositoryRow repository;
  std::vector<DriverPackagesRow> driver_packages;
  StringList nvswitches;
  std::int64_t fabric_above = 1;  ///< the fabric manager is needed with more switches than this
  std::vector<FabricPackageRow> fabric_packages;
  std::vector<FrameworkRow> frameworks;
};

/// Reads the tables strictly: an unknown field, a wrong type, an id given twice, or a row that names what is in no table is a problem,
/// tied to its place by a JSON pointer. Usable only where no problem was added.
[[nodiscard]] Compat read_compat(const Json& document, std::vector<FieldProblem>& problems);
/// The same tables as JSON, for an agent; read_compat reads it back.
[[nodiscard]] Json write_compat(const Compat& compat);

}  // namespace gpustrap

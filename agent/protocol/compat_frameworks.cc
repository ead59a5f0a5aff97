#include <algorithm>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"
#include "agent/protocol/compat_lookup.h"
#include "agent/protocol/compat_resolver.h"

namespace gpustrap {
namespace {

std::string package_text(const FrameworkRow& row) { return row.version.empty() ? row.package : row.package + " " + row.version; }

std::string range_text(const FrameworkRow& row) {
  const std::string last = row.last_compute.empty() ? " and newer" : " to " + sm_name(row.last_compute);
  return row.first_compute.empty() ? (row.last_compute.empty() ? "any GPU" : "up to " + sm_name(row.last_compute))
                                   : sm_name(row.first_compute) + last;
}

std::string oldest_driver(const Compat& compat, const FrameworkRow& row) {
  if (!row.driver.empty()) return row.driver;
  const CudaRow* cuda = find_cuda(compat, row.cuda);
  if (cuda == nullptr) return {};
  const std::string floor = minor_version_floor(compat, *cuda);
  return floor.empty() || compare_versions(cuda->driver, floor) < 0 ? cuda->driver : floor;
}

/// Why this build does not run here; empty where it does.
std::string build_problem(const Compat& compat, const FrameworkRow& row, const std::vector<GpuKind>& gpus, const KnownDriver& driver) {
  for (const GpuKind& kind : gpus) {
    const std::string& compute = kind.row->compute;
    const bool old = !row.first_compute.empty() && compare_versions(compute, row.first_compute) < 0;
    const bool young = !row.last_compute.empty() && compare_versions(row.last_compute, compute) < 0;
    if (old || young) return fmt::format("{} is for {}", row.build, range_text(row));
  }
  const std::string oldest = oldest_driver(compat, row);
  if (!driver.text.empty() && !oldest.empty() && !driver.reaches(oldest))
    return fmt::format("{} needs driver {} or newer", row.build, oldest);
  return {};
}

}  // namespace

Result<std::optional<std::string>> resolve_framework(const Compat& compat, const std::string& package, const CompatQuestion& question,
                                                     const std::string& driver) {
  const std::vector<GpuKind> gpus = gpu_kinds(compat, question.gpus);
  const KnownDriver known{driver, driver.find('.') == std::string::npos};
  const FrameworkRow* best = nullptr;
  const FrameworkRow* any = nullptr;
  std::vector<std::string> problems;
  for (const FrameworkRow& row : compat.frameworks) {
    if (row.package != package) continue;
    any = &row;
    if (!row.arch.empty() && row.arch != question.arch) continue;
    if (std::string problem = build_problem(compat, row, gpus, known); !problem.empty()) {
      problems.push_back(std::move(problem));
      continue;
    }
    const bool better =
        best == nullptr || (row.pick == 1 && best->pick != 1) || (row.pick == best->pick && compare_versions(best->cuda, row.cuda) < 0);
    if (better) best = &row;
  }
  if (any == nullptr) return std::nullopt;
  if (best == nullptr) {
    std::vector<std::string> labels;
    for (const GpuKind& kind : gpus) labels.push_back(label_of(*kind.row));
    const std::string where = labels.empty() ? "" : " on " + join(labels, " and ");
    return fail(ErrorCode::unsupported,
                fmt::format("no build of {} for {} runs{}{}", package_text(*any), question.arch, where,
                            problems.empty() ? "" : ": " + join(problems, "; ")),
                "an older release of it may still have one");
  }
  const std::string not_default = best->pick == 1 ? "" : "; pip takes another build by itself";
  return fmt::format("{}: its build {} brings CUDA {} along{}", package_text(*best), best->build, best->cuda, not_default);
}

}  // namespace gpustrap

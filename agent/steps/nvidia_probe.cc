#include "agent/steps/nvidia_probe.h"

#include <algorithm>
#include <array>
#include <chrono>
#include <string_view>
#include <utility>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/base/text.h"
#include "agent/paths.h"
#include "agent/protocol/json.h"
#include "agent/steps/nvidia_diagnosis.h"
#include "agent/steps/nvidia_probe_script.h"

namespace gpustrap {
namespace {

/// The first context on a GPU that sleeps takes seconds, and a large box has eight of them.
constexpr auto kProbeLimit = std::chrono::minutes(3);
constexpr std::array kInterpreters = {"/usr/bin/python3", "/usr/local/bin/python3", "/opt/conda/bin/python3", "/opt/pytorch/bin/python3"};
constexpr std::array kHomeFolders = {"conda", "miniforge3", "miniconda3", "anaconda3"};

struct ProbeRow {
  std::string uuid;  ///< empty for what concerns all of them
  bool right = false;
  int code = 0;
  std::string error, during;
};

/// A line of the probe is a JSON document; anything else is somebody else's and stays visible.
std::optional<ProbeRow> parse_row(std::string_view line) {
  const Json document = Json::parse(line, nullptr, false);
  if (!document.is_object() || !document.contains("gpustrap_probe")) return std::nullopt;
  try {
    return ProbeRow{document.value("uuid", ""), document.value("right", false), document.value("code", 0), document.value("error", ""),
                    document.value("during", "")};
  } catch (const Json::exception&) { return std::nullopt; }
}

/// Numbers of cuda.h's CUresult.
std::string advice_for(const Host& host, const ProbeRow& row) {
  const std::string branch = [&] {
    const Result<std::string> version = host.read("/sys/module/nvidia/version");
    return version ? std::string(trim(version->substr(0, version->find('.')))) : std::string("BRANCH");
  }();
  if (row.error == "no libcuda") {
    return fmt::format(
        "install the driver's compute libraries: libnvidia-compute-{0}-server or libnvidia-compute-{0}; a driver for displays or tools "
        "alone does not bring them",
        branch);
  }
  switch (row.code) {
    case 2: return "the GPU's memory is full: `nvidia-smi` lists the processes that have it";
    case 46: return "the GPU is reserved or forbidden for computing: sudo nvidia-smi -c DEFAULT, or end the process that has it to itself";
    case 100: return "CUDA sees no GPU: is CUDA_VISIBLE_DEVICES or MIG in the way? `nvidia-smi -L` lists what there is";
    case 214: return "the memory has an error that cannot be corrected: stop and start the instance, and report it to the provider";
    case 221:
      return fmt::format(
          "the driver's compiler libnvidia-ptxjitcompiler.so is missing: reinstall libnvidia-compute-{}-server or libnvidia-compute-{}",
          branch, branch);
    case 802:
      return "GPUs joined by NVSwitches need nvidia-fabricmanager, of exactly the driver's version: install it, then sudo systemctl enable "
             "--now nvidia-fabricmanager";
    case 803:
      return "libcuda and the kernel module are of different versions: reboot; where that does not help, packages of two versions are "
             "mixed (`dpkg -l '*nvidia*'`)";
    case 804:
      return "a cuda-compat library that this GPU or driver does not take is found before the driver's own: remove it from LD_LIBRARY_PATH "
             "and /etc/ld.so.conf.d";
    default: return "`sudo dmesg | grep -i nvrm` on the host says more; a reboot helps where the driver hangs";
  }
}

std::string name_of(const std::vector<AnsweringGpu>& gpus, const std::string& uuid) {
  const auto gpu = std::find_if(gpus.begin(), gpus.end(), [&](const AnsweringGpu& candidate) { return candidate.uuid == uuid; });
  return gpu == gpus.end() ? "the GPUs" : fmt::format("GPU {} ({})", gpu->index, gpu->name);
}

std::string ago(std::int64_t seconds) {
  const std::chrono::seconds time(std::max<std::int64_t>(seconds, 0));
  return human_duration(time);
}

}  // namespace

std::string probe_interpreter(const Host& host) {
  for (const char* path : kInterpreters) {
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (info && *info) return path;
  }
  // One that a recipe has installed for the login user, who alone runs it.
  if (host.self().uid != host.login().uid) return {};
  for (const char* folder : kHomeFolders) {
    const std::string path = fmt::format("{}/{}/bin/python3", host.login().home, folder);
    const Result<std::optional<FileInfo>> info = host.info(path);
    if (info && *info) return path;
  }
  return {};
}

Result<void> probe_gpus(Host& host, StepLog& log, const std::string& interpreter, const std::vector<AnsweringGpu>& gpus) {
  const auto cut = std::find_if(gpus.begin(), gpus.end(), [](const AnsweringGpu& gpu) { return gpu.mig; });
  if (cut != gpus.end()) {
    return fail(ErrorCode::unsupported,
                fmt::format("GPU {} ({}) is cut into slices (MIG), and the probe works on whole GPUs", cut->index, cut->name),
                fmt::format("say `probe: false`, or make it whole: sudo nvidia-smi -i {} -mig 0", cut->index));
  }
  std::vector<ProbeRow> rows;
  // Isolated from the user's site-packages and variables; no byte code is written.
  Command command{{interpreter, "-I", "-B", "-"}, {}, "/", std::string(kProbeScript), kProbeLimit, {}};
  command.takes_line = [](std::string_view line) { return parse_row(line).has_value(); };
  const Result<CommandResult> result = host.act(command, log);
  if (!result && result.error().code() == ErrorCode::timeout) {
    return fail(ErrorCode::timeout, "the kernel did not come back from a GPU within " + human_duration(kProbeLimit),
                "the driver or a GPU hangs: reboot; `sudo dmesg | grep -i nvrm` says more");
  }
  if (!result) return fail(result.error());
  for (const std::string& line : split(result->out, '\n')) {
    if (std::optional<ProbeRow> row = parse_row(line)) rows.push_back(*std::move(row));
  }
  for (const ProbeRow& row : rows) {
    if (row.right) {
      log.say(fmt::format("{}: memory allocated, a kernel ran, its results are right (by {})", name_of(gpus, row.uuid), interpreter));
      continue;
    }
    const std::string number = row.code == 0 ? "" : fmt::format(" (CUDA error {})", row.code);
    const std::string during = row.during.empty() ? "" : " in " + row.during;
    return fail(ErrorCode::command,
                fmt::format("{} cannot compute: {}{}{}", name_of(gpus, row.uuid), first_line(strip_control(row.error)), during, number),
                advice_for(host, row));
  }
  if (result->exit_code != 0 || rows.empty()) {
    Error error = command_error(command, *result);
    return fail(ErrorCode::command, "the probe broke: " + error.why(), "`sudo dmesg | grep -i nvrm` on the host says more");
  }
  for (const AnsweringGpu& gpu : gpus) {
    const bool proven = std::any_of(rows.begin(), rows.end(), [&](const ProbeRow& row) { return row.uuid == gpu.uuid; });
    if (!proven) {
      return fail(ErrorCode::command, fmt::format("GPU {} ({}) answers nvidia-smi, but CUDA does not see it", gpu.index, gpu.name),
                  "is its compute mode Prohibited (nvidia-smi -q -d COMPUTE)? then: sudo nvidia-smi -c DEFAULT");
    }
  }
  return {};
}

GpuProof proof_of(const Host& host, const std::vector<AnsweringGpu>& gpus) {
  GpuProof proof;
  proof.boot_id = host.facts().boot_id;
  for (const AnsweringGpu& gpu : gpus) {
    proof.driver = gpu.driver;
    proof.uuids.push_back(gpu.uuid);
  }
  std::sort(proof.uuids.begin(), proof.uuids.end());
  proof.xids = logged_xids(host).size();
  proof.time = host.now();
  return proof;
}

std::string proof_path(const Host& host) {
  const AgentPaths paths = host.self().uid == 0 ? system_paths() : user_paths(host.self().home);
  return paths.runtime + "/gpu-proof.json";
}

std::optional<GpuProof> read_proof(const Host& host) {
  const Result<std::string> text = host.read(proof_path(host));
  if (!text) return std::nullopt;
  const Json document = Json::parse(*text, nullptr, false);
  if (!document.is_object()) return std::nullopt;
  try {
    return GpuProof{document.at("boot_id").get<std::string>(), document.at("driver").get<std::string>(),
                    document.at("uuids").get<std::vector<std::string>>(), document.at("xids").get<std::size_t>(),
                    document.at("time").get<std::int64_t>()};
  } catch (const Json::exception&) {
    return std::nullopt;  // another version's, or cut: proven again
  }
}

Result<void> write_proof(Host& host, const GpuProof& proof) {
  const Json document = {
      {"boot_id", proof.boot_id}, {"driver", proof.driver}, {"uuids", proof.uuids}, {"xids", proof.xids}, {"time", proof.time}};
  const std::string path = proof_path(host);
  if (Result<void> made = host.make_directory(parent_of(path), {}); !made) return made;
  FileAttributes attributes;
  attributes.mode = 0644;
  return host.write(path, document.dump() + "\n", attributes);
}

std::string proof_difference(const GpuProof& then, const GpuProof& now) {
  if (then.boot_id != now.boot_id) return "not proven since the last boot";
  if (then.driver != now.driver) return fmt::format("proven with driver {}, {} is loaded now", then.driver, now.driver);
  if (!std::includes(then.uuids.begin(), then.uuids.end(), now.uuids.begin(), now.uuids.end()))
    return "there are other GPUs than those proven";
  if (then.xids != now.xids) return fmt::format("the driver has logged faults since the proof {} ago", ago(now.time - then.time));
  return {};
}

}  // namespace gpustrap

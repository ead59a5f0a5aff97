#include "agent/steps/nvidia_query.h"

#include <charconv>
#include <chrono>
#include <utility>

#include <fmt/format.h>

#include "agent/base/text.h"

namespace gpustrap {
namespace {

/// Without the persistence daemon the driver starts every GPU anew for this one question: seconds for each of the eight of a large box.
constexpr auto kAnswerLimit = std::chrono::seconds(120);
/// compute_cap is not asked: drivers before 510 do not know it, and would answer nothing at all.
constexpr const char* kFields = "index,uuid,name,pci.bus_id,driver_version,memory.total,mig.mode.current";
constexpr std::size_t kFieldCount = 7;

std::optional<std::uint64_t> mebibytes(const std::string& text) {
  std::uint64_t number = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return number << 20U;
}

}  // namespace

std::vector<AnsweringGpu> parse_gpu_rows(const std::string& csv) {
  std::vector<AnsweringGpu> gpus;
  for (const std::string& line : split(csv, '\n')) {
    std::vector<std::string> fields = split(line, ',');
    if (fields.size() != kFieldCount) continue;
    for (std::string& field : fields) field = std::string(trim(strip_control(field)));
    if (!mebibytes(fields[0]) || !fields[1].starts_with("GPU-")) continue;
    gpus.push_back({fields[0], fields[1], fields[2], fields[3], fields[4], mebibytes(fields[5]), fields[5], fields[6] == "Enabled"});
  }
  return gpus;
}

Result<SmiAnswer> ask_nvidia_smi(const Host& host) {
  const Command command{
      {"nvidia-smi", std::string("--query-gpu=") + kFields, "--format=csv,noheader,nounits"}, {}, "", "", kAnswerLimit, {}};
  const Result<CommandResult> result = host.look(command);
  SmiAnswer answer;
  if (!result && result.error().code() != ErrorCode::timeout) return fail(result.error());
  if (!result) {
    answer.timed_out = true;
    return answer;
  }
  answer.exit_code = result->exit_code;
  answer.said = strip_control(result->out + result->err);
  answer.gpus = parse_gpu_rows(result->out);
  return answer;
}

std::vector<GpuUse> parse_gpu_use(const std::string& csv) {
  std::vector<GpuUse> gpus;
  for (const std::string& line : split(csv, '\n')) {
    const std::vector<std::string> fields = split(line, ',');
    const std::string index = fields.size() == 2 ? std::string(trim(fields[0])) : "";
    if (!mebibytes(index)) continue;
    const std::string_view text = trim(fields[1]);
    unsigned percent = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), percent);
    const bool is_number = error == std::errc() && end == text.data() + text.size();
    gpus.push_back({index, is_number ? std::optional<unsigned>(percent) : std::nullopt});
  }
  return gpus;
}

std::vector<GpuUse> ask_gpu_use(const Host& host) {
  const Command command{{"nvidia-smi", "--query-gpu=index,utilization.gpu", "--format=csv,noheader,nounits"}, {}, "", "", kAnswerLimit, {}};
  const Result<CommandResult> result = host.look(command);
  return result && result->exit_code == 0 ? parse_gpu_use(result->out) : std::vector<GpuUse>();
}

std::string describe_gpus(const std::vector<AnsweringGpu>& gpus) {
  std::vector<std::pair<std::string, int>> models;
  for (const AnsweringGpu& gpu : gpus) {
    const std::string model = gpu.memory ? fmt::format("{} ({})", gpu.name, human_size(*gpu.memory)) : gpu.name;
    if (models.empty() || models.back().first != model) models.emplace_back(model, 0);
    ++models.back().second;
  }
  std::vector<std::string> parts;
  for (const auto& [model, count] : models) parts.push_back(count == 1 ? model : fmt::format("{} × {}", count, model));
  return join(parts, ", ");
}

}  // namespace gpustrap

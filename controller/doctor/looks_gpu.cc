#include "controller/doctor/looks.h"

#include <algorithm>
#include <array>
#include <charconv>

#include <fmt/format.h>

#include "agent/base/text.h"

// The GPUs' own health, by the kernel's log and what nvidia-smi counts.

namespace gpustrap {
namespace {

constexpr const char* kStopAndStart =
    "# stop and start the instance (a reboot keeps the same hardware); where it comes back, report it to the provider";

struct XidRow {
  int number;
  bool is_hardware;
  const char* meaning;
};
/// The common ones. A program's own fault can cause those that are not of the hardware.
constexpr std::array kXids = {XidRow{13, false, "a program's kernel used memory or an instruction wrongly"},
                              XidRow{31, false, "a program read or wrote memory that is not its own"},
                              XidRow{32, false, "a program's commands were corrupted on their way to the GPU"},
                              XidRow{43, false, "a program's work was stopped by the GPU"},
                              XidRow{45, false, "a program was ended while it computed"},
                              XidRow{48, true, "a memory error that could not be corrected"},
                              XidRow{61, true, "the GPU's own controller has halted"},
                              XidRow{62, true, "the GPU's own controller has stopped"},
                              XidRow{63, true, "a memory row is set aside; a restart does it"},
                              XidRow{64, true, "a memory row could not be replaced"},
                              XidRow{68, false, "the video unit was used wrongly"},
                              XidRow{69, false, "a program used a graphics class wrongly"},
                              XidRow{74, true, "an NVLink error"},
                              XidRow{79, true, "the GPU has fallen off the bus"},
                              XidRow{92, true, "many memory errors that could be corrected"},
                              XidRow{94, true, "a memory error that was contained in one program"},
                              XidRow{95, true, "a memory error that was not contained"},
                              XidRow{109, false, "a program waited for too long to be switched"},
                              XidRow{119, true, "the GPU's system processor (GSP) does not answer"},
                              XidRow{120, true, "the GPU's system processor (GSP) has failed"},
                              XidRow{140, true, "a memory error that could not be corrected"}};

struct SeenXid {
  int number = 0;
  const XidRow* row = nullptr;
  std::string line;
};

std::vector<SeenXid> xids_of(const Patient& p) {
  std::vector<SeenXid> xids;
  for (const std::string& line : p.kernel_log("Xid (")) {
    const std::size_t close = line.find("): ");
    if (close == std::string::npos) continue;
    SeenXid xid;
    const char* digits = line.data() + close + 3;
    if (std::from_chars(digits, line.data() + line.size(), xid.number).ec != std::errc()) continue;
    const auto row = std::find_if(kXids.begin(), kXids.end(), [&](const XidRow& one) { return one.number == xid.number; });
    if (row != kXids.end()) xid.row = row;
    xid.line = line;
    xids.push_back(std::move(xid));
  }
  return xids;
}

Verdict xids_found(const Patient& p, bool hardware) {
  if (!p.has_gpu()) return irrelevant();
  if (!p.evidence.was_seen("kernel-log")) return unseen(p, "kernel-log");
  std::vector<std::string> evidence;
  const SeenXid* last = nullptr;
  std::size_t count = 0;
  const std::vector<SeenXid> xids = xids_of(p);
  for (const SeenXid& xid : xids) {
    const bool is_hardware = xid.row != nullptr && xid.row->is_hardware;
    if (is_hardware != hardware || (hardware && xid.number == 79)) continue;
    last = &xid;
    ++count;
    evidence.push_back(xid.line);
  }
  if (last == nullptr) return fine();
  const std::string meaning = last->row == nullptr ? "not one of the common ones" : last->row->meaning;
  std::string cause = fmt::format("the driver has reported Xid {}: {}{}", last->number, meaning,
                                  count > 1 ? fmt::format(" ({} reports in all)", count) : "");
  if (evidence.size() > 6) evidence.erase(evidence.begin(), evidence.end() - 6);
  if (!hardware)
    return found(std::move(evidence), std::move(cause),
                 {"# look at the program that the line names first: compute-sanitizer PROGRAM",
                  "# the numbers: https://docs.nvidia.com/deploy/xid-errors/"});
  return found(std::move(evidence), std::move(cause), {"sudo reboot", kStopAndStart});
}

/// "0, Enabled, 0, 3" in fields.
std::vector<std::vector<std::string>> table_of(const Patient& p, std::string_view section) {
  std::vector<std::vector<std::string>> rows;
  const Section* answer = p.evidence.find(section);
  if (answer == nullptr || answer->status != 0) return rows;
  for (const std::string& line : p.evidence.lines(section)) {
    std::vector<std::string> fields = split(line, ',');
    for (std::string& field : fields) field = std::string(trim(field));
    rows.push_back(std::move(fields));
  }
  return rows;
}

}  // namespace

Verdict look_fallen_off(const Patient& p) {
  if (!p.evidence.was_seen("kernel-log")) return p.has_gpu() ? unseen(p, "kernel-log") : irrelevant();
  std::vector<std::string> lines = p.kernel_log("fallen off the bus");
  const Section* smi = p.evidence.find("smi");
  if (smi != nullptr && (smi->status == 15 || contains(smi->text, "GPU is lost"))) lines.push_back("nvidia-smi: " + first_line(smi->text));
  if (lines.empty()) return p.has_gpu() ? fine() : irrelevant();
  return found(std::move(lines), "a GPU has fallen off the bus (Xid 79): the machine has lost its connection to it", {kStopAndStart});
}

Verdict look_xid_hardware(const Patient& p) { return xids_found(p, true); }
Verdict look_xid_program(const Patient& p) { return xids_found(p, false); }

Verdict look_adapter_failed(const Patient& p) {
  if (!p.has_gpu()) return irrelevant();
  if (!p.evidence.was_seen("kernel-log")) return unseen(p, "kernel-log");
  std::vector<std::string> lines = p.kernel_log("RmInitAdapter failed");
  if (lines.empty() || !p.answering.empty()) return fine();
  return found(std::move(lines), "the driver could not start the GPU (RmInitAdapter failed)",
               {"sudo reboot", kStopAndStart, "# with driver 580 and proprietary modules NVreg_EnableGpuFirmware=0 is a known way round"});
}

Verdict look_ecc(const Patient& p) {
  if (p.answering.empty()) return irrelevant();
  if (!p.evidence.was_seen("smi-ecc")) return unseen(p, "smi-ecc");
  std::vector<std::string> evidence;
  for (const std::vector<std::string>& row : table_of(p, "smi-ecc")) {
    if (row.size() == 4 && number_of(row[2]).value_or(0) > 0)
      evidence.push_back(fmt::format("GPU {}: {} uncorrected since the driver was loaded, {} in all", row[0], row[2], row[3]));
  }
  if (evidence.empty()) return fine();
  return found(
      std::move(evidence), "a GPU's memory has errors that ECC could not correct: programs that used it have failed or computed wrongly",
      {"nvidia-smi -q -d ECC,ROW_REMAPPER,PAGE_RETIREMENT", "sudo reboot   # the driver then sets the bad rows aside", kStopAndStart});
}

Verdict look_row_remap(const Patient& p) {
  if (p.answering.empty()) return irrelevant();
  if (!p.evidence.was_seen("smi-rows")) return unseen(p, "smi-rows");
  std::vector<std::string> evidence;
  bool failed = false;
  for (const std::vector<std::string>& row : table_of(p, "smi-rows")) {
    if (row.size() != 4) continue;
    const auto says_yes = [](const std::string& field) { return field == "Yes" || number_of(field).value_or(0) > 0; };
    if (!says_yes(row[2]) && !says_yes(row[3])) continue;
    failed = failed || says_yes(row[3]);
    evidence.push_back(fmt::format("GPU {}: uncorrectable rows: {}, replacement pending: {}, failed: {}", row[0], row[1], row[2], row[3]));
  }
  if (evidence.empty()) return fine();
  if (failed) return found(std::move(evidence), "a bad row of a GPU's memory could not be replaced: the GPU is worn out", {kStopAndStart});
  return found(std::move(evidence), "a bad row of a GPU's memory waits to be replaced, which the next restart does", {"sudo reboot"},
               reboot_steps());
}

Verdict look_gpus_missing(const Patient& p) {
  if (!p.has_gpu() || p.answering.empty()) return irrelevant();
  if (p.facts.container || p.answering.size() >= p.facts.gpus.size()) return fine();
  std::vector<std::string> evidence = {fmt::format("{} on the PCI bus, {} answer nvidia-smi", p.facts.gpus.size(), p.answering.size())};
  for (const PciGpu& gpu : p.facts.gpus) {
    if (gpu.driver != "nvidia")
      evidence.push_back(fmt::format("{} 10de:{} is bound to {}", gpu.address, gpu.device, gpu.driver.empty() ? "no driver" : gpu.driver));
  }
  return found(std::move(evidence), "fewer GPUs answer than are on the PCI bus",
               {"sudo dmesg | grep -i nvrm   # says why the others do not", "sudo reboot", kStopAndStart});
}

Verdict look_slowed_down(const Patient& p) {
  if (p.answering.empty()) return irrelevant();
  const Section* heat = p.evidence.find("smi-heat");
  if (heat == nullptr || heat->status != 0) return unseen(p, "smi-heat");
  std::vector<std::string> evidence;
  for (const std::vector<std::string>& row : table_of(p, "smi-heat")) {
    if (row.size() == 4 && (row[2] == "Active" || row[3] == "Active"))
      evidence.push_back(fmt::format("GPU {}: {} °C, slowed down by heat: {}, by power: {}", row[0], row[1], row[2], row[3]));
  }
  if (evidence.empty()) return fine();
  return found(
      std::move(evidence), "a GPU protects itself by running slower: it is too hot, or gets too little power",
      {"nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER", "# a rented machine: stop and start it; your own: fans, dust, power cables"});
}

Verdict look_aer(const Patient& p) {
  if (!p.has_gpu() || p.facts.container) return irrelevant();
  if (!p.evidence.was_seen("kernel-log")) return unseen(p, "kernel-log");
  std::vector<std::string> evidence;
  for (const std::string& line : p.kernel_log("AER:")) {
    const bool names_gpu =
        std::any_of(p.facts.gpus.begin(), p.facts.gpus.end(), [&](const PciGpu& gpu) { return contains(line, gpu.address.substr(5)); });
    if (names_gpu && (contains(line, "error") || contains(line, "Error"))) evidence.push_back(line);
  }
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "the PCI Express link to a GPU has errors: transfers are repeated, or lost",
               {"sudo lspci -vv -s " + p.facts.gpus.front().address + " | grep -i lnk", kStopAndStart});
}

Verdict look_mig_empty(const Patient& p) {
  if (p.answering.empty()) return irrelevant();
  std::vector<std::string> evidence;
  for (const std::vector<std::string>& row : table_of(p, "smi-mig")) {
    if (row.size() == 2 && row[1] == "Enabled") evidence.push_back(fmt::format("GPU {}: MIG {}", row[0], row[1]));
  }
  if (evidence.empty() || contains(p.evidence.text("smi-list"), "MIG ")) return fine();
  return found(
      std::move(evidence), "MIG is on, but the GPU has been divided into no instances: CUDA finds no device",
      {"sudo nvidia-smi -mig 0   # the whole GPU again", "# or divide it: nvidia-smi mig -lgip; sudo nvidia-smi mig -cgi PROFILE -C"});
}

Verdict look_compute_prohibited(const Patient& p) {
  if (p.answering.empty()) return irrelevant();
  std::vector<std::string> evidence;
  for (const SmiGpu& gpu : p.answering) {
    if (gpu.compute_mode == "Prohibited")
      evidence.push_back(fmt::format("GPU {} ({}): compute mode {}", gpu.index, gpu.name, gpu.compute_mode));
  }
  if (evidence.empty()) return fine();
  return found(std::move(evidence), "the GPU's compute mode forbids all programs to compute on it", {"sudo nvidia-smi -c DEFAULT"},
               {step_of("compute-mode", "command",
                        {{"run", "nvidia-smi -c DEFAULT"},
                         {"unless", "! nvidia-smi --query-gpu=compute_mode --format=csv,noheader | grep -q Prohibited"}})});
}

}  // namespace gpustrap

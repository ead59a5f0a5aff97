#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "agent/base/text.h"
#include "agent/protocol/json.h"
#include "controller/compat_loader.h"
#include "controller/doctor/diagnosis.h"
#include "controller/doctor/evidence.h"
#include "controller/doctor/fix.h"

// Any bytes as what a host answers to the doctor's questions: refused, or read into sections that diagnose to something that can be shown.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  static const Compat compat = load_builtin_compat().value();
  const std::string_view said(reinterpret_cast<const char*>(data), size);
  const Result<Evidence> whole = Evidence::read(said);
  // What is whole is so also for whoever takes what breaks off.
  const Result<Evidence> evidence = Evidence::read(said, Evidence::Ending::cut);
  if (whole && (!evidence || evidence->write() != whole->write())) std::abort();
  if (!evidence) return 0;
  const Result<Evidence> again = Evidence::read(evidence->write());
  if (!again || again->write() != evidence->write()) std::abort();
  const Patient patient = examine(*evidence, compat, 1795330000);
  const Diagnosis diagnosis = diagnose(patient);
  const std::string text = diagnosis_text(diagnosis, patient, "gpu1", 79, true);
  if (text.empty() || strip_control(text) != text || !is_utf8(text)) std::abort();
  if (Json::parse(diagnosis_json(diagnosis, patient, "gpu1"), nullptr, false).is_discarded()) std::abort();
  const Result<std::vector<Finding>> chosen = findings_to_fix(diagnosis, {});
  if (!chosen) std::abort();
  (void)fix_recipe(*chosen);
  return 0;
}

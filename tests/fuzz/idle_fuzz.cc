#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "agent/base/text.h"
#include "agent/found_notebooks.h"
#include "agent/idle_signs.h"
#include "agent/idle_store.h"
#include "agent/notebook_use.h"
#include "agent/spot_notice.h"
#include "agent/steps/nvidia_query.h"

// Whatever notebooks, processes, logind, the driver and a cloud say, and whatever a cut-off file of the guard's own holds: read, or passed
// over, and never shown as it is.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(data, data + size);
  const auto is_printable = [](const std::string& word) { return strip_control(word) == word && is_utf8(word); };
  if (const auto found = found_notebook_in(text); found && (!is_printable(found->token + found->base) || found->port == 0)) std::abort();
  static_cast<void>(listening_people(text));
  IdleSample sample;
  add_notebook_use(text, sample);
  for (UseSign& sign : inhibitors_in(text)) sample.now.push_back(sign);
  for (UseSign& sign : signs_of_gpus(parse_gpu_use(text), {text})) sample.now.push_back(sign);
  for (const auto& [name, bytes] : interfaces_in(text))
    if (!is_printable(name)) std::abort();
  if (const auto process = process_in(text); process && !is_printable(process->name)) std::abort();
  for (const auto& notice : {spot_action_in(text), rebalance_in(text)})
    if (notice && (!is_printable(notice->action) || !is_printable(notice->time) || !is_printable(clock_of(notice->time)))) std::abort();
  for (const UseSign& sign : signs_of_use(sample_in(text), sample, 100))
    if (!is_printable(sign.text)) std::abort();
  if (record_text(record_in(record_text(record_in(text)))) != record_text(record_in(text))) std::abort();
  static_cast<void>(rules_in(text));
  static_cast<void>(keep_in(text));
  return 0;
}

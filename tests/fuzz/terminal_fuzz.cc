#include <cstddef>
#include <cstdint>
#include <string>

#include "controller/completion.h"
#include "controller/lint_upstream.h"
#include "controller/user_config.h"

// Servers' redirects, gpg's listing of a stranger's key, words at a Tab key and a hand-written configuration: read, or refused.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace gpustrap;
  const std::string text(reinterpret_cast<const char*>(data), size);
  const std::size_t cut = text.find('\n');
  static_cast<void>(redirect_target(text.substr(0, cut), cut == std::string::npos ? text : text.substr(cut + 1)).size());
  static_cast<void>(fault_of_key(text, 1'700'000'000).size());
  static_cast<void>(read_user_config(text, "config.yaml").has_value());
  for (const Candidate& candidate :
       complete({"recipe", "lint", text},
                CompletionWorld{[] { return std::vector<Candidate>(); }, [] { return std::vector<Candidate>(); },
                                [] { return std::vector<Candidate>(); }, [] { return std::vector<Candidate>(); },
                                [] { return std::vector<Candidate>(); }, [] { return std::vector<Candidate>(); },
                                [](const std::string& start) { return std::vector<Candidate>{{start + "x"}}; },
                                [](const std::string&) { return RecipeWords(); }, [](const std::string&) { return std::string(); },
                                [](const std::string&) { return std::vector<Candidate>(); }})
           .candidates) {
    for (const char c : candidate.word) {
      if (c >= 0 && c < 0x20) __builtin_trap();  // a terminal would obey it
    }
  }
  return 0;
}

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

// Runs a fuzz target without libFuzzer: every seed file as it is, then COUNT mutations drawn from a fixed seed, so that a
// failure comes back. `target COUNT SEED_FILE_OR_FOLDER…`. With clang the same targets link against libFuzzer instead.

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);

namespace {

namespace fs = std::filesystem;

std::string content_of(const fs::path& path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

void run(const std::string& input) {
  std::vector<std::uint8_t> bytes(input.begin(), input.end());
  LLVMFuzzerTestOneInput(bytes.data(), bytes.size());
}

/// A few edits of one seed: bytes changed, pieces dropped, doubled, or taken from another seed.
std::string mutate(const std::vector<std::string>& seeds, std::mt19937& random) {
  const auto below = [&](std::size_t limit) { return limit == 0 ? 0 : std::uniform_int_distribution<std::size_t>(0, limit - 1)(random); };
  std::string text = seeds[below(seeds.size())];
  const std::size_t edits = 1 + below(4);
  for (std::size_t i = 0; i < edits; ++i) {
    const std::size_t at = below(text.size() + 1);
    const std::size_t length = std::min(below(40), text.size() - at);
    switch (below(5)) {
      case 0: text.erase(at, length); break;
      case 1: text.insert(at, text.substr(at, length)); break;
      case 2: {
        const std::string& other = seeds[below(seeds.size())];
        const std::size_t from = below(other.size() + 1);
        text.insert(at, other, from, below(60));
        break;
      }
      case 3: {
        static const std::vector<std::string> kPieces = {"\"",  "'",    "{",  "}",     "[",    "]",        ":",
                                                         "\n",  "\t",   "\\", "*a",    "&a ",  "${{",      "}}",
                                                         "- ",  "null", "-1", "1e999", "\xff", "\xe2\x82", "99999999999999999999",
                                                         "<<: "};
        text.insert(at, kPieces[below(kPieces.size())]);
        break;
      }
      default:
        if (at < text.size()) text[at] = static_cast<char>(below(256));
    }
  }
  return text;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: " << argv[0] << " COUNT SEED_FILE_OR_FOLDER...\n";
    return 2;
  }
  std::vector<std::string> seeds;
  for (int i = 2; i < argc; ++i) {
    std::vector<fs::path> paths;
    if (fs::is_directory(argv[i])) {
      for (const auto& entry : fs::directory_iterator(argv[i])) paths.push_back(entry.path());
    } else {
      paths.emplace_back(argv[i]);
    }
    std::sort(paths.begin(), paths.end());
    for (const fs::path& path : paths) seeds.push_back(content_of(path));
  }
  if (seeds.empty()) {
    std::cerr << argv[0] << ": no seeds\n";
    return 2;
  }
  for (const std::string& seed : seeds) run(seed);
  std::mt19937 random(20240601);
  const long count = std::strtol(argv[1], nullptr, 10);
  for (long i = 0; i < count; ++i) run(mutate(seeds, random));
  std::cout << seeds.size() << " seeds and " << count << " mutations\n";
  return 0;
}

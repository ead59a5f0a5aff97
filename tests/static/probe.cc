// Does one thing of the agent per run, with the agent's own code, so that tests/static/run.sh can do it in an empty root:
//   static_probe get URL          prints what it fetched
//   static_probe unpack ARCHIVE   prints the path of everything in it
//   static_probe threads          starts threads, throws across one
// Fails with the error's sentence and hint.
#include <sys/stat.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

#include <fmt/format.h>

#include "agent/base/file.h"
#include "agent/fetch.h"
#include "agent/unpack.h"

namespace gpustrap {
namespace {

class Quiet : public StepLog {
 public:
  void say(std::string_view) override {}
  void progress(std::string_view, std::uint64_t, std::uint64_t) override {}
  void share(std::string_view, double) override {}
};

int complain(const Error& error) {
  fmt::print(stderr, "{}\n{}\n", error.sentence(), error.hint());
  return 1;
}

int get(const std::string& url) {
  FetchRequest request;
  request.urls = {url};
  request.to = "/tmp/fetched";
  FetchOptions once;
  once.attempts = 1;
  Quiet log;
  const Result<FetchResult> fetched = fetch_file(request, once, log);
  if (!fetched) return complain(fetched.error());
  const Result<std::string> body = read_file(request.to);
  if (!body) return complain(body.error());
  fmt::print("{}", *body);
  return 0;
}

int unpack(const std::string& archive) {
  UnpackRequest request;
  request.archive = archive;
  std::string folder = "/tmp/unpacked.XXXXXX";
  if (::mkdtemp(folder.data()) == nullptr) return complain({ErrorCode::io, "no folder can be made"});
  request.to = folder;
  Quiet log;
  const Result<std::vector<UnpackedEntry>> entries = unpack_archive(request, log);
  if (!entries) return complain(entries.error());
  for (const UnpackedEntry& entry : *entries) fmt::print("{}\n", entry.path);
  return 0;
}

int threads() {
  std::vector<std::thread> crew;
  for (int i = 0; i < 8; ++i) crew.emplace_back([] { std::this_thread::yield(); });
  for (std::thread& thread : crew) thread.join();
  auto future = std::async(std::launch::async, []() -> int { throw std::runtime_error("thrown in a thread"); });
  try {
    future.get();
  } catch (const std::exception& error) {
    fmt::print("{}\n", error.what());
    return 0;
  }
  return 1;
}

}  // namespace
}  // namespace gpustrap

int main(int argc, char** argv) {
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "get" && argc == 3) return gpustrap::get(argv[2]);
  if (what == "unpack" && argc == 3) return gpustrap::unpack(argv[2]);
  if (what == "threads") return gpustrap::threads();
  fmt::print(stderr, "usage: static_probe get URL | unpack ARCHIVE | threads\n");
  return 2;
}

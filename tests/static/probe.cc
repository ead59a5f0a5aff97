// Exercises what the agent takes from its static libraries, one thing per run, so that tests can do it in an empty root:
//   static_probe get URL [CA-BUNDLE]    prints the body; fails with curl's message
//   static_probe names ARCHIVE          prints the path of every entry, or NULL
//   static_probe threads                starts threads, throws across one, runs std::async
#include <archive.h>
#include <archive_entry.h>
#include <curl/curl.h>
#include <openssl/evp.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>
#include <sys/stat.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <future>
#include <stdexcept>
#include <string>
#include <string_view>
#include <thread>
#include <vector>

namespace {

std::string ca_bundle() {
  for (const char* path : {"/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/ca-bundle.pem",
                           "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", "/etc/ssl/cert.pem"}) {
    struct stat info {};
    if (stat(path, &info) == 0 && info.st_size > 0) return path;
  }
  return {};
}

size_t print(char* data, size_t size, size_t count, void*) { return fwrite(data, size, count, stdout); }

int get(const char* url, const std::string& bundle) {
  setenv("RES_OPTIONS", "retrans:1000 retry:2", 0);
  curl_global_init(CURL_GLOBAL_DEFAULT);
  CURL* curl = curl_easy_init();
  std::array<char, CURL_ERROR_SIZE> error{};
  curl_easy_setopt(curl, CURLOPT_URL, url);
  curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, error.data());
  curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, print);
  curl_easy_setopt(curl, CURLOPT_FAILONERROR, 1L);
  if (!bundle.empty()) curl_easy_setopt(curl, CURLOPT_CAINFO, bundle.c_str());
  const CURLcode result = curl_easy_perform(curl);
  curl_easy_cleanup(curl);
  curl_global_cleanup();
  if (result != CURLE_OK) spdlog::error("curl {}: {}", static_cast<int>(result), error.data());
  return result == CURLE_OK ? 0 : 1;
}

int names(const char* path) {
  archive* reader = archive_read_new();
  archive_read_support_filter_gzip(reader);
  archive_read_support_filter_bzip2(reader);
  archive_read_support_filter_xz(reader);
  archive_read_support_filter_zstd(reader);
  archive_read_support_format_tar(reader);
  archive_read_support_format_zip(reader);
  if (archive_read_open_filename(reader, path, 65536) != ARCHIVE_OK) {
    spdlog::error("{}", archive_error_string(reader));
    return 1;
  }
  archive_entry* entry = nullptr;
  int status = 0;
  while ((status = archive_read_next_header(reader, &entry)) == ARCHIVE_OK) {
    const char* name = archive_entry_pathname(entry);
    puts(name != nullptr ? name : "NULL");
    std::array<char, 65536> block{};
    while (archive_read_data(reader, block.data(), block.size()) > 0) {
    }
  }
  if (status != ARCHIVE_EOF) spdlog::error("{}", archive_error_string(reader));
  archive_read_free(reader);
  return status == ARCHIVE_EOF ? 0 : 1;
}

int threads() {
  std::vector<std::thread> crew;
  for (int i = 0; i < 8; ++i) crew.emplace_back([] { std::this_thread::yield(); });
  for (auto& thread : crew) thread.join();
  auto future = std::async(std::launch::async, []() -> int { throw std::runtime_error("thrown in a thread"); });
  try {
    future.get();
  } catch (const std::exception& error) {
    puts(error.what());
    return 0;
  }
  return 1;
}

}  // namespace

int main(int argc, char** argv) {
  spdlog::set_default_logger(spdlog::stderr_logger_mt("probe"));
  const std::string_view what = argc > 1 ? argv[1] : "";
  if (what == "get" && argc > 2) return get(argv[2], argc > 3 ? argv[3] : ca_bundle());
  if (what == "names" && argc > 2) return names(argv[2]);
  if (what == "threads") return threads();
  spdlog::error("usage: static_probe get URL [CA-BUNDLE] | names ARCHIVE | threads");
  return 2;
}

#include "agent/steps/state_paths.h"

namespace gpustrap {

std::string state_directory(const Host& host, const std::string& name) {
  return (host.self().uid == 0 ? std::string("/var/lib/gpustrap/") : host.self().home + "/.local/state/gpustrap/") + name;
}

std::string cache_directory(const Host& host) {
  return host.self().uid == 0 ? "/var/lib/gpustrap/cache" : host.self().home + "/.cache/gpustrap";
}

}  // namespace gpustrap

// A stand-in for the driver's libcuda.so.1, with one GPU that is made of ordinary memory: what the probe's Python calls, and no more.
// It shows that the Python is right, not that a GPU computes. STAND_IN_CUDA names what is to go wrong.
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <cstring>

namespace {

enum { kSuccess = 0, kInvalid = 1, kOutOfMemory = 2, kNotReady = 802 };
char handle;  // contexts, modules and kernels: something to point to

bool is_asked_for(const char* fault) {
  const char* wanted = std::getenv("STAND_IN_CUDA");
  return wanted != nullptr && std::strcmp(wanted, fault) == 0;
}
std::uint32_t* word_at(std::uint64_t address) { return reinterpret_cast<std::uint32_t*>(static_cast<std::uintptr_t>(address)); }

}  // namespace

// NOLINTBEGIN(readability-identifier-naming): the names are NVIDIA's
extern "C" {

int cuInit(unsigned /*flags*/) { return is_asked_for("fabric") ? kNotReady : kSuccess; }
int cuDeviceGetCount(int* count) {
  *count = 1;
  return kSuccess;
}
int cuDeviceGet(int* device, int ordinal) {
  *device = ordinal;
  return kSuccess;
}
int cuDeviceGetUuid(unsigned char* uuid, int /*device*/) {
  for (int i = 0; i < 16; ++i) uuid[i] = static_cast<unsigned char>(i * 17);
  return kSuccess;
}
int cuDevicePrimaryCtxRetain(void** context, int /*device*/) {
  *context = &handle;
  return kSuccess;
}
int cuDevicePrimaryCtxRelease(int /*device*/) { return kSuccess; }
int cuCtxSetCurrent(void* context) { return context == &handle ? kSuccess : kInvalid; }
int cuCtxSynchronize() { return kSuccess; }
int cuModuleLoadData(void** module, const char* image) {
  *module = &handle;
  return std::strstr(image, ".visible .entry gpustrap_probe") != nullptr ? kSuccess : kInvalid;
}
int cuModuleGetFunction(void** function, void* module, const char* name) {
  *function = module;
  return std::strcmp(name, "gpustrap_probe") == 0 ? kSuccess : kInvalid;
}
int cuMemAlloc_v2(std::uint64_t* address, std::size_t size) {
  if (is_asked_for("memory")) return kOutOfMemory;
  *address = reinterpret_cast<std::uintptr_t>(std::malloc(size));
  return kSuccess;
}
int cuMemFree_v2(std::uint64_t address) {
  std::free(word_at(address));
  return kSuccess;
}
int cuMemsetD32_v2(std::uint64_t address, unsigned value, std::size_t count) {
  for (std::size_t i = 0; i < count; ++i) word_at(address)[i] = value;
  return kSuccess;
}
int cuMemcpyDtoH_v2(void* to, std::uint64_t from, std::size_t size) {
  std::memcpy(to, word_at(from), size);
  return kSuccess;
}
/// What the probe's PTX says, in C++.
int cuLaunchKernel(void* function, unsigned grid, unsigned /*y*/, unsigned /*z*/, unsigned block, unsigned /*y*/, unsigned /*z*/,
                   unsigned /*shared*/, void* /*stream*/, void** arguments, void** /*extra*/) {
  if (function != &handle) return kInvalid;
  const std::uint64_t base = *static_cast<const std::uint64_t*>(arguments[0]);
  const std::uint32_t count = *static_cast<const std::uint32_t*>(arguments[1]);
  const std::uint32_t salt = *static_cast<const std::uint32_t*>(arguments[2]);
  for (std::uint32_t i = 0; i < grid * block && i < count; ++i) *word_at(base + std::uint64_t{i} * 256) ^= i * i + salt;
  if (is_asked_for("wrong")) *word_at(base + std::uint64_t{1000} * 256) ^= 1U;
  if (is_asked_for("stray")) *word_at(base + std::uint64_t{1000} * 256 + 4) ^= 1U;
  return kSuccess;
}
int cuGetErrorString(int code, const char** text) {
  *text = code == kOutOfMemory ? "out of memory" : "system not yet initialized";
  return kSuccess;
}

}  // extern "C"
// NOLINTEND(readability-identifier-naming)

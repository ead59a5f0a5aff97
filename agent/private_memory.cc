#include "agent/private_memory.h"

#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <new>

namespace gpustrap {
namespace {

std::size_t whole_pages(std::size_t bytes) {
  static const auto page = static_cast<std::size_t>(::sysconf(_SC_PAGESIZE));
  return (bytes + page - 1) / page * page;
}

}  // namespace

void* allocate_private(std::size_t bytes) {
  const std::size_t size = whole_pages(bytes);
  void* memory = ::mmap(nullptr, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (memory == MAP_FAILED) throw std::bad_alloc();
  // Both may be refused (a low RLIMIT_MEMLOCK, an old kernel); the secret is needed all the same.
  (void)::mlock(memory, size);
  (void)::madvise(memory, size, MADV_DONTDUMP);
  return memory;
}

void free_private(void* memory, std::size_t bytes) {
  ::explicit_bzero(memory, bytes);
  ::munmap(memory, whole_pages(bytes));
}

void clear_text(std::string& text) {
  ::explicit_bzero(text.data(), text.size());
  text.clear();
}

void close_process_to_others() { ::prctl(PR_SET_DUMPABLE, 0); }

}  // namespace gpustrap

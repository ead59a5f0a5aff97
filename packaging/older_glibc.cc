// What lets a controller built on Debian 12 start where the C library is a little older: 2.35, that of Ubuntu 22.04, rather than 2.36.
//
// The C++ library and libarchive take their random numbers by arc4random, which glibc has since 2.36. A definition in the program wins over
// the C library's, whose symbol is then not asked for.
#include <sys/random.h>

#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>

extern "C" {

void arc4random_buf(void* bytes, std::size_t size) noexcept {
  auto* at = static_cast<char*>(bytes);
  while (size > 0) {
    const ssize_t got = ::getrandom(at, size, 0);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) std::abort();  // as glibc does: no caller expects to be refused
    at += got;
    size -= static_cast<std::size_t>(got);
  }
}

std::uint32_t arc4random() noexcept {
  std::uint32_t number = 0;
  arc4random_buf(&number, sizeof number);
  return number;
}

}  // extern "C"

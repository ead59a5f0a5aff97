// What makes a static glibc safe on a foreign host.
//
// A static program that looks up a name, a user or a character set makes glibc load plugins of the host's libc, built
// for another version, and crash. The definitions here win over those in libc.a, so no such code is linked at all:
// names go through c-ares, nothing is ever loaded, and the linker (run with --fatal-warnings) has nothing to warn of.
#include <dlfcn.h>
#include <iconv.h>
#include <langinfo.h>
#include <netdb.h>
#include <sys/socket.h>
#include <cerrno>
#include <cstddef>
#include <cstdlib>

extern "C" {

int getaddrinfo(const char*, const char*, const addrinfo*, addrinfo** result) {
  if (result != nullptr) *result = nullptr;
  return EAI_FAIL;
}

void freeaddrinfo(addrinfo*) noexcept {}

const char* gai_strerror(int) noexcept { return "name lookup by libc is not part of this program"; }

hostent* gethostbyname(const char*) {
  h_errno = NO_RECOVERY;
  return nullptr;
}

int getnameinfo(const sockaddr*, socklen_t, char*, socklen_t, char*, socklen_t, int) { return EAI_FAIL; }

servent* getservbyname(const char*, const char*) { return nullptr; }

int getservbyname_r(const char*, const char*, servent*, char*, size_t, servent** result) {
  *result = nullptr;
  return ENOENT;
}

int getservbyport_r(int, const char*, servent*, char*, size_t, servent** result) {
  *result = nullptr;
  return ENOENT;
}

void* dlopen(const char*, int) noexcept { return nullptr; }
void* dlsym(void*, const char*) noexcept { return nullptr; }
int dlclose(void*) noexcept { return -1; }
char* dlerror() noexcept {
  static char message[] = "a static program loads nothing";
  return message;
}
int dladdr(const void*, Dl_info*) noexcept { return 0; }

iconv_t iconv_open(const char*, const char*) {
  errno = EINVAL;
  return reinterpret_cast<iconv_t>(-1);  // iconv.h has it so
}
size_t iconv(iconv_t, char**, size_t*, char**, size_t*) {
  errno = EBADF;
  return static_cast<size_t>(-1);
}
int iconv_close(iconv_t) { return 0; }

// Old container runtimes answer clone3 with EPERM instead of ENOSYS, and every thread would fail to start.
// Told that there is no clone3, glibc uses clone.
int __clone3(void*, size_t, int (*)(void*), void*) {
  errno = ENOSYS;
  return -1;
}

// libarchive asks for the character set of the locale; without locale files it is ASCII for ever and the UTF-8 names
// in an archive become null pointers. Names are bytes on Linux, and UTF-8 in practice.
char* __real_nl_langinfo(nl_item item);
char* __wrap_nl_langinfo(nl_item item) {
  static char utf8[] = "UTF-8";
  return item == CODESET ? utf8 : __real_nl_langinfo(item);
}

}  // extern "C"

// The one of the C++ library brings a demangler of 47 KB to print the type's name. The runner reports the signal.
namespace __gnu_cxx {
void __verbose_terminate_handler() { std::abort(); }
}  // namespace __gnu_cxx

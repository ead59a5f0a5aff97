#pragma once

#include <dlfcn.h>

#include <initializer_list>

namespace gpustrap {

/// A library of this machine that is loaded when it is first needed, and never unloaded: linked, it would bring its own dependencies to the
/// start of every command (libcurl 4 ms of processor time, libarchive 1 ms, where a rerun takes 8 in all).
class SharedLibrary {
 public:
  /// The first of `names` that can be loaded.
  explicit SharedLibrary(std::initializer_list<const char*> names) {
    for (const char* name : names) {
      if (handle_ == nullptr) handle_ = ::dlopen(name, RTLD_NOW | RTLD_LOCAL);
    }
    is_whole_ = handle_ != nullptr;
  }

  /// `function` stays null where there is no such symbol.
  template <class Function> void take(Function*& function, const char* name) {
    if (handle_ != nullptr) function = reinterpret_cast<Function*>(::dlsym(handle_, name));
    is_whole_ = is_whole_ && function != nullptr;
  }

  /// Whether it was found, with everything that was taken of it.
  [[nodiscard]] bool is_whole() const { return is_whole_; }

 private:
  void* handle_ = nullptr;
  bool is_whole_ = false;
};

}  // namespace gpustrap

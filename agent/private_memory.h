#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace gpustrap {

/// Pages that are kept out of swap (where the system allows that many) and of core files, and are cleared when they are given back.
[[nodiscard]] void* allocate_private(std::size_t bytes);
void free_private(void* memory, std::size_t bytes);

template <class T> struct PrivateAllocator {
  using value_type = T;
  PrivateAllocator() = default;
  template <class U> PrivateAllocator(const PrivateAllocator<U>&) {}
  T* allocate(std::size_t count) { return static_cast<T*>(allocate_private(count * sizeof(T))); }
  void deallocate(T* memory, std::size_t count) { free_private(memory, count * sizeof(T)); }
  friend bool operator==(const PrivateAllocator&, const PrivateAllocator&) { return true; }
};

template <class T> using PrivateList = std::vector<T, PrivateAllocator<T>>;
/// A short text stands in the object itself: keep it in a PrivateList.
using PrivateText = std::basic_string<char, std::char_traits<char>, PrivateAllocator<char>>;

/// Overwrites a text that held a secret, in a way that no optimiser takes for useless.
void clear_text(std::string& text);

/// From here on no core file is written of this process, and no other user, the login among them, may look into its memory. Programs that
/// it starts are what they were.
void close_process_to_others();

}  // namespace gpustrap

// Typed scratch from a call's arena, and moving bytes in it.

#pragma once

#include "memory.h"
#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

inline void copy(void* to, const void* from, std::ptrdiff_t bytes) {
  __builtin_memcpy(to, from, static_cast<std::size_t>(bytes));
}

inline void clear(void* to, std::ptrdiff_t bytes) {
  __builtin_memset(to, 0, static_cast<std::size_t>(bytes));
}

template <class T>
T* take(Arena& arena, std::ptrdiff_t elements) {
  return static_cast<T*>(arena.take(static_cast<std::size_t>(elements) * sizeof(T)));
}

template <class T>
T* take_zeros(Arena& arena, std::ptrdiff_t elements) {
  T* taken = take<T>(arena, elements);
  clear(taken, elements * static_cast<std::ptrdiff_t>(sizeof(T)));
  return taken;
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// Vectors of one register's width, by the vector extensions of GCC and Clang: one source for every
// level and architecture. Included only by sources that are compiled once for each level; all that
// stands here is in the level's own namespace, so that no level can link another's code.
//
// A row of n elements is walked with `each_vector`, whose last vector may be a part: its loads fill
// the missing lanes with zeros, its stores leave memory past the row alone. So rows need no
// padding.

#pragma once

#include <cstddef>
#include <cstdint>

#if !defined(SKETCHRNN_LEVEL)
#error "compile this for a level: SKETCHRNN_LEVEL names its namespace"
#endif

#define SKETCHRNN_INLINE inline __attribute__((always_inline))

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

#if defined(__AVX512F__)
constexpr int kVectorBytes = 64;
constexpr int kRegisters = 32;
#elif defined(__AVX__)
constexpr int kVectorBytes = 32;
constexpr int kRegisters = 16;
#elif defined(__x86_64__)
constexpr int kVectorBytes = 16;
constexpr int kRegisters = 16;
#else
constexpr int kVectorBytes = 16;
constexpr int kRegisters = 32;
#endif

template <class T>
struct VectorTypes;

template <>
struct VectorTypes<float> {
  typedef float Vector __attribute__((vector_size(kVectorBytes)));
  typedef float Unaligned __attribute__((vector_size(kVectorBytes), aligned(4), may_alias));
  typedef std::int32_t Integers __attribute__((vector_size(kVectorBytes)));
};

template <>
struct VectorTypes<double> {
  typedef double Vector __attribute__((vector_size(kVectorBytes)));
  typedef double Unaligned __attribute__((vector_size(kVectorBytes), aligned(8), may_alias));
  typedef std::int64_t Integers __attribute__((vector_size(kVectorBytes)));
};

template <class T>
using Vector = typename VectorTypes<T>::Vector;
// As many integers of T's width; what a comparison gives: all bits set where it holds.
template <class T>
using Integers = typename VectorTypes<T>::Integers;

template <class T>
constexpr int kLanes = kVectorBytes / static_cast<int>(sizeof(T));

template <class T>
SKETCHRNN_INLINE Vector<T> broadcast(T value) {
  return value - Vector<T>{};
}

// All lanes of a vector, or the first `count`, at least one.
struct Whole {};
struct Part {
  int count;
};

template <class T>
SKETCHRNN_INLINE Vector<T> load(const T* from, Whole = {}) {
  return *reinterpret_cast<const typename VectorTypes<T>::Unaligned*>(from);
}

template <class T>
SKETCHRNN_INLINE Vector<T> load(const T* from, Part part) {
  alignas(kVectorBytes) T lanes[kLanes<T>] = {};
  for (int i = 0; i < part.count; ++i) lanes[i] = from[i];
  return load(lanes);
}

template <class T>
SKETCHRNN_INLINE void store(T* to, Vector<T> value, Whole = {}) {
  *reinterpret_cast<typename VectorTypes<T>::Unaligned*>(to) = value;
}

template <class T>
SKETCHRNN_INLINE void store(T* to, Vector<T> value, Part part) {
  for (int i = 0; i < part.count; ++i) to[i] = value[i];
}

// The value with zeros in the lanes that a part lacks.
template <class T>
SKETCHRNN_INLINE Vector<T> only(Vector<T> value, Whole) {
  return value;
}

template <class T>
SKETCHRNN_INLINE Vector<T> only(Vector<T> value, Part part) {
  for (int i = part.count; i < kLanes<T>; ++i) value[i] = 0;
  return value;
}

template <class T>
SKETCHRNN_INLINE Vector<T> select(Integers<T> condition, Vector<T> yes, Vector<T> no) {
  return condition ? yes : no;
}

// Lane by lane in a fixed tree, so that a sum never depends on how the compiler orders it.
template <class T>
SKETCHRNN_INLINE T sum(Vector<T> value) {
  T lanes[kLanes<T>];
  store(lanes, value);
  for (int width = kLanes<T> / 2; width > 0; width /= 2) {
    for (int i = 0; i < width; ++i) lanes[i] += lanes[i + width];
  }
  return lanes[0];
}

template <class T>
SKETCHRNN_INLINE T maximum(Vector<T> value) {
  T most = value[0];
  for (int i = 1; i < kLanes<T>; ++i) most = value[i] > most ? value[i] : most;
  return most;
}

// body(first element, Whole or Part) for every vector of a row of n elements.
template <class T, class Body>
SKETCHRNN_INLINE void each_vector(std::ptrdiff_t n, Body&& body) {
  std::ptrdiff_t first = 0;
  for (; first + kLanes<T> <= n; first += kLanes<T>) body(first, Whole{});
  if (first < n) body(first, Part{static_cast<int>(n - first)});
}

constexpr std::ptrdiff_t round_up(std::ptrdiff_t value, std::ptrdiff_t multiple) {
  return (value + multiple - 1) / multiple * multiple;
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

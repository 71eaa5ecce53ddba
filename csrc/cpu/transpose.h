// Rows of a matrix to vectors with a row in each lane, and back.
//
// A square of as many rows and columns as a vector has lanes is transposed in registers, by as many
// rounds of interleaving as halvings make one of its width. The last square of a row's columns may
// overlap the one before it; rows that are narrower than a square are copied by element.

#pragma once

#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// a0 b0 a1 b1 … of the lower halves of a and b, and of their upper halves.
template <class T>
SKETCHRNN_INLINE Vector<T> interleave_low(Vector<T> a, Vector<T> b) {
  if constexpr (kLanes<T> == 2) {
    return __builtin_shufflevector(a, b, 0, 2);
  } else if constexpr (kLanes<T> == 4) {
    return __builtin_shufflevector(a, b, 0, 4, 1, 5);
  } else if constexpr (kLanes<T> == 8) {
    return __builtin_shufflevector(a, b, 0, 8, 1, 9, 2, 10, 3, 11);
  } else {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
  }
}

template <class T>
SKETCHRNN_INLINE Vector<T> interleave_high(Vector<T> a, Vector<T> b) {
  if constexpr (kLanes<T> == 2) {
    return __builtin_shufflevector(a, b, 1, 3);
  } else if constexpr (kLanes<T> == 4) {
    return __builtin_shufflevector(a, b, 2, 6, 3, 7);
  } else if constexpr (kLanes<T> == 8) {
    return __builtin_shufflevector(a, b, 4, 12, 5, 13, 6, 14, 7, 15);
  } else {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
  }
}

template <class T>
struct Square {
  Vector<T> line[kLanes<T>];

  SKETCHRNN_INLINE void transpose() {
    constexpr int kHalf = kLanes<T> / 2;
    for (int width = 1; width < kLanes<T>; width *= 2) {
      Vector<T> next[kLanes<T>];
      for (int i = 0; i < kHalf; ++i) {
        next[2 * i] = interleave_low<T>(line[i], line[i + kHalf]);
        next[2 * i + 1] = interleave_high<T>(line[i], line[i + kHalf]);
      }
      for (int i = 0; i < kLanes<T>; ++i) line[i] = next[i];
    }
  }
};

// body(first column) for squares that cover `width` columns, at least one square's.
template <class T, class Body>
SKETCHRNN_INLINE void each_square(std::ptrdiff_t width, Body&& body) {
  for (std::ptrdiff_t column = 0; column < width; column += kLanes<T>) {
    body(column + kLanes<T> <= width ? column : width - kLanes<T>);
  }
}

// columns[j] gets element j of every row, a row a lane; j = 0 … width - 1.
template <class T>
void rows_to_lanes(const T* const* rows, std::ptrdiff_t width, T* columns) {
  if (width < kLanes<T>) {
    for (std::ptrdiff_t j = 0; j < width; ++j) {
      for (int i = 0; i < kLanes<T>; ++i) columns[j * kLanes<T> + i] = rows[i][j];
    }
    return;
  }
  each_square<T>(width, [&](std::ptrdiff_t first) {
    Square<T> square;
    for (int i = 0; i < kLanes<T>; ++i) square.line[i] = load(rows[i] + first);
    square.transpose();
    for (int j = 0; j < kLanes<T>; ++j) store(columns + (first + j) * kLanes<T>, square.line[j]);
  });
}

// The other way, for the first `count` rows.
template <class T>
void lanes_to_rows(const T* columns, std::ptrdiff_t width, T* const* rows, int count) {
  if (width < kLanes<T>) {
    for (std::ptrdiff_t j = 0; j < width; ++j) {
      for (int i = 0; i < count; ++i) rows[i][j] = columns[j * kLanes<T> + i];
    }
    return;
  }
  each_square<T>(width, [&](std::ptrdiff_t first) {
    Square<T> square;
    for (int j = 0; j < kLanes<T>; ++j) square.line[j] = load(columns + (first + j) * kLanes<T>);
    square.transpose();
    for (int i = 0; i < count; ++i) store(rows[i] + first, square.line[i]);
  });
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// What the mixture density's kernels are called with: plain structures and pointers, which mean the
// same to every level. All arrays are contiguous and of one scalar type T, float or double; R rows,
// K Gaussians.

#pragma once

#include <cstddef>

namespace sketchrnn {

struct MixtureDensityCall {
  std::ptrdiff_t rows, mixtures;  // R, K
  const void* params;             // [R, 6K+3]
  const void* target;             // [R, 5]
  const void* offset_weight;      // [R]
  const void* pen_weight;         // [R]
  void* offset;                   // [R]
  void* pen;                      // [R]
  void* gradient;                 // [R, 6K+3], or null where it is not wanted
  int threads;
};

struct MixtureDensityBackwardCall {
  std::ptrdiff_t rows, mixtures;
  const void* grad_offset;  // [R]
  const void* grad_pen;     // [R]
  const void* gradient;     // [R, 6K+3], as forward gave it
  void* grad_params;        // [R, 6K+3]
  int threads;
};

// At one level: [0] for float, [1] for double.
struct MixtureDensityKernels {
  void (*forward[2])(const MixtureDensityCall&);
  void (*backward[2])(const MixtureDensityBackwardCall&);
};

}  // namespace sketchrnn

// What the recurrent kernels are called with: plain structures and pointers, which mean the same to
// every level. All tensors are contiguous and of one scalar type T, float or double; shapes use
//
//   T steps, B rows, X input, S static input, N units, H units and E embedding of the hyper cell.

#pragma once

#include <cstddef>
#include <cstdint>

namespace sketchrnn {

constexpr int kMostWeights = 21;  // of a HyperLSTM
constexpr int kMostState = 4;

// Which row takes part in which step. Rows are sorted by length, the longest first: a row's place
// in that order is its position, so that the rows taking part in a step are positions
// 0 … active[t] - 1. What is saved of a sequence has one entry a row and step taken; entries stand
// in the order of t, then of position, and nothing is saved for rows past their end.
//
// Its functions are always inlined, so that sources compiled for different CPUs never share a copy.
struct Schedule {
  std::ptrdiff_t time_steps;
  std::ptrdiff_t rows;
  bool reverse;                   // walk from the last step to the first
  const std::int64_t* row_of;     // [B] by position
  const std::int64_t* length_of;  // [B] by position
  const std::int64_t* active;     // [T]
  const std::int64_t* entry;      // [T + 1], the first entry of each step

  __attribute__((always_inline)) std::ptrdiff_t entries() const { return entry[time_steps]; }
  // The k-th step of the walk.
  __attribute__((always_inline)) std::ptrdiff_t step(std::ptrdiff_t k) const {
    return reverse ? time_steps - 1 - k : k;
  }
  // The step that the row at `position` took before step t, or -1 if t was its first.
  __attribute__((always_inline)) std::ptrdiff_t step_before(std::ptrdiff_t t,
                                                            std::ptrdiff_t position) const {
    if (!reverse) return t - 1;
    return t + 1 < length_of[position] ? t + 1 : -1;
  }
};

// Which draws a dropout mask is made of (csrc/core/philox.h).
struct DropoutDraw {
  std::uint64_t seed;
  std::uint32_t stream;      // what the mask is for: the last word of the counter
  std::uint32_t row_offset;  // global row of the first row
  double keep_prob;          // in (0, 1]; 1 for none
};

// The arguments that forward and backward share.
struct RecurrentCall {
  Schedule schedule;
  std::ptrdiff_t input, static_input, units, hyper_units, embedding;  // X, S, N, H, E
  const void* x;                                                      // [T, B, X]
  const void* static_values;          // [B, S], or null where S is 0
  const void* weights[kMostWeights];  // in the order of the op
  const void* state[kMostState];      // in the order of the op, each [B, ·]
  double forget_bias;
  DropoutDraw dropout;
  int threads;
};

struct ForwardResults {
  void* hidden;                   // [T, B, N]
  void* final_state[kMostState];  // each [B, ·]
  void* saved;                    // saved_size elements, or null
};

struct BackwardCall {
  const void* grad_hidden;             // [T, B, N], or null for zeros
  const void* grad_state[kMostState];  // of the final state, each [B, ·]
  const void* hidden;                  // as forward gave them
  const void* saved;
  void* grad_x;                      // [T, B, X], or null where it is not wanted
  void* grad_static;                 // [B, S], or null where S is 0
  void* grad_weights[kMostWeights];  // as the weights
  void* grad_initial[kMostState];    // as the state
};

// kept: [T, B, N], contiguous; 1 where dropout keeps a unit, else 0.
using DropoutKeep = void (*)(const DropoutDraw& draw, std::ptrdiff_t time_steps,
                             std::ptrdiff_t rows, std::ptrdiff_t units, std::uint8_t* kept);

// One call, or two side by side, each on its own threads: calls that do not need each other, such
// as the two directions of a layer.
using Forward = void (*)(const RecurrentCall* calls, const ForwardResults* results, int count);
using Backward = void (*)(const RecurrentCall* calls, const BackwardCall* backs, int count);

struct SavedSizes {
  std::ptrdiff_t entries, units, hyper_units, embedding;
};

// One recurrent op at one level: [0] for float, [1] for double.
struct RecurrentKernels {
  Forward forward[2];
  Backward backward[2];
  std::ptrdiff_t (*saved_size)(const SavedSizes&);  // elements that forward saves
};

}  // namespace sketchrnn

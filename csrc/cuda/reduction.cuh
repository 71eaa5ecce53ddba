// Sums over the lanes of a warp. The order of each is a fixed tree, so that a sum does not depend
// on how many others are made beside it.

#pragma once

#include "cuda/sampler_call.h"

namespace sketchrnn {
namespace cuda {

constexpr unsigned kAllLanes = 0xFFFFFFFFu;

__device__ inline float sum_of_lanes(float value, int lanes) {
  for (int mask = 1; mask < lanes; mask *= 2) value += __shfl_xor_sync(kAllLanes, value, mask);
  return value;
}

// The number of the value whose sum `scattered_sum` leaves in a lane; kValues is a power of two.
template <int kValues>
__device__ inline int value_of_lane(int lane) {
  int value = 0;
  for (int half = kValues / 2, bit = 0; half > 0; half /= 2, ++bit) {
    if ((lane >> bit) & 1) value += half;
  }
  return value;
}

// Sums kValues numbers over a warp, each lane being left with one of the sums: at each level lanes
// exchange halves, so that 32 sums cost 31 shuffles instead of 160. Lanes from kValues on repeat.
template <int kValues, int kMask = 1>
__device__ inline float scattered_sum(float* values, int lane) {
  static_assert(kValues * kMask <= kWarp && (kValues & (kValues - 1)) == 0, "a sum for a lane");
  if constexpr (kValues == 1) {
    float sum = values[0];
    for (int mask = kMask; mask < kWarp; mask *= 2) {
      sum += __shfl_xor_sync(kAllLanes, sum, mask);
    }
    return sum;
  } else {
    constexpr int kHalf = kValues / 2;
    const bool upper = (lane & kMask) != 0;
#pragma unroll
    for (int i = 0; i < kHalf; ++i) {
      const float kept = upper ? values[i + kHalf] : values[i];
      const float given = upper ? values[i] : values[i + kHalf];
      values[i] = kept + __shfl_xor_sync(kAllLanes, given, kMask);
    }
    return scattered_sum<kHalf, 2 * kMask>(values, lane);
  }
}

// Moments of a few numbers `stride` apart.
__device__ inline Moments moments_of(const float* values, int count, int stride) {
  if (count == 0) return {0.0f, 0.0f};
  float sum = 0.0f, squares = 0.0f;
  for (int i = 0; i < count; ++i) sum += values[i * stride];
  const float mean = sum / static_cast<float>(count);
  for (int i = 0; i < count; ++i) {
    const float deviation = values[i * stride] - mean;
    squares = fmaf(deviation, deviation, squares);
  }
  return {mean, squares};
}

constexpr int kJoinLanes = 8;

// Joins the moments of all blocks' shares of n numbers, by kJoinLanes lanes, all of which get the
// result. With d_b the mean of share b less that of share 0, whose size is n_b:
//
//   mean = mean_0 + Σ n_b d_b / n ;  squares = Σ squares_b + Σ n_b d_b² - (Σ n_b d_b)² / n
//
// Taking off a share's mean first keeps the difference from cancelling. Lanes whose `present` is
// false take part in the shuffles only.
__device__ inline Normaliser join_moments(const Moments* shares, int blocks, int n, int lane,
                                          bool present) {
  constexpr float kEpsilon = 1e-3f;
  float shift = 0.0f, spread = 0.0f, squares = 0.0f;
  const float origin = present ? shares[0].mean : 0.0f;
  const Split split(n, blocks);
  if (present) {
    for (int b = lane; b < blocks; b += kJoinLanes) {
      const float size = static_cast<float>(split.size(b));
      const float apart = size > 0.0f ? shares[b].mean - origin : 0.0f;
      shift = fmaf(size, apart, shift);
      spread = fmaf(size * apart, apart, spread);
      squares += shares[b].squares;
    }
  }
  shift = sum_of_lanes(shift, kJoinLanes);
  spread = sum_of_lanes(spread, kJoinLanes);
  squares = sum_of_lanes(squares, kJoinLanes);
  const float count = static_cast<float>(n);
  const float between = spread - shift * shift / count;
  // Rounding may leave a little less than nothing; NaN must stay NaN.
  const float variance = (squares + (between < 0.0f ? 0.0f : between)) / count;
  return {origin + shift / count, 1.0f / sqrtf(variance + kEpsilon)};
}

}  // namespace cuda
}  // namespace sketchrnn

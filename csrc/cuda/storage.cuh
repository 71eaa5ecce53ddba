// The types in which the sampler keeps its matrices: float, BFloat16 and __half. Arithmetic is in
// float; a value is converted as it is loaded.

#pragma once

#include <cuda_fp16.h>
#include <stdint.h>
#include <string.h>

namespace sketchrnn {
namespace cuda {

// The upper half of a float. CUDA's own type brings a header that doubles the time of compiling.
struct BFloat16 {
  uint16_t bits;
};

struct alignas(16) Quad {
  float value[4];
};

__device__ inline float float_of_bits(uint32_t bits) {
  float value;
  memcpy(&value, &bits, sizeof value);
  return value;
}

__device__ inline uint32_t bits_of_float(float value) {
  uint32_t bits;
  memcpy(&bits, &value, sizeof bits);
  return bits;
}

// Four neighbours, in one access.
__device__ inline Quad load_quad(const float* from) { return *reinterpret_cast<const Quad*>(from); }

__device__ inline Quad load_quad(const BFloat16* from) {
  struct alignas(8) Words {
    uint32_t word[2];
  };
  const Words words = *reinterpret_cast<const Words*>(from);
  return {{float_of_bits(words.word[0] << 16), float_of_bits(words.word[0] & 0xFFFF0000u),
           float_of_bits(words.word[1] << 16), float_of_bits(words.word[1] & 0xFFFF0000u)}};
}

__device__ inline Quad load_quad(const __half* from) {
  struct alignas(8) Halves {
    __half value[4];
  };
  const Halves halves = *reinterpret_cast<const Halves*>(from);
  return {{__half2float(halves.value[0]), __half2float(halves.value[1]),
           __half2float(halves.value[2]), __half2float(halves.value[3])}};
}

__device__ inline void store(float* to, float value) { *to = value; }

// To the nearest, ties to even; NaN stays NaN.
__device__ inline void store(BFloat16* to, float value) {
  const uint32_t bits = bits_of_float(value);
  const bool nan = (bits & 0x7FFFFFFFu) > 0x7F800000u;
  const uint32_t rounded = bits + 0x7FFFu + ((bits >> 16) & 1u);
  to->bits = static_cast<uint16_t>(nan ? 0x7FC0u : rounded >> 16);
}

__device__ inline void store(__half* to, float value) { *to = __float2half_rn(value); }

}  // namespace cuda
}  // namespace sketchrnn

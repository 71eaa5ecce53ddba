// Packing a decoder: the work of one job (decoder.h), on the device.

#pragma once

#include "cuda/decoder.h"
#include "cuda/storage.cuh"

namespace sketchrnn {
namespace cuda {

// Fills quads from a strided matrix, by all threads of the grid.
template <class W>
__device__ void pack(const PackJob& job, unsigned char* packed) {
  const std::size_t all = static_cast<std::size_t>(job.quads) * job.depth * kQuad;
  const std::size_t stride = static_cast<std::size_t>(gridDim.x) * blockDim.x;
  for (std::size_t i = static_cast<std::size_t>(blockIdx.x) * blockDim.x + threadIdx.x; i < all;
       i += stride) {
    const std::size_t j = i % kQuad, k = i / kQuad % job.depth, q = i / kQuad / job.depth;
    const std::size_t across = q * job.quad_stride + j * job.column_stride;
    const bool present = job.source != nullptr && across < job.extent;
    const float value = present ? job.source[k * job.row_stride + across] : 0.0f;
    const std::size_t place = (q * job.depth_of_all + job.first_depth + k) * kQuad + j;
    if (job.as_float) {
      store(reinterpret_cast<float*>(packed + job.target) + place, value);
    } else {
      store(reinterpret_cast<W*>(packed + job.target) + place, value);
    }
  }
}

}  // namespace cuda
}  // namespace sketchrnn

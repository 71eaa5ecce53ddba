// The CUDA sampler for the host: packing a decoder, and drawing. No CUDA header is needed.
//
// All work goes to the caller's stream; nothing here waits for the device, makes a stream or
// allocates device memory. A CUDA error becomes a CudaError that names the call.

#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>

#include "cuda/sampler_call.h"

namespace sketchrnn {
namespace cuda {

class CudaError : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

// A cudaStream_t as an integer, as PyTorch gives it.
using StreamHandle = std::uintptr_t;

// Throws CudaError where there is no GPU that can be used.
void require_gpu();

// Makes this device the calling thread's until destroyed.
class OnDevice {
 public:
  explicit OnDevice(int device);
  ~OnDevice();
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
};

void pack_decoder(const DecoderSizes& sizes, Storage storage, const DecoderSources& sources,
                  void* packed, StreamHandle stream);

// How so many sketches are drawn on the current device.
Plan plan_on_device(const DecoderSizes& sizes, Storage storage, int count);

void draw_sketches(const DecoderSizes& sizes, Storage storage, const Plan& plan, float forget_bias,
                   const void* packed, void* workspace, const Sketches& sketches,
                   StreamHandle stream);

}  // namespace cuda
}  // namespace sketchrnn

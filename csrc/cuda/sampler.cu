// The sampler's kernels, and their launches.

#include <cuda_runtime.h>

#include "cuda/pack.cuh"
#include "cuda/sampler.h"
#include "cuda/sampler_kernel.cuh"

namespace sketchrnn {
namespace cuda {
namespace {

template <class W, bool kResident>
__global__ void __launch_bounds__(kThreads, 1) sample(const __grid_constant__ SamplerCall call) {
  extern __shared__ uint4 shared[];
  Sampler<W, kResident>(call, reinterpret_cast<unsigned char*>(shared)).run();
}

template <class W>
__global__ void __launch_bounds__(kThreads)
    pack_quads(const __grid_constant__ PackJob job, unsigned char* packed) {
  pack<W>(job, packed);
}

void check(const char* call, cudaError_t error) {
  if (error == cudaSuccess) return;
  // The error must not come up again in a later call of somebody else.
  static_cast<void>(cudaGetLastError());
  throw CudaError(std::string(call) + ": " + cudaGetErrorString(error));
}

int current_device() {
  int device = 0;
  check("cudaGetDevice", cudaGetDevice(&device));
  return device;
}

int attribute(cudaDeviceAttr which, int device) {
  int value = 0;
  check("cudaDeviceGetAttribute", cudaDeviceGetAttribute(&value, which, device));
  return value;
}

using SampleKernel = void (*)(SamplerCall);

SampleKernel sample_kernel(Storage storage, bool resident) {
  switch (storage) {
    case Storage::kBFloat16:
      return resident ? sample<BFloat16, true> : sample<BFloat16, false>;
    case Storage::kFloat16:
      return resident ? sample<__half, true> : sample<__half, false>;
    case Storage::kFloat32:
      break;
  }
  return resident ? sample<float, true> : sample<float, false>;
}

using PackKernel = void (*)(PackJob, unsigned char*);

PackKernel pack_kernel(Storage storage) {
  switch (storage) {
    case Storage::kBFloat16:
      return pack_quads<BFloat16>;
    case Storage::kFloat16:
      return pack_quads<__half>;
    case Storage::kFloat32:
      break;
  }
  return pack_quads<float>;
}

}  // namespace

void require_gpu() {
  int devices = 0;
  const cudaError_t error = cudaGetDeviceCount(&devices);
  if (error == cudaSuccess && devices > 0) return;
  static_cast<void>(cudaGetLastError());
  throw CudaError(std::string("the CUDA sampler finds no GPU: cudaGetDeviceCount: ") +
                  cudaGetErrorString(error == cudaSuccess ? cudaErrorNoDevice : error));
}

OnDevice::OnDevice(int device) : before_(current_device()) {
  check("cudaSetDevice", cudaSetDevice(device));
}

OnDevice::~OnDevice() { static_cast<void>(cudaSetDevice(before_)); }

void pack_decoder(const DecoderSizes& sizes, Storage storage, const DecoderSources& sources,
                  void* packed, StreamHandle stream) {
  constexpr int kBlocks = 256;
  const PackKernel kernel = pack_kernel(storage);
  for (const PackJob& job : describe(sizes, storage, sources).jobs) {
    kernel<<<kBlocks, kThreads, 0, reinterpret_cast<cudaStream_t>(stream)>>>(
        job, static_cast<unsigned char*>(packed));
    check("launch of the packing kernel", cudaGetLastError());
  }
}

Plan plan_on_device(const DecoderSizes& sizes, Storage storage, int count) {
  const int device = current_device();
  if (attribute(cudaDevAttrCooperativeLaunch, device) == 0) {
    throw CudaError("this GPU cannot launch cooperative kernels, which the sampler needs");
  }
  const int shared_bytes = attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin, device);
  const DeviceLimits limits{attribute(cudaDevAttrMultiProcessorCount, device),
                            static_cast<std::size_t>(shared_bytes)};
  return plan_draw(sizes, storage, limits, count);
}

void draw_sketches(const DecoderSizes& sizes, Storage storage, const Plan& plan, float forget_bias,
                   const void* packed, void* workspace, const Sketches& sketches,
                   StreamHandle stream) {
  SamplerCall call = make_call(sizes, storage, plan, forget_bias, packed, workspace, sketches);
  const std::size_t shared_bytes = shared_layout(sizes, storage, plan).bytes;
  const SampleKernel kernel = sample_kernel(storage, plan.resident);
  const void* const function = reinterpret_cast<const void*>(kernel);
  check("cudaFuncSetAttribute",
        cudaFuncSetAttribute(function, cudaFuncAttributeMaxDynamicSharedMemorySize,
                             static_cast<int>(shared_bytes)));
  int blocks_at_once = 0;
  check("cudaOccupancyMaxActiveBlocksPerMultiprocessor",
        cudaOccupancyMaxActiveBlocksPerMultiprocessor(&blocks_at_once, function, plan.threads,
                                                      shared_bytes));
  const int held = blocks_at_once * attribute(cudaDevAttrMultiProcessorCount, current_device());
  if (held < plan.blocks) {
    throw CudaError("the sampler needs " + std::to_string(plan.blocks) +
                    " blocks at once, and this GPU holds " + std::to_string(held));
  }
  void* arguments[] = {&call};
  check("cudaLaunchCooperativeKernel",
        cudaLaunchCooperativeKernel(function, dim3(static_cast<unsigned>(plan.blocks)),
                                    dim3(static_cast<unsigned>(plan.threads)), arguments,
                                    shared_bytes, reinterpret_cast<cudaStream_t>(stream)));
}

}  // namespace cuda
}  // namespace sketchrnn

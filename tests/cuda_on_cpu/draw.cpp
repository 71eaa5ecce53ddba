#include "draw.h"

#include <algorithm>
#include <stdexcept>
#include <vector>

#include "cuda/pack.cuh"
#include "cuda/sampler_kernel.cuh"

namespace {

using namespace sketchrnn::cuda;

template <class W>
void draw(const DrawArguments& a, const DecoderSizes& sizes, Storage storage) {
  DecoderSources sources{};
  const int weights[] = {3, 6, 21};
  std::copy(a.weights, a.weights + weights[a.cell], sources.weights);
  sources.start = a.start;
  sources.start_bias = a.start_bias;
  sources.head = a.head;
  sources.head_bias = a.head_bias;
  const PackedDecoder decoder = describe(sizes, storage, sources);
  // All bits set are NaN in every storage type: whatever is not written shows.
  std::vector<double> packed((decoder.bytes + 7) / 8), workspace;
  std::fill_n(reinterpret_cast<unsigned char*>(packed.data()), packed.size() * 8, 0xFF);
  for (const PackJob& job : decoder.jobs) {
    cuda_on_cpu::launch(1, kWarp, 0, [&](unsigned char*) {
      pack<W>(job, reinterpret_cast<unsigned char*>(packed.data()));
    });
  }
  const Plan plan{a.blocks, a.threads, a.slots, a.stage_rows, a.resident != 0};
  workspace.resize(workspace_layout(sizes, plan).bytes / 8);
  std::fill_n(reinterpret_cast<unsigned char*>(workspace.data()), workspace.size() * 8, 0xFF);
  const auto bytes = shared_layout(sizes, storage, plan).bytes;
  Sketches sketches{a.count,
                    a.limit,
                    a.seeds,
                    a.z,
                    a.prefix,
                    a.prefix_offsets,
                    {a.softmax, a.sigma, a.greedy != 0},
                    a.points,
                    a.lengths,
                    a.outcome,
                    a.rounds,
                    false};
  for (int launch = 0; launch < a.launches; ++launch) {
    sketches.resume = launch > 0;
    const SamplerCall call =
        make_call(sizes, storage, plan, a.forget_bias, packed.data(), workspace.data(), sketches);
    cuda_on_cpu::launch(plan.blocks, plan.threads, bytes, [&](unsigned char* shared) {
      if (plan.resident) {
        Sampler<W, true>(call, shared).run();
      } else {
        Sampler<W, false>(call, shared).run();
      }
    });
  }
}

}  // namespace

void draw_on_cpu(const DrawArguments* arguments) {
  const DrawArguments& a = *arguments;
  const DecoderSizes sizes{
      static_cast<Cell>(a.cell), a.units, a.hyper_units, a.embedding, a.z_size, a.mixtures};
  const auto storage = static_cast<Storage>(a.storage);
  if (storage == Storage::kFloat32) draw<float>(a, sizes, storage);
  if (storage == Storage::kBFloat16) draw<BFloat16>(a, sizes, storage);
  if (storage == Storage::kFloat16) draw<__half>(a, sizes, storage);
}

bool plan_for_gpu(PlanArguments* arguments) {
  PlanArguments& a = *arguments;
  const DecoderSizes sizes{
      static_cast<Cell>(a.cell), a.units, a.hyper_units, a.embedding, a.z_size, a.mixtures};
  const auto storage = static_cast<Storage>(a.storage);
  const DeviceLimits limits{a.multiprocessors, static_cast<std::size_t>(a.shared_limit)};
  Plan plan{};
  try {
    plan = plan_draw(sizes, storage, limits, a.count);
  } catch (const std::runtime_error&) {
    return false;
  }
  a.blocks = plan.blocks;
  a.slots = plan.slots;
  a.stage_rows = plan.stage_rows;
  a.resident = plan.resident;
  a.shared_bytes = static_cast<std::int64_t>(shared_layout(sizes, storage, plan).bytes);
  a.workspace_bytes = static_cast<std::int64_t>(workspace_layout(sizes, plan).bytes);
  a.packed_bytes = static_cast<std::int64_t>(describe(sizes, storage, {}).bytes);
  return true;
}

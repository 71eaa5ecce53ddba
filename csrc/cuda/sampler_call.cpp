#include "cuda/sampler_call.h"

#include <algorithm>
#include <stdexcept>
#include <string>

namespace sketchrnn {
namespace cuda {
namespace {

constexpr int kMoments = kGates + 1;
constexpr int kEnoughSlots = 16;  // with fewer, streamed weights and more slots are worth more

// Hands out consecutive runs of memory.
class Runs {
 public:
  std::size_t take(std::size_t elements, std::size_t size) {
    const std::size_t at = bytes_;
    bytes_ += (elements * size + 15) / 16 * 16;
    return at;
  }
  std::size_t bytes() const { return bytes_; }

 private:
  std::size_t bytes_ = 0;
};

std::size_t wide(int value) { return static_cast<std::size_t>(value); }

}  // namespace

SharedLayout shared_layout(const DecoderSizes& sizes, Storage storage, const Plan& plan) {
  const std::size_t slots = wide(plan.slots);
  Runs runs;
  const auto take = [&](std::size_t elements, std::size_t size) {
    return static_cast<int>(runs.take(elements, size));
  };
  const auto cell = [&](int units) {
    const int own = ceiling(units, plan.blocks);
    const std::size_t numbers = slots * wide(own);
    SharedLayout::Cell at{};
    at.gates = take(numbers * kGates, sizeof(float));
    at.statics = take(numbers * kGates, sizeof(float));
    at.cell = take(numbers, sizeof(float));
    at.normalisers = take(slots * kMoments, sizeof(Normaliser));
    at.most_own = own;
    return at;
  };
  SharedLayout layout{};
  if (plan.resident) {
    const int quads = ceiling(sizes.units, plan.blocks) + ceiling(sizes.head_quads(), plan.blocks);
    layout.weights = take(wide(quads) * wide(sizes.units) * kQuad, bytes_of(storage));
  }
  layout.main = cell(sizes.units);
  if (sizes.cell == Cell::kHyper) layout.hyper = cell(sizes.hyper_units);
  layout.slots = take(slots, sizeof(Slot));
  const std::size_t hidden = wide(plan.stage_rows) * wide(sizes.units + sizes.hyper_units);
  const std::size_t params = slots * (wide(sizes.head_quads()) * kQuad + 1);
  layout.stage = take(std::max(hidden, params), sizeof(float));
  layout.bytes = runs.bytes();
  return layout;
}

WorkspaceLayout workspace_layout(const DecoderSizes& sizes, const Plan& plan) {
  const std::size_t slots = wide(plan.slots);
  Runs runs;
  const auto cell = [&](int units) {
    const std::size_t numbers = slots * wide(units);
    WorkspaceLayout::Cell at{};
    at.hidden = runs.take(numbers, sizeof(float));
    at.cell = runs.take(numbers, sizeof(float));
    at.output_gate = runs.take(numbers, sizeof(float));
    at.moments = runs.take(slots * kMoments * wide(plan.blocks), sizeof(Moments));
    return at;
  };
  WorkspaceLayout layout{};
  layout.main = cell(sizes.units);
  layout.params = runs.take(slots * wide(sizes.head_quads()) * kQuad, sizeof(float));
  if (sizes.cell == Cell::kHyper) {
    layout.hyper = cell(sizes.hyper_units);
    layout.codes = runs.take(slots * wide(sizes.code_quads()) * kQuad, sizeof(float));
  }
  const std::size_t kept = 1 + wide(kept_words(shared_layout(sizes, Storage::kFloat32, plan)));
  layout.kept = runs.take(wide(plan.blocks) * kept, sizeof(std::uint32_t));
  layout.bytes = runs.bytes();
  return layout;
}

Plan plan_draw(const DecoderSizes& sizes, Storage storage, const DeviceLimits& limits, int count) {
  const int own = ceiling(sizes.units, limits.multiprocessors);
  const int wanted = std::max(1, std::min(count, kMostSlots));
  const auto fits = [&](const Plan& plan) {
    return shared_layout(sizes, storage, plan).bytes <= limits.shared_bytes;
  };
  for (const bool resident : {true, false}) {
    if (resident && sizes.cell == Cell::kHyper) continue;
    const int fewest = resident ? std::min(wanted, kEnoughSlots) : 1;
    for (int slots = wanted; slots >= fewest; slots = slots == 1 ? 0 : ceiling(slots, 2)) {
      Plan plan{ceiling(sizes.units, own), kThreads, slots, std::min(slots, kTileRows), resident};
      if (!fits(plan)) continue;
      for (Plan more = plan; more.stage_rows < slots; plan = more) {
        more.stage_rows = std::min(slots, more.stage_rows + kTileRows);
        if (!fits(more)) break;
      }
      return plan;
    }
  }
  throw std::runtime_error(
      "a decoder of " + std::to_string(sizes.units) + " units needs more shared memory than the " +
      std::to_string(limits.shared_bytes) + " bytes that a block has on this GPU");
}

SamplerCall make_call(const DecoderSizes& sizes, Storage storage, const Plan& plan,
                      float forget_bias, const void* packed, void* workspace,
                      const Sketches& sketches) {
  const PackedDecoder at = describe(sizes, storage, {});
  const SharedLayout shared = shared_layout(sizes, storage, plan);
  const WorkspaceLayout work = workspace_layout(sizes, plan);
  const auto weights = [&](std::size_t offset) -> const void* {
    return static_cast<const char*>(packed) + offset;
  };
  const auto row = [&](std::size_t offset) { return static_cast<const float*>(weights(offset)); };
  const auto buffer = [&](std::size_t offset) -> void* {
    return static_cast<char*>(workspace) + offset;
  };
  const auto numbers = [&](std::size_t offset) { return static_cast<float*>(buffer(offset)); };
  const auto cell = [&](int units, int depth, const CellOffsets& in,
                        const WorkspaceLayout::Cell& out, const SharedLayout::Cell& own) {
    CellCall call{};
    call.units = units;
    call.depth = depth;
    call.recurrent = weights(in.recurrent);
    call.input = weights(in.input);
    call.static_input = weights(in.static_input);
    call.start = weights(in.start);
    call.start_bias = row(in.start_bias);
    call.bias = row(in.bias);
    call.all_gamma = row(in.all_gamma);
    call.all_beta = row(in.all_beta);
    call.c_gamma = row(in.c_gamma);
    call.c_beta = row(in.c_beta);
    call.hidden = numbers(out.hidden);
    call.cell = numbers(out.cell);
    call.output_gate = numbers(out.output_gate);
    call.moments = static_cast<Moments*>(buffer(out.moments));
    call.shared = own;
    return call;
  };
  SamplerCall call{};
  call.cell = sizes.cell;
  call.z_size = sizes.z_size;
  call.mixtures = sizes.mixtures;
  call.hyper_embedding = sizes.embedding;
  call.forget_bias = forget_bias;
  call.slots = plan.slots;
  call.stage_rows = plan.stage_rows;
  call.head_quads = sizes.head_quads();
  call.param_width = sizes.head_quads() * kQuad;
  call.main = cell(sizes.units, sizes.units, at.main, work.main, shared.main);
  call.head = weights(at.head);
  call.head_bias = row(at.head_bias);
  call.params = numbers(work.params);
  if (sizes.cell == Cell::kHyper) {
    call.hyper = cell(sizes.hyper_units, sizes.units + sizes.hyper_units, at.hyper, work.hyper,
                      shared.hyper);
    call.code_quads = sizes.code_quads();
    call.code_width = sizes.code_quads() * kQuad;
    call.codes = weights(at.codes);
    call.code_bias = row(at.code_bias);
    call.projections = weights(at.projections);
    call.code_values = numbers(work.codes);
  }
  call.kept = static_cast<std::uint32_t*>(buffer(work.kept));
  call.kept_words = kept_words(shared);
  call.shared_weights = shared.weights;
  call.shared_slots = shared.slots;
  call.shared_stage = shared.stage;
  call.sketches = sketches;
  return call;
}

}  // namespace cuda
}  // namespace sketchrnn

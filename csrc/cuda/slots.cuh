// A block's view of the sketches under way: where its share of each slot lies, how strokes are
// drawn and written, and what is kept from one launch to the next. The part of the sampler that
// knows no weights; sampler_kernel.cuh has the rest, and the design.

#pragma once

#include <string.h>

#include "core/mixture.h"
#include "cuda/barriers.cuh"
#include "cuda/sampler_call.h"

namespace sketchrnn {
namespace cuda {

constexpr int kSlotMoments = kGates + 1;  // of the gates, then of c

__device__ inline bool is_finite(float x) { return x - x == 0.0f; }

class Slots {
 protected:
  __device__ Slots(const SamplerCall& of, unsigned char* shared_memory)
      : call(of),
        shared(shared_memory),
        thread(static_cast<int>(threadIdx.x)),
        threads(static_cast<int>(blockDim.x)),
        block(static_cast<int>(blockIdx.x)),
        blocks(static_cast<int>(gridDim.x)) {}

  const SamplerCall& call;
  unsigned char* const shared;
  const int thread, threads, block, blocks;
  int next = 0;  // the first sketch that waits

  template <class T>
  __device__ T* at(int offset) const {
    return reinterpret_cast<T*>(shared + offset);
  }
  __device__ Slot& slot(int s) const { return at<Slot>(call.shared_slots)[s]; }
  __device__ float* stage() const { return at<float>(call.shared_stage); }
  __device__ int lane() const { return thread % kWarp; }
  __device__ int warp() const { return thread / kWarp; }
  __device__ int warps() const { return threads / kWarp; }

  // Of n things, this block's share.
  __device__ int first(int n) const { return Split(n, blocks).first(block); }
  __device__ int own(int n) const { return Split(n, blocks).size(block); }
  __device__ bool taken(int s) const { return slot(s).sketch >= 0; }
  __device__ bool fresh(int s) const { return taken(s) && slot(s).t < 0; }
  __device__ bool stepping(int s) const { return taken(s) && slot(s).t >= 0; }

  // The place of own unit u of a slot.
  __device__ static int share(const CellCall& cell, int s, int u) {
    return s * cell.shared.most_own + u;
  }
  __device__ float* gates(const CellCall& cell, int s, int u) const {
    return at<float>(cell.shared.gates) + share(cell, s, u) * kGates;
  }
  __device__ float* statics(const CellCall& cell, int s, int u) const {
    return at<float>(cell.shared.statics) + share(cell, s, u) * kGates;
  }
  __device__ float& own_cell(const CellCall& cell, int s, int u) const {
    return at<float>(cell.shared.cell)[share(cell, s, u)];
  }
  __device__ Normaliser& normaliser(const CellCall& cell, int s, int which) const {
    return at<Normaliser>(cell.shared.normalisers)[s * kSlotMoments + which];
  }
  __device__ Moments* moments(const CellCall& cell, int s, int which) const {
    return cell.moments + static_cast<std::size_t>(s * kSlotMoments + which) * blocks;
  }

  // ---- From launch to launch ----

  __device__ std::uint32_t* kept() const {
    return call.kept + static_cast<std::size_t>(block) * (call.kept_words + 1);
  }

  __device__ void keep() {
    if (thread == 0) kept()[0] = static_cast<std::uint32_t>(next);
    const unsigned char* const from = shared + call.main.shared.gates;
    for (int i = thread; i < call.kept_words; i += threads) memcpy(kept() + 1 + i, from + 4 * i, 4);
  }

  __device__ void restore() {
    next = static_cast<int>(kept()[0]);
    unsigned char* const to = shared + call.main.shared.gates;
    for (int i = thread; i < call.kept_words; i += threads) memcpy(to + 4 * i, kept() + 1 + i, 4);
  }

  // ---- Draws ----

  __device__ void draw() {
    const int stride = call.param_width + 1;  // odd: the threads' rows lie in different banks
    for (int i = thread; i < call.slots * call.param_width; i += threads) {
      stage()[i / call.param_width * stride + i % call.param_width] = call.params[i];
    }
    meet_block<Barrier::kParamsStaged>();
    if (thread < call.slots) {
      slot(thread).freed = 0;
      if (taken(thread)) advance(slot(thread), stage() + thread * stride);
    }
  }

  // From the parameters that step t gave to the input of step t + 1.
  __device__ void advance(Slot& at_slot, const float* params) {
    const Sketches& sketches = call.sketches;
    const int t = at_slot.t;
    if (t < 0) {  // the start token
      at_slot.t = 0;
      at_slot.x = at_slot.y = 0.0f;
      at_slot.pen = 0;
      return;
    }
    const Stroke stroke = stroke_of(at_slot.sketch, t, params);
    if (stroke.pen < 0 || !is_finite(stroke.x) || !is_finite(stroke.y)) {
      finish(at_slot, t, Outcome::kFailed);
    } else if (stroke.pen == kEndState) {
      finish(at_slot, t, Outcome::kEnded);
    } else {
      write_point(at_slot.sketch, t, stroke);
      at_slot.t = t + 1;
      at_slot.x = stroke.x;
      at_slot.y = stroke.y;
      at_slot.pen = stroke.pen;
      if (t + 1 == sketches.limit) finish(at_slot, sketches.limit, Outcome::kLimit);
    }
  }

  // Stroke t of a sketch: of its prefix, or drawn.
  __device__ Stroke stroke_of(int sketch, int t, const float* params) const {
    const Sketches& sketches = call.sketches;
    if (sketches.prefix_offsets != nullptr) {
      const std::int64_t begin = sketches.prefix_offsets[sketch];
      if (t < sketches.prefix_offsets[sketch + 1] - begin) {
        const float* const point = sketches.prefix + (begin + t) * 3;
        return {point[0], point[1], point[2] != 0.0f ? 1 : 0};
      }
    }
    return draw_stroke(params, call.mixtures, static_cast<std::uint64_t>(sketches.seeds[sketch]),
                       static_cast<std::uint32_t>(t), sketches.temperature);
  }

  __device__ void write_point(int sketch, int t, const Stroke& stroke) {
    if (block != 0) return;
    const std::size_t place = static_cast<std::size_t>(sketch) * call.sketches.limit + t;
    float* const point = call.sketches.points + place * 3;
    point[0] = stroke.x;
    point[1] = stroke.y;
    point[2] = static_cast<float>(stroke.pen);
    call.sketches.lengths[sketch] = t + 1;
  }

  __device__ void finish(Slot& at_slot, int length, Outcome outcome) {
    if (block == 0) {
      call.sketches.lengths[at_slot.sketch] = length;
      call.sketches.outcome[at_slot.sketch] = static_cast<std::uint8_t>(outcome);
    }
    at_slot.freed = 1;
    at_slot.sketch = -1;
  }
};

}  // namespace cuda
}  // namespace sketchrnn

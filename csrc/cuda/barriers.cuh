// Where the sampler's threads wait for each other, each place by its name.
//
// A test build defines SKETCHRNN_TEST_SKIP_BARRIER as the number of one of them, which is then left
// out: ThreadSanitizer must notice (tests/cuda_on_cpu).

#pragma once

#include <cooperative_groups.h>

namespace sketchrnn {
namespace cuda {

enum class Barrier {
  // All threads of a block:
  kParamsStaged,  // a slot's parameters are in shared memory → its thread draws
  kDrawn,         // strokes and freed slots are known → all threads read them
  kRefilled,      // waiting sketches have their slots → all threads read these
  kHiddenStaged,  // hidden states are in shared memory → products
  kStageRead,     // products are made → the next slots' hidden states take the place
  kGatesMade,     // the own units' gates are made → their moments
  kGatesJoined,   // the gates' moments over all units are known → their norm
  kCellMade,      // the own units' c is made → its moments
  kCellJoined,    // c's moments over all units are known → the hidden states
  kRestored,      // what the launch before kept is in shared memory → all threads read it
  kRoundsOver,    // the last draws of a launch are made → what the next one needs is kept
  // The whole grid:
  kParamsMade,       // parameters of all head columns → draws
  kGateMomentsMade,  // the gates' moments of all blocks → joined
  kHiddenMade,       // h, or c, σ(o) and the moments of c → products
  kHyperGateMomentsMade,
  kHyperHiddenMade,  // ĉ, σ(ô) and the moments of ĉ → codes
  kCodesMade,        // codes of all uses and gates → the main cell's gates
  kCount,
};

template <Barrier kWhich>
__device__ inline void meet_block() {
#ifdef SKETCHRNN_TEST_SKIP_BARRIER
  if (static_cast<int>(kWhich) == SKETCHRNN_TEST_SKIP_BARRIER) return;
#endif
  __syncthreads();
}

// Whether the flag of any thread of the block is set; a barrier as well.
template <Barrier kWhich>
__device__ inline bool any_of_block(bool flag) {
#ifdef SKETCHRNN_TEST_SKIP_BARRIER
  if (static_cast<int>(kWhich) == SKETCHRNN_TEST_SKIP_BARRIER) return unordered_or(flag);
#endif
  return __syncthreads_or(flag) != 0;
}

template <Barrier kWhich>
__device__ inline void meet_grid() {
#ifdef SKETCHRNN_TEST_SKIP_BARRIER
  if (static_cast<int>(kWhich) == SKETCHRNN_TEST_SKIP_BARRIER) return;
#endif
  cooperative_groups::this_grid().sync();
}

}  // namespace cuda
}  // namespace sketchrnn

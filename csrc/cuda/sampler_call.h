// What one launch of the sampler kernel is given, and how it is laid out over the blocks. Plain
// C++, for the host, the device and the tests.

#pragma once

#include <cstddef>
#include <cstdint>

#include "core/mixture.h"
#include "cuda/decoder.h"

namespace sketchrnn {
namespace cuda {

constexpr int kWarp = 32;
constexpr int kTileRows = 8;    // rows whose sums a warp holds at once
constexpr int kMostSlots = 64;  // sketches under way at once; a thread of a block draws each
constexpr int kThreads = 512;

// What became of a sketch.
enum class Outcome : std::uint8_t {
  kLimit,   // the limit stopped it
  kEnded,   // the end state was drawn
  kFailed,  // its parameters were no numbers at the step that its length names
};

// Mean of some numbers, and the sum of squared deviations from it.
struct Moments {
  float mean, squares;
};

struct Normaliser {
  float mean, rstd;
};

// A slot: a sketch under way, the same in every block.
struct Slot {
  std::int32_t sketch;  // -1: none
  std::int32_t t;       // the step whose input `x`, `y` and `pen` are; -1: the sketch is new
  float x, y;
  std::int32_t pen;
  std::int32_t freed;  // its sketch has just finished
};

// How a launch is spread: blocks split the units, and each holds every slot's share of its units.
struct Plan {
  int blocks, threads;
  int slots;
  int stage_rows;  // slots whose hidden states are in shared memory at once
  bool resident;   // the recurrent weights and the head stay in shared memory
};

// How blocks share n things: the first `more` blocks have one more than the others.
struct Split {
  int each, more;

  SKETCHRNN_HOST_DEVICE constexpr Split(int n, int blocks) : each(n / blocks), more(n % blocks) {}
  SKETCHRNN_HOST_DEVICE constexpr int size(int block) const {
    return each + (block < more ? 1 : 0);
  }
  SKETCHRNN_HOST_DEVICE constexpr int first(int block) const {
    return block * each + (block < more ? block : more);
  }
};

// Bytes from the begin of a block's shared memory.
struct SharedLayout {
  struct Cell {
    int gates;        // float [slots, most own units, 4]: h · W, then a
    int statics;      // float [slots, most own units, 4]: z · W_z + bias
    int cell;         // float [slots, most own units]: c
    int normalisers;  // Normaliser [slots, 5]: of the gates and of c
    int most_own;
  };
  int weights;  // resident quads: of the own units, then of the own head columns
  Cell main, hyper;
  int slots;  // Slot [slots]
  int stage;  // float [stage_rows, N + H], or [slots, param_width + 1]
  std::size_t bytes;
};

// Bytes from the begin of the workspace; all is float but for the moments.
struct WorkspaceLayout {
  struct Cell {
    std::size_t hidden;       // [slots, units]
    std::size_t cell;         // [slots, units]: c
    std::size_t output_gate;  // [slots, units]: σ(o)
    std::size_t moments;      // Moments [slots, 5, blocks]: of each block's share
  };
  Cell main, hyper;
  std::size_t params;  // [slots, param_width]
  std::size_t codes;   // [slots, code_width]
  std::size_t kept;    // 32-bit words [blocks, 1 + kept_words]
  std::size_t bytes;
};

struct DeviceLimits {
  int multiprocessors;
  std::size_t shared_bytes;  // that a block may have
};

SharedLayout shared_layout(const DecoderSizes& sizes, Storage storage, const Plan& plan);
WorkspaceLayout workspace_layout(const DecoderSizes& sizes, const Plan& plan);

// Throws std::runtime_error where not even one slot fits.
Plan plan_draw(const DecoderSizes& sizes, Storage storage, const DeviceLimits& limits, int count);

// What is kept from launch to launch of a drawing: the shared memory from the gates to the slots.
inline int kept_words(const SharedLayout& layout) { return (layout.stage - layout.main.gates) / 4; }

// What to draw, and where to; device memory.
struct Sketches {
  int count, limit;
  const std::int64_t* seeds;           // [count]
  const float* z;                      // [count, Z], or null
  const float* prefix;                 // [total, 3], or null
  const std::int64_t* prefix_offsets;  // [count + 1], or null
  DrawTemperature temperature;
  float* points;          // [count, limit, 3]: dx, dy, pen state
  std::int64_t* lengths;  // [count], kept up to date while drawing
  std::uint8_t* outcome;  // [count], an Outcome each once it is known
  // Rounds of this launch, in each of which every slot draws a point or begins; 0 for as many as
  // it takes. With `resume`, they follow those of the launch before, whose workspace this is.
  int rounds;
  bool resume;
};

// A cell's weights and buffers in device memory.
struct CellCall {
  int units, depth;
  const void *recurrent, *input, *static_input, *start;
  const float *start_bias, *bias, *all_gamma, *all_beta, *c_gamma, *c_beta;
  float *hidden, *cell, *output_gate;
  Moments* moments;
  SharedLayout::Cell shared;
};

struct SamplerCall {
  Cell cell;
  int z_size, mixtures, hyper_embedding;
  float forget_bias;
  int slots, stage_rows;
  int head_quads, param_width;  // 4 head_quads
  int code_quads, code_width;   // 4 code_quads
  CellCall main, hyper;
  const void *head, *codes, *projections;
  const float *head_bias, *code_bias;
  float *params, *code_values;
  std::uint32_t* kept;
  int kept_words;
  int shared_weights, shared_slots, shared_stage;
  Sketches sketches;
};

SamplerCall make_call(const DecoderSizes& sizes, Storage storage, const Plan& plan,
                      float forget_bias, const void* packed, void* workspace,
                      const Sketches& sketches);

}  // namespace cuda
}  // namespace sketchrnn

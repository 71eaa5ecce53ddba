// The sampler's interface: what a decoder is packed from, what is drawn, and the two objects that
// every level makes (sampler_cells.h and sampler.cpp have the design).

#pragma once

#include <cstddef>
#include <cstdint>

#include "../core/mixture.h"
#include "recurrent.h"

namespace sketchrnn {

enum class DecoderCell { kLSTM, kLayerNormLSTM, kHyperLSTM };

// A decoder in float32, to be packed. Matrices are contiguous, [in, out].
struct DecoderSpec {
  DecoderCell cell;
  // Sizes, weights and forget_bias as of the cell's op; its input is a stroke-5, its static input,
  // if any, is z.
  RecurrentCall call;
  int mixtures;                 // K
  const float* initial_weight;  // [Z, sum of the state's widths], or null: then the state starts at
  const float* initial_bias;    // zeros. Its parts are in the order of the op.
  const float* head_weight;     // [N, 6 K + 3]
  const float* head_bias;
  bool bfloat16;  // store the panels of weights in bfloat16; sums are float32 all the same
};

// What to draw, and where to.
//
// Points are (dx, dy, pen), the pen down (0) or lifted (1) after the point. A sketch begins with
// its prefix; then stroke t is drawn with the counter t until the end state is drawn or there are
// `limit` points. So a drawing is a pure function of the weights, z, the prefix, the seed and the
// settings, and nothing that is drawn beside it can change it.
struct DrawCall {
  std::ptrdiff_t count, limit;
  const std::int64_t* seeds;           // [count]
  const float* z;                      // [count, Z], or null
  const float* prefix_points;          // [·, 3], or null where no sketch has a prefix
  const std::int64_t* prefix_offsets;  // [count + 1], each sketch's first point among them
  DrawTemperature temperature;
  float* points;          // [count, limit, 3], filled up to each sketch's length
  std::int64_t* lengths;  // [count], kept up to date while drawing
  std::uint8_t* ended;    // [count], 1 where the end state was drawn
  // Instead of drawing: the input of each step [limit, count, 5], and the raw parameters
  // [limit, count, 6 K + 3] that the decoder gives for it; or both null.
  const float* inputs;
  float* parameters;
  std::ptrdiff_t batch;  // the most sketches that are drawn at once, at least 1
  int threads;
};

// Why a sketch ended before its time: its raw parameters were not finite, or the offset that was
// drawn from them was not.
enum class Fault { kNone, kParameters, kOffset };

struct Failure {
  Fault fault = Fault::kNone;
  std::int64_t sketch = -1, step = -1;
};

// A call on its way. `advance` takes up to `steps` steps, each of them one point of every sketch
// that is being drawn, and returns whether any is unfinished.
class Drawing {
 public:
  Drawing();
  Drawing(const Drawing&) = delete;
  Drawing& operator=(const Drawing&) = delete;
  virtual ~Drawing();

  virtual bool advance(std::int64_t steps) = 0;

  // A sketch that could not be drawn on, the first of those of its step and team.
  Failure failure;
};

// A decoder's weights as one level reads them. Several drawings may use it at the same time.
class PackedDecoder {
 public:
  PackedDecoder();
  PackedDecoder(const PackedDecoder&) = delete;
  PackedDecoder& operator=(const PackedDecoder&) = delete;
  virtual ~PackedDecoder();

  // The call's memory and the decoder must outlive the drawing.
  virtual Drawing* begin(const DrawCall& call) const = 0;
  // Bytes of weights that one step reads.
  virtual std::size_t bytes_of_step() const = 0;
  // Reads those bytes so many times and does nothing else, as a benchmark's floor; gives their sum
  // as floats.
  virtual float read_panels(int threads, std::int64_t times) const = 0;
};

struct SamplerKernels {
  PackedDecoder* (*pack)(const DecoderSpec& spec);  // the caller deletes it
};

}  // namespace sketchrnn

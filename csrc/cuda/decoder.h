// A decoder as the CUDA sampler keeps it: its sizes, and how its weights are packed. Plain C++.
//
// Packed matrices are made of quads. A quad [depth, 4] holds four columns of a matrix, interleaved,
// so that one lane loads one row of it at once; a unit's quad holds its columns in the four gates
// i, j, f, o. Quads of one matrix lie one after the other, so a range of units is one run of
// memory, which a block copies into its shared memory as it is. The matrices of a step are kept in
// the storage type; vectors, the matrices used once a sketch (W_z and the initial state's), and the
// main W_x of a hyper decoder, which is small, in float32.

#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace sketchrnn {
namespace cuda {

enum class Cell { kLstm, kLayerNorm, kHyper };
enum class Storage { kFloat32, kBFloat16, kFloat16 };

constexpr int kGates = 4;
constexpr int kQuad = 4;  // columns of a quad
constexpr int kStrokeInputs = 5;
constexpr int kUses = 3;  // of the hyper cell's output: factor of the x path, of the h path, shift

constexpr int ceiling(int a, int b) { return (a + b - 1) / b; }

constexpr std::size_t bytes_of(Storage storage) { return storage == Storage::kFloat32 ? 4 : 2; }

struct DecoderSizes {
  Cell cell;
  int units;        // N
  int hyper_units;  // H, 0 but for hyper
  int embedding;    // E, likewise
  int z_size;       // Z, 0 if unconditional
  int mixtures;     // K

  int head_columns() const { return 6 * mixtures + 3; }
  int head_quads() const { return ceiling(head_columns(), kQuad); }
  int code_quads_each() const { return ceiling(embedding, kQuad); }  // of one gate and use
  int code_quads() const { return kUses * kGates * code_quads_each(); }
};

// The float32 weights of the op in its order, in device memory; and those around the cell.
struct DecoderSources {
  const float* weights[21];
  const float* start;       // [Z, 2 N + 2 H], or null
  const float* start_bias;  // [2 N + 2 H], or null
  const float* head;        // [N, 6 K + 3]
  const float* head_bias;   // [6 K + 3]
};

// Where a cell's weights lie, in bytes from the packed decoder's begin.
struct CellOffsets {
  std::size_t recurrent;     // quads [units, depth]: of h, and in a hyper cell of ĥ after it
  std::size_t input;         // quads [units, 5]; float32 in the main cell of a hyper decoder
  std::size_t static_input;  // quads [units, Z], float32
  std::size_t start;         // quads [units, Z], float32: h, c and two columns of zeros
  std::size_t start_bias;    // [units, 4], likewise
  std::size_t bias;          // [units, 4]; zeros in a cell that has none
  std::size_t all_gamma;     // [units, 4]
  std::size_t all_beta;      // [units, 4]
  std::size_t c_gamma;       // [units]
  std::size_t c_beta;        // [units]
};

// Copies a strided matrix into quads: element (k, j) of quad q is
// source[k row_stride + q quad_stride + j column_stride], or 0 where q quad_stride +
// j column_stride reaches `extent` or there is no source.
struct PackJob {
  const float* source;
  std::size_t target;  // bytes from the packed decoder's begin
  bool as_float;       // else in the storage type
  int quads, depth;    // that this job fills
  int depth_of_all;    // of the packed quads
  int first_depth;     // where in them this job's rows begin
  std::size_t row_stride, quad_stride, column_stride, extent;
};

struct PackedDecoder {
  CellOffsets main, hyper;
  std::size_t head, head_bias;
  std::size_t codes;        // quads [3 uses, 4 gates, ⌈E / 4⌉, H]: Z^x, Z^h, Z^b
  std::size_t code_bias;    // [3 uses, 4 gates, 4 ⌈E / 4⌉]
  std::size_t projections;  // quads [3 uses, N, E]: A^x, A^h, B
  std::size_t bytes;
  std::vector<PackJob> jobs;
};

// With null sources, it tells the sizes only.
PackedDecoder describe(const DecoderSizes& sizes, Storage storage, const DecoderSources& sources);

}  // namespace cuda
}  // namespace sketchrnn

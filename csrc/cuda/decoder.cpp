#include "cuda/decoder.h"

namespace sketchrnn {
namespace cuda {
namespace {

constexpr std::size_t kAlignment = 256;

std::size_t wide(int value) { return static_cast<std::size_t>(value); }

const float* moved(const float* source, std::size_t elements) {
  return source == nullptr ? nullptr : source + elements;
}

// The float32 sources of one LayerNorm-LSTM's or LSTM's parts; null where it has none.
struct CellSources {
  const float* input;         // [5, 4 units]
  const float* static_input;  // [Z, 4 units]
  const float* from_hidden;   // [N, 4 units]
  const float* from_hyper;    // [H, 4 units]
  const float* start;         // columns h and c of [Z, states]
  const float* start_bias;
  const float* bias;
  const float* norms[4];  // all_gamma, all_beta, c_gamma, c_beta
};

class Packer {
 public:
  Packer(const DecoderSizes& sizes, Storage storage) : sizes_(sizes), storage_(storage) {}

  PackedDecoder run(const DecoderSources& from) {
    const float* const* const w = from.weights;
    const int N = sizes_.units, H = sizes_.hyper_units, Z = sizes_.z_size;
    const std::size_t gates = 4 * wide(N), hyper_gates = 4 * wide(H);
    const float* const statics = moved(w[0], kStrokeInputs * gates);
    if (sizes_.cell == Cell::kLstm) {
      packed_.main =
          cell(N, N, 0, {w[0], statics, w[1], nullptr, from.start, from.start_bias, w[2], {}});
    } else if (sizes_.cell == Cell::kLayerNorm) {
      packed_.main = cell(N, N, 0,
                          {w[0],
                           statics,
                           w[1],
                           nullptr,
                           from.start,
                           from.start_bias,
                           nullptr,
                           {w[2], w[3], w[4], w[5]}});
    } else {
      packed_.main = cell(N, N, 0,
                          {w[0],
                           statics,
                           w[1],
                           nullptr,
                           from.start,
                           from.start_bias,
                           w[2],
                           {w[3], w[4], w[5], w[6]}});
      const float* const of_hyper = w[7];
      packed_.hyper = cell(H, N, H,
                           {of_hyper,
                            moved(of_hyper, kStrokeInputs * hyper_gates),
                            moved(of_hyper, (kStrokeInputs + wide(Z)) * hyper_gates),
                            w[8],
                            moved(from.start, 2 * wide(N)),
                            moved(from.start_bias, 2 * wide(N)),
                            nullptr,
                            {w[9], w[10], w[11], w[12]}});
      pack_scales(w + 13);
    }
    const std::size_t columns = wide(sizes_.head_columns());
    packed_.head = begin(sizes_.head_quads(), N, false);
    add(from.head, packed_.head, false, sizes_.head_quads(), N, columns, 4, 1, columns);
    packed_.head_bias = row(from.head_bias, sizes_.head_columns());
    packed_.bytes = bytes_;
    return packed_;
  }

 private:
  std::size_t begin(int quads, int depth, bool as_float) {
    const std::size_t at = (bytes_ + kAlignment - 1) / kAlignment * kAlignment;
    const std::size_t size = as_float ? sizeof(float) : bytes_of(storage_);
    bytes_ = at + wide(quads) * wide(depth) * kQuad * size;
    return at;
  }

  void add(const float* source, std::size_t target, bool as_float, int quads, int depth,
           std::size_t row_stride, std::size_t quad_stride, std::size_t column_stride,
           std::size_t extent, int depth_of_all = 0, int first_depth = 0) {
    if (depth_of_all == 0) depth_of_all = depth;
    packed_.jobs.push_back({source, target, as_float, quads, depth, depth_of_all, first_depth,
                            row_stride, quad_stride, column_stride, extent});
  }

  // [depth, 4 units] → quads of units.
  std::size_t gates(const float* source, int units, int depth, bool as_float) {
    const std::size_t at = begin(units, depth, as_float), stride = 4 * wide(units);
    add(source, at, as_float, units, depth, stride, 1, wide(units), stride);
    return at;
  }

  // [4 units] → [units, 4]; or [2 units], with zeros.
  std::size_t gate_row(const float* source, int units, int columns = kGates) {
    const std::size_t at = begin(units, 1, true);
    add(source, at, true, units, 1, 0, 1, wide(units), wide(columns) * wide(units));
    return at;
  }

  // A vector as it is, padded to whole quads.
  std::size_t row(const float* source, int columns) {
    const int quads = ceiling(columns, kQuad);
    const std::size_t at = begin(quads, 1, true);
    add(source, at, true, quads, 1, 0, kQuad, 1, wide(columns));
    return at;
  }

  CellOffsets cell(int units, int from_hidden, int from_hyper, const CellSources& from) {
    const int Z = sizes_.z_size, depth = from_hidden + from_hyper;
    const std::size_t gate_columns = 4 * wide(units);
    CellOffsets at{};
    at.recurrent = begin(units, depth, false);
    add(from.from_hidden, at.recurrent, false, units, from_hidden, gate_columns, 1, wide(units),
        gate_columns, depth, 0);
    if (from_hyper > 0) {
      add(from.from_hyper, at.recurrent, false, units, from_hyper, gate_columns, 1, wide(units),
          gate_columns, depth, from_hidden);
    }
    const bool scaled = sizes_.cell == Cell::kHyper && from_hyper == 0;
    at.input = gates(from.input, units, kStrokeInputs, scaled);
    if (Z > 0) {
      const std::size_t states = 2 * wide(sizes_.units) + 2 * wide(sizes_.hyper_units);
      at.static_input = gates(from.static_input, units, Z, true);
      at.start = begin(units, Z, true);
      add(from.start, at.start, true, units, Z, states, 1, wide(units), 2 * wide(units));
      at.start_bias = gate_row(from.start_bias, units, 2);
    }
    at.bias = gate_row(from.bias, units);
    if (sizes_.cell != Cell::kLstm) {
      at.all_gamma = gate_row(from.norms[0], units);
      at.all_beta = gate_row(from.norms[1], units);
      at.c_gamma = row(from.norms[2], units);
      at.c_beta = row(from.norms[3], units);
    }
    return at;
  }

  // w: for each use its embedding [4, H, E], its bias [4, E] (the shift has none), and its
  // projection [4, E, N].
  void pack_scales(const float* const* w) {
    const float* const embeddings[kUses] = {w[0], w[3], w[6]};
    const float* const biases[kUses] = {w[1], w[4], nullptr};
    const float* const projections[kUses] = {w[2], w[5], w[7]};
    const int each = sizes_.code_quads_each(), H = sizes_.hyper_units;
    const std::size_t N = wide(sizes_.units), E = wide(sizes_.embedding);
    packed_.codes = begin(sizes_.code_quads(), H, false);
    packed_.code_bias = begin(sizes_.code_quads(), 1, true);
    packed_.projections = begin(kUses * sizes_.units, sizes_.embedding, false);
    const std::size_t scalar = bytes_of(storage_);
    for (int use = 0; use < kUses; ++use) {
      for (int gate = 0; gate < kGates; ++gate) {
        const std::size_t quad = wide((use * kGates + gate) * each);
        add(moved(embeddings[use], wide(gate) * wide(H) * E),
            packed_.codes + quad * wide(H) * kQuad * scalar, false, each, H, E, kQuad, 1, E);
        add(moved(biases[use], wide(gate) * E), packed_.code_bias + quad * kQuad * sizeof(float),
            true, each, 1, 0, kQuad, 1, E);
      }
      add(projections[use], packed_.projections + wide(use) * N * E * kQuad * scalar, false,
          sizes_.units, sizes_.embedding, N, 1, E * N, 4 * E * N);
    }
  }

  DecoderSizes sizes_;
  Storage storage_;
  PackedDecoder packed_{};
  std::size_t bytes_ = 0;
};

}  // namespace

PackedDecoder describe(const DecoderSizes& sizes, Storage storage, const DecoderSources& sources) {
  return Packer(sizes, storage).run(sources);
}

}  // namespace cuda
}  // namespace sketchrnn

// HyperLSTM on the CPU: what forward and backward share. A step, for a team's R rows:
//
//   r [R, 4 N] = h · W_hh                                   one pass over h with the next line's
//   ĝ [R, 4 H] = ŝ + [h, x, ĥ] · [Ŵ_h ; Ŵ_x ; Ŵ_hh]         the hyper cell's gates
//   ĥ, ĉ = LayerNormLSTM(ĝ, ĉ)                              a pass over each row
//   codes [R, 12 E] = biases + ĥ · [Z^x, Z^h, Z^b]          four gates each
//   a_g = (code^x_g A^x_g) (s_g + x W_g) + (code^h_g A^h_g) r_g + code^b_g B_g + bias_g
//   h, c = LayerNormLSTM(a, c)                              a pass over each row
//
// with s and ŝ the static input's products. The factors of the gates stay factored, E numbers a
// gate and row: the line of a is one kernel, `scale_gates`, that makes factors and products for a
// few rows and a panel of columns in registers. The hyper cell's hat is "hyper" in names.
//
// Saved, an entry a row and step: r, 4 N; c, N; ĝ, 4 H; ĉ and ĥ, H each; the codes, 12 E; and the
// statistics of both cells' norms. Backward makes a and the factors again with the same kernel.

#pragma once

#include "sequence_backward.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// The weights in the order of the op.
enum HyperWeight {
  kWXh,
  kWHh,
  kMainBias,
  kAllGamma,
  kAllBeta,
  kCGamma,
  kCBeta,
  kHyperWXh,
  kHyperWHh,
  kHyperAllGamma,
  kHyperAllBeta,
  kHyperCGamma,
  kHyperCBeta,
  kXEmbedding,
  kXEmbeddingBias,
  kXAlpha,
  kHEmbedding,
  kHEmbeddingBias,
  kHAlpha,
  kBEmbedding,
  kBBeta,
};

// The three uses of the hyper cell's output: factor of the x path, of the h path, and shift.
constexpr int kUses = 3;
constexpr int kEmbeddingOf[kUses] = {kXEmbedding, kHEmbedding, kBEmbedding};
constexpr int kEmbeddingBiasOf[kUses] = {kXEmbeddingBias, kHEmbeddingBias, -1};
constexpr int kProjectionOf[kUses] = {kXAlpha, kHAlpha, kBBeta};
constexpr int kCodes = 4 * kUses;  // code 4 use + gate

template <class T>
LayerNormLSTMRows<T> norm_rows(const RecurrentCall& call, std::ptrdiff_t units, int all_gamma) {
  const auto weight = [&](int i) { return static_cast<const T*>(call.weights[all_gamma + i]); };
  return {units, call.forget_bias, LayerNorms<T>{weight(0), weight(1), weight(2), weight(3)}};
}

template <class T>
struct HyperLayout {
  Layout<T> main;  // each gate a whole number of panels, so that a panel has one gate's factors
  Layout<T> hyper;
  std::ptrdiff_t X, S, N, H, E;
  std::ptrdiff_t code_wide;    // columns of one code in scratch: whole panels
  std::ptrdiff_t code_panels;  // of one code
  std::ptrdiff_t codes_width;  // of a row of codes, padded
  std::ptrdiff_t input_width;  // of a row [h, x, ĥ], padded
  std::ptrdiff_t depth;        // N + X + H

  explicit HyperLayout(const RecurrentCall& call)
      : main(call, call.units, kPanel<T>),
        hyper(call, call.hyper_units, kLanes<T>),
        X(call.input),
        S(call.static_input),
        N(call.units),
        H(call.hyper_units),
        E(call.embedding),
        code_wide(round_up(E, kPanel<T>)),
        code_panels(code_wide / kPanel<T>),
        codes_width(Layout<T>::row_width(kCodes * code_wide)),
        input_width(Layout<T>::row_width(N + X + H)),
        depth(N + X + H) {}
};

template <class T>
struct HyperSaved {
  T* h_products;    // r
  T* cell;          // c
  T* hyper_gates;   // ĝ
  T* hyper_cell;    // ĉ
  T* hyper_hidden;  // ĥ
  T* codes;
  T* statistics;        // of the main cell
  T* hyper_statistics;  // of the hyper cell
};

constexpr std::ptrdiff_t hyper_saved_width(std::ptrdiff_t N, std::ptrdiff_t H, std::ptrdiff_t E) {
  return 5 * N + 6 * H + kCodes * E + 2 * LayerNormLSTMRows<float>::kStatistics;
}

// Entry by entry would put rows at odd addresses; each part stands by itself instead.
template <class T>
HyperSaved<T> hyper_saved(T* all, std::ptrdiff_t entries, std::ptrdiff_t N, std::ptrdiff_t H,
                          std::ptrdiff_t E, std::ptrdiff_t entry) {
  const auto next = [&](std::ptrdiff_t width) {
    T* const part = all + entry * width;
    all += entries * width;
    return part;
  };
  HyperSaved<T> saved{};
  saved.h_products = next(4 * N);
  saved.cell = next(N);
  saved.hyper_gates = next(4 * H);
  saved.hyper_cell = next(H);
  saved.hyper_hidden = next(H);
  saved.codes = next(kCodes * E);
  saved.statistics = next(LayerNormLSTMRows<T>::kStatistics);
  saved.hyper_statistics = next(LayerNormLSTMRows<T>::kStatistics);
  return saved;
}

// ---- The gates' factors ----

// Two tiles live at once.
constexpr int kScaleRows = kTileRows / 2;

// The projections of the codes, packed gate by gate, and what the gates are made of besides.
template <class T, class P = T>
struct ScaleWeights {
  const HyperLayout<T>* layout;
  const P* projections[kUses];  // A^x, A^h, B: panels of 4 gates, E deep
  const T* x_weights;           // W_x: panels of 4 gates, X deep
  const T* bias;                // a row of gates
};

// Rows of one team's scratch: each pointer is that of its first row, strides are between its rows.
template <class T>
struct ScaleRows {
  const T* codes;
  std::ptrdiff_t codes_stride;
  const T* x;
  std::ptrdiff_t x_stride;
  Start<T> static_start;  // s, rows of gates
  const T* h_products;    // r, rows of gates, as all that follows
  T* gates;               // gets a
  T* factors[2];          // get the factors of the x and the h path where they are kept,
  T* x_products;          // and this s + x W_x
  std::ptrdiff_t gates_stride;
};

template <class T, bool kKeep, class P>
struct ScaleTile {
  const ScaleWeights<T, P>& weights;
  const ScaleRows<T>& rows;
  std::ptrdiff_t first, panel;

  template <int kRows>
  void run() const {
    if constexpr (kRows <= kScaleRows) make<kRows>();
  }

 private:
  template <int kRows>
  SKETCHRNN_INLINE void make() const {
    const HyperLayout<T>& layout = *weights.layout;
    const std::ptrdiff_t E = layout.E, X = layout.X;
    const std::ptrdiff_t column = panel * kPanel<T>;
    const std::ptrdiff_t at = first * rows.gates_stride + column;
    const std::ptrdiff_t gate = column / layout.main.wide;
    const auto code = [&](int use) {
      return rows.codes + first * rows.codes_stride + (4 * use + gate) * layout.code_wide;
    };
    const auto projection = [&](int use) { return weights.projections[use] + column * E; };

    Tile<T, kRows, 1> total, part;
    total.start(nullptr, 0);
    total.accumulate(code(0), rows.codes_stride, 1, projection(0), 0, E);
    const T* const start = rows.static_start.data;
    const std::ptrdiff_t start_stride = rows.static_start.row_stride;
    part.start(start == nullptr ? nullptr : start + first * start_stride + column, start_stride);
    part.accumulate(rows.x + first * rows.x_stride, rows.x_stride, 1,
                    weights.x_weights + column * X, 0, X);
    if (kKeep) {
      total.finish(rows.factors[0] + at, rows.gates_stride, 0);
      part.finish(rows.x_products + at, rows.gates_stride, 0);
    }
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) total.sum[r][v] *= part.sum[r][v];
    }
    part.start(nullptr, 0);
    part.accumulate(code(1), rows.codes_stride, 1, projection(1), 0, E);
    if (kKeep) part.finish(rows.factors[1] + at, rows.gates_stride, 0);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) {
        const Vector<T> h = load(rows.h_products + at + r * rows.gates_stride + v * kLanes<T>);
        total.sum[r][v] += part.sum[r][v] * h + load(weights.bias + column + v * kLanes<T>);
      }
    }
    total.accumulate(code(2), rows.codes_stride, 1, projection(2), 0, E);
    total.finish(rows.gates + at, rows.gates_stride, 0);
  }
};

template <bool kKeep, class T, class P>
void scale_gates(const ScaleWeights<T, P>& weights, const ScaleRows<T>& rows, std::ptrdiff_t count,
                 Range panels) {
  for (std::ptrdiff_t panel = panels.begin; panel < panels.end; ++panel) {
    each_tile<kScaleRows>(count, [&](std::ptrdiff_t first, int tile_rows) {
      const ScaleTile<T, kKeep, P> tile{weights, rows, first, panel};
      with_rows<kTileRows>(tile_rows, tile);
    });
  }
}

// One code's embedding: its panels among those of all codes, and its bias in a row of codes.
template <class T>
void pack_code(const RecurrentCall& call, const HyperLayout<T>& layout, int code, T* panels,
               T* bias_row) {
  const auto weight = [&](int i) { return static_cast<const T*>(call.weights[i]); };
  const std::ptrdiff_t H = layout.H, E = layout.E;
  const int use = code / 4, gate = code % 4;
  const Blocked<T> embedding{weight(kEmbeddingOf[use]) + gate * H * E, E, 1, E, layout.code_wide};
  pack(embedding, H, panels + code * layout.code_wide * H, H, 0, 0, layout.code_panels);
  if (kEmbeddingBiasOf[use] >= 0) {
    copy(bias_row + code * layout.code_wide, weight(kEmbeddingBiasOf[use]) + gate * E,
         E * static_cast<std::ptrdiff_t>(sizeof(T)));
  }
}

// The packed weights of `scale_gates`, made by all threads of a call together.
template <class T>
struct PackedScales {
  T* projections[kUses];
  T* x_weights;
  T* bias;

  PackedScales(const HyperLayout<T>& layout, Arena& arena)
      : x_weights(take<T>(arena, panels_size<T>(4 * layout.main.wide, layout.X))),
        bias(take_zeros<T>(arena, layout.main.gates_width)) {
    for (T*& projection : projections) {
      projection = take<T>(arena, panels_size<T>(4 * layout.main.wide, layout.E));
    }
  }

  void pack_mine(const RecurrentCall& call, const HyperLayout<T>& layout,
                 const Place& place) const {
    const auto weight = [&](int i) { return static_cast<const T*>(call.weights[i]); };
    const std::ptrdiff_t N = layout.N, E = layout.E;
    const Range columns = place.mine_of_all(layout.main.gate_panels);
    pack(layout.main.gates_of(weight(kWXh)), layout.X, x_weights, layout.X, 0, columns.begin,
         columns.end);
    const std::ptrdiff_t panels = panels_for<T>(N);  // of one gate
    for (int task = place.thread; task < kCodes; task += place.threads) {
      const int use = task / 4, gate = task % 4;
      const Blocked<T> projection{weight(kProjectionOf[use]) + gate * E * N, N, 1, N,
                                  layout.main.wide};
      pack(projection, E, projections[use] + gate * panels * E * kPanel<T>, E, 0, 0, panels);
    }
    if (place.thread == 0) {
      for (int gate = 0; gate < 4; ++gate) {
        copy(bias + gate * layout.main.wide, weight(kMainBias) + gate * N,
             N * static_cast<std::ptrdiff_t>(sizeof(T)));
      }
    }
  }

  ScaleWeights<T> weights(const HyperLayout<T>& layout) const {
    return {&layout, {projections[0], projections[1], projections[2]}, x_weights, bias};
  }
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// The weights of a HyperLSTM as its backward pass multiplies by them: transposed and packed.

#pragma once

#include "hyper_lstm.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
struct HyperBackwardWeights {
  std::ptrdiff_t main_depth, hyper_depth;             // columns of both cells' gates
  std::ptrdiff_t n_panels, x_panels, hyper_n_panels;  // panels of N, X and H columns
  T* main;                                            // [W_hh ; W_x]ᵀ
  T* hyper;                                           // [Ŵ_h ; Ŵ_x]ᵀ
  T* hyper_hidden;                                    // Ŵ_hhᵀ
  T* projections;  // the projections of the codes, transposed, code by code
  T* embeddings;   // the embeddings, transposed

  // Without `grad_x_wanted` the columns of X are left out.
  HyperBackwardWeights(const HyperLayout<T>& layout, bool grad_x_wanted, Arena& arena)
      : main_depth(4 * layout.main.wide),
        hyper_depth(4 * layout.hyper.wide),
        n_panels(panels_for<T>(layout.N)),
        x_panels(grad_x_wanted ? panels_for<T>(layout.X) : 0),
        hyper_n_panels(panels_for<T>(layout.H)),
        main(take<T>(arena, (n_panels + x_panels) * main_depth * kPanel<T>)),
        hyper(take<T>(arena, (n_panels + x_panels) * hyper_depth * kPanel<T>)),
        hyper_hidden(take<T>(arena, hyper_n_panels * hyper_depth * kPanel<T>)),
        projections(take<T>(arena, kCodes * layout.code_wide * layout.main.wide)),
        embeddings(take<T>(arena, hyper_n_panels * kCodes * layout.code_wide * kPanel<T>)) {}

  // This thread's share, which all threads of a call make together.
  void pack_mine(const RecurrentCall& call, const HyperLayout<T>& layout,
                 const Place& place) const {
    const auto weight = [&](int i) { return static_cast<const T*>(call.weights[i]); };
    const std::ptrdiff_t N = layout.N, X = layout.X, S = layout.S, H = layout.H;
    const auto gates = [&](const T* from) { return layout.main.gates_of(from); };
    const auto hyper_gates = [&](const T* from) { return layout.hyper.gates_of(from); };
    const Range hidden = place.mine_of_all(n_panels);
    pack_transposed(gates(weight(kWHh)), N, main, main_depth, 0, hidden.begin, hidden.end);
    pack_transposed(hyper_gates(weight(kHyperWXh) + (X + S) * 4 * H), N, hyper, hyper_depth, 0,
                    hidden.begin, hidden.end);
    const Range inputs = place.mine_of_all(x_panels);
    pack_transposed(gates(weight(kWXh)), X, main + n_panels * main_depth * kPanel<T>, main_depth, 0,
                    inputs.begin, inputs.end);
    pack_transposed(hyper_gates(weight(kHyperWXh)), X, hyper + n_panels * hyper_depth * kPanel<T>,
                    hyper_depth, 0, inputs.begin, inputs.end);
    const Range of_hyper = place.mine_of_all(hyper_n_panels);
    pack_transposed(hyper_gates(weight(kHyperWHh)), H, hyper_hidden, hyper_depth, 0, of_hyper.begin,
                    of_hyper.end);
    pack_codes(weight, layout, place);
  }

 private:
  template <class Weight>
  void pack_codes(const Weight& weight, const HyperLayout<T>& layout, const Place& place) const {
    const std::ptrdiff_t N = layout.N, H = layout.H, E = layout.E, wide = layout.main.wide;
    for (int code = place.thread; code < kCodes; code += place.threads) {
      const int use = code / 4, gate = code % 4;
      const Blocked<T> projection{weight(kProjectionOf[use]) + gate * E * N, N, 1, N, wide};
      pack_transposed(projection, E, projections + code * layout.code_wide * wide, wide, 0, 0,
                      layout.code_panels);
      const Blocked<T> embedding{weight(kEmbeddingOf[use]) + gate * H * E, E, 1, E,
                                 layout.code_wide};
      pack_transposed(embedding, H, embeddings, kCodes * layout.code_wide, code * layout.code_wide,
                      0, hyper_n_panels);
    }
  }
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

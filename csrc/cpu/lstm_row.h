// One step of an LSTM for one row, after the products: gates, dropout, new c and h.
//
//   g = tanh(j) · factor ;  c' = c σ(f + forget_bias) + σ(i) g ;  h' = tanh(c') σ(o)
//
// Saved for backward, an entry a row and step: σ(i), tanh(j), σ(f + forget_bias), σ(o), 4 N
// elements, and c', N elements. Backward, from the gradients of h' and c':
//
//   dc' += dh' σ(o) (1 - tanh²(c')) ;  dc = dc' σ(f)
//   da_i = dc' g σ'(i) ;  da_j = dc' σ(i) factor (1 - tanh²(j)) ;  da_f = dc' c σ'(f)
//   da_o = dh' tanh(c') σ'(o)                       with σ' = σ (1 - σ)

#pragma once

#include "gradients.h"
#include "recurrent.h"
#include "vector_math.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// A row's part of the scratch: rows there are padded to whole vectors, and the padding holds zeros
// or other finite numbers.
template <class T>
struct ForwardRow {
  const T* gates;       // 4 gates, each `wide` columns
  std::ptrdiff_t wide;  // N rounded up to whole vectors
  const T* factors;     // of dropout, or null
  T* cell;              // c, replaced by c'
  T* hidden;            // gets h', N elements and not one more
};

template <class T>
struct BackwardRow {
  const T* factors;      // of dropout, or null
  const T* cell_before;  // N elements
  const T* grad_output;  // gradient of the layer's output, N elements
  const T* grad_hidden;  // gradient that came back through time; padded
  T* grad_cell;          // dc', replaced by dc; padded
};

template <class T_>
class LSTMRows {
 public:
  using T = T_;
  static constexpr int kWeightXh = 0, kWeightHh = 1, kBias = 2;

  explicit LSTMRows(const RecurrentCall& call)
      : units_(call.units), forget_bias_(static_cast<T>(call.forget_bias)) {}

  // Where an entry's values are.
  struct Saved {
    T* gates;
    T* cell;
  };
  static std::ptrdiff_t saved_size(std::ptrdiff_t entries, std::ptrdiff_t units) {
    return entries * 5 * units;
  }
  static Saved saved(T* all, std::ptrdiff_t entries, std::ptrdiff_t units, std::ptrdiff_t entry) {
    return {all + entry * 4 * units, all + entries * 4 * units + entry * units};
  }

  // Sums over rows that one thread gathers in a backward pass; an LSTM's are made elsewhere.
  static std::ptrdiff_t sums_size(std::ptrdiff_t) { return 0; }
  void add_sums(const T*, bool, const BackwardCall&) const {}
  static std::ptrdiff_t scratch_size(std::ptrdiff_t) { return 0; }

  template <bool kSave>
  void forward(const ForwardRow<T>& row, const Saved& saved, T*) const {
    const std::ptrdiff_t wide = row.wide, N = units_;
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> i = sigmoid<T>(load(row.gates + u));
      const Vector<T> j = tanh_vector(load(row.gates + wide + u));
      const Vector<T> f = sigmoid<T>(load(row.gates + 2 * wide + u) + forget_bias_);
      const Vector<T> o = sigmoid<T>(load(row.gates + 3 * wide + u));
      const Vector<T> g = row.factors == nullptr ? j : j * load(row.factors + u);
      const Vector<T> c = load(row.cell + u) * f + i * g;
      store(row.cell + u, c);
      store(row.hidden + u, tanh_vector(c) * o, lanes);
      if (kSave) {
        store(saved.gates + u, i, lanes);
        store(saved.gates + N + u, j, lanes);
        store(saved.gates + 2 * N + u, f, lanes);
        store(saved.gates + 3 * N + u, o, lanes);
        store(saved.cell + u, c, lanes);
      }
    });
  }

  // Lays the gradients of the gates down in row `entry` of `grad_gates`, zeros in their padding.
  void backward(const BackwardRow<T>& row, const Saved& saved, std::ptrdiff_t wide,
                const Panels<T>& grad_gates, std::ptrdiff_t entry, T*, T*) const {
    const std::ptrdiff_t N = units_;
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> i = load(saved.gates + u, lanes);
      const Vector<T> j = load(saved.gates + N + u, lanes);
      const Vector<T> f = load(saved.gates + 2 * N + u, lanes);
      const Vector<T> o = load(saved.gates + 3 * N + u, lanes);
      const Vector<T> factor = row.factors == nullptr ? broadcast<T>(1) : load(row.factors + u);
      const Vector<T> tanh_c = tanh_vector(load(saved.cell + u, lanes));
      const Vector<T> grad_h = load(row.grad_hidden + u) + load(row.grad_output + u, lanes);
      const Vector<T> grad_c = load(row.grad_cell + u) + grad_h * o * (T{1} - tanh_c * tanh_c);
      store(row.grad_cell + u, grad_c * f);
      const Vector<T> grad_g = grad_c * factor;
      const Vector<T> grads[4] = {grad_g * j * i * (T{1} - i), grad_g * i * (T{1} - j * j),
                                  grad_c * load(row.cell_before + u, lanes) * f * (T{1} - f),
                                  grad_h * tanh_c * o * (T{1} - o)};
      for (int gate = 0; gate < 4; ++gate) {
        store(grad_gates.at(gate * wide + u, entry), only<T>(grads[gate], lanes));
      }
    });
  }

 private:
  std::ptrdiff_t units_;
  T forget_bias_;
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

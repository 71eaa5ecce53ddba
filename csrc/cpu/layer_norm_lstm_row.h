// One step of a LayerNorm-LSTM for one row, after the products.
//
//   i, j, f, o: each gate of a standardised over its N units, then · gamma + beta
//   g = tanh(j) · factor ;  c' = c σ(f + forget_bias) + σ(i) g ;  h' = tanh(LN_c(c')) σ(o)
//
// Standardising takes two passes over a row that lies in the first cache: the mean, then the mean
// of the squares about it. One pass over sums of squares loses digits that the gradients need.
//
// Saved for backward, an entry a row and step: the gates before their layer norm, 4 N elements;
// c', N; the mean and the reciprocal standard deviation of the four gates and of c', 10. Backward
// computes the nonlinearities again, which costs less than to save them. For one norm with
// y = gamma x̂ + beta, x̂ = (x - mean) rstd and the gradient dy:
//
//   dx = rstd (dy gamma - mean(dy gamma) - x̂ mean(dy gamma x̂)) ;  dgamma += dy x̂ ;  dbeta += dy

#pragma once

#include "lstm_row.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// The norms' weights: of the gates [4 N] and of the cell state [N].
template <class T>
struct LayerNorms {
  const T* all_gamma;
  const T* all_beta;
  const T* c_gamma;
  const T* c_beta;
};

template <class T>
struct LayerNormGradients {
  T* all_gamma;
  T* all_beta;
  T* c_gamma;
  T* c_beta;
};

template <class T>
struct Statistics {
  T mean, rstd;
};

SKETCHRNN_INLINE float square_root(float x) { return __builtin_sqrtf(x); }
SKETCHRNN_INLINE double square_root(double x) { return __builtin_sqrt(x); }

// The mean of n values and 1 / √(variance + ε), the variance biased; whole vectors are read.
template <class T>
SKETCHRNN_INLINE Statistics<T> statistics(const T* values, std::ptrdiff_t n) {
  constexpr T kEpsilon = static_cast<T>(1e-3);
  Vector<T> total{};
  each_vector<T>(n,
                 [&](std::ptrdiff_t u, auto lanes) { total += only<T>(load(values + u), lanes); });
  const T mean = sum<T>(total) / static_cast<T>(n);
  Vector<T> squares{};
  each_vector<T>(n, [&](std::ptrdiff_t u, auto lanes) {
    const Vector<T> away = only<T>(load(values + u) - mean, lanes);
    squares += away * away;
  });
  const T variance = sum<T>(squares) / static_cast<T>(n);
  return {mean, T{1} / square_root(variance + kEpsilon)};
}

template <class T_>
class LayerNormLSTMRows {
 public:
  using T = T_;
  static constexpr int kWeightXh = 0, kWeightHh = 1, kBias = -1;
  static constexpr int kStatistics = 10;

  LayerNormLSTMRows(std::ptrdiff_t units, double forget_bias, const LayerNorms<T>& norms)
      : units_(units), forget_bias_(static_cast<T>(forget_bias)), norms_(norms) {}
  explicit LayerNormLSTMRows(const RecurrentCall& call)
      : LayerNormLSTMRows(
            call.units, call.forget_bias,
            {static_cast<const T*>(call.weights[2]), static_cast<const T*>(call.weights[3]),
             static_cast<const T*>(call.weights[4]), static_cast<const T*>(call.weights[5])}) {}

  struct Saved {
    T* gates;                     // null where they are saved otherwise
    std::ptrdiff_t gates_stride;  // from one gate to the next
    T* cell;
    T* statistics;  // mean and rstd of i, j, f, o and c'
  };
  static std::ptrdiff_t saved_size(std::ptrdiff_t entries, std::ptrdiff_t units) {
    return entries * (5 * units + kStatistics);
  }
  static Saved saved(T* all, std::ptrdiff_t entries, std::ptrdiff_t units, std::ptrdiff_t entry) {
    T* cells = all + entries * 4 * units;
    return {all + entry * 4 * units, units, cells + entry * units,
            cells + entries * units + entry * kStatistics};
  }

  // The scratch that one thread needs: rows of whole vectors.
  static std::ptrdiff_t scratch_size(std::ptrdiff_t units) {
    return 10 * round_up(units, kLanes<T>);
  }

  template <bool kSave>
  void forward(const ForwardRow<T>& row, const Saved& saved, T* scratch) const {
    const std::ptrdiff_t wide = row.wide, N = units_;
    Statistics<T> of[5];
    for (int gate = 0; gate < 4; ++gate) of[gate] = statistics(row.gates + gate * wide, N);
    T* const output_gate = scratch;
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> i = sigmoid<T>(normalised(row.gates, wide, 0, of, u, lanes));
      const Vector<T> j = tanh_vector(normalised(row.gates, wide, 1, of, u, lanes));
      const Vector<T> f = sigmoid<T>(normalised(row.gates, wide, 2, of, u, lanes) + forget_bias_);
      const Vector<T> o = sigmoid<T>(normalised(row.gates, wide, 3, of, u, lanes));
      const Vector<T> g = row.factors == nullptr ? j : j * load(row.factors + u);
      store(output_gate + u, o);
      store(row.cell + u, load(row.cell + u) * f + i * g);
    });
    of[4] = statistics(row.cell, N);
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> c = load(row.cell + u);
      const Vector<T> y = (c - of[4].mean) * of[4].rstd * load(norms_.c_gamma + u, lanes) +
                          load(norms_.c_beta + u, lanes);
      store(row.hidden + u, tanh_vector(y) * load(output_gate + u), lanes);
      if (kSave) {
        for (int gate = 0; saved.gates != nullptr && gate < 4; ++gate) {
          store(saved.gates + gate * N + u, load(row.gates + gate * wide + u), lanes);
        }
        store(saved.cell + u, c, lanes);
      }
    });
    if (kSave) {
      for (int norm = 0; norm < 5; ++norm) {
        saved.statistics[2 * norm] = of[norm].mean;
        saved.statistics[2 * norm + 1] = of[norm].rstd;
      }
    }
  }

  // Sums over rows that one thread gathers: the gradients of the norms, in rows of whole vectors.
  static std::ptrdiff_t sums_size(std::ptrdiff_t units) { return 10 * round_up(units, kLanes<T>); }

  void backward(const BackwardRow<T>& row, const Saved& saved, std::ptrdiff_t wide,
                const Panels<T>& grad_gates, std::ptrdiff_t entry, T* scratch, T* sums) const {
    const std::ptrdiff_t N = units_, padded = round_up(N, kLanes<T>);
    Statistics<T> of[5];
    for (int norm = 0; norm < 5; ++norm) {
      of[norm] = {saved.statistics[2 * norm], saved.statistics[2 * norm + 1]};
    }
    T* const i_row = scratch;
    T* const j_row = scratch + padded;
    T* const f_row = scratch + 2 * padded;
    T* const grad_o_row = scratch + 3 * padded;
    T* const scaled_c_row = scratch + 4 * padded;
    T* const scaled_rows = scratch + 5 * padded;  // of the four gates
    T* const all_gamma_sums = sums;
    T* const all_beta_sums = sums + 4 * padded;
    T* const c_gamma_sums = sums + 8 * padded;
    T* const c_beta_sums = sums + 9 * padded;

    // Down from h' to the layer norm of c'. Loads leave zeros in the lanes past N, so that the sums
    // take nothing from there.
    Vector<T> scaled_total{}, scaled_hat_total{};
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> i = sigmoid<T>(normalised(saved.gates, saved.gates_stride, 0, of, u, lanes));
      const Vector<T> j = tanh_vector(normalised(saved.gates, saved.gates_stride, 1, of, u, lanes));
      const Vector<T> f =
          sigmoid<T>(normalised(saved.gates, saved.gates_stride, 2, of, u, lanes) + forget_bias_);
      const Vector<T> o = sigmoid<T>(normalised(saved.gates, saved.gates_stride, 3, of, u, lanes));
      const Vector<T> gamma = load(norms_.c_gamma + u, lanes);
      const Vector<T> hat = only<T>((load(saved.cell + u, lanes) - of[4].mean) * of[4].rstd, lanes);
      const Vector<T> tanh_c = tanh_vector(hat * gamma + load(norms_.c_beta + u, lanes));
      const Vector<T> grad_h =
          only<T>(load(row.grad_hidden + u) + load(row.grad_output + u, lanes), lanes);
      const Vector<T> grad_y = grad_h * o * (T{1} - tanh_c * tanh_c);
      const Vector<T> scaled = grad_y * gamma;
      scaled_total += scaled;
      scaled_hat_total += scaled * hat;
      store(c_gamma_sums + u, load(c_gamma_sums + u) + grad_y * hat);
      store(c_beta_sums + u, load(c_beta_sums + u) + grad_y);
      store(i_row + u, i);
      store(j_row + u, j);
      store(f_row + u, f);
      store(grad_o_row + u, grad_h * tanh_c * o * (T{1} - o));
      store(scaled_c_row + u, scaled);
    });
    const T scaled_mean = sum<T>(scaled_total) / static_cast<T>(N);
    const T scaled_hat_mean = sum<T>(scaled_hat_total) / static_cast<T>(N);

    // From c' to the normalised gates.
    Vector<T> total[4] = {}, hat_total[4] = {};
    each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
      const Vector<T> i = load(i_row + u), j = load(j_row + u), f = load(f_row + u);
      const Vector<T> hat_c = (load(saved.cell + u, lanes) - of[4].mean) * of[4].rstd;
      const Vector<T> grad_c =
          load(row.grad_cell + u) +
          (load(scaled_c_row + u) - scaled_mean - hat_c * scaled_hat_mean) * of[4].rstd;
      const Vector<T> factor = row.factors == nullptr ? broadcast<T>(1) : load(row.factors + u);
      const Vector<T> grad_g = grad_c * factor;
      store(row.grad_cell + u, grad_c * f);
      const Vector<T> grads[4] = {grad_g * j * i * (T{1} - i), grad_g * i * (T{1} - j * j),
                                  grad_c * load(row.cell_before + u, lanes) * f * (T{1} - f),
                                  load(grad_o_row + u)};
      for (int gate = 0; gate < 4; ++gate) {
        const Vector<T> grad = only<T>(grads[gate], lanes);
        const Vector<T> hat = standardised(saved.gates, saved.gates_stride, gate, of, u, lanes);
        const Vector<T> scaled = grad * load(norms_.all_gamma + gate * N + u, lanes);
        total[gate] += scaled;
        hat_total[gate] += scaled * hat;
        T* const gamma_sum = all_gamma_sums + gate * padded + u;
        T* const beta_sum = all_beta_sums + gate * padded + u;
        store(gamma_sum, load(gamma_sum) + grad * hat);
        store(beta_sum, load(beta_sum) + grad);
        store(scaled_rows + gate * padded + u, scaled);
      }
    });

    // Through the layer norm of the gates.
    for (int gate = 0; gate < 4; ++gate) {
      const T mean = sum<T>(total[gate]) / static_cast<T>(N);
      const T hat_mean = sum<T>(hat_total[gate]) / static_cast<T>(N);
      each_vector<T>(N, [&](std::ptrdiff_t u, auto lanes) {
        const Vector<T> hat = standardised(saved.gates, saved.gates_stride, gate, of, u, lanes);
        const Vector<T> grad =
            (load(scaled_rows + gate * padded + u) - mean - hat * hat_mean) * of[gate].rstd;
        store(grad_gates.at(gate * wide + u, entry), only<T>(grad, lanes));
      });
    }
  }

  // Adds one thread's sums to the gradients of the norms; the first thread's set them.
  void add_sums(const T* sums, bool first, const LayerNormGradients<T>& to) const {
    const std::ptrdiff_t padded = round_up(units_, kLanes<T>);
    for (int gate = 0; gate < 4; ++gate) {
      add_row(sums + gate * padded, first, to.all_gamma + gate * units_);
      add_row(sums + (4 + gate) * padded, first, to.all_beta + gate * units_);
    }
    add_row(sums + 8 * padded, first, to.c_gamma);
    add_row(sums + 9 * padded, first, to.c_beta);
  }

  void add_sums(const T* sums, bool first, const BackwardCall& back) const {
    void* const* grads = back.grad_weights + 2;
    add_sums(sums, first,
             LayerNormGradients<T>{static_cast<T*>(grads[0]), static_cast<T*>(grads[1]),
                                   static_cast<T*>(grads[2]), static_cast<T*>(grads[3])});
  }

 private:
  void add_row(const T* from, bool first, T* to) const {
    for (std::ptrdiff_t u = 0; u < units_; ++u) to[u] = first ? from[u] : to[u] + from[u];
  }

  // The gates may lie in scratch (whole vectors, `stride` wide) or be an entry (N wide).
  template <class Lanes>
  SKETCHRNN_INLINE Vector<T> standardised(const T* gates, std::ptrdiff_t stride, int gate,
                                          const Statistics<T> (&of)[5], std::ptrdiff_t u,
                                          Lanes lanes) const {
    return (load(gates + gate * stride + u, lanes) - of[gate].mean) * of[gate].rstd;
  }

  template <class Lanes>
  SKETCHRNN_INLINE Vector<T> normalised(const T* gates, std::ptrdiff_t stride, int gate,
                                        const Statistics<T> (&of)[5], std::ptrdiff_t u,
                                        Lanes lanes) const {
    return standardised(gates, stride, gate, of, u, lanes) *
               load(norms_.all_gamma + gate * units_ + u, lanes) +
           load(norms_.all_beta + gate * units_ + u, lanes);
  }

  std::ptrdiff_t units_;
  T forget_bias_;
  LayerNorms<T> norms_;
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

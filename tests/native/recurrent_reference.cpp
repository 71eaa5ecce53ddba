// One row at a time, nothing packed and nothing shared with the kernels but the random numbers.

#include <cmath>

#include "core/philox.h"
#include "recurrent_case.h"

namespace sketchrnn {
namespace testing {
namespace {

using Row = std::vector<double>;

double sigmoid(double x) { return 1.0 / (1.0 + std::exp(-x)); }

// to += from [D] · matrix [D, C]
void add_product(const double* from, std::ptrdiff_t depth, const double* matrix, Row& to) {
  const auto columns = static_cast<std::ptrdiff_t>(to.size());
  for (std::ptrdiff_t k = 0; k < depth; ++k) {
    for (std::ptrdiff_t j = 0; j < columns; ++j) {
      to[static_cast<std::size_t>(j)] += from[k] * matrix[k * columns + j];
    }
  }
}

// The layer norm of n values, in place.
void normalise(double* values, std::ptrdiff_t n, const double* gamma, const double* beta) {
  double mean = 0.0, variance = 0.0;
  for (std::ptrdiff_t i = 0; i < n; ++i) mean += values[i] / static_cast<double>(n);
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    variance += (values[i] - mean) * (values[i] - mean) / static_cast<double>(n);
  }
  for (std::ptrdiff_t i = 0; i < n; ++i) {
    values[i] = (values[i] - mean) / std::sqrt(variance + 1e-3) * gamma[i] + beta[i];
  }
}

// Gates to new h and c; `norms` are all_gamma, all_beta, c_gamma and c_beta, or null for a plain
// LSTM; `factors` those of dropout.
void step(Row gates, const Tensor<double>* norms, const Row& factors, Row& hidden, Row& cell) {
  const std::size_t units = hidden.size();
  const auto n = static_cast<std::ptrdiff_t>(units);
  for (std::ptrdiff_t gate = 0; norms != nullptr && gate < 4; ++gate) {
    normalise(gates.data() + gate * n, n, norms[0].data() + gate * n, norms[1].data() + gate * n);
  }
  for (std::size_t u = 0; u < units; ++u) {
    cell[u] = cell[u] * sigmoid(gates[2 * units + u] + kForgetBias) +
              sigmoid(gates[u]) * std::tanh(gates[units + u]) * factors[u];
  }
  Row output = cell;
  if (norms != nullptr) normalise(output.data(), n, norms[2].data(), norms[3].data());
  for (std::size_t u = 0; u < units; ++u) {
    hidden[u] = std::tanh(output[u]) * sigmoid(gates[3 * units + u]);
  }
}

class RowOfBatch {
 public:
  RowOfBatch(const Case& the, const Inputs<double>& inputs, std::ptrdiff_t row)
      : case_(the),
        inputs_(inputs),
        weights_(inputs.parameters.weights),
        s_(inputs.sizes),
        row_(row) {
    for (const Tensor<double>& part : inputs.parameters.state) {
      const std::ptrdiff_t width = part.size() / s_.B;
      state.emplace_back(part.data() + row * width, part.data() + (row + 1) * width);
    }
  }

  void walk_step(std::ptrdiff_t t) {
    if (case_.op == Op::kHyperLSTM) return hyper_step(t);
    Row gates = input_products(t, weights_[0], s_.N);
    add_product(state[0].data(), s_.N, weights_[1].data(), gates);
    const bool plain = case_.op == Op::kLSTM;
    for (std::size_t i = 0; plain && i < gates.size(); ++i) {
      gates[i] += weights_[2][static_cast<std::ptrdiff_t>(i)];
    }
    step(gates, plain ? nullptr : &weights_[2], factors(t), state[0], state[1]);
  }

  std::vector<Row> state;

 private:
  // [x, s] · w_xh
  Row input_products(std::ptrdiff_t t, const Tensor<double>& w_xh, std::ptrdiff_t units) const {
    Row products(static_cast<std::size_t>(4 * units), 0.0);
    const Parameters<double>& given = inputs_.parameters;
    add_product(given.x.data() + (t * s_.B + row_) * s_.X, s_.X, w_xh.data(), products);
    add_product(given.static_input.data() + row_ * s_.S, s_.S, w_xh.data() + s_.X * 4 * units,
                products);
    return products;
  }

  void hyper_step(std::ptrdiff_t t) {
    const std::ptrdiff_t width = s_.X + s_.S;
    Row hyper = input_products(t, weights_[7], s_.H);
    add_product(state[0].data(), s_.N, weights_[7].data() + width * 4 * s_.H, hyper);
    add_product(state[2].data(), s_.H, weights_[8].data(), hyper);
    step(hyper, &weights_[9], Row(static_cast<std::size_t>(s_.H), 1.0), state[2], state[3]);
    const Row of_x = input_products(t, weights_[0], s_.N);
    Row of_h(of_x.size(), 0.0);
    add_product(state[0].data(), s_.N, weights_[1].data(), of_h);
    const Row x_scale = scale(weights_[13], &weights_[14], weights_[15]);
    const Row h_scale = scale(weights_[16], &weights_[17], weights_[18]);
    Row gates = scale(weights_[19], nullptr, weights_[20]);
    for (std::size_t i = 0; i < gates.size(); ++i) {
      gates[i] +=
          x_scale[i] * of_x[i] + h_scale[i] * of_h[i] + weights_[2][static_cast<std::ptrdiff_t>(i)];
    }
    step(gates, &weights_[3], factors(t), state[0], state[1]);
  }

  // Gate by gate, (ĥ Z + z) A.
  Row scale(const Tensor<double>& embedding, const Tensor<double>* bias,
            const Tensor<double>& projection) const {
    Row all;
    for (std::ptrdiff_t gate = 0; gate < 4; ++gate) {
      Row code(static_cast<std::size_t>(s_.E), 0.0);
      add_product(state[2].data(), s_.H, embedding.data() + gate * s_.H * s_.E, code);
      for (std::ptrdiff_t e = 0; bias != nullptr && e < s_.E; ++e) {
        code[static_cast<std::size_t>(e)] += (*bias)[gate * s_.E + e];
      }
      Row scaled(static_cast<std::size_t>(s_.N), 0.0);
      add_product(code.data(), s_.E, projection.data() + gate * s_.E * s_.N, scaled);
      all.insert(all.end(), scaled.begin(), scaled.end());
    }
    return all;
  }

  Row factors(std::ptrdiff_t t) const {
    Row factors(static_cast<std::size_t>(s_.N), 1.0);
    if (!case_.dropout) return factors;
    const std::size_t blocks = (factors.size() + 7) / 8;
    for (std::size_t u = 0; u < factors.size(); ++u) {
      const DropoutLanes lanes = dropout_lanes(
          philox4x32({{static_cast<std::uint32_t>(u % blocks), static_cast<std::uint32_t>(t),
                       inputs_.row_offset + static_cast<std::uint32_t>(row_), 0}},
                     philox_key(case_.seed)));
      const bool kept = lanes.lane[u / blocks] < dropout_threshold(kKeepProb);
      factors[u] = kept ? 1.0 / kKeepProb : 0.0;
    }
    return factors;
  }

  const Case& case_;
  const Inputs<double>& inputs_;
  const std::vector<Tensor<double>>& weights_;
  const Sizes s_;
  const std::ptrdiff_t row_;
};

void put(const Row& row, std::ptrdiff_t at, Tensor<double>& to) {
  for (std::size_t i = 0; i < row.size(); ++i) to[at + static_cast<std::ptrdiff_t>(i)] = row[i];
}

}  // namespace

Results<double> run_reference(const Case& the, const Inputs<double>& inputs) {
  const Sizes& s = inputs.sizes;
  Results<double> results{};
  results.hidden = Tensor<double>(s.T * s.B * s.N);
  results.hidden.fill(0.0);
  for (const Tensor<double>& part : inputs.parameters.state) {
    results.final_state.emplace_back(part.size());
  }
  for (std::ptrdiff_t b = 0; b < s.B; ++b) {
    RowOfBatch row(the, inputs, b);
    const std::ptrdiff_t length = inputs.length(b);
    for (std::ptrdiff_t k = 0; k < length; ++k) {
      const std::ptrdiff_t t = the.reverse ? length - 1 - k : k;
      row.walk_step(t);
      put(row.state[0], (t * s.B + b) * s.N, results.hidden);
    }
    for (std::size_t i = 0; i < row.state.size(); ++i) {
      put(row.state[i], b * static_cast<std::ptrdiff_t>(row.state[i].size()),
          results.final_state[i]);
    }
  }
  return results;
}

}  // namespace testing
}  // namespace sketchrnn

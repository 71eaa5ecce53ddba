// A call of a recurrent op with random tensors, and running it.

#pragma once

#include <string>
#include <vector>

#include "check.h"
#include "cpu/level.h"

namespace sketchrnn {
namespace testing {

enum class Op { kLSTM, kLayerNormLSTM, kHyperLSTM };
constexpr Op kOps[] = {Op::kLSTM, Op::kLayerNormLSTM, Op::kHyperLSTM};

struct Sizes {
  std::ptrdiff_t T, B, X, S, N, H, E;
};

struct Case {
  const Level* level;
  Op op;
  Sizes sizes;
  bool lengths, reverse, dropout;
  std::uint64_t seed;

  std::string name() const;
  const RecurrentKernels& kernels() const;
  Case turned() const;  // the other direction, with other values
};

// Odd sizes in many combinations, the same for every level; past those, sizes that need several
// chunks of a backward pass, or more dropout draws than are made at once.
std::vector<Case> cases_of(const Level& level, Op op, int drawn);

// What has a gradient; also the gradients themselves.
template <class T>
struct Parameters {
  Tensor<T> x, static_input;
  std::vector<Tensor<T>> weights, state;

  std::vector<Tensor<T>*> all();
  std::vector<const Tensor<T>*> all() const;
};
std::string parameter_name(const Case& the, std::size_t index);

template <class T>
struct Inputs {
  Sizes sizes;
  Parameters<T> parameters;
  std::vector<std::int64_t> lengths;  // empty for none
  std::uint32_t row_offset = 5;

  // Some rows of the batch.
  Inputs rows(std::ptrdiff_t first, std::ptrdiff_t count) const;
  std::int64_t length(std::ptrdiff_t row) const;
};

// Random values that float holds, so that both types can be given the same.
template <class T>
Inputs<T> make_inputs(const Case& the);

template <class T>
struct Results {
  Tensor<T> hidden;
  std::vector<Tensor<T>> final_state;
  Tensor<T> saved;
  std::ptrdiff_t saved_size;  // elements that are used
};

template <class T>
struct ResultGradients {
  Tensor<T> hidden;
  std::vector<Tensor<T>> final_state;
};
template <class T>
ResultGradients<T> make_result_gradients(const Case& the);

constexpr double kForgetBias = 1.0, kKeepProb = 0.7;

template <class T>
Results<T> run_forward(const Case& the, const Inputs<T>& inputs, int threads, bool save = true);

// What a backward pass may be told to leave out.
struct Wanted {
  bool grad_x = true;
  bool grad_hidden = true;  // given, or null for zeros
};
template <class T>
Parameters<T> run_backward(const Case& the, const Inputs<T>& inputs, const Results<T>& results,
                           const ResultGradients<T>& grads, int threads, Wanted wanted = {});

// A case and its `turned` one side by side, on `threads` and on `others`; inputs and results are of
// both, the gradients of the results the same.
template <class T>
std::vector<Results<T>> run_both_forward(const Case& the, const std::vector<Inputs<T>>& inputs,
                                         int threads, int others);
template <class T>
std::vector<Parameters<T>> run_both_backward(const Case& the, const std::vector<Inputs<T>>& inputs,
                                             const std::vector<Results<T>>& results,
                                             const ResultGradients<T>& grads, int threads,
                                             int others);

// The op as its definition reads, with plain loops: hidden and the final state.
Results<double> run_reference(const Case& the, const Inputs<double>& inputs);

}  // namespace testing
}  // namespace sketchrnn

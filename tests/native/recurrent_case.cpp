#include "recurrent_case.h"

#include "cpu/schedule.h"

namespace sketchrnn {
namespace testing {
namespace {

std::vector<std::ptrdiff_t> weight_sizes(Op op, const Sizes& s) {
  const std::ptrdiff_t width = s.X + s.S, gates = 4 * s.N, hyper_gates = 4 * s.H;
  if (op == Op::kLSTM) return {width * gates, s.N * gates, gates};
  if (op == Op::kLayerNormLSTM) return {width * gates, s.N * gates, gates, gates, s.N, s.N};
  const std::ptrdiff_t embedding = hyper_gates * s.E, bias = 4 * s.E, projection = gates * s.E;
  return {width * gates,
          s.N * gates,
          gates,
          gates,
          gates,
          s.N,
          s.N,
          (width + s.N) * hyper_gates,
          s.H * hyper_gates,
          hyper_gates,
          hyper_gates,
          s.H,
          s.H,
          embedding,
          bias,
          projection,
          embedding,
          bias,
          projection,
          embedding,
          projection};
}

std::vector<std::ptrdiff_t> state_widths(Op op, const Sizes& s) {
  if (op == Op::kHyperLSTM) return {s.N, s.N, s.H, s.H};
  return {s.N, s.N};
}

// A call whose pointers lead into `inputs`.
template <class T>
class Call {
 public:
  Call(const Case& the, const Inputs<T>& inputs, int threads)
      : rows_(inputs.lengths.empty() ? nullptr : inputs.lengths.data(), inputs.sizes.T,
              inputs.sizes.B, the.reverse),
        sizes_(inputs.sizes) {
    const Sizes& s = sizes_;
    call_.schedule = rows_.schedule();
    call_.input = s.X;
    call_.static_input = s.S;
    call_.units = s.N;
    if (the.op == Op::kHyperLSTM) {
      call_.hyper_units = s.H;
      call_.embedding = s.E;
    }
    const Parameters<T>& given = inputs.parameters;
    call_.x = given.x.data();
    call_.static_values = s.S > 0 ? given.static_input.data() : nullptr;
    for (std::size_t i = 0; i < given.weights.size(); ++i) {
      call_.weights[i] = given.weights[i].data();
    }
    for (std::size_t i = 0; i < given.state.size(); ++i) call_.state[i] = given.state[i].data();
    call_.forget_bias = kForgetBias;
    call_.dropout = {the.seed, 0, inputs.row_offset, the.dropout ? kKeepProb : 1.0};
    call_.threads = threads;
  }

  const RecurrentCall& get() const { return call_; }
  const Sizes& sizes() const { return sizes_; }
  std::ptrdiff_t saved_size(const Case& the, std::ptrdiff_t entries) const {
    return the.kernels().saved_size({entries, call_.units, call_.hyper_units, call_.embedding});
  }

 private:
  SortedRows rows_;
  Sizes sizes_;
  RecurrentCall call_{};
};

template <class T>
constexpr int kType = sizeof(T) == 4 ? 0 : 1;

template <class T>
Tensor<T> some_rows(const Tensor<T>& of, std::ptrdiff_t outer, std::ptrdiff_t rows,
                    std::ptrdiff_t first, std::ptrdiff_t count) {
  const std::ptrdiff_t width = outer * rows == 0 ? 0 : of.size() / (outer * rows);
  Tensor<T> part(outer * count * width);
  for (std::ptrdiff_t t = 0; t < outer; ++t) {
    for (std::ptrdiff_t i = 0; i < count * width; ++i) {
      part[t * count * width + i] = of[(t * rows + first) * width + i];
    }
  }
  return part;
}

Case draw(const Level& level, Op op, Random& random) {
  const auto one_of = [&](const std::vector<std::ptrdiff_t>& values) {
    return values[static_cast<std::size_t>(
        random.integer(static_cast<std::ptrdiff_t>(values.size()) - 1))];
  };
  Sizes s{};
  s.T = one_of({1, 2, 9});
  s.B = one_of({1, 3, 7, 17, 33});
  s.X = one_of({0, 1, 5, 40});
  s.S = one_of({0, 3});
  s.N = one_of({1, 5, 17, 50});
  s.H = one_of({4, 17});
  s.E = one_of({1, 5});
  const std::ptrdiff_t flags = random.integer(7);
  return {&level, op, s, (flags & 1) != 0, (flags & 2) != 0, (flags & 4) != 0, random.bits()};
}

}  // namespace

std::string Case::name() const {
  const char* const ops[] = {"lstm", "layer_norm_lstm", "hyper_lstm"};
  std::string text = std::string(level->name) + " " + ops[static_cast<int>(op)];
  const auto add = [&](const char* what, std::ptrdiff_t value) {
    text += std::string(" ") + what + "=" + std::to_string(value);
  };
  add("T", sizes.T);
  add("B", sizes.B);
  add("X", sizes.X);
  add("S", sizes.S);
  add("N", sizes.N);
  add("H", sizes.H);
  add("E", sizes.E);
  return text + (lengths ? " lengths" : "") + (reverse ? " reverse" : "") +
         (dropout ? " dropout" : "");
}

Case Case::turned() const {
  Case other = *this;
  other.reverse = !reverse;
  other.seed += 10;
  return other;
}

const RecurrentKernels& Case::kernels() const {
  if (op == Op::kLSTM) return *level->lstm;
  return op == Op::kLayerNormLSTM ? *level->layer_norm_lstm : *level->hyper_lstm;
}

std::vector<Case> cases_of(const Level& level, Op op, int drawn) {
  Random random(2023);
  std::vector<Case> cases;
  for (int i = 0; i < drawn; ++i) cases.push_back(draw(level, op, random));
  const auto add = [&](Sizes sizes, bool lengths, bool reverse) {
    cases.push_back({&level, op, sizes, lengths, reverse, true, random.bits()});
  };
  add({40, 33, 3, 2, 6, 3, 2}, true, false);
  add({40, 33, 3, 2, 6, 3, 2}, true, true);
  add({2, 1100, 2, 0, 1, 1, 1}, false, false);
  add({2, 3, 1, 0, 520, 9, 2}, false, true);
  add({3, 0, 2, 1, 5, 4, 1}, false, false);
  return cases;
}

template <class T>
std::vector<Tensor<T>*> Parameters<T>::all() {
  std::vector<Tensor<T>*> tensors{&x, &static_input};
  for (Tensor<T>& weight : weights) tensors.push_back(&weight);
  for (Tensor<T>& part : state) tensors.push_back(&part);
  return tensors;
}

template <class T>
std::vector<const Tensor<T>*> Parameters<T>::all() const {
  std::vector<const Tensor<T>*> tensors;
  for (Tensor<T>* tensor : const_cast<Parameters*>(this)->all()) tensors.push_back(tensor);
  return tensors;
}

std::string parameter_name(const Case& the, std::size_t index) {
  const std::size_t weights = weight_sizes(the.op, the.sizes).size();
  if (index == 0) return "x";
  if (index == 1) return "static input";
  if (index < 2 + weights) return "weight " + std::to_string(index - 2);
  return "state " + std::to_string(index - 2 - weights);
}

template <class T>
Inputs<T> Inputs<T>::rows(std::ptrdiff_t first, std::ptrdiff_t count) const {
  Inputs part = *this;
  part.sizes.B = count;
  part.row_offset += static_cast<std::uint32_t>(first);
  part.parameters.x = some_rows(parameters.x, sizes.T, sizes.B, first, count);
  part.parameters.static_input = some_rows(parameters.static_input, 1, sizes.B, first, count);
  for (Tensor<T>& state : part.parameters.state) {
    state = some_rows(state, 1, sizes.B, first, count);
  }
  if (!lengths.empty()) {
    part.lengths.assign(lengths.begin() + first, lengths.begin() + first + count);
  }
  return part;
}

template <class T>
std::int64_t Inputs<T>::length(std::ptrdiff_t row) const {
  return lengths.empty() ? sizes.T : lengths[static_cast<std::size_t>(row)];
}

template <class T>
Inputs<T> make_inputs(const Case& the) {
  const Sizes& s = the.sizes;
  Random random(the.seed);
  Inputs<T> inputs{};
  inputs.sizes = s;
  const auto tensor = [&](std::ptrdiff_t size, double width) {
    const Tensor<float> values = random.tensor<float>(size, width);
    Tensor<T> widened(size);
    for (std::ptrdiff_t i = 0; i < size; ++i) widened[i] = values[i];
    return widened;
  };
  inputs.parameters.x = tensor(s.T * s.B * s.X, 1.0);
  inputs.parameters.static_input = tensor(s.B * s.S, 1.0);
  for (const std::ptrdiff_t size : weight_sizes(the.op, s)) {
    inputs.parameters.weights.push_back(tensor(size, 0.5));
  }
  for (const std::ptrdiff_t width : state_widths(the.op, s)) {
    inputs.parameters.state.push_back(tensor(s.B * width, 0.8));
  }
  for (std::ptrdiff_t b = 0; the.lengths && b < s.B; ++b) {
    inputs.lengths.push_back(random.integer(s.T));
  }
  inputs.row_offset = 5;
  return inputs;
}

template <class T>
ResultGradients<T> make_result_gradients(const Case& the) {
  const Sizes& s = the.sizes;
  Random random(the.seed + 1);
  ResultGradients<T> grads;
  const auto tensor = [&](std::ptrdiff_t size) {
    const Tensor<float> values = random.tensor<float>(size, 1.0);
    Tensor<T> widened(size);
    for (std::ptrdiff_t i = 0; i < size; ++i) widened[i] = values[i];
    return widened;
  };
  grads.hidden = tensor(s.T * s.B * s.N);
  for (const std::ptrdiff_t width : state_widths(the.op, s)) {
    grads.final_state.push_back(tensor(s.B * width));
  }
  return grads;
}

namespace {

template <class T>
Results<T> room_for(const Case& the, const Call<T>& call, bool save) {
  const Sizes& s = call.sizes();
  Results<T> results{};
  results.hidden = Tensor<T>(s.T * s.B * s.N);
  for (const std::ptrdiff_t width : state_widths(the.op, s)) {
    results.final_state.emplace_back(s.B * width);
  }
  if (save) {
    results.saved = Tensor<T>(call.saved_size(the, s.T * s.B));
    results.saved_size = call.saved_size(the, call.get().schedule.entries());
  }
  return results;
}

template <class T>
ForwardResults places_in(Results<T>& results, bool save) {
  ForwardResults to{};
  to.hidden = results.hidden.data();
  for (std::size_t i = 0; i < results.final_state.size(); ++i) {
    to.final_state[i] = results.final_state[i].data();
  }
  if (save) to.saved = results.saved.data();
  return to;
}

template <class T>
Parameters<T> room_for_gradients(const Inputs<T>& inputs) {
  Parameters<T> grads = inputs.parameters;
  for (Tensor<T>* tensor : grads.all()) tensor->fill(std::numeric_limits<T>::quiet_NaN());
  return grads;
}

template <class T>
BackwardCall backward_call(const Inputs<T>& inputs, const Results<T>& results,
                           const ResultGradients<T>& grads, Wanted wanted, Parameters<T>& to) {
  BackwardCall back{};
  if (wanted.grad_hidden) back.grad_hidden = grads.hidden.data();
  back.hidden = results.hidden.data();
  back.saved = results.saved.data();
  if (wanted.grad_x) back.grad_x = to.x.data();
  if (inputs.sizes.S > 0) back.grad_static = to.static_input.data();
  for (std::size_t i = 0; i < to.weights.size(); ++i) back.grad_weights[i] = to.weights[i].data();
  for (std::size_t i = 0; i < to.state.size(); ++i) {
    back.grad_state[i] = grads.final_state[i].data();
    back.grad_initial[i] = to.state[i].data();
  }
  return back;
}

}  // namespace

template <class T>
Results<T> run_forward(const Case& the, const Inputs<T>& inputs, int threads, bool save) {
  const Call<T> call(the, inputs, threads);
  Results<T> results = room_for(the, call, save);
  const ForwardResults to = places_in(results, save);
  the.kernels().forward[kType<T>](&call.get(), &to, 1);
  return results;
}

template <class T>
Parameters<T> run_backward(const Case& the, const Inputs<T>& inputs, const Results<T>& results,
                           const ResultGradients<T>& grads, int threads, Wanted wanted) {
  const Call<T> call(the, inputs, threads);
  Parameters<T> to = room_for_gradients(inputs);
  const BackwardCall back = backward_call(inputs, results, grads, wanted, to);
  the.kernels().backward[kType<T>](&call.get(), &back, 1);
  return to;
}

template <class T>
std::vector<Results<T>> run_both_forward(const Case& the, const std::vector<Inputs<T>>& inputs,
                                         int threads, int others) {
  const Call<T> one(the, inputs[0], threads), two(the.turned(), inputs[1], others);
  std::vector<Results<T>> results{room_for(the, one, true), room_for(the, two, true)};
  const RecurrentCall calls[] = {one.get(), two.get()};
  const ForwardResults to[] = {places_in(results[0], true), places_in(results[1], true)};
  the.kernels().forward[kType<T>](calls, to, 2);
  return results;
}

template <class T>
std::vector<Parameters<T>> run_both_backward(const Case& the, const std::vector<Inputs<T>>& inputs,
                                             const std::vector<Results<T>>& results,
                                             const ResultGradients<T>& grads, int threads,
                                             int others) {
  const Call<T> one(the, inputs[0], threads), two(the.turned(), inputs[1], others);
  std::vector<Parameters<T>> to{room_for_gradients(inputs[0]), room_for_gradients(inputs[1])};
  const RecurrentCall calls[] = {one.get(), two.get()};
  const BackwardCall backs[] = {backward_call(inputs[0], results[0], grads, {}, to[0]),
                                backward_call(inputs[1], results[1], grads, {}, to[1])};
  the.kernels().backward[kType<T>](calls, backs, 2);
  return to;
}

#define INSTANTIATE(T)                                                                          \
  template struct Parameters<T>;                                                                \
  template struct Inputs<T>;                                                                    \
  template Inputs<T> make_inputs(const Case&);                                                  \
  template ResultGradients<T> make_result_gradients(const Case&);                               \
  template Results<T> run_forward(const Case&, const Inputs<T>&, int, bool);                    \
  template Parameters<T> run_backward(const Case&, const Inputs<T>&, const Results<T>&,         \
                                      const ResultGradients<T>&, int, Wanted);                  \
  template std::vector<Results<T>> run_both_forward(const Case&, const std::vector<Inputs<T>>&, \
                                                    int, int);                                  \
  template std::vector<Parameters<T>> run_both_backward(                                        \
      const Case&, const std::vector<Inputs<T>>&, const std::vector<Results<T>>&,               \
      const ResultGradients<T>&, int, int);
INSTANTIATE(float)
INSTANTIATE(double)

}  // namespace testing
}  // namespace sketchrnn

// Backward passes: the derivative of the forward pass, whole, and the same in every run.

#include <utility>

#include "recurrent_case.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

// The slopes are those of one thread, so ThreadSanitizer has nothing to see in them.
#if defined(__SANITIZE_THREAD__)
constexpr bool kTestSlopes = false;
#else
constexpr bool kTestSlopes = true;
#endif

// tests/tolerances.py, "gradient".
template <class T>
constexpr double kTolerance = sizeof(T) == 4 ? 1e-5 : 1e-11;

template <class T>
double dot(const Tensor<T>& one, const Tensor<T>& other) {
  double total = 0.0;
  for (std::ptrdiff_t i = 0; i < one.size(); ++i) {
    total += static_cast<double>(one[i]) * static_cast<double>(other[i]);
  }
  return total;
}

// What the gradients of the results are the gradient of: the results, weighted with them.
double loss(const Case& the, const Inputs<double>& inputs, const ResultGradients<double>& grads) {
  const Results<double> results = run_forward(the, inputs, 1, false);
  double total = dot(results.hidden, grads.hidden);
  for (std::size_t i = 0; i < results.final_state.size(); ++i) {
    total += dot(results.final_state[i], grads.final_state[i]);
  }
  return total;
}

// By central differences of two steps, whose errors of third order cancel.
double slope(const Case& the, const Inputs<double>& inputs, const ResultGradients<double>& grads,
             std::size_t which, const Tensor<double>& direction) {
  const auto difference = [&](double step) {
    const auto at = [&](double distance) {
      Inputs<double> moved = inputs;
      Tensor<double>& tensor = *moved.parameters.all()[which];
      for (std::ptrdiff_t i = 0; i < tensor.size(); ++i) tensor[i] += distance * direction[i];
      return loss(the, moved, grads);
    };
    return (at(step) - at(-step)) / (2.0 * step);
  };
  constexpr double kStep = 1e-4;
  return (4.0 * difference(kStep) - difference(2.0 * kStep)) / 3.0;
}

void is_the_derivative(const Case& the, const Inputs<double>& inputs,
                       const ResultGradients<double>& grads, const Parameters<double>& found) {
  Random random(the.seed + 2);
  const std::vector<const Tensor<double>*> tensors = found.all();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    const Tensor<double>& gradient = *tensors[i];
    if (gradient.size() == 0) continue;
    Tensor<double> direction = random.tensor<double>(gradient.size(), 1.0);
    const double length = norm(direction);
    for (std::ptrdiff_t k = 0; k < direction.size(); ++k) direction[k] /= length;
    const double expected = slope(the, inputs, grads, i, direction);
    const double error = std::abs(dot(gradient, direction) - expected);
    const double scale = 1.0 + norm(gradient);
    require(error <= 1e-7 * scale, the.name() + ": the gradient of " + parameter_name(the, i) +
                                       " is off the slope by " + std::to_string(error / scale));
  }
}

template <class T>
void require_same(const Parameters<T>& one, const Parameters<T>& other, const Case& the,
                  const std::string& what) {
  const std::vector<const Tensor<T>*> ones = one.all(), others = other.all();
  for (std::size_t i = 0; i < ones.size(); ++i) {
    require(same_bits(*ones[i], *others[i]), the.name() + " " + type_name<T>() + ": " + what +
                                                 " changes the gradient of " +
                                                 parameter_name(the, i));
  }
}

template <class T, class U>
void require_close(const Parameters<T>& result, const Parameters<U>& expected, const Case& the,
                   const std::string& what) {
  const std::vector<const Tensor<T>*> results = result.all();
  const std::vector<const Tensor<U>*> wanted = expected.all();
  // Sums over rows and steps, whose terms may cancel.
  const double least = 0.1 * std::sqrt(static_cast<double>(1 + the.sizes.T * the.sizes.B));
  for (std::size_t i = 0; i < results.size(); ++i) {
    const double error = relative_error(*results[i], *wanted[i], least);
    require(error <= kTolerance<T>, the.name() + " " + type_name<T>() + ": the gradient of " +
                                        parameter_name(the, i) + " with " + what + " is off by " +
                                        std::to_string(error / kTolerance<T>) + " tolerances");
  }
}

template <class T>
void writes_every_element(const Case& the, const Inputs<T>& inputs, const Parameters<T>& found) {
  const std::vector<const Tensor<T>*> tensors = found.all();
  for (std::size_t i = 0; i < tensors.size(); ++i) {
    require(all_finite(tensors[i]->data(), tensors[i]->size()),
            the.name() + ": the gradient of " + parameter_name(the, i) + " is finite");
  }
  const Sizes& s = inputs.sizes;
  for (std::ptrdiff_t b = 0; b < s.B; ++b) {
    for (std::ptrdiff_t t = inputs.length(b); t < s.T; ++t) {
      require(all_zero(found.x.data() + (t * s.B + b) * s.X, s.X),
              the.name() + ": the gradient of x is zero past a row's end");
    }
  }
}

// Each direction has the bits that it has alone on as many threads.
template <class T>
void both_directions_equal_each_alone(const Case& the, const Inputs<T>& inputs,
                                      const Results<T>& results, const ResultGradients<T>& grads) {
  const Case turned = the.turned();
  const std::vector<Inputs<T>> both{inputs, make_inputs<T>(turned)};
  const std::vector<Results<T>> of_both{results, run_forward(turned, both[1], 1)};
  for (const auto& [threads, others] : {std::pair(1, 1), {1, 2}, {2, 2}}) {
    const std::vector<Parameters<T>> found =
        run_both_backward(the, both, of_both, grads, threads, others);
    require_same(found[0], run_backward(the, both[0], of_both[0], grads, threads), the,
                 "another direction beside it");
    require_same(found[1], run_backward(turned, both[1], of_both[1], grads, others), turned,
                 "another direction beside it");
  }
}

template <class T>
Parameters<T> test_case(const Case& the) {
  const Inputs<T> inputs = make_inputs<T>(the);
  const Results<T> results = run_forward(the, inputs, 1);
  const ResultGradients<T> grads = make_result_gradients<T>(the);
  const Parameters<T> found = run_backward(the, inputs, results, grads, 1);
  writes_every_element(the, inputs, found);
  for (int threads = 1; threads <= 4; ++threads) {
    const std::string with = std::to_string(threads) + " threads";
    const Parameters<T> first = run_backward(the, inputs, results, grads, threads);
    const Parameters<T> second = run_backward(the, inputs, results, grads, threads);
    require_same(first, second, the, "a second run with " + with);
    require_close(first, found, the, with);
  }
  both_directions_equal_each_alone(the, inputs, results, grads);
  Parameters<T> no_x = run_backward(the, inputs, results, grads, 2, {false, true});
  no_x.x = found.x;
  require_same(no_x, run_backward(the, inputs, results, grads, 2), the, "leaving out x");
  ResultGradients<T> zeros = grads;
  zeros.hidden.fill(T{0});
  require_same(run_backward(the, inputs, results, zeros, 2),
               run_backward(the, inputs, results, zeros, 2, {true, false}), the,
               "leaving out hidden's gradient");
  return found;
}

}  // namespace

void test_recurrent_backward(const Level& level, int cases) {
  for (const Op op : kOps) {
    for (const Case& the : cases_of(level, op, cases)) {
      const Parameters<double> found = test_case<double>(the);
      if (kTestSlopes) {
        is_the_derivative(the, make_inputs<double>(the), make_result_gradients<double>(the), found);
      }
      require_close(test_case<float>(the), found, the, "float32");
    }
  }
}

}  // namespace testing
}  // namespace sketchrnn

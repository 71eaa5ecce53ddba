// Forward passes: right, whole, and the same bits however the work is shared out.

#include <utility>

#include "recurrent_case.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

// How far a kernel may be from the reference in float64 (tests/tolerances.py).
template <class T>
double tolerance(Op op) {
  if (sizeof(T) == 8) return 1e-12;
  return op == Op::kHyperLSTM ? 1e-5 : 2e-6;
}

template <class T>
void require_same(const Results<T>& one, const Results<T>& other, const std::string& claim) {
  require(same_bits(one.hidden, other.hidden), claim + ": hidden differs");
  for (std::size_t i = 0; i < one.final_state.size(); ++i) {
    require(same_bits(one.final_state[i], other.final_state[i]),
            claim + ": final state " + std::to_string(i) + " differs");
  }
}

template <class T>
void writes_every_element(const Case& the, const Inputs<T>& inputs, const Results<T>& results) {
  const Sizes& s = inputs.sizes;
  require(all_finite(results.hidden.data(), results.hidden.size()),
          the.name() + ": hidden is finite");
  for (const Tensor<T>& part : results.final_state) {
    require(all_finite(part.data(), part.size()), the.name() + ": the final state is finite");
  }
  require(all_finite(results.saved.data(), results.saved_size),
          the.name() + ": what is saved is finite");
  for (std::ptrdiff_t i = results.saved_size; i < results.saved.size(); ++i) {
    require(std::isnan(results.saved[i]), the.name() + ": nothing is saved past the entries");
  }
  for (std::ptrdiff_t b = 0; b < s.B; ++b) {
    for (std::ptrdiff_t t = inputs.length(b); t < s.T; ++t) {
      require(all_zero(results.hidden.data() + (t * s.B + b) * s.N, s.N),
              the.name() + ": hidden is zero past a row's end");
    }
  }
}

template <class T>
void agrees_with_the_reference(const Case& the, const Results<T>& results,
                               const Results<double>& expected) {
  const double most = tolerance<T>(the.op);
  const auto compare = [&](const Tensor<T>& result, const Tensor<double>& wanted,
                           const std::string& what) {
    const double error = relative_error(result, wanted);
    require(error <= most, the.name() + " " + type_name<T>() + ": " + what +
                               " is off the reference by " + std::to_string(error / most) +
                               " tolerances");
  };
  compare(results.hidden, expected.hidden, "hidden");
  for (std::size_t i = 0; i < results.final_state.size(); ++i) {
    compare(results.final_state[i], expected.final_state[i], "final state");
  }
}

// Rows first … of a batch, computed by themselves, are those of the whole batch.
template <class T>
void a_part_equals_its_rows(const Case& the, const Inputs<T>& inputs, const Results<T>& whole,
                            std::ptrdiff_t first, std::ptrdiff_t count, int threads) {
  const Sizes& s = inputs.sizes;
  const Results<T> part = run_forward(the, inputs.rows(first, count), threads);
  const std::string claim = the.name() + " " + type_name<T>() + ": rows " + std::to_string(first) +
                            " to " + std::to_string(first + count - 1) + " alone";
  const auto size = static_cast<std::size_t>(count * s.N) * sizeof(T);
  for (std::ptrdiff_t t = 0; t < s.T; ++t) {
    require(std::memcmp(part.hidden.data() + t * count * s.N,
                        whole.hidden.data() + (t * s.B + first) * s.N, size) == 0,
            claim + ": hidden differs");
  }
  for (std::size_t i = 0; i < part.final_state.size(); ++i) {
    const std::ptrdiff_t width = whole.final_state[i].size() / s.B;
    require(std::memcmp(part.final_state[i].data(), whole.final_state[i].data() + first * width,
                        static_cast<std::size_t>(count * width) * sizeof(T)) == 0,
            claim + ": final state differs");
  }
}

template <class T>
void both_directions_equal_each_alone(const Case& the, const Inputs<T>& inputs,
                                      const Results<T>& results) {
  const std::vector<Inputs<T>> both{inputs, make_inputs<T>(the.turned())};
  const Results<T> turned = run_forward(the.turned(), both[1], 1);
  for (const auto& [threads, others] : {std::pair(1, 1), {1, 2}, {2, 2}, {3, 1}}) {
    const std::vector<Results<T>> found = run_both_forward(the, both, threads, others);
    const std::string claim = the.name() + " " + type_name<T>() + " side by side on " +
                              std::to_string(threads) + " and " + std::to_string(others) +
                              " threads";
    require_same(found[0], results, claim);
    require_same(found[1], turned, claim);
    require(same_bits(found[0].saved, results.saved), claim + ": what is saved differs");
    require(same_bits(found[1].saved, turned.saved), claim + ": what is saved differs");
  }
}

template <class T>
void test_case(const Case& the, const Results<double>& expected) {
  const Inputs<T> inputs = make_inputs<T>(the);
  const Results<T> results = run_forward(the, inputs, 1);
  const std::string name = the.name() + " " + type_name<T>() + " with ";
  writes_every_element(the, inputs, results);
  agrees_with_the_reference(the, results, expected);
  require_same(run_forward(the, inputs, 1, false), results, name + "nothing saved");
  for (int threads = 2; threads <= 4; ++threads) {
    const Results<T> others = run_forward(the, inputs, threads);
    const std::string claim = name + std::to_string(threads) + " threads";
    require_same(others, results, claim);
    require(same_bits(others.saved, results.saved), claim + ": what is saved differs");
  }
  both_directions_equal_each_alone(the, inputs, results);
  const std::ptrdiff_t B = inputs.sizes.B;
  const std::ptrdiff_t alone = B < 5 ? B : 5, stride = alone > 0 ? B / alone : 0;
  for (std::ptrdiff_t i = 0; i < alone; ++i) {
    a_part_equals_its_rows(the, inputs, results, i * stride, 1, 1);
  }
  if (B < 2) return;
  a_part_equals_its_rows(the, inputs, results, 0, B / 2, 2);
  a_part_equals_its_rows(the, inputs, results, B / 2, B - B / 2, 3);
}

}  // namespace

void test_recurrent_forward(const Level& level, int cases) {
  for (const Op op : kOps) {
    for (const Case& the : cases_of(level, op, cases)) {
      const Results<double> expected = run_reference(the, make_inputs<double>(the));
      test_case<float>(the, expected);
      test_case<double>(the, expected);
    }
  }
}

}  // namespace testing
}  // namespace sketchrnn

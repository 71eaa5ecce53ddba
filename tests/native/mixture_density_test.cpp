// The mixture density: right, whole, and the same bits however the rows are shared out.

#include "check.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

constexpr std::ptrdiff_t kPen = 3, kTargetWidth = 5;

struct Sizes {
  std::ptrdiff_t rows, mixtures;
  std::ptrdiff_t width() const { return 6 * mixtures + kPen; }
};

template <class T>
struct Inputs {
  Sizes sizes;
  Tensor<T> params, target, offset_weight, pen_weight;

  explicit Inputs(const Sizes& given) : sizes(given) {
    Random random(static_cast<std::uint64_t>(31 * given.rows + given.mixtures));
    const auto tensor = [&](std::ptrdiff_t size, double width, double centre) {
      const Tensor<float> values = random.tensor<float>(size, width, centre);
      Tensor<T> widened(size);
      for (std::ptrdiff_t i = 0; i < size; ++i) widened[i] = values[i];
      return widened;
    };
    params = tensor(given.rows * given.width(), 1.5, 0.0);
    target = tensor(given.rows * kTargetWidth, 1.0, 0.0);
    offset_weight = tensor(given.rows, 0.5, 1.0);
    pen_weight = tensor(given.rows, 0.5, 1.0);
    // Rows that do not count, whose parameters are not even numbers.
    for (std::ptrdiff_t row = 1; row < given.rows; row += 5) {
      offset_weight[row] = pen_weight[row] = T{0};
      for (std::ptrdiff_t j = 0; j < given.width(); ++j) params[row * given.width() + j] = NAN;
    }
  }

  Inputs rows(std::ptrdiff_t first, std::ptrdiff_t count) const {
    Inputs part({count, sizes.mixtures});
    const auto copy = [&](const Tensor<T>& from, Tensor<T>& to, std::ptrdiff_t width) {
      for (std::ptrdiff_t i = 0; i < count * width; ++i) to[i] = from[first * width + i];
    };
    copy(params, part.params, sizes.width());
    copy(target, part.target, kTargetWidth);
    copy(offset_weight, part.offset_weight, 1);
    copy(pen_weight, part.pen_weight, 1);
    return part;
  }
};

template <class T>
struct Results {
  Tensor<T> offset, pen, gradient;
};

template <class T>
constexpr int kType = sizeof(T) == 4 ? 0 : 1;

template <class T>
Results<T> run(const Level& level, const Inputs<T>& inputs, int threads, bool gradient = true) {
  const Sizes& s = inputs.sizes;
  Results<T> results{Tensor<T>(s.rows), Tensor<T>(s.rows),
                     Tensor<T>(gradient ? s.rows * s.width() : 0)};
  MixtureDensityCall call{};
  call.rows = s.rows;
  call.mixtures = s.mixtures;
  call.params = inputs.params.data();
  call.target = inputs.target.data();
  call.offset_weight = inputs.offset_weight.data();
  call.pen_weight = inputs.pen_weight.data();
  call.offset = results.offset.data();
  call.pen = results.pen.data();
  call.gradient = gradient ? results.gradient.data() : nullptr;
  call.threads = threads;
  level.mixture_density->forward[kType<T>](call);
  return results;
}

std::string name_of(const Level& level, const Sizes& s) {
  return std::string(level.name) + " mixture_density R=" + std::to_string(s.rows) +
         " K=" + std::to_string(s.mixtures);
}

double sum(const Tensor<double>& values) {
  double total = 0.0;
  for (const double value : values) total += value;
  return total;
}

// One column for all rows at once: the rows are independent, so their slopes add up.
void is_the_derivative(const Level& level, const Inputs<double>& inputs,
                       const Results<double>& found) {
  const Sizes& s = inputs.sizes;
  constexpr double kStep = 1e-5;
  for (std::ptrdiff_t column = 0; column < s.width(); ++column) {
    const auto at = [&](double distance) {
      Inputs<double> moved = inputs;
      for (std::ptrdiff_t row = 0; row < s.rows; ++row) {
        moved.params[row * s.width() + column] += distance;
      }
      const Results<double> results = run(level, moved, 1, false);
      return column < kPen ? sum(results.pen) : sum(results.offset);
    };
    const double slope = (at(kStep) - at(-kStep)) / (2.0 * kStep);
    double gradient = 0.0;
    for (std::ptrdiff_t row = 0; row < s.rows; ++row) {
      gradient += found.gradient[row * s.width() + column];
    }
    require(std::abs(gradient - slope) <= 1e-7 * (1.0 + norm(found.gradient)),
            name_of(level, s) + ": column " + std::to_string(column) + " is off the slope");
  }
}

// The density by its formula, for one row.
double offset_by_definition(const Inputs<double>& inputs, std::ptrdiff_t row) {
  const std::ptrdiff_t K = inputs.sizes.mixtures;
  const double* const of = inputs.params.data() + row * inputs.sizes.width() + kPen;
  const double* const target = inputs.target.data() + row * kTargetWidth;
  double total = 0.0, density = 0.0;
  for (std::ptrdiff_t k = 0; k < K; ++k) total += std::exp(of[k]);
  for (std::ptrdiff_t k = 0; k < K; ++k) {
    const double a = (target[0] - of[K + k]) / std::exp(of[3 * K + k]);
    const double b = (target[1] - of[2 * K + k]) / std::exp(of[4 * K + k]);
    const double rho = std::tanh(of[5 * K + k]), rest = 1.0 - rho * rho;
    const double two_pi = 2.0 * std::acos(-1.0);
    const double peak = two_pi * std::exp(of[3 * K + k] + of[4 * K + k]) * std::sqrt(rest);
    density += std::exp(of[k]) / total *
               std::exp(-(a * a + b * b - 2.0 * rho * a * b) / (2.0 * rest)) / peak;
  }
  return -inputs.offset_weight[row] * std::log(density + 1e-6);
}

double pen_by_definition(const Inputs<double>& inputs, std::ptrdiff_t row) {
  const double* const logits = inputs.params.data() + row * inputs.sizes.width();
  const double* const state = inputs.target.data() + row * kTargetWidth + 2;
  double total = 0.0, loss = 0.0;
  for (int j = 0; j < kPen; ++j) total += std::exp(logits[j]);
  for (int j = 0; j < kPen; ++j) loss -= state[j] * (logits[j] - std::log(total));
  return inputs.pen_weight[row] * loss;
}

template <class T>
void follows_the_definition(const Level& level, const Inputs<double>& inputs,
                            const Results<T>& results) {
  Tensor<double> offset(inputs.sizes.rows), pen(inputs.sizes.rows);
  for (std::ptrdiff_t row = 0; row < inputs.sizes.rows; ++row) {
    const bool counts = inputs.offset_weight[row] != 0.0;
    offset[row] = counts ? offset_by_definition(inputs, row) : 0.0;
    pen[row] = counts ? pen_by_definition(inputs, row) : 0.0;
  }
  const double most = sizeof(T) == 4 ? 2e-6 : 1e-12;
  const std::string claim = name_of(level, inputs.sizes) + " " + type_name<T>();
  require(relative_error(results.offset, offset) <= most, claim + ": the offset loss is off");
  require(relative_error(results.pen, pen) <= most, claim + ": the pen loss is off");
}

template <class T>
void is_whole(const Level& level, const Inputs<T>& inputs, const Results<T>& results) {
  const Sizes& s = inputs.sizes;
  const std::string name = name_of(level, s) + " " + type_name<T>() + ": ";
  require(all_finite(results.offset.data(), s.rows), name + "the offset losses are finite");
  require(all_finite(results.pen.data(), s.rows), name + "the pen losses are finite");
  require(all_finite(results.gradient.data(), results.gradient.size()),
          name + "the gradient is finite");
  for (std::ptrdiff_t row = 0; row < s.rows; ++row) {
    if (inputs.offset_weight[row] != T{0}) continue;
    require(all_zero(results.gradient.data() + row * s.width(), s.width()),
            name + "a row of weight zero has no gradient");
  }
}

template <class T>
void require_same(const Results<T>& one, const Results<T>& other, const std::string& claim) {
  require(same_bits(one.offset, other.offset), claim + ": the offset losses differ");
  require(same_bits(one.pen, other.pen), claim + ": the pen losses differ");
  require(one.gradient.size() == 0 || same_bits(one.gradient, other.gradient),
          claim + ": the gradients differ");
}

template <class T>
void a_row_alone_equals_itself(const Level& level, const Inputs<T>& inputs,
                               const Results<T>& whole) {
  const Sizes& s = inputs.sizes;
  for (std::ptrdiff_t row = 0; row < s.rows; row += 1 + s.rows / 7) {
    const Results<T> part = run(level, inputs.rows(row, 1), 1);
    const std::string claim = name_of(level, s) + " " + type_name<T>() + ": a row alone differs";
    require(part.offset[0] == whole.offset[row] && part.pen[0] == whole.pen[row], claim);
    require(std::memcmp(part.gradient.data(), whole.gradient.data() + row * s.width(),
                        static_cast<std::size_t>(s.width()) * sizeof(T)) == 0,
            claim);
  }
}

template <class T>
void backward_scales(const Level& level, const Inputs<T>& inputs, const Results<T>& results) {
  const Sizes& s = inputs.sizes;
  Random random(7);
  const Tensor<T> grad_offset = random.tensor<T>(s.rows, 1.0);
  const Tensor<T> grad_pen = random.tensor<T>(s.rows, 1.0);
  for (int threads = 1; threads <= 4; ++threads) {
    Tensor<T> grads(s.rows * s.width());
    level.mixture_density->backward[kType<T>]({s.rows, s.mixtures, grad_offset.data(),
                                               grad_pen.data(), results.gradient.data(),
                                               grads.data(), threads});
    for (std::ptrdiff_t i = 0; i < grads.size(); ++i) {
      const std::ptrdiff_t row = i / s.width();
      const T by = i % s.width() < kPen ? grad_pen[row] : grad_offset[row];
      require(grads[i] == by * results.gradient[i],
              name_of(level, s) + ": backward scales the gradient");
    }
  }
}

template <class T>
Results<T> test_sizes(const Level& level, const Sizes& sizes) {
  const Inputs<T> inputs(sizes);
  const Results<T> results = run(level, inputs, 1);
  const std::string name = name_of(level, sizes) + " " + type_name<T>();
  is_whole(level, inputs, results);
  follows_the_definition(level, Inputs<double>(sizes), results);
  require_same(run(level, inputs, 1, false), results, name + " without a gradient");
  for (int threads = 1; threads <= 4; ++threads) {
    require_same(run(level, inputs, threads), results,
                 name + " with " + std::to_string(threads) + " threads");
  }
  a_row_alone_equals_itself(level, inputs, results);
  backward_scales(level, inputs, results);
  return results;
}

}  // namespace

void test_mixture_density(const Level& level) {
  // The largest are enough for four threads.
  const Sizes all[] = {{0, 3}, {1, 1}, {7, 2}, {33, 5}, {300, 20}, {900, 20}};
  for (const Sizes& sizes : all) {
    test_sizes<float>(level, sizes);
    const Results<double> results = test_sizes<double>(level, sizes);
    is_the_derivative(level, Inputs<double>(sizes), results);
  }
}

}  // namespace testing
}  // namespace sketchrnn

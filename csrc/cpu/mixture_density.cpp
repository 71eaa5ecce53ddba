// The op mixture_density on the CPU: the losses of each row and their gradient in one pass.
//
// A row of parameters [6K+3] holds 3 pen logits l and, K of each, mixture logits, means of x and y,
// log σ of x and y, and the correlation c before its tanh. With w_k = e^(logit_k - the largest),
// Z = Σ w_k, log σ kept above -20 and c within ±9, per Gaussian:
//
//   a = (x - mean_x) / σ_x ;  b = (y - mean_y) / σ_y ;  ρ = tanh(c) ;  1/r = 1 / (1 - ρ²) =
//   cosh²(c) N = e^(-[(a - ρ b)² / r + b²] / 2) cosh(c) / (2π σ_x σ_y) offset = -log D,  D = Σ_k
//   w_k N_k / Z + 1e-6
//
// The guards keep N below e^47, which float holds, and what underflows vanishes beside 1e-6: so D
// is summed as it stands, the log-sum-exp of the reference without its logarithms. The gradient,
// with share = w N / (Z D), α = (a - ρ b) / r and β = (b - ρ a) / r:
//
//   by logit     w / Z Σ share - share
//   by mean      -share α / σ_x, -share β / σ_y
//   by log σ     share (1 - a α), share (1 - b β)                      0 beyond the guard
//   by c         -share (ρ + a b - ρ [(a - ρ b)² / r + b²])            0 beyond the guard
//
//   pen = -Σ_i p_i log softmax(l)_i ;  by l    softmax(l) Σ p - p
//
// One row at a time, vectors over its Gaussians: a first walk makes w N and the factors of the
// share and keeps them in scratch, a second multiplies. Vectors run past the end of a column into
// the next one: what they load there is weighted by 0, and what they store there is overwritten, as
// columns are stored in order. Rows at the end, where that would leave the thread's rows, go
// through a padded copy. Logarithms and the pen, three numbers a row, are left to vectors over
// rows.

#include "mixture_density.h"

#include "level.h"
#include "memory.h"
#include "place.h"
#include "vector_math.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {
namespace {

constexpr double kLeastLogSigma = -20.0, kMostCorrelation = 9.0, kEpsilon = 1e-6;
constexpr double kTwoPi = 6.283185307179586;

// Below this many Gaussians a thread costs more than it gives.
constexpr std::ptrdiff_t kGaussiansOfThread = 4096;

int useful_threads(std::ptrdiff_t rows, std::ptrdiff_t mixtures, int threads) {
  const std::ptrdiff_t most = rows * mixtures / kGaussiansOfThread;
  return most < 1 ? 1 : most < threads ? static_cast<int>(most) : threads;
}

// cosh(c) below which |c| is small enough for tanh_small.
constexpr double kSmallCosh = 1.2;

constexpr int kTargetWidth = 5;
constexpr int kPen = 3;

// 0, 1, 2, … in the lanes.
template <class T>
SKETCHRNN_INLINE Vector<T> lane_numbers() {
  Vector<T> numbers{};
  for (int i = 0; i < kLanes<T>; ++i) numbers[i] = static_cast<T>(i);
  return numbers;
}

template <class T>
class Rows {
 public:
  explicit Rows(const MixtureDensityCall& call)
      : mixtures_(call.mixtures),
        width_(6 * call.mixtures + kPen),
        wide_(round_up(call.mixtures, kLanes<T>)),
        params_(static_cast<const T*>(call.params)),
        target_(static_cast<const T*>(call.target)),
        offset_weight_(static_cast<const T*>(call.offset_weight)),
        pen_weight_(static_cast<const T*>(call.pen_weight)),
        offset_(static_cast<T*>(call.offset)),
        pen_(static_cast<T*>(call.pen)),
        gradient_(static_cast<T*>(call.gradient)) {}

  // The elements of scratch that a thread needs.
  static std::ptrdiff_t scratch_size(std::ptrdiff_t mixtures) {
    return kScratch * round_up(mixtures, kLanes<T>) + 2 * padded(6 * mixtures + kPen);
  }

  // Rows first … first + count - 1, count at most one vector, of a thread whose rows end at `end`.
  void run(std::ptrdiff_t first, int count, std::ptrdiff_t end, T* scratch) const {
    T densities[kLanes<T>];  // D of each row; the loss of 1 is 0
    for (int i = 0; i < kLanes<T>; ++i) densities[i] = 1;
    for (int i = 0; i < count; ++i) {
      const std::ptrdiff_t row = first + i;
      if (offset_weight_[row] != T{0}) {
        densities[i] = gaussians(row, end, scratch);
      } else if (gradient_ != nullptr) {
        T* const to = gradient_ + row * width_ + kPen;
        each_vector<T>(width_ - kPen,
                       [&](std::ptrdiff_t j, auto lanes) { store(to + j, Vector<T>{}, lanes); });
      }
    }
    const Part rows{count};
    const Vector<T> weight = load(offset_weight_ + first, rows);
    const Vector<T> loss = -weight * log_vector<T>(load(densities));
    store(offset_ + first, select<T>(weight == T{0}, Vector<T>{}, loss), rows);
    pen(first, count);
  }

 private:
  // The columns of a row, and what the scratch holds of a row, each `wide_` elements.
  enum Column { kLogit, kMeanX, kMeanY, kLogSigmaX, kLogSigmaY, kCorrelation };
  enum Term { kW, kWN, kByMeanX, kByMeanY, kByLogSigmaX, kByLogSigmaY, kByCorrelation, kScratch };

  static std::ptrdiff_t padded(std::ptrdiff_t width) {
    return round_up(width + kLanes<T>, kLanes<T>);
  }

  // Whether vectors that start within the row end before the thread's last row does.
  bool has_room(std::ptrdiff_t row, std::ptrdiff_t end) const {
    return (end - 1 - row) * width_ >= kLanes<T> - 1;
  }

  // D of a row, and the columns of its gradient.
  T gaussians(std::ptrdiff_t row, std::ptrdiff_t end, T* scratch) const {
    const T* params = params_ + row * width_;
    T* gradient = gradient_ == nullptr ? nullptr : gradient_ + row * width_;
    if (has_room(row, end)) return gaussians_of(row, params, gradient, scratch);
    T* const copy = scratch + kScratch * wide_;
    T* const result = copy + padded(width_);
    for (std::ptrdiff_t j = 0; j < width_; ++j) copy[j] = params[j];
    const T density = gaussians_of(row, copy, gradient == nullptr ? nullptr : result, scratch);
    if (gradient != nullptr) {
      for (std::ptrdiff_t j = kPen; j < width_; ++j) gradient[j] = result[j];
    }
    return density;
  }

  T gaussians_of(std::ptrdiff_t row, const T* params, T* gradient, T* scratch) const {
    const std::ptrdiff_t K = mixtures_;
    const T* const columns = params + kPen;
    const Vector<T> x = broadcast<T>(target_[row * kTargetWidth]);
    const Vector<T> y = broadcast<T>(target_[row * kTargetWidth + 1]);

    Vector<T> most = broadcast<T>(-static_cast<T>(__builtin_inf()));
    for (std::ptrdiff_t k = 0; k < K; k += kLanes<T>) {
      const Vector<T> logit = load(columns + k);
      most = select<T>((logit > most) & present(k), logit, most);
    }
    const Vector<T> largest = broadcast<T>(maximum<T>(most));

    Vector<T> sum_w{}, sum_wn{};
    for (std::ptrdiff_t k = 0; k < K; k += kLanes<T>) {
      const Integers<T> here = present(k);
      const T* const at = columns + k;
      const Vector<T> w =
          select<T>(here, exp_vector<T>(load(at + kLogit * K) - largest), Vector<T>{});
      const Guarded log_sigma_x = guard_sigma(load(at + kLogSigmaX * K));
      const Guarded log_sigma_y = guard_sigma(load(at + kLogSigmaY * K));
      const Guarded correlation = guard_correlation(load(at + kCorrelation * K));
      const Vector<T> by_sigma_x = exp_vector<T>(-log_sigma_x.value);
      const Vector<T> by_sigma_y = exp_vector<T>(-log_sigma_y.value);
      const Vector<T> e = exp_vector<T>(correlation.value);
      const Vector<T> by_e = T{1} / e;
      const Vector<T> cosh = T{0.5} * (e + by_e), sinh = T{0.5} * (e - by_e);
      const Vector<T> rho =
          select<T>(cosh < static_cast<T>(kSmallCosh), tanh_small(correlation.value), sinh / cosh);
      const Vector<T> by_r = cosh * cosh;
      const Vector<T> a = (x - load(at + kMeanX * K)) * by_sigma_x;
      const Vector<T> b = (y - load(at + kMeanY * K)) * by_sigma_y;
      const Vector<T> across = a - rho * b;
      const Vector<T> by_a = across * by_r;
      const Vector<T> distance = across * by_a + b * b;
      const Vector<T> wn =
          select<T>(here, w * (by_sigma_x * by_sigma_y * cosh) * exp_vector<T>(T{-0.5} * distance),
                    Vector<T>{});
      sum_w += w;
      sum_wn += wn;
      if (gradient != nullptr) {
        const Vector<T> by_b = (b - rho * a) * by_r;
        T* const keep = scratch + k;
        store(keep + kW * wide_, w);
        store(keep + kWN * wide_, wn);
        store(keep + kByMeanX * wide_, -by_a * by_sigma_x);
        store(keep + kByMeanY * wide_, -by_b * by_sigma_y);
        store(keep + kByLogSigmaX * wide_, (T{1} - a * by_a) * log_sigma_x.inside);
        store(keep + kByLogSigmaY * wide_, (T{1} - b * by_b) * log_sigma_y.inside);
        store(keep + kByCorrelation * wide_, (rho * distance - a * b - rho) * correlation.inside);
      }
    }
    const T total_w = sum<T>(sum_w);
    const T norm = T{1} / (static_cast<T>(kTwoPi) * total_w);
    const T mixture = sum<T>(sum_wn) * norm;
    const T density = mixture + static_cast<T>(kEpsilon);
    if (gradient != nullptr) {
      const T by_density = offset_weight_[row] / density;
      multiply(by_density * norm, by_density * mixture / total_w, scratch, gradient + kPen);
    }
    return density;
  }

  // The gradient from the terms: share = share_of_wn w N, and pi_of_w w is the logits' first term;
  // both have the row's weight in them.
  void multiply(T share_of_wn, T pi_of_w, const T* scratch, T* columns) const {
    const std::ptrdiff_t K = mixtures_;
    for (std::ptrdiff_t k = 0; k < K; k += kLanes<T>) {
      const T* const kept = scratch + k;
      store(columns + k,
            pi_of_w * load(kept + kW * wide_) - share_of_wn * load(kept + kWN * wide_));
    }
    for (int term = kByMeanX; term < kScratch; ++term) {
      T* const column = columns + (term - kByMeanX + kMeanX) * K;
      for (std::ptrdiff_t k = 0; k < K; k += kLanes<T>) {
        const Vector<T> share = share_of_wn * load(scratch + kWN * wide_ + k);
        // Where the share is 0, the factor may have overflowed.
        const Vector<T> product = share * load(scratch + term * wide_ + k);
        store(column + k, select<T>(share == T{0}, Vector<T>{}, product));
      }
    }
  }

  // All bits set in the lanes of Gaussians k, k + 1, … that there are.
  Integers<T> present(std::ptrdiff_t k) const {
    return lane_numbers<T>() < static_cast<T>(mixtures_ - k);
  }

  // A parameter kept within its guard; `inside` is 1 where it already was, else 0.
  struct Guarded {
    Vector<T> value, inside;
  };

  // NaN passes the comparisons of both.
  SKETCHRNN_INLINE static Guarded guard_sigma(Vector<T> log_sigma) {
    const Vector<T> least = broadcast<T>(static_cast<T>(kLeastLogSigma));
    const Integers<T> beyond = log_sigma < least;
    return {select<T>(beyond, least, log_sigma), select<T>(beyond, Vector<T>{}, broadcast<T>(1))};
  }

  SKETCHRNN_INLINE static Guarded guard_correlation(Vector<T> correlation) {
    const Vector<T> most = broadcast<T>(static_cast<T>(kMostCorrelation));
    const Integers<T> above = correlation > most, below = correlation < -most;
    return {select<T>(above, most, select<T>(below, -most, correlation)),
            select<T>(above | below, Vector<T>{}, broadcast<T>(1))};
  }

  // The pen's loss and gradient of so many rows, a row a lane.
  void pen(std::ptrdiff_t first, int count) const {
    T logits[kPen][kLanes<T>] = {}, states[kPen][kLanes<T>] = {};
    for (int i = 0; i < count; ++i) {
      const std::ptrdiff_t row = first + i;
      if (pen_weight_[row] == T{0}) continue;
      for (int j = 0; j < kPen; ++j) {
        logits[j][i] = params_[row * width_ + j];
        states[j][i] = target_[row * kTargetWidth + 2 + j];
      }
    }
    Vector<T> most = load(logits[0]);
    for (int j = 1; j < kPen; ++j) most = select<T>(load(logits[j]) > most, load(logits[j]), most);
    Vector<T> total{}, exps[kPen];
    for (int j = 0; j < kPen; ++j) {
      exps[j] = exp_vector<T>(load(logits[j]) - most);
      total += exps[j];
    }
    const Part rows{count};
    const Vector<T> weight = load(pen_weight_ + first, rows);
    const Vector<T> log_total = log_vector<T>(total), of_total = T{1} / total;
    Vector<T> loss{}, states_sum{};
    for (int j = 0; j < kPen; ++j) {
      loss += load(states[j]) * (log_total + (most - load(logits[j])));
      states_sum += load(states[j]);
    }
    store(pen_ + first, weight * loss, rows);
    if (gradient_ == nullptr) return;
    for (int j = 0; j < kPen; ++j) {
      T by_logit[kLanes<T>];
      store(by_logit, weight * (exps[j] * of_total * states_sum - load(states[j])));
      for (int i = 0; i < count; ++i) gradient_[(first + i) * width_ + j] = by_logit[i];
    }
  }

  std::ptrdiff_t mixtures_, width_, wide_;
  const T *params_, *target_, *offset_weight_, *pen_weight_;
  T *offset_, *pen_, *gradient_;
};

// body(first row, end row, thread) for each thread's rows, whole vectors of rows but for the last.
template <class T, class Body>
void share_rows(std::ptrdiff_t rows, int threads, Body& body) {
  struct Context {
    std::ptrdiff_t rows;
    Body* body;
  } context{rows, &body};
  parallel(
      threads,
      [](void* given, int thread, int count) {
        const Context& the = *static_cast<Context*>(given);
        const Range mine = part_of(round_up(the.rows, kLanes<T>) / kLanes<T>, thread, count);
        const std::ptrdiff_t end = mine.end * kLanes<T>;
        (*the.body)(mine.begin* kLanes<T>, end < the.rows ? end : the.rows, thread);
      },
      &context);
}

template <class T>
void forward(const MixtureDensityCall& call) {
  const Rows<T> rows(call);
  const int threads = useful_threads(call.rows, call.mixtures, call.threads);
  Arena arena;
  // A cache line between the threads' pieces.
  const std::ptrdiff_t piece =
      round_up(Rows<T>::scratch_size(call.mixtures), 64 / static_cast<int>(sizeof(T)));
  T* const scratch =
      static_cast<T*>(arena.take(static_cast<std::size_t>(piece * threads) * sizeof(T)));
  auto body = [&](std::ptrdiff_t first, std::ptrdiff_t end, int thread) {
    for (std::ptrdiff_t row = first; row < end; row += kLanes<T>) {
      const std::ptrdiff_t count = end - row < kLanes<T> ? end - row : kLanes<T>;
      rows.run(row, static_cast<int>(count), end, scratch + thread * piece);
    }
  };
  share_rows<T>(call.rows, threads, body);
}

template <class T>
void backward(const MixtureDensityBackwardCall& call) {
  const std::ptrdiff_t width = 6 * call.mixtures + kPen;
  auto body = [&](std::ptrdiff_t first, std::ptrdiff_t end, int) {
    for (std::ptrdiff_t row = first; row < end; ++row) {
      const T* const from = static_cast<const T*>(call.gradient) + row * width;
      T* const to = static_cast<T*>(call.grad_params) + row * width;
      const T of_pen = static_cast<const T*>(call.grad_pen)[row];
      const T of_offset = static_cast<const T*>(call.grad_offset)[row];
      for (int j = 0; j < kPen; ++j) to[j] = of_pen * from[j];
      each_vector<T>(width - kPen, [&](std::ptrdiff_t j, auto lanes) {
        store(to + kPen + j, of_offset * load(from + kPen + j, lanes), lanes);
      });
    }
  };
  share_rows<T>(call.rows, useful_threads(call.rows, call.mixtures, call.threads), body);
}

}  // namespace

extern const MixtureDensityKernels mixture_density_kernels = {
    {forward<float>, forward<double>},
    {backward<float>, backward<double>},
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

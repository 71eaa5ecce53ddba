// The op mixture_density on the CPU: the losses of each row and their gradient in one pass.
//
// A row of parameters [6K+3] holds 3 pen logits l and, K of each, mixture logits, means of x and y,
// log σ of x and y, and the correlation c before its tanh. With w_k = e^(logit_k - the largest),
// Z = Σ w_k, log σ kept above -20 and c within ±9, per Gaussian:
//
//   a = (x - mean_x) / σ_x ;  b = (y - mean_y) / σ_y ;  ρ = tanh(c) ;  1/r = cosh²(c)
//   q = (a - ρ b)² / r + b² ;  N = e^(-q/2) cosh(c) / (2π σ_x σ_y)
//   offset = -log D,  D = Σ_k w_k N_k / Z + 1e-6
//
// The guards keep N below e^47, which float holds, and what underflows vanishes beside 1e-6: so D
// is summed as it stands, the log-sum-exp of the reference without its logarithms. The gradient,
// with share = w N / (Z D), α = (a - ρ b) / r and β = (b - ρ a) / r:
//
//   by logit     w / Z Σ share - share
//   by mean      -share α / σ_x, -share β / σ_y
//   by log σ     share (1 - a α), share (1 - b β)      0 beyond the guard
//   by c         -share (ρ + a b - ρ q)                0 beyond the guard
//
//   pen = -Σ_i p_i log softmax(l)_i ;  by l    softmax(l) Σ p - p
//
// As many rows as a vector has lanes go together, a row in each lane: their columns are transposed
// into scratch, [columns][lanes], where one walk over the Gaussians makes w, w N and the factors of
// the share, and a second the gradient, each in its column's place; then they are transposed back.
// So no lane is idle whatever K is, nothing is summed across lanes, and a row's results do not
// depend on its neighbours. Rows of weight 0 are left out before: what they cost is writing zeros.

#include "mixture_density.h"

#include <cstdint>

#include "denormals.h"
#include "level.h"
#include "memory.h"
#include "place.h"
#include "transpose.h"
#include "vector_math.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {
namespace {

constexpr double kLeastLogSigma = -20.0, kMostCorrelation = 9.0, kEpsilon = 1e-6;
constexpr double kTwoPi = 6.283185307179586;
// cosh(c) below which |c| is small enough for tanh_small.
constexpr double kSmallCosh = 1.2;

constexpr int kTargetWidth = 5;
constexpr int kPen = 3;
constexpr int kColumns = 6;  // of each Gaussian

// Rows that are gone through together, so that they are still in the cache when their pens are
// done.
constexpr int kChunk = 256;

// Below this many Gaussians a thread costs more than it gives.
constexpr std::ptrdiff_t kGaussiansOfThread = 4096;

int useful_threads(std::ptrdiff_t rows, std::ptrdiff_t mixtures, int threads) {
  const std::ptrdiff_t most = rows * mixtures / kGaussiansOfThread;
  return most < 1 ? 1 : most < threads ? static_cast<int>(most) : threads;
}

// body(first row, end row, thread) for each thread's rows.
template <class Body>
void share_rows(std::ptrdiff_t rows, int threads, Body& body) {
  struct Context {
    std::ptrdiff_t rows;
    Body* body;
  } context{rows, &body};
  parallel(
      threads,
      [](void* given, int thread, int count) {
        const Context& the = *static_cast<Context*>(given);
        const Range mine = part_of(the.rows, thread, count);
        (*the.body)(mine.begin, mine.end, thread);
      },
      &context);
}

// A parameter kept within its guard; `inside` is 1 where it already was, else 0. NaN passes.
template <class T>
struct Guarded {
  Vector<T> value, inside;
};

template <class T>
SKETCHRNN_INLINE Guarded<T> guard_sigma(Vector<T> log_sigma) {
  const Vector<T> least = broadcast(static_cast<T>(kLeastLogSigma));
  const Integers<T> beyond = log_sigma < least;
  return {select<T>(beyond, least, log_sigma), select<T>(beyond, Vector<T>{}, broadcast<T>(1))};
}

template <class T>
SKETCHRNN_INLINE Guarded<T> guard_correlation(Vector<T> correlation) {
  const Vector<T> most = broadcast(static_cast<T>(kMostCorrelation));
  const Integers<T> above = correlation > most, below = correlation < -most;
  return {select<T>(above, most, select<T>(below, -most, correlation)),
          select<T>(above | below, Vector<T>{}, broadcast<T>(1))};
}

// What the gradient is made of: a Gaussian's weight, and its share's factors by column.
template <class T>
struct Terms {
  Vector<T> w, wn;
  Vector<T> by_mean_x, by_mean_y, by_log_sigma_x, by_log_sigma_y, by_correlation;
};

// One Gaussian of each row. Parameters in the order of the columns, the first the logit less the
// row's largest.
template <class T>
SKETCHRNN_INLINE Terms<T> gaussian(const Vector<T> (&params)[kColumns], Vector<T> x, Vector<T> y) {
  const Guarded<T> log_sigma_x = guard_sigma<T>(params[3]);
  const Guarded<T> log_sigma_y = guard_sigma<T>(params[4]);
  const Guarded<T> correlation = guard_correlation<T>(params[5]);
  const Vector<T> by_sigma_x = exp_flushed<T>(-log_sigma_x.value);
  const Vector<T> by_sigma_y = exp_flushed<T>(-log_sigma_y.value);
  const Vector<T> e = exp_flushed<T>(correlation.value), by_e = T{1} / e;
  const Vector<T> cosh = T{0.5} * (e + by_e), sinh = T{0.5} * (e - by_e);
  const Vector<T> rho =
      select<T>(cosh < static_cast<T>(kSmallCosh), tanh_small(correlation.value), sinh / cosh);
  const Vector<T> by_r = cosh * cosh;
  const Vector<T> a = (x - params[1]) * by_sigma_x;
  const Vector<T> b = (y - params[2]) * by_sigma_y;
  const Vector<T> across = a - rho * b;
  const Vector<T> alpha = across * by_r, beta = (b - rho * a) * by_r;
  const Vector<T> distance = across * alpha + b * b;
  const Vector<T> w = exp_flushed<T>(params[0]);
  const Vector<T> peak = by_sigma_x * by_sigma_y * cosh * static_cast<T>(1 / kTwoPi);
  return {w,
          w * peak * exp_flushed<T>(T{-0.5} * distance),
          -alpha * by_sigma_x,
          -beta * by_sigma_y,
          (T{1} - a * alpha) * log_sigma_x.inside,
          (T{1} - b * beta) * log_sigma_y.inside,
          (rho * distance - a * b - rho) * correlation.inside};
}

// Asks for memory piece by piece while the arithmetic runs: the processor does not foresee as many
// strands as rows are read at once. Addresses may lie past the end of an array; none is a null one.
class Ahead {
 public:
  explicit Ahead(const void* from) : address_(reinterpret_cast<std::uintptr_t>(from)) {}

  SKETCHRNN_INLINE void fetch(std::uintptr_t bytes) {
    if (address_ == 0) return;
    for (std::uintptr_t line = 0; line < bytes; line += 64) {
      __builtin_prefetch(reinterpret_cast<const void*>(address_ + line));
    }
    address_ += bytes;
  }

 private:
  std::uintptr_t address_;
};

// The rows of a call.
template <class T>
class Rows {
 public:
  explicit Rows(const MixtureDensityCall& call)
      : mixtures_(call.mixtures),
        width_(kColumns * call.mixtures + kPen),
        params_(static_cast<const T*>(call.params)),
        target_(static_cast<const T*>(call.target)),
        offset_weight_(static_cast<const T*>(call.offset_weight)),
        pen_weight_(static_cast<const T*>(call.pen_weight)),
        offset_(static_cast<T*>(call.offset)),
        pen_(static_cast<T*>(call.pen)),
        gradient_(static_cast<T*>(call.gradient)) {}

  // Elements of scratch: the columns of the Gaussians, and w.
  static std::ptrdiff_t scratch_size(std::ptrdiff_t mixtures) {
    return (kColumns + 1) * mixtures * kLanes<T>;
  }

  void run(std::ptrdiff_t first, std::ptrdiff_t end, T* scratch) const {
    for (std::ptrdiff_t row = first; row < end; row += kChunk) {
      const std::ptrdiff_t chunk_end = row + kChunk < end ? row + kChunk : end;
      offsets_of(row, chunk_end, scratch);
      for (std::ptrdiff_t of_pen = row; of_pen < chunk_end; of_pen += kLanes<T>) {
        pens(of_pen, lanes_of(chunk_end - of_pen));
      }
    }
  }

 private:
  void clear(std::ptrdiff_t row) const {
    offset_[row] = 0;
    if (gradient_ == nullptr) return;
    T* const to = gradient_ + row * width_ + kPen;
    each_vector<T>(width_ - kPen,
                   [&](std::ptrdiff_t j, auto lanes) { store(to + j, Vector<T>{}, lanes); });
  }

  static int lanes_of(std::ptrdiff_t rows) {
    return static_cast<int>(rows < kLanes<T> ? rows : kLanes<T>);
  }

  void offsets_of(std::ptrdiff_t first, std::ptrdiff_t end, T* scratch) const {
    std::ptrdiff_t rows[kChunk];
    std::ptrdiff_t count = 0;
    for (std::ptrdiff_t row = first; row < end; ++row) {
      if (offset_weight_[row] == T{0}) {
        clear(row);
      } else {
        rows[count++] = row;
      }
    }
    for (std::ptrdiff_t i = 0; i < count; i += kLanes<T>) {
      offsets(rows + i, lanes_of(count - i), scratch);
    }
  }

  // The offset losses of `count` rows, at most a vector, and their columns of the gradient.
  void offsets(const std::ptrdiff_t* rows, int count, T* scratch) const {
    const T* from[kLanes<T>];
    T* to[kLanes<T>];
    T x[kLanes<T>], y[kLanes<T>], weight[kLanes<T>], loss[kLanes<T>];
    for (int i = 0; i < kLanes<T>; ++i) {
      const std::ptrdiff_t row = rows[i < count ? i : 0];  // idle lanes do the first row again
      from[i] = params_ + row * width_ + kPen;
      to[i] = gradient_ == nullptr ? nullptr : gradient_ + row * width_ + kPen;
      x[i] = target_[row * kTargetWidth];
      y[i] = target_[row * kTargetWidth + 1];
      weight[i] = offset_weight_[row];
    }
    rows_to_lanes(from, width_ - kPen, scratch);
    const Ahead next(from[count - 1] + width_ - kPen), result(to[0]);
    const Sums sums = first_walk(load(x), load(y), scratch, next, result);
    const Vector<T> mixture = sums.wn / sums.w;
    const Vector<T> density = mixture + static_cast<T>(kEpsilon);
    store(loss, -load(weight) * log_vector<T>(density));
    for (int i = 0; i < count; ++i) offset_[rows[i]] = loss[i];
    if (gradient_ == nullptr) return;
    const Vector<T> share_of_wn = load(weight) / (density * sums.w);
    second_walk(share_of_wn, share_of_wn * mixture, scratch);
    lanes_to_rows(scratch, width_ - kPen, to, count);
  }

  struct Sums {
    Vector<T> w, wn;
  };

  // Where a column of Gaussian k is; column 6 is w.
  T* at(T* scratch, int column, std::ptrdiff_t k) const {
    return scratch + (column * mixtures_ + k) * kLanes<T>;
  }

  // Sums of w and w N over the Gaussians; what follows these rows, and the place of their result,
  // are fetched meanwhile. The scratch gets w N in the place of the logits, and the factors of the
  // share in the place of the other parameters.
  Sums first_walk(Vector<T> x, Vector<T> y, T* scratch, Ahead next, Ahead result) const {
    Vector<T> largest = load(at(scratch, 0, 0));
    for (std::ptrdiff_t k = 1; k < mixtures_; ++k) {
      const Vector<T> logit = load(at(scratch, 0, k));
      largest = select<T>(logit > largest, logit, largest);
    }
    Sums sums{};
    for (std::ptrdiff_t k = 0; k < mixtures_; ++k) {
      Vector<T> params[kColumns];
      for (int c = 0; c < kColumns; ++c) params[c] = load(at(scratch, c, k));
      params[0] -= largest;
      next.fetch(kColumns * kVectorBytes);
      result.fetch(kColumns * kVectorBytes);
      const Terms<T> terms = gaussian<T>(params, x, y);
      sums.w += terms.w;
      sums.wn += terms.wn;
      store(at(scratch, 0, k), terms.wn);
      store(at(scratch, 1, k), terms.by_mean_x);
      store(at(scratch, 2, k), terms.by_mean_y);
      store(at(scratch, 3, k), terms.by_log_sigma_x);
      store(at(scratch, 4, k), terms.by_log_sigma_y);
      store(at(scratch, 5, k), terms.by_correlation);
      store(at(scratch, 6, k), terms.w);
    }
    return sums;
  }

  // The gradient in its columns' places: with the row's weight in them, share_of_wn w N is the
  // share and pi_of_w w the logits' first term.
  void second_walk(Vector<T> share_of_wn, Vector<T> pi_of_w, T* scratch) const {
    for (std::ptrdiff_t k = 0; k < mixtures_; ++k) {
      const Vector<T> share = share_of_wn * load(at(scratch, 0, k));
      store(at(scratch, 0, k), pi_of_w * load(at(scratch, 6, k)) - share);
      // Where the share is 0, the factor may have overflowed.
      const Integers<T> none = share == T{0};
      for (int c = 1; c < kColumns; ++c) {
        const Vector<T> product = share * load(at(scratch, c, k));
        store(at(scratch, c, k), select<T>(none, Vector<T>{}, product));
      }
    }
  }

  // The pen loss of up to a vector of rows, and its columns of the gradient.
  void pens(std::ptrdiff_t first, int count) const {
    T logits[kPen][kLanes<T>] = {}, states[kPen][kLanes<T>] = {}, weight[kLanes<T>] = {};
    bool any = false;
    for (int i = 0; i < count; ++i) {
      const std::ptrdiff_t row = first + i;
      if (pen_weight_[row] == T{0}) continue;
      any = true;
      weight[i] = pen_weight_[row];
      for (int j = 0; j < kPen; ++j) {
        logits[j][i] = params_[row * width_ + j];
        states[j][i] = target_[row * kTargetWidth + 2 + j];
      }
    }
    T loss[kLanes<T>] = {}, by_logit[kPen][kLanes<T>] = {};
    if (any) pens_of(logits, states, load(weight), loss, by_logit);
    for (int i = 0; i < count; ++i) {
      pen_[first + i] = loss[i];
      if (gradient_ == nullptr) continue;
      for (int j = 0; j < kPen; ++j) gradient_[(first + i) * width_ + j] = by_logit[j][i];
    }
  }

  static void pens_of(const T (&logits)[kPen][kLanes<T>], const T (&states)[kPen][kLanes<T>],
                      Vector<T> weight, T (&loss)[kLanes<T>], T (&by_logit)[kPen][kLanes<T>]) {
    Vector<T> largest = load(logits[0]);
    for (int j = 1; j < kPen; ++j) {
      largest = select<T>(load(logits[j]) > largest, load(logits[j]), largest);
    }
    Vector<T> exps[kPen], total{}, states_sum{};
    for (int j = 0; j < kPen; ++j) {
      exps[j] = exp_flushed<T>(load(logits[j]) - largest);
      total += exps[j];
      states_sum += load(states[j]);
    }
    const Vector<T> log_total = log_vector<T>(total), softmax_factor = states_sum / total;
    Vector<T> entropy{};
    for (int j = 0; j < kPen; ++j) {
      entropy += load(states[j]) * (log_total + (largest - load(logits[j])));
      store(by_logit[j], weight * (exps[j] * softmax_factor - load(states[j])));
    }
    store(loss, weight * entropy);
  }

  std::ptrdiff_t mixtures_, width_;
  const T *params_, *target_, *offset_weight_, *pen_weight_;
  T *offset_, *pen_, *gradient_;
};

template <class T>
void forward(const MixtureDensityCall& call) {
  const Rows<T> rows(call);
  const int threads = useful_threads(call.rows, call.mixtures, call.threads);
  Arena arena;
  const std::ptrdiff_t piece = Rows<T>::scratch_size(call.mixtures);
  auto* const scratch =
      static_cast<T*>(arena.take(static_cast<std::size_t>(piece * threads) * sizeof(T)));
  auto body = [&](std::ptrdiff_t first, std::ptrdiff_t end, int thread) {
    const DenormalsAsZeros scope;
    rows.run(first, end, scratch + thread * piece);
  };
  share_rows(call.rows, threads, body);
}

template <class T>
void backward(const MixtureDensityBackwardCall& call) {
  const std::ptrdiff_t width = kColumns * call.mixtures + kPen;
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
  share_rows(call.rows, useful_threads(call.rows, call.mixtures, call.threads), body);
}

}  // namespace

extern const MixtureDensityKernels mixture_density_kernels = {
    {forward<float>, forward<double>},
    {backward<float>, backward<double>},
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// exp, log, tanh and the logistic function of a vector, for float and double.
//
// Errors over the whole range, tested in tests/test_native_math.py: at most 2 units in the last
// place or 1e-6 absolute for float, 4 units or 1e-15 for double. NaN gives NaN.
//
// exp reduces x = n ln 2 + r with |r| <= ln 2 / 2, and scales by 2^n in two steps, so that results
// reach into the denormal numbers and to infinity. The polynomials and rational functions are those
// of Moshier's Cephes library (expf, exp, logf, tanhf, tanh).

#pragma once

#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// 2^n for lanes n within the normal exponents.
SKETCHRNN_INLINE Vector<float> power_of_two(Integers<float> n) {
  return reinterpret_cast<Vector<float>>((n + 127) << 23);
}

SKETCHRNN_INLINE Vector<double> power_of_two(Integers<double> n) {
  return reinterpret_cast<Vector<double>>((n + 1023) << 52);
}

// Adding 1.5 * 2^(mantissa bits) rounds to an integer, and leaves it in the low bits.
constexpr float kRounding(float) { return 12582912.0f; }
constexpr double kRounding(double) { return 6755399441055744.0; }

template <class T>
SKETCHRNN_INLINE Vector<T> scale_by_power(Vector<T> value, Integers<T> n) {
  const Integers<T> half = n >> 1;
  return value * power_of_two(half) * power_of_two(n - half);
}

// e^r for |r| <= ln 2 / 2.
SKETCHRNN_INLINE Vector<float> exp_reduced(Vector<float> r) {
  Vector<float> p = 1.9875691500e-4f * r + 1.3981999507e-3f;
  p = p * r + 8.3334519073e-3f;
  p = p * r + 4.1665795894e-2f;
  p = p * r + 1.6666665459e-1f;
  p = p * r + 5.0000001201e-1f;
  return p * (r * r) + r + 1.0f;
}

SKETCHRNN_INLINE Vector<double> exp_reduced(Vector<double> r) {
  const Vector<double> square = r * r;
  Vector<double> p = 1.26177193074810590878e-4 * square + 3.02994407707441961300e-2;
  p = (p * square + 9.99999999999999999910e-1) * r;
  Vector<double> q = 3.00198505138664455042e-6 * square + 2.52448340349684104192e-3;
  q = q * square + 2.27265548208155028766e-1;
  q = q * square + 2.00000000000000000005;
  return 1.0 + 2.0 * (p / (q - p));
}

struct Float {
  static constexpr float log2_e = 1.44269504088896341f;
  static constexpr float ln2_high = 0.693359375f, ln2_low = -2.12194440e-4f;
  static constexpr float least_exp = -104.0f, most_exp = 89.0f;  // 0 and infinity beyond
  static constexpr float least_normal_exp = -87.0f;
  static constexpr float least_normal = 1.17549435e-38f;
  static constexpr std::int32_t root_half_bits = 0x3f3504f3;  // of the float next to sqrt(1/2)
  static constexpr int mantissa_bits = 23;
};

struct Double {
  static constexpr double log2_e = 1.4426950408889634073599;
  static constexpr double ln2_high = 6.93145751953125e-1, ln2_low = 1.42860682030941723212e-6;
  static constexpr double least_exp = -746.0, most_exp = 710.0;
  static constexpr double least_normal_exp = -708.0;
  static constexpr double least_normal = 2.2250738585072014e-308;
  static constexpr std::int64_t root_half_bits = 0x3fe6a09e667f3bcd;
  static constexpr int mantissa_bits = 52;
};

template <class T>
struct ConstantsOf;
template <>
struct ConstantsOf<float> {
  using type = Float;
};
template <>
struct ConstantsOf<double> {
  using type = Double;
};

// x = n ln 2 + r; x within the range of exp.
template <class T>
struct ExpParts {
  Vector<T> r;
  Integers<T> n;
};

template <class T>
SKETCHRNN_INLINE ExpParts<T> split_exp(Vector<T> x) {
  using C = typename ConstantsOf<T>::type;
  const Vector<T> shifted = x * C::log2_e + kRounding(T{});
  const Vector<T> n = shifted - kRounding(T{});
  const Integers<T> bits = reinterpret_cast<Integers<T>>(shifted) -
                           reinterpret_cast<Integers<T>>(broadcast<T>(kRounding(T{})));
  return {x - n * C::ln2_high - n * C::ln2_low, bits};
}

template <class T>
SKETCHRNN_INLINE Vector<T> exp_vector(Vector<T> x) {
  using C = typename ConstantsOf<T>::type;
  // In this order of comparison NaN passes both.
  x = select<T>(x < C::least_exp, broadcast<T>(C::least_exp), x);
  x = select<T>(x > C::most_exp, broadcast<T>(C::most_exp), x);
  const ExpParts<T> parts = split_exp<T>(x);
  return scale_by_power<T>(exp_reduced(parts.r), parts.n);
}

// e^x, with 0 for results that would be denormal and anything for x > 88: two thirds of
// exp_vector's work.
template <class T>
SKETCHRNN_INLINE Vector<T> exp_flushed(Vector<T> x) {
  using C = typename ConstantsOf<T>::type;
  const ExpParts<T> parts = split_exp<T>(x);
  const Vector<T> value = exp_reduced(parts.r) * power_of_two(parts.n);
  return select<T>(x < C::least_normal_exp, Vector<T>{}, value);
}

// log(1 + x) - x for sqrt(1/2) <= 1 + x <= sqrt(2).
SKETCHRNN_INLINE Vector<float> log_reduced(Vector<float> x) {
  const Vector<float> square = x * x;
  Vector<float> p = 7.0376836292e-2f * x - 1.1514610310e-1f;
  p = p * x + 1.1676998740e-1f;
  p = p * x - 1.2420140846e-1f;
  p = p * x + 1.4249322787e-1f;
  p = p * x - 1.6668057665e-1f;
  p = p * x + 2.0000714765e-1f;
  p = p * x - 2.4999993993e-1f;
  p = p * x + 3.3333331174e-1f;
  return p * x * square - 0.5f * square;
}

SKETCHRNN_INLINE Vector<double> log_reduced(Vector<double> x) {
  const Vector<double> square = x * x;
  Vector<double> p = 1.01875663804580931796e-4 * x + 4.97494994976747001425e-1;
  p = p * x + 4.70579119878881725854;
  p = p * x + 1.44989225341610930846e1;
  p = p * x + 1.79368678507819816313e1;
  p = p * x + 7.70838733755885391666;
  Vector<double> q = x + 1.12873587189167450590e1;
  q = q * x + 4.52279145837532221105e1;
  q = q * x + 8.29875266912776603211e1;
  q = q * x + 7.11544750618563894466e1;
  q = q * x + 2.31251620126765340583e1;
  return x * (square * p / q) - 0.5 * square;
}

// log(x); -infinity for 0, NaN below.
template <class T>
SKETCHRNN_INLINE Vector<T> log_vector(Vector<T> x) {
  using C = typename ConstantsOf<T>::type;
  const Integers<T> denormal = x < C::least_normal;
  constexpr int kShift = C::mantissa_bits + 1;
  const Vector<T> normal = select<T>(denormal, x * static_cast<T>(std::int64_t{1} << kShift), x);
  // x = 2^n m with m between sqrt(1/2) and sqrt(2).
  const Integers<T> bits = reinterpret_cast<Integers<T>>(normal) - C::root_half_bits;
  const Integers<T> exponent = bits >> C::mantissa_bits;
  const Integers<T> mantissa = bits - (exponent << C::mantissa_bits) + C::root_half_bits;
  const Vector<T> r = reinterpret_cast<Vector<T>>(mantissa) - T{1};
  const Vector<T> shifted = reinterpret_cast<Vector<T>>(
      exponent + reinterpret_cast<Integers<T>>(broadcast<T>(kRounding(T{}))));
  const Vector<T> n =
      shifted - kRounding(T{}) - select<T>(denormal, broadcast<T>(kShift), Vector<T>{});
  const Vector<T> log = r + (log_reduced(r) + n * C::ln2_low) + n * C::ln2_high;
  const Vector<T> infinity = broadcast<T>(static_cast<T>(__builtin_inf()));
  const Vector<T> nan = broadcast<T>(static_cast<T>(__builtin_nan("")));
  const Vector<T> positive = select<T>(x == infinity, infinity, log);
  return select<T>(x > T{0}, positive, select<T>(x == T{0}, -infinity, nan));
}

// 1 / (1 + e^-x)
template <class T>
SKETCHRNN_INLINE Vector<T> sigmoid(Vector<T> x) {
  const Vector<T> value = T{1} / (T{1} + exp_flushed<T>(-x));
  return select<T>(x < ConstantsOf<T>::type::least_normal_exp, Vector<T>{}, value);
}

// tanh(x) for |x| < 0.625, where a quotient of exponentials would cancel.
SKETCHRNN_INLINE Vector<float> tanh_small(Vector<float> x) {
  const Vector<float> z = x * x;
  Vector<float> p = -5.70498872745e-3f * z + 2.06390887954e-2f;
  p = p * z - 5.37397155531e-2f;
  p = p * z + 1.33314422036e-1f;
  p = p * z - 3.33332819422e-1f;
  return p * (z * x) + x;
}

SKETCHRNN_INLINE Vector<double> tanh_small(Vector<double> x) {
  const Vector<double> z = x * x;
  Vector<double> p = -9.64399179425052238628e-1 * z - 9.92877231001918586564e1;
  p = p * z - 1.61468768441708447952e3;
  Vector<double> q = z + 1.12811678491632931402e2;
  q = q * z + 2.23548839060100448583e3;
  q = q * z + 4.84406305325125486048e3;
  return x + x * z * (p / q);
}

// x P(x²) / Q(x²), a rational minimax fit on |x| <= 8, beyond which 1 is within 3e-7 of tanh.
SKETCHRNN_INLINE Vector<float> tanh_vector(Vector<float> x) {
  constexpr float kSaturated = 8.0f;
  const Vector<float> z = x * x;
  Vector<float> p = 1.52113877e-8f * z + 2.188227518e-5f;
  p = p * z + 3.570886096e-3f;
  p = p * z + 1.34439081e-1f;
  p = p * z + 1.0f;
  Vector<float> q = 8.515091849e-7f * z + 3.41010163e-4f;
  q = q * z + 2.616176754e-2f;
  q = q * z + 4.677723646e-1f;
  q = q * z + 1.0f;
  const Vector<float> value = x * p / q;
  return select<float>(x < -kSaturated, broadcast(-1.0f),
                       select<float>(x > kSaturated, broadcast(1.0f), value));
}

SKETCHRNN_INLINE Vector<double> tanh_vector(Vector<double> x) {
  const Vector<double> size = select<double>(x < 0.0, -x, x);
  const Vector<double> e = exp_vector<double>(-2.0 * size);
  const Vector<double> large = (1.0 - e) / (1.0 + e);
  const Vector<double> signed_large = select<double>(x < 0.0, -large, large);
  return select<double>(size < 0.625, tanh_small(x), signed_large);
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// Claims of the tests, and the tensors that they are about.

#pragma once

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <string>
#include <vector>

namespace sketchrnn {
namespace testing {

// Ends the program with one line where a claim does not hold.
inline void require(bool holds, const std::string& claim) {
  if (holds) return;
  std::fprintf(stderr, "native_tests: FAILED: %s\n", claim.c_str());
  std::exit(1);
}

// Values that begin as NaN, so that what a kernel leaves out is seen, at an address that is a
// multiple of nothing but T's own size.
template <class T>
class Tensor {
 public:
  Tensor() : Tensor(0) {}
  explicit Tensor(std::ptrdiff_t size)
      : storage_(static_cast<std::size_t>(size) + 1, std::numeric_limits<T>::quiet_NaN()) {}
  Tensor(const Tensor&) = default;
  Tensor& operator=(const Tensor&) = default;

  T* data() { return storage_.data() + 1; }
  const T* data() const { return storage_.data() + 1; }
  std::ptrdiff_t size() const { return static_cast<std::ptrdiff_t>(storage_.size()) - 1; }
  T& operator[](std::ptrdiff_t i) { return data()[i]; }
  const T& operator[](std::ptrdiff_t i) const { return data()[i]; }
  const T* begin() const { return data(); }
  const T* end() const { return data() + size(); }

  void fill(T value) {
    for (std::ptrdiff_t i = 0; i < size(); ++i) data()[i] = value;
  }

 private:
  std::vector<T> storage_;
};

template <class T>
bool same_bits(const Tensor<T>& one, const Tensor<T>& other) {
  return one.size() == other.size() &&
         std::memcmp(one.data(), other.data(), static_cast<std::size_t>(one.size()) * sizeof(T)) ==
             0;
}

template <class T>
bool all_finite(const T* values, std::ptrdiff_t count) {
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    if (!std::isfinite(values[i])) return false;
  }
  return true;
}

template <class T>
bool all_zero(const T* values, std::ptrdiff_t count) {
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    if (values[i] != T{0}) return false;
  }
  return true;
}

template <class T>
double norm(const Tensor<T>& values) {
  double squares = 0.0;
  for (const T value : values) squares += static_cast<double>(value) * static_cast<double>(value);
  return std::sqrt(squares);
}

// ‖result − expected‖ / ‖expected‖, as tests/tolerances.py has it; `least` stands for the norm of
// what is all but zero.
template <class T, class U>
double relative_error(const Tensor<T>& result, const Tensor<U>& expected, double least = 1e-3) {
  double squares = 0.0;
  for (std::ptrdiff_t i = 0; i < expected.size(); ++i) {
    const double error = static_cast<double>(result[i]) - static_cast<double>(expected[i]);
    squares += error * error;
  }
  return std::sqrt(squares) / (norm(expected) + least);
}

template <class T>
constexpr const char* type_name() {
  return sizeof(T) == 4 ? "float32" : "float64";
}

// Numbers that are the same in every run (SplitMix64).
class Random {
 public:
  explicit Random(std::uint64_t seed) : state_(seed) {}

  std::uint64_t bits() {
    std::uint64_t z = state_ += 0x9E3779B97F4A7C15u;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9u;
    z = (z ^ z >> 27) * 0x94D049BB133111EBu;
    return z ^ z >> 31;
  }
  // 0 … most.
  std::ptrdiff_t integer(std::ptrdiff_t most) {
    return static_cast<std::ptrdiff_t>(bits() % static_cast<std::uint64_t>(most + 1));
  }
  // In [-1, 1).
  double real() { return static_cast<double>(bits() >> 11) * 0x1p-52 - 1.0; }

  // Centre ± width.
  template <class T>
  Tensor<T> tensor(std::ptrdiff_t size, double width, double centre = 0.0) {
    Tensor<T> values(size);
    for (std::ptrdiff_t i = 0; i < size; ++i) values[i] = static_cast<T>(centre + width * real());
    return values;
  }

 private:
  std::uint64_t state_;
};

}  // namespace testing
}  // namespace sketchrnn

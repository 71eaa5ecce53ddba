// One level's table of kernels, and its small kernels.

#include "level.h"

#include "dropout_row.h"
#include "memory.h"
#include "vector_math.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

extern const RecurrentKernels lstm_kernels;
extern const RecurrentKernels layer_norm_lstm_kernels;
extern const RecurrentKernels hyper_lstm_kernels;
extern const MixtureDensityKernels mixture_density_kernels;
extern const SamplerKernels sampler_kernels;

namespace {

void dropout_keep(const DropoutDraw& draw, std::ptrdiff_t time_steps, std::ptrdiff_t rows,
                  std::ptrdiff_t units, std::uint8_t* kept) {
  Arena arena;
  auto* const factors =
      static_cast<float*>(arena.take(static_cast<std::size_t>(units) * sizeof(float)));
  const DropoutRows<float> dropout(draw, units);
  for (std::ptrdiff_t t = 0; t < time_steps; ++t) {
    for (std::ptrdiff_t row = 0; row < rows; ++row) {
      dropout.fill(t, row, factors);
      for (std::ptrdiff_t u = 0; u < units; ++u) *kept++ = factors[u] != 0.0f;
    }
  }
}

template <class T, class Function>
void map(const void* from, void* to, std::ptrdiff_t count, Function function) {
  each_vector<T>(count, [&](std::ptrdiff_t i, auto lanes) {
    store(static_cast<T*>(to) + i, function(load(static_cast<const T*>(from) + i, lanes)), lanes);
  });
}

template <class T>
void map_exp(const void* from, void* to, std::ptrdiff_t count) {
  map<T>(from, to, count, [](Vector<T> x) { return exp_vector<T>(x); });
}

template <class T>
void map_exp_flushed(const void* from, void* to, std::ptrdiff_t count) {
  map<T>(from, to, count, [](Vector<T> x) { return exp_flushed<T>(x); });
}

template <class T>
void map_log(const void* from, void* to, std::ptrdiff_t count) {
  map<T>(from, to, count, [](Vector<T> x) { return log_vector<T>(x); });
}

template <class T>
void map_sigmoid(const void* from, void* to, std::ptrdiff_t count) {
  map<T>(from, to, count, [](Vector<T> x) { return sigmoid<T>(x); });
}

template <class T>
void map_tanh(const void* from, void* to, std::ptrdiff_t count) {
  map<T>(from, to, count, [](Vector<T> x) { return tanh_vector(x); });
}

const MathKernels math = {
    {map_exp<float>, map_exp<double>},   {map_exp_flushed<float>, map_exp_flushed<double>},
    {map_log<float>, map_log<double>},   {map_sigmoid<float>, map_sigmoid<double>},
    {map_tanh<float>, map_tanh<double>},
};

}  // namespace

extern const Level level = {
    SKETCHRNN_LEVEL_NAME,
    &lstm_kernels,
    &layer_norm_lstm_kernels,
    &hyper_lstm_kernels,
    &mixture_density_kernels,
    &sampler_kernels,
    dropout_keep,
    &math,
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

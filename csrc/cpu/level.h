// The kernels of one level of the instruction set. Each source of kernels is compiled once a level,
// in the level's own namespace; which level runs is decided once a process (levels.cpp).

#pragma once

#include "mixture_density.h"
#include "recurrent.h"
#include "sampler.h"

namespace sketchrnn {

// Whole arrays through the vector functions, for tests: to[i] = function(from[i]).
struct MathKernels {
  void (*exp[2])(const void* from, void* to, std::ptrdiff_t count);
  void (*exp_flushed[2])(const void* from, void* to, std::ptrdiff_t count);
  void (*log[2])(const void* from, void* to, std::ptrdiff_t count);
  void (*sigmoid[2])(const void* from, void* to, std::ptrdiff_t count);
  void (*tanh[2])(const void* from, void* to, std::ptrdiff_t count);
};

struct Level {
  const char* name;
  const RecurrentKernels* lstm;
  const RecurrentKernels* layer_norm_lstm;
  const RecurrentKernels* hyper_lstm;
  const MixtureDensityKernels* mixture_density;
  const SamplerKernels* sampler;
  DropoutKeep dropout_keep;
  const MathKernels* math;
};

// The level that runs: the highest that the CPU has, or the one that the environment variable
// SKETCHRNN_FAST_CPU_LEVEL names, "x86-64-v2" to "x86-64-v4". Throws std::runtime_error where that
// names a level which is not built or which the CPU lacks.
const Level& level();

// The levels that the CPU has, the highest at 0; null after the last.
const Level* usable_level(int index);

}  // namespace sketchrnn

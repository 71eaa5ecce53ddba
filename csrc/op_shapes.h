// The recurrent ops as the bindings see them: their kernels and the shapes of their tensors.

#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "cpu/level.h"

namespace sketchrnn {

using Shape = std::vector<std::int64_t>;

// Steps, rows, input, static input, units, and the hyper cell's units and embedding.
struct Sizes {
  std::int64_t T, B, X, S, N, H, E;
};

struct Op {
  const char* name;
  bool hyper;
  const RecurrentKernels* Level::* kernels;
  std::vector<Shape> (*weights)(const Sizes&);
  std::vector<Shape> (*state)(const Sizes&);
};

// Throws ValueError where there is no such op.
const Op& op_named(const std::string& name);

}  // namespace sketchrnn

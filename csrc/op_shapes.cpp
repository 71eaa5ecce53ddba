#include "op_shapes.h"

#include <pybind11/pybind11.h>

namespace sketchrnn {
namespace {

std::vector<Shape> lstm_weights(const Sizes& s) {
  return {{s.X + s.S, 4 * s.N}, {s.N, 4 * s.N}, {4 * s.N}};
}

std::vector<Shape> layer_norm_lstm_weights(const Sizes& s) {
  return {{s.X + s.S, 4 * s.N}, {s.N, 4 * s.N}, {4 * s.N}, {4 * s.N}, {s.N}, {s.N}};
}

std::vector<Shape> hyper_lstm_weights(const Sizes& s) {
  const std::int64_t gates = 4 * s.N, hyper_gates = 4 * s.H, width = s.X + s.S;
  const Shape embedding{4, s.H, s.E}, bias{4, s.E}, projection{4, s.E, s.N};
  return {{width, gates},
          {s.N, gates},
          {gates},
          {gates},
          {gates},
          {s.N},
          {s.N},
          {width + s.N, hyper_gates},
          {s.H, hyper_gates},
          {hyper_gates},
          {hyper_gates},
          {s.H},
          {s.H},
          embedding,
          bias,
          projection,
          embedding,
          bias,
          projection,
          embedding,
          projection};
}

std::vector<Shape> hyper_lstm_state(const Sizes& s) {
  return {{s.B, s.N}, {s.B, s.N}, {s.B, s.H}, {s.B, s.H}};
}

std::vector<Shape> plain_state(const Sizes& s) { return {{s.B, s.N}, {s.B, s.N}}; }

const Op kOps[] = {
    {"lstm", false, &Level::lstm, lstm_weights, plain_state},
    {"layer_norm_lstm", false, &Level::layer_norm_lstm, layer_norm_lstm_weights, plain_state},
    {"hyper_lstm", true, &Level::hyper_lstm, hyper_lstm_weights, hyper_lstm_state},
};

}  // namespace

const Op& op_named(const std::string& name) {
  for (const Op& op : kOps) {
    if (name == op.name) return op;
  }
  throw pybind11::value_error("there is no op " + name);
}

}  // namespace sketchrnn

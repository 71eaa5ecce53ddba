// The op hyper_lstm on the CPU: hyper_lstm.h has the design.

#include "hyper_lstm_backward.h"
#include "hyper_lstm_forward.h"
#include "level.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {
namespace {

template <class T>
void forward(const RecurrentCall& call, const ForwardResults& results) {
  Arena arena;
  HyperForwardPass<T> pass(call, results, arena);
  run_on_threads(pass, call.threads, call.schedule.rows, arena);
}

template <class T>
void backward(const RecurrentCall& call, const BackwardCall& back) {
  Arena arena;
  HyperBackwardPass<T> pass(call, back, arena);
  run_on_threads(pass, call.threads, call.schedule.rows, arena);
}

std::ptrdiff_t saved_size(const SavedSizes& sizes) {
  return sizes.entries * hyper_saved_width(sizes.units, sizes.hyper_units, sizes.embedding);
}

}  // namespace

extern const RecurrentKernels hyper_lstm_kernels = {
    {forward<float>, forward<double>}, {backward<float>, backward<double>}, saved_size};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

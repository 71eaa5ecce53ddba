// The op hyper_lstm on the CPU: hyper_lstm.h has the design.

#include "hyper_lstm_backward.h"
#include "hyper_lstm_forward.h"
#include "level.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {
namespace {

std::ptrdiff_t saved_size(const SavedSizes& sizes) {
  return sizes.entries * hyper_saved_width(sizes.units, sizes.hyper_units, sizes.embedding);
}

}  // namespace

extern const RecurrentKernels hyper_lstm_kernels = {
    {run_calls<HyperForwardPass<float>>, run_calls<HyperForwardPass<double>>},
    {run_calls<HyperBackwardPass<float>>, run_calls<HyperBackwardPass<double>>},
    saved_size,
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// The op layer_norm_lstm on the CPU: layer_norm_lstm_row.h has a row's step, sequence.h the walk
// over the sequence.

#include "level.h"
#include "sequence_backward.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

extern const RecurrentKernels layer_norm_lstm_kernels = {
    {run_calls<ForwardPass<LayerNormLSTMRows<float>>>,
     run_calls<ForwardPass<LayerNormLSTMRows<double>>>},
    {run_calls<BackwardPass<LayerNormLSTMRows<float>>>,
     run_calls<BackwardPass<LayerNormLSTMRows<double>>>},
    [](const SavedSizes& sizes) {
      return LayerNormLSTMRows<float>::saved_size(sizes.entries, sizes.units);
    },
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

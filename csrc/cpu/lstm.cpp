// The op lstm on the CPU: lstm_row.h has a row's step, sequence.h the walk over the sequence.

#include "level.h"
#include "sequence_backward.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

extern const RecurrentKernels lstm_kernels = {
    {run_calls<ForwardPass<LSTMRows<float>>>, run_calls<ForwardPass<LSTMRows<double>>>},
    {run_calls<BackwardPass<LSTMRows<float>>>, run_calls<BackwardPass<LSTMRows<double>>>},
    [](const SavedSizes& sizes) { return LSTMRows<float>::saved_size(sizes.entries, sizes.units); },
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// Baseline code: what the interface's classes have of their own, of which no level has a copy.

#include "sampler.h"

namespace sketchrnn {

Drawing::Drawing() = default;
Drawing::~Drawing() = default;
PackedDecoder::PackedDecoder() = default;
PackedDecoder::~PackedDecoder() = default;

}  // namespace sketchrnn

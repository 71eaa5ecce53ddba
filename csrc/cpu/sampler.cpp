// Baseline code: the virtual tables of the interface, of which no level has a copy.

#include "sampler.h"

namespace sketchrnn {

Drawing::~Drawing() = default;
PackedDecoder::~PackedDecoder() = default;

}  // namespace sketchrnn

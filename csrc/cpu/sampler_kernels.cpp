// The sampler at one level: a decoder for each cell and each storage of its weights.

#include "level.h"
#include "sampler_drawing.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {
namespace {

template <class P>
PackedDecoder* pack_as(const DecoderSpec& spec) {
  switch (spec.cell) {
    case DecoderCell::kLSTM:
      return new PackedDecoderOf<PlainCell<LSTMRows<float>, P>>(spec);
    case DecoderCell::kLayerNormLSTM:
      return new PackedDecoderOf<PlainCell<LayerNormLSTMRows<float>, P>>(spec);
    case DecoderCell::kHyperLSTM:
      return new PackedDecoderOf<HyperCell<P>>(spec);
  }
  return nullptr;
}

PackedDecoder* pack_decoder(const DecoderSpec& spec) {
  return spec.bfloat16 ? pack_as<BFloat16>(spec) : pack_as<float>(spec);
}

}  // namespace

extern const SamplerKernels sampler_kernels = {pack_decoder};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// The sampler: its parameters are those of the recurrent op and the head, and a drawing is the same
// however the work is shared out.

#include <algorithm>
#include <memory>

#include "recurrent_case.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

constexpr std::ptrdiff_t kCount = 23, kLimit = 12;

// A decoder with random weights, and what to draw with it.
struct Decoder {
  Case the;
  Inputs<float> inputs;
  int mixtures;
  Tensor<float> initial_weight, initial_bias, head_weight, head_bias, z;
  std::vector<std::int64_t> seeds;

  Decoder(const Level& level, Op op, std::ptrdiff_t z_size, std::ptrdiff_t units, int k)
      : the{&level, op, {kLimit, kCount, kStrokeWidth, z_size, units, 9, 3}, false, false,
            false,  11},
        inputs(make_inputs<float>(the)),
        mixtures(k) {
    Random random(29);
    const std::ptrdiff_t columns = mixture_columns(k);
    initial_weight = random.tensor<float>(z_size * state_width(), 0.5);
    initial_bias = random.tensor<float>(state_width(), 0.5);
    head_weight = random.tensor<float>(units * columns, 0.3);
    head_bias = random.tensor<float>(columns, 0.3);
    head_bias[kEndState] -= 1.0f;
    z = random.tensor<float>(kCount * z_size, 1.0);
    for (std::ptrdiff_t i = 0; i < kCount; ++i) {
      seeds.push_back(static_cast<std::int64_t>(random.bits()));
    }
  }

  bool hyper() const { return the.op == Op::kHyperLSTM; }
  std::ptrdiff_t state_width() const { return 2 * (the.sizes.N + (hyper() ? the.sizes.H : 0)); }
  std::string name() const { return the.name() + " sampler"; }

  std::unique_ptr<PackedDecoder> pack(bool bfloat16) const {
    const Sizes& s = the.sizes;
    DecoderSpec spec{};
    spec.cell = hyper()                        ? DecoderCell::kHyperLSTM
                : the.op == Op::kLayerNormLSTM ? DecoderCell::kLayerNormLSTM
                                               : DecoderCell::kLSTM;
    spec.call.input = s.X;
    spec.call.static_input = s.S;
    spec.call.units = s.N;
    spec.call.hyper_units = hyper() ? s.H : 0;
    spec.call.embedding = hyper() ? s.E : 0;
    spec.call.forget_bias = kForgetBias;
    spec.call.dropout.keep_prob = 1.0;
    for (std::size_t i = 0; i < inputs.parameters.weights.size(); ++i) {
      spec.call.weights[i] = inputs.parameters.weights[i].data();
    }
    spec.mixtures = mixtures;
    if (s.S > 0) {
      spec.initial_weight = initial_weight.data();
      spec.initial_bias = initial_bias.data();
    }
    spec.head_weight = head_weight.data();
    spec.head_bias = head_bias.data();
    spec.bfloat16 = bfloat16;
    return std::unique_ptr<PackedDecoder>(the.level->sampler->pack(spec));
  }
};

struct Settings {
  std::ptrdiff_t batch = kCount;
  int threads = 1;
  std::int64_t steps = 1000;  // a call of `advance`
  DrawTemperature temperature{1.0f, 1.0f, false};
};

struct Drawn {
  Tensor<float> points{3 * kCount * kLimit};
  std::vector<std::int64_t> lengths = std::vector<std::int64_t>(kCount, -1);
  std::vector<std::uint8_t> ended = std::vector<std::uint8_t>(kCount, 9);
  Failure failure;

  bool operator==(const Drawn& other) const {
    return lengths == other.lengths && ended == other.ended && same_bits(points, other.points);
  }
};

struct Prefixes {
  Tensor<float> points;
  std::vector<std::int64_t> offsets;
};

Drawn draw(const Decoder& decoder, const PackedDecoder& packed, const Settings& settings,
           const Prefixes* prefixes = nullptr) {
  Drawn drawn;
  DrawCall call{};
  call.count = kCount;
  call.limit = kLimit;
  call.seeds = decoder.seeds.data();
  call.z = decoder.the.sizes.S > 0 ? decoder.z.data() : nullptr;
  if (prefixes != nullptr) {
    call.prefix_points = prefixes->points.data();
    call.prefix_offsets = prefixes->offsets.data();
  }
  call.temperature = settings.temperature;
  call.points = drawn.points.data();
  call.lengths = drawn.lengths.data();
  call.ended = drawn.ended.data();
  call.batch = settings.batch;
  call.threads = settings.threads;
  const std::unique_ptr<Drawing> drawing(packed.begin(call));
  while (drawing->advance(settings.steps) && drawing->failure.fault == Fault::kNone) {
  }
  drawn.failure = drawing->failure;
  return drawn;
}

void fills_points_up_to_the_length(const Decoder& decoder, const Drawn& drawn) {
  bool some_end = false;
  for (std::ptrdiff_t i = 0; i < kCount; ++i) {
    const std::int64_t length = drawn.lengths[static_cast<std::size_t>(i)];
    const bool ended = drawn.ended[static_cast<std::size_t>(i)] != 0;
    require(length == kLimit ? !ended : (length >= 0 && ended),
            decoder.name() + ": a sketch ends by its end state or its limit");
    some_end = some_end || (ended && length > 0);
    const float* const points = drawn.points.data() + 3 * i * kLimit;
    require(all_finite(points, 3 * length), decoder.name() + ": points are finite");
    for (std::ptrdiff_t j = 3 * length; j < 3 * kLimit; ++j) {
      require(std::isnan(points[j]), decoder.name() + ": nothing is written past a sketch's end");
    }
  }
  require(some_end, decoder.name() + ": the case has sketches that end by themselves");
}

// Each sketch's first points, at most `most`.
Prefixes beginnings(const Drawn& drawn, std::ptrdiff_t most) {
  Prefixes prefixes{Tensor<float>(3 * kCount * most), {0}};
  for (std::ptrdiff_t i = 0; i < kCount; ++i) {
    const std::int64_t length =
        std::min<std::int64_t>(drawn.lengths[static_cast<std::size_t>(i)], i % (most + 1));
    const float* const from = drawn.points.data() + 3 * i * kLimit;
    std::copy(from, from + 3 * length, prefixes.points.data() + 3 * prefixes.offsets.back());
    prefixes.offsets.push_back(prefixes.offsets.back() + length);
  }
  return prefixes;
}

void is_the_same_however_shared_out(const Decoder& decoder, const PackedDecoder& packed,
                                    const Drawn& expected, const DrawTemperature& temperature,
                                    bool brief) {
  for (const std::ptrdiff_t batch : {1, 3, 1000}) {
    for (int threads = 1; threads <= 3; ++threads) {
      if (brief && threads != 2) continue;
      const Settings settings{batch, threads, 1 + 2 * batch, temperature};
      require(draw(decoder, packed, settings) == expected,
              decoder.name() + ": the drawing changes with batch " + std::to_string(batch) +
                  " and threads " + std::to_string(threads));
    }
  }
  const Prefixes prefixes = beginnings(expected, 5);
  require(draw(decoder, packed, {4, 2, 3, temperature}, &prefixes) == expected,
          decoder.name() + ": a sketch that begins with its own points goes on as it did");
}

// With the inputs given, the parameters are the head of what the op gives for them.
void gives_the_ops_parameters(const Decoder& decoder, const PackedDecoder& packed) {
  const Sizes& s = decoder.the.sizes;
  Inputs<double> inputs = make_inputs<double>(decoder.the);
  const std::ptrdiff_t widths[] = {s.N, s.N, s.H, s.H};
  std::ptrdiff_t column = 0;
  for (std::size_t part = 0; part < inputs.parameters.state.size(); ++part) {
    for (std::ptrdiff_t i = 0; i < kCount * widths[part]; ++i) {
      const std::ptrdiff_t row = i / widths[part], u = column + i % widths[part];
      double sum = decoder.initial_bias[u];
      for (std::ptrdiff_t k = 0; k < s.S; ++k) {
        sum += static_cast<double>(decoder.z[row * s.S + k]) *
               static_cast<double>(decoder.initial_weight[k * decoder.state_width() + u]);
      }
      inputs.parameters.state[part][i] = s.S > 0 ? std::tanh(sum) : 0.0;
    }
    column += widths[part];
  }
  for (std::ptrdiff_t i = 0; i < kCount * s.S; ++i) {
    inputs.parameters.static_input[i] = decoder.z[i];
  }
  const Results<double> results = run_reference(decoder.the, inputs);
  const std::ptrdiff_t columns = mixture_columns(decoder.mixtures);
  Tensor<double> expected(kCount * kLimit * columns);
  for (std::ptrdiff_t i = 0; i < expected.size(); ++i) {
    const std::ptrdiff_t row = i / columns;
    double sum = decoder.head_bias[i % columns];
    for (std::ptrdiff_t u = 0; u < s.N; ++u) {
      sum += results.hidden[row * s.N + u] *
             static_cast<double>(decoder.head_weight[u * columns + i % columns]);
    }
    expected[i] = sum;
  }
  Tensor<float> parameters(expected.size());
  DrawCall call{};
  call.count = kCount;
  call.limit = kLimit;
  call.inputs = decoder.inputs.parameters.x.data();
  call.parameters = parameters.data();
  call.z = s.S > 0 ? decoder.z.data() : nullptr;
  call.batch = 5;
  call.threads = 2;
  const std::unique_ptr<Drawing> drawing(packed.begin(call));
  while (drawing->advance(7)) {
  }
  const double error = relative_error(parameters, expected);
  require(error <= 1e-5, decoder.name() + ": the parameters are off by " + std::to_string(error));
}

float to_bfloat16(float value) {
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof(bits));
  bits = (bits + 0x7fffu + (bits >> 16 & 1u)) & 0xffff0000u;
  std::memcpy(&value, &bits, sizeof(value));
  return value;
}

// Weights in bfloat16 draw what the same weights, rounded, draw in float32.
void rounds_nothing_but_the_weights_of_a_step(Decoder decoder, const DrawTemperature& temperature) {
  const Settings settings{7, 2, 1000, temperature};
  const Drawn drawn = draw(decoder, *decoder.pack(true), settings);
  const Sizes& s = decoder.the.sizes;
  const auto round = [](Tensor<float>& weights, std::ptrdiff_t first, std::ptrdiff_t count) {
    for (std::ptrdiff_t i = first; i < first + count; ++i) weights[i] = to_bfloat16(weights[i]);
  };
  std::vector<Tensor<float>>& weights = decoder.inputs.parameters.weights;
  const auto round_all = [&](std::size_t i) { round(weights[i], 0, weights[i].size()); };
  round_all(1);
  round(decoder.head_weight, 0, decoder.head_weight.size());
  if (decoder.hyper()) {
    const std::ptrdiff_t gates = 4 * s.H;
    round(weights[7], 0, s.X * gates);
    round(weights[7], (s.X + s.S) * gates, s.N * gates);
    const std::size_t matrices[] = {8, 13, 15, 16, 18, 19, 20};
    for (const std::size_t i : matrices) round_all(i);
  } else {
    round(weights[0], 0, s.X * 4 * s.N);
  }
  require(draw(decoder, *decoder.pack(false), settings) == drawn,
          decoder.name() + ": bfloat16 draws what rounded weights draw");
}

void stops_at_what_is_not_finite(Decoder decoder) {
  const auto failure = [&](const DrawTemperature& temperature) {
    return draw(decoder, *decoder.pack(false), {5, 2, 1000, temperature}).failure;
  };
  require(failure({1.0f, 3e38f, false}).fault == Fault::kOffset,
          decoder.name() + ": an offset past float's range is reported");
  // Of a Gaussian that nobody chooses.
  decoder.head_bias[kPenStates] = -1e4f;
  decoder.head_bias[kPenStates + 3 * decoder.mixtures] = std::numeric_limits<float>::infinity();
  const Failure found = failure({1.0f, 1.0f, true});
  require(found.fault == Fault::kParameters && found.sketch == 0 && found.step == 0,
          decoder.name() + ": infinite parameters are reported, of the first sketch");
}

}  // namespace

void test_sampler(const Level& level, int cases) {
  const bool brief = cases < 10;  // as under an emulator
  for (const Op op : kOps) {
    for (const std::ptrdiff_t z_size : {0, 6}) {
      const Decoder decoder(level, op, z_size, 17, 3);
      for (const bool bfloat16 : {false, true}) {
        const std::unique_ptr<PackedDecoder> packed = decoder.pack(bfloat16);
        for (const DrawTemperature& temperature :
             {DrawTemperature{1.0f, 1.0f, false}, DrawTemperature{0.6f, 0.4f, false}}) {
          const Drawn drawn = draw(decoder, *packed, {kCount, 1, 1000, temperature});
          fills_points_up_to_the_length(decoder, drawn);
          is_the_same_however_shared_out(decoder, *packed, drawn, temperature, brief);
        }
      }
      gives_the_ops_parameters(decoder, *decoder.pack(false));
      rounds_nothing_but_the_weights_of_a_step(decoder, {1.0f, 1.0f, false});
      stops_at_what_is_not_finite(decoder);
    }
  }
  // Wider than a panel, and K wider than a vector.
  const Decoder wide(level, Op::kLayerNormLSTM, 40, 70, 20);
  gives_the_ops_parameters(wide, *wide.pack(false));
}

}  // namespace testing
}  // namespace sketchrnn

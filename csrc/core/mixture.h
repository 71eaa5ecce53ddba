// Drawing a stroke from a mixture density, for host and device: what the samplers of every backend
// do between a step's parameters and the next step's input.
//
// A row of raw parameters [6 K + 3] holds 3 pen logits and K each of mixture logits, means of x and
// of y, log standard deviations of x and of y, and the correlation before its tanh. The draw of
// step t is a pure function of the row, the sketch's seed and the temperature: Philox with the seed
// as key and counter (0, t, 0, 5), whose four words choose the Gaussian, then the pen state, and
// make the offset's pair of normal numbers (n1, n2) by Box and Muller:
//
//   x = mean_x + sigma_x (sqrt(1 - rho^2) n1 + rho n2) ;  y = mean_y + sigma_y n2
//
// The equations are those of sketchrnn_fast/reference/sampler.py, which names their sources; the
// guards of sigma and rho are those of the loss (reference/mixture_density.py).

#pragma once

#include <math.h>

#include <cstdint>

#include "philox.h"

namespace sketchrnn {

constexpr std::uint32_t kSamplerStream = 5;
constexpr int kPenStates = 3;  // down, lifted, end
constexpr int kEndState = 2;
constexpr int kStrokeWidth = 5;  // dx, dy and one column a pen state

SKETCHRNN_HOST_DEVICE constexpr int mixture_columns(int mixtures) {
  return 6 * mixtures + kPenStates;
}

// How boldly to draw: logits are divided by `softmax`, standard deviations multiplied by `sigma`.
struct DrawTemperature {
  float softmax, sigma;
  bool greedy;  // the likeliest Gaussian's mean and the likeliest pen state; the rest is ignored
};

struct Stroke {
  float x, y;
  int pen;  // 0 … 2, or -1 where the parameters are not numbers
};

// (top 23 bits + 1/2) / 2^23, strictly inside (0, 1) and exact.
SKETCHRNN_HOST_DEVICE float uniform_float(std::uint32_t word) {
  return (static_cast<float>(word >> 9) + 0.5f) * (1.0f / 8388608.0f);
}

// The index of the greatest logit; -1 where one is NaN or the greatest is infinite.
SKETCHRNN_HOST_DEVICE int likeliest(const float* logits, int count) {
  int best = 0;
  for (int k = 0; k < count; ++k) {
    if (!(logits[k] == logits[k])) return -1;
    if (logits[k] > logits[best]) best = k;
  }
  return logits[best] - logits[best] == 0.0f ? best : -1;
}

// e^((logit - most) / temperature), 1 for the greatest whatever the temperature.
SKETCHRNN_HOST_DEVICE float weight_of(float logit, float most, float temperature) {
  return logit == most ? 1.0f : expf((logit - most) / temperature);
}

// The first index whose cumulative probability reaches u, of softmax(logits / temperature); the
// last of positive probability should rounding leave the sum below u; -1 as `likeliest`. The
// greatest logit is taken off before dividing, so that no temperature above 0 overflows.
SKETCHRNN_HOST_DEVICE int choose(const float* logits, int count, float temperature, float u) {
  const int best = likeliest(logits, count);
  if (best < 0) return -1;
  const float most = logits[best];
  float total = 0.0f;
  for (int k = 0; k < count; ++k) total += weight_of(logits[k], most, temperature);
  float reached = 0.0f;
  int last_possible = best;
  for (int k = 0; k < count; ++k) {
    const float probability = weight_of(logits[k], most, temperature) / total;
    if (probability > 0.0f) last_possible = k;
    reached += probability;
    if (reached >= u) return k;
  }
  return last_possible;
}

// Two independent standard normal numbers.
struct NormalPair {
  float first, second;
};

// The radius in double: its word has more digits than a float.
SKETCHRNN_HOST_DEVICE NormalPair box_muller(std::uint32_t first, std::uint32_t second) {
  constexpr double kTwoPi = 6.283185307179586476925;
  constexpr double kWordUnit = 1.0 / 4294967296.0;
  const double radius = sqrt(-2.0 * log((first + 0.5) * kWordUnit));
  const double angle = (second + 0.5) * (kTwoPi * kWordUnit);
  return {static_cast<float>(radius * cos(angle)), static_cast<float>(radius * sin(angle))};
}

SKETCHRNN_HOST_DEVICE Stroke draw_stroke(const float* params, int mixtures, std::uint64_t seed,
                                         std::uint32_t t, const DrawTemperature& temperature) {
  constexpr float kLeastLogSigma = -20.0f;
  constexpr float kMostCorrelation = 9.0f;  // before the tanh
  const float* const pi_logits = params + kPenStates;
  const float* const mean_x = pi_logits + mixtures;
  const float* const mean_y = mean_x + mixtures;
  const float* const log_sigma_x = mean_y + mixtures;
  const float* const log_sigma_y = log_sigma_x + mixtures;
  const float* const correlation = log_sigma_y + mixtures;
  if (temperature.greedy) {
    const int k = likeliest(pi_logits, mixtures);
    const int pen = likeliest(params, kPenStates);
    if (k < 0 || pen < 0) return {0.0f, 0.0f, -1};
    return {mean_x[k], mean_y[k], pen};
  }
  const PhiloxBlock words = philox4x32({{0, t, 0, kSamplerStream}}, philox_key(seed));
  const int k = choose(pi_logits, mixtures, temperature.softmax, uniform_float(words.word[0]));
  const int pen = choose(params, kPenStates, temperature.softmax, uniform_float(words.word[1]));
  if (k < 0 || pen < 0) return {0.0f, 0.0f, -1};
  const NormalPair normal = box_muller(words.word[2], words.word[3]);
  const float guarded = fminf(fmaxf(correlation[k], -kMostCorrelation), kMostCorrelation);
  const float across = normal.first / coshf(guarded) + normal.second * tanhf(guarded);
  const float sigma_x = expf(fmaxf(log_sigma_x[k], kLeastLogSigma)) * temperature.sigma;
  const float sigma_y = expf(fmaxf(log_sigma_y[k], kLeastLogSigma)) * temperature.sigma;
  return {mean_x[k] + sigma_x * across, mean_y[k] + sigma_y * normal.second, pen};
}

}  // namespace sketchrnn

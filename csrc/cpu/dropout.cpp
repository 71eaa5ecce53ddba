// Computes kept[t, b, j * Q + q] = lane j of philox4x32((q, t, row_offset + b, stream), seed)
// < round(keep_prob * 65536), for Q = ceil(N / 8), q < Q, j < 8 and j * Q + q < N.
//
// One row is made in chunks of calls: the counters of a chunk differ in q alone, so the generator
// runs across the chunk as plain loops over arrays, which the compiler turns into vector code.

#include "dropout.h"

#include <algorithm>

#include "../core/philox.h"

namespace sketchrnn {
namespace {

constexpr std::size_t kChunk = 64;  // calls; covers N = 512 at once and stays in registers and L1

void keep_row(PhiloxBlock counter, PhiloxKey key, std::uint32_t threshold, std::size_t units,
              std::uint8_t* kept) {
  const std::size_t blocks = (units + kDropoutLanes - 1) / kDropoutLanes;
  std::uint8_t chunk[kDropoutLanes][kChunk];
  for (std::size_t first = 0; first < blocks; first += kChunk) {
    const std::size_t calls = std::min(kChunk, blocks - first);
    for (std::size_t i = 0; i < calls; ++i) {
      counter.word[0] = static_cast<std::uint32_t>(first + i);
      const DropoutLanes lanes = dropout_lanes(philox4x32(counter, key));
      for (std::size_t j = 0; j < kDropoutLanes; ++j) {
        chunk[j][i] = lanes.lane[j] < threshold;
      }
    }
    // The last lanes end early, or do not exist, when N is not a multiple of 8.
    for (std::size_t j = 0; j < kDropoutLanes && j * blocks + first < units; ++j) {
      const std::size_t begin = j * blocks + first;
      std::copy_n(chunk[j], std::min(calls, units - begin), kept + begin);
    }
  }
}

}  // namespace

void dropout_keep(const DropoutDraw& draw, std::size_t time_steps, std::size_t rows,
                  std::size_t units, std::uint8_t* kept) {
  const PhiloxKey key = philox_key(draw.seed);
  const std::uint32_t threshold = dropout_threshold(draw.keep_prob);
  for (std::size_t t = 0; t < time_steps; ++t) {
    for (std::size_t b = 0; b < rows; ++b) {
      const auto row = static_cast<std::uint32_t>(draw.row_offset + b);
      const PhiloxBlock counter{{0, static_cast<std::uint32_t>(t), row, draw.stream}};
      keep_row(counter, key, threshold, units, kept + (t * rows + b) * units);
    }
  }
}

}  // namespace sketchrnn

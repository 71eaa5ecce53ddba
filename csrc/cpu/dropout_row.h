// The factors of recurrent dropout for one row and step, by the rule of csrc/core/philox.h.
//
// The counters of a row differ in the block alone, so the generator runs over arrays of blocks, a
// loop that the compiler turns into vector code.

#pragma once

#include "../core/philox.h"
#include "recurrent.h"
#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
class DropoutRows {
 public:
  DropoutRows(const DropoutDraw& dropout, std::ptrdiff_t units)
      : key_(philox_key(dropout.seed)),
        row_offset_(dropout.row_offset),
        stream_(dropout.stream),
        threshold_(dropout_threshold(dropout.keep_prob)),
        scale_(static_cast<T>(1.0 / dropout.keep_prob)),
        units_(units),
        blocks_((units + kDropoutLanes - 1) / kDropoutLanes) {}

  // factors[u] = 0 or 1 / keep_prob for the units of one row at step t.
  void fill(std::ptrdiff_t t, std::ptrdiff_t row, T* factors) const {
    for (std::ptrdiff_t first = 0; first < blocks_; first += kChunk) {
      alignas(64) std::uint32_t words[4][kChunk];
      generate(first, t, row, words);
      for (int lane = 0; lane < kDropoutLanes; ++lane) {
        // The last lanes end early, or do not exist, when N is not a multiple of 8.
        const std::ptrdiff_t begin = lane * blocks_ + first;
        const std::ptrdiff_t calls = blocks_ - first < kChunk ? blocks_ - first : kChunk;
        const std::ptrdiff_t count = units_ - begin < calls ? units_ - begin : calls;
        const std::uint32_t* from = words[lane / 2];
        const int shift = lane % 2 * 16;
        for (std::ptrdiff_t i = 0; i < count; ++i) {
          factors[begin + i] = (from[i] >> shift & 0xFFFFu) < threshold_ ? scale_ : T{0};
        }
      }
    }
  }

 private:
  static constexpr std::ptrdiff_t kChunk = 64;  // calls; covers N = 512 at once

  void generate(std::ptrdiff_t first, std::ptrdiff_t t, std::ptrdiff_t row,
                std::uint32_t (&words)[4][kChunk]) const {
    const auto t_word = static_cast<std::uint32_t>(t);
    const std::uint32_t row_word = row_offset_ + static_cast<std::uint32_t>(row);
    for (int i = 0; i < kChunk; ++i) {
      const auto block = static_cast<std::uint32_t>(first) + static_cast<std::uint32_t>(i);
      const PhiloxBlock drawn = philox4x32({{block, t_word, row_word, stream_}}, key_);
      for (int w = 0; w < 4; ++w) words[w][i] = drawn.word[w];
    }
  }

  PhiloxKey key_;
  std::uint32_t row_offset_;
  std::uint32_t stream_;
  std::uint32_t threshold_;
  T scale_;
  std::ptrdiff_t units_;
  std::ptrdiff_t blocks_;
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

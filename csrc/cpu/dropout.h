// The dropout mask of a whole sequence, as every backend must make it (csrc/core/philox.h).

#pragma once

#include <cstddef>
#include <cstdint>

namespace sketchrnn {

// Which draws a mask is made of.
struct DropoutDraw {
  std::uint64_t seed;
  std::uint32_t stream;      // what the mask is for: the last word of the counter
  std::uint32_t row_offset;  // global row of the first row
  double keep_prob;          // in (0, 1]
};

// kept: [time_steps, rows, units], contiguous; 1 where a unit is kept, else 0.
void dropout_keep(const DropoutDraw& draw, std::size_t time_steps, std::size_t rows,
                  std::size_t units, std::uint8_t* kept);

}  // namespace sketchrnn

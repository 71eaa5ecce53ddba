// The deferred products of a backward pass: weight gradients over a chunk of steps at once.
//
// During a chunk the rows' inputs and the gradients of their gates are laid down in panels: blocks
// of kPanel columns, [blocks][depth][kPanel], one row an entry. That order serves the gates'
// gradients three times: as left factor of the step's own product, as right factor of the weight
// gradient, and for sums over time.

#pragma once

#include "place.h"
#include "product.h"
#include "scratch.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
struct Panels {
  T* data;
  std::ptrdiff_t block_stride;  // elements from one block of columns to the next

  SKETCHRNN_INLINE T* at(std::ptrdiff_t column, std::ptrdiff_t row) const {
    return data + column / kPanel<T> * block_stride + row * kPanel<T> + column % kPanel<T>;
  }
};

// Rows that a block of panels is deep: an odd number, because blocks a multiple of 4 KiB apart
// would compete for the same sets of the cache.
inline std::ptrdiff_t panel_depth(std::ptrdiff_t rows) { return rows | 1; }

template <class T>
constexpr std::ptrdiff_t panels_size(std::ptrdiff_t columns, std::ptrdiff_t depth) {
  return panels_for<T>(columns) * depth * kPanel<T>;
}

// The inputs of a chunk, left factors of its weight gradients: blocks of as many columns as a tile
// has rows, each row of a block at the start of a vector.
template <class T>
struct InputBlocks {
  static constexpr std::ptrdiff_t kWidth = kRegisters == 32 ? 16 : 8;
  static_assert(kWidth >= kTileRows, "a row of a block holds a tile's rows");

  T* data;
  std::ptrdiff_t block_stride;

  static std::ptrdiff_t blocks_for(std::ptrdiff_t columns) {
    return (columns + kTileRows - 1) / kTileRows;
  }
  static std::ptrdiff_t size(std::ptrdiff_t columns, std::ptrdiff_t depth) {
    return blocks_for(columns) * depth * kWidth;
  }

  void copy_row(const T* from, std::ptrdiff_t columns, std::ptrdiff_t row) const {
    T* to = data + row * kWidth;
    for (; columns >= kTileRows; columns -= kTileRows, from += kTileRows, to += block_stride) {
      __builtin_memcpy(to, from, kTileRows * sizeof(T));
    }
    for (std::ptrdiff_t i = 0; i < columns; ++i) to[i] = from[i];
  }
};

// The columns of a matrix of gates, each gate's N columns widened to `wide` in the panels.
struct GateColumns {
  std::ptrdiff_t blocks;  // gates
  std::ptrdiff_t units;
  std::ptrdiff_t wide;
  std::ptrdiff_t row_stride;  // of the matrix, 4 N
};

// A tile of a weight gradient: one block of inputs by one panel of outputs.
template <class T>
struct GradientTile {
  const T* inputs;
  const T* outputs;
  std::ptrdiff_t depth;
  T* total;  // [rows, kPanel]

  // The chunk's sum is made by itself and then added, which keeps long sums accurate.
  template <int kRows>
  SKETCHRNN_INLINE void run() const {
    Tile<T, kRows, 1> tile;
    tile.start(nullptr, 0);
    tile.accumulate(inputs, 1, InputBlocks<T>::kWidth, outputs, 0, depth);
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2; ++v) {
        T* const to = total + r * kPanel<T> + v * kLanes<T>;
        store(to, load(to) + tile.sum[r][v]);
      }
    }
  }
};

// The gradient of a matrix [width, columns]: Σ over entries of inputs ᵀ · outputs, gathered chunk
// by chunk panel after panel, and put into its place at the end.
template <class T>
class WeightGradient {
 public:
  // `totals` is scratch [panels, width, kPanel], zeros before the first chunk.
  WeightGradient(std::ptrdiff_t width, const GateColumns& columns, T* gradient, T* totals)
      : width_(width), columns_(columns), gradient_(gradient), totals_(totals) {}
  WeightGradient(std::ptrdiff_t width, const GateColumns& columns, T* gradient, Arena& arena)
      : WeightGradient(width, columns, gradient,
                       take_zeros<T>(arena, panels_size<T>(columns.blocks * columns.wide, width))) {
  }

  // Adds `rows` entries, for some of the panels.
  void add(const InputBlocks<T>& inputs, const Panels<T>& outputs, std::ptrdiff_t rows,
           Range range) const {
    for (std::ptrdiff_t panel = range.begin; panel < range.end; ++panel) {
      const T* left = inputs.data;
      for (std::ptrdiff_t first = 0; first < width_; first += kTileRows) {
        const std::ptrdiff_t count = width_ - first < kTileRows ? width_ - first : kTileRows;
        const GradientTile<T> tile{left, outputs.data + panel * outputs.block_stride, rows,
                                   totals_ + (panel * width_ + first) * kPanel<T>};
        with_rows<kTileRows>(static_cast<int>(count), tile);
        left += inputs.block_stride;
      }
    }
  }

  // Writes the columns of some panels.
  void finish(Range range) const {
    for (std::ptrdiff_t vector = 2 * range.begin; vector < 2 * range.end; ++vector) {
      const std::ptrdiff_t column = vector * kLanes<T>;
      const std::ptrdiff_t block = column / columns_.wide, unit = column % columns_.wide;
      if (block >= columns_.blocks || unit >= columns_.units) continue;
      const std::ptrdiff_t left = columns_.units - unit;
      T* to = gradient_ + block * columns_.units + unit;
      const T* from = totals_ + vector / 2 * width_ * kPanel<T> + vector % 2 * kLanes<T>;
      for (std::ptrdiff_t i = 0; i < width_; ++i, to += columns_.row_stride, from += kPanel<T>) {
        if (left >= kLanes<T>) {
          store(to, load(from));
        } else {
          store(to, load(from), Part{static_cast<int>(left)});
        }
      }
    }
  }

 private:
  std::ptrdiff_t width_;
  GateColumns columns_;
  T* gradient_;
  T* totals_;  // [panels, width, kPanel]
};

// Sums over a chunk's entries of the columns of some panels, added to totals [columns].
template <class T>
void add_column_sums(const Panels<T>& panels, std::ptrdiff_t entries, Range range, T* totals) {
  for (std::ptrdiff_t panel = range.begin; panel < range.end; ++panel) {
    const T* from = panels.data + panel * panels.block_stride;
    Vector<T> total[2] = {};
    for (std::ptrdiff_t i = 0; i < entries; ++i, from += kPanel<T>) {
      for (int v = 0; v < 2; ++v) total[v] += load(from + v * kLanes<T>);
    }
    for (int v = 0; v < 2; ++v) {
      T* const to = totals + panel * kPanel<T> + v * kLanes<T>;
      store(to, load(to) + total[v]);
    }
  }
}

// Steps of the walk whose entries are consecutive.
struct Chunk {
  std::ptrdiff_t begin, end;            // in the walk
  std::ptrdiff_t first_step, end_step;  // in time
  std::ptrdiff_t first_entry, entries;
  bool first;  // of the backward pass: the last of the walk
};

class Chunks {
 public:
  Chunks(const Schedule& schedule, std::ptrdiff_t most_entries) : schedule_(schedule) {
    const std::ptrdiff_t rows = schedule.rows > 0 ? schedule.rows : 1;
    const std::ptrdiff_t steps = (most_entries + rows - 1) / rows;
    steps_ = steps < schedule.time_steps ? steps : schedule.time_steps;
  }

  // Rows that panels need for any chunk.
  std::ptrdiff_t depth() const { return panel_depth(steps_ * schedule_.rows); }

  // body(chunk) for all chunks, the last first.
  template <class Body>
  void each(Body&& body) const {
    const std::ptrdiff_t all = schedule_.time_steps;
    for (std::ptrdiff_t end = all; end > 0; end -= steps_) {
      const std::ptrdiff_t begin = end > steps_ ? end - steps_ : 0;
      const std::ptrdiff_t first = schedule_.reverse ? all - end : begin;
      const std::ptrdiff_t last = first + (end - begin);
      const std::int64_t* const entry = schedule_.entry;
      body(Chunk{begin, end, first, last, entry[first], entry[last] - entry[first], end == all});
    }
  }

 private:
  const Schedule& schedule_;
  std::ptrdiff_t steps_;
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

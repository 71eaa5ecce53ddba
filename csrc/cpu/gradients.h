// The deferred products of a backward pass: weight gradients over a chunk of steps at once.
//
// During a chunk the rows' inputs and the gradients of their gates are laid down in panels: blocks
// of kPanel columns, [blocks][depth][kPanel], one row an entry. That order serves the gates'
// gradients three times: as left factor of the step's own product, as right factor of the weight
// gradient, and for sums over time.

#pragma once

#include "place.h"
#include "product.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
struct Panels {
  T* data;
  std::ptrdiff_t block_stride;  // elements from one block of columns to the next

  SKETCHRNN_INLINE T* at(std::ptrdiff_t column, std::ptrdiff_t row) const {
    return data + column / kPanel<T> * block_stride + row * kPanel<T> + column % kPanel<T>;
  }

  void copy_row(const T* from, std::ptrdiff_t columns, std::ptrdiff_t row) const {
    each_vector<T>(columns, [&](std::ptrdiff_t column, auto lanes) {
      store(at(column, row), load(from + column, lanes));
    });
  }
};

// Rows that a block of panels is deep: an odd number, because blocks a multiple of 4 KiB apart would
// compete for the same sets of the cache.
inline std::ptrdiff_t panel_depth(std::ptrdiff_t rows) { return rows | 1; }

template <class T>
constexpr std::ptrdiff_t panels_size(std::ptrdiff_t columns, std::ptrdiff_t depth) {
  return panels_for<T>(columns) * depth * kPanel<T>;
}

// The columns of a matrix of gates, each gate's N columns widened to `wide` in the panels.
struct GateColumns {
  std::ptrdiff_t units;
  std::ptrdiff_t wide;
  std::ptrdiff_t row_stride;  // of the matrix, 4 N
};

// Where a tile of a weight gradient goes: added to what earlier chunks left, or set by the first.
template <class T>
struct GradientTile {
  const Panels<T>& inputs;
  const T* outputs;  // the panel
  std::ptrdiff_t depth, input, panel;
  const GateColumns& columns;
  T* gradient;
  bool add;

  template <int kRows>
  SKETCHRNN_INLINE void run() const {
    Tile<T, kRows, 1> tile;
    tile.start(nullptr, 0);
    tile.accumulate(inputs.at(input, 0), 1, kPanel<T>, outputs, 0, depth);
    for (int v = 0; v < 2; ++v) {
      const std::ptrdiff_t column = panel * kPanel<T> + v * kLanes<T>;
      const std::ptrdiff_t unit = column % columns.wide;
      if (unit >= columns.units) continue;
      T* to = gradient + input * columns.row_stride + column / columns.wide * columns.units + unit;
      const std::ptrdiff_t left = columns.units - unit;
      for (int r = 0; r < kRows; ++r, to += columns.row_stride) {
        if (left >= kLanes<T>) {
          store(to, add ? tile.sum[r][v] + load(to) : tile.sum[r][v]);
        } else {
          const Part part{static_cast<int>(left)};
          store(to, add ? tile.sum[r][v] + load(to, part) : tile.sum[r][v], part);
        }
      }
    }
  }
};

// gradient [width, columns] (+)= Σ over rows of inputs ᵀ · outputs, for some panels of the outputs.
template <class T>
void weight_gradient(const Panels<T>& inputs, std::ptrdiff_t width, const Panels<T>& outputs,
                     std::ptrdiff_t rows, Range panels, const GateColumns& columns, T* gradient,
                     bool add) {
  for (std::ptrdiff_t panel = panels.begin; panel < panels.end; ++panel) {
    const T* right = outputs.data + panel * outputs.block_stride;
    for (std::ptrdiff_t block = 0; block < width; block += kPanel<T>) {
      const std::ptrdiff_t count = width - block < kPanel<T> ? width - block : kPanel<T>;
      each_tile(count, [&](std::ptrdiff_t first, int tile_rows) {
        const GradientTile<T> tile{inputs, right,    rows, block + first, panel,
                                   columns, gradient, add};
        with_rows<kTileRows>(tile_rows, tile);
      });
    }
  }
}

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

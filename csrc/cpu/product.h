// Matrix products for the recurrent kernels: result [R, C] = start + left [R, D] · right [D, C].
//
// `right` is packed into panels of kPanel columns, two vectors wide: panel p holds columns
// p kPanel … for all D rows, [panels][D][kPanel], so that a product reads it front to back. (A
// matrix that is used once, by few rows, is read where it lies: packing would read it too.) A tile
// of up to kTileRows rows keeps its part of the result in registers for the whole depth: for every
// row of the panel, two vectors are loaded and multiplied with one broadcast element of each of the
// tile's rows. Every element of a result is one chain of multiply-adds over D in ascending order,
// from `start`: it depends on nothing else, not on the rows beside it and not on the threads.
//
// Panels are stored as T, or as bfloat16 where reading them is what takes the time; sums are of
// type T either way.
//
// Results are as wide as the panels; what is past C holds zeros where the packed columns do.

#pragma once

#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
constexpr int kPanel = 2 * kLanes<T>;

// The upper half of a float. A row of a panel of them is one vector of 32-bit words: lane l holds
// column l in its lower half and column kLanes + l in its upper half, so that a shift and a mask
// widen both.
struct BFloat16 {
  std::uint16_t bits;
};

// The type of sums over panels of type P.
template <class P>
struct Widened {
  using Type = P;
};
template <>
struct Widened<BFloat16> {
  using Type = float;
};

// The two vectors of a row of a panel.
template <class T>
SKETCHRNN_INLINE void load_panel_row(const T* row, Vector<T>& first, Vector<T>& second) {
  first = load(row);
  second = load(row + kLanes<T>);
}

SKETCHRNN_INLINE void load_panel_row(const BFloat16* row, Vector<float>& first,
                                     Vector<float>& second) {
  Integers<float> words;
  __builtin_memcpy(&words, row, sizeof(words));
  first = reinterpret_cast<Vector<float>>(words << 16);
  second = reinterpret_cast<Vector<float>>(words & static_cast<std::int32_t>(0xffff0000u));
}

// Two accumulators a row, two vectors of a panel and a broadcast element fill the registers.
constexpr int kTileRows = kRegisters == 32 ? 14 : 6;

// How many panels a tile of few rows takes at once, so that enough multiply-adds are under way.
constexpr int panels_of_tile(int rows) {
  if (kRegisters == 32) return rows <= 2 ? 4 : rows <= 6 ? 2 : 1;
  return rows <= 2 ? 2 : 1;
}

// Rows of a matrix whose columns are contiguous, or contiguous in blocks of kPanel columns.
template <class T>
struct Left {
  const T* data;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t block_stride;  // from one block of kPanel columns to the next
  std::ptrdiff_t depth;
};

template <class T>
Left<T> row_major(const T* data, std::ptrdiff_t row_stride, std::ptrdiff_t depth) {
  return {data, row_stride, kPanel<T>, depth};
}

// What a product starts from; row_stride 0 starts every row alike, a null pointer from zeros.
template <class T>
struct Start {
  const T* data;
  std::ptrdiff_t row_stride;
};

template <class T, int kRows, int kPanels>
struct Tile {
  Vector<T> sum[kRows][2 * kPanels];

  SKETCHRNN_INLINE void start(const T* from, std::ptrdiff_t row_stride) {
    for (int r = 0; r < kRows; ++r) {
      for (int v = 0; v < 2 * kPanels; ++v) {
        sum[r][v] = from == nullptr ? Vector<T>{} : load(from + r * row_stride + v * kLanes<T>);
      }
    }
  }

  // Element (r, k) of the left factor is left[r * row_stride + k * step]; row k of the first panel
  // begins at panel[k * panel_step].
  template <class P>
  SKETCHRNN_INLINE void accumulate(const T* left, std::ptrdiff_t row_stride, std::ptrdiff_t step,
                                   const P* panel, std::ptrdiff_t panel_stride,
                                   std::ptrdiff_t depth, std::ptrdiff_t panel_step = kPanel<T>) {
    constexpr int kAhead = 16;  // rows of a panel; what comes from the outer caches takes as long
    for (std::ptrdiff_t k = 0; k < depth; ++k) {
      Vector<T> right[2 * kPanels];
      for (int p = 0; p < kPanels; ++p) {
        const P* row = panel + p * panel_stride;
        load_panel_row(row, right[2 * p], right[2 * p + 1]);
        __builtin_prefetch(row + kAhead * panel_step);
        if (kPanel<T> * sizeof(P) > 64) {
          __builtin_prefetch(row + kAhead * panel_step + kLanes<T>);
        }
      }
      if (row_stride == 1) __builtin_prefetch(left + kAhead * step);
      for (int r = 0; r < kRows; ++r) {
        const Vector<T> element = broadcast<T>(left[r * row_stride]);
        for (int v = 0; v < 2 * kPanels; ++v) sum[r][v] += element * right[v];
      }
      left += step;
      panel += panel_step;
    }
  }

  SKETCHRNN_INLINE void finish(T* to, std::ptrdiff_t row_stride, std::ptrdiff_t block_stride) {
    for (int r = 0; r < kRows; ++r) {
      for (int p = 0; p < kPanels; ++p) {
        store(to + r * row_stride + p * block_stride, sum[r][2 * p]);
        store(to + r * row_stride + p * block_stride + kLanes<T>, sum[r][2 * p + 1]);
      }
    }
  }
};

// The right factor: packed panels, or a matrix as it lies, whose panels are kPanel columns apart.
template <class P>
struct Right {
  const P* data;
  std::ptrdiff_t panel_stride;  // from one panel to the next
  std::ptrdiff_t step;          // from one row of a panel to the next
};

template <class P>
Right<P> packed(const P* panels, std::ptrdiff_t depth) {
  constexpr int kWidth = kPanel<typename Widened<P>::Type>;
  return {panels, depth * kWidth, kWidth};
}

template <class T>
Right<T> as_it_lies(const T* matrix, std::ptrdiff_t columns) {
  return {matrix, kPanel<T>, columns};
}

template <class T, class P, int kRows, int kPanels>
void multiply_tile(Left<T> left, Right<P> right, Start<T> start, T* result,
                   std::ptrdiff_t result_stride, std::ptrdiff_t block_stride) {
  Tile<T, kRows, kPanels> tile;
  tile.start(start.data, start.row_stride);
  const T* block = left.data;
  for (std::ptrdiff_t k = 0; k < left.depth; k += kPanel<T>) {
    const std::ptrdiff_t depth = left.depth - k < kPanel<T> ? left.depth - k : kPanel<T>;
    tile.accumulate(block, left.row_stride, 1, right.data + k * right.step, right.panel_stride,
                    depth, right.step);
    block += left.block_stride;
  }
  tile.finish(result, result_stride, block_stride);
}

// Calls body.template run<kRows>() with kRows = rows, 1 … kTileRows.
template <int kRows, class Body>
SKETCHRNN_INLINE void with_rows(int rows, Body&& body) {
  if constexpr (kRows > 1) {
    if (rows != kRows) return with_rows<kRows - 1>(rows, body);
  }
  body.template run<kRows>();
}

// body(first, count): rows in tiles of at most kMost, as even as can be, so that none is small
// beside large ones.
template <int kMost = kTileRows, class Body>
SKETCHRNN_INLINE void each_tile(std::ptrdiff_t rows, Body&& body) {
  const std::ptrdiff_t tiles = (rows + kMost - 1) / kMost;
  std::ptrdiff_t first = 0;
  for (std::ptrdiff_t i = 0; i < tiles; ++i) {
    const std::ptrdiff_t count = (rows - first + tiles - i - 1) / (tiles - i);
    body(first, static_cast<int>(count));
    first += count;
  }
}

template <class T, class P = T>
struct Product {
  Left<T> left;
  Right<P> right;
  Start<T> start;
  T* result;
  std::ptrdiff_t result_stride;
  std::ptrdiff_t result_block_stride = kPanel<T>;  // from one panel's columns to the next's

  // Makes the columns of panels first_panel … end_panel - 1, the last ones first if `backwards`: a
  // reader that turns round each time finds in the cache what it read last.
  void run(std::ptrdiff_t rows, std::ptrdiff_t first_panel, std::ptrdiff_t end_panel,
           bool backwards = false) const {
    if (rows == 0) return;
    const int at_once = rows <= kTileRows ? panels_of_tile(static_cast<int>(rows)) : 1;
    for (std::ptrdiff_t done = 0, all = end_panel - first_panel; done < all;) {
      int panels = at_once;
      while (panels > all - done) panels /= 2;
      const std::ptrdiff_t panel = backwards ? end_panel - done - panels : first_panel + done;
      each_tile(rows, [&](std::ptrdiff_t first, int count) {
        const One one{*this, first, panel, panels};
        with_rows<kTileRows>(count, one);
      });
      done += panels;
    }
  }

 private:
  struct One {
    const Product& product;
    std::ptrdiff_t first, panel;
    int panels;  // at once

    template <int kRows>
    SKETCHRNN_INLINE void run() const {
      constexpr int kMost = panels_of_tile(kRows);
      if (kMost >= 4 && panels == 4) {
        call<kRows, 4 <= kMost ? 4 : 1>();
      } else if (kMost >= 2 && panels == 2) {
        call<kRows, 2 <= kMost ? 2 : 1>();
      } else {
        call<kRows, 1>();
      }
    }

    template <int kRows, int kPanels>
    SKETCHRNN_INLINE void call() const {
      Left<T> rows = product.left;
      rows.data += first * rows.row_stride;
      Right<P> columns = product.right;
      columns.data += panel * columns.panel_stride;
      Start<T> from = product.start;
      if (from.data != nullptr) from.data += first * from.row_stride + panel * kPanel<T>;
      multiply_tile<T, P, kRows, kPanels>(
          rows, columns, from,
          product.result + first * product.result_stride + panel * product.result_block_stride,
          product.result_stride, product.result_block_stride);
    }
  };
};

template <class T>
constexpr std::ptrdiff_t panels_for(std::ptrdiff_t columns) {
  return round_up(columns, kPanel<T>) / kPanel<T>;
}

// ---- Packing ----

// A matrix to be packed, whose columns are blocks of `block` columns (the gates' N units), each
// widened with zeros to `wide` columns; a plain matrix is a single block.
template <class T>
struct Blocked {
  const T* data;
  std::ptrdiff_t row_stride;
  std::ptrdiff_t blocks;
  std::ptrdiff_t block;
  std::ptrdiff_t wide;

  // Column of `data` for a packed column, or -1 where it is filling.
  std::ptrdiff_t column(std::ptrdiff_t packed) const {
    const std::ptrdiff_t index = packed / wide, within = packed % wide;
    return index < blocks && within < block ? index * block + within : -1;
  }
};

// Rows of the matrix become rows first_row … of panels that are `depth` rows deep.
template <class T>
void pack(const Blocked<T>& matrix, std::ptrdiff_t rows, T* panels, std::ptrdiff_t depth,
          std::ptrdiff_t first_row, std::ptrdiff_t first_panel, std::ptrdiff_t end_panel) {
  for (std::ptrdiff_t panel = first_panel; panel < end_panel; ++panel) {
    T* to = panels + (panel * depth + first_row) * kPanel<T>;
    std::ptrdiff_t columns[kPanel<T>];
    for (int j = 0; j < kPanel<T>; ++j) columns[j] = matrix.column(panel * kPanel<T> + j);
    const bool together = columns[0] >= 0 && columns[kPanel<T> - 1] == columns[0] + kPanel<T> - 1;
    for (std::ptrdiff_t k = 0; k < rows; ++k) {
      const T* row = matrix.data + k * matrix.row_stride;
      if (together) {
        store(to, load(row + columns[0]));
        store(to + kLanes<T>, load(row + columns[0] + kLanes<T>));
      } else {
        for (int j = 0; j < kPanel<T>; ++j) to[j] = columns[j] < 0 ? T{0} : row[columns[j]];
      }
      to += kPanel<T>;
    }
  }
}

// Panels as bfloat16, rounded to nearest, ties to even; NaN and infinity are not expected.
inline void narrow(const float* panels, std::ptrdiff_t elements, BFloat16* to) {
  const auto rounded = [](float value) {
    std::uint32_t bits;
    __builtin_memcpy(&bits, &value, sizeof(bits));
    return static_cast<std::uint16_t>((bits + 0x7fffu + (bits >> 16 & 1u)) >> 16);
  };
  for (std::ptrdiff_t row = 0; row < elements; row += kPanel<float>) {
    for (int l = 0; l < kLanes<float>; ++l) {
      to[row + 2 * l].bits = rounded(panels[row + l]);
      to[row + 2 * l + 1].bits = rounded(panels[row + kLanes<float> + l]);
    }
  }
}

// Columns of the matrix become rows first_row …, its rows 0 … rows - 1 become columns.
template <class T>
void pack_transposed(const Blocked<T>& matrix, std::ptrdiff_t rows, T* panels, std::ptrdiff_t depth,
                     std::ptrdiff_t first_row, std::ptrdiff_t first_panel,
                     std::ptrdiff_t end_panel) {
  const std::ptrdiff_t columns = matrix.blocks * matrix.wide;
  for (std::ptrdiff_t panel = first_panel; panel < end_panel; ++panel) {
    T* to = panels + (panel * depth + first_row) * kPanel<T>;
    const std::ptrdiff_t row = panel * kPanel<T>;
    const int present =
        static_cast<int>(rows - row < kPanel<T> ? (rows - row < 0 ? 0 : rows - row) : kPanel<T>);
    for (std::ptrdiff_t k = 0; k < columns; ++k) {
      const std::ptrdiff_t column = matrix.column(k);
      for (int j = 0; j < kPanel<T>; ++j) {
        to[j] =
            column >= 0 && j < present ? matrix.data[(row + j) * matrix.row_stride + column] : T{0};
      }
      to += kPanel<T>;
    }
  }
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

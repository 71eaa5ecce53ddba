// The backward pass of sequence.h, which has the design.

#pragma once

#include "sequence.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// Entries of a chunk: enough that its product repays reading and writing the weight gradients, few
// enough that what it keeps stays in the outer caches.
constexpr std::ptrdiff_t kChunkEntries = 1024;

// The gradients that a cell gives to the static input and to its weights. Both come from the sums
// over time of the gradients of the gates, one row a position.
template <class T>
class StaticGradients {
 public:
  // w_xh and its gradient: of x and, in the rows below, of the static input.
  StaticGradients(const RecurrentCall& call, const Layout<T>& layout, const T* w_xh, T* grad_w_xh,
                  Arena& arena)
      : call_(call),
        layout_(layout),
        weights_(w_xh + layout.X * 4 * layout.N),
        grad_weights_(layout.S, layout.gate_columns(), grad_w_xh + layout.X * 4 * layout.N, arena),
        depth_(panel_depth(layout.B)),
        rows_{take<T>(arena, InputBlocks<T>::size(layout.S, depth_)),
              depth_ * InputBlocks<T>::kWidth},
        totals_{
            layout.S > 0 ? take_zeros<T>(arena, panels_size<T>(4 * layout.wide, depth_)) : nullptr,
            depth_ * kPanel<T>},
        panels_(take<T>(arena, panels_size<T>(layout.S, 4 * layout.wide))) {}

  void prepare(const Place& place) const {
    const std::ptrdiff_t S = layout_.S;
    const Range columns = place.mine_of_all(panels_for<T>(S));
    pack_transposed(layout_.gates_of(weights_), S, panels_, 4 * layout_.wide, 0, columns.begin,
                    columns.end);
    const Range mine = place.mine_of_all(S > 0 ? layout_.B : 0);
    for (std::ptrdiff_t p = mine.begin; p < mine.end; ++p) {
      const std::ptrdiff_t row = call_.schedule.row_of[p];
      rows_.copy_row(static_cast<const T*>(call_.static_values) + row * S, S, p);
    }
  }

  // Adds a chunk's gradients, for some panels of gates.
  void add(const Chunk& chunk, const Panels<T>& grad_gates, Range panels) const {
    if (layout_.S == 0) return;
    for (std::ptrdiff_t panel = panels.begin; panel < panels.end; ++panel) {
      const T* from = grad_gates.data + panel * grad_gates.block_stride;
      T* const totals = totals_.data + panel * totals_.block_stride;
      for (std::ptrdiff_t t = chunk.first_step; t < chunk.end_step; ++t) {
        const std::ptrdiff_t elements = call_.schedule.active[t] * kPanel<T>;
        for (std::ptrdiff_t i = 0; i < elements; i += kLanes<T>) {
          store(totals + i, load(totals + i) + load(from + i));
        }
        from += elements;
      }
    }
  }

  // Elements from one row of `finish` to the next.
  std::ptrdiff_t width() const { return layout_.row_width(layout_.S); }

  // The weights' gradient, and rows [B, S] (+)= that of the static input, by position; after the
  // last chunk on all threads.
  void finish(const Place& place, T* rows, bool add) const {
    if (layout_.S == 0) return;
    const Range columns = place.mine_of_all(layout_.gate_panels);
    grad_weights_.add(rows_, totals_, layout_.B, columns);
    grad_weights_.finish(columns);
    const Range mine = place.mine_of_all(layout_.B);
    T* const to = rows + mine.begin * width();
    const Product<T> product{
        {totals_.at(0, mine.begin), kPanel<T>, totals_.block_stride, 4 * layout_.wide},
        packed(panels_, 4 * layout_.wide),
        {add ? to : nullptr, width()},
        to,
        width()};
    product.run(mine.size(), 0, panels_for<T>(layout_.S));
  }

  // The rows of `finish` that this thread made, to their places.
  void place_rows(const Place& place, const T* rows, T* grad_static) const {
    const Range mine = place.mine_of_all(layout_.S > 0 ? layout_.B : 0);
    for (std::ptrdiff_t p = mine.begin; p < mine.end; ++p) {
      copy(grad_static + call_.schedule.row_of[p] * layout_.S, rows + p * width(),
           layout_.S * static_cast<std::ptrdiff_t>(sizeof(T)));
    }
  }

 private:
  const RecurrentCall& call_;
  const Layout<T> layout_;
  const T* const weights_;
  const WeightGradient<T> grad_weights_;
  const std::ptrdiff_t depth_;
  const InputBlocks<T> rows_;  // the static input, by position
  const Panels<T> totals_;     // Σ over time of the gates' gradients, by position
  T* const panels_;            // of the weights, transposed
};

template <class Rows>
class BackwardPass {
  using T = typename Rows::T;

 public:
  BackwardPass(const RecurrentCall& call, const BackwardCall& back, Arena& arena)
      : call_(call),
        schedule_(call.schedule),
        back_(back),
        layout_(call),
        rows_(call),
        dropout_(call.dropout, call.units),
        chunks_(schedule_, kChunkEntries),
        hidden_panels_(panels_for<T>(layout_.N)),
        input_panels_(back.grad_x == nullptr ? 0 : panels_for<T>(layout_.X)),
        state_width_(layout_.row_width((hidden_panels_ + input_panels_) * kPanel<T>)),
        panels_(take<T>(arena, (hidden_panels_ + input_panels_) * 4 * layout_.wide * kPanel<T>)),
        grad_gates_(chunk_panels(arena, 4 * layout_.wide)),
        hidden_before_(chunk_inputs(arena, layout_.N)),
        x_(chunk_inputs(arena, layout_.X)),
        static_grads_(call, layout_, weight(Rows::kWeightXh), grad_weight(Rows::kWeightXh), arena),
        grad_static_(take<T>(arena, layout_.B * static_grads_.width())),
        bias_totals_(take_zeros<T>(arena, layout_.gates_width)),
        grad_w_hh_(layout_.N, layout_.gate_columns(), grad_weight(Rows::kWeightHh), arena),
        grad_w_xh_(layout_.X, layout_.gate_columns(), grad_weight(Rows::kWeightXh), arena),
        grad_hidden_(take_zeros<T>(arena, layout_.B * state_width_)),
        grad_cells_(take_zeros<T>(arena, layout_.B * layout_.wide)),
        no_gradient_(take_zeros<T>(arena, layout_.wide)),
        scratch_size_(Rows::scratch_size(layout_.N) + layout_.wide),
        scratch_(take_zeros<T>(arena, call.threads * scratch_size_)),
        sums_size_(round_up(Rows::sums_size(layout_.N), 16) + 16),
        sums_(take_zeros<T>(arena, call.threads * sums_size_)) {}

  void run(const Place& place) {
    prepare(place);
    place.meet_all();
    const std::ptrdiff_t most = place.rows(layout_.B);
    place.each_of_mine(most, [&](std::ptrdiff_t position) { enter(position); });
    place.meet_team();
    chunks_.each([&](const Chunk& chunk) {
      for (std::ptrdiff_t k = chunk.end - 1; k >= chunk.begin; --k) {
        step_back(place, chunk, schedule_.step(k));
      }
      place.meet_all();
      gather(place, chunk);
      place.meet_all();
    });
    place.each_of_mine(most, [&](std::ptrdiff_t position) { leave(position); });
    finish(place);
  }

 private:
  Panels<T> chunk_panels(Arena& arena, std::ptrdiff_t columns) const {
    return {take<T>(arena, panels_size<T>(columns, chunks_.depth())), chunks_.depth() * kPanel<T>};
  }

  InputBlocks<T> chunk_inputs(Arena& arena, std::ptrdiff_t columns) const {
    return {take<T>(arena, InputBlocks<T>::size(columns, chunks_.depth())),
            chunks_.depth() * InputBlocks<T>::kWidth};
  }

  const T* weight(int index) const { return static_cast<const T*>(call_.weights[index]); }
  static std::ptrdiff_t bytes(std::ptrdiff_t elements) {
    return elements * static_cast<std::ptrdiff_t>(sizeof(T));
  }

  void prepare(const Place& place) const {
    const std::ptrdiff_t N = layout_.N, depth = 4 * layout_.wide;
    const Range columns = place.mine_of_all(hidden_panels_);
    pack_transposed(layout_.gates_of(weight(Rows::kWeightHh)), N, panels_, depth, 0, columns.begin,
                    columns.end);
    const Range inputs = place.mine_of_all(input_panels_);
    pack_transposed(layout_.gates_of(weight(Rows::kWeightXh)), layout_.X,
                    panels_ + hidden_panels_ * depth * kPanel<T>, depth, 0, inputs.begin,
                    inputs.end);
    static_grads_.prepare(place);
  }

  void enter(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    copy(grad_hidden_ + position * state_width_,
         static_cast<const T*>(back_.grad_state[0]) + row * N, bytes(N));
    copy(grad_cells_ + position * layout_.wide,
         static_cast<const T*>(back_.grad_state[1]) + row * N, bytes(N));
  }

  void step_back(const Place& place, const Chunk& chunk, std::ptrdiff_t t) const {
    const std::ptrdiff_t active = schedule_.active[t];
    const std::ptrdiff_t first = schedule_.entry[t] - chunk.first_entry;
    place.each_of_mine(place.rows(active), [&](std::ptrdiff_t position) {
      gates_back(place, t, position, first + position);
    });
    place.meet_team();
    const std::ptrdiff_t stride = place.teams;
    const Product<T> product{{grad_gates_.at(0, first + place.team), stride * kPanel<T>,
                              grad_gates_.block_stride, 4 * layout_.wide},
                             packed(panels_, 4 * layout_.wide),
                             {nullptr, 0},
                             grad_hidden_ + place.team * state_width_,
                             stride * state_width_};
    const Range columns = place.mine_of_team(hidden_panels_ + input_panels_);
    product.run(place.rows(active), columns.begin, columns.end, t % 2 != 0);
    place.meet_team();
    if (back_.grad_x != nullptr) store_grad_x(place, t);
  }

  // One row's own step: the gradients of its gates and of c, and its inputs, into the panels.
  void gates_back(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position,
                  std::ptrdiff_t depth_row) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, B = layout_.B;
    const std::ptrdiff_t before = schedule_.step_before(t, position);
    T* const scratch = scratch_ + place.thread * scratch_size_;
    T* const factors = call_.dropout.keep_prob < 1.0 ? scratch + Rows::scratch_size(N) : nullptr;
    if (factors != nullptr) dropout_.fill(t, row, factors);
    const T* const cell_before = before < 0 ? static_cast<const T*>(call_.state[1]) + row * N
                                            : saved(schedule_.entry[before] + position).cell;
    const T* const hidden_before =
        before < 0 ? static_cast<const T*>(call_.state[0]) + row * N
                   : static_cast<const T*>(back_.hidden) + (before * B + row) * N;
    const T* const grad_output = back_.grad_hidden == nullptr
                                     ? no_gradient_
                                     : static_cast<const T*>(back_.grad_hidden) + (t * B + row) * N;
    const BackwardRow<T> the_row{factors, cell_before, grad_output,
                                 grad_hidden_ + position * state_width_,
                                 grad_cells_ + position * layout_.wide};
    rows_.backward(the_row, saved(schedule_.entry[t] + position), layout_.wide, grad_gates_,
                   depth_row, scratch, sums_ + place.thread * sums_size_);
    hidden_before_.copy_row(hidden_before, N, depth_row);
    x_.copy_row(static_cast<const T*>(call_.x) + (t * B + row) * layout_.X, layout_.X, depth_row);
  }

  typename Rows::Saved saved(std::ptrdiff_t entry) const {
    // Saved values are only read here.
    return Rows::saved(const_cast<T*>(static_cast<const T*>(back_.saved)), schedule_.entries(),
                       layout_.N, entry);
  }

  void store_grad_x(const Place& place, std::ptrdiff_t t) const {
    place.each_of_mine(place.rows(layout_.B), [&](std::ptrdiff_t position) {
      T* const to =
          static_cast<T*>(back_.grad_x) + (t * layout_.B + schedule_.row_of[position]) * layout_.X;
      if (position < schedule_.active[t]) {
        copy(to, grad_hidden_ + position * state_width_ + hidden_panels_ * kPanel<T>,
             bytes(layout_.X));
      } else {
        clear(to, bytes(layout_.X));
      }
    });
  }

  // The chunk's products, over all its entries; each thread has some of the columns.
  void gather(const Place& place, const Chunk& chunk) const {
    const Range columns = place.mine_of_all(layout_.gate_panels);
    grad_w_hh_.add(hidden_before_, grad_gates_, chunk.entries, columns);
    grad_w_xh_.add(x_, grad_gates_, chunk.entries, columns);
    static_grads_.add(chunk, grad_gates_, columns);
    if (Rows::kBias >= 0) add_column_sums(grad_gates_, chunk.entries, columns, bias_totals_);
  }

  void leave(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    copy(static_cast<T*>(back_.grad_initial[0]) + row * N, grad_hidden_ + position * state_width_,
         bytes(N));
    copy(static_cast<T*>(back_.grad_initial[1]) + row * N, grad_cells_ + position * layout_.wide,
         bytes(N));
  }

  // What remains after the last chunk: the static input, the bias and the norms.
  void finish(const Place& place) const {
    const Range columns = place.mine_of_all(layout_.gate_panels);
    grad_w_hh_.finish(columns);
    grad_w_xh_.finish(columns);
    static_grads_.finish(place, grad_static_, false);
    static_grads_.place_rows(place, grad_static_, static_cast<T*>(back_.grad_static));
    if (place.thread != 0) return;
    for (int gate = 0; Rows::kBias >= 0 && gate < 4; ++gate) {
      copy(grad_weight(Rows::kBias) + gate * layout_.N, bias_totals_ + gate * layout_.wide,
           bytes(layout_.N));
    }
    for (int thread = 0; Rows::sums_size(layout_.N) > 0 && thread < place.threads; ++thread) {
      rows_.add_sums(sums_ + thread * sums_size_, thread == 0, back_);
    }
  }

  T* grad_weight(int index) const { return static_cast<T*>(back_.grad_weights[index]); }

  const RecurrentCall& call_;
  const Schedule& schedule_;
  const BackwardCall& back_;
  const Layout<T> layout_;
  const Rows rows_;
  const DropoutRows<T> dropout_;
  const Chunks chunks_;
  const std::ptrdiff_t hidden_panels_, input_panels_;  // of the step's product
  const std::ptrdiff_t state_width_;
  T* const panels_;                     // of [W_hh ; W_x]ᵀ
  const Panels<T> grad_gates_;          // da of a chunk's entries
  const InputBlocks<T> hidden_before_;  // h before each of its steps
  const InputBlocks<T> x_;              // and x
  const StaticGradients<T> static_grads_;
  T* const grad_static_;  // [B] rows, by position
  T* const bias_totals_;
  const WeightGradient<T> grad_w_hh_, grad_w_xh_;
  T* const grad_hidden_;        // [B] rows: dh that comes back through time, then dx
  T* const grad_cells_;         // [B] rows: dc
  const T* const no_gradient_;  // a row of zeros
  const std::ptrdiff_t scratch_size_;
  T* const scratch_;  // as in forward
  const std::ptrdiff_t sums_size_;
  T* const sums_;  // the norms' gradients, for each thread
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// Whole sequences of an LSTM or LayerNorm-LSTM: what happens before and after a row's own step
// (lstm_row.h, layer_norm_lstm_row.h), which is the `Rows` of the templates here.
//
// Forward. The weights are packed once a call; the static input's product is made once a sequence
// and is what each step's product starts from. A step is then one product for a team's rows,
//
//   gates [R, 4 N] = start + [h, x_t] [R, N + X] · [W_hh ; W_xh] [N + X, 4 N]
//
// whose columns are padded gate by gate to whole vectors, and one pass over each row.
//
// Backward runs against the walk in chunks of steps. In each step a row's gates get their gradients
// da (one pass a row), which go back through time by
//
//   [dh, dx_t] [R, N + X] = da [R, 4 N] · [W_hh ; W_x]ᵀ [4 N, N + X]
//
// and all da of a chunk stay, with the inputs of their steps, until its end; then the threads share
// out the columns of  dW += [h, x]ᵀ · da  and the sums of da over time, which give the gradients of
// the static input's weights, of the static input and of the bias. So da never exists for the whole
// sequence, and each weight gradient is read and written once a chunk.

#pragma once

#include "dropout_row.h"
#include "gradients.h"
#include "layer_norm_lstm_row.h"
#include "lstm_row.h"
#include "place.h"
#include "product.h"
#include "run_calls.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// The sizes of a call and how the scratch of one of its cells is laid out.
template <class T>
struct Layout {
  std::ptrdiff_t T_steps, B, X, S, N;
  std::ptrdiff_t wide;         // columns of one gate in scratch
  std::ptrdiff_t gate_panels;  // panels of 4 gates
  std::ptrdiff_t gates_width;  // of a row of gates, padded

  explicit Layout(const RecurrentCall& call) : Layout(call, call.units, kLanes<T>) {}
  Layout(const RecurrentCall& call, std::ptrdiff_t units, std::ptrdiff_t gate_multiple)
      : T_steps(call.schedule.time_steps),
        B(call.schedule.rows),
        X(call.input),
        S(call.static_input),
        N(units),
        wide(round_up(N, gate_multiple)),
        gate_panels(panels_for<T>(4 * wide)),
        gates_width(row_width(4 * wide)) {}

  // Rows a whole number of vectors wide, and never a multiple of 4 KiB apart.
  static std::ptrdiff_t row_width(std::ptrdiff_t columns) {
    return round_up(columns, kPanel<T>) + kLanes<T>;
  }

  Blocked<T> gates_of(const T* weights) const { return {weights, 4 * N, 4, N, wide}; }

  // Whether weights [·, 4 N] may be read where they lie: their columns are whole panels already,
  // and they are used for one step of few rows.
  bool weights_as_they_lie() const {
    return wide == N && 4 * N % kPanel<T> == 0 && T_steps == 1 && B <= kTileRows;
  }
  GateColumns gate_columns() const { return {4, N, wide, 4 * N}; }
};

// Parts of the static input's share in the gates, which is constant in time.
template <class T>
struct StaticInput {
  const Schedule& schedule;
  const Layout<T>& layout;
  const T* values;   // [B, S] in the order of the rows, or null
  const T* weights;  // [S, 4 N]
  T* rows;           // [B, S] in the order of the positions
  T* panels;         // of the weights

  // w_xh: of x and, in the rows below, of the static input.
  StaticInput(const RecurrentCall& call, const Layout<T>& sizes, const T* w_xh, Arena& arena)
      : schedule(call.schedule),
        layout(sizes),
        values(static_cast<const T*>(call.static_values)),
        weights(w_xh + sizes.X * 4 * sizes.N),
        rows(take<T>(arena, sizes.B * sizes.S)),
        panels(take<T>(arena, panels_size<T>(4 * sizes.wide, sizes.S))) {}

  void prepare(const Place& place) const {
    const Range mine = place.mine_of_all(layout.B);
    const std::ptrdiff_t S = layout.S;
    for (std::ptrdiff_t p = mine.begin; p < mine.end; ++p) {
      copy(rows + p * S, values + schedule.row_of[p] * S,
           S * static_cast<std::ptrdiff_t>(sizeof(T)));
    }
    if (layout.weights_as_they_lie()) return;
    const Range columns = place.mine_of_all(layout.gate_panels);
    pack(layout.gates_of(weights), S, panels, S, 0, columns.begin, columns.end);
  }

  // to [B, 4 gates] = start + rows · weights; after `prepare` on all threads.
  void multiply(const Place& place, const T* start, T* to) const {
    const std::ptrdiff_t S = layout.S, width = layout.gates_width;
    const bool few = layout.weights_as_they_lie();
    const Right<T> right = few ? as_it_lies(weights, 4 * layout.N) : packed(panels, S);
    // Few rows are not worth sharing out, columns are.
    const Range mine = few ? Range{0, layout.B} : place.mine_of_all(layout.B);
    const Range columns =
        few ? place.mine_of_all(layout.gate_panels) : Range{0, layout.gate_panels};
    const Product<T> product{
        row_major(rows + mine.begin * S, S, S), right, {start, 0}, to + mine.begin * width, width};
    product.run(mine.size(), columns.begin, columns.end);
  }
};

template <class Rows>
class ForwardPass {
  using T = typename Rows::T;

 public:
  ForwardPass(const RecurrentCall& call, const ForwardResults& results, Arena& arena)
      : call_(call),
        schedule_(call.schedule),
        results_(results),
        layout_(call),
        rows_(call),
        dropout_(call.dropout, call.units),
        static_(call, layout_, weight(Rows::kWeightXh), arena),
        panels_(take<T>(arena, panels_size<T>(4 * layout_.wide, layout_.N + layout_.X))),
        start_(take_zeros<T>(arena, layout_.gates_width)),
        static_start_(take<T>(arena, layout_.S > 0 ? layout_.B * layout_.gates_width : 0)),
        input_width_(layout_.row_width(layout_.N + layout_.X)),
        inputs_(take<T>(arena, layout_.B * input_width_)),
        gates_(take<T>(arena, layout_.B * layout_.gates_width)),
        cells_(take_zeros<T>(arena, layout_.B * layout_.wide)),
        scratch_size_(Rows::scratch_size(layout_.N) + layout_.wide),
        scratch_(take_zeros<T>(arena, call.threads * scratch_size_)) {
    if (Rows::kBias >= 0) {
      for (int gate = 0; gate < 4; ++gate) {
        copy(start_ + gate * layout_.wide, weight(Rows::kBias) + gate * layout_.N,
             bytes(layout_.N));
      }
    }
  }

  void run(const Place& place) {
    prepare(place);
    place.meet_all();
    if (layout_.S > 0) {
      static_.multiply(place, start_, static_start_);
      place.meet_all();
    }
    const std::ptrdiff_t most = place.rows(layout_.B);
    place.each_of_mine(most, [&](std::ptrdiff_t position) { enter(position); });
    load_inputs(place, 0);
    place.meet_team();
    for (std::ptrdiff_t k = 0; k < layout_.T_steps; ++k) {
      const std::ptrdiff_t t = schedule_.step(k);
      multiply(place, t);
      place.meet_team();
      place.each_of_mine(place.rows(schedule_.active[t]),
                         [&](std::ptrdiff_t position) { step(place, t, position); });
      leave_idle_rows_zero(place, t);
      if (k + 1 < layout_.T_steps) load_inputs(place, k + 1);
      place.meet_team();
    }
    place.each_of_mine(most, [&](std::ptrdiff_t position) { leave(position); });
  }

 private:
  const T* weight(int index) const { return static_cast<const T*>(call_.weights[index]); }
  static std::ptrdiff_t bytes(std::ptrdiff_t elements) {
    return elements * static_cast<std::ptrdiff_t>(sizeof(T));
  }
  T* input_of(std::ptrdiff_t position) const { return inputs_ + position * input_width_; }
  T* cell_of(std::ptrdiff_t position) const { return cells_ + position * layout_.wide; }

  void prepare(const Place& place) const {
    if (layout_.S > 0) static_.prepare(place);
    if (layout_.weights_as_they_lie()) return;
    const Range columns = place.mine_of_all(layout_.gate_panels);
    const std::ptrdiff_t N = layout_.N, depth = N + layout_.X;
    pack(layout_.gates_of(weight(Rows::kWeightHh)), N, panels_, depth, 0, columns.begin,
         columns.end);
    pack(layout_.gates_of(weight(Rows::kWeightXh)), layout_.X, panels_, depth, N, columns.begin,
         columns.end);
  }

  void enter(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    copy(input_of(position), static_cast<const T*>(call_.state[0]) + row * N, bytes(N));
    copy(cell_of(position), static_cast<const T*>(call_.state[1]) + row * N, bytes(N));
  }

  // x of the k-th step beside h.
  void load_inputs(const Place& place, std::ptrdiff_t k) const {
    const std::ptrdiff_t t = schedule_.step(k), X = layout_.X;
    place.each_of_mine(place.rows(schedule_.active[t]), [&](std::ptrdiff_t position) {
      const std::ptrdiff_t row = schedule_.row_of[position];
      copy(input_of(position) + layout_.N,
           static_cast<const T*>(call_.x) + (t * layout_.B + row) * X, bytes(X));
    });
  }

  void multiply(const Place& place, std::ptrdiff_t t) const {
    const std::ptrdiff_t stride = place.teams;
    const std::ptrdiff_t width = layout_.gates_width;
    const Start<T> start = layout_.S > 0
                               ? Start<T>{static_start_ + place.team * width, stride * width}
                               : Start<T>{start_, 0};
    T* const gates = gates_ + place.team * width;
    const std::ptrdiff_t N = layout_.N, X = layout_.X;
    const std::ptrdiff_t input_stride = stride * input_width_;
    const T* const inputs = input_of(place.team);
    const Range columns = place.mine_of_team(layout_.gate_panels);
    const auto run = [&](const T* left, std::ptrdiff_t depth, const Right<T>& right,
                         const Start<T>& from) {
      const Product<T> product{row_major(left, input_stride, depth), right, from, gates,
                               stride * width};
      product.run(place.rows(schedule_.active[t]), columns.begin, columns.end, t % 2 != 0);
    };
    if (layout_.weights_as_they_lie()) {
      run(inputs, N, as_it_lies(weight(Rows::kWeightHh), 4 * N), start);
      run(inputs + N, X, as_it_lies(weight(Rows::kWeightXh), 4 * N), {gates, stride * width});
    } else {
      run(inputs, N + X, packed(panels_, N + X), start);
    }
  }

  void step(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    T* const scratch = scratch_ + place.thread * scratch_size_;
    T* const factors = call_.dropout.keep_prob < 1.0 ? scratch + Rows::scratch_size(N) : nullptr;
    if (factors != nullptr) dropout_.fill(t, row, factors);
    const ForwardRow<T> the_row{gates_ + position * layout_.gates_width, layout_.wide, factors,
                                cell_of(position), input_of(position)};
    T* const saved = static_cast<T*>(results_.saved);
    if (saved != nullptr) {
      const std::ptrdiff_t entry = schedule_.entry[t] + position;
      rows_.template forward<true>(the_row, Rows::saved(saved, schedule_.entries(), N, entry),
                                   scratch);
    } else {
      rows_.template forward<false>(the_row, {}, scratch);
    }
    copy(output_of(t, row), input_of(position), bytes(N));
  }

  T* output_of(std::ptrdiff_t t, std::ptrdiff_t row) const {
    return static_cast<T*>(results_.hidden) + (t * layout_.B + row) * layout_.N;
  }

  // The outputs of rows past their end.
  void leave_idle_rows_zero(const Place& place, std::ptrdiff_t t) const {
    place.each_of_mine(place.rows(layout_.B), [&](std::ptrdiff_t position) {
      if (position < schedule_.active[t]) return;
      clear(output_of(t, schedule_.row_of[position]), bytes(layout_.N));
    });
  }

  void leave(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    copy(static_cast<T*>(results_.final_state[0]) + row * N, input_of(position), bytes(N));
    copy(static_cast<T*>(results_.final_state[1]) + row * N, cell_of(position), bytes(N));
  }

  const RecurrentCall& call_;
  const Schedule& schedule_;
  const ForwardResults& results_;
  const Layout<T> layout_;
  const Rows rows_;
  const DropoutRows<T> dropout_;
  const StaticInput<T> static_;
  T* const panels_;        // of [W_hh ; W_xh]
  T* const start_;         // the bias, or zeros
  T* const static_start_;  // [B] rows of gates: the bias and the static input's product
  const std::ptrdiff_t input_width_;
  T* const inputs_;  // [B] rows [h, x]
  T* const gates_;   // [B] rows of gates
  T* const cells_;   // [B] rows
  const std::ptrdiff_t scratch_size_;
  T* const scratch_;  // for each thread: a row's own scratch, then its dropout factors
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

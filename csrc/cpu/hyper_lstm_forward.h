// The forward pass of hyper_lstm.h, which has the design.

#pragma once

#include "hyper_lstm.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

template <class T>
class HyperForwardPass {
 public:
  HyperForwardPass(const RecurrentCall& call, const ForwardResults& results, Arena& arena)
      : call_(call),
        schedule_(call.schedule),
        results_(results),
        layout_(call),
        rows_(norm_rows<T>(call, call.units, kAllGamma)),
        hyper_rows_(norm_rows<T>(call, call.hyper_units, kHyperAllGamma)),
        dropout_(call.dropout, call.units),
        static_(call, layout_.main, weight(kWXh), arena),
        hyper_static_(call, layout_.hyper, weight(kHyperWXh), arena),
        scales_(layout_, arena),
        h_panels_(take<T>(arena, panels_size<T>(4 * layout_.main.wide, layout_.N))),
        hyper_panels_(take<T>(arena, panels_size<T>(4 * layout_.hyper.wide, layout_.depth))),
        code_panels_(take<T>(arena, panels_size<T>(kCodes * layout_.code_wide, layout_.H))),
        code_bias_(take_zeros<T>(arena, layout_.codes_width)),
        static_start_(take<T>(arena, layout_.S > 0 ? rows() * layout_.main.gates_width : 0)),
        hyper_static_start_(take<T>(arena, layout_.S > 0 ? rows() * layout_.hyper.gates_width : 0)),
        inputs_(take<T>(arena, rows() * layout_.input_width)),
        h_products_(take<T>(arena, rows() * layout_.main.gates_width)),
        gates_(take<T>(arena, rows() * layout_.main.gates_width)),
        hyper_gates_(take<T>(arena, rows() * layout_.hyper.gates_width)),
        codes_(take<T>(arena, rows() * layout_.codes_width)),
        cells_(take_zeros<T>(arena, rows() * layout_.main.wide)),
        hyper_cells_(take_zeros<T>(arena, rows() * layout_.hyper.wide)),
        scratch_size_(
            LayerNormLSTMRows<T>::scratch_size(layout_.N > layout_.H ? layout_.N : layout_.H) +
            layout_.main.wide),
        scratch_(take_zeros<T>(arena, call.threads * scratch_size_)) {}

  void run(const Place& place) {
    prepare(place);
    place.meet_all();
    if (layout_.S > 0) {
      static_.multiply(place, nullptr, static_start_);
      hyper_static_.multiply(place, nullptr, hyper_static_start_);
      place.meet_all();
    }
    const std::ptrdiff_t most = place.rows(rows());
    place.each_of_mine(most, [&](std::ptrdiff_t position) { enter(position); });
    load_inputs(place, 0);
    place.meet_team();
    for (std::ptrdiff_t k = 0; k < layout_.main.T_steps; ++k) {
      const std::ptrdiff_t t = schedule_.step(k);
      const std::ptrdiff_t count = place.rows(schedule_.active[t]);
      multiply(place, count);
      place.meet_team();
      place.each_of_mine(count, [&](std::ptrdiff_t p) { hyper_step(place, t, p); });
      place.meet_team();
      make_codes(place, count);
      place.meet_team();
      make_gates(place, count);
      place.meet_team();
      place.each_of_mine(count, [&](std::ptrdiff_t p) { step(place, t, p); });
      leave_idle_rows_zero(place, t);
      if (k + 1 < layout_.main.T_steps) load_inputs(place, k + 1);
      place.meet_team();
    }
    place.each_of_mine(most, [&](std::ptrdiff_t position) { leave(position); });
  }

 private:
  std::ptrdiff_t rows() const { return layout_.main.B; }
  const T* weight(int index) const { return static_cast<const T*>(call_.weights[index]); }
  const T* initial(int index) const { return static_cast<const T*>(call_.state[index]); }
  static std::ptrdiff_t bytes(std::ptrdiff_t elements) {
    return elements * static_cast<std::ptrdiff_t>(sizeof(T));
  }
  T* input_of(std::ptrdiff_t position) const { return inputs_ + position * layout_.input_width; }
  T* hyper_hidden_of(std::ptrdiff_t position) const {
    return input_of(position) + layout_.N + layout_.X;
  }

  void prepare(const Place& place) const {
    const std::ptrdiff_t N = layout_.N, X = layout_.X, H = layout_.H, S = layout_.S;
    const Range columns = place.mine_of_all(layout_.main.gate_panels);
    pack(layout_.main.gates_of(weight(kWHh)), N, h_panels_, N, 0, columns.begin, columns.end);
    const Range hyper = place.mine_of_all(layout_.hyper.gate_panels);
    const T* const w_xh = weight(kHyperWXh);
    const auto pack_hyper = [&](const T* from, std::ptrdiff_t count, std::ptrdiff_t first) {
      pack(layout_.hyper.gates_of(from), count, hyper_panels_, layout_.depth, first, hyper.begin,
           hyper.end);
    };
    pack_hyper(w_xh + (X + S) * 4 * H, N, 0);
    pack_hyper(w_xh, X, N);
    pack_hyper(weight(kHyperWHh), H, N + X);
    scales_.pack_mine(call_, layout_, place);
    pack_codes(place);
    if (S > 0) {
      static_.prepare(place);
      hyper_static_.prepare(place);
    }
  }

  void pack_codes(const Place& place) const {
    for (int code = place.thread; code < kCodes; code += place.threads) {
      pack_code(call_, layout_, code, code_panels_, code_bias_);
    }
  }

  void enter(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, H = layout_.H;
    copy(input_of(position), initial(0) + row * N, bytes(N));
    copy(cells_ + position * layout_.main.wide, initial(1) + row * N, bytes(N));
    copy(hyper_hidden_of(position), initial(2) + row * H, bytes(H));
    copy(hyper_cells_ + position * layout_.hyper.wide, initial(3) + row * H, bytes(H));
  }

  // x of the k-th step beside h.
  void load_inputs(const Place& place, std::ptrdiff_t k) const {
    const std::ptrdiff_t t = schedule_.step(k), X = layout_.X;
    place.each_of_mine(place.rows(schedule_.active[t]), [&](std::ptrdiff_t position) {
      const std::ptrdiff_t row = schedule_.row_of[position];
      copy(input_of(position) + layout_.N, static_cast<const T*>(call_.x) + (t * rows() + row) * X,
           bytes(X));
    });
  }

  // r and the hyper cell's gates.
  void multiply(const Place& place, std::ptrdiff_t count) const {
    const std::ptrdiff_t stride = place.teams;
    const T* const inputs = input_of(place.team);
    const std::ptrdiff_t width = layout_.main.gates_width;
    const std::ptrdiff_t hyper_width = layout_.hyper.gates_width;
    const Product<T> by_h{row_major(inputs, stride * layout_.input_width, layout_.N),
                          packed(h_panels_, layout_.N),
                          {nullptr, 0},
                          h_products_ + place.team * width,
                          stride * width};
    const Range columns = place.mine_of_team(layout_.main.gate_panels);
    by_h.run(count, columns.begin, columns.end);
    const Start<T> start = layout_.S > 0 ? Start<T>{hyper_static_start_ + place.team * hyper_width,
                                                    stride * hyper_width}
                                         : Start<T>{nullptr, 0};
    const Product<T> hyper{row_major(inputs, stride * layout_.input_width, layout_.depth),
                           packed(hyper_panels_, layout_.depth), start,
                           hyper_gates_ + place.team * hyper_width, stride * hyper_width};
    const Range hyper_columns = place.mine_of_team(layout_.hyper.gate_panels);
    hyper.run(count, hyper_columns.begin, hyper_columns.end);
  }

  HyperSaved<T> saved(std::ptrdiff_t t, std::ptrdiff_t position) const {
    if (results_.saved == nullptr) return {};
    return hyper_saved(static_cast<T*>(results_.saved), schedule_.entries(), layout_.N, layout_.H,
                       layout_.E, schedule_.entry[t] + position);
  }

  void hyper_step(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position) const {
    T* const scratch = scratch_ + place.thread * scratch_size_;
    T* const hidden = hyper_hidden_of(position);
    const ForwardRow<T> row{hyper_gates_ + position * layout_.hyper.gates_width, layout_.hyper.wide,
                            nullptr, hyper_cells_ + position * layout_.hyper.wide, hidden};
    if (results_.saved == nullptr) {
      hyper_rows_.template forward<false>(row, {}, scratch);
      return;
    }
    const HyperSaved<T> to = saved(t, position);
    hyper_rows_.template forward<true>(
        row, {to.hyper_gates, layout_.H, to.hyper_cell, to.hyper_statistics}, scratch);
    copy(to.hyper_hidden, hidden, bytes(layout_.H));
  }

  void make_codes(const Place& place, std::ptrdiff_t count) const {
    const std::ptrdiff_t stride = place.teams;
    const Product<T> product{
        row_major(hyper_hidden_of(place.team), stride * layout_.input_width, layout_.H),
        packed(code_panels_, layout_.H),
        {code_bias_, 0},
        codes_ + place.team * layout_.codes_width,
        stride * layout_.codes_width};
    const Range columns = place.mine_of_team(kCodes * layout_.code_panels);
    product.run(count, columns.begin, columns.end);
  }

  void make_gates(const Place& place, std::ptrdiff_t count) const {
    const std::ptrdiff_t stride = place.teams, width = layout_.main.gates_width;
    const std::ptrdiff_t at = place.team * width;
    ScaleRows<T> scale{};
    scale.codes = codes_ + place.team * layout_.codes_width;
    scale.codes_stride = stride * layout_.codes_width;
    scale.x = input_of(place.team) + layout_.N;
    scale.x_stride = stride * layout_.input_width;
    if (layout_.S > 0) scale.static_start = {static_start_ + at, stride * width};
    scale.h_products = h_products_ + at;
    scale.gates = gates_ + at;
    scale.gates_stride = stride * width;
    scale_gates<false>(scales_.weights(layout_), scale, count,
                       place.mine_of_team(layout_.main.gate_panels));
  }

  void step(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    T* const scratch = scratch_ + place.thread * scratch_size_;
    T* const factors =
        call_.dropout.keep_prob < 1.0 ? scratch + scratch_size_ - layout_.main.wide : nullptr;
    if (factors != nullptr) dropout_.fill(t, row, factors);
    const ForwardRow<T> the_row{gates_ + position * layout_.main.gates_width, layout_.main.wide,
                                factors, cells_ + position * layout_.main.wide, input_of(position)};
    if (results_.saved == nullptr) {
      rows_.template forward<false>(the_row, {}, scratch);
    } else {
      const HyperSaved<T> to = saved(t, position);
      rows_.template forward<true>(the_row, {nullptr, 0, to.cell, to.statistics}, scratch);
      save_products(to, position);
    }
    copy(output_of(t, row), input_of(position), bytes(N));
  }

  void save_products(const HyperSaved<T>& to, std::ptrdiff_t position) const {
    const T* const products = h_products_ + position * layout_.main.gates_width;
    for (int gate = 0; gate < 4; ++gate) {
      copy(to.h_products + gate * layout_.N, products + gate * layout_.main.wide, bytes(layout_.N));
    }
    const T* const codes = codes_ + position * layout_.codes_width;
    for (int code = 0; code < kCodes; ++code) {
      copy(to.codes + code * layout_.E, codes + code * layout_.code_wide, bytes(layout_.E));
    }
  }

  T* output_of(std::ptrdiff_t t, std::ptrdiff_t row) const {
    return static_cast<T*>(results_.hidden) + (t * rows() + row) * layout_.N;
  }

  // The outputs of rows past their end.
  void leave_idle_rows_zero(const Place& place, std::ptrdiff_t t) const {
    place.each_of_mine(place.rows(rows()), [&](std::ptrdiff_t position) {
      if (position < schedule_.active[t]) return;
      clear(output_of(t, schedule_.row_of[position]), bytes(layout_.N));
    });
  }

  void leave(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, H = layout_.H;
    const auto final_state = [&](int i) { return static_cast<T*>(results_.final_state[i]); };
    copy(final_state(0) + row * N, input_of(position), bytes(N));
    copy(final_state(1) + row * N, cells_ + position * layout_.main.wide, bytes(N));
    copy(final_state(2) + row * H, hyper_hidden_of(position), bytes(H));
    copy(final_state(3) + row * H, hyper_cells_ + position * layout_.hyper.wide, bytes(H));
  }

  const RecurrentCall& call_;
  const Schedule& schedule_;
  const ForwardResults& results_;
  const HyperLayout<T> layout_;
  const LayerNormLSTMRows<T> rows_, hyper_rows_;
  const DropoutRows<T> dropout_;
  const StaticInput<T> static_, hyper_static_;
  const PackedScales<T> scales_;
  T* const h_panels_;      // of W_hh
  T* const hyper_panels_;  // of [Ŵ_h ; Ŵ_x ; Ŵ_hh]
  T* const code_panels_;   // of the embeddings, code by code
  T* const code_bias_;     // a row of codes
  T* const static_start_;  // s, [B] rows of gates
  T* const hyper_static_start_;
  T* const inputs_;      // [B] rows [h, x, ĥ]
  T* const h_products_;  // r, [B] rows of gates
  T* const gates_;
  T* const hyper_gates_;
  T* const codes_;
  T* const cells_;
  T* const hyper_cells_;
  const std::ptrdiff_t scratch_size_;
  T* const scratch_;  // for each thread: a row's own scratch, then its dropout factors
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

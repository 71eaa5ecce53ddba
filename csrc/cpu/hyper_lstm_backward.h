// The backward pass of hyper_lstm.h, which has the design; chunks and panels as in
// sequence_backward.h. One step back, with da the gradient of the main cell's gates, and
// p = s + x W_x:
//
//   factors, p and a again from the saved codes and r
//   da from dh and dc                                        a pass over each row, which leaves
//       d(x products) = da · factor_x     d(factor_x) = da · p
//       d(h products) = da · factor_h     d(factor_h) = da · r      and da in panels
//   dcodes [R, 12 E] = d(factor_x) A^xᵀ, d(factor_h) A^hᵀ, da Bᵀ     gate by gate
//   dĥ += dcodes · [Z^x, Z^h, Z^b]ᵀ
//   dĝ from dĥ and dĉ                                        a pass over each row
//   [dh, dx] = d(h products) · W_hhᵀ, d(x products) · W_xᵀ, and + dĝ · [Ŵ_h ; Ŵ_x]ᵀ
//   dĥ = dĝ · Ŵ_hhᵀ
//
// and at the end of a chunk the gradients of all matrices, as products over its entries.

#pragma once

#include "hyper_lstm_backward_weights.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// Five panels of gates are kept for a chunk instead of one.
constexpr std::ptrdiff_t kHyperChunkEntries = 512;

template <class T>
class HyperBackwardPass {
 public:
  HyperBackwardPass(const RecurrentCall& call, const BackwardCall& back, Arena& arena)
      : call_(call),
        schedule_(call.schedule),
        back_(back),
        layout_(call),
        rows_(norm_rows<T>(call, call.units, kAllGamma)),
        hyper_rows_(norm_rows<T>(call, call.hyper_units, kHyperAllGamma)),
        dropout_(call.dropout, call.units),
        static_(call, layout_.main, weight(kWXh), arena),
        scales_(layout_, arena),
        chunks_(schedule_, kHyperChunkEntries),
        packed_(layout_, back.grad_x != nullptr, arena),
        state_width_(Layout<T>::row_width((packed_.n_panels + packed_.x_panels) * kPanel<T>)),
        hyper_state_width_(Layout<T>::row_width(packed_.hyper_n_panels * kPanel<T>)),
        static_start_(take<T>(arena, layout_.S > 0 ? rows() * layout_.main.gates_width : 0)),
        grad_gates_(chunk_panels(arena, packed_.main_depth)),
        grad_x_products_(chunk_panels(arena, packed_.main_depth)),
        grad_h_products_(chunk_panels(arena, packed_.main_depth)),
        grad_factors_{chunk_panels(arena, packed_.main_depth),
                      chunk_panels(arena, packed_.main_depth), grad_gates_},
        grad_hyper_gates_(chunk_panels(arena, packed_.hyper_depth)),
        grad_codes_(chunk_panels(arena, kCodes * layout_.code_wide)),
        hidden_before_(chunk_inputs(arena, layout_.N)),
        x_(chunk_inputs(arena, layout_.X)),
        hyper_hidden_before_(chunk_inputs(arena, layout_.H)),
        hyper_hidden_(chunk_inputs(arena, layout_.H)),
        codes_(chunk_inputs(arena, kCodes * InputBlocks<T>::blocks_for(layout_.E) * kTileRows)),
        static_grads_(call, layout_.main, weight(kWXh), grad_weight(kWXh), arena),
        hyper_static_grads_(call, layout_.hyper, weight(kHyperWXh), grad_weight(kHyperWXh), arena),
        grad_static_(take<T>(arena, rows() * static_grads_.width())),
        grad_w_hh_(layout_.N, layout_.main.gate_columns(), grad_weight(kWHh), arena),
        grad_w_x_(layout_.X, layout_.main.gate_columns(), grad_weight(kWXh), arena),
        grad_hyper_w_x_(layout_.X, layout_.hyper.gate_columns(), grad_weight(kHyperWXh), arena),
        grad_hyper_w_h_(layout_.N, layout_.hyper.gate_columns(),
                        grad_weight(kHyperWXh) + (layout_.X + layout_.S) * 4 * layout_.H, arena),
        grad_hyper_w_hh_(layout_.H, layout_.hyper.gate_columns(), grad_weight(kHyperWHh), arena),
        projection_totals_(take_zeros<T>(arena, kCodes * layout_.E * layout_.main.wide)),
        embedding_totals_(take_zeros<T>(arena, kCodes * layout_.H * layout_.code_wide)),
        bias_totals_(take_zeros<T>(arena, layout_.main.gates_width)),
        code_totals_(take_zeros<T>(arena, layout_.codes_width)),
        step_codes_(take_zeros<T>(arena, rows() * layout_.codes_width)),
        step_x_(take<T>(arena, rows() * layout_.X)),
        step_rows_(take_zeros<T>(arena, kStepRows * rows() * layout_.main.gates_width)),
        grad_hidden_(take_zeros<T>(arena, rows() * state_width_)),
        grad_cells_(take_zeros<T>(arena, rows() * layout_.main.wide)),
        grad_hyper_hidden_(take_zeros<T>(arena, rows() * hyper_state_width_)),
        grad_hyper_cells_(take_zeros<T>(arena, rows() * layout_.hyper.wide)),
        no_gradient_(take_zeros<T>(arena, layout_.N > layout_.H ? layout_.N : layout_.H)),
        scratch_size_(
            LayerNormLSTMRows<T>::scratch_size(layout_.N > layout_.H ? layout_.N : layout_.H) +
            layout_.main.wide),
        scratch_(take_zeros<T>(arena, call.threads * scratch_size_)),
        sums_size_(LayerNormLSTMRows<T>::sums_size(layout_.N) +
                   LayerNormLSTMRows<T>::sums_size(layout_.H) + kPanel<T>),
        sums_(take_zeros<T>(arena, call.threads * sums_size_)) {}

  void run(const Place& place) {
    prepare(place);
    place.meet_all();
    if (layout_.S > 0) {
      static_.multiply(place, nullptr, static_start_);
      place.meet_all();
    }
    const std::ptrdiff_t most = place.rows(rows());
    place.each_of_mine(most, [&](std::ptrdiff_t position) { enter(position); });
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
  // Rows of gates that a step makes again: a, both factors, p, and r as it was saved.
  enum StepRow { kGates, kFactorX, kFactorH, kXProducts, kHProducts, kStepRows };

  std::ptrdiff_t rows() const { return layout_.main.B; }
  const T* weight(int index) const { return static_cast<const T*>(call_.weights[index]); }
  T* grad_weight(int index) const { return static_cast<T*>(back_.grad_weights[index]); }
  static std::ptrdiff_t bytes(std::ptrdiff_t elements) {
    return elements * static_cast<std::ptrdiff_t>(sizeof(T));
  }
  Panels<T> chunk_panels(Arena& arena, std::ptrdiff_t columns) const {
    return {take<T>(arena, panels_size<T>(columns, chunks_.depth())), chunks_.depth() * kPanel<T>};
  }
  InputBlocks<T> chunk_inputs(Arena& arena, std::ptrdiff_t columns) const {
    return {take<T>(arena, InputBlocks<T>::size(columns, chunks_.depth())),
            chunks_.depth() * InputBlocks<T>::kWidth};
  }
  InputBlocks<T> code_inputs(int code) const {
    return {codes_.data + code * InputBlocks<T>::blocks_for(layout_.E) * codes_.block_stride,
            codes_.block_stride};
  }
  T* step_row(StepRow which, std::ptrdiff_t position) const {
    return step_rows_ + (which * rows() + position) * layout_.main.gates_width;
  }
  HyperSaved<T> saved(std::ptrdiff_t t, std::ptrdiff_t position) const {
    // Saved values are only read here.
    return hyper_saved(const_cast<T*>(static_cast<const T*>(back_.saved)), schedule_.entries(),
                       layout_.N, layout_.H, layout_.E, schedule_.entry[t] + position);
  }

  void prepare(const Place& place) const {
    scales_.pack_mine(call_, layout_, place);
    packed_.pack_mine(call_, layout_, place);
    if (layout_.S > 0) static_.prepare(place);
    static_grads_.prepare(place);
    hyper_static_grads_.prepare(place);
  }

  void enter(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, H = layout_.H;
    const auto grad = [&](int i) { return static_cast<const T*>(back_.grad_state[i]); };
    copy(grad_hidden_ + position * state_width_, grad(0) + row * N, bytes(N));
    copy(grad_cells_ + position * layout_.main.wide, grad(1) + row * N, bytes(N));
    copy(grad_hyper_hidden_ + position * hyper_state_width_, grad(2) + row * H, bytes(H));
    copy(grad_hyper_cells_ + position * layout_.hyper.wide, grad(3) + row * H, bytes(H));
  }

  void step_back(const Place& place, const Chunk& chunk, std::ptrdiff_t t) const {
    const std::ptrdiff_t count = place.rows(schedule_.active[t]);
    const std::ptrdiff_t first = schedule_.entry[t] - chunk.first_entry;
    place.each_of_mine(count, [&](std::ptrdiff_t p) { recall(t, p, first + p); });
    place.meet_team();
    make_gates_again(place, count);
    place.meet_team();
    place.each_of_mine(count, [&](std::ptrdiff_t p) { gates_back(place, t, p, first + p); });
    place.meet_team();
    codes_back(place, count, first);
    place.meet_team();
    embeddings_back(place, count, first);
    place.meet_team();
    place.each_of_mine(count, [&](std::ptrdiff_t p) { hyper_gates_back(place, t, p, first + p); });
    place.meet_team();
    products_back(place, count, first);
    place.meet_team();
    if (back_.grad_x != nullptr) store_grad_x(place, t);
  }

  // What was saved of a row's step, back into scratch and panels.
  void recall(std::ptrdiff_t t, std::ptrdiff_t position, std::ptrdiff_t entry) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, H = layout_.H;
    const HyperSaved<T> from = saved(t, position);
    T* const products = step_row(kHProducts, position);
    for (int gate = 0; gate < 4; ++gate) {
      copy(products + gate * layout_.main.wide, from.h_products + gate * N, bytes(N));
    }
    T* const codes = step_codes_ + position * layout_.codes_width;
    for (int code = 0; code < kCodes; ++code) {
      const std::ptrdiff_t column = code * layout_.code_wide;
      copy(codes + column, from.codes + code * layout_.E, bytes(layout_.E));
      code_inputs(code).copy_row(from.codes + code * layout_.E, layout_.E, entry);
    }
    const T* const x = static_cast<const T*>(call_.x) + (t * rows() + row) * layout_.X;
    copy(step_x_ + position * layout_.X, x, bytes(layout_.X));
    x_.copy_row(x, layout_.X, entry);

    const std::ptrdiff_t before = schedule_.step_before(t, position);
    hyper_hidden_.copy_row(from.hyper_hidden, H, entry);
    if (before < 0) {
      hidden_before_.copy_row(static_cast<const T*>(call_.state[0]) + row * N, N, entry);
      hyper_hidden_before_.copy_row(static_cast<const T*>(call_.state[2]) + row * H, H, entry);
    } else {
      hidden_before_.copy_row(static_cast<const T*>(back_.hidden) + (before * rows() + row) * N, N,
                              entry);
      hyper_hidden_before_.copy_row(saved(before, position).hyper_hidden, H, entry);
    }
  }

  void make_gates_again(const Place& place, std::ptrdiff_t count) const {
    const std::ptrdiff_t stride = place.teams, width = layout_.main.gates_width;
    ScaleRows<T> scale{};
    scale.codes = step_codes_ + place.team * layout_.codes_width;
    scale.codes_stride = stride * layout_.codes_width;
    scale.x = step_x_ + place.team * layout_.X;
    scale.x_stride = stride * layout_.X;
    if (layout_.S > 0) scale.static_start = {static_start_ + place.team * width, stride * width};
    scale.h_products = step_row(kHProducts, place.team);
    scale.gates = step_row(kGates, place.team);
    scale.factors[0] = step_row(kFactorX, place.team);
    scale.factors[1] = step_row(kFactorH, place.team);
    scale.x_products = step_row(kXProducts, place.team);
    scale.gates_stride = stride * width;
    scale_gates<true>(scales_.weights(layout_), scale, count,
                      place.mine_of_team(layout_.main.gate_panels));
  }

  void gates_back(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position,
                  std::ptrdiff_t entry) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N;
    const std::ptrdiff_t before = schedule_.step_before(t, position);
    T* const scratch = scratch_ + place.thread * scratch_size_;
    T* const factors =
        call_.dropout.keep_prob < 1.0 ? scratch + scratch_size_ - layout_.main.wide : nullptr;
    if (factors != nullptr) dropout_.fill(t, row, factors);
    const HyperSaved<T> from = saved(t, position);
    const T* const cell_before =
        before < 0 ? static_cast<const T*>(call_.state[1]) + row * N : saved(before, position).cell;
    const T* const grad_output =
        back_.grad_hidden == nullptr
            ? no_gradient_
            : static_cast<const T*>(back_.grad_hidden) + (t * rows() + row) * N;
    const BackwardRow<T> the_row{factors, cell_before, grad_output,
                                 grad_hidden_ + position * state_width_,
                                 grad_cells_ + position * layout_.main.wide};
    rows_.backward(
        the_row, {step_row(kGates, position), layout_.main.wide, from.cell, from.statistics},
        layout_.main.wide, grad_gates_, entry, scratch, sums_ + place.thread * sums_size_);
    spread(position, entry);
  }

  // What the gradient of a row's gates gives to its products and factors.
  void spread(std::ptrdiff_t position, std::ptrdiff_t entry) const {
    const T* const factor_x = step_row(kFactorX, position);
    const T* const factor_h = step_row(kFactorH, position);
    const T* const x_products = step_row(kXProducts, position);
    const T* const h_products = step_row(kHProducts, position);
    const std::ptrdiff_t wide = layout_.main.wide;
    for (std::ptrdiff_t gate = 0; gate < 4; ++gate) {
      for (std::ptrdiff_t u = 0; u < wide; u += kLanes<T>) {
        const std::ptrdiff_t column = gate * wide + u;
        const bool filling = u >= layout_.N;  // what backward did not write
        if (filling) store(grad_gates_.at(column, entry), Vector<T>{});
        const Vector<T> grad = load(grad_gates_.at(column, entry));
        store(grad_x_products_.at(column, entry), grad * load(factor_x + column));
        store(grad_h_products_.at(column, entry), grad * load(factor_h + column));
        store(grad_factors_[0].at(column, entry), grad * load(x_products + column));
        store(grad_factors_[1].at(column, entry), grad * load(h_products + column));
      }
    }
  }

  // dcodes, gate by gate.
  void codes_back(const Place& place, std::ptrdiff_t count, std::ptrdiff_t first) const {
    const std::ptrdiff_t stride = place.teams, wide = layout_.main.wide;
    const std::ptrdiff_t panels = layout_.code_panels;
    const Range mine = place.mine_of_team(kCodes);
    for (std::ptrdiff_t code = mine.begin; code < mine.end; ++code) {
      const std::ptrdiff_t use = code / 4, gate = code % 4;
      const Panels<T>& from = grad_factors_[use];
      const Product<T> product{
          {from.at(gate * wide, first + place.team), stride * kPanel<T>, from.block_stride, wide},
          packed(packed_.projections + code * layout_.code_wide * wide, wide),
          {nullptr, 0},
          grad_codes_.at(code * layout_.code_wide, first + place.team),
          stride * kPanel<T>,
          grad_codes_.block_stride};
      product.run(count, 0, panels);
    }
  }

  // dĥ += dcodes · embeddingsᵀ
  void embeddings_back(const Place& place, std::ptrdiff_t count, std::ptrdiff_t first) const {
    const std::ptrdiff_t stride = place.teams;
    T* const grads = grad_hyper_hidden_ + place.team * hyper_state_width_;
    const Product<T> product{{grad_codes_.at(0, first + place.team), stride * kPanel<T>,
                              grad_codes_.block_stride, kCodes * layout_.code_wide},
                             packed(packed_.embeddings, kCodes * layout_.code_wide),
                             {grads, stride * hyper_state_width_},
                             grads,
                             stride * hyper_state_width_};
    const Range columns = place.mine_of_team(packed_.hyper_n_panels);
    product.run(count, columns.begin, columns.end);
  }

  void hyper_gates_back(const Place& place, std::ptrdiff_t t, std::ptrdiff_t position,
                        std::ptrdiff_t entry) const {
    const std::ptrdiff_t row = schedule_.row_of[position], H = layout_.H;
    const std::ptrdiff_t before = schedule_.step_before(t, position);
    const HyperSaved<T> from = saved(t, position);
    const T* const cell_before = before < 0 ? static_cast<const T*>(call_.state[3]) + row * H
                                            : saved(before, position).hyper_cell;
    const BackwardRow<T> the_row{nullptr, cell_before, no_gradient_,
                                 grad_hyper_hidden_ + position * hyper_state_width_,
                                 grad_hyper_cells_ + position * layout_.hyper.wide};
    hyper_rows_.backward(
        the_row, {from.hyper_gates, H, from.hyper_cell, from.hyper_statistics}, layout_.hyper.wide,
        grad_hyper_gates_, entry, scratch_ + place.thread * scratch_size_,
        sums_ + place.thread * sums_size_ + LayerNormLSTMRows<T>::sums_size(layout_.N));
  }

  void products_back(const Place& place, std::ptrdiff_t count, std::ptrdiff_t first) const {
    const std::ptrdiff_t stride = place.teams, at = first + place.team;
    const auto left = [&](const Panels<T>& panels, std::ptrdiff_t depth) {
      return Left<T>{panels.at(0, at), stride * kPanel<T>, panels.block_stride, depth};
    };
    T* const to = grad_hidden_ + place.team * state_width_;
    const std::ptrdiff_t width = stride * state_width_;
    const auto run = [&](const Left<T>& by, const T* panels, bool add, Range columns) {
      const Product<T> product{
          by, packed(panels, by.depth), {add ? to : nullptr, width}, to, width};
      product.run(count, columns.begin, columns.end);
    };
    // The columns of h come from the h products, those of x from the x products; both from dĝ.
    const Range columns = place.mine_of_team(packed_.n_panels + packed_.x_panels);
    const Range of_h{columns.begin,
                     columns.end < packed_.n_panels ? columns.end : packed_.n_panels};
    const Range of_x{columns.begin > packed_.n_panels ? columns.begin : packed_.n_panels,
                     columns.end};
    run(left(grad_h_products_, packed_.main_depth), packed_.main, false, of_h);
    run(left(grad_x_products_, packed_.main_depth), packed_.main, false, of_x);
    run(left(grad_hyper_gates_, packed_.hyper_depth), packed_.hyper, true, columns);
    const std::ptrdiff_t hyper_width = stride * hyper_state_width_;
    const Product<T> hyper{left(grad_hyper_gates_, packed_.hyper_depth),
                           packed(packed_.hyper_hidden, packed_.hyper_depth),
                           {nullptr, 0},
                           grad_hyper_hidden_ + place.team * hyper_state_width_,
                           hyper_width};
    const Range hyper_columns = place.mine_of_team(packed_.hyper_n_panels);
    hyper.run(count, hyper_columns.begin, hyper_columns.end);
  }

  void store_grad_x(const Place& place, std::ptrdiff_t t) const {
    place.each_of_mine(place.rows(rows()), [&](std::ptrdiff_t position) {
      T* const to =
          static_cast<T*>(back_.grad_x) + (t * rows() + schedule_.row_of[position]) * layout_.X;
      if (position < schedule_.active[t]) {
        copy(to, grad_hidden_ + position * state_width_ + packed_.n_panels * kPanel<T>,
             bytes(layout_.X));
      } else {
        clear(to, bytes(layout_.X));
      }
    });
  }

  // The chunk's products, over all its entries; each thread has some of the columns.
  void gather(const Place& place, const Chunk& chunk) const {
    const Range main = place.mine_of_all(layout_.main.gate_panels);
    grad_w_hh_.add(hidden_before_, grad_h_products_, chunk.entries, main);
    grad_w_x_.add(x_, grad_x_products_, chunk.entries, main);
    const Range hyper = place.mine_of_all(layout_.hyper.gate_panels);
    grad_hyper_w_x_.add(x_, grad_hyper_gates_, chunk.entries, hyper);
    grad_hyper_w_h_.add(hidden_before_, grad_hyper_gates_, chunk.entries, hyper);
    grad_hyper_w_hh_.add(hyper_hidden_before_, grad_hyper_gates_, chunk.entries, hyper);
    const Range projection = place.mine_of_all(layout_.main.wide / kPanel<T>);
    for (int code = 0; code < kCodes; ++code) {
      const Panels<T>& factors = grad_factors_[code / 4];
      const Panels<T> outputs{factors.at(code % 4 * layout_.main.wide, 0), factors.block_stride};
      grad_projection(code).add(code_inputs(code), outputs, chunk.entries, projection);
    }
    each_code_of(place, [&](int code) {
      const Panels<T> outputs{grad_codes_.at(code * layout_.code_wide, 0),
                              grad_codes_.block_stride};
      grad_embedding(code).add(hyper_hidden_, outputs, chunk.entries, {0, layout_.code_panels});
    });
    add_column_sums(grad_gates_, chunk.entries, main, bias_totals_);
    add_column_sums(grad_codes_, chunk.entries, place.mine_of_all(kCodes * layout_.code_panels),
                    code_totals_);
    static_grads_.add(chunk, grad_x_products_, main);
    hyper_static_grads_.add(chunk, grad_hyper_gates_, hyper);
  }

  // Codes are few panels wide: whole ones are dealt to the threads.
  template <class Body>
  static void each_code_of(const Place& place, Body&& body) {
    for (int code = place.thread; code < kCodes; code += place.threads) body(code);
  }

  WeightGradient<T> grad_projection(int code) const {
    const std::ptrdiff_t N = layout_.N, wide = layout_.main.wide;
    return {layout_.E, GateColumns{1, N, wide, N},
            grad_weight(kProjectionOf[code / 4]) + code % 4 * layout_.E * N,
            projection_totals_ + code * layout_.E * wide};
  }
  WeightGradient<T> grad_embedding(int code) const {
    const std::ptrdiff_t H = layout_.H, E = layout_.E, wide = layout_.code_wide;
    return {H, GateColumns{1, E, wide, E}, grad_weight(kEmbeddingOf[code / 4]) + code % 4 * H * E,
            embedding_totals_ + code * H * wide};
  }

  void leave(std::ptrdiff_t position) const {
    const std::ptrdiff_t row = schedule_.row_of[position], N = layout_.N, H = layout_.H;
    const auto grad = [&](int i) { return static_cast<T*>(back_.grad_initial[i]); };
    copy(grad(0) + row * N, grad_hidden_ + position * state_width_, bytes(N));
    copy(grad(1) + row * N, grad_cells_ + position * layout_.main.wide, bytes(N));
    copy(grad(2) + row * H, grad_hyper_hidden_ + position * hyper_state_width_, bytes(H));
    copy(grad(3) + row * H, grad_hyper_cells_ + position * layout_.hyper.wide, bytes(H));
  }

  // What remains after the last chunk: the static input, the biases and the norms.
  void finish(const Place& place) const {
    const Range main = place.mine_of_all(layout_.main.gate_panels);
    grad_w_hh_.finish(main);
    grad_w_x_.finish(main);
    const Range hyper = place.mine_of_all(layout_.hyper.gate_panels);
    grad_hyper_w_x_.finish(hyper);
    grad_hyper_w_h_.finish(hyper);
    grad_hyper_w_hh_.finish(hyper);
    each_code_of(place, [&](int code) {
      grad_projection(code).finish({0, layout_.main.wide / kPanel<T>});
      grad_embedding(code).finish({0, layout_.code_panels});
    });
    static_grads_.finish(place, grad_static_, false);
    hyper_static_grads_.finish(place, grad_static_, true);
    static_grads_.place_rows(place, grad_static_, static_cast<T*>(back_.grad_static));
    if (place.thread != 0) return;
    for (int gate = 0; gate < 4; ++gate) {
      copy(grad_weight(kMainBias) + gate * layout_.N, bias_totals_ + gate * layout_.main.wide,
           bytes(layout_.N));
    }
    for (int code = 0; code < kCodes; ++code) {
      const int use = code / 4, gate = code % 4;
      if (kEmbeddingBiasOf[use] < 0) continue;
      copy(grad_weight(kEmbeddingBiasOf[use]) + gate * layout_.E,
           code_totals_ + code * layout_.code_wide, bytes(layout_.E));
    }
    const auto norms = [&](int first) {
      return LayerNormGradients<T>{grad_weight(first), grad_weight(first + 1),
                                   grad_weight(first + 2), grad_weight(first + 3)};
    };
    for (int thread = 0; thread < place.threads; ++thread) {
      const T* const sums = sums_ + thread * sums_size_;
      rows_.add_sums(sums, thread == 0, norms(kAllGamma));
      hyper_rows_.add_sums(sums + LayerNormLSTMRows<T>::sums_size(layout_.N), thread == 0,
                           norms(kHyperAllGamma));
    }
  }

  const RecurrentCall& call_;
  const Schedule& schedule_;
  const BackwardCall& back_;
  const HyperLayout<T> layout_;
  const LayerNormLSTMRows<T> rows_, hyper_rows_;
  const DropoutRows<T> dropout_;
  const StaticInput<T> static_;
  const PackedScales<T> scales_;
  const Chunks chunks_;
  const HyperBackwardWeights<T> packed_;
  const std::ptrdiff_t state_width_, hyper_state_width_;
  T* const static_start_;
  // Of a chunk's entries:
  const Panels<T> grad_gates_, grad_x_products_, grad_h_products_;
  const Panels<T> grad_factors_[kUses];
  const Panels<T> grad_hyper_gates_, grad_codes_;
  const InputBlocks<T> hidden_before_, x_, hyper_hidden_before_, hyper_hidden_;
  const InputBlocks<T> codes_;  // each code at a block of its own
  const StaticGradients<T> static_grads_, hyper_static_grads_;
  T* const grad_static_;  // [B] rows, by position
  const WeightGradient<T> grad_w_hh_, grad_w_x_;
  const WeightGradient<T> grad_hyper_w_x_, grad_hyper_w_h_, grad_hyper_w_hh_;
  T* const projection_totals_;  // of each code's projection
  T* const embedding_totals_;   // of each code's embedding
  T* const bias_totals_;
  T* const code_totals_;
  // Of a step, by position:
  T* const step_codes_;
  T* const step_x_;
  T* const step_rows_;
  T* const grad_hidden_;  // dh that comes back through time, then dx
  T* const grad_cells_;
  T* const grad_hyper_hidden_;
  T* const grad_hyper_cells_;
  const T* const no_gradient_;  // a row of zeros
  const std::ptrdiff_t scratch_size_;
  T* const scratch_;  // for each thread: a row's own scratch, then its dropout factors
  const std::ptrdiff_t sums_size_;
  T* const sums_;  // the norms' gradients, for each thread: the main cell's, the hyper cell's
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

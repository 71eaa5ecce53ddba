// One step of each decoder cell for rows that all stand at steps of their own: the recurrent cells
// of sequence.h and hyper_lstm.h with the sequence taken away. The row passes and products are the
// same, so that a step gives what the op gives, bit by bit, if the weights are stored in float32.
//
// A cell has its weights packed for good, each matrix once, and makes the scratch of a team of
// threads, its `Slots`, one row a slot. Products share out columns among the members of a team, the
// passes over rows share out rows.

#pragma once

#include "hyper_lstm.h"
#include "sampler.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// A thread of a team.
struct Member {
  int index, count;
  Barrier* barrier;
  float* scratch;          // its own
  bool backwards = false;  // every other step goes through the panels backwards (product.h)

  Range mine(std::ptrdiff_t n) const { return part_of(n, index, count); }
  void meet() const { barrier->wait(count); }

  // body(row) for this member's share of the rows.
  template <class Body>
  SKETCHRNN_INLINE void each_of_mine(std::ptrdiff_t rows, Body&& body) const {
    const Range range = mine(rows);
    for (std::ptrdiff_t row = range.begin; row < range.end; ++row) body(row);
  }
};

inline std::ptrdiff_t float_bytes(std::ptrdiff_t elements) {
  return elements * static_cast<std::ptrdiff_t>(sizeof(float));
}

// Rows one after another, `width` floats each.
struct RowBlock {
  float* data;
  std::ptrdiff_t width;

  float* row(std::ptrdiff_t index) const { return data + index * width; }
  void move(std::ptrdiff_t from, std::ptrdiff_t to) const {
    copy(row(to), row(from), float_bytes(width));
  }
};

inline RowBlock take_rows(Arena& arena, std::ptrdiff_t rows, std::ptrdiff_t width) {
  return {take_zeros<float>(arena, rows * width), width};
}

// fill(panels) packs float panels; they are kept as P in the arena.
template <class P>
struct PanelsOf;

template <>
struct PanelsOf<float> {
  template <class Fill>
  static const float* make(Arena& arena, std::ptrdiff_t elements, Fill&& fill) {
    float* const panels = take<float>(arena, elements);
    fill(panels);
    return panels;
  }
};

template <>
struct PanelsOf<BFloat16> {
  template <class Fill>
  static const BFloat16* make(Arena& arena, std::ptrdiff_t elements, Fill&& fill) {
    Arena temporary;
    float* const wide = take<float>(temporary, elements);
    fill(wide);
    auto* const panels =
        static_cast<BFloat16*>(arena.take(static_cast<std::size_t>(elements) * sizeof(BFloat16)));
    narrow(wide, elements, panels);
    return panels;
  }
};

// A matrix that becomes rows of a packed one.
struct MatrixPart {
  Blocked<float> matrix;
  std::ptrdiff_t rows;
};

// result [R, columns] = start + left [R, depth] · W, with W packed from parts on top of each other.
template <class P>
class Linear {
 public:
  Linear() = default;

  template <int kParts>
  Linear(Arena& arena, const MatrixPart (&parts)[kParts]) {
    for (const MatrixPart& part : parts) depth_ += part.rows;
    const Blocked<float>& first = parts[0].matrix;
    panels_ = panels_for<float>(first.blocks * first.wide);
    data_ = PanelsOf<P>::make(arena, elements(), [&](float* to) {
      std::ptrdiff_t row = 0;
      for (const MatrixPart& part : parts) {
        pack(part.matrix, part.rows, to, depth_, row, 0, panels_);
        row += part.rows;
      }
    });
  }

  std::ptrdiff_t panels() const { return panels_; }
  std::ptrdiff_t elements() const { return panels_ * depth_ * kPanel<float>; }
  const P* data() const { return data_; }

  void run(const float* left, std::ptrdiff_t left_stride, const Start<float>& start,
           const RowBlock& result, std::ptrdiff_t rows, Range panels,
           bool backwards = false) const {
    const Product<float, P> product{row_major(left, left_stride, depth_), packed(data_, depth_),
                                    start, result.data, result.width};
    product.run(rows, panels.begin, panels.end, backwards);
  }

 private:
  const P* data_ = nullptr;
  std::ptrdiff_t depth_ = 0, panels_ = 0;
};

// A plain matrix [rows, columns].
inline MatrixPart plain_part(const float* data, std::ptrdiff_t rows, std::ptrdiff_t columns) {
  return {{data, columns, 1, columns, round_up(columns, kPanel<float>)}, rows};
}

// A row of padding zeros with `bias` in the columns of the packed matrix.
inline float* padded_row(Arena& arena, const Blocked<float>& columns, std::ptrdiff_t width) {
  float* const row = take_zeros<float>(arena, width);
  for (std::ptrdiff_t block = 0; columns.data != nullptr && block < columns.blocks; ++block) {
    copy(row + block * columns.wide, columns.data + block * columns.block,
         float_bytes(columns.block));
  }
  return row;
}

// What is left of the op's arguments after packing: sizes, and the vectors that the row passes
// read, which the arena keeps.
inline RecurrentCall owned_call(const RecurrentCall& given, Arena& arena, int first_norm,
                                const std::ptrdiff_t (&widths)[4]) {
  RecurrentCall call = given;
  call.schedule = {};
  for (int i = 0; i < 4; ++i) {
    float* const vector = take<float>(arena, widths[i]);
    copy(vector, given.weights[first_norm + i], float_bytes(widths[i]));
    call.weights[first_norm + i] = vector;
  }
  return call;
}

// The decoder with LSTM or LayerNorm-LSTM cells; `Rows_` is the pass over a row.
template <class Rows_, class P>
class PlainCell {
  using Rows = Rows_;

 public:
  using Storage = P;
  static constexpr int kStateParts = 2;

  struct Slots {
    RowBlock starts;  // what each step's product starts from; one row for all without z
    RowBlock inputs;  // [h, x]
    RowBlock gates;
    RowBlock cells;
  };

  PlainCell(const RecurrentCall& call, Arena& arena)
      : layout_(call),
        rows_(keep(call, arena)),
        scratch_size_(Rows::scratch_size(call.units)),
        gates_(arena, {{layout_.gates_of(weight(call, Rows::kWeightHh)), layout_.N},
                       {layout_.gates_of(weight(call, Rows::kWeightXh)), layout_.X}}),
        static_(layout_.S > 0
                    ? Linear<float>(arena, {{layout_.gates_of(weight(call, Rows::kWeightXh) +
                                                              layout_.X * 4 * layout_.N),
                                             layout_.S}})
                    : Linear<float>()),
        start_(padded_row(arena,
                          layout_.gates_of(Rows::kBias >= 0 ? weight(call, Rows::kBias) : nullptr),
                          layout_.gates_width)) {}

  std::ptrdiff_t scratch_size() const { return scratch_size_; }
  std::ptrdiff_t state_width(int) const { return layout_.N; }

  Slots make_slots(Arena& arena, std::ptrdiff_t count) const {
    return {take_rows(arena, layout_.S > 0 ? count : 0, layout_.gates_width),
            take_rows(arena, count, layout_.row_width(layout_.N + layout_.X)),
            take_rows(arena, count, layout_.gates_width), take_rows(arena, count, layout_.wide)};
  }

  float* x_of(const Slots& slots, std::ptrdiff_t slot) const {
    return slots.inputs.row(slot) + layout_.N;
  }
  // The output of the last step, rows slots.inputs.width apart.
  const RowBlock& hidden(const Slots& slots) const { return slots.inputs; }

  // z [rows, S] for slots first …
  void set_static(const Slots& slots, std::ptrdiff_t first, std::ptrdiff_t rows,
                  const float* z) const {
    const RowBlock starts{slots.starts.row(first), slots.starts.width};
    static_.run(z, layout_.S, {start_, 0}, starts, rows, {0, static_.panels()});
  }

  // One slot's state: h, c side by side.
  void set_state(const Slots& slots, std::ptrdiff_t slot, const float* state) const {
    copy(slots.inputs.row(slot), state, float_bytes(layout_.N));
    copy(slots.cells.row(slot), state + layout_.N, float_bytes(layout_.N));
  }

  void move(const Slots& slots, std::ptrdiff_t from, std::ptrdiff_t to) const {
    if (layout_.S > 0) slots.starts.move(from, to);
    slots.inputs.move(from, to);
    slots.cells.move(from, to);
  }

  void step(const Member& member, const Slots& slots, std::ptrdiff_t rows) const {
    const Start<float> start = layout_.S > 0 ? Start<float>{slots.starts.data, slots.starts.width}
                                             : Start<float>{start_, 0};
    gates_.run(slots.inputs.data, slots.inputs.width, start, slots.gates, rows,
               member.mine(gates_.panels()), member.backwards);
    member.meet();
    member.each_of_mine(rows, [&](std::ptrdiff_t slot) {
      const ForwardRow<float> row{slots.gates.row(slot), layout_.wide, nullptr,
                                  slots.cells.row(slot), slots.inputs.row(slot)};
      rows_.template forward<false>(row, {}, member.scratch);
    });
    member.meet();
  }

  // visit(panels, elements) for all that a step reads.
  template <class Visit>
  void each_matrix(Visit&& visit) const {
    visit(gates_.data(), gates_.elements());
  }

 private:
  static const float* weight(const RecurrentCall& call, int index) {
    return static_cast<const float*>(call.weights[index]);
  }
  static Rows keep(const RecurrentCall& call, Arena& arena) {
    if constexpr (Rows::kBias >= 0) {
      return Rows(call);
    } else {
      return Rows(
          owned_call(call, arena, 2, {4 * call.units, 4 * call.units, call.units, call.units}));
    }
  }

  const Layout<float> layout_;
  const Rows rows_;
  const std::ptrdiff_t scratch_size_;
  const Linear<P> gates_;       // [W_hh ; W_x]
  const Linear<float> static_;  // W_z; used once a sketch
  const float* const start_;    // a row of gates: the bias, or zeros
};

// The decoder with HyperLSTM cells; hyper_lstm.h has the step.
template <class P>
class HyperCell {
 public:
  using Storage = P;
  static constexpr int kStateParts = 4;

  struct Slots {
    RowBlock starts, hyper_starts;  // of the static input, where there is one
    RowBlock inputs;                // [h, x, ĥ]
    RowBlock h_products, gates, hyper_gates, codes;
    RowBlock cells, hyper_cells;
  };

  HyperCell(const RecurrentCall& call, Arena& arena)
      : layout_(call),
        rows_(norm_rows<float>(owned_call(call, arena, kAllGamma,
                                          {4 * layout_.N, 4 * layout_.N, layout_.N, layout_.N}),
                               layout_.N, kAllGamma)),
        hyper_rows_(
            norm_rows<float>(owned_call(call, arena, kHyperAllGamma,
                                        {4 * layout_.H, 4 * layout_.H, layout_.H, layout_.H}),
                             layout_.H, kHyperAllGamma)),
        scratch_size_(
            LayerNormLSTMRows<float>::scratch_size(layout_.N > layout_.H ? layout_.N : layout_.H)),
        by_h_(arena, {{layout_.main.gates_of(weight(call, kWHh)), layout_.N}}),
        hyper_gates_(
            arena,
            {{layout_.hyper.gates_of(hyper_w_xh(call) + (layout_.X + layout_.S) * 4 * layout_.H),
              layout_.N},
             {layout_.hyper.gates_of(hyper_w_xh(call)), layout_.X},
             {layout_.hyper.gates_of(weight(call, kHyperWHh)), layout_.H}}),
        code_bias_(take_zeros<float>(arena, layout_.codes_width)),
        code_panels_(PanelsOf<P>::make(arena, code_elements(),
                                       [&](float* to) {
                                         for (int code = 0; code < kCodes; ++code) {
                                           pack_code(call, layout_, code, to, code_bias_);
                                         }
                                       })),
        scales_(layout_, arena) {
    if (layout_.S > 0) {
      static_ = Linear<float>(
          arena,
          {{layout_.main.gates_of(weight(call, kWXh) + layout_.X * 4 * layout_.N), layout_.S}});
      hyper_static_ = Linear<float>(
          arena,
          {{layout_.hyper.gates_of(hyper_w_xh(call) + layout_.X * 4 * layout_.H), layout_.S}});
    }
    scales_.pack_mine(call, layout_, Place(0, 1, 1, nullptr));
    for (int use = 0; use < kUses; ++use) {
      projections_[use] = PanelsOf<P>::make(arena, projection_elements(), [&](float* to) {
        copy(to, scales_.projections[use], float_bytes(projection_elements()));
      });
    }
  }

  std::ptrdiff_t scratch_size() const { return scratch_size_; }
  std::ptrdiff_t state_width(int part) const { return part < 2 ? layout_.N : layout_.H; }

  Slots make_slots(Arena& arena, std::ptrdiff_t count) const {
    const std::ptrdiff_t width = layout_.main.gates_width, hyper_width = layout_.hyper.gates_width;
    const std::ptrdiff_t with_z = layout_.S > 0 ? count : 0;
    return {take_rows(arena, with_z, width),
            take_rows(arena, with_z, hyper_width),
            take_rows(arena, count, layout_.input_width),
            take_rows(arena, count, width),
            take_rows(arena, count, width),
            take_rows(arena, count, hyper_width),
            take_rows(arena, count, layout_.codes_width),
            take_rows(arena, count, layout_.main.wide),
            take_rows(arena, count, layout_.hyper.wide)};
  }

  float* x_of(const Slots& slots, std::ptrdiff_t slot) const {
    return slots.inputs.row(slot) + layout_.N;
  }
  const RowBlock& hidden(const Slots& slots) const { return slots.inputs; }

  void set_static(const Slots& slots, std::ptrdiff_t first, std::ptrdiff_t rows,
                  const float* z) const {
    const RowBlock starts{slots.starts.row(first), slots.starts.width};
    static_.run(z, layout_.S, {nullptr, 0}, starts, rows, {0, static_.panels()});
    const RowBlock hyper_starts{slots.hyper_starts.row(first), slots.hyper_starts.width};
    hyper_static_.run(z, layout_.S, {nullptr, 0}, hyper_starts, rows, {0, hyper_static_.panels()});
  }

  // One slot's state: h, c, ĥ, ĉ side by side.
  void set_state(const Slots& slots, std::ptrdiff_t slot, const float* state) const {
    const std::ptrdiff_t N = layout_.N, H = layout_.H;
    copy(slots.inputs.row(slot), state, float_bytes(N));
    copy(slots.cells.row(slot), state + N, float_bytes(N));
    copy(hyper_hidden(slots, slot), state + 2 * N, float_bytes(H));
    copy(slots.hyper_cells.row(slot), state + 2 * N + H, float_bytes(H));
  }

  void move(const Slots& slots, std::ptrdiff_t from, std::ptrdiff_t to) const {
    if (layout_.S > 0) {
      slots.starts.move(from, to);
      slots.hyper_starts.move(from, to);
    }
    slots.inputs.move(from, to);
    slots.cells.move(from, to);
    slots.hyper_cells.move(from, to);
  }

  void step(const Member& member, const Slots& slots, std::ptrdiff_t rows) const {
    by_h_.run(slots.inputs.data, slots.inputs.width, {nullptr, 0}, slots.h_products, rows,
              member.mine(by_h_.panels()), member.backwards);
    const Start<float> hyper_start =
        layout_.S > 0 ? Start<float>{slots.hyper_starts.data, slots.hyper_starts.width}
                      : Start<float>{nullptr, 0};
    hyper_gates_.run(slots.inputs.data, slots.inputs.width, hyper_start, slots.hyper_gates, rows,
                     member.mine(hyper_gates_.panels()), member.backwards);
    member.meet();
    member.each_of_mine(rows, [&](std::ptrdiff_t slot) {
      const ForwardRow<float> row{slots.hyper_gates.row(slot), layout_.hyper.wide, nullptr,
                                  slots.hyper_cells.row(slot), hyper_hidden(slots, slot)};
      hyper_rows_.template forward<false>(row, {}, member.scratch);
    });
    member.meet();
    const Product<float, P> codes{row_major(hyper_hidden(slots, 0), slots.inputs.width, layout_.H),
                                  packed(code_panels_, layout_.H),
                                  {code_bias_, 0},
                                  slots.codes.data,
                                  slots.codes.width};
    const Range mine = member.mine(kCodes * layout_.code_panels);
    codes.run(rows, mine.begin, mine.end);
    member.meet();
    make_gates(slots, rows, member.mine(layout_.main.gate_panels));
    member.meet();
    member.each_of_mine(rows, [&](std::ptrdiff_t slot) {
      const ForwardRow<float> row{slots.gates.row(slot), layout_.main.wide, nullptr,
                                  slots.cells.row(slot), slots.inputs.row(slot)};
      rows_.template forward<false>(row, {}, member.scratch);
    });
    member.meet();
  }

  template <class Visit>
  void each_matrix(Visit&& visit) const {
    visit(by_h_.data(), by_h_.elements());
    visit(hyper_gates_.data(), hyper_gates_.elements());
    visit(code_panels_, code_elements());
    for (const P* projection : projections_) visit(projection, projection_elements());
  }

 private:
  static const float* weight(const RecurrentCall& call, int index) {
    return static_cast<const float*>(call.weights[index]);
  }
  static const float* hyper_w_xh(const RecurrentCall& call) { return weight(call, kHyperWXh); }
  std::ptrdiff_t code_elements() const { return kCodes * layout_.code_wide * layout_.H; }
  std::ptrdiff_t projection_elements() const {
    return panels_size<float>(4 * layout_.main.wide, layout_.E);
  }
  float* hyper_hidden(const Slots& slots, std::ptrdiff_t slot) const {
    return slots.inputs.row(slot) + layout_.N + layout_.X;
  }

  void make_gates(const Slots& slots, std::ptrdiff_t rows, Range panels) const {
    ScaleRows<float> scale{};
    scale.codes = slots.codes.data;
    scale.codes_stride = slots.codes.width;
    scale.x = x_of(slots, 0);
    scale.x_stride = slots.inputs.width;
    if (layout_.S > 0) scale.static_start = {slots.starts.data, slots.starts.width};
    scale.h_products = slots.h_products.data;
    scale.gates = slots.gates.data;
    scale.gates_stride = slots.gates.width;
    const ScaleWeights<float, P> weights{&layout_,
                                         {projections_[0], projections_[1], projections_[2]},
                                         scales_.x_weights,
                                         scales_.bias};
    scale_gates<false>(weights, scale, rows, panels);
  }

  const HyperLayout<float> layout_;
  const LayerNormLSTMRows<float> rows_, hyper_rows_;
  const std::ptrdiff_t scratch_size_;
  const Linear<P> by_h_;         // W_hh
  const Linear<P> hyper_gates_;  // [Ŵ_h ; Ŵ_x ; Ŵ_hh]
  Linear<float> static_, hyper_static_;
  float* const code_bias_;
  const P* const code_panels_;
  const PackedScales<float> scales_;
  const P* projections_[kUses];
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

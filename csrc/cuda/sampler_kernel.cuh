// The sampler for GPUs: one cooperative launch draws a whole list of sketches.
//
// The decoder's units are split over the blocks: a block makes the four gates of its units for all
// slots, and some columns of the head. A slot holds a sketch under way; when it ends, the next
// waiting sketch takes its place. What a block makes and others need goes through the workspace in
// device memory; between making and reading stands a grid barrier (barriers.cuh). A round:
//
//   products   r = h W_hh for the own units' gates, and the own head columns of h W + b
//     -- kParamsMade
//   draws      every block draws the same strokes from the same parameters, so that all know
//              them, and which sketches have ended, without another barrier; block 0 writes them
//   gates      a = r + z W_z + bias + x W_x for the own units
//              lstm: c and h at once
//              layer_norm: moments of the own units' gates
//     -- kGateMomentsMade
//              norm, c and σ(o), moments of the own units' c
//     -- kHiddenMade; every block makes h = tanh(LN(c)) σ(o) where it needs it, in the products
//
// A hyper decoder runs the same steps for its hyper cell first, whose hidden state ĥ gives the
// codes ĥ Z + z, split over the blocks, and these the factors of the main cell's gates:
// a = (code^x A^x)(z W_z + x W_x) + (code^h A^h) r + code^b B + bias. The equations are those of
// sketchrnn_fast/reference.
//
// The h of a new sketch is tanh(z W + b), made when it takes its slot; its first round makes the
// products of that h and no stroke, and its input is then the start token.
//
// The recurrent weights are read from shared memory where they fit (kResident), else from L2. Every
// sum has a fixed order that depends on the number of blocks, and on nothing else of the launch: so
// a drawing does not depend on the other sketches, nor on the number of slots.
//
// Memory that is written during the launch must be read by plain loads, never through the
// read-only path: the barriers order them.

#pragma once

#include "cuda/barriers.cuh"
#include "cuda/reduction.cuh"
#include "cuda/sampler_call.h"
#include "cuda/slots.cuh"
#include "cuda/storage.cuh"

namespace sketchrnn {
namespace cuda {

__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }

// A quad of columns of a product: which of what matrix, and where the sums of slot 0 go.
struct Columns {
  const void* matrix;  // of quads, in the packed decoder
  int quad;            // in it; where weights are resident, among those in shared memory
  int depth;
  float* target;
  int target_stride;  // between slots
  const float* bias;  // [4], or null
};

// Quad q of a matrix of this depth, kept in type T.
template <class T>
__device__ const T* quad_of(const void* quads, int q, int depth) {
  return static_cast<const T*>(quads) + static_cast<std::size_t>(q) * depth * kQuad;
}

template <class W, bool kResident>
class Sampler : private Slots {
 public:
  __device__ Sampler(const SamplerCall& of, unsigned char* memory) : Slots(of, memory) {}

  __device__ void run() {
    if (kResident) load_weights();
    if (call.sketches.resume) {
      restore();
      meet_block<Barrier::kRestored>();
    } else if (thread < call.slots) {
      slot(thread) = {-1, -1, 0.0f, 0.0f, 0, 1};
    }
    const int rounds = call.sketches.rounds;
    for (int round = 0; (rounds == 0 || round < rounds) && refill(); ++round) {
      make_gates();
      meet_grid<Barrier::kHiddenMade>();
      make_products();
      meet_grid<Barrier::kParamsMade>();
      draw();
    }
    if (rounds > 0) {
      meet_block<Barrier::kRoundsOver>();
      keep();
    }
  }

 private:
  // Weights of a hyper decoder are never resident.
  __device__ bool hyper() const { return !kResident && call.cell == Cell::kHyper; }
  // ---- Weights ----

  // The own units' recurrent weights and the own head columns, as they are, into shared memory.
  __device__ void load_weights() {
    const int N = call.main.units;
    const int units = own(N), head = own(call.head_quads);
    W* const to = at<W>(call.shared_weights);
    copy_quads(to, quad_of<W>(call.main.recurrent, first(N), N), units * N);
    copy_quads(to + units * N * kQuad, quad_of<W>(call.head, first(call.head_quads), N), head * N);
  }

  __device__ void copy_quads(W* to, const W* from, int rows) {
    struct alignas(sizeof(W) * kQuad) Row {
      W value[kQuad];
    };
    for (int i = thread; i < rows; i += threads) {
      reinterpret_cast<Row*>(to)[i] = reinterpret_cast<const Row*>(from)[i];
    }
  }

  // ---- Slots ----

  // Gives waiting sketches to the freed slots, in order; false when no sketch is under way.
  __device__ bool refill() {
    const bool mine = thread < call.slots && slot(thread).freed != 0;
    if (!any_of_block<Barrier::kDrawn>(mine)) return true;
    int before = 0, all = 0;
    for (int s = 0; s < call.slots; ++s) {
      if (s < thread) before += slot(s).freed;
      all += slot(s).freed;
    }
    const int sketch = next + before;
    if (mine) {
      slot(thread).sketch = sketch < call.sketches.count ? sketch : -1;
      slot(thread).t = -1;
    }
    next = min(next + all, call.sketches.count);
    const bool any = any_of_block<Barrier::kRefilled>(thread < call.slots && taken(thread));
    if (!any) return false;
    enter(call.main, !hyper());
    if (hyper()) enter(call.hyper, true);
    return true;
  }

  // New sketches: z W_z, with the bias where the gates take it as it is, and the state before the
  // first step; a warp each of the own units.
  __device__ void enter(const CellCall& cell, bool with_bias) {
    constexpr int kColumns = 8;  // four gates, h, c and two of zeros
    const int units = own(cell.units), Z = call.z_size;
    for (int item = warp(); item < call.slots * units; item += warps()) {
      const int s = item / units, u = item % units, unit = first(cell.units) + u;
      if (!fresh(s)) continue;
      float sums[kColumns] = {};
      if (Z > 0) {
        const float* const z = call.sketches.z + static_cast<std::size_t>(slot(s).sketch) * Z;
        const float* const w_z = quad_of<float>(cell.static_input, unit, Z);
        const float* const w_start = quad_of<float>(cell.start, unit, Z);
        for (int k = lane(); k < Z; k += kWarp) {
          const Quad to_gates = load_quad(w_z + k * kQuad),
                     to_state = load_quad(w_start + k * kQuad);
#pragma unroll
          for (int j = 0; j < kQuad; ++j) {
            sums[j] = fmaf(z[k], to_gates.value[j], sums[j]);
            sums[kQuad + j] = fmaf(z[k], to_state.value[j], sums[kQuad + j]);
          }
        }
      }
      const float sum = scattered_sum<kColumns>(sums, lane());
      const int column = value_of_lane<kColumns>(lane());
      if (lane() >= kColumns) continue;
      if (column < kQuad) {
        statics(cell, s, u)[column] = sum + (with_bias ? cell.bias[unit * kQuad + column] : 0.0f);
      } else {
        const int part = column - kQuad;
        const float state = Z > 0 ? tanhf(sum + cell.start_bias[unit * kQuad + part]) : 0.0f;
        if (part == 0) cell.hidden[s * cell.units + unit] = state;
        if (part == 1) own_cell(cell, s, u) = state;
      }
    }
  }

  // ---- Gates ----

  __device__ void make_gates() {
    if (call.cell == Cell::kLstm) {
      each_own(call.main, [&](int s, int u, int unit) { lstm_step(s, u, unit); });
    } else if (!hyper()) {
      each_own(call.main, [&](int s, int u, int unit) { add_inputs(call.main, s, u, unit); });
      layer_norm_step<Barrier::kGateMomentsMade>(call.main);
    } else {
      each_own(call.hyper, [&](int s, int u, int unit) { add_inputs(call.hyper, s, u, unit); });
      layer_norm_step<Barrier::kHyperGateMomentsMade>(call.hyper);
      meet_grid<Barrier::kHyperHiddenMade>();
      make_codes();
      meet_grid<Barrier::kCodesMade>();
      each_own(call.main, [&](int s, int u, int unit) { scale_gates(s, u, unit); });
      layer_norm_step<Barrier::kGateMomentsMade>(call.main);
    }
  }

  // Calls a function for the own units of every slot whose sketch takes a step; a thread each.
  template <class Function>
  __device__ void each_own(const CellCall& cell, Function function) {
    const int units = own(cell.units);
    for (int item = thread; item < call.slots * units; item += threads) {
      const int s = item / units, u = item % units;
      if (stepping(s)) function(s, u, first(cell.units) + u);
    }
  }

  // z W_z + x W_x of an own unit's four gates, x being (dx, dy, one of three pen columns); W_x is
  // kept in type T.
  template <class T>
  __device__ Quad input_products(const CellCall& cell, int s, int u, int unit) const {
    const T* const weights = quad_of<T>(cell.input, unit, kStrokeInputs);
    const Slot& at_slot = slot(s);
    const Quad x = load_quad(weights), y = load_quad(weights + kQuad);
    const Quad pen = load_quad(weights + (2 + at_slot.pen) * kQuad);
    const float* const fixed = statics(cell, s, u);
    Quad sum;
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      const float moved = fmaf(at_slot.y, y.value[g], at_slot.x * x.value[g]) + pen.value[g];
      sum.value[g] = fixed[g] + moved;
    }
    return sum;
  }

  __device__ void add_inputs(const CellCall& cell, int s, int u, int unit) {
    const Quad inputs = input_products<W>(cell, s, u, unit);
    float* const own_gates = gates(cell, s, u);
#pragma unroll
    for (int g = 0; g < kGates; ++g) own_gates[g] += inputs.value[g];
  }

  __device__ void lstm_step(int s, int u, int unit) {
    add_inputs(call.main, s, u, unit);
    const float* const a = gates(call.main, s, u);
    float& c = own_cell(call.main, s, u);
    c = c * sigmoid(a[2] + call.forget_bias) + sigmoid(a[0]) * tanhf(a[1]);
    call.main.hidden[s * call.main.units + unit] = tanhf(c) * sigmoid(a[3]);
  }

  // From the own units' gates before their norm to c, σ(o) and the moments of c.
  template <Barrier kMomentsMade>
  __device__ void layer_norm_step(const CellCall& cell) {
    const int units = own(cell.units);
    meet_block<Barrier::kGatesMade>();
    for (int item = thread; item < call.slots * kGates; item += threads) {
      const int s = item / kGates, g = item % kGates;
      if (stepping(s)) {
        moments(cell, s, g)[block] = moments_of(gates(cell, s, 0) + g, units, kGates);
      }
    }
    meet_grid<kMomentsMade>();
    join_all(cell, 0, kGates);
    meet_block<Barrier::kGatesJoined>();
    each_own(cell, [&](int s, int u, int unit) { normalised_step(cell, s, u, unit); });
    meet_block<Barrier::kCellMade>();
    for (int s = thread; s < call.slots; s += threads) {
      if (stepping(s)) {
        moments(cell, s, kGates)[block] = moments_of(&own_cell(cell, s, 0), units, 1);
      }
    }
  }

  // The moments `begin` to `end` of every slot over all blocks; whole warps take part.
  __device__ void join_all(const CellCall& cell, int begin, int end) {
    constexpr int kAtOnce = kWarp / kJoinLanes;
    const int each = end - begin, all = call.slots * each;
    for (int base = warp() * kAtOnce; base < all; base += warps() * kAtOnce) {
      const int item = base + lane() / kJoinLanes, member = lane() % kJoinLanes;
      const int s = item < all ? item / each : 0, which = begin + item % each;
      const bool present = item < all && stepping(s);
      const Normaliser joined =
          join_moments(moments(cell, s, which), blocks, cell.units, member, present);
      if (present && member == 0) normaliser(cell, s, which) = joined;
    }
  }

  __device__ void normalised_step(const CellCall& cell, int s, int u, int unit) {
    const float* const own_gates = gates(cell, s, u);
    const float* const gamma = cell.all_gamma + unit * kGates;
    const float* const beta = cell.all_beta + unit * kGates;
    Quad a;
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      const Normaliser norm = normaliser(cell, s, g);
      a.value[g] = fmaf(gamma[g], (own_gates[g] - norm.mean) * norm.rstd, beta[g]);
    }
    float& c = own_cell(cell, s, u);
    c = c * sigmoid(a.value[2] + call.forget_bias) + sigmoid(a.value[0]) * tanhf(a.value[1]);
    const int place = s * cell.units + unit;
    cell.cell[place] = c;
    cell.output_gate[place] = sigmoid(a.value[3]);
  }

  // ---- The hyper cell's hold on the main cell ----

  __device__ void make_codes() {
    join_all(call.hyper, kGates, kSlotMoments);
    const int H = call.hyper.units, quads = own(call.code_quads);
    const int first_quad = first(call.code_quads);
    meet_block<Barrier::kCellJoined>();
    each_stage([&](int s, int count, float* rows) { stage_hidden(call.hyper, s, count, rows, H); },
               H, quads,
               [&](int q) {
                 const int quad = first_quad + q;
                 return Columns{call.codes,
                                quad,
                                H,
                                call.code_values + quad * kQuad,
                                call.code_width,
                                call.code_bias + quad * kQuad};
               });
  }

  // Σ_e code[e] A[e, unit] for one use and the four gates.
  __device__ Quad project(int use, int s, int unit) const {
    const int E = call.hyper_embedding, width = call.code_width / (kUses * kGates);
    const W* const projection = quad_of<W>(call.projections, use * call.main.units + unit, E);
    const float* const codes = call.code_values + s * call.code_width + use * kGates * width;
    Quad sum{};
    for (int e = 0; e < E; ++e) {
      const Quad weights = load_quad(projection + e * kQuad);
#pragma unroll
      for (int g = 0; g < kGates; ++g) {
        sum.value[g] = fmaf(codes[g * width + e], weights.value[g], sum.value[g]);
      }
    }
    return sum;
  }

  __device__ void scale_gates(int s, int u, int unit) {
    const Quad inputs = input_products<float>(call.main, s, u, unit);
    const Quad of_x = project(0, s, unit), of_h = project(1, s, unit), shift = project(2, s, unit);
    float* const a = gates(call.main, s, u);
#pragma unroll
    for (int g = 0; g < kGates; ++g) {
      a[g] = fmaf(of_x.value[g], inputs.value[g], of_h.value[g] * a[g]) + shift.value[g] +
             call.main.bias[unit * kGates + g];
    }
  }

  // ---- Products ----

  __device__ void make_products() {
    if (call.cell != Cell::kLstm) {
      join_all(call.main, kGates, kSlotMoments);
      meet_block<Barrier::kCellJoined>();
    }
    const int N = call.main.units;
    const int units = own(N), head = own(call.head_quads), first_head = first(call.head_quads);
    const int hyper_units = hyper() ? own(call.hyper.units) : 0;
    const auto columns = [&](int q) {
      if (q < units) {
        return Columns{call.main.recurrent,    kResident ? q : first(N) + q,       N,
                       gates(call.main, 0, q), call.main.shared.most_own * kGates, nullptr};
      }
      if (q < units + head) {
        const int quad = first_head + q - units, column = quad * kQuad;
        return Columns{call.head,        kResident ? q : quad,   N, call.params + column,
                       call.param_width, call.head_bias + column};
      }
      const int unit = q - units - head;
      return Columns{
          call.hyper.recurrent,       first(call.hyper.units) + unit,      call.hyper.depth,
          gates(call.hyper, 0, unit), call.hyper.shared.most_own * kGates, nullptr};
    };
    const int depth = hyper() ? call.hyper.depth : N;
    each_stage(
        [&](int s, int count, float* rows) {
          stage_hidden(call.main, s, count, rows, depth);
          if (hyper()) stage_hidden(call.hyper, s, count, rows + N, depth);
        },
        depth, units + head + hyper_units, columns);
  }

  // Stages rows of all slots, as many as fit at once, and multiplies them by the columns.
  template <class Stage, class ColumnsOf>
  __device__ void each_stage(Stage stage_slots, int depth, int quads, ColumnsOf columns_of) {
    for (int begin = 0; begin < call.slots; begin += call.stage_rows) {
      const int rows = min(call.stage_rows, call.slots - begin);
      if (begin > 0) meet_block<Barrier::kStageRead>();
      for (int r = 0; r < rows; r += kTileRows) {
        stage_slots(begin + r, min(rows - r, kTileRows), stage() + r * depth);
      }
      meet_block<Barrier::kHiddenStaged>();
      const int tiles = (rows + kTileRows - 1) / kTileRows;
      for (int item = warp(); item < quads * tiles; item += warps()) {
        const int row = item / quads * kTileRows;
        const Columns columns = columns_of(item % quads);
        const float* const from = stage() + row * depth;
        if (call.slots == 1) {
          multiply<1>(columns, from, depth, begin, 1);
        } else {
          multiply<kTileRows>(columns, from, depth, begin + row, min(rows - row, kTileRows));
        }
      }
    }
  }

  // The hidden states of some slots, by all threads; zeros where there is no sketch. What lies in
  // device memory is loaded for all slots before any is used, to wait for it once.
  __device__ void stage_hidden(const CellCall& cell, int first_slot, int count, float* rows,
                               int stride) {
    for (int k = thread; k < cell.units; k += threads) {
      float value[kTileRows], output_gate[kTileRows];
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        const int s = first_slot + min(r, count - 1), place = s * cell.units + k;
        const bool normed = normalised(s);
        value[r] = taken(s) ? (normed ? cell.cell : cell.hidden)[place] : 0.0f;
        output_gate[r] = normed ? cell.output_gate[place] : 1.0f;
      }
#pragma unroll
      for (int r = 0; r < kTileRows; ++r) {
        if (r >= count) continue;
        float h = value[r];
        if (normalised(first_slot + r)) {
          const Normaliser norm = normaliser(cell, first_slot + r, kGates);
          const float standard = (value[r] - norm.mean) * norm.rstd;
          h = tanhf(fmaf(cell.c_gamma[k], standard, cell.c_beta[k])) * output_gate[r];
        }
        rows[r * stride + k] = h;
      }
    }
  }

  // Whether h is tanh(LN(c)) σ(o), rather than at hand as it is.
  __device__ bool normalised(int s) const { return call.cell != Cell::kLstm && stepping(s); }

  // Staged rows times one quad of columns, by a warp whose lanes split the depth.
  template <int kRows>
  __device__ void multiply(const Columns& columns, const float* rows, int stride, int first_slot,
                           int count) {
    const int depth = columns.depth;
    const W* const quad = kResident
                              ? at<const W>(call.shared_weights) + columns.quad * depth * kQuad
                              : quad_of<W>(columns.matrix, columns.quad, depth);
    float sums[kRows * kQuad] = {};
    for (int k = lane(); k < depth; k += kWarp) {
      const Quad weights = load_quad(quad + k * kQuad);
#pragma unroll
      for (int r = 0; r < kRows; ++r) {
        const float h = rows[min(r, count - 1) * stride + k];
#pragma unroll
        for (int j = 0; j < kQuad; ++j) {
          sums[r * kQuad + j] = fmaf(h, weights.value[j], sums[r * kQuad + j]);
        }
      }
    }
    const float sum = scattered_sum<kRows * kQuad>(sums, lane());
    const int value = value_of_lane<kRows * kQuad>(lane());
    const int r = value / kQuad, j = value % kQuad;
    if (lane() < kRows * kQuad && r < count) {
      const float bias = columns.bias == nullptr ? 0.0f : columns.bias[j];
      columns.target[(first_slot + r) * columns.target_stride + j] = sum + bias;
    }
  }
};

}  // namespace cuda
}  // namespace sketchrnn

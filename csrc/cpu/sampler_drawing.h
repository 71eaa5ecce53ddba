// Drawing sketches with a packed decoder: who is drawn in which slot, and the loop over steps.
//
// Sketches wait in one queue. Each team of threads has a number of slots and takes sketches from
// the queue while it has free ones; a sketch that is finished leaves its slot at once, the last of
// the occupied slots moves into it, and a waiting sketch enters behind them. So the rows of every
// product stay full until the queue is empty, and they stand one after another.
//
// Where there are many sketches a team is one thread, and threads never wait for each other; where
// there are few, a team's members share out the columns of each product (place.h has the rule).

#pragma once

#include "sampler_cells.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// With more rows at once a product gains nothing, and the rows themselves leave the inner caches.
constexpr std::ptrdiff_t kSlotsOfTeam = 4 * kTileRows;

// The decoder's head and the map from z to the state that it starts from, besides its cell.
template <class Cell>
class PackedDecoderOf final : public PackedDecoder {
 public:
  explicit PackedDecoderOf(const DecoderSpec& spec);
  Drawing* begin(const DrawCall& call) const override;
  std::size_t bytes_of_step() const override;
  float read_panels(int threads, std::int64_t times) const override;

  // The state's parts together.
  std::ptrdiff_t state_width() const {
    std::ptrdiff_t width = 0;
    for (int part = 0; part < Cell::kStateParts; ++part) width += cell.state_width(part);
    return width;
  }

 private:
  Arena arena_;

  template <class Visit>
  void each_matrix(Visit&& visit) const {
    cell.each_matrix(visit);
    visit(head.data(), head.elements());
  }

 public:
  const std::ptrdiff_t z_size, mixtures;
  const Cell cell;
  const Linear<typename Cell::Storage> head;
  const float* const head_bias;
  const Linear<float> initial;  // used once a sketch
  const float* const initial_bias;
};

template <class Cell>
class DrawingOf final : public Drawing {
  using Decoder = PackedDecoderOf<Cell>;

 public:
  DrawingOf(const Decoder& decoder, const DrawCall& call)
      : decoder_(decoder),
        call_(call),
        columns_(mixture_columns(static_cast<int>(decoder.mixtures))),
        teams_count_(count_teams(least(call.count, call.batch), call.threads)),
        teams_(take<Team>(arena_, teams_count_)),
        barriers_(take<Barrier>(arena_, call.threads)),
        scratch_(take_rows(arena_, call.threads,
                           Layout<float>::row_width(decoder.cell.scratch_size()))) {
    for (int i = 0; i < teams_count_; ++i) make_team(teams_[i], i);
    for (int i = 0; i < call.threads; ++i) barriers_[i] = Barrier{};
    if (call.inputs == nullptr) lay_down_prefixes();
  }

  bool advance(std::int64_t steps) override {
    struct Region {
      DrawingOf& drawing;
      std::int64_t steps;
    } region{*this, steps};
    const auto body = [](void* context, int thread, int count) {
      const auto& the = *static_cast<Region*>(context);
      the.drawing.run(thread, count, the.steps);
    };
    parallel(call_.threads, body, &region);
    std::ptrdiff_t left = call_.count - least(next_, call_.count);
    for (std::ptrdiff_t i = 0; i < teams_count_; ++i) {
      Team& team = teams_[i];
      let_finished_leave(team);
      left += team.active;
      keep_first(failure, team.failure);
    }
    return left > 0;
  }

 private:
  struct Slot {
    std::ptrdiff_t sketch;
    std::ptrdiff_t t;      // the next stroke's index
    std::ptrdiff_t given;  // points of the sketch's prefix
    bool finished;
    Fault fault;
  };

  struct Team {
    typename Cell::Slots rows;
    RowBlock parameters;
    RowBlock z, states;  // of the sketches that enter
    Slot* slots;
    std::ptrdiff_t capacity;
    std::ptrdiff_t active;  // occupied slots are the first ones
    Failure failure;
  };

  static std::ptrdiff_t least(std::ptrdiff_t a, std::ptrdiff_t b) { return a < b ? a : b; }

  void make_team(Team& team, int index) {
    const Range share =
        part_of(least(call_.count, call_.batch), index, static_cast<int>(teams_count_));
    const std::ptrdiff_t count = least(share.size(), kSlotsOfTeam);
    const bool with_z = decoder_.z_size > 0;
    team.rows = decoder_.cell.make_slots(arena_, count);
    team.parameters =
        take_rows(arena_, count, Layout<float>::row_width(decoder_.head.panels() * kPanel<float>));
    team.z = take_rows(arena_, with_z ? count : 0, decoder_.z_size);
    team.states =
        take_rows(arena_, with_z ? count : 1,
                  with_z ? decoder_.initial.panels() * kPanel<float> : decoder_.state_width());
    team.slots = take<Slot>(arena_, count);
    team.capacity = count;
    team.active = 0;
    team.failure = {};
  }

  // One thread's part of some steps: its place in a team, and the teams of its group of threads.
  void run(int thread, int threads, std::int64_t steps) {
    const int teams = static_cast<int>(teams_count_);
    const int members = threads > teams ? threads / teams : 1;
    const int groups = threads / members < teams ? threads / members : teams;
    const int group = thread / members;
    if (group >= groups) return;
    Member member{thread % members, members, &barriers_[group], scratch_.row(thread)};
    for (int team = group; team < teams; team += groups) {
      for (std::int64_t k = 0; k < steps && step(member, teams_[team]); ++k) {
        member.backwards = !member.backwards;
      }
    }
  }

  // Returns whether the team had anything to draw.
  bool step(const Member& member, Team& team) {
    if (member.index == 0) {
      let_finished_leave(team);
      if (team.failure.fault == Fault::kNone) let_waiting_enter(team);
    }
    member.meet();
    const std::ptrdiff_t rows = team.active;
    if (rows == 0 || team.failure.fault != Fault::kNone) return false;
    decoder_.cell.step(member, team.rows, rows);
    const RowBlock& hidden = decoder_.cell.hidden(team.rows);
    decoder_.head.run(hidden.data, hidden.width, {decoder_.head_bias, 0}, team.parameters, rows,
                      member.mine(decoder_.head.panels()), member.backwards);
    member.meet();
    member.each_of_mine(rows, [&](std::ptrdiff_t slot) { take_step(team, slot); });
    member.meet();
    return true;
  }

  static void keep_first(Failure& kept, const Failure& other) {
    if (other.fault == Fault::kNone) return;
    if (kept.fault == Fault::kNone || other.sketch < kept.sketch) kept = other;
  }

  void let_finished_leave(Team& team) const {
    for (std::ptrdiff_t slot = 0; slot < team.active;) {
      const Slot& leaving = team.slots[slot];
      if (!leaving.finished) {
        ++slot;
        continue;
      }
      keep_first(team.failure, {leaving.fault, leaving.sketch, leaving.t});
      const std::ptrdiff_t last = --team.active;
      if (slot == last) continue;
      decoder_.cell.move(team.rows, last, slot);
      team.slots[slot] = team.slots[last];
    }
  }

  void let_waiting_enter(Team& team) {
    const std::ptrdiff_t first = team.active;
    while (team.active < team.capacity) {
      const std::ptrdiff_t sketch = __atomic_fetch_add(&next_, 1, __ATOMIC_RELAXED);
      if (sketch >= call_.count) break;
      const std::ptrdiff_t given = call_.inputs == nullptr ? prefix_length(sketch) : 0;
      if (given == call_.limit) continue;  // nothing is left to draw
      team.slots[team.active] = {sketch, 0, given, false, Fault::kNone};
      set_input(team, team.active);
      if (decoder_.z_size > 0) {
        copy(team.z.row(team.active - first), call_.z + sketch * decoder_.z_size,
             float_bytes(decoder_.z_size));
      }
      ++team.active;
    }
    start(team, first, team.active - first);
  }

  // The state and the constant input of slots first … that sketches have entered.
  void start(Team& team, std::ptrdiff_t first, std::ptrdiff_t count) const {
    const bool with_z = decoder_.z_size > 0;
    if (count == 0) return;
    if (with_z) {
      decoder_.cell.set_static(team.rows, first, count, team.z.data);
      decoder_.initial.run(team.z.data, team.z.width, {decoder_.initial_bias, 0}, team.states,
                           count, {0, decoder_.initial.panels()});
    }
    for (std::ptrdiff_t i = 0; i < count; ++i) {
      float* const state = team.states.row(with_z ? i : 0);
      if (with_z) {
        for (std::ptrdiff_t u = 0; u < team.states.width; u += kLanes<float>) {
          store(state + u, tanh_vector(load(state + u)));
        }
      }
      decoder_.cell.set_state(team.rows, first + i, state);
    }
  }

  // The input of a slot's next step: the given one, or the stroke before it.
  void set_input(const Team& team, std::ptrdiff_t index, const Stroke& before = {0, 0, 0}) const {
    float* const x = decoder_.cell.x_of(team.rows, index);
    const Slot& slot = team.slots[index];
    if (call_.inputs != nullptr) {
      const float* const given = call_.inputs + (slot.t * call_.count + slot.sketch) * kStrokeWidth;
      copy(x, given, float_bytes(kStrokeWidth));
      return;
    }
    x[0] = before.x;
    x[1] = before.y;
    for (int pen = 0; pen < kPenStates; ++pen) x[2 + pen] = pen == before.pen ? 1.0f : 0.0f;
  }

  std::ptrdiff_t prefix_length(std::ptrdiff_t sketch) const {
    if (call_.prefix_points == nullptr) return 0;
    return call_.prefix_offsets[sketch + 1] - call_.prefix_offsets[sketch];
  }

  float* point(std::ptrdiff_t sketch, std::ptrdiff_t t) const {
    return call_.points + 3 * (sketch * call_.limit + t);
  }

  void lay_down_prefixes() const {
    for (std::ptrdiff_t i = 0; i < call_.count; ++i) {
      const std::ptrdiff_t length = prefix_length(i);
      call_.lengths[i] = length;
      call_.ended[i] = 0;
      if (length == 0) continue;
      copy(point(i, 0), call_.prefix_points + 3 * call_.prefix_offsets[i], float_bytes(3 * length));
    }
  }

  // What a step has made of a slot: its parameters are laid down, or its stroke, given or drawn.
  void take_step(Team& team, std::ptrdiff_t index) const {
    Slot& slot = team.slots[index];
    const float* const parameters = team.parameters.row(index);
    Stroke stroke{0.0f, 0.0f, 0};
    if (call_.inputs != nullptr) {
      float* const to = call_.parameters + (slot.t * call_.count + slot.sketch) * columns_;
      copy(to, parameters, float_bytes(columns_));
    } else if (slot.t < slot.given) {
      stroke = given_stroke(slot);
    } else {
      if (!are_finite(parameters)) return fail(slot, Fault::kParameters);
      stroke = draw(slot, parameters);
      if (!is_finite(stroke.x) || !is_finite(stroke.y)) return fail(slot, Fault::kOffset);
      if (stroke.pen == kEndState) {
        call_.ended[slot.sketch] = 1;
        slot.finished = true;
        return;
      }
      write(slot, stroke);
    }
    ++slot.t;
    slot.finished = slot.t == call_.limit;
    if (!slot.finished) set_input(team, index, stroke);
  }

  Stroke given_stroke(const Slot& slot) const {
    const float* const given = point(slot.sketch, slot.t);
    return {given[0], given[1], static_cast<int>(given[2])};
  }

  void write(const Slot& slot, const Stroke& stroke) const {
    float* const to = point(slot.sketch, slot.t);
    to[0] = stroke.x;
    to[1] = stroke.y;
    to[2] = static_cast<float>(stroke.pen);
    call_.lengths[slot.sketch] = slot.t + 1;
  }

  Stroke draw(const Slot& slot, const float* parameters) const {
    return draw_stroke(parameters, static_cast<int>(decoder_.mixtures),
                       static_cast<std::uint64_t>(call_.seeds[slot.sketch]),
                       static_cast<std::uint32_t>(slot.t), call_.temperature);
  }

  static void fail(Slot& slot, Fault fault) {
    slot.finished = true;
    slot.fault = fault;
  }

  bool are_finite(const float* parameters) const {
    Vector<float> zeros{};
    each_vector<float>(columns_, [&](std::ptrdiff_t i, auto lanes) {
      zeros += only<float>(load(parameters + i), lanes) * 0.0f;
    });
    return sum<float>(zeros) == 0.0f;
  }

  static bool is_finite(float value) { return value - value == 0.0f; }

  Arena arena_;
  const Decoder& decoder_;
  const DrawCall call_;
  const std::ptrdiff_t columns_, teams_count_;
  Team* const teams_;
  Barrier* const barriers_;  // one a group of threads
  const RowBlock scratch_;   // a row a thread
  std::ptrdiff_t next_ = 0;  // the first sketch that waits
};

template <class Cell>
PackedDecoderOf<Cell>::PackedDecoderOf(const DecoderSpec& spec)
    : z_size(spec.call.static_input),
      mixtures(spec.mixtures),
      cell(spec.call, arena_),
      head(arena_, {plain_part(spec.head_weight, spec.call.units, mixture_columns(spec.mixtures))}),
      head_bias(padded_row(arena_,
                           plain_part(spec.head_bias, 1, mixture_columns(spec.mixtures)).matrix,
                           head.panels() * kPanel<float>)),
      initial(z_size > 0
                  ? Linear<float>(arena_, {plain_part(spec.initial_weight, z_size, state_width())})
                  : Linear<float>()),
      initial_bias(z_size > 0
                       ? padded_row(arena_, plain_part(spec.initial_bias, 1, state_width()).matrix,
                                    initial.panels() * kPanel<float>)
                       : nullptr) {}

template <class Cell>
Drawing* PackedDecoderOf<Cell>::begin(const DrawCall& call) const {
  return new DrawingOf<Cell>(*this, call);
}

template <class Cell>
std::size_t PackedDecoderOf<Cell>::bytes_of_step() const {
  std::size_t bytes = 0;
  each_matrix([&](const auto* panels, std::ptrdiff_t elements) {
    bytes += static_cast<std::size_t>(elements) * sizeof(*panels);
  });
  return bytes;
}

template <class Cell>
float PackedDecoderOf<Cell>::read_panels(int threads, std::int64_t times) const {
  struct Region {
    const PackedDecoderOf& decoder;
    std::int64_t times;
    float* sums;
  };
  Arena arena;
  Region region{*this, times, take_zeros<float>(arena, threads)};
  const auto body = [](void* context, int thread, int count) {
    const auto& the = *static_cast<Region*>(context);
    Vector<float> sums[8] = {};
    for (std::int64_t k = 0; k < the.times; ++k) {
      the.decoder.each_matrix([&](const auto* panels, std::ptrdiff_t elements) {
        const auto* const floats = reinterpret_cast<const float*>(panels);
        const auto width = static_cast<std::ptrdiff_t>(sizeof(*panels) * kPanel<float>);
        const Range rows = part_of(elements / kPanel<float>, thread, count);
        const std::ptrdiff_t end = rows.end * width / 4;
        std::ptrdiff_t i = rows.begin * width / 4;
        for (; i + 8 * kLanes<float> <= end; i += 8 * kLanes<float>) {
          for (int v = 0; v < 8; ++v) sums[v] += load(floats + i + v * kLanes<float>);
        }
        for (; i < end; i += kLanes<float>) sums[0] += load(floats + i);
      });
    }
    for (int v = 1; v < 8; ++v) sums[0] += sums[v];
    the.sums[thread] = sum<float>(sums[0]);
  };
  parallel(threads, body, &region);
  float total = 0.0f;
  for (int thread = 0; thread < threads; ++thread) total += region.sums[thread];
  return total;
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

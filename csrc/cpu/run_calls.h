// Running the passes of one call, or of two side by side, on their threads.
//
// Two calls that do not need each other, such as the directions of a layer, have half of the
// threads each and run in one parallel region: a layer of few rows, whose threads would wait for
// each other within each step, or be idle, has no such waits then, or fewer. When that pays is
// decided by share_threads (thread_shares.h).

#pragma once

#include "place.h"
#include "scratch.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

// The pass of a call, with the threads that it has to itself.
template <class Pass>
struct Group {
  Pass pass;
  const int threads;
  const std::ptrdiff_t rows;
  Barriers barriers{};

  template <class Results>
  Group(const RecurrentCall& call, const Results& results, Arena& arena)
      : pass(call, results, arena), threads(call.threads), rows(call.schedule.rows) {
    const auto bytes = static_cast<std::size_t>(threads) * sizeof(Barrier);
    barriers.of_team = static_cast<Barrier*>(arena.take(bytes));
    for (int team = 0; team < threads; ++team) barriers.of_team[team] = Barrier{};
  }

  void run(int thread, int of_threads) { pass.run(Place(thread, of_threads, rows, &barriers)); }
};

// Runs one group or the other on one of `given` threads, which may be fewer than were asked for.
template <class Pass>
void run_either(Group<Pass>& first, Group<Pass>& second, int thread, int given) {
  if (given == 1) {
    first.run(0, 1);
    second.run(0, 1);
    return;
  }
  const int share = given * first.threads / (first.threads + second.threads);
  const int of_first = share > 0 ? share : 1;
  if (thread < of_first) {
    first.run(thread, of_first);
  } else {
    second.run(thread - of_first, given - of_first);
  }
}

// Runs one call, or two side by side. `Results` is what the pass takes beside a call.
template <class Pass, class Results>
void run_calls(const RecurrentCall* calls, const Results* results, int count) {
  Arena arena;
  Group<Pass> first(calls[0], results[0], arena);
  if (count == 1) {
    const auto body = [](void* group, int thread, int given) {
      static_cast<Group<Pass>*>(group)->run(thread, given);
    };
    parallel(first.threads, body, &first);
    return;
  }
  Group<Pass> second(calls[1], results[1], arena);
  Group<Pass>* both[] = {&first, &second};
  const auto body = [](void* groups, int thread, int given) {
    auto* const* const of = static_cast<Group<Pass>**>(groups);
    run_either(*of[0], *of[1], thread, given);
  };
  parallel(first.threads + second.threads, body, both);
}

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

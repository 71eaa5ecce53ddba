// Threads, their barrier, and the order of the rows that they share out.

#include "cpu/threads.h"

#include <vector>

#include "check.h"
#include "cpu/schedule.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

// Threads that write each their own number, and after a barrier read those of the others.
struct Rounds {
  static constexpr int kRounds = 200;
  Barrier barrier;
  std::vector<int> written, mistakes;

  void run(int thread, int count) {
    const auto mine = static_cast<std::size_t>(thread);
    for (int round = 1; round <= kRounds; ++round) {
      written[mine] = round;
      barrier.wait(count);
      for (const int other : written) mistakes[mine] += other != round;
      barrier.wait(count);
    }
  }
};

}  // namespace

void test_barrier() {
  for (int threads = 1; threads <= 4; ++threads) {
    const auto count = static_cast<std::size_t>(threads);
    Rounds rounds{{}, std::vector<int>(count), std::vector<int>(count)};
    parallel(
        threads,
        [](void* context, int thread, int of) { static_cast<Rounds*>(context)->run(thread, of); },
        &rounds);
    for (const int mistakes : rounds.mistakes) {
      require(mistakes == 0, "a barrier lets no thread of " + std::to_string(threads) + " ahead");
    }
  }
}

void test_parallel() {
  for (int threads = 0; threads <= 5; ++threads) {
    std::vector<int> calls(6);
    parallel(
        threads,
        [](void* context, int thread, int count) {
          (*static_cast<std::vector<int>*>(context))[static_cast<std::size_t>(thread)] += count;
        },
        &calls);
    const int count = threads < 1 ? 1 : threads;
    for (int i = 0; i < 6; ++i) {
      require(calls[static_cast<std::size_t>(i)] == (i < count ? count : 0),
              "parallel calls each of " + std::to_string(count) + " threads once");
    }
  }
}

void test_sorted_rows() {
  const std::int64_t lengths[] = {2, 0, 4, 2, 3};
  const SortedRows sorted(lengths, 5, 5, true);
  const Schedule& schedule = sorted.schedule();
  const std::int64_t rows[] = {2, 4, 0, 3, 1}, active[] = {4, 4, 2, 1, 0};
  std::int64_t entry = 0;
  for (int i = 0; i < 5; ++i) {
    require(schedule.row_of[i] == rows[i], "rows are sorted by length, equal ones in their order");
    require(schedule.length_of[i] == lengths[rows[i]], "a row's length is at its position");
    require(schedule.active[i] == active[i], "rows are active up to their length");
    require(schedule.entry[i] == entry, "entries count the active rows");
    entry += active[i];
  }
  require(schedule.entries() == 11, "there is an entry for each step of each row");
  require(schedule.step(0) == 4, "a reverse walk begins at the last step");
  require(schedule.step_before(1, 2) == -1, "a reverse walk of a row begins at its last step");
  require(schedule.step_before(1, 1) == 2, "a reverse walk comes from the next step");
  const SortedRows full(nullptr, 3, 2, false);
  require(full.schedule().entries() == 6, "without lengths, rows are full");
  require(full.schedule().step_before(0, 1) == -1, "a walk begins at the first step");
}

}  // namespace testing
}  // namespace sketchrnn

// Threads, their barrier, and the order of the rows that they share out.

#include "cpu/threads.h"

#include <utility>
#include <vector>

#include "check.h"
#include "cpu/schedule.h"
#include "cpu/thread_shares.h"
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

void test_thread_shares() {
  // Whether two calls of T steps, B rows and 64 units run side by side, and how many threads each
  // of them has.
  const auto share = [](std::ptrdiff_t T, std::ptrdiff_t B, int threads) {
    const SortedRows sorted(nullptr, T, B, false);
    RecurrentCall calls[2]{};
    for (RecurrentCall& call : calls) {
      call.schedule = sorted.schedule();
      call.units = 64;
    }
    const bool side_by_side = share_threads(calls, 2, threads);
    require(calls[0].threads == calls[1].threads, "equal calls have equally many threads");
    return std::pair(side_by_side, calls[0].threads);
  };
  require(share(250, 1, 1) == std::pair(false, 1), "one thread takes one call after another");
  require(share(250, 1, 2) == std::pair(true, 1), "two small calls run side by side");
  require(share(250, 100, 4) == std::pair(true, 2), "each call has half of the threads");
  require(share(250, 1, 8) == std::pair(true, 1), "a small call has the threads that it can use");
  require(share(250, 16, 7) == std::pair(false, 4), "uneven halves must be all that is of use");
  require(share(250, 8, 7) == std::pair(true, 2), "the smaller half may be all that is of use");
  require(share(10, 1, 2) == std::pair(false, 1), "a tiny call wakes no second thread");

  RecurrentCall one{};
  const SortedRows sorted(nullptr, 250, 16, false);
  one.schedule = sorted.schedule();
  one.units = 64;
  require(!share_threads(&one, 1, 4) && one.threads == 4, "one call has all threads");
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

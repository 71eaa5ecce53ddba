#include "thread_shares.h"

#include <algorithm>
#include <cstdint>

namespace sketchrnn {
namespace {

// With fewer rows than this for each team, a product is bound by reading the weights.
constexpr std::ptrdiff_t kRowsOfTeam = 8;

// Multiply-adds of a thread in a step, some microseconds.
constexpr std::int64_t kLeastOfStep = 1 << 16;

// Multiply-adds of a call, some tens of microseconds.
constexpr double kLeastOfCall = 1 << 20;

std::int64_t multiply_adds_of_row(const RecurrentCall& call) {
  return 4 * (call.units + call.hyper_units) * (call.units + call.input);
}

// Whether a call loses little by having half of the threads to itself. Measured with two threads,
// two directions side by side take two thirds of the time where a step is too small for two
// threads, and about the same elsewhere, at any number of rows (docs/cpu.md). Halves of an odd
// number are not even, so the smaller must be all that a call can use.
bool half_will_do(const RecurrentCall& call, int threads) {
  const double work = static_cast<double>(call.schedule.entries()) *
                      static_cast<double>(multiply_adds_of_row(call));
  if (threads < 2 || work < kLeastOfCall) return false;
  return threads % 2 == 0 || threads_worth_using(call, call.schedule.rows, threads) <= threads / 2;
}

}  // namespace

int threads_worth_using(const RecurrentCall& call, std::ptrdiff_t rows, int threads) {
  const std::int64_t per_step = rows * multiply_adds_of_row(call);
  return static_cast<int>(
      std::clamp<std::int64_t>(per_step / kLeastOfStep, 1, std::max(threads, 1)));
}

int count_teams(std::ptrdiff_t rows, int threads) {
  int teams = threads;
  while (teams > 1 && (threads % teams != 0 || rows < teams * kRowsOfTeam)) --teams;
  return teams;
}

bool share_threads(RecurrentCall* calls, int count, int threads) {
  const bool side_by_side =
      count == 2 && half_will_do(calls[0], threads) && half_will_do(calls[1], threads);
  for (int i = 0; i < count; ++i) {
    calls[i].threads =
        threads_worth_using(calls[i], calls[i].schedule.rows, side_by_side ? threads / 2 : threads);
  }
  return side_by_side;
}

}  // namespace sketchrnn

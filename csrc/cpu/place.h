// Which part of the work is a thread's: rows of the batch, columns of a product.
//
// Rows are independent of each other, layer norm included, so teams of threads share out the rows
// and never wait for each other within a step. Where rows are few, reading the weights is what
// takes the time; then a team has several threads, which share out the columns of each product and
// the rows of what follows it, and wait for each other in between.

#pragma once

#include "recurrent.h"
#include "thread_shares.h"
#include "threads.h"
#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

struct Range {
  std::ptrdiff_t begin, end;
  std::ptrdiff_t size() const { return end - begin; }
};

// Part `index` of `parts` parts of 0 … n - 1, as even as can be.
inline Range part_of(std::ptrdiff_t n, int index, int parts) {
  return {n * index / parts, n * (index + 1) / parts};
}

struct Barriers {
  Barrier of_all;
  Barrier* of_team;  // one for each team
};

struct Place {
  int thread, threads;
  int teams, members;  // members of each team
  int team, member;    // this thread's
  Barriers* barriers;

  Place(int the_thread, int of_threads, std::ptrdiff_t rows, Barriers* the_barriers)
      : thread(the_thread),
        threads(of_threads),
        teams(count_teams(rows, of_threads)),
        members(of_threads / teams),
        barriers(the_barriers) {
    team = thread / members;
    member = thread % members;
  }

  // The team's rows among positions 0 … active - 1: its row i is at position(i).
  std::ptrdiff_t rows(std::ptrdiff_t active) const {
    return active > team ? (active - team + teams - 1) / teams : 0;
  }
  std::ptrdiff_t position(std::ptrdiff_t row) const { return team + row * teams; }

  Range mine_of_team(std::ptrdiff_t n) const { return part_of(n, member, members); }
  Range mine_of_all(std::ptrdiff_t n) const { return part_of(n, thread, threads); }

  // body(position) for this member's share of the team's first `count` rows.
  template <class Body>
  SKETCHRNN_INLINE void each_of_mine(std::ptrdiff_t count, Body&& body) const {
    const Range mine = mine_of_team(count);
    for (std::ptrdiff_t row = mine.begin; row < mine.end; ++row) body(position(row));
  }

  void meet_team() const { barriers->of_team[team].wait(members); }
  void meet_all() const { barriers->of_all.wait(threads); }
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

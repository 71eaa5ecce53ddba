// How many threads a recurrent call runs on, and whether two calls that do not need each other run
// one after another or side by side.

#pragma once

#include <cstddef>

#include "recurrent.h"

namespace sketchrnn {

// Threads that have enough to do between two of their meetings in a step of so many rows: a step of
// a small layer is done before a second thread has woken.
int threads_worth_using(const RecurrentCall& call, std::ptrdiff_t rows, int threads);

// Into how many teams the threads of a call are divided: place.h.
int count_teams(std::ptrdiff_t rows, int threads);

// Gives each of one or two calls its threads, of `threads` that there are. True where both are to
// run side by side, on their threads at the same time; otherwise one runs after another.
bool share_threads(RecurrentCall* calls, int count, int threads);

}  // namespace sketchrnn

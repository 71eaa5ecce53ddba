// The rows of a batch in the order of their lengths, the longest first, and the schedule that
// follows from it (recurrent.h). Baseline code, which no level compiles.

#pragma once

#include <cstdint>
#include <vector>

#include "recurrent.h"

namespace sketchrnn {

class SortedRows {
 public:
  // lengths: [B], each between 0 and time_steps, or null where all rows are full.
  SortedRows(const std::int64_t* lengths, std::int64_t time_steps, std::int64_t rows, bool reverse);
  // The schedule points into this object.
  SortedRows(const SortedRows&) = delete;
  SortedRows& operator=(const SortedRows&) = delete;

  const Schedule& schedule() const { return schedule_; }

 private:
  std::vector<std::int64_t> row_of_, length_of_, active_, entry_;
  Schedule schedule_{};
};

}  // namespace sketchrnn

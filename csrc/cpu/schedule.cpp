#include "schedule.h"

#include <algorithm>
#include <cstddef>
#include <numeric>

namespace sketchrnn {

SortedRows::SortedRows(const std::int64_t* lengths, std::int64_t time_steps, std::int64_t rows,
                       bool reverse)
    : row_of_(static_cast<std::size_t>(rows)), length_of_(row_of_.size(), time_steps) {
  std::iota(row_of_.begin(), row_of_.end(), 0);
  if (lengths != nullptr) {
    std::stable_sort(row_of_.begin(), row_of_.end(), [&](std::int64_t one, std::int64_t other) {
      return lengths[one] > lengths[other];
    });
    for (std::size_t p = 0; p < row_of_.size(); ++p) length_of_[p] = lengths[row_of_[p]];
  }
  entry_.push_back(0);
  std::size_t active = row_of_.size();
  for (std::int64_t t = 0; t < time_steps; ++t) {
    while (active > 0 && length_of_[active - 1] <= t) --active;
    active_.push_back(static_cast<std::int64_t>(active));
    entry_.push_back(entry_.back() + active_.back());
  }
  schedule_ = {time_steps,        rows,           reverse,      row_of_.data(),
               length_of_.data(), active_.data(), entry_.data()};
}

}  // namespace sketchrnn

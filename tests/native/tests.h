// The tests, a function a subject.

#pragma once

#include "cpu/level.h"

namespace sketchrnn {
namespace testing {

void test_memory();
void test_barrier();
void test_parallel();
void test_thread_shares();
void test_sorted_rows();

// `cases`: how many cases are drawn for each op.
void test_recurrent_forward(const Level& level, int cases);
void test_recurrent_backward(const Level& level, int cases);
void test_mixture_density(const Level& level);
void test_sampler(const Level& level, int cases);

}  // namespace testing
}  // namespace sketchrnn

// Threads for the kernels: the OpenMP runtime that the process already has (PyTorch brings one), so
// that there is one pool of threads and one setting of their number.

#pragma once

namespace sketchrnn {

// Calls body(context, thread, count) for thread = 0 … count - 1 at the same time, count at most
// `threads`; returns when all have returned. With one thread it is a plain call that never enters
// OpenMP, so that forked processes are safe. Without an OpenMP runtime in the process, threads are
// started for the call.
void parallel(int threads, void (*body)(void* context, int thread, int count), void* context);

// Where threads wait until `count` of them have come. They spin, because a step of a recurrence
// takes microseconds, and let others run where that takes long.
struct Barrier {
  void wait(int count);

  alignas(64) int arrived = 0;
  alignas(64) int generation = 0;
};

}  // namespace sketchrnn

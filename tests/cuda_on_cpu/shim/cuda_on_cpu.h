// CUDA's threads on a CPU: enough of the language for csrc/cuda, so that g++ compiles its device
// code as it is. Included ahead of it.
//
// A launch makes one strand of execution for each CUDA thread. By default strands are fibers of one
// OS thread, which take turns at every wait: quick, always in the same order, and a wait that can
// never end is noticed. With CUDA_ON_CPU_THREADS each is an OS thread, for ThreadSanitizer.
//
// Barriers order memory as CUDA's do. Shuffles do not: they exchange values by relaxed atomics, so
// that ThreadSanitizer does not take them for barriers.

#pragma once

#include <math.h>

#include <atomic>
#include <cstdint>
#include <cstring>
#include <functional>
#include <memory>
#include <vector>

#define __device__
#define __global__
#define __host__

namespace cuda_on_cpu {

constexpr int kWarp = 32;

// The barrier that a test leaves out, if it was built to.
inline int skipped_barrier = -1;

struct Index {
  unsigned x;
};

// A place where `expected` strands wait until all have come.
class Meeting {
 public:
  explicit Meeting(int expected);
  ~Meeting();
  void wait();

 private:
  struct State;
  std::unique_ptr<State> state_;
};

// Strands of a group show each other a value without ordering anything else.
class Exchange {
 public:
  explicit Exchange(int members) : members_(members), shown_(new Shown[2 * members]()) {}

  // Shows a value, and waits for the others; turn counts this member's calls from 1.
  void show(int member, std::uint32_t value, std::uint32_t turn);
  // What a member showed; two turns later it is gone.
  std::uint32_t shown(int member, std::uint32_t turn) const {
    return static_cast<std::uint32_t>(place(member, turn).load(std::memory_order_relaxed));
  }

 private:
  using Shown = std::atomic<std::uint64_t>;  // the turn, then the value
  Shown& place(int member, std::uint32_t turn) const {
    return shown_[(turn & 1u) * members_ + member];
  }

  int members_;
  std::unique_ptr<Shown[]> shown_;
};

struct Block {
  Block(int threads, std::size_t shared_bytes);
  Meeting all;
  Exchange flags;
  std::vector<std::unique_ptr<Exchange>> warps;
  std::atomic<int> any[3];
  std::vector<double> shared;  // of no more than the asked size, so that an overrun is noticed
};

struct Strand {
  Index thread_index, block_index, block_dim, grid_dim;
  Block* block;
  Meeting* grid;
  std::uint32_t shuffles, votes, unordered_votes;
};

Strand& self();

// Runs kernel(shared memory) in every thread of a grid.
void launch(int blocks, int threads, std::size_t shared_bytes,
            const std::function<void(unsigned char*)>& kernel);

inline int lane() { return static_cast<int>(self().thread_index.x) % kWarp; }

}  // namespace cuda_on_cpu

#define threadIdx (cuda_on_cpu::self().thread_index)
#define blockIdx (cuda_on_cpu::self().block_index)
#define blockDim (cuda_on_cpu::self().block_dim)
#define gridDim (cuda_on_cpu::self().grid_dim)

inline int min(int a, int b) { return a < b ? a : b; }

inline void __syncthreads() { cuda_on_cpu::self().block->all.wait(); }

// Three cells take turns: the one before this vote's is cleared, which all have read by now.
inline int __syncthreads_or(int flag) {
  cuda_on_cpu::Strand& strand = cuda_on_cpu::self();
  std::atomic<int>* const any = strand.block->any;
  const std::uint32_t vote = strand.votes++;
  if (flag != 0) any[vote % 3].store(1, std::memory_order_relaxed);
  strand.block->all.wait();
  const int result = any[vote % 3].load(std::memory_order_relaxed);
  any[(vote + 2) % 3].store(0, std::memory_order_relaxed);
  return result;
}

// The vote without the barrier, for the builds that leave a barrier out.
inline bool unordered_or(bool flag) {
  cuda_on_cpu::Strand& strand = cuda_on_cpu::self();
  cuda_on_cpu::Exchange& flags = strand.block->flags;
  const std::uint32_t turn = ++strand.unordered_votes;
  flags.show(static_cast<int>(strand.thread_index.x), flag ? 1 : 0, turn);
  bool any = false;
  for (unsigned i = 0; i < strand.block_dim.x; ++i) {
    any = any || flags.shown(static_cast<int>(i), turn) != 0;
  }
  return any;
}

inline float __shfl_xor_sync(unsigned, float value, int mask) {
  cuda_on_cpu::Strand& strand = cuda_on_cpu::self();
  cuda_on_cpu::Exchange& warp = *strand.block->warps[strand.thread_index.x / cuda_on_cpu::kWarp];
  const std::uint32_t turn = ++strand.shuffles;
  std::uint32_t bits;
  std::memcpy(&bits, &value, sizeof bits);
  warp.show(cuda_on_cpu::lane(), bits, turn);
  bits = warp.shown(cuda_on_cpu::lane() ^ mask, turn);
  std::memcpy(&value, &bits, sizeof bits);
  return value;
}

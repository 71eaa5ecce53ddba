#include "cuda_on_cpu.h"

#include <cstdio>
#include <cstdlib>

#ifdef CUDA_ON_CPU_THREADS
#include <sched.h>

#include <condition_variable>
#include <mutex>
#include <thread>
#else
#include <setjmp.h>
#include <ucontext.h>
#endif

namespace cuda_on_cpu {
namespace {

void let_others_run();
void note_progress();

}  // namespace

void Exchange::show(int member, std::uint32_t value, std::uint32_t turn) {
  const std::uint64_t entry = std::uint64_t{turn} << 32 | value;
  place(member, turn).store(entry, std::memory_order_relaxed);
  note_progress();
  for (int other = 0; other < members_; ++other) {
    while (place(other, turn).load(std::memory_order_relaxed) >> 32 != turn) let_others_run();
  }
}

Block::Block(int threads, std::size_t shared_bytes)
    : all(threads), flags(threads), any{}, shared((shared_bytes + 7) / 8) {
  for (int warp = 0; warp < threads / kWarp; ++warp) {
    warps.push_back(std::make_unique<Exchange>(kWarp));
  }
  // Nothing may be read that was not written: what is left over from elsewhere is no number.
  std::memset(shared.data(), 0xFF, shared.size() * sizeof(double));
}

#ifdef CUDA_ON_CPU_THREADS

struct Meeting::State {
  int expected, arrived = 0;
  unsigned generation = 0;
  std::mutex mutex;
  std::condition_variable over;
};

void Meeting::wait() {
  std::unique_lock<std::mutex> lock(state_->mutex);
  const unsigned mine = state_->generation;
  if (++state_->arrived == state_->expected) {
    state_->arrived = 0;
    ++state_->generation;
    state_->over.notify_all();
  } else {
    state_->over.wait(lock, [&] { return state_->generation != mine; });
  }
}

namespace {

thread_local Strand* current = nullptr;

void let_others_run() { sched_yield(); }
void note_progress() {}

void run_all(std::vector<Strand>& strands, const std::function<void(unsigned char*)>& kernel) {
  std::vector<std::thread> running;
  for (Strand& strand : strands) {
    running.emplace_back([&] {
      current = &strand;
      kernel(reinterpret_cast<unsigned char*>(strand.block->shared.data()));
    });
  }
  for (std::thread& thread : running) thread.join();
}

}  // namespace

Strand& self() { return *current; }

#else

struct Meeting::State {
  int expected, arrived = 0;
  unsigned generation = 0;
};

namespace {

struct Fiber {
  static constexpr std::size_t kStack = 64 << 10;
  Strand* strand;
  std::vector<char> stack = std::vector<char>(kStack);
  ucontext_t begin{};
  jmp_buf paused{};
  bool started = false, done = false;
};

Fiber* current = nullptr;
const std::function<void(unsigned char*)>* kernel_of_all = nullptr;
jmp_buf scheduler;
bool progress = false;

void note_progress() { progress = true; }

// Saving signal masks, as swapcontext does, would be a system call for each switch.
__attribute__((noinline)) void let_others_run() {
  if (_setjmp(current->paused) == 0) _longjmp(scheduler, 1);
}

void run_fiber() {
  (*kernel_of_all)(reinterpret_cast<unsigned char*>(current->strand->block->shared.data()));
  current->done = true;
  note_progress();
  _longjmp(scheduler, 1);
}

__attribute__((noinline)) void resume(Fiber& fiber) {
  current = &fiber;
  if (_setjmp(scheduler) != 0) return;
  if (fiber.started) _longjmp(fiber.paused, 1);
  fiber.started = true;
  setcontext(&fiber.begin);
}

// One turn of every fiber that is not done; false when all are.
bool round(std::vector<std::unique_ptr<Fiber>>& fibers) {
  bool any = false;
  progress = false;
  for (const auto& fiber : fibers) {
    if (fiber->done) continue;
    any = true;
    resume(*fiber);
  }
  if (any && !progress) {
    std::fputs("cuda_on_cpu: every thread waits for another one\n", stderr);
    std::abort();
  }
  return any;
}

void run_all(std::vector<Strand>& strands, const std::function<void(unsigned char*)>& kernel) {
  std::vector<std::unique_ptr<Fiber>> fibers;
  for (Strand& strand : strands) {
    fibers.push_back(std::make_unique<Fiber>());
    Fiber& fiber = *fibers.back();
    fiber.strand = &strand;
    getcontext(&fiber.begin);
    fiber.begin.uc_stack.ss_sp = fiber.stack.data();
    fiber.begin.uc_stack.ss_size = fiber.stack.size();
    makecontext(&fiber.begin, run_fiber, 0);
  }
  kernel_of_all = &kernel;
  while (round(fibers)) continue;
}

}  // namespace

void Meeting::wait() {
  const unsigned mine = state_->generation;
  note_progress();
  if (++state_->arrived == state_->expected) {
    state_->arrived = 0;
    ++state_->generation;
  } else {
    while (state_->generation == mine) let_others_run();
  }
}

Strand& self() { return *current->strand; }

#endif

Meeting::Meeting(int expected) : state_(new State{}) { state_->expected = expected; }
Meeting::~Meeting() = default;

void launch(int blocks, int threads, std::size_t shared_bytes,
            const std::function<void(unsigned char*)>& kernel) {
  std::vector<std::unique_ptr<Block>> memory;
  Meeting grid(blocks * threads);
  std::vector<Strand> strands;
  for (int block = 0; block < blocks; ++block) {
    memory.push_back(std::make_unique<Block>(threads, shared_bytes));
    for (int thread = 0; thread < threads; ++thread) {
      const auto index = [](int i) { return Index{static_cast<unsigned>(i)}; };
      strands.push_back({index(thread), index(block), index(threads), index(blocks),
                         memory.back().get(), &grid, 0, 0, 0});
    }
  }
  run_all(strands, kernel);
}

}  // namespace cuda_on_cpu

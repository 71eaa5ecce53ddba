// OpenMP is called through its entry points, looked up in the process at the first call, instead of
// being linked: PyTorch's copy of libgomp may bear any file name, and a second copy would bring a
// second pool of threads. libomp has the same entry points.

#include "threads.h"

#include <dlfcn.h>
#include <sched.h>

#include <thread>
#include <vector>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace sketchrnn {
namespace {

struct OpenMP {
  void (*parallel)(void (*)(void*), void*, unsigned, unsigned);
  int (*thread_number)();
  int (*thread_count)();
};

template <class Function>
void find(const char* name, Function& function) {
  function = reinterpret_cast<Function>(dlsym(RTLD_DEFAULT, name));
}

// All null where the process has no OpenMP runtime.
const OpenMP& openmp() {
  static const OpenMP found = [] {
    OpenMP runtime{};
    find("GOMP_parallel", runtime.parallel);
    find("omp_get_thread_num", runtime.thread_number);
    find("omp_get_num_threads", runtime.thread_count);
    const bool whole = runtime.parallel != nullptr && runtime.thread_number != nullptr &&
                       runtime.thread_count != nullptr;
    return whole ? runtime : OpenMP{};
  }();
  return found;
}

struct Call {
  void (*body)(void*, int, int);
  void* context;
};

void in_openmp(void* call) {
  const auto& [body, context] = *static_cast<const Call*>(call);
  body(context, openmp().thread_number(), openmp().thread_count());
}

void relax() {
#if defined(__x86_64__)
  _mm_pause();
#elif defined(__aarch64__)
  __asm__ volatile("yield");
#endif
}

constexpr int kSpins = 4096;  // some tens of microseconds

}  // namespace

void parallel(int threads, void (*body)(void*, int, int), void* context) {
  if (threads <= 1) {
    body(context, 0, 1);
    return;
  }
  if (openmp().parallel != nullptr) {
    Call call{body, context};
    openmp().parallel(in_openmp, &call, static_cast<unsigned>(threads), 0);
    return;
  }
  std::vector<std::thread> others;
  for (int thread = 1; thread < threads; ++thread) {
    others.emplace_back(body, context, thread, threads);
  }
  body(context, 0, threads);
  for (std::thread& other : others) other.join();
}

void Barrier::wait(int count) {
  if (count == 1) return;
  const int before = __atomic_load_n(&generation, __ATOMIC_ACQUIRE);
  if (__atomic_add_fetch(&arrived, 1, __ATOMIC_ACQ_REL) == count) {
    __atomic_store_n(&arrived, 0, __ATOMIC_RELAXED);
    __atomic_store_n(&generation, before + 1, __ATOMIC_RELEASE);
    return;
  }
  for (int spin = 0; __atomic_load_n(&generation, __ATOMIC_ACQUIRE) == before; ++spin) {
    if (spin < kSpins) {
      relax();
    } else {
      sched_yield();
    }
  }
}

}  // namespace sketchrnn

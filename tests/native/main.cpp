// native_tests           tests everything, at every level that the CPU has
// native_tests CASES     with so many random cases of each recurrent op and level
// native_tests level     prints the level that is chosen, or why there is none

#include <chrono>
#include <exception>

#include "check.h"
#include "tests.h"

namespace {

using namespace sketchrnn;
using namespace sketchrnn::testing;

constexpr int kCases = 40;

template <class Test>
void run(const char* level, const char* subject, Test&& test) {
  const auto start = std::chrono::steady_clock::now();
  test();
  const std::chrono::duration<double> took = std::chrono::steady_clock::now() - start;
  std::printf("%-10s %-20s %6.1f s\n", level, subject, took.count());
  std::fflush(stdout);
}

int print_level() {
  try {
    std::printf("%s\n", level().name);
    return 0;
  } catch (const std::exception& error) {
    std::fprintf(stderr, "native_tests: %s\n", error.what());
    return 1;
  }
}

void test_all(int cases) {
  run("", "memory", test_memory);
  run("", "threads", [] {
    test_parallel();
    test_barrier();
    test_thread_shares();
    test_sorted_rows();
  });
  require(usable_level(0) != nullptr, "the CPU has a level");
  const Level* level = nullptr;
  for (int i = 0; (level = usable_level(i)) != nullptr; ++i) {
    run(level->name, "recurrent forward", [&] { test_recurrent_forward(*level, cases); });
    run(level->name, "recurrent backward", [&] { test_recurrent_backward(*level, cases); });
    run(level->name, "mixture density", [&] { test_mixture_density(*level); });
    run(level->name, "sampler", [&] { test_sampler(*level, cases); });
  }
}

}  // namespace

int main(int count, char** arguments) {
  const std::string first = count > 1 ? arguments[1] : "";
  if (first == "level") return print_level();
  test_all(first.empty() ? kCases : std::atoi(first.c_str()));
  return 0;
}

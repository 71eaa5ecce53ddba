// A few sketches by the sampler with an OS thread for each CUDA thread, for ThreadSanitizer.
//
//   race CELL RESIDENT [BARRIER]     a cell's number, 0 or 1, and a barrier to leave out
//   race count                       prints how many barriers there are
//
// Built with SKETCHRNN_TEST_SKIP_BARRIER=cuda_on_cpu::skipped_barrier, a variable, so that one
// program serves for every barrier.

#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <random>
#include <vector>

#include "cuda/barriers.cuh"
#include "draw.h"

namespace {

class Weights {
 public:
  const float* make(int elements, float size) {
    std::normal_distribution<float> normal(0.0f, size);
    kept_.emplace_back(elements);
    for (float& value : kept_.back()) value = normal(generator_);
    return kept_.back().data();
  }

 private:
  std::mt19937 generator_{1};
  std::vector<std::vector<float>> kept_;
};

}  // namespace

int main(int count, char** words) {
  if (count == 2 && std::strcmp(words[1], "count") == 0) {
    std::printf("%d\n", static_cast<int>(sketchrnn::cuda::Barrier::kCount));
    return 0;
  }
  if (count < 3) return 2;
  const int cell = std::atoi(words[1]), resident = std::atoi(words[2]);
  if (count > 3) cuda_on_cpu::skipped_barrier = std::atoi(words[3]);

  constexpr int N = 5, Z = 2, K = 1, kSketches = 3, kLimit = 2;
  const int H = cell == 2 ? 3 : 0, E = cell == 2 ? 2 : 0;
  Weights random;
  const auto part = [&](int elements) { return random.make(elements, 0.5f); };
  const int inputs = 5 + Z, gates = 4 * N;
  std::vector<const float*> weights = {part(inputs * gates), part(N * gates)};
  const auto norms = [&](int units) {
    for (const int size : {4 * units, 4 * units, units, units}) weights.push_back(part(size));
  };
  if (cell != 1) weights.push_back(part(gates));
  if (cell != 0) norms(N);
  if (cell == 2) {
    weights.push_back(part((inputs + N) * 4 * H));
    weights.push_back(part(H * 4 * H));
    norms(H);
    const int embedding = 4 * H * E, bias = 4 * E, projection = 4 * E * N;
    for (const int size :
         {embedding, bias, projection, embedding, bias, projection, embedding, projection}) {
      weights.push_back(part(size));
    }
  }
  const std::int64_t seeds[kSketches] = {1, 2, 3};
  std::vector<float> points(kSketches * kLimit * 3);
  std::int64_t lengths[kSketches] = {};
  std::uint8_t outcome[kSketches] = {};
  DrawArguments a{};
  a.cell = cell;
  a.units = N;
  a.hyper_units = H;
  a.embedding = E;
  a.z_size = Z;
  a.mixtures = K;
  a.weights = weights.data();
  a.start = part(Z * 2 * (N + H));
  a.start_bias = part(2 * (N + H));
  a.head = part(N * (6 * K + 3));
  a.head_bias = part(6 * K + 3);
  a.blocks = 2;
  a.threads = 64;
  a.slots = 2;
  a.stage_rows = 1;
  a.resident = resident;
  a.count = kSketches;
  a.limit = kLimit;
  a.seeds = seeds;
  a.z = part(kSketches * Z);
  a.softmax = a.sigma = 1.0f;
  a.points = points.data();
  a.lengths = lengths;
  a.outcome = outcome;
  a.launches = 4;
  a.rounds = 3;
  draw_on_cpu(&a);
  for (const std::int64_t length : lengths) std::printf("%d ", static_cast<int>(length));
  std::printf("\n");
}

// The CUDA sampler on a CPU, as one call that a test makes.

#pragma once

#include <cstdint>

extern "C" {

struct DrawArguments {
  int cell, storage;  // as sketchrnn::cuda::Cell and Storage number them
  int units, hyper_units, embedding, z_size, mixtures;
  float forget_bias;
  const float* const* weights;  // in the op's order
  const float *start, *start_bias, *head, *head_bias;
  int blocks, threads, slots, stage_rows, resident;
  int count, limit;
  const std::int64_t* seeds;
  const float *z, *prefix;
  const std::int64_t* prefix_offsets;
  float softmax, sigma;
  int greedy;
  float* points;
  std::int64_t* lengths;
  std::uint8_t* outcome;
  int launches, rounds;  // how many launches, of so many rounds; 0 for no bound
};

// Packs the decoder and draws.
void draw_on_cpu(const DrawArguments* arguments);

struct PlanArguments {
  int cell, storage;
  int units, hyper_units, embedding, z_size, mixtures;
  int multiprocessors, count;
  std::int64_t shared_limit;
  // Filled in:
  int blocks, slots, stage_rows, resident;
  std::int64_t shared_bytes, workspace_bytes, packed_bytes;
};

// How a GPU would draw; false where it cannot.
bool plan_for_gpu(PlanArguments* arguments);
}

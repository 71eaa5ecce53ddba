// What the CPU offers and the operating system has enabled: the basis for choosing a code path.

#pragma once

#include <string>
#include <utility>
#include <vector>

namespace sketchrnn {

struct CpuFeatures {
  std::string architecture;  // "x86_64", "aarch64", ... or "unknown"
  std::string level;         // "x86-64" to "x86-64-v4"; elsewhere the architecture's name
  std::string vendor;        // empty where it is not known
  std::string model;         // empty where it is not known
  // Names as Linux writes them in /proc/cpuinfo; empty elsewhere than on x86.
  std::vector<std::pair<const char*, bool>> flags;
};

CpuFeatures cpu_features();

}  // namespace sketchrnn

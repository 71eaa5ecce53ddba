// CPUID says what the processor can do, XGETBV (register XCR0) which register files the operating
// system saves on a context switch; an instruction set is usable when both agree. The levels are
// those of the x86-64 psABI. Other architectures report their name only.
//
// Source of the bit numbers: Intel SDM volume 2A, CPUID; AMD APM volume 3, appendix E.

#include "../core/cpu_features.h"

#if defined(__x86_64__)
#include <cpuid.h>

#include <cstdint>
#include <cstring>
#endif

namespace sketchrnn {

#if defined(__x86_64__)

namespace {

struct Registers {
  std::uint32_t eax, ebx, ecx, edx;
};

Registers cpuid(std::uint32_t leaf, std::uint32_t subleaf) {
  Registers r{};
  // Returns zeros, hence "no such feature", for a leaf that the processor does not have.
  __get_cpuid_count(leaf, subleaf, &r.eax, &r.ebx, &r.ecx, &r.edx);
  return r;
}

// Written as assembly because the intrinsic needs -mxsave for the whole file.
std::uint64_t enabled_register_files() {
  std::uint32_t low = 0;
  std::uint32_t high = 0;
  __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
  return std::uint64_t{high} << 32 | low;
}

constexpr bool bit(std::uint32_t word, int index) { return (word >> index & 1u) != 0; }

std::string vendor_name() {
  const Registers r = cpuid(0, 0);
  const std::uint32_t words[3] = {r.ebx, r.edx, r.ecx};
  char text[sizeof(words)];
  std::memcpy(text, words, sizeof(words));
  return std::string(text, sizeof(text));
}

// The 48-byte brand string, without the padding that some processors put around it.
std::string model_name() {
  if (cpuid(0x80000000u, 0).eax < 0x80000004u) return {};
  char text[49] = {};
  for (std::uint32_t i = 0; i < 3; ++i) {
    const Registers r = cpuid(0x80000002u + i, 0);
    std::memcpy(text + 16 * i, &r, sizeof(r));
  }
  std::string name(text);
  name.erase(0, name.find_first_not_of(' '));
  name.erase(name.find_last_not_of(' ') + 1);
  return name;
}

}  // namespace

CpuFeatures cpu_features() {
  const Registers basic = cpuid(1, 0);
  const Registers extended = cpuid(7, 0);
  const Registers extended1 = cpuid(7, 1);
  const Registers amd = cpuid(0x80000001u, 0);

  const bool osxsave = bit(basic.ecx, 27);
  const std::uint64_t saved = osxsave ? enabled_register_files() : 0;
  const bool ymm = (saved & 0x6u) == 0x6u;            // XMM, upper halves of YMM
  const bool zmm = (saved & 0xE6u) == 0xE6u;          // and mask registers, ZMM
  const bool tiles = (saved & 0x60000u) == 0x60000u;  // tile configuration and data

  const bool sse4_2 = bit(basic.ecx, 20);
  const bool avx = ymm && bit(basic.ecx, 28);
  const bool fma = ymm && bit(basic.ecx, 12);
  const bool f16c = ymm && bit(basic.ecx, 29);
  const bool avx2 = ymm && bit(extended.ebx, 5);
  const bool avx512f = zmm && bit(extended.ebx, 16);
  const bool avx512dq = zmm && bit(extended.ebx, 17);
  const bool avx512cd = zmm && bit(extended.ebx, 28);
  const bool avx512bw = zmm && bit(extended.ebx, 30);
  const bool avx512vl = zmm && bit(extended.ebx, 31);
  const bool avx512_bf16 = zmm && bit(extended1.eax, 5);
  const bool amx_tile = tiles && bit(extended.edx, 24);
  const bool amx_bf16 = tiles && bit(extended.edx, 22);

  const bool sse3 = bit(basic.ecx, 0), ssse3 = bit(basic.ecx, 9), cx16 = bit(basic.ecx, 13);
  const bool sse4_1 = bit(basic.ecx, 19), popcnt = bit(basic.ecx, 23), lahf = bit(amd.ecx, 0);
  const bool movbe = bit(basic.ecx, 22), lzcnt = bit(amd.ecx, 5);
  const bool bmi1 = bit(extended.ebx, 3), bmi2 = bit(extended.ebx, 8);

  const bool v2 = sse3 && ssse3 && cx16 && sse4_1 && sse4_2 && popcnt && lahf;
  const bool v3 = v2 && avx && avx2 && bmi1 && bmi2 && f16c && fma && lzcnt && movbe;
  const bool v4 = v3 && avx512f && avx512bw && avx512cd && avx512dq && avx512vl;

  CpuFeatures features;
  features.architecture = "x86_64";
  features.level = v4 ? "x86-64-v4" : v3 ? "x86-64-v3" : v2 ? "x86-64-v2" : "x86-64";
  features.vendor = vendor_name();
  features.model = model_name();
  features.flags = {
      {"sse4_2", sse4_2},
      {"avx", avx},
      {"avx2", avx2},
      {"fma", fma},
      {"f16c", f16c},
      {"avx512f", avx512f},
      {"avx512bw", avx512bw},
      {"avx512dq", avx512dq},
      {"avx512vl", avx512vl},
      {"avx512cd", avx512cd},
      {"avx512_bf16", avx512_bf16},
      {"amx_tile", amx_tile},
      {"amx_bf16", amx_bf16},
  };
  return features;
}

#else

CpuFeatures cpu_features() {
  CpuFeatures features;
#if defined(__aarch64__)
  features.architecture = "aarch64";
#elif defined(__riscv)
  features.architecture = "riscv";
#elif defined(__powerpc64__)
  features.architecture = "ppc64";
#elif defined(__i386__)
  features.architecture = "i386";
#else
  features.architecture = "unknown";
#endif
  features.level = features.architecture;
  return features;
}

#endif

}  // namespace sketchrnn

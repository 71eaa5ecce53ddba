// Denormal numbers as zeros, for the length of a scope: on x86 an operation that meets one takes
// many times as long. Elsewhere they are left as they are.

#pragma once

#include "vector.h"

namespace sketchrnn {
namespace SKETCHRNN_LEVEL {

class DenormalsAsZeros {
 public:
  DenormalsAsZeros(const DenormalsAsZeros&) = delete;
  DenormalsAsZeros& operator=(const DenormalsAsZeros&) = delete;

#if defined(__x86_64__)
  SKETCHRNN_INLINE DenormalsAsZeros() : before_(__builtin_ia32_stmxcsr()) {
    constexpr unsigned kResults = 1u << 15, kOperands = 1u << 6;
    __builtin_ia32_ldmxcsr(before_ | kResults | kOperands);
  }
  SKETCHRNN_INLINE ~DenormalsAsZeros() { __builtin_ia32_ldmxcsr(before_); }

 private:
  unsigned before_;
#else
  SKETCHRNN_INLINE DenormalsAsZeros() {}
#endif
};

}  // namespace SKETCHRNN_LEVEL
}  // namespace sketchrnn

// Philox4x32-10, and the dropout rule built on it, for host and device.
//
// A counter-based generator: 128 random bits are a pure function of a 64-bit key and a 128-bit
// counter, so a draw depends on what it is for and never on what was drawn before it.
// Source: Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011;
// the convention is that of their Random123 library, and of Triton's tl.philox.
//
//   key     = (seed low word, seed high word)
//   counter = (block, t, row, stream)
//
// Ten rounds, each of them
//
//   (c0, c1, c2, c3) <- (hi(M1 c2) ^ c1 ^ k0,  lo(M1 c2),  hi(M0 c0) ^ c3 ^ k1,  lo(M0 c0))
//
// where hi and lo are the two words of a 32 x 32 -> 64 bit product; the key moves by (W0, W1)
// between rounds.
//
// Dropout of N units uses Q = ceil(N / 8) calls for each (t, row): the call with block q decides
// units q, Q + q, 2 Q + q, ..., 7 Q + q, one 16-bit lane each. A unit is kept when its lane is
// less than round(keep_prob * 65536). In this order a vector of consecutive calls writes eight
// contiguous runs of units.

#pragma once

#include <cstdint>

// Always inlined on the host, so that sources compiled for different CPUs never share a copy.
#if defined(__CUDACC__)
#define SKETCHRNN_HOST_DEVICE __host__ __device__
#else
#define SKETCHRNN_HOST_DEVICE __attribute__((always_inline)) inline
#endif

namespace sketchrnn {

struct PhiloxKey {
  std::uint32_t low;
  std::uint32_t high;
};

// Input counter and output words alike.
struct PhiloxBlock {
  std::uint32_t word[4];
};

SKETCHRNN_HOST_DEVICE constexpr PhiloxKey philox_key(std::uint64_t seed) {
  return {static_cast<std::uint32_t>(seed), static_cast<std::uint32_t>(seed >> 32)};
}

SKETCHRNN_HOST_DEVICE constexpr PhiloxBlock philox4x32(PhiloxBlock counter, PhiloxKey key) {
  std::uint32_t c0 = counter.word[0];
  std::uint32_t c1 = counter.word[1];
  std::uint32_t c2 = counter.word[2];
  std::uint32_t c3 = counter.word[3];
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = std::uint64_t{0xD2511F53u} * c0;
    const std::uint64_t product1 = std::uint64_t{0xCD9E8D57u} * c2;
    c0 = static_cast<std::uint32_t>(product1 >> 32) ^ c1 ^ key.low;
    c1 = static_cast<std::uint32_t>(product1);
    c2 = static_cast<std::uint32_t>(product0 >> 32) ^ c3 ^ key.high;
    c3 = static_cast<std::uint32_t>(product0);
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

constexpr int kDropoutLanes = 8;

struct DropoutLanes {
  std::uint16_t lane[kDropoutLanes];
};

// Lane 2w is the low half of word w, lane 2w + 1 its high half.
SKETCHRNN_HOST_DEVICE constexpr DropoutLanes dropout_lanes(PhiloxBlock words) {
  DropoutLanes lanes{};
  for (int w = 0; w < 4; ++w) {
    lanes.lane[2 * w] = static_cast<std::uint16_t>(words.word[w] & 0xFFFFu);
    lanes.lane[2 * w + 1] = static_cast<std::uint16_t>(words.word[w] >> 16);
  }
  return lanes;
}

// round(keep_prob * 65536), ties to even as Python and NumPy round; 65536 keeps every lane.
// keep_prob lies in [0, 1].
SKETCHRNN_HOST_DEVICE constexpr std::uint32_t dropout_threshold(double keep_prob) {
  const double scaled = keep_prob * 65536.0;
  const auto whole = static_cast<std::uint32_t>(scaled);
  const double rest = scaled - static_cast<double>(whole);
  const bool up = rest > 0.5 || (rest == 0.5 && whole % 2 == 1);
  return whole + (up ? 1u : 0u);
}

}  // namespace sketchrnn

// Memory for the kernels' scratch and for what they save: in huge pages, and used again.
//
// The first touch of fresh memory costs as much as the arithmetic of a small layer (about 0.3 ms a
// megabyte in pages of 4 KiB), and an allocator that gives large blocks back to the system pays it
// in every training step. Blocks that are given back here are kept for the next call, at most as
// many bytes as were in use at once before.

#pragma once

#include <cstddef>

namespace sketchrnn {

// At least `bytes` of uninitialised memory, aligned to a cache line.
// Throws std::bad_alloc where the system has none.
void* take_block(std::size_t bytes);
void give_block(void* block);

// Bytes in blocks that are taken, and in blocks that are kept for later.
struct BlockUse {
  std::size_t taken;
  std::size_t kept;
};
BlockUse block_use();

// Gives all kept blocks back to the system.
void release_kept_blocks();

// Pieces of scratch for one call, all freed together.
class Arena {
 public:
  Arena();
  Arena(const Arena&) = delete;
  Arena& operator=(const Arena&) = delete;
  ~Arena();

  // Uninitialised, aligned to a cache line.
  void* take(std::size_t bytes);

 private:
  struct Piece {
    Piece* before;
  };
  Piece* last_ = nullptr;
};

}  // namespace sketchrnn

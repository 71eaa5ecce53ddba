// The pool of memory.

#include "cpu/memory.h"

#include <new>

#include "check.h"
#include "tests.h"

namespace sketchrnn {
namespace testing {
namespace {

constexpr std::size_t kMegabyte = std::size_t{1} << 20;

bool aligned(const void* block) { return reinterpret_cast<std::uintptr_t>(block) % 64 == 0; }

void blocks_of_every_size_are_usable() {
  for (const std::size_t bytes : {std::size_t{0}, std::size_t{1}, std::size_t{100}, kMegabyte - 65,
                                  kMegabyte - 64, kMegabyte, 5 * kMegabyte + 1}) {
    void* const block = take_block(bytes);
    require(aligned(block), "a block is aligned to a cache line");
    std::memset(block, 0xA5, bytes);
    give_block(block);
  }
}

void large_blocks_are_used_again() {
  release_kept_blocks();
  void* const first = take_block(4 * kMegabyte);
  const std::size_t taken = block_use().taken;
  require(taken >= 4 * kMegabyte && block_use().kept == 0, "a large block is counted as taken");
  give_block(first);
  require(block_use().taken == 0 && block_use().kept == taken, "a block that is given is kept");
  void* const second = take_block(4 * kMegabyte - 5000);
  require(second == first, "a block of about the same size is used again");
  require(block_use().kept == 0, "a block that is used again is no longer kept");
  void* const third = take_block(4 * kMegabyte);
  require(third != second, "two blocks are two");
  give_block(third);
  give_block(second);
  require(block_use().kept <= 2 * taken, "no more is kept than was in use at once");
  void* const small = take_block(kMegabyte);
  require(small != first && small != third, "a large block is not wasted on a small one");
  give_block(small);
  release_kept_blocks();
  require(block_use().taken == 0 && block_use().kept == 0, "released blocks are gone");
}

void absurd_sizes_are_refused() {
  const std::size_t most = SIZE_MAX;
  for (const std::size_t bytes : {most, most - 10, most / 2 + 1, most / 2, most / 4}) {
    bool refused = false;
    try {
      give_block(take_block(bytes));
    } catch (const std::bad_alloc&) {
      refused = true;
    }
    require(refused, "a block of " + std::to_string(bytes) + " bytes is refused");
  }
  give_block(take_block(3 * kMegabyte));
  require(block_use().taken == 0, "the pool works after a refusal");
  release_kept_blocks();
}

void an_arena_gives_back_all_pieces() {
  {
    Arena arena;
    for (const std::size_t bytes : {std::size_t{0}, std::size_t{7}, 3 * kMegabyte}) {
      void* const piece = arena.take(bytes);
      require(aligned(piece), "a piece is aligned to a cache line");
      std::memset(piece, 0x5A, bytes);
    }
    require(block_use().taken > 3 * kMegabyte, "an arena's pieces are blocks");
  }
  require(block_use().taken == 0, "an arena gives all its pieces back");
  release_kept_blocks();
}

}  // namespace

void test_memory() {
  blocks_of_every_size_are_usable();
  large_blocks_are_used_again();
  absurd_sizes_are_refused();
  an_arena_gives_back_all_pieces();
}

}  // namespace testing
}  // namespace sketchrnn

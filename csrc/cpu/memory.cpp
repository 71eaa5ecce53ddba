// A block starts with one cache line that holds its size. Large blocks come from mmap and are
// rounded to huge pages; small ones from the C library, which is good at those.

#include "memory.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <new>
#include <vector>

namespace sketchrnn {
namespace {

constexpr std::size_t kLine = 64;
constexpr std::size_t kHugePage = std::size_t{1} << 21;
constexpr std::size_t kLarge = kHugePage / 2;

struct Header {
  std::size_t bytes;  // of the block, header included
};

struct Pool {
  std::mutex mutex;
  std::vector<Header*> kept;  // large blocks only, the longest kept first
  std::size_t kept_bytes = 0;
  std::size_t taken_bytes = 0;
  std::size_t most_taken_bytes = 0;
};

// Never destroyed: tensors may outlive the destructors of static objects.
Pool& pool() {
  static Pool* const the_pool = new Pool;
  return *the_pool;
}

Header* map_block(std::size_t bytes) {
  void* block =
      mmap(nullptr, bytes + kHugePage, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) throw std::bad_alloc();
  // Cut down to a stretch that begins at a huge page.
  const auto start = reinterpret_cast<std::uintptr_t>(block);
  const std::uintptr_t aligned = (start + kHugePage - 1) / kHugePage * kHugePage;
  if (aligned > start) munmap(block, aligned - start);
  const std::uintptr_t end = start + bytes + kHugePage;
  if (end > aligned + bytes) {
    munmap(reinterpret_cast<void*>(aligned + bytes), end - aligned - bytes);
  }
  madvise(reinterpret_cast<void*>(aligned), bytes, MADV_HUGEPAGE);
  return reinterpret_cast<Header*>(aligned);
}

// The smallest kept block that serves without wasting more than it gives.
Header* find_kept(Pool& the, std::size_t bytes) {
  auto best = the.kept.end();
  for (auto it = the.kept.begin(); it != the.kept.end(); ++it) {
    const std::size_t size = (*it)->bytes;
    if (size >= bytes && size / 2 < bytes && (best == the.kept.end() || size < (*best)->bytes)) {
      best = it;
    }
  }
  if (best == the.kept.end()) return nullptr;
  Header* header = *best;
  the.kept.erase(best);
  the.kept_bytes -= header->bytes;
  return header;
}

void release_down_to(Pool& the, std::size_t bytes) {
  while (the.kept_bytes > bytes) {
    Header* oldest = the.kept.front();
    the.kept.erase(the.kept.begin());
    the.kept_bytes -= oldest->bytes;
    munmap(oldest, oldest->bytes);
  }
}

}  // namespace

void* take_block(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  bytes += kLine;
  Pool& the = pool();
  Header* header = nullptr;
  if (bytes < kLarge) {
    header = static_cast<Header*>(std::aligned_alloc(kLine, (bytes + kLine - 1) / kLine * kLine));
    if (header == nullptr) throw std::bad_alloc();
    header->bytes = bytes;
  } else {
    bytes = (bytes + kHugePage - 1) / kHugePage * kHugePage;
    const std::lock_guard<std::mutex> lock(the.mutex);
    header = find_kept(the, bytes);
    if (header == nullptr) {
      header = map_block(bytes);
      header->bytes = bytes;
    }
    the.taken_bytes += header->bytes;
    the.most_taken_bytes = std::max(the.most_taken_bytes, the.taken_bytes);
  }
  return reinterpret_cast<char*>(header) + kLine;
}

void give_block(void* block) {
  auto* header = reinterpret_cast<Header*>(static_cast<char*>(block) - kLine);
  if (header->bytes < kLarge) {
    std::free(header);
    return;
  }
  Pool& the = pool();
  const std::lock_guard<std::mutex> lock(the.mutex);
  the.taken_bytes -= header->bytes;
  the.kept.push_back(header);
  the.kept_bytes += header->bytes;
  release_down_to(the, the.most_taken_bytes - the.taken_bytes);
}

BlockUse block_use() {
  Pool& the = pool();
  const std::lock_guard<std::mutex> lock(the.mutex);
  return {the.taken_bytes, the.kept_bytes};
}

void release_kept_blocks() {
  Pool& the = pool();
  const std::lock_guard<std::mutex> lock(the.mutex);
  release_down_to(the, 0);
  the.most_taken_bytes = the.taken_bytes;
}

Arena::Arena() = default;

Arena::~Arena() {
  while (last_ != nullptr) {
    Piece* before = last_->before;
    give_block(last_);
    last_ = before;
  }
}

void* Arena::take(std::size_t bytes) {
  if (bytes > SIZE_MAX / 2) throw std::bad_alloc();
  auto* piece = static_cast<Piece*>(take_block(kLine + bytes));
  piece->before = last_;
  last_ = piece;
  return reinterpret_cast<char*>(piece) + kLine;
}

}  // namespace sketchrnn

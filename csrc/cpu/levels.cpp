// Which level runs.

#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>

#include "../core/cpu_features.h"
#include "level.h"

namespace sketchrnn {

#if defined(__x86_64__)
namespace v2 {
extern const Level level;
}
namespace v3 {
extern const Level level;
}
namespace v4 {
extern const Level level;
}
#else
namespace generic {
extern const Level level;
}
#endif

namespace {

constexpr const char* kVariable = "SKETCHRNN_FAST_CPU_LEVEL";

#if defined(__x86_64__)

const Level* const kLevels[] = {&v4::level, &v3::level, &v2::level};  // the highest first

// "x86-64" < "x86-64-v2" < … as text too.
bool has(const std::string& of_cpu, const Level& level) { return of_cpu >= level.name; }

#else

const Level* const kLevels[] = {&generic::level};

bool has(const std::string&, const Level&) { return true; }

#endif

const Level& choose() {
  const char* wanted = std::getenv(kVariable);
  if (wanted != nullptr && *wanted == '\0') wanted = nullptr;
  std::string usable;
  const Level* level = nullptr;
  for (int i = 0; (level = usable_level(i)) != nullptr; ++i) {
    if (wanted == nullptr || std::strcmp(wanted, level->name) == 0) return *level;
    usable += (usable.empty() ? "" : ", ") + std::string(level->name);
  }
  if (wanted != nullptr) {
    throw std::runtime_error(std::string(kVariable) + " is " + wanted +
                             "; this module and CPU have " + (usable.empty() ? "none" : usable));
  }
  throw std::runtime_error("the native kernels need an x86-64-v2 CPU; this one is " +
                           cpu_features().level);
}

}  // namespace

const Level& level() {
  static const Level& chosen = choose();
  return chosen;
}

const Level* usable_level(int index) {
  const std::string of_cpu = cpu_features().level;
  for (const Level* level : kLevels) {
    if (has(of_cpu, *level) && index-- == 0) return level;
  }
  return nullptr;
}

}  // namespace sketchrnn

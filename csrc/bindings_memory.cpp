// Arrays in the kernels' pool of memory (csrc/cpu/memory.h).

#include <pybind11/numpy.h>

#include "bindings.h"
#include "cpu/memory.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

template <class T>
py::array_t<T> empty(std::size_t count) {
  void* block = take_block(count * sizeof(T));
  const py::capsule owner(block, [](void* given) { give_block(given); });
  return py::array_t<T>(static_cast<py::ssize_t>(count), static_cast<T*>(block), owner);
}

}  // namespace

void bind_memory(py::module_& module) {
  module.def("empty_float32", &empty<float>, py::arg("count"));
  module.def("empty_float64", &empty<double>, py::arg("count"));
  module.def("memory_use", [] {
    const BlockUse use = block_use();
    return py::make_tuple(use.taken, use.kept);
  });
  module.def("release_memory", &release_kept_blocks);
}

}  // namespace sketchrnn

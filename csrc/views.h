// Views of tensors that Python passes in, read through their Python attributes, so that no header
// of PyTorch is needed: data_ptr(), shape, dtype and is_contiguous(). Every function checks what it
// is given and says in one sentence what was found and what is accepted.

#pragma once

#include <pybind11/pybind11.h>

#include <cstdint>
#include <string>
#include <vector>

namespace sketchrnn {

struct View {
  void* data = nullptr;
  std::vector<std::int64_t> shape;
};

enum class Scalar { kFloat32, kFloat64, kInt64, kUInt8, kOther };

// Throws TypeError where the object is no tensor; what follows takes tensors.
void require_tensor(const std::string& what, const pybind11::handle& object);

Scalar scalar_of(const pybind11::handle& tensor);

// The view of a contiguous tensor of this scalar type and shape, in a CPU's memory; throws
// ValueError otherwise.
View view(const std::string& what, const pybind11::handle& tensor, Scalar scalar,
          const std::vector<std::int64_t>& shape);

// The same of a tensor in the memory of this CUDA device.
View device_view(const std::string& what, const pybind11::handle& tensor, Scalar scalar,
                 const std::vector<std::int64_t>& shape, int device);

// The index of the CUDA device that holds a tensor; throws ValueError where it is elsewhere.
int device_of(const std::string& what, const pybind11::handle& tensor);

std::string shape_text(const std::vector<std::int64_t>& shape);
std::vector<std::int64_t> shape_of(const pybind11::handle& tensor);

}  // namespace sketchrnn

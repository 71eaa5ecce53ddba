#include "views.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

const char* name_of(Scalar scalar) {
  switch (scalar) {
    case Scalar::kFloat32:
      return "float32";
    case Scalar::kFloat64:
      return "float64";
    case Scalar::kInt64:
      return "int64";
    case Scalar::kUInt8:
      return "uint8";
    case Scalar::kOther:
      break;
  }
  return "another type";
}

std::string device_type(const py::handle& tensor) {
  return tensor.attr("device").attr("type").cast<std::string>();
}

View checked_view(const std::string& what, const py::handle& tensor, Scalar scalar,
                  const std::vector<std::int64_t>& shape) {
  View view{nullptr, shape_of(tensor)};
  const Scalar found = scalar_of(tensor);
  if (view.shape != shape || found != scalar) {
    throw py::value_error(what + " is " + name_of(found) + " " + shape_text(view.shape) +
                          "; it must be " + name_of(scalar) + " " + shape_text(shape));
  }
  if (!tensor.attr("is_contiguous")().cast<bool>()) {
    throw py::value_error(what + " is not contiguous; it must be");
  }
  view.data = reinterpret_cast<void*>(tensor.attr("data_ptr")().cast<std::uintptr_t>());
  return view;
}

}  // namespace

void require_tensor(const std::string& what, const py::handle& object) {
  if (!py::hasattr(object, "data_ptr") || !py::hasattr(object, "device")) {
    throw py::type_error(what + " is of type " +
                         py::str(py::type::handle_of(object).attr("__name__")).cast<std::string>() +
                         "; it must be a torch tensor");
  }
}

Scalar scalar_of(const py::handle& tensor) {
  const py::object dtype = tensor.attr("dtype");
  const auto size = dtype.attr("itemsize").cast<int>();
  if (dtype.attr("is_floating_point").cast<bool>()) {
    return size == 4 ? Scalar::kFloat32 : size == 8 ? Scalar::kFloat64 : Scalar::kOther;
  }
  const auto name = py::str(dtype).cast<std::string>();
  return name == "torch.int64"   ? Scalar::kInt64
         : name == "torch.uint8" ? Scalar::kUInt8
                                 : Scalar::kOther;
}

std::vector<std::int64_t> shape_of(const py::handle& tensor) {
  std::vector<std::int64_t> shape;
  for (const py::handle size : tensor.attr("shape")) shape.push_back(size.cast<std::int64_t>());
  return shape;
}

std::string shape_text(const std::vector<std::int64_t>& shape) {
  std::string text = "[";
  for (const std::int64_t size : shape) {
    text += (text.size() > 1 ? ", " : "") + std::to_string(size);
  }
  return text + "]";
}

View view(const std::string& what, const py::handle& tensor, Scalar scalar,
          const std::vector<std::int64_t>& shape) {
  require_tensor(what, tensor);
  if (device_type(tensor) != "cpu") {
    throw py::value_error(what + " is not on a CPU; it must be");
  }
  return checked_view(what, tensor, scalar, shape);
}

View device_view(const std::string& what, const py::handle& tensor, Scalar scalar,
                 const std::vector<std::int64_t>& shape, int device) {
  const int found = device_of(what, tensor);
  if (found != device) {
    throw py::value_error(what + " is on cuda:" + std::to_string(found) +
                          "; it must be on cuda:" + std::to_string(device));
  }
  return checked_view(what, tensor, scalar, shape);
}

int device_of(const std::string& what, const py::handle& tensor) {
  require_tensor(what, tensor);
  const std::string type = device_type(tensor);
  if (type != "cuda") throw py::value_error(what + " is on a " + type + "; it must be on a GPU");
  return tensor.attr("device").attr("index").cast<int>();
}

}  // namespace sketchrnn

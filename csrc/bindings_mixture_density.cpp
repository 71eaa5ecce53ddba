// The op mixture_density: checks shapes and types, and calls the level's kernels.

#include <algorithm>
#include <cstdint>
#include <string>
#include <vector>

#include "bindings.h"
#include "cpu/level.h"
#include "views.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

constexpr std::int64_t kPen = 3, kTarget = 5, kColumns = 6;

// R, K and the scalar type, as the tensor [R, 6K+3] has them, and a reader of the others.
class Rows {
 public:
  Rows(const char* op, const char* what, const py::handle& tensor)
      : op_(op), scalar_(scalar_of(tensor)), shape_(shape_of(tensor)) {
    const bool floating = scalar_ == Scalar::kFloat32 || scalar_ == Scalar::kFloat64;
    const std::int64_t columns = shape_.size() == 2 ? shape_[1] - kPen : 0;
    if (!floating || columns < kColumns || columns % kColumns != 0) {
      throw py::value_error(named(what) + " has shape " + shape_text(shape_) +
                            "; it must be float32 or float64 [R, 6K+3]");
    }
  }

  std::int64_t rows() const { return shape_[0]; }
  std::int64_t mixtures() const { return (shape_[1] - kPen) / kColumns; }
  int type_index() const { return scalar_ == Scalar::kFloat32 ? 0 : 1; }

  void* read(const char* what, const py::handle& tensor,
             const std::vector<std::int64_t>& shape) const {
    return view(named(what), tensor, scalar_, shape).data;
  }
  void* read_params(const char* what, const py::handle& tensor) const {
    return read(what, tensor, shape_);
  }
  void* read_row(const char* what, const py::handle& tensor) const {
    return read(what, tensor, {rows()});
  }

 private:
  std::string named(const char* what) const { return std::string(op_) + ": " + what; }

  const char* op_;
  Scalar scalar_;
  std::vector<std::int64_t> shape_;
};

void forward(const py::object& params, const py::object& target, const py::object& offset_weight,
             const py::object& pen_weight, const py::object& offset, const py::object& pen,
             const py::object& gradient, int threads) {
  const Rows rows("mixture_density", "params", params);
  MixtureDensityCall call{};
  call.rows = rows.rows();
  call.mixtures = rows.mixtures();
  call.params = rows.read_params("params", params);
  call.target = rows.read("target", target, {rows.rows(), kTarget});
  call.offset_weight = rows.read_row("offset_weight", offset_weight);
  call.pen_weight = rows.read_row("pen_weight", pen_weight);
  call.offset = rows.read_row("offset", offset);
  call.pen = rows.read_row("pen", pen);
  if (!gradient.is_none()) call.gradient = rows.read_params("gradient", gradient);
  call.threads = std::max(threads, 1);
  const auto run = level().mixture_density->forward[rows.type_index()];
  const py::gil_scoped_release no_gil;
  run(call);
}

void backward(const py::object& grad_offset, const py::object& grad_pen, const py::object& gradient,
              const py::object& grad_params, int threads) {
  const Rows rows("mixture_density_backward", "gradient", gradient);
  MixtureDensityBackwardCall call{};
  call.rows = rows.rows();
  call.mixtures = rows.mixtures();
  call.grad_offset = rows.read_row("grad_offset", grad_offset);
  call.grad_pen = rows.read_row("grad_pen", grad_pen);
  call.gradient = rows.read_params("gradient", gradient);
  call.grad_params = rows.read_params("grad_params", grad_params);
  call.threads = std::max(threads, 1);
  const auto run = level().mixture_density->backward[rows.type_index()];
  const py::gil_scoped_release no_gil;
  run(call);
}

}  // namespace

void bind_mixture_density(py::module_& module) {
  module.def("mixture_density", &forward, py::arg("params"), py::arg("target"),
             py::arg("offset_weight"), py::arg("pen_weight"), py::arg("offset"), py::arg("pen"),
             py::arg("gradient"), py::arg("threads"));
  module.def("mixture_density_backward", &backward, py::arg("grad_offset"), py::arg("grad_pen"),
             py::arg("gradient"), py::arg("grad_params"), py::arg("threads"));
}

}  // namespace sketchrnn

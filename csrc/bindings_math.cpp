// The vector functions of the kernels, for their tests.

#include <pybind11/numpy.h>

#include <string>

#include "bindings.h"
#include "cpu/level.h"

namespace py = pybind11;

namespace sketchrnn {
namespace {

using Function = void (*)(const void*, void*, std::ptrdiff_t);

const Function* function_named(const std::string& name) {
  const MathKernels& math = *level().math;
  if (name == "exp") return math.exp;
  if (name == "exp_flushed") return math.exp_flushed;
  if (name == "log") return math.log;
  if (name == "sigmoid") return math.sigmoid;
  if (name == "tanh") return math.tanh;
  throw py::value_error("vector_function: name is " + name +
                        "; there are exp, exp_flushed, log, sigmoid and tanh");
}

template <class T>
py::array map(Function function, const py::array& values) {
  const auto from = py::array_t<T, py::array::c_style>(values);
  py::array_t<T> to(from.size());
  const py::ssize_t count = from.size();
  const T* const source = from.data();
  T* const result = to.mutable_data();
  const py::gil_scoped_release no_gil;
  function(source, result, count);
  return std::move(to);
}

py::array vector_function(const std::string& name, const py::array& values) {
  const Function* const functions = function_named(name);
  if (values.ndim() == 1) {
    if (py::isinstance<py::array_t<float>>(values)) return map<float>(functions[0], values);
    if (py::isinstance<py::array_t<double>>(values)) return map<double>(functions[1], values);
  }
  throw py::value_error(
      "vector_function: values has dtype " + std::string(py::str(values.dtype())) + " and " +
      std::to_string(values.ndim()) + " dimensions; it must be float32 or float64 and have one");
}

}  // namespace

void bind_math(py::module_& module) {
  module.def(
      "vector_function", &vector_function, py::arg("name"), py::arg("values"),
      "exp, exp_flushed, log, sigmoid or tanh of a vector, as the kernels compute it; for tests.");
}

}  // namespace sketchrnn

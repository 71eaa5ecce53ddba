// The Python module sketchrnn_fast._native: argument checks and nothing else. Each function checks
// what it was given, makes the output, releases the GIL and calls the core.

#include "bindings.h"

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <algorithm>
#include <cstdint>
#include <stdexcept>
#include <string>

#include "core/cpu_features.h"
#include "core/philox.h"
#include "cpu/level.h"

namespace py = pybind11;

namespace {

constexpr std::int64_t kWords = std::int64_t{1} << 32;  // how many values a counter word has

std::string text(const py::handle& value) { return py::str(value); }

std::string type_name(const py::object& value) {
  return text(py::type::of(value).attr("__name__"));
}

// The value as a Python int: an int itself or an object with __index__, such as a NumPy integer.
py::object as_integer(const std::string& what, const py::object& value) {
  auto integer = py::reinterpret_steal<py::object>(PyNumber_Index(value.ptr()));
  if (!integer) {
    PyErr_Clear();
    throw py::value_error(what + " is of type " + type_name(value) + "; it must be an integer");
  }
  return integer;
}

std::int64_t integer_within(const std::string& what, const py::object& value, std::int64_t low,
                            std::int64_t high) {
  const py::object integer = as_integer(what, value);
  int overflow = 0;
  const std::int64_t result = PyLong_AsLongLongAndOverflow(integer.ptr(), &overflow);
  if (overflow != 0 || result < low || result > high) {
    throw py::value_error(what + " is " + text(integer) + "; it must be between " +
                          std::to_string(low) + " and " + std::to_string(high));
  }
  return result;
}

// Modulo 2^64, so that an int64 seed keeps its bits.
std::uint64_t as_seed(const std::string& what, const py::object& value) {
  return PyLong_AsUnsignedLongLongMask(as_integer(what, value).ptr());
}

double as_keep_prob(const std::string& what, const py::object& value) {
  const double keep_prob = PyFloat_AsDouble(value.ptr());
  if (PyErr_Occurred() != nullptr) {
    PyErr_Clear();
    throw py::value_error(what + " is of type " + type_name(value) + "; it must be a number");
  }
  if (!(keep_prob > 0.0 && keep_prob <= 1.0)) {
    throw py::value_error(what + " is " + text(value) + "; it must be above 0 and at most 1");
  }
  return keep_prob;
}

py::array_t<std::uint32_t> philox4x32(const py::object& counter, const py::object& seed) {
  const std::string accepted = "; it must be a uint32 array of shape [n, 4]";
  if (!py::isinstance<py::array>(counter)) {
    throw py::value_error("philox4x32: counter is of type " + type_name(counter) + accepted);
  }
  if (!py::isinstance<py::array_t<std::uint32_t>>(counter)) {
    throw py::value_error("philox4x32: counter has dtype " + text(counter.attr("dtype")) +
                          accepted);
  }
  const auto counter_array = py::array_t<std::uint32_t>(counter);
  if (counter_array.ndim() != 2 || counter_array.shape(1) != 4) {
    throw py::value_error("philox4x32: counter has shape " + text(counter.attr("shape")) +
                          accepted);
  }
  const auto counters = counter_array.unchecked<2>();
  const sketchrnn::PhiloxKey key = sketchrnn::philox_key(as_seed("philox4x32: seed", seed));
  py::array_t<std::uint32_t> words({counters.shape(0), py::ssize_t{4}});
  auto out = words.mutable_unchecked<2>();
  const py::gil_scoped_release no_gil;
  for (py::ssize_t i = 0; i < counters.shape(0); ++i) {
    const auto block = sketchrnn::philox4x32(
        {{counters(i, 0), counters(i, 1), counters(i, 2), counters(i, 3)}}, key);
    for (py::ssize_t w = 0; w < 4; ++w) out(i, w) = block.word[w];
  }
  return words;
}

py::array_t<std::uint8_t> dropout_keep(const py::object& seed, const py::object& time_steps,
                                       const py::object& rows, const py::object& units,
                                       const py::object& keep_prob, const py::object& stream,
                                       const py::object& row_offset) {
  const std::int64_t T = integer_within("dropout_keep: time_steps", time_steps, 0, kWords);
  const std::int64_t B = integer_within("dropout_keep: rows", rows, 0, kWords);
  const std::int64_t N = integer_within("dropout_keep: units", units, 0, kWords);
  if (B != 0 && N != 0 && T > PTRDIFF_MAX / B / N) {
    throw py::value_error("dropout_keep: time_steps * rows * units is " + std::to_string(T) +
                          " * " + std::to_string(B) + " * " + std::to_string(N) +
                          "; it must be at most " + std::to_string(PTRDIFF_MAX));
  }
  const sketchrnn::DropoutDraw draw{
      as_seed("dropout_keep: seed", seed),
      static_cast<std::uint32_t>(integer_within("dropout_keep: stream", stream, 0, kWords - 1)),
      static_cast<std::uint32_t>(integer_within("dropout_keep: row_offset", row_offset, 0,
                                                kWords - std::max<std::int64_t>(B, 1))),
      as_keep_prob("dropout_keep: keep_prob", keep_prob)};
  py::array_t<std::uint8_t> kept({T, B, N});
  std::uint8_t* out = kept.mutable_data();
  const py::gil_scoped_release no_gil;
  sketchrnn::level().dropout_keep(draw, T, B, N, out);
  return kept;
}

py::object text_or_none(const std::string& value) {
  return value.empty() ? py::object(py::none()) : py::object(py::str(value));
}

py::dict cpu_features() {
  const sketchrnn::CpuFeatures features = sketchrnn::cpu_features();
  py::dict flags;
  for (const auto& [name, present] : features.flags) flags[name] = present;
  py::dict report;
  report["architecture"] = features.architecture;
  report["level"] = features.level;
  try {
    report["kernels"] = sketchrnn::level().name;
  } catch (const std::runtime_error& refused) {
    report["kernels"] = py::none();
    report["refused"] = refused.what();
  }
  report["vendor"] = text_or_none(features.vendor);
  report["model"] = text_or_none(features.model);
  report["flags"] = flags;
  return report;
}

py::dict build_report() {
  py::dict report;
  report["version"] = SKETCHRNN_FAST_VERSION;
  report["compiler"] = SKETCHRNN_FAST_COMPILER;
  report["compiler_version"] = SKETCHRNN_FAST_COMPILER_VERSION;
  report["build_type"] = SKETCHRNN_FAST_BUILD_TYPE;
  report["cxx_standard"] = "C++" + std::to_string(__cplusplus / 100 % 100);
  report["pybind11_version"] = SKETCHRNN_FAST_PYBIND11_VERSION;
  report["cuda_toolkit_version"] = text_or_none(SKETCHRNN_FAST_CUDA_TOOLKIT_VERSION);
  py::list cuda_kernels, cuda_targets;
#ifdef SKETCHRNN_FAST_CUDA_TARGETS
  cuda_kernels.append("sampler");
  cuda_targets = py::str(SKETCHRNN_FAST_CUDA_TARGETS).attr("split")();
#endif
  report["cuda_kernels"] = cuda_kernels;
  report["cuda_targets"] = cuda_targets;
  return report;
}

}  // namespace

PYBIND11_MODULE(_native, module) {
  module.doc() = "The native core of sketchrnn-fast; it knows NumPy arrays and no PyTorch.";

  module.def("philox4x32", &philox4x32, py::arg("counter"), py::arg("seed"),
             "Philox4x32-10 words for uint32 counters [n, 4] = (block, t, row, stream).\n\n"
             "The seed is taken modulo 2**64. Returns uint32 [n, 4].\n"
             "Raises ValueError where an argument has another dtype or shape.");
  module.def("dropout_keep", &dropout_keep, py::arg("seed"), py::arg("time_steps"), py::arg("rows"),
             py::arg("units"), py::arg("keep_prob"), py::arg("stream") = 0,
             py::arg("row_offset") = 0,
             "Which units dropout keeps: uint8 [time_steps, rows, units], 1 = kept.\n\n"
             "The draws are those of every backend; see csrc/core/philox.h for the rule.\n"
             "Raises ValueError where a size does not fit or keep_prob is not in (0, 1].");
  sketchrnn::bind_recurrent(module);
  sketchrnn::bind_memory(module);
  sketchrnn::bind_math(module);
  sketchrnn::bind_mixture_density(module);
  sketchrnn::bind_sampler(module);
#ifdef SKETCHRNN_FAST_CUDA_TARGETS
  sketchrnn::bind_cuda_sampler(module);
#endif

  module.def("cpu_features", &cpu_features,
             "What the CPU offers and the operating system has enabled.");
  module.def("build_report", &build_report, "What this module was built from and with.");
}

// The parts of the Python module, one for each family of kernels.

#pragma once

#include <pybind11/pybind11.h>

namespace sketchrnn {

void bind_recurrent(pybind11::module_& module);
void bind_memory(pybind11::module_& module);
void bind_math(pybind11::module_& module);
void bind_mixture_density(pybind11::module_& module);
void bind_sampler(pybind11::module_& module);
void bind_cuda_sampler(pybind11::module_& module);  // where the CUDA kernels are built

}  // namespace sketchrnn

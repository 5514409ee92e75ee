// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include "core/buffer.h"

namespace zerolane::bindings {

// Facts about the CUDA module, driver and GPUs, and memory in use on one.
void bind_cuda(pybind11::module_& module);

pybind11::dict describe(const PoolStats& stats);
// Device name to its pools, for the GPUs that were opened; empty in a forked child.
pybind11::dict gpu_pools();
// Gives what the pools of the opened GPUs keep for reuse back, idle activation memory too. Blocks;
// without the GIL.
void trim_gpu_pools();

}  // namespace zerolane::bindings

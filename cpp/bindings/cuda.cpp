// SPDX-License-Identifier: Apache-2.0
#include "bindings/cuda.h"

#include "bindings/gil.h"
#include "bindings/text.h"
#include "core/error.h"
#include "cuda/device.h"
#include "cuda/library.h"
#include "cuda/memory.h"
#include "cuda/tensor.h"
#include "trt/activation.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

struct Found {
  int32_t driver = 0;
  int32_t runtime = 0;
  std::vector<cuda::DeviceInfo> devices;
  std::string problem;
};

Found look() {
  Found found;
  const cuda::Table& table = cuda::open_library();
  cuda::refuse_after_fork();
  if (table.driver_version(&found.driver) != 0) found.driver = 0;
  if (table.runtime_version(&found.runtime) != 0) found.runtime = 0;
  try {
    int count = cuda::device_count();
    for (int i = 0; i < count; ++i) found.devices.push_back(cuda::device_info(i));
  } catch (const Error& error) {
    found.problem = error.message();
  }
  return found;
}

py::dict describe_gpu(const cuda::DeviceInfo& info, int index) {
  py::dict out;
  out["index"] = index;
  out["name"] = text(info.name);
  out["compute_capability"] = py::make_tuple(info.major, info.minor);
  out["memory_bytes"] = info.memory_bytes;
  out["pci"] = text(info.pci);
  out["uuid"] = py::bytes(reinterpret_cast<const char*>(info.uuid), sizeof(info.uuid));
  out["multiprocessors"] = info.multiprocessors;
  out["clock_khz"] = info.clock_khz;
  out["memory_clock_khz"] = info.memory_clock_khz;
  out["memory_bus_bits"] = info.memory_bus_bits;
  out["copy_engines"] = info.copy_engines;
  out["l2_bytes"] = info.l2_bytes;
  out["integrated"] = info.integrated != 0;
  return out;
}

// No context is made on any GPU. `problem` says why there are no devices.
py::dict cuda_info() {
  Found found;
  {
    ReleaseGil release;
    found = look();
  }
  py::dict out;
  out["path"] = text(cuda::library_path());
  out["library"] = text(cuda::open_library().library);
  out["driver_version"] = found.driver;
  out["runtime_version"] = found.runtime;
  py::list devices;
  for (size_t i = 0; i < found.devices.size(); ++i) {
    devices.append(describe_gpu(found.devices[i], static_cast<int>(i)));
  }
  out["devices"] = devices;
  out["problem"] = found.problem.empty() ? py::object(py::none()) : text(found.problem);
  return out;
}

// The memory of a GPU: `device` is all that zerolane has of it, `tensors` the part of it that is
// cached for tensors and runs, `pinned` the host's.
py::dict memory_of(cuda::CudaDevice& gpu) {
  cuda::MemoryInfo memory;
  PoolStats device;
  PoolStats tensors;
  PoolStats pinned;
  {
    ReleaseGil release;
    memory = gpu.memory();
    device = gpu.pool().stats();
    tensors = gpu.tensor_pool()->stats();
    pinned = gpu.pinned_pool()->stats();
  }
  py::dict out;
  out["free_bytes"] = memory.free_bytes;
  out["total_bytes"] = memory.total_bytes;
  out["device"] = describe(device);
  out["tensors"] = describe(tensors);
  out["pinned"] = describe(pinned);
  return out;
}

cuda::CudaDevice& open_device(int index) {
  ReleaseGil release;
  return cuda::open_device(index);
}

}  // namespace

py::dict describe(const PoolStats& stats) {
  py::dict out;
  out["bytes_in_use"] = stats.bytes_in_use;
  out["bytes_cached"] = stats.bytes_cached;
  out["peak_bytes"] = stats.peak_bytes;
  out["buffers"] = stats.buffers;
  out["allocations"] = stats.allocations;
  out["reuses"] = stats.reuses;
  return out;
}

py::dict gpu_pools() {
  py::dict out;
  if (cuda::forked()) return out;  // the GPUs are the parent's
  for (cuda::CudaDevice* gpu : cuda::opened_devices())
    out[text(gpu->id().text())] = memory_of(*gpu);
  return out;
}

void trim_gpu_pools() {
  if (cuda::forked()) return;
  cuda::sweep_lent();
  trt::ActivationPool::trim_all();
  for (cuda::CudaDevice* gpu : cuda::opened_devices()) gpu->trim();
}

void bind_cuda(py::module_& module) {
  using namespace py::literals;
  module.def("cuda_library_path", [] { return text(cuda::library_path()); });
  module.def("cuda_info", &cuda_info);
  module.def("cuda_memory", [](int index) { return memory_of(open_device(index)); }, "index"_a);
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "bindings/op_testing.h"

#include <pybind11/stl.h>

#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "core/error.h"
#include "cuda/device.h"
#include "cuda/graph.h"
#include "cuda/memory.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

[[noreturn]] void refuse(const PyOp& op, const std::string& found) {
  throw make_error(Code::kInvalidArgument, "running " + op.state().where() + " in place", found,
                   "give what _plan() tells", op.state().entry().name);
}

// A call with its inputs, which are NumPy arrays that stay where they are.
std::unique_ptr<OpCall> planned(const PyOp& op, const py::tuple& arrays) {
  auto call = std::make_unique<OpCall>(op.shared_state());
  auto& inputs = call->inputs(arrays.size());
  for (size_t i = 0; i < inputs.size(); ++i) {
    const py::object array = arrays[i];
    inputs[i].present = !array.is_none();
    if (array.is_none()) continue;
    View view;
    if (!read_ndarray(array.ptr(), false, &view)) {
      refuse(op, "input " + std::to_string(i) +
                     " cannot be used where it lies, expected a NumPy "
                     "array that is row-major and aligned");
    }
    inputs[i].data = view.data;
    inputs[i].dtype = view.dtype;
    inputs[i].shape = view.shape;
  }
  call->plan();
  return call;
}

std::vector<View> output_views(const PyOp& op, const OpCall& call, const py::tuple& arrays) {
  if (arrays.size() != call.output_count()) {
    refuse(op, std::to_string(arrays.size()) + " outputs were given, expected " +
                   std::to_string(call.output_count()));
  }
  std::vector<View> views(arrays.size());
  for (size_t i = 0; i < views.size(); ++i) {
    const py::object array = arrays[i];
    if (!read_ndarray(array.ptr(), true, &views[i]) || views[i].dtype != call.output_dtype(i) ||
        !(views[i].shape == call.output_shape(i))) {
      refuse(op, "output " + std::to_string(i) + " is no NumPy array of " +
                     std::string(dtype_name(call.output_dtype(i))) + " " +
                     call.output_shape(i).text() + " that can be written to");
    }
  }
  return views;
}

using Extents = std::vector<int64_t>;

Extents extents(const Shape& shape) { return {shape.dims().begin(), shape.dims().end()}; }

// What a call with these inputs gives: dtype, shape (the most, for extents that the data decides),
// and whether the data decides it. Runs nothing.
std::vector<std::tuple<std::string, Extents, bool>> plan(const PyOp& op, const py::tuple& inputs) {
  const auto call = planned(op, inputs);
  std::vector<std::tuple<std::string, Extents, bool>> rows;
  for (size_t i = 0; i < call->output_count(); ++i) {
    rows.emplace_back(dtype_name(call->output_dtype(i)), extents(call->output_shape(i)),
                      call->is_counted(i));
  }
  return rows;
}

struct Places {
  std::vector<View> views;
  bool at_end;
};

// Runs on the host, on the arrays' own memory. An output whose extents the data decides lies at the
// start of its array, or, with `counted_at_end`, ends where it ends. Returns the outputs' shapes.
std::vector<Extents> run_into(const PyOp& op, const py::tuple& inputs, const py::tuple& outputs,
                              bool counted_at_end) {
  const auto call = planned(op, inputs);
  Places places{output_views(op, *call, outputs), counted_at_end};
  for (size_t i = 0; i < call->output_count(); ++i) {
    if (!call->is_counted(i)) call->set_output(i, places.views[i].data);
  }
  call->set_allocator(
      [](void* owner, size_t index, const Shape& shape) -> void* {
        const auto& [views, at_end] = *static_cast<const Places*>(owner);
        const size_t bytes = dtype_bytes(views[index].dtype, shape.count());
        auto* start = static_cast<char*>(views[index].data);
        return at_end ? start + (views[index].bytes() - bytes) : start;
      },
      &places);
  {
    ReleaseGil release;
    call->run_host();
  }
  std::vector<Extents> shapes;
  for (size_t i = 0; i < call->output_count(); ++i) {
    shapes.push_back(extents(call->output_shape(i)));
  }
  return shapes;
}

// Runs on a GPU: inputs and outputs are copied there, so that what the outputs hold is there before
// the run, and outputs are copied back. With `launches` the run is captured into a CUDA graph,
// which is then launched so many times. Returns the outputs' shapes; blocks.
std::vector<Extents> run_on_gpu(const PyOp& op, const py::tuple& inputs, const py::tuple& outputs,
                                int device, int launches) {
  const auto call = planned(op, inputs);
  const std::vector<View> views = output_views(op, *call, outputs);
  std::vector<Extents> shapes;
  {
    ReleaseGil release;
    cuda::CudaDevice& gpu = cuda::open_device(device);
    const DeviceConstants constants(op.shared_state(), gpu);
    const std::unique_ptr<cuda::CudaStream> owner = gpu.make_cuda_stream();
    cuda::CudaStream& stream = *owner;
    cuda::DevicePool& pool = stream.device().pool();
    std::vector<cuda::DeviceBuffer> memory;
    const auto upload = [&](const void* data, size_t bytes) {
      memory.push_back(pool.allocate(bytes, stream));
      if (bytes > 0) stream.copy_async(memory.back().data(), data, bytes);
      return memory.back().data();
    };
    for (OpInput& input : call->inputs(inputs.size())) {
      if (input.present) {
        input.data = upload(input.data, dtype_bytes(input.dtype, input.shape.count()));
      }
    }
    std::vector<void*> results;
    for (size_t i = 0; i < views.size(); ++i) {
      results.push_back(upload(views[i].data, views[i].bytes()));
      call->set_output(i, results[i]);
    }
    std::vector<int64_t> found(call->counted_extents());
    const cuda::DeviceBuffer scratch = pool.allocate(call->cuda_scratch(), stream);
    const cuda::DeviceBuffer counts = pool.allocate(found.size() * sizeof(int64_t), stream);
    std::vector<int64_t*> places;
    for (size_t i = 0; i < found.size(); ++i) {
      places.push_back(static_cast<int64_t*>(counts.data()) + i);
    }
    const auto run = [&] {
      call->run_cuda(stream.native(), scratch.data(), places, constants, device);
    };
    if (launches == 0) {
      run();
    } else {
      stream.synchronize();
      const cuda::Graph graph = cuda::Graph::capture(stream, run);
      for (int i = 0; i < launches; ++i) graph.launch(stream);
      stream.synchronize();
    }
    for (size_t i = 0; i < views.size(); ++i) {
      if (views[i].bytes() > 0) stream.copy_async(views[i].data, results[i], views[i].bytes());
    }
    if (!found.empty()) {
      stream.copy_async(found.data(), counts.data(), found.size() * sizeof(int64_t));
    }
    stream.synchronize();
    for (size_t i = 0; i < views.size(); ++i) {
      shapes.push_back(
          extents(call->is_counted(i) ? call->counted_shape(i, found) : views[i].shape));
    }
  }
  return shapes;
}

}  // namespace

void bind_op_testing(py::class_<PyOp>& type) {
  using namespace py::literals;
  type.def("_plan", &plan, "inputs"_a)
      .def("_run_into", &run_into, "inputs"_a, "outputs"_a, py::kw_only(), "counted_at_end"_a)
      .def("_run_on_gpu", &run_on_gpu, "inputs"_a, "outputs"_a, py::kw_only(), "device"_a,
           "launches"_a);
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "ort/op_cuda.h"

#include <utility>

namespace zerolane::ort {

OpOnCuda::OpOnCuda(const Runtime& rt, std::shared_ptr<Gpu> gpu,
                   std::shared_ptr<const OpState> state)
    : rt_(rt), gpu_(std::move(gpu)), state_(std::move(state)), constants_(state_, gpu_->device) {}

void* OpOnCuda::output(OrtKernelContext* context, size_t index, const Shape& shape) const {
  const std::string& name = state_->entry().name;
  OrtValue* value = nullptr;
  check(rt_, rt_.api.KernelContext_GetOutput(context, index, shape.data(), shape.rank(), &value),
        "running op " + name, name);
  if (value == nullptr) return nullptr;
  void* data = nullptr;
  check(rt_, rt_.api.GetTensorMutableData(value, &data), "running op " + name, name);
  return data;
}

void OpOnCuda::run(OpCall& call, OrtKernelContext* context, size_t outputs) {
  const std::string& name = state_->entry().name;
  void* stream = nullptr;
  check(rt_, rt_.api.KernelContext_GetGPUComputeStream(context, &stream), "running op " + name,
        name);
  // The provider was given our stream; memory that is let go below is used again in its order.
  Stream& order = *gpu_->stream;
  std::vector<Buffer> held;
  const auto lend = [&](size_t bytes) {
    held.push_back(gpu_->memory->allocate(bytes));
    return held.back().data();
  };
  std::vector<void*> most(call.output_count());
  for (size_t i = 0; i < call.output_count(); ++i) {
    if (i >= outputs) {
      call.skip_output(i);
    } else if (call.is_counted(i)) {
      most[i] = lend(dtype_bytes(call.output_dtype(i), call.output_shape(i).count()));
      call.set_output(i, most[i]);
    } else {
      void* data = output(context, i, call.output_shape(i));
      if (data == nullptr && call.output_shape(i).count() > 0) call.skip_output(i);
      call.set_output(i, data);
    }
  }
  const size_t scratch_bytes = call.cuda_scratch();
  void* scratch = scratch_bytes > 0 ? lend(scratch_bytes) : nullptr;
  std::vector<int64_t*> counts;
  for (size_t i = 0; i < call.counted_extents(); ++i) {
    counts.push_back(static_cast<int64_t*>(lend(sizeof(int64_t))));
  }
  call.run_cuda(stream, scratch, counts, constants_, gpu_->device.id().index);
  std::vector<int64_t> found(counts.size());
  for (size_t i = 0; i < counts.size(); ++i) {
    order.copy_async(&found[i], counts[i], sizeof(int64_t));
  }
  if (!counts.empty()) order.synchronize();
  for (size_t i = 0; i < outputs && i < most.size(); ++i) {
    if (most[i] == nullptr) continue;
    const Shape shape = call.counted_shape(i, found);
    void* data = output(context, i, shape);
    const size_t bytes = dtype_bytes(call.output_dtype(i), shape.count());
    if (data != nullptr && bytes > 0) order.copy_async(data, most[i], bytes);
  }
  // Buffers of the pool are anybody's once let go, so the stream must be done with them.
  if (!held.empty()) order.synchronize();
}

}  // namespace zerolane::ort

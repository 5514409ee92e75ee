// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <vector>

#include "core/buffer.h"
#include "core/session.h"
#include "cuda/stream.h"
#include "trt/execution.h"
#include "trt/session_impl.h"

namespace zerolane::trt {

// Runs an engine on a stream of its own. Memory of the host goes through pinned staging (or is
// copied from and to directly where it is pinned itself and bound); memory of the engine's device
// is used in place where its address is a multiple of kIoAlignment, else copied on the device.
// run() returns when the work is done.
//
// A run on the device cannot be interrupted: cancel() before it was enqueued ends it at once, later
// it only discards the result when the device is done.
class ContextImpl final : public Context {
 public:
  explicit ContextImpl(std::shared_ptr<SessionImpl> session);
  ~ContextImpl() override;

  void bind_input(size_t index, const View& view) override;
  void bind_output(size_t index, const View& view) override;
  void set_input(size_t index, const View& view) override;
  void set_input(size_t index, const Value& value) override;
  void clear_input(size_t index) override;
  void set_output(size_t index, const View& view) override;
  void request_output(size_t index) override;
  void request_output_on(size_t index, DeviceId device) override;
  void drop_output(size_t index) override;
  void run() override;
  Value take_output(size_t index) override;
  void cancel() noexcept override { cancelled_.store(true); }
  void rearm() override { cancelled_.store(false); }
  zerolane::Stream* stream() noexcept override { return stream_.get(); }

  // What the library asks of the address of an input or output.
  static constexpr size_t kIoAlignment = 256;

 private:
  enum class Where : uint8_t {
    kNowhere,
    kHost,    // pageable: staged
    kPinned,  // copied from or to directly
    kDevice,
  };
  enum class Want : uint8_t { kNothing, kGiven, kTensor, kDeviceTensor };

  struct Input {
    Where where = Where::kNowhere;
    View view;
    size_t bytes = 0;
    Buffer pinned;  // staging; of a shape tensor: what the library reads
    Buffer device;
    const void* source = nullptr;   // copied from in the run; null: nothing to copy
    const void* address = nullptr;  // what the library reads
  };
  struct Output {
    Want want = Want::kNothing;
    Where where = Where::kNowhere;  // of `view`
    View view;
    Buffer pinned;
    Buffer device;
    std::unique_ptr<OutputMemory> memory;  // while the data decides the size
    void* address = nullptr;
    void* target = nullptr;  // copied to in the run; null: nothing to copy
    Shape shape;             // of the result
    size_t bytes = 0;
    Value taken;
  };

  Where where_of(const View& view, bool bound, const IoTensor& tensor, const char* role) const;
  void give_input(size_t index, const View& view, bool bound);
  void give_output(size_t index, const View& view, bool bound);
  void read_shape_values();
  Execution& select_execution();
  void prepare_inputs();
  void prepare_outputs(Execution& execution);
  void prepare_output(Execution& execution, size_t index);
  void stage_inputs();
  size_t enqueue_work();
  void size_data_dependent(Output& output, const IoTensor& tensor);
  void run_on_stream(Execution& execution);
  void deliver_outputs();
  void check_given_shape(const Output& output, const IoTensor& tensor) const;
  void reserve(Buffer& buffer, const std::shared_ptr<Pool>& pool, size_t bytes);
  [[noreturn]] void throw_cancelled(const char* found) const;

  std::shared_ptr<SessionImpl> session_;
  Engine& engine_;
  std::shared_ptr<Pool> device_memory_;
  std::shared_ptr<Pool> pinned_;
  std::unique_ptr<cuda::CudaStream> stream_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  std::vector<Profiles::Given> given_;    // from the inputs
  std::vector<const void*> host_inputs_;  // of shape tensors
  bool shapes_changed_ = true;
  bool has_shape_values_ = false;
  std::vector<std::unique_ptr<Execution>> executions_;  // at most session_->settings().graphs
  Execution* execution_ = nullptr;                      // of the last run
  uint64_t uses_ = 0;
  std::vector<const void*> key_;
  ActivationPool::Block* last_block_ = nullptr;
  std::function<size_t()> work_;
  std::atomic<bool> cancelled_{false};
  unsigned generation_;
  LiveCount live_{LiveKind::kContext};
};

}  // namespace zerolane::trt

// SPDX-License-Identifier: Apache-2.0
#include "runtime/op_session.h"

#include <algorithm>
#include <atomic>
#include <cstring>
#include <mutex>
#include <utility>

#include "core/trace.h"
#include "registry/call.h"
#include "runtime/op_specs.h"

namespace zerolane {
namespace {

class OpSession final : public Session {
 public:
  OpSession(std::shared_ptr<const OpState> state, std::vector<TensorSpec> inputs, OpPlace place)
      : state_(std::move(state)), inputs_(std::move(inputs)), place_(std::move(place)) {
    const OpEntry& entry = state_->entry();
    if (place_.on_host() ? !entry.on_cpu() : !entry.on_cuda()) {
      throw make_error(
          Code::kUnsupported, "placing " + state_->where(),
          std::string("it was to work on ") + (place_.on_host() ? "the host" : "a GPU") +
              ", and the op has no body for that",
          place_.on_host() ? "put it beside a session on a GPU" : "place it on the CPU",
          entry.name);
    }
    std::vector<bool> counted;
    outputs_ = op_output_specs(*state_, inputs_, &counted);
    for (size_t i = 0; i < counted.size(); ++i) {
      if (counted[i]) distrust(i);
    }
    if (!place_.on_host()) {
      constants_ = std::make_unique<DeviceConstants>(state_, *place_.device);
    }
  }

  const std::string& name() const override { return state_->entry().name; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return inputs_.size(); }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  // An op made in Python takes the GIL.
  bool calls_python() const override { return state_->entry().library->path.empty(); }
  std::string end_profiling() override { return {}; }

  const std::shared_ptr<const OpState>& state() const { return state_; }
  const OpPlace& place() const { return place_; }
  const DeviceConstants& constants() const { return *constants_; }

 private:
  std::shared_ptr<const OpState> state_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  OpPlace place_;
  std::unique_ptr<DeviceConstants> constants_;
  ModelInfo info_;
};

class OpContext final : public Context {
 public:
  explicit OpContext(std::shared_ptr<OpSession> session)
      : session_(std::move(session)), call_(session_->state()) {
    const auto& specs = session_->inputs();
    inputs_.resize(specs.size());
    auto& arguments = call_.inputs(specs.size());
    for (size_t i = 0; i < specs.size(); ++i) {
      arguments[i].present = specs[i].dtype != DType::kNone;
    }
    outputs_.resize(session_->outputs().size());
    call_.set_allocator(&OpContext::allocate, this);
    if (!session_->place().on_host()) stream_ = session_->place().device->make_stream();
  }

  void bind_input(size_t index, const View& view) override { set_input(index, view); }
  void bind_output(size_t index, const View& view) override { set_output(index, view); }

  void set_input(size_t index, const View& view) override {
    if (view.device.kind != DeviceKind::kHost &&
        (stream_ == nullptr || !(view.device == stream_->device_id()))) {
      throw make_error(Code::kDevice, "giving input '" + session_->inputs()[index].name + "'",
                       "it lies on " + view.device.text() + ", and " + session_->name() +
                           " works on " + (stream_ ? stream_->device_id() : DeviceId{}).text(),
                       "move it there", session_->inputs()[index].name);
    }
    inputs_[index].view = view;
    if (inputs_[index].held.storage()) inputs_[index].held = Tensor();
    OpInput& argument = argument_of(index);
    argument.present = true;
    argument.data = view.data;
    argument.dtype = view.dtype;
    argument.shape = view.shape;
  }

  void set_input(size_t index, const Value& value) override {
    const auto* tensor = std::get_if<Tensor>(&value);
    if (tensor == nullptr) {
      throw make_error(Code::kUnsupported, "giving input '" + session_->inputs()[index].name + "'",
                       "it is no plain tensor, and ops take those alone",
                       "put a Python stage or a model before it that makes one",
                       session_->inputs()[index].name);
    }
    set_input(index, tensor->view());
    inputs_[index].held = *tensor;
  }

  void clear_input(size_t index) override { argument_of(index).present = false; }
  void set_output(size_t index, const View& view) override {
    outputs_[index].want = Want::kGiven;
    outputs_[index].given = view;
  }
  void request_output(size_t index) override { request_output_on(index, {}); }
  void request_output_on(size_t index, DeviceId device) override {
    if (device.kind != DeviceKind::kHost && (!stream_ || !(device == stream_->device_id()))) {
      Context::request_output_on(index, device);  // refuses
    }
    outputs_[index].want = Want::kRequested;
    outputs_[index].given = {};
    outputs_[index].given.device = device;
  }
  void drop_output(size_t index) override { outputs_[index].want = Want::kNothing; }

  void run() override {
    if (cancelled_.exchange(false)) [[unlikely]] {
      throw make_error(Code::kCancelled, "running " + session_->state()->where(),
                       "the run was cancelled", "run it again if the result is still wanted",
                       session_->name());
    }
    call_.plan();
    for (size_t i = 0; i < outputs_.size(); ++i) check_given(i, call_.is_counted(i));
    if (stream_ == nullptr) {
      run_on_host();
    } else {
      run_on_gpu();
    }
  }

  Value take_output(size_t index) override {
    return std::exchange(outputs_[index].tensor, Tensor());
  }
  void cancel() noexcept override { cancelled_.store(true); }
  void rearm() override { cancelled_.store(false); }
  Stream* stream() noexcept override { return stream_.get(); }

 private:
  enum class Want : uint8_t { kNothing, kGiven, kRequested };
  struct Input {
    View view;
    Tensor held;      // keeps what was given as a value
    Buffer uploaded;  // on a GPU: a copy of what the host gave
  };
  struct Output {
    Want want = Want::kNothing;
    View given;     // memory, or the device that a result was asked for on
    Tensor tensor;  // what the run made
    Buffer own;     // for what nobody wants; on a GPU: for what goes elsewhere afterwards
  };

  OpInput& argument_of(size_t index) { return call_.inputs(inputs_.size())[index]; }

  // Throws unless the memory given for an output has the shape of the result.
  void check_given(size_t index, bool counted) {
    const Output& output = outputs_[index];
    if (output.want != Want::kGiven || counted) return;
    check_shape(index, call_.output_shape(index));
  }
  void check_shape(size_t index, const Shape& shape) {
    const Output& output = outputs_[index];
    if (output.given.shape == shape) return;
    throw make_error(
        Code::kShapeMismatch,
        "writing output '" + session_->outputs()[index].name + "' of " + session_->name(),
        "its memory has shape " + output.given.shape.text() + ", the result " + shape.text(),
        "give memory of the result's shape", session_->outputs()[index].name);
  }

  static void* grown(Buffer* buffer, size_t bytes, const std::shared_ptr<Pool>& pool) {
    if (buffer->data() == nullptr || buffer->bytes() < bytes) {
      *buffer = {};  // first, so that the pool may hand the same memory out again
      *buffer = pool->allocate(bytes);
    }
    return buffer->data();
  }

  // Called from within the body, once it knows how large an output is.
  static void* allocate(void* self, size_t index, const Shape& shape) {
    auto& context = *static_cast<OpContext*>(self);
    Output& output = context.outputs_[index];
    const DType dtype = context.call_.output_dtype(index);
    if (output.want == Want::kGiven && output.given.shape == shape) return output.given.data;
    if (output.want == Want::kNothing) {
      return grown(&output.own, dtype_bytes(dtype, shape.count()), host_pool());
    }
    output.tensor = Tensor::make_host(dtype, shape);
    return output.tensor.data();
  }

  void run_on_host() {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Output& output = outputs_[i];
      if (output.want == Want::kNothing &&
          session_->state()->entry().outputs[i].kind != kZlRequired) {
        call_.skip_output(i);
        continue;
      }
      call_.want_output(i);
      if (call_.is_counted(i)) continue;
      if (output.want == Want::kGiven) {
        call_.set_output(i, output.given.data);
      } else if (output.want == Want::kRequested) {
        output.tensor = Tensor::make_host(call_.output_dtype(i), call_.output_shape(i));
        call_.set_output(i, output.tensor.data());
      } else {
        call_.set_output(i, grown(&output.own, output_bytes(i), host_pool()));
      }
    }
    call_.run_host();
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (call_.is_counted(i) && outputs_[i].want == Want::kGiven) {
        check_shape(i, call_.output_shape(i));
      }
    }
  }

  size_t output_bytes(size_t index) const {
    return dtype_bytes(call_.output_dtype(index), call_.output_shape(index).count());
  }

  void upload() {
    for (size_t i = 0; i < inputs_.size(); ++i) {
      OpInput& argument = argument_of(i);
      const View& view = inputs_[i].view;
      if (!argument.present || view.device.kind != DeviceKind::kHost) continue;
      void* copy = grown(&inputs_[i].uploaded, view.bytes(), session_->place().memory);
      trace::Span span("copy", session_->inputs()[i].name, static_cast<int64_t>(view.bytes()));
      if (view.bytes() > 0) stream_->copy_async(copy, view.data, view.bytes());
      argument.data = copy;
    }
  }

  void run_on_gpu() {
    const OpPlace& place = session_->place();
    upload();
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Output& output = outputs_[i];
      const bool on_device = output.given.device.kind != DeviceKind::kHost;
      call_.want_output(i);
      if (output.want == Want::kGiven && on_device && !call_.is_counted(i)) {
        call_.set_output(i, output.given.data);
      } else if (output.want == Want::kRequested && on_device) {
        Buffer made = place.memory->allocate(output_bytes(i));
        output.tensor = Tensor(std::make_shared<Storage>(std::move(made)), call_.output_dtype(i),
                               call_.output_shape(i));
        call_.set_output(i, output.tensor.data());
      } else {
        call_.set_output(i, grown(&output.own, output_bytes(i), place.memory));
      }
    }
    const size_t scratch_bytes = call_.cuda_scratch();
    void* scratch = scratch_bytes > 0 ? grown(&scratch_, scratch_bytes, place.memory) : nullptr;
    const size_t counted = call_.counted_extents();
    places_.clear();
    found_.resize(counted);
    if (counted > 0) {
      auto* counts =
          static_cast<int64_t*>(grown(&counts_, counted * sizeof(int64_t), place.memory));
      for (size_t i = 0; i < counted; ++i) places_.push_back(counts + i);
    }
    try {
      call_.run_cuda(stream_->native_handle(), scratch, places_, session_->constants(),
                     place.device->id().index);
      if (counted_is_wanted()) {
        stream_->copy_async(found_.data(), places_[0], counted * sizeof(int64_t));
        stream_->synchronize();
      }
      deliver();
    } catch (...) {
      // What is under way uses memory that its lenders may take back.
      try {
        stream_->synchronize();
      } catch (...) {  // the first failure is the cause
      }
      throw;
    }
    stream_->synchronize();
  }

  bool counted_is_wanted() const {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      if (outputs_[i].want != Want::kNothing && call_.is_counted(i)) return true;
    }
    return false;
  }

  // Results go where they are wanted, once the counted extents are known.
  void deliver() {
    for (size_t i = 0; i < outputs_.size(); ++i) {
      Output& output = outputs_[i];
      if (output.want == Want::kNothing) continue;
      const Shape shape =
          call_.is_counted(i) ? call_.counted_shape(i, found_) : call_.output_shape(i);
      const size_t bytes = dtype_bytes(call_.output_dtype(i), shape.count());
      if (output.want == Want::kRequested && output.given.device.kind != DeviceKind::kHost) {
        output.tensor = Tensor(output.tensor.storage(), output.tensor.dtype(), shape);
        continue;
      }
      void* to = output.given.data;
      if (output.want == Want::kRequested) {
        output.tensor = Tensor::make_host(call_.output_dtype(i), shape);
        to = output.tensor.data();
      } else if (call_.is_counted(i)) {
        check_shape(i, shape);
      } else if (output.given.device.kind != DeviceKind::kHost) {
        continue;
      }
      trace::Span span("copy", session_->outputs()[i].name, static_cast<int64_t>(bytes));
      if (bytes > 0) stream_->copy_async(to, output.own.data(), bytes);
    }
  }

  std::shared_ptr<OpSession> session_;
  std::unique_ptr<Stream> stream_;  // on a GPU
  OpCall call_;
  std::vector<Input> inputs_;
  std::vector<Output> outputs_;
  Buffer scratch_, counts_;  // on a GPU
  std::vector<int64_t*> places_;
  std::vector<int64_t> found_;
  std::atomic<bool> cancelled_{false};
  LiveCount live_{LiveKind::kContext};
};

std::unique_ptr<Context> OpSession::make_context() {
  return std::make_unique<OpContext>(std::static_pointer_cast<OpSession>(shared_from_this()));
}

}  // namespace

std::shared_ptr<Session> make_op_session(std::shared_ptr<const OpState> state,
                                         std::vector<TensorSpec> inputs, OpPlace place) {
  return std::make_shared<OpSession>(std::move(state), std::move(inputs), std::move(place));
}

}  // namespace zerolane

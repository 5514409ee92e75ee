// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/session.h"

namespace zerolane {

class FakeModel;

// What one run of a FakeModel sees: its inputs, and a way to write its outputs.
struct FakeRun {
  std::vector<View> inputs;  // without data where there is none
  std::vector<Value> values;
  // Memory for an output of this shape: what was given, or new. Null where it is not wanted.
  std::function<void*(size_t output, const Shape& shape)> output;
  std::function<void(size_t output, Value value)> give;
  std::function<bool()> cancelled;
};

// A session whose runs are a function of the test. It checks what it is given as backends do: an
// output in memory of another shape than the result is a kShapeMismatch.
class FakeModel : public Session {
 public:
  using Body = std::function<void(FakeRun&)>;

  FakeModel(std::string name, std::vector<TensorSpec> inputs, std::vector<TensorSpec> outputs,
            Body body)
      : body(std::move(body)),
        name_(std::move(name)),
        inputs_(std::move(inputs)),
        outputs_(std::move(outputs)) {}

  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return required; }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  std::string end_profiling() override { return {}; }

  Body body;
  Device* device = nullptr;  // where its contexts work; null: the host
  size_t required = SIZE_MAX;
  std::atomic<int> runs{0};
  std::atomic<int> binds{0};  // calls of bind_input and bind_output
  std::mutex mutex;           // guards the two below while contexts run
  // Where the last run found its inputs and put its outputs.
  std::vector<const void*> seen_inputs, seen_outputs;

 private:
  std::string name_;
  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  ModelInfo info_;
};

class FakeModelContext final : public Context {
 public:
  explicit FakeModelContext(std::shared_ptr<FakeModel> model)
      : model_(std::move(model)),
        run_{std::vector<View>(model_->inputs().size()),
             std::vector<Value>(model_->inputs().size()),
             {},
             {},
             {}},
        outputs_(model_->outputs().size()) {
    if (model_->device != nullptr) {
      stream_ = model_->device->make_stream();
      pool_ = Pool::make(*model_->device);
    }
    run_.output = [this](size_t i, const Shape& shape) { return memory(i, shape); };
    run_.give = [this](size_t i, Value value) { outputs_[i].made = std::move(value); };
    run_.cancelled = [this] { return cancelled_.load(); };
  }

  void bind_input(size_t index, const View& view) override {
    ++model_->binds;
    set_input(index, view);
  }
  void bind_output(size_t index, const View& view) override {
    ++model_->binds;
    set_output(index, view);
  }
  void set_input(size_t index, const View& view) override {
    check_place(view);
    run_.inputs[index] = view;
  }
  void set_input(size_t index, const Value& value) override { run_.values[index] = value; }
  void clear_input(size_t index) override { run_.inputs[index] = {}; }
  void set_output(size_t index, const View& view) override {
    check_place(view);
    outputs_[index] = {true, view, {}, {}};
  }
  void request_output(size_t index) override { request_output_on(index, {}); }
  void request_output_on(size_t index, DeviceId device) override {
    outputs_[index] = {true, {}, device, {}};
  }
  void drop_output(size_t index) override { outputs_[index].wanted = false; }
  void run() override {
    ++model_->runs;
    model_->body(run_);
    note_addresses();
    if (cancelled_.exchange(false)) throw Error(Code::kCancelled, "cancelled inside");
  }
  Value take_output(size_t index) override { return std::exchange(outputs_[index].made, {}); }
  void cancel() noexcept override { cancelled_.store(true); }
  void rearm() override { cancelled_.store(false); }
  Stream* stream() noexcept override { return stream_.get(); }

 private:
  struct Output {
    bool wanted = false;
    View view;
    DeviceId device;
    Value made;
  };

  // A session of the host cannot touch a device's memory, though the stand-in's is the host's.
  void check_place(const View& view) const {
    if (view.device.kind == DeviceKind::kHost || stream_ != nullptr) return;
    throw Error(Code::kDevice, "memory of " + view.device.text() + " for a session of the host");
  }

  void note_addresses() {
    std::lock_guard lock(model_->mutex);
    model_->seen_inputs.clear();
    model_->seen_outputs.clear();
    for (const View& view : run_.inputs) model_->seen_inputs.push_back(view.data);
    for (const Output& output : outputs_) model_->seen_outputs.push_back(output.view.data);
  }

  void* memory(size_t index, const Shape& shape) {
    Output& output = outputs_[index];
    if (!output.wanted) return nullptr;
    const TensorSpec& spec = model_->outputs()[index];
    if (output.view.dtype != DType::kNone) {
      if (!(output.view.shape == shape)) {
        throw Error(Code::kShapeMismatch,
                    "memory of " + output.view.shape.text() + ", result of " + shape.text());
      }
      return output.view.data;
    }
    Tensor made = output.device.kind == DeviceKind::kHost
                      ? Tensor::make_host(spec.dtype, shape)
                      : Tensor(std::make_shared<Storage>(
                                   pool_->allocate(dtype_bytes(spec.dtype, shape.count()))),
                               spec.dtype, shape);
    void* data = made.data();
    output.made = std::move(made);
    return data;
  }

  std::shared_ptr<FakeModel> model_;
  std::unique_ptr<Stream> stream_;
  std::shared_ptr<Pool> pool_;
  FakeRun run_;
  std::vector<Output> outputs_;
  std::atomic<bool> cancelled_{false};
};

inline std::unique_ptr<Context> FakeModel::make_context() {
  return std::make_unique<FakeModelContext>(
      std::static_pointer_cast<FakeModel>(shared_from_this()));
}

// A spec from dimensions as text: "N", "?" or a number.
inline TensorSpec fake_spec(const std::string& name, DType dtype,
                            const std::vector<std::string>& dims) {
  TensorSpec spec;
  spec.name = name;
  spec.dtype = dtype;
  spec.has_shape = true;
  spec.type = "tensor(" + std::string(dtype_name(dtype)) + ")";
  for (const std::string& dim : dims) {
    Dim& made = spec.shape.emplace_back();
    if (dim[0] >= '0' && dim[0] <= '9') {
      made.value = std::stoll(dim);
    } else if (dim != "?") {
      made.symbol = dim;
    }
  }
  return spec;
}

}  // namespace zerolane

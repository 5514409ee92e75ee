// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/session.h"

namespace zerolane {

// y[N,T] = x[N,T] + shift[], and next[2,N] = state[2,N] + 1, on the calling thread. Fails where x
// holds a NaN. Counts its runs.
class RowsSession final : public Session {
 public:
  RowsSession() {
    const auto spec = [](const char* name, std::vector<Dim> shape) {
      TensorSpec made;
      made.name = name;
      made.dtype = DType::kFloat32;
      made.has_shape = true;
      made.shape = std::move(shape);
      made.type = "tensor(float32)";
      return made;
    };
    const Dim n{-1, "N"};
    const Dim t{-1, "T"};
    inputs_ = {spec("x", {n, t}), spec("shift", {}), spec("state", {{2, ""}, n})};
    outputs_ = {spec("y", {n, t}), spec("next", {{2, ""}, n})};
  }
  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return inputs_; }
  size_t required_inputs() const override { return inputs_.size(); }
  const std::vector<TensorSpec>& outputs() const override { return outputs_; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override;
  std::string end_profiling() override { return {}; }

  std::vector<TensorSpec> inputs_;
  std::vector<TensorSpec> outputs_;
  std::atomic<int> runs{0};
  std::atomic<int> most_rows{0};
  std::atomic<int> gate{0};  // runs wait while it is 1

 private:
  std::string name_ = "rows";
  ModelInfo info_;
};

class RowsContext final : public Context {
 public:
  explicit RowsContext(RowsSession& session) : session_(session) {}
  void bind_input(size_t i, const View& view) override { in_[i] = view; }
  void bind_output(size_t i, const View& view) override { set_output(i, view); }
  void set_input(size_t i, const View& view) override { in_[i] = view; }
  void set_input(size_t, const Value&) override {}
  void clear_input(size_t i) override { in_[i] = View(); }
  void set_output(size_t i, const View& view) override {
    out_[i] = view;
    made_[i] = Tensor();
  }
  void request_output(size_t i) override { out_[i] = View(); }
  void request_output_on(size_t i, DeviceId) override { request_output(i); }
  void drop_output(size_t) override {}
  void run() override {
    ++session_.runs;
    session_.gate.wait(1);
    const View& x = in_[0];
    const auto rows = static_cast<size_t>(x.shape[0]);
    const auto width = static_cast<size_t>(x.shape[1]);
    int most = session_.most_rows;
    while (most < static_cast<int>(rows) &&
           !session_.most_rows.compare_exchange_weak(most, static_cast<int>(rows))) {
    }
    make(0, Shape{x.shape[0], x.shape[1]});
    make(1, Shape{2, x.shape[0]});
    float shift = 0;
    std::memcpy(&shift, in_[1].data, sizeof(shift));
    const auto* from = static_cast<const float*>(x.data);
    auto* to = static_cast<float*>(out_[0].data);
    for (size_t i = 0; i < rows * width; ++i) {
      if (std::isnan(from[i])) throw Error(Code::kBackend, "a row holds no number", "x");
      to[i] = from[i] + shift;
    }
    const auto* state = static_cast<const float*>(in_[2].data);
    for (size_t i = 0; i < 2 * rows; ++i) static_cast<float*>(out_[1].data)[i] = state[i] + 1;
  }
  Value take_output(size_t i) override { return std::move(made_[i]); }
  void cancel() noexcept override {}
  void rearm() override {}

 private:
  void make(size_t i, const Shape& shape) {
    if (out_[i].data == nullptr) {
      made_[i] = Tensor::make_host(DType::kFloat32, shape);
      out_[i] = made_[i].view();
    }
    if (!(out_[i].shape == shape)) throw Error(Code::kShapeMismatch, "another shape", "y");
  }
  RowsSession& session_;
  View in_[3];
  View out_[2];
  Tensor made_[2];
};

inline std::unique_ptr<Context> RowsSession::make_context() {
  return std::make_unique<RowsContext>(*this);
}

}  // namespace zerolane

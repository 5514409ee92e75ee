// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/session.h"

namespace zerolane {

// A context that runs until it is cancelled or told to finish.
class FakeContext final : public Context {
 public:
  void bind_input(size_t, const View&) override {}
  void bind_output(size_t, const View&) override {}
  void set_input(size_t, const View&) override {}
  void set_input(size_t, const Value&) override {}
  void clear_input(size_t) override {}
  void set_output(size_t, const View&) override {}
  void request_output(size_t) override {}
  void drop_output(size_t) override {}
  Value take_output(size_t) override { return {}; }
  void run() override {
    running = true;
    running.notify_all();
    state.wait(0);
    if (state == kCancelled) throw Error(Code::kCancelled, "cancelled");
  }
  void cancel() noexcept override {
    state = kCancelled;
    state.notify_all();
  }
  void rearm() override { state = 0; }
  void finish() {
    state = kFinished;
    state.notify_all();
  }

  static constexpr int kFinished = 1;
  static constexpr int kCancelled = 2;
  std::atomic<int> state{0};
  std::atomic<bool> running{false};
};

class FakeSession final : public Session {
 public:
  const std::string& name() const override { return name_; }
  const std::vector<TensorSpec>& inputs() const override { return input_specs; }
  size_t required_inputs() const override { return input_specs.size(); }
  const std::vector<TensorSpec>& outputs() const override { return output_specs; }
  const ModelInfo& info() const override { return info_; }
  std::unique_ptr<Context> make_context() override { return std::make_unique<FakeContext>(); }
  std::string end_profiling() override { return {}; }

  std::vector<TensorSpec> input_specs;
  std::vector<TensorSpec> output_specs;

 private:
  std::string name_ = "fake";
  ModelInfo info_;
};

}  // namespace zerolane

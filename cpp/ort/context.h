// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <mutex>
#include <vector>

#include "core/buffer.h"
#include "ort/session_impl.h"
#include "ort/values.h"

namespace zerolane::ort {

// Runs through I/O binding. What is bound stays bound from run to run and is handed over again only
// when its address or shape changes; small tensors that serve one run are copied into staging
// memory that stays bound, which costs less than binding anew.
//
// On a GPU (context_gpu.cpp) inputs and outputs are bound where the model has them; memory that is
// given elsewhere is copied through pinned memory, in the order of stream(). run() returns when the
// work is done.
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
  void cancel() noexcept override;
  void rearm() override;
  Stream* stream() noexcept override { return stream_.get(); }

 private:
  // CUDA graphs that one context keeps; runs beyond them are not captured.
  static constexpr size_t kMostGraphs = 16;
  // Tensors of up to this many bytes are staged. Not tuned by measurement.
  static constexpr size_t kStagedBytes = 4096;

  enum class State : uint8_t {
    kNone,       // not given / not wanted
    kDirect,     // the lender's memory
    kStaged,     // our staging memory
    kRequested,  // output that the library allocates
    kOpaque,     // input made of strings or sequences
    kPassed,     // output that is an input: copied after the run, the library knows nothing of it
  };
  struct Slot {
    State state = State::kNone;
    ValueHandle value;
    void* data = nullptr;
    Shape shape;
    Buffer staging;
    void* copy_to = nullptr;  // output: where the result goes after the run
    size_t copy_bytes = 0;
    Value taken;  // output: result, until taken; input: what was given, if kOpaque and passed on
    // On a GPU:
    View given;              // by the caller
    Buffer pinned;           // between the host and `staging`, or what the library uses itself
    bool copied = false;     // it uses other memory than was given
    bool unstaged = false;   // `given` is pinned itself: copied from and to without `pinned`
    bool rebind = false;     // it is not known where the library wants it: it copies when binding
    bool on_device = false;  // output: kRequested in memory of the device
    explicit Slot(ValueHandle handle) : value(std::move(handle)) {}
  };

  bool same(const Slot& slot, State state, const void* data, const Shape& shape) const;
  void bind_value(Slot& slot, size_t index, bool input);
  void give(Slot& slot, size_t index, bool input, State state, const View& view);
  void stage(Slot& slot, size_t index, bool input, const View& view);
  void rebuild_outputs();
  void collect_outputs();
  void check_not_empty(size_t index, const View& view) const;
  bool passes(size_t index, const View& view, DeviceId device);
  void pass_inputs();
  void pass_into(const Slot& from, size_t index, Slot& slot);
  std::vector<const Shape*> input_shapes() const;
  void review_shapes();
  void run_on_twin(bool keep_results);
  void run_here();
  OrtStatus* run_on_gpu();
  void give_on_gpu(Slot& slot, size_t index, bool input, const View& view, bool bound);
  void copy_inputs();
  void copy_outputs();
  OrtRunOptions* choose_run_options();
  void use_run_options(OrtRunOptions* options);
  View view_of(const Slot& slot, DType dtype) const;

  std::shared_ptr<SessionImpl> session_;
  const Api& api_;
  Handle<OrtIoBinding> binding_;
  Handle<OrtRunOptions> run_options_;
  std::unique_ptr<Stream> stream_;  // on a GPU
  struct GraphRun {
    std::vector<int64_t> key;  // addresses and shapes: what a captured graph is valid for
    Handle<OrtRunOptions> options;
  };
  std::vector<std::unique_ptr<GraphRun>> graph_runs_;
  std::vector<int64_t> graph_key_;  // of the last run
  std::vector<int64_t> next_key_;   // kept for its memory
  std::atomic<OrtRunOptions*> active_options_{nullptr};
  std::vector<Slot> inputs_;
  std::vector<Slot> outputs_;
  std::vector<size_t> output_order_;  // output indices in the binding's own order
  bool outputs_changed_ = false;      // an output was dropped: the binding's list must be made anew
  bool any_requested_ = false;
  bool any_passed_ = false;     // some output of the model is an input
  bool shapes_changed_ = true;  // since the route was chosen
  TwinKeeper::Route route_ = TwinKeeper::Route::kMain;
  std::shared_ptr<ContextImpl> twin_;  // runs what the session itself must not
  std::atomic<ContextImpl*> running_twin_{nullptr};
  std::mutex cancel_mutex_;  // guards changes of cancelled_ together with the library's own flag
  std::atomic<bool> cancelled_{false};
  unsigned generation_;
  LiveCount live_{LiveKind::kContext};
};

}  // namespace zerolane::ort

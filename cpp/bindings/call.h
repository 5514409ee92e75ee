// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "bindings/arrays.h"
#include "bindings/gil.h"
#include "core/session.h"
#include "runtime/deadline.h"

namespace zerolane::bindings {

// What a call is given besides its inputs.
struct CallOptions {
  bool copy = true;  // inputs that cannot be used in place are copied
  int64_t deadline_ns = Watchdog::Guard::kNever;
  pybind11::handle out;   // dict name -> writable array, or null
  pybind11::handle only;  // sequence of output names, or null for all
};

// What a run left behind, moved out of its frame without the GIL. Using or dropping what it holds
// needs the GIL.
struct Outcome {
  std::vector<std::optional<Value>> values;  // of the backend, one entry an output
  std::vector<pybind11::object> arrays;      // where the backend wrote into arrays
  std::vector<pybind11::object> owners;      // of the inputs
  pybind11::object like;

  // For as many outputs, all empty.
  void prepare(size_t outputs);
  // The results, one entry an output, null for those not asked for. Once.
  std::vector<pybind11::object>& finish();
  void clear() noexcept;
};

// One call of a session: reads the inputs, prepares the outputs, runs, makes the results. Frames
// are reused, so that a call with the shapes of the last one allocates nothing but its results.
class CallFrame {
 public:
  explicit CallFrame(std::shared_ptr<Session> session);

  // What the next call is given, one entry an input of the session, null for those left out;
  // borrowed.
  std::vector<PyObject*> inputs;

  // Reads `inputs`. Needs the GIL.
  void prepare(const CallOptions& options);
  // Keeps the inputs' memory alive until clear(), for calls whose arguments may be gone before the
  // run.
  void hold_inputs();
  // Runs for a Python caller: keeps or releases the GIL as `gil` says. Fails as run_context does.
  void execute(GilPolicy& gil);
  // The same on a worker thread, which has no GIL.
  void execute_on_worker();
  // The results, one entry an output, null for those not asked for. Needs the GIL.
  std::vector<pybind11::object>& finish();
  // Moves results and inputs into `outcome`, prepared for it, after a run that went well (`ran`) or
  // not; the frame can be used again. Needs no GIL.
  void detach(bool ran, Outcome* outcome);
  // Lets go of all arrays; the frame can be used again.
  void clear() noexcept;

  Context& context() { return *context_; }

 private:
  enum class Plan : uint8_t {
    kSkip,       // not asked for
    kGiven,      // into the caller's array
    kPredicted,  // into a new array, sized by prediction
    kRequested,  // the backend allocates
    kRepaired,   // the backend allocated, after a prediction had failed
  };

  void prepare_inputs(bool copy);
  void prepare_outputs(const CallOptions& options);
  void prepare_output(size_t index);
  // Memory from the backend, where the other results are.
  void request_output(size_t index);
  // Remembers the shape of a result for calls with the same input shapes.
  void learn(size_t index, const Value& value);
  Subject subject_of(const TensorSpec& spec, const char* role) const;
  size_t output_index(pybind11::handle name) const;
  // Calls `run`; if it fails where results were sized by prediction, once more with memory from the
  // backend.
  template <typename Run>
  void run_or_retry(Run run);

  std::shared_ptr<Session> session_;
  std::unique_ptr<Context> context_;
  std::vector<Shape> input_shapes_;  // of the last call
  std::vector<bool> input_seen_;
  std::vector<PredictedShape> predicted_;  // from input_shapes_
  std::vector<pybind11::object> owners_;   // of this call's inputs
  std::vector<Plan> plan_;
  std::vector<pybind11::object> results_;
  std::vector<Tensor> tensors_;  // results that become arrays of another library
  pybind11::object like_;        // makes arrays of the kind of the first input; null: NumPy
  Stream* stream_;               // of the context; null: it works on the host
  bool on_device_ = false;       // results stay on the stream's device, as the first input is there
  int64_t deadline_ns_ = Watchdog::Guard::kNever;
};

// Where frames go back to. Any thread; the frames hold nothing of Python.
class FrameHome {
 public:
  virtual void give_back(std::unique_ptr<CallFrame> frame) noexcept = 0;

 protected:
  ~FrameHome() = default;
};

// Idle frames of one session. Any thread.
class FramePool final : public FrameHome {
 public:
  explicit FramePool(std::shared_ptr<Session> session) : session_(std::move(session)) {}
  std::unique_ptr<CallFrame> take();
  void give_back(std::unique_ptr<CallFrame> frame) noexcept override;

 private:
  std::shared_ptr<Session> session_;
  std::mutex mutex_;  // guards idle_
  std::vector<std::unique_ptr<CallFrame>> idle_;
};

// A frame taken for one call; goes back whatever happens.
class BorrowedFrame {
 public:
  explicit BorrowedFrame(FramePool& pool) : pool_(pool), frame_(pool.take()) {}
  ~BorrowedFrame() {
    frame_->clear();
    pool_.give_back(std::move(frame_));
  }
  BorrowedFrame(const BorrowedFrame&) = delete;
  BorrowedFrame& operator=(const BorrowedFrame&) = delete;
  CallFrame* operator->() { return frame_.get(); }

 private:
  FramePool& pool_;
  std::unique_ptr<CallFrame> frame_;
};

// Runs a context for a Python caller: keeps or releases the GIL as the policy says, times it,
// honours the deadline, and lets Ctrl-C on the main thread end it. Throws what the run throws;
// kDeadlineExceeded when the time is over; a pending Python error.
void run_context(Session& session, Context& context, GilPolicy& gil, int64_t deadline_ns);

// A deadline from now; NaN, zero and negative values are refused. None means never.
int64_t deadline_from(const pybind11::object& deadline_ms);

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/metric_registry.h"
#include "core/metrics.h"
#include "core/stream.h"
#include "core/value.h"

namespace zerolane {

enum class ValueKind { kTensor, kSequence, kMap, kSparse, kOpaque };

// One input or output as the model declares it.
struct TensorSpec {
  std::string name;
  ValueKind kind = ValueKind::kTensor;
  bool optional = false;       // may be empty: optional(tensor(...)), optional(sequence(...))
  DType dtype = DType::kNone;  // of the innermost tensor
  bool has_shape = false;      // false: even the rank is unknown
  std::vector<Dim> shape;
  std::string type;  // "tensor(float32)", "sequence(map(int64, float32))"

  // Every dimension fixed.
  bool is_static() const;
  std::string shape_text() const;  // "[N, 3, ?, 224]"
};

struct ModelInfo {
  std::string producer;
  std::string graph_name;
  std::string domain;
  std::string description;
  int64_t version = 0;
  std::vector<std::pair<std::string, std::string>> metadata;
};

// The mutable state of one execution. One thread at a time, except cancel(). Keeps its session
// alive.
//
// Inputs and outputs are named by their index in Session::inputs() and Session::outputs(). There
// are two ways to give memory: bind_* fixes it for all runs to come (the lender keeps it alive and
// may change its contents between runs); set_* serves the next run only (the implementation may
// copy small tensors instead of binding them). All checks against the specs are done by the
// callers, through check_input and check_output below.
//
// Memory is the host's or, where stream() is of a device, that device's. run() returns or throws
// only once nothing of it uses the memory any more, so results need no waiting.
class Context {
 public:
  virtual ~Context() = default;

  virtual void bind_input(size_t index, const View& view) = 0;
  virtual void bind_output(size_t index, const View& view) = 0;

  virtual void set_input(size_t index, const View& view) = 0;
  virtual void set_input(size_t index, const Value& value) = 0;  // strings, sequences, maps
  // An input that may be left out is: it takes its default, or is empty.
  virtual void clear_input(size_t index) = 0;
  // The result is in `view` when run() returns.
  virtual void set_output(size_t index, const View& view) = 0;
  // The backend allocates; take_output() hands the result out after run().
  virtual void request_output(size_t index) = 0;
  // The same, with the result in memory of a device. Throws kUnsupported where the backend has no
  // memory there.
  virtual void request_output_on(size_t index, DeviceId device);
  // The output is not wanted.
  virtual void drop_output(size_t index) = 0;

  // Blocks. Throws kShapeMismatch when the memory given for an output has another shape than the
  // result; kCancelled when cancel() came before it or while it ran; other failures as kBackend or
  // what they are. A cancel() serves one run: afterwards the context can be used again.
  virtual void run() = 0;
  virtual Value take_output(size_t index) = 0;

  // Ends a run in progress as soon as the backend allows (between two nodes). Any thread.
  virtual void cancel() noexcept = 0;
  // Forgets a cancel() that no run has seen.
  virtual void rearm() = 0;

  // The stream of a device that run() works on, null where it works on the calling thread. Memory
  // of that device is read and written in its order: before run(), let it wait for whoever fills
  // the inputs or still uses the outputs.
  virtual Stream* stream() noexcept { return nullptr; }
};

// An immutable loaded model. Any thread.
class Session : public std::enable_shared_from_this<Session> {
 public:
  virtual ~Session() = default;
  virtual const std::string& name() const = 0;  // for messages and traces: the file's name
  // The inputs a run needs, then (from required_inputs() on) those that have a default in the
  // model.
  virtual const std::vector<TensorSpec>& inputs() const = 0;
  virtual size_t required_inputs() const = 0;
  virtual const std::vector<TensorSpec>& outputs() const = 0;
  virtual const ModelInfo& info() const = 0;
  virtual std::unique_ptr<Context> make_context() = 0;
  // Whether a run may call back into Python, so that whoever runs it must not hold the GIL.
  virtual bool calls_python() const { return false; }
  // Ends profiling and returns the file written, or "" when it was off.
  virtual std::string end_profiling() = 0;

  // Whether results may be sized before the run, by predict_outputs or as the last run with the
  // same input shapes showed. Not for an output that once came out otherwise, nor from the 65th on.
  bool predictable(size_t output) const noexcept {
    return output < 64 && (distrusted_.load(std::memory_order_relaxed) >> output & 1) == 0;
  }
  void distrust(size_t output) noexcept {
    if (output < 64) distrusted_.fetch_or(uint64_t{1} << output);
  }

  LatencyHistogram latency;  // of runs that were timed (one in sixteen of the very short ones)
  Counter calls;             // see counted()

  // Shows `latency` and `calls` among the metrics, under the model's name. Called once, when a
  // session is handed to a user.
  void publish_metrics();

 private:
  std::atomic<uint64_t> distrusted_{0};
  std::vector<metrics::Registration> published_;  // last: they refer to what is above
};

// One more failed call in the metrics.
void count_failure(const Session& session, Code code) noexcept;

// Does one call of a user, of whatever runs that takes, and counts it and its failure.
template <typename Call>
void counted(Session& session, Call&& call) {
  session.calls.add();
  try {
    call();
  } catch (const Error& error) {
    count_failure(session, error.code());
    throw;
  }
}

// Throw kShapeMismatch / kInvalidArgument with names, found and expected, if the dtype, rank or a
// fixed dimension of `dtype`/`shape` does not fit the spec. `role` is "input" or "output".
void check_tensor(const TensorSpec& spec, DType dtype, const Shape& shape, const char* role,
                  const std::string& model);

// The output shapes that the input shapes imply: a dimension is fixed, or named like an input's
// dimension. One entry an output; false where that does not determine it (or the output is no plain
// tensor).
struct PredictedShape {
  bool known = false;
  Shape shape;
};
std::vector<PredictedShape> predict_outputs(const Session& session,
                                            const std::vector<const Shape*>& inputs);

}  // namespace zerolane

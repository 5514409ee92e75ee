// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <vector>

#include "core/session.h"
#include "runtime/batch_sizes.h"
#include "runtime/waiting.h"

namespace zerolane {

// Requests that can share a run: alike in all but their rows. Made by the batcher.
struct BatchGroup {
  // Keeps the shapes of a run's outputs for runs to come. Any thread; the first one counts.
  void learn(const std::vector<Tensor>& results, const std::vector<int>& axes);

  std::vector<Shape> shapes;   // of each input as a run gets it; its extent of the batch is 0
  std::vector<bool> given;     // inputs that are not left out
  std::vector<bool> shared;    // inputs that are given and have no batch dimension
  std::vector<bool> padded;    // inputs with an axis that is padded to a bucket
  std::vector<Shape> outputs;  // of each output, the same way; once `known`
  std::atomic<bool> known{false};
  BatchSizes sizes;
  std::mutex mutex;  // guards outputs until they are known
};

// One caller's share of a run. The caller owns it, fills the first part and keeps it and the
// inputs' memory until complete() was called; it can be used again then, and keeps its memory.
// On lines of its own, what the queue looks at on one of them: two threads hand it to and fro.
class alignas(64) BatchRequest {
 public:
  BatchRequest() = default;
  virtual ~BatchRequest() = default;
  BatchRequest(const BatchRequest&) = delete;
  BatchRequest& operator=(const BatchRequest&) = delete;

  // One entry an input of the session, host memory; no data and dtype kNone: left out.
  std::vector<View> inputs;

  // The result, once complete() was called. Without an error, result i is `rows()` rows of
  // outputs()[i] from `first` on, along the batch axis.
  std::exception_ptr error;
  int64_t first = 0;
  const std::vector<Tensor>& outputs() const noexcept { return *outputs_; }
  // Lets go of them, and so does the next prepare().
  void drop_outputs() noexcept { outputs_.reset(); }

 private:
  std::shared_ptr<const std::vector<Tensor>> outputs_;

 public:
  int64_t deadline_ns = kForever;  // on the clock of now_ns(); it is not begun after it
  int priority = 0;                // higher ones run first; -8 to 7

  int64_t rows() const noexcept { return rows_; }
  const std::shared_ptr<BatchGroup>& group() const noexcept { return group_; }

  // It is done. On any thread, without a lock held; the batcher touches the request no more
  // afterwards, so its owner may free it at once.
  virtual void complete() noexcept = 0;

 private:
  friend class Batcher;
  friend class BatchQueue;
  friend class BatchRun;
  std::shared_ptr<BatchGroup> group_;
  int64_t rows_ = 0;
  int64_t queued_ns_ = 0;
  uint64_t traced_ = 0;  // its number in the trace, 0 while there is none
  BatchRequest* next_ = nullptr;
};

}  // namespace zerolane

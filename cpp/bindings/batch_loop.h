// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <pybind11/pybind11.h>

#include <memory>
#include <vector>

#include "bindings/batch_call.h"
#include "runtime/completion.h"

namespace zerolane::bindings {

// The requests of one batcher that the coroutines of one event loop wait for. With the GIL, on the
// loop's thread, where nothing else is said.
//
// Requests that come in one turn of the loop are looked at together in its next turn. Short runs
// are made right there; longer ones by the lanes, whose results come back through one descriptor:
// one wake-up for all that are ready.
class BatchLoop : public std::enable_shared_from_this<BatchLoop> {
 public:
  // `loop` is the running one.
  static std::shared_ptr<BatchLoop> make(pybind11::object loop, Batcher& batcher,
                                         BatchCalls& calls);

  pybind11::handle loop() const { return loop_; }
  bool closed() const;
  // Takes the request over; the asyncio.Future of its result.
  pybind11::object start(BatchCall* call);
  // Any thread, no GIL needed.
  void completed(BatchCall& call) noexcept;
  // The batcher goes: no request is on its way any more.
  void detach();

 private:
  BatchLoop(pybind11::object loop, Batcher& batcher, BatchCalls& calls);
  void flush();
  void on_ready();
  void deliver(BatchCall* call);
  // Takes the request out of the queue where its future was cancelled.
  void on_done(pybind11::handle future);
  void fail(BatchCall* call);  // with the Python error that is set

  pybind11::object loop_, create_future_, call_soon_, flush_, on_done_;
  Batcher* batcher_;  // null once it is gone
  BatchCalls* calls_;
  CompletionQueue ready_;
  std::vector<uint64_t> tokens_;
  std::vector<BatchCall*> started_;   // since the last turn
  std::vector<BatchCall*> flushing_;  // being looked at
  std::vector<BatchCall*> here_;      // completed on this thread, in this turn
};

// Whether runs of this batcher are so short that whoever has the GIL makes them itself.
bool runs_are_short(const Batcher& batcher, GilPolicy::Mode mode) noexcept;

}  // namespace zerolane::bindings

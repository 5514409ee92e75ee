// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <optional>

#include "bindings/call.h"
#include "core/metrics.h"
#include "runtime/completion.h"
#include "runtime/lanes.h"

namespace zerolane::bindings {

// A call that a lane makes: its inputs are held, its result waits to be taken. Objects are used
// again, so that a call allocates none. References: one of the lanes, one of the Future.
class PendingCall final : public LaneTask {
 public:
  // With the GIL. `frame` is prepared; it goes back to `home`, which outlives the run, as soon as
  // the run is over. `session` is a PySession.
  static PendingCall* make(pybind11::object session, std::unique_ptr<CallFrame> frame,
                           FrameHome& home, bool dict, int64_t spin_ns);
  // Where push() was refused: undoes make(). With the GIL.
  void take_back() noexcept;

  void run(size_t lane) noexcept override;
  void abort() noexcept override { cancel(); }
  void release() noexcept override;

  bool done() const noexcept { return finished_.is_set(); }
  // Blocks; whether it is done.
  bool wait(int64_t spin_ns, int64_t until_ns) noexcept {
    return finished_.wait(spin_ns, until_ns);
  }
  int64_t spin_ns() const noexcept { return spin_ns_; }
  // Ends the call: at once if it has not started, between two operators if it runs. False if it is
  // done already.
  bool cancel() noexcept;
  bool cancelled() const noexcept;
  // `queue` receives `token` when the call is done (at once if it is).
  void notify(std::shared_ptr<CompletionQueue> queue, uint64_t token);

  // Once done, with the GIL: the result, a new reference, or the call's error thrown. Once.
  pybind11::object take_result();
  // The Future lets go. With the GIL.
  void drop() noexcept;

 private:
  enum class State : uint8_t { kWaiting, kRunning, kDone };
  PendingCall() = default;
  ~PendingCall() = default;
  void finish(std::unique_lock<std::mutex> lock, std::exception_ptr error) noexcept;
  void recycle() noexcept;
  friend void drain_finished();

  pybind11::object session_;
  std::unique_ptr<CallFrame> frame_;
  FrameHome* home_ = nullptr;
  bool dict_ = false;
  int64_t spin_ns_ = 0;
  Outcome outcome_;
  std::atomic<int> references_{0};
  Flag finished_;
  mutable std::mutex mutex_;  // guards all below
  State state_ = State::kWaiting;
  std::exception_ptr error_;
  bool told_ = false;  // whoever asked to be notified by then
  std::shared_ptr<CompletionQueue> queue_;
  uint64_t token_ = 0;
  std::optional<LiveCount> live_;
  PendingCall* next_free_ = nullptr;
};

// Lets go of the Python objects of calls that nobody waits for any more. With the GIL.
void drain_finished();

// The lanes of Session.submit, as many as CPUs, started at first use. With the GIL. Throws
// kUnavailable once the interpreter exits.
Lanes& shared_lanes();
// Ends what they do and joins. Without the GIL.
void close_shared_lanes();

}  // namespace zerolane::bindings

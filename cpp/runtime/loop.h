// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "core/metric_registry.h"
#include "core/metrics.h"
#include "core/session.h"
#include "runtime/mailbox.h"
#include "runtime/realtime.h"
#include "runtime/schedule.h"
#include "runtime/tick_gate.h"

namespace zerolane {

// What happens to ticks whose time passes while an earlier one still runs.
enum class Overrun {
  kSkip,     // they are left out; the next runs at its own time
  kCatchUp,  // they run as soon as possible, one after the other
  kStop,     // the loop ends
};

// Why a tick has no result in time.
enum class Miss { kWokeLate, kRanLong, kRunFailed, kInputStale };
inline constexpr size_t kMissCauses = 4;

// Memory that the context is bound to, and the mailbox it is filled from, with equal bytes.
struct LoopInput {
  void* memory;
  std::shared_ptr<Mailbox> mailbox;
};
// Memory that the context writes, and the mailbox that it goes to.
struct LoopOutput {
  const void* memory;
  std::shared_ptr<Mailbox> mailbox;  // claimed
  std::vector<std::byte> safe = {};  // written instead when a tick is missed; empty for nothing
};
// An output that is an input of the next tick.
struct LoopFeedback {
  const void* from;
  void* to;
  size_t bytes;
};

struct LoopOptions {
  static constexpr size_t kNoTrigger = SIZE_MAX;
  double rate_hz = 0;           // used where there is no trigger
  size_t trigger = kNoTrigger;  // the input whose messages are the ticks
  Overrun overrun = Overrun::kSkip;
  int64_t deadline_ns = 0;  // from when a tick is due to its output; 0: none
  int64_t max_age_ns = 0;   // of the oldest input; 0: any
  int64_t spin_ns = 0;      // how long before a tick the thread no longer sleeps
  RealtimeOptions realtime;
  std::string label = {};  // of its metrics; empty: the name
};

// Counts since the start, each read by itself.
struct LoopCounts {
  uint64_t ticks;    // times that a tick was due
  uint64_t runs;     // of the model
  uint64_t waiting;  // ticks without a run because some input was never written; not missed
  std::array<uint64_t, kMissCauses> missed;
  uint64_t stale_reads;   // inputs of a run that were the same as in the run before
  uint64_t safe_outputs;  // times that the safe output was written
  int64_t running_ns;     // how long the run in progress has taken; 0 where there is none
};

// A thread that runs a context once a tick: newest inputs from mailboxes, run, outputs to
// mailboxes. After its first tick it takes no heap memory and no lock. A second thread watches the
// deadline where there is a safe output, so that this one is written while a run hangs.
class Loop : public std::enable_shared_from_this<Loop> {
 public:
  // `name` is for messages. The context and the memory live until close() returned true, and nobody
  // else uses them. Throws kInvalidArgument for numbers that make no sense, and sizes that differ.
  Loop(Context& context, std::string name, std::vector<LoopInput> inputs,
       std::vector<LoopOutput> outputs, std::vector<LoopFeedback> feedback, LoopOptions options);
  ~Loop() = default;  // not before its threads are done: they hold it
  Loop(const Loop&) = delete;
  Loop& operator=(const Loop&) = delete;

  // Starts the threads, once; returns what the system refused. Throws kUnavailable where it gives
  // no thread.
  std::vector<Refusal> start();
  // Ends the run in progress and the threads. Blocks up to `timeout_ns`; false where a run did not
  // end by then: its thread is left behind, and context and memory must never go. Again: whether
  // the thread has ended since.
  bool close(int64_t timeout_ns) noexcept;
  // Whether it ticks.
  bool running() const noexcept { return started_.load() && done_.load() == 0; }

  LoopCounts counts() const noexcept;
  // The first failure of a run, or what ended the loop; null for none.
  std::exception_ptr error() const;

  LatencyHistogram call;  // the run alone
  LatencyHistogram late;  // from the time a tick was due to the thread's waking
  LatencyHistogram age;   // from the oldest input's writing to the output's

 private:
  struct Tick {
    int64_t due_ns;
    int64_t woke_ns;
  };
  enum class Outcome { kDone, kWaiting, kMissed };

  void work() noexcept;
  void watch() noexcept;
  void run_at_rate();
  void run_on_trigger();
  bool sleep_until(int64_t due_ns) const noexcept;
  bool claim();
  void open_gate(int64_t due_ns);
  int64_t deadline_of(int64_t due_ns) const noexcept;
  Outcome do_tick(const Tick& tick, Miss* miss);
  bool take_inputs(int64_t* origin_ns);
  bool run_context(int64_t* taken_ns);
  void publish(int64_t origin_ns) noexcept;
  void write_safe() noexcept;
  void give_up();
  void count_missed(Miss miss, int64_t count) noexcept;
  void keep_error(std::exception_ptr error) noexcept;
  void stop_for(Miss miss, int64_t tick);

  Context& context_;
  const std::string name_;
  std::vector<LoopInput> inputs_;
  std::vector<LoopOutput> outputs_;
  std::vector<LoopFeedback> feedback_;
  const LoopOptions options_;
  bool has_safe_ = false;
  bool watched_ = false;  // a second thread watches deadlines

  // Of the loop's thread alone.
  std::vector<uint64_t> seen_;  // sequence number last taken, by input
  int64_t trigger_written_ns_ = 0;
  bool primed_ = false;  // every input has been written once

  TickGate gate_;
  std::thread thread_;
  std::thread watcher_;
  std::atomic<bool> started_{false};
  std::atomic<bool> stop_{false};
  std::atomic<uint32_t> ready_{0};  // the thread has its settings
  std::atomic<uint32_t> done_{0};
  std::vector<Refusal> refused_;  // written before ready_

  std::atomic<uint64_t> ticks_{0};
  std::atomic<uint64_t> waiting_{0};
  std::atomic<uint64_t> stale_reads_{0};
  std::atomic<uint64_t> safe_outputs_{0};
  std::atomic<int64_t> run_began_ns_{0};
  Counter runs_;
  std::array<Counter, kMissCauses> missed_;
  std::vector<metrics::Registration> published_;  // behind what they refer to

  mutable std::mutex mutex_;  // guards error_; taken by the loop's thread in failures alone
  std::exception_ptr error_;
};

}  // namespace zerolane

// SPDX-License-Identifier: Apache-2.0
#include "runtime/loop.h"

#include <pthread.h>
#include <sys/prctl.h>

#include <algorithm>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <cstring>
#include <ctime>
#include <system_error>
#include <utility>

#include "core/error.h"
#include "runtime/futex.h"
#include "runtime/waiting.h"

namespace zerolane {
namespace {

constexpr int64_t kSlice = 50000000;     // ns: so long at most until close() is noticed
constexpr int64_t kMostSpin = 10000000;  // ns: a thread that spins hears nothing else
constexpr double kLeastHz = 1e-3;
constexpr double kMostHz = 1e5;

void add(std::atomic<uint64_t>& counter, int64_t count) noexcept {
  counter.fetch_add(static_cast<uint64_t>(count), std::memory_order_relaxed);
}

// Names of Miss, for programs.
constexpr std::array<const char*, kMissCauses> kCauses{"woke_late", "ran_long", "run_failed",
                                                       "input_stale"};

const char* text_of(Miss miss) {
  switch (miss) {
    case Miss::kWokeLate:
      return "its thread woke too late";
    case Miss::kRanLong:
      return "the run took too long";
    case Miss::kRunFailed:
      return "the run failed";
    case Miss::kInputStale:
      break;
  }
  return "its inputs were too old";
}

}  // namespace

Loop::Loop(Context& context, std::string name, std::vector<LoopInput> inputs,
           std::vector<LoopOutput> outputs, std::vector<LoopFeedback> feedback, LoopOptions options)
    : context_(context),
      name_(std::move(name)),
      inputs_(std::move(inputs)),
      outputs_(std::move(outputs)),
      feedback_(std::move(feedback)),
      options_(std::move(options)),
      seen_(inputs_.size(), 0) {
  const bool triggered = options_.trigger != LoopOptions::kNoTrigger;
  auto refuse = [&](const std::string& found, const std::string& remedy, const char* subject) {
    throw make_error(Code::kInvalidArgument, "making a loop of " + name_, found, remedy, subject);
  };
  const double rate = options_.rate_hz;
  if (!triggered && !(rate >= kLeastHz && rate <= kMostHz)) {
    char found[64];
    std::snprintf(found, sizeof found, "the rate is %g Hz, expected 0.001 to 100000", rate);
    refuse(found, "give ticks a second", "rate_hz");
  }
  if (triggered && options_.trigger >= inputs_.size()) {
    refuse("the trigger is no input with a mailbox", "name one", "trigger");
  }
  if (triggered && options_.overrun == Overrun::kCatchUp) {
    refuse("it has a trigger, whose mailbox keeps the newest message only",
           "use overrun=\"skip\" or \"stop\", or a rate", "overrun");
  }
  if (options_.spin_ns < 0 || options_.spin_ns > kMostSpin) {
    refuse("it spins for " + std::to_string(options_.spin_ns / 1000) + " us, expected 0 to 10000",
           "spin for less time than waking takes, such as 50", "spin_us");
  }
  check_realtime(options_.realtime);
  for (const LoopOutput& output : outputs_) {
    has_safe_ = has_safe_ || !output.safe.empty();
    if (!output.safe.empty() && output.safe.size() != output.mailbox->bytes()) {
      refuse("a safe output has " + std::to_string(output.safe.size()) + " bytes, expected " +
                 std::to_string(output.mailbox->bytes()),
             "give an array like the output", "safe");
    }
  }
  watched_ = has_safe_ && options_.deadline_ns > 0;
  const std::string& label = options_.label.empty() ? name_ : options_.label;
  const metrics::Labels labels{{"loop", label}};
  published_.push_back(metrics::publish("zerolane_loop_runs_total", labels, runs_));
  for (size_t i = 0; i < kMissCauses; ++i) {
    published_.push_back(metrics::publish("zerolane_loop_missed_ticks_total",
                                          {{"loop", label}, {"cause", kCauses[i]}}, missed_[i]));
  }
  published_.push_back(metrics::publish("zerolane_loop_run_seconds", labels, call));
  published_.push_back(metrics::publish("zerolane_loop_late_seconds", labels, late));
  published_.push_back(metrics::publish("zerolane_loop_age_seconds", labels, age));
}

std::vector<Refusal> Loop::start() {
  sigset_t all;
  sigset_t before;
  ::sigfillset(&all);  // signals belong to the program's threads
  ::pthread_sigmask(SIG_SETMASK, &all, &before);
  try {
    if (watched_) {
      watcher_ = std::thread([self = shared_from_this()] { self->watch(); });
      ::pthread_setname_np(watcher_.native_handle(), "zl-loop-watch");
    }
    thread_ = std::thread([self = shared_from_this()] { self->work(); });
    ::pthread_setname_np(thread_.native_handle(), "zl-loop");
  } catch (const std::system_error& error) {
    ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
    gate_.shut();
    if (watcher_.joinable()) watcher_.join();
    throw make_error(Code::kUnavailable, "starting a loop of " + name_,
                     std::string("the system gives no thread: ") + error.what(),
                     "raise the limit of threads (ulimit -u, the cgroup's pids.max)", name_);
  }
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
  started_ = true;
  while (ready_.load(std::memory_order_acquire) == 0) futex::wait(ready_, 0, now_ns() + kSlice);
  return refused_;
}

bool Loop::close(int64_t timeout_ns) noexcept {
  stop_ = true;
  if (!started_) return true;
  if (!thread_.joinable()) return done_.load(std::memory_order_acquire) != 0;
  const int64_t until = now_ns() + timeout_ns;
  context_.cancel();
  if (options_.trigger != LoopOptions::kNoTrigger) inputs_[options_.trigger].mailbox->wake();
  while (done_.load(std::memory_order_acquire) == 0 && now_ns() < until) {
    futex::wait(done_, 0, until);
  }
  const bool ended = done_.load(std::memory_order_acquire) != 0;
  gate_.shut();
  if (watcher_.joinable()) watcher_.join();
  if (!ended) {
    thread_.detach();
    return false;
  }
  thread_.join();
  try {
    context_.rearm();       // for whoever uses the context next
  } catch (const Error&) {  // the library would have to lose its own options object
  }
  return true;
}

LoopCounts Loop::counts() const noexcept {
  auto read = [](const std::atomic<uint64_t>& counter) {
    return counter.load(std::memory_order_relaxed);
  };
  const int64_t began = run_began_ns_.load(std::memory_order_relaxed);
  LoopCounts counts{
      read(ticks_), runs_.value(), read(waiting_), {}, read(stale_reads_), read(safe_outputs_), 0};
  for (size_t i = 0; i < kMissCauses; ++i) counts.missed[i] = missed_[i].value();
  if (began != 0) counts.running_ns = std::max<int64_t>(now_ns() - began, 0);
  return counts;
}

std::exception_ptr Loop::error() const {
  std::lock_guard lock(mutex_);
  return error_;
}

void Loop::keep_error(std::exception_ptr error) noexcept {
  std::lock_guard lock(mutex_);
  if (error_ == nullptr) error_ = std::move(error);
}

void Loop::work() noexcept {
  try {
    // Ordinary threads are woken up to 50 us late to save power, unless they ask not to be.
    ::prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    refused_ = make_realtime(options_.realtime);
  } catch (...) {
    keep_error(std::current_exception());
    stop_ = true;
  }
  ready_.store(1, std::memory_order_release);
  futex::wake_all(ready_);
  try {
    if (options_.trigger == LoopOptions::kNoTrigger) {
      run_at_rate();
    } else {
      run_on_trigger();
    }
  } catch (...) {
    keep_error(std::current_exception());
  }
  gate_.claim();  // nothing comes after this: no deadline is watched any more
  write_safe();
  done_.store(1, std::memory_order_release);
  futex::wake_all(done_);
}

void Loop::watch() noexcept {
  try {
    // Above the thread it watches, which may keep its CPU busy for ever.
    RealtimeOptions options;
    if (options_.realtime.priority > 0) {
      options.priority = std::min(options_.realtime.priority + 1, 99);
    }
    make_realtime(options);
  } catch (...) {  // without it the watcher is as good as the system lets it
  }
  while (gate_.wait_expired()) {
    write_safe();
    context_.cancel();  // its result is of no use any more
    gate_.settle();
  }
}

int64_t Loop::deadline_of(int64_t due_ns) const noexcept {
  return options_.deadline_ns > 0 ? due_ns + options_.deadline_ns : INT64_MAX;
}

bool Loop::claim() {
  if (gate_.claim()) return true;
  context_.rearm();  // the watcher has cancelled a run, and there may have been none to see it
  return false;
}

void Loop::open_gate(int64_t due_ns) {
  if (!primed_ || !watched_) return;
  claim();
  gate_.open(deadline_of(due_ns));
}

bool Loop::sleep_until(int64_t due_ns) const noexcept {
  const int64_t spin_from = due_ns - options_.spin_ns;
  for (int64_t now = now_ns(); now < spin_from; now = now_ns()) {
    if (stop_.load(std::memory_order_relaxed)) return false;
    const int64_t until = std::min(spin_from, now + kSlice);
    const timespec time{until / 1000000000, until % 1000000000};
    ::clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &time, nullptr);
  }
  while (options_.spin_ns > 0 && now_ns() < due_ns) relax();  // kMostSpin at most
  return !stop_.load(std::memory_order_relaxed);
}

void Loop::count_missed(Miss miss, int64_t count) noexcept {
  missed_[static_cast<size_t>(miss)].add(static_cast<uint64_t>(count));
}

void Loop::run_at_rate() {
  const bool stops = options_.overrun == Overrun::kStop;
  Schedule schedule(now_ns(), options_.rate_hz);
  schedule.advance();
  for (;;) {
    open_gate(schedule.due_ns());
    if (!sleep_until(schedule.due_ns())) return;
    const int64_t woke = now_ns();
    if (options_.overrun != Overrun::kCatchUp) {
      const int64_t passed = schedule.skip_to_newest(woke);
      add(ticks_, passed);
      if (passed > 0 && primed_) {
        count_missed(Miss::kWokeLate, passed);
        if (stops) return stop_for(Miss::kWokeLate, schedule.tick() - passed);
        open_gate(schedule.due_ns());
      } else {
        add(waiting_, passed);
      }
    }
    const Tick tick{schedule.due_ns(), woke};
    late.record(tick.woke_ns - tick.due_ns);
    add(ticks_, 1);
    Miss miss = Miss::kRanLong;
    const Outcome outcome = do_tick(tick, &miss);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (outcome == Outcome::kMissed && stops) return stop_for(miss, schedule.tick());
    schedule.advance();
    if (options_.overrun == Overrun::kCatchUp) continue;
    const int64_t passed = schedule.skip_past(now_ns());
    add(ticks_, passed);
    if (outcome == Outcome::kWaiting) {
      add(waiting_, passed);
    } else if (passed > 0) {
      if (miss != Miss::kWokeLate) miss = Miss::kRanLong;
      count_missed(miss, passed);
      if (stops) return stop_for(miss, schedule.tick() - passed);
    }
  }
}

void Loop::run_on_trigger() {
  const Mailbox& box = *inputs_[options_.trigger].mailbox;
  uint64_t& seen = seen_[options_.trigger];
  while (!stop_.load(std::memory_order_relaxed)) {
    for (const int64_t until = now_ns() + options_.spin_ns;
         options_.spin_ns > 0 && box.latest() <= seen && now_ns() < until;) {
      relax();
    }
    const uint64_t before = seen;
    if (!box.wait(seen, now_ns() + kSlice)) continue;
    const uint64_t newest = box.latest();
    const int64_t woke = now_ns();
    Miss miss = Miss::kRanLong;
    trigger_written_ns_ = 0;
    add(ticks_, 1);
    const Outcome outcome = do_tick({0, woke}, &miss);
    if (stop_.load(std::memory_order_relaxed)) return;
    if (seen == before) seen = newest;  // it could not be read: not again until there is another
    // Messages that were overwritten before they were taken are ticks that were left out.
    const auto passed = static_cast<int64_t>(seen - before) - 1;
    add(ticks_, passed);
    if (outcome == Outcome::kWaiting) {
      add(waiting_, passed);
      continue;
    }
    if (before != 0 && passed > 0) count_missed(Miss::kRanLong, passed);
    const bool stops = options_.overrun == Overrun::kStop;
    if (stops && (outcome == Outcome::kMissed || (before != 0 && passed > 0))) {
      return stop_for(miss, static_cast<int64_t>(seen));
    }
  }
}

bool Loop::take_inputs(int64_t* origin_ns) {
  int64_t oldest = INT64_MAX;
  bool all = true;
  int64_t stale = 0;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    Message message;
    if (!inputs_[i].mailbox->read(inputs_[i].memory, &message)) {
      all = false;
      continue;
    }
    stale += message.sequence == seen_[i] ? 1 : 0;
    seen_[i] = message.sequence;
    oldest = std::min(oldest, message.origin_ns);
    if (i == options_.trigger) trigger_written_ns_ = message.written_ns;
  }
  if (!all) return false;
  add(stale_reads_, stale);
  *origin_ns = inputs_.empty() ? now_ns() : oldest;
  primed_ = true;
  return true;
}

bool Loop::run_context(int64_t* taken_ns) {
  const int64_t begin = now_ns();
  run_began_ns_.store(begin, std::memory_order_relaxed);
  bool good = true;
  try {
    context_.run();
  } catch (const Error& error) {
    good = false;
    if (error.code() != Code::kCancelled) keep_error(std::current_exception());
  } catch (...) {
    good = false;
    keep_error(std::current_exception());
  }
  *taken_ns = now_ns() - begin;
  run_began_ns_.store(0, std::memory_order_relaxed);
  call.record(*taken_ns);
  runs_.add();
  return good;
}

Loop::Outcome Loop::do_tick(const Tick& tick, Miss* miss) {
  auto missed = [&](Miss cause) {
    *miss = cause;
    count_missed(cause, 1);
    return Outcome::kMissed;
  };
  int64_t origin = 0;
  const bool was_primed = primed_;
  try {
    if (!take_inputs(&origin)) {
      add(waiting_, 1);
      return Outcome::kWaiting;
    }
  } catch (const Error&) {  // an input's memory is damaged
    keep_error(std::current_exception());
    give_up();
    return missed(Miss::kRunFailed);
  }
  int64_t due = tick.due_ns;
  if (options_.trigger != LoopOptions::kNoTrigger) {
    due = std::min(trigger_written_ns_, tick.woke_ns);
    late.record(tick.woke_ns - due);
    open_gate(due);
  } else if (!was_primed) {
    open_gate(due);  // was not known to be watched when it was waited for
  }
  const int64_t lateness = tick.woke_ns - due;
  if (options_.max_age_ns > 0 && tick.woke_ns - origin > options_.max_age_ns) {
    give_up();
    return missed(Miss::kInputStale);
  }
  if (tick.woke_ns >= deadline_of(due) && options_.overrun != Overrun::kCatchUp) {
    give_up();
    return missed(Miss::kWokeLate);
  }
  int64_t taken = 0;
  const bool good = run_context(&taken);
  if (good) {
    for (const LoopFeedback& f : feedback_) std::memcpy(f.to, f.from, f.bytes);
  }
  const bool in_time = claim();
  if (stop_.load(std::memory_order_relaxed) && !good) return Outcome::kDone;
  if (!good && in_time) {
    write_safe();
    return missed(Miss::kRunFailed);
  }
  const int64_t now = now_ns();
  const bool is_late = !in_time || now > deadline_of(due);
  if (in_time && is_late && has_safe_) {
    write_safe();
  } else if (in_time) {
    publish(origin);
    age.record(now - origin);
  }
  if (!is_late) return Outcome::kDone;
  return missed(lateness >= taken ? Miss::kWokeLate : Miss::kRanLong);
}

void Loop::publish(int64_t origin_ns) noexcept {
  for (LoopOutput& output : outputs_) output.mailbox->write(output.memory, origin_ns);
}

void Loop::write_safe() noexcept {
  if (!has_safe_) return;
  for (LoopOutput& output : outputs_) {
    if (!output.safe.empty()) output.mailbox->write(output.safe.data(), 0, /*safe=*/true);
  }
  add(safe_outputs_, 1);
}

void Loop::give_up() {
  if (claim()) write_safe();
}

void Loop::stop_for(Miss miss, int64_t tick) {
  // Where a run failed, its own error is kept already and comes first.
  keep_error(std::make_exception_ptr(make_error(
      Code::kDeadlineExceeded, "running a loop of " + name_,
      "tick " + std::to_string(tick) + " was missed, for " + text_of(miss),
      "use overrun=\"skip\" to go on, or give it a lower rate or a core of its own", name_)));
  stop_ = true;
}

}  // namespace zerolane

// SPDX-License-Identifier: Apache-2.0
#include "bindings/lanes.h"

#include <pybind11/stl.h>

#include <deque>
#include <memory>
#include <mutex>
#include <set>
#include <vector>

#include "bindings/errors.h"
#include "bindings/future.h"
#include "bindings/logging.h"
#include "bindings/native_part.h"
#include "bindings/session.h"
#include "core/error.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// A fixed number of frames; whoever finds none free waits.
class Slots final : public FrameHome {
 public:
  Slots(const std::shared_ptr<Session>& session, size_t count) : count_(count) {
    idle_.reserve(count);
    for (size_t i = 0; i < count; ++i) idle_.push_back(std::make_unique<CallFrame>(session));
    free_.store(static_cast<uint32_t>(count));
  }

  size_t count() const noexcept { return count_; }
  size_t idle() const noexcept { return free_.load(std::memory_order_relaxed); }

  // Null if there is none.
  std::unique_ptr<CallFrame> try_take() {
    std::lock_guard lock(mutex_);
    return idle_.empty() ? nullptr : take_idle();
  }

  // Null if there is none: then `queue` receives `token` when there may be one.
  std::unique_ptr<CallFrame> try_take(std::shared_ptr<CompletionQueue> queue, uint64_t token) {
    std::lock_guard lock(mutex_);
    if (idle_.empty()) {
      listeners_.emplace_back(std::move(queue), token);
      return nullptr;
    }
    return take_idle();
  }

  // Whoever listened with `queue` and `token` wants no frame any more; what it was told goes to
  // the next.
  void pass_on(const std::shared_ptr<CompletionQueue>& queue, uint64_t token) {
    {
      std::lock_guard lock(mutex_);
      if (std::erase(listeners_, Listener{queue, token}) > 0 || idle_.empty()) return;
    }
    tell_one();
  }

  void give_back(std::unique_ptr<CallFrame> frame) noexcept override {
    {
      std::lock_guard lock(mutex_);
      idle_.push_back(std::move(frame));
      free_.fetch_add(1);
    }
    tell_one();
  }

  // No more frames: all that wait look again.
  void tell_all() {
    std::deque<Listener> listeners;
    {
      std::lock_guard lock(mutex_);
      listeners.swap(listeners_);
    }
    for (const auto& [queue, token] : listeners) queue->push(token);
    futex::wake_all(free_);
  }

  // Sleeps until there may be one, or `until_ns`.
  void wait(int64_t until_ns) noexcept {
    waiters_.fetch_add(1);
    futex::wait(free_, 0, until_ns);
    waiters_.fetch_sub(1);
  }

 private:
  using Listener = std::pair<std::shared_ptr<CompletionQueue>, uint64_t>;

  std::unique_ptr<CallFrame> take_idle() {
    auto frame = std::move(idle_.back());
    idle_.pop_back();
    free_.fetch_sub(1);
    return frame;
  }

  // A frame is idle. A thread and a listener are told, as either may want it no more.
  void tell_one() noexcept {
    if (waiters_.load() > 0) futex::wake(free_, 1);
    Listener listener;
    {
      std::lock_guard lock(mutex_);
      if (listeners_.empty()) return;
      listener = std::move(listeners_.front());
      listeners_.pop_front();
    }
    listener.first->push(listener.second);
  }

  const size_t count_;
  std::mutex mutex_;  // guards idle_ and listeners_
  std::vector<std::unique_ptr<CallFrame>> idle_;
  std::deque<Listener> listeners_;  // event loops that wait for a frame
  std::atomic<uint32_t> free_{0};
  std::atomic<uint32_t> waiters_{0};
};

class PyLanes;
std::mutex g_mutex;  // guards g_open
std::set<PyLanes*>& open_lanes() {
  static auto* lanes = new std::set<PyLanes*>;
  return *lanes;
}

class PyLanes {
 public:
  PyLanes(py::object session, LaneOptions options, size_t slots)
      : session_(std::move(session)),
        slots_(session_.cast<PySession&>().session(), slots),
        lanes_(std::make_unique<Lanes>(std::move(options))) {
    std::lock_guard lock(g_mutex);
    open_lanes().insert(this);
  }

  ~PyLanes() {
    if (forked_since(generation_)) {
      // The threads stayed behind in the parent, and may have held any lock.
      (void)lanes_.release();
      return;
    }
    const ReleaseGil release;
    {
      std::lock_guard lock(g_mutex);
      open_lanes().erase(this);
    }
    lanes_.reset();
  }
  PyLanes(const PyLanes&) = delete;
  PyLanes& operator=(const PyLanes&) = delete;

  py::object submit(const py::tuple& args, const py::object& kwargs,
                    const py::object& deadline_ms) {
    auto& session = session_.cast<PySession&>();
    session.check_fork();
    drain_finished();
    if (closed_) throw_closed();
    const int64_t deadline_ns = deadline_from(deadline_ms);
    return send(take_slot(), args, kwargs, deadline_ns);
  }

  // The same, or where no slot is free None: then `queue` receives `token` when there may be one.
  py::object try_submit(const py::tuple& args, const py::object& kwargs,
                        const py::object& deadline_ms, std::shared_ptr<CompletionQueue> queue,
                        uint64_t token) {
    session_.cast<PySession&>().check_fork();
    drain_finished();
    if (closed_) throw_closed();
    const int64_t deadline_ns = deadline_from(deadline_ms);
    auto frame = slots_.try_take(std::move(queue), token);
    return frame ? send(std::move(frame), args, kwargs, deadline_ns) : py::none();
  }

  void pass_on(const std::shared_ptr<CompletionQueue>& queue, uint64_t token) {
    slots_.pass_on(queue, token);
  }

  void close(bool cancel) {
    closed_ = true;
    if (forked_since(generation_)) return;
    slots_.tell_all();
    {
      ReleaseGil release;
      lanes_->close(cancel);
    }
    drain_finished();
  }

  // Without the GIL.
  void abort() {
    closed_ = true;
    lanes_->close(true);
  }

  py::dict stats() const {
    py::list lanes;
    for (size_t i = 0; i < lanes_->count(); ++i) {
      const LaneStats one = lanes_->stats(i);
      py::dict row;
      row["calls"] = one.done;
      row["busy_s"] = static_cast<double>(one.busy_ns) / 1e9;
      lanes.append(row);
    }
    py::dict waits;
    for (auto [name, fraction] :
         {std::pair{"p50", 0.5}, {"p90", 0.9}, {"p99", 0.99}, {"max", 1.0}}) {
      waits[name] = static_cast<double>(lanes_->waits().percentile(fraction)) / 1e3;
    }
    py::dict out;
    out["lanes"] = lanes;
    out["queued"] = lanes_->queued();
    out["in_flight"] = slots_.count() - slots_.idle();
    out["queue_us"] = waits;
    return out;
  }

  size_t slots() const noexcept { return slots_.count(); }
  size_t count() const noexcept { return lanes_->count(); }

 private:
  py::object send(std::unique_ptr<CallFrame> frame, const py::tuple& args, const py::object& kwargs,
                  int64_t deadline_ns) {
    CallOptions options;
    options.copy = session_.cast<PySession&>().copy();
    options.deadline_ns = deadline_ns;
    PendingCall* call =
        prepare_call(session_, std::move(frame), slots_, args.ptr(),
                     kwargs.is_none() ? nullptr : kwargs.ptr(), options, lanes_->options().spin_ns);
    if (!lanes_->push(*call)) {
      call->take_back();
      throw_closed();
    }
    return make_future(call);
  }

  [[noreturn]] void throw_closed() const {
    const std::string& model = session_.cast<PySession&>().session()->name();
    throw make_error(Code::kUnavailable, "submitting a call to lanes of " + model,
                     "the lanes are closed", "submit before close(), or make new ones", model);
  }

  // Back-pressure: waits, without the GIL, until a call in flight is over.
  std::unique_ptr<CallFrame> take_slot() {
    for (;;) {
      if (auto frame = slots_.try_take()) return frame;
      {
        ReleaseGil release;
        slots_.wait(now_ns() + 50000000);
      }
      if (PyErr_CheckSignals() != 0) throw py::error_already_set();
      if (closed_) throw_closed();
    }
  }

  py::object session_;
  const unsigned generation_ = fork_generation.load();
  std::atomic<bool> closed_{false};
  Slots slots_;
  std::unique_ptr<Lanes> lanes_;  // last: its threads use the members above
};

}  // namespace

void close_all_lanes() {
  std::lock_guard lock(g_mutex);
  for (PyLanes* lanes : open_lanes()) lanes->abort();
}

void bind_lanes(py::module_& module) {
  using namespace py::literals;
  py::class_<PyLanes>(module, "Lanes")
      .def(py::init([](py::object session, size_t count, size_t slots, std::vector<int> cpus,
                       double spin_us) {
             auto& model = session.cast<PySession&>();
             model.check_fork();
             LaneOptions options;
             options.count = count;
             options.cpus = std::move(cpus);
             options.spin_ns = static_cast<int64_t>(spin_us * 1e3);
             options.name = model.session()->name();
             return std::make_unique<PyLanes>(std::move(session), std::move(options), slots);
           }),
           "session"_a, "count"_a, "slots"_a, "cpus"_a, "spin_us"_a)
      .def("_submit", checked(&PyLanes::submit), "args"_a, "kwargs"_a, "deadline_ms"_a)
      .def("_try_submit", checked(&PyLanes::try_submit), "args"_a, "kwargs"_a, "deadline_ms"_a,
           "queue"_a, "token"_a)
      .def("_pass_on", checked(&PyLanes::pass_on), "queue"_a, "token"_a)
      .def("_close", checked(&PyLanes::close), "cancel"_a)
      .def("_stats", checked(&PyLanes::stats))
      .def_property_readonly("count", checked(&PyLanes::count))
      .def_property_readonly("slots", checked(&PyLanes::slots));
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "runtime/contract.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <utility>

namespace zerolane {

LatencyWindow::LatencyWindow(size_t size, int64_t limit_ns)
    : size_(size), limit_ns_(limit_ns), calls_(new std::atomic<int64_t>[size]) {
  for (size_t i = 0; i < size_; ++i) calls_[i].store(-1, std::memory_order_relaxed);
}

int64_t LatencyWindow::record(int64_t nanoseconds) noexcept {
  int64_t taken = std::max<int64_t>(nanoseconds, 0);
  size_t place = next_.fetch_add(1, std::memory_order_relaxed) % size_;
  int64_t before = calls_[place].exchange(taken, std::memory_order_relaxed);
  bool is = taken > limit_ns_;
  bool was = before > limit_ns_;
  if (is == was) [[likely]]
    return above();
  return is ? above_.fetch_add(1, std::memory_order_relaxed) + 1
            : above_.fetch_sub(1, std::memory_order_relaxed) - 1;
}

std::vector<int64_t> LatencyWindow::read() const {
  std::vector<int64_t> out;
  out.reserve(size_);
  for (size_t i = 0; i < size_; ++i) {
    int64_t taken = calls_[i].load(std::memory_order_relaxed);
    if (taken >= 0) out.push_back(taken);
  }
  return out;
}

int64_t LatencyWindow::p99() const {
  std::vector<int64_t> calls = read();
  if (calls.empty()) return 0;
  auto rank = static_cast<std::ptrdiff_t>(calls.size() - calls.size() / 100);
  std::nth_element(calls.begin(), calls.begin() + (rank - 1), calls.end());
  return calls[static_cast<size_t>(rank - 1)];
}

Contract::Contract(std::string name, const ContractTerms& terms)
    : name_(std::move(name)),
      terms_(terms),
      window_(terms.window, terms.p99_ns > 0 ? terms.p99_ns : INT64_MAX),
      traced_name_(trace::intern(name_)),
      last_end_ns_(now_ns()) {
  metrics::Labels labels = {{"contract", name_}};
  auto kind = [&](const char* what) {
    metrics::Labels both = labels;
    both.emplace_back("kind", what);
    return both;
  };
  using metrics::publish;
  published_.push_back(publish("zerolane_contract_calls_total", labels, calls));
  published_.push_back(publish("zerolane_contract_failures_total", labels, failures));
  published_.push_back(
      publish("zerolane_contract_breaches_total", kind("deadline"), deadline_misses));
  published_.push_back(publish("zerolane_contract_breaches_total", kind("p99"), p99_breaches));
  published_.push_back(publish("zerolane_contract_call_seconds", labels, latency));
  published_.push_back(publish("zerolane_contract_first_call_seconds", labels, first_latency));
  published_.push_back(publish("zerolane_contract_pulses_total", labels, pulses));
  published_.push_back(publish("zerolane_contract_ready", labels, ready_));
}

Contract::Call Contract::begin() noexcept {
  uint32_t others = in_flight_.fetch_add(1, std::memory_order_seq_cst);
  if (pulse_.load(std::memory_order_seq_cst) != nullptr) [[unlikely]] {
    // end_pulse() waits for whoever has seen the pulse.
    cancelling_.fetch_add(1, std::memory_order_seq_cst);
    if (Cancel* pulse = pulse_.exchange(nullptr, std::memory_order_seq_cst)) pulse->cancel();
    cancelling_.fetch_sub(1, std::memory_order_seq_cst);
  }
  int64_t now = now_ns();
  return {now, others == 0 && now - last_end_ns() > terms_.idle_ns};
}

void Contract::end(const Call& call, bool failed) noexcept {
  int64_t now = now_ns();
  int64_t taken = now - call.begin_ns;
  last_end_ns_.store(now, std::memory_order_relaxed);
  in_flight_.fetch_sub(1, std::memory_order_release);
  if (!ready()) {
    early_calls.add();
    return;
  }
  calls.add();
  if (terms_.deadline_ns > 0 && taken > terms_.deadline_ns) [[unlikely]] {
    deadline_misses.add();
    trace::instant(trace::Track(), "deadline", 0, traced_name_);
  }
  if (failed) [[unlikely]] {
    failures.add();
    return;  // a quick failure must not make the figures look better
  }
  (call.first ? first_latency : latency).record(taken);
  judge(taken);
}

void Contract::judge(int64_t taken_ns) noexcept {
  bool above = window_.record(taken_ns) > window_.allowed();
  if (above == broken_.load(std::memory_order_relaxed)) [[likely]]
    return;
  if (broken_.exchange(above) == above) return;  // another thread was first
  if (!above) return;
  p99_breaches.add();
  trace::instant(trace::Track(), "p99 broken", 0, traced_name_);
}

void Contract::set_ready() noexcept { ready_.set(1); }

bool Contract::begin_pulse(Cancel& cancel) noexcept {
  pulse_.store(&cancel, std::memory_order_seq_cst);
  if (in_flight_.load(std::memory_order_seq_cst) == 0) return true;
  end_pulse();
  return false;
}

void Contract::end_pulse() noexcept {
  pulse_.store(nullptr, std::memory_order_seq_cst);
  while (cancelling_.load(std::memory_order_seq_cst) != 0) ::sched_yield();
}

}  // namespace zerolane

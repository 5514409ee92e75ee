// SPDX-License-Identifier: Apache-2.0
#include "trt/build_watch.h"

#include <algorithm>
#include <cstring>
#include <utility>

namespace zerolane::trt {
namespace {

constexpr auto kRepeat = std::chrono::milliseconds(50);
constexpr unsigned kMessages = 1024;
constexpr size_t kMaxPhases = 32;
// Few in number, and the longest silent step is among them; the inner ones come by the thousand.
constexpr size_t kOuterPhases = 4;

const char* text(const char* given) { return given == nullptr ? "" : given; }

}  // namespace

BuildWatch::BuildWatch(Follow follow, std::span<char> note)
    : follow_(std::move(follow)), note_(note) {}

void BuildWatch::write_note(std::string_view text) noexcept {
  try {
    doing_ = text;
  } catch (...) {  // out of memory: then the note alone has it
  }
  if (note_.empty()) return;
  size_t size = std::min(text.size(), note_.size() - 1);
  std::memcpy(note_.data(), text.data(), size);
  note_[size] = '\0';
}

std::string BuildWatch::doing() noexcept {
  std::lock_guard lock(mutex_);
  return doing_;
}

void BuildWatch::enter(std::string_view stage) noexcept {
  std::lock_guard lock(mutex_);
  write_note(stage);
}

void BuildWatch::see_message(const char* message) noexcept {
  // As TensorRT's parser of all releases words it: "Parsing node: NAME [TYPE]". It checks all nodes
  // before it reads the first.
  constexpr std::string_view kParsing = "Parsing node: ";
  constexpr std::string_view kChecking = "Static check for parsing node: ";
  std::string_view said(text(message));
  std::string_view doing;
  // Whoever follows also empties the log's queue, which holds only so many.
  bool due = messages_.fetch_add(1, std::memory_order_relaxed) % kMessages == kMessages - 1;
  if (said.starts_with(kParsing)) {
    said.remove_prefix(kParsing.size());
    doing = "reading node ";
  } else if (said.starts_with(kChecking)) {
    said.remove_prefix(kChecking.size());
    doing = "checking node ";
  }
  if (!doing.empty()) {
    try {
      std::lock_guard lock(mutex_);
      write_note(std::string(doing).append(said));
    } catch (...) {  // a note lost for want of memory
    }
  }
  if (due || !doing.empty()) tell(due);
}

void BuildWatch::rethrow() {
  std::lock_guard lock(mutex_);
  if (failure_) std::rethrow_exception(failure_);
}

bool BuildWatch::tell(bool due) noexcept {
  if (stopped_.load(std::memory_order_relaxed)) return false;
  if (!follow_) return true;
  try {
    std::vector<BuildPhase> phases;
    {
      std::lock_guard lock(mutex_);
      auto time = std::chrono::steady_clock::now();
      if (!due && time - told_ < kRepeat) return true;
      told_ = time;
      phases = phases_;
    }
    std::lock_guard turn(follow_mutex_);
    if (!follow_(phases)) stopped_.store(true);
  } catch (...) {
    stopped_.store(true);
    std::lock_guard lock(mutex_);
    failure_ = std::current_exception();
  }
  return !stopped_.load();
}

void BuildWatch::phaseStart(const char* phase, const char* /*parent*/, int32_t steps) noexcept {
  bool outer = false;
  try {
    std::lock_guard lock(mutex_);
    if (phases_.size() < kMaxPhases) phases_.push_back({text(phase), 0, steps});
    outer = phases_.size() <= kOuterPhases;
    write_note("in phase '" + std::string(text(phase)) + "'");
  } catch (...) {
    return;
  }
  tell(outer);
}

bool BuildWatch::stepComplete(const char* phase, int32_t step) noexcept {
  {
    std::lock_guard lock(mutex_);
    for (auto it = phases_.rbegin(); it != phases_.rend(); ++it) {
      if (it->name != text(phase)) continue;
      it->done = step + 1;
      break;
    }
  }
  return tell(false);
}

void BuildWatch::phaseFinish(const char* phase) noexcept {
  std::lock_guard lock(mutex_);
  for (size_t i = phases_.size(); i-- > 0;) {
    if (phases_[i].name != text(phase)) continue;
    phases_.erase(phases_.begin() + static_cast<std::ptrdiff_t>(i));
    break;
  }
}

}  // namespace zerolane::trt

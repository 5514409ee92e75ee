// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <chrono>
#include <cstdint>
#include <exception>
#include <functional>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "trt/logger.h"

namespace zerolane::trt {

// A phase the library is in: so many steps done of so many.
struct BuildPhase {
  std::string name;
  int32_t done = 0;
  int32_t steps = 0;
};

// Follows a build: which phase and which node of the graph the library works on, and whether to go
// on. Lives on the stack of the thread that builds; the library reports from any thread.
class BuildWatch final : public ProgressMonitor, private MessageTap {
 public:
  // The phases, outermost first; false ends the build. Called at the start of each outer phase
  // and else at most twenty times a second, by one thread at a time.
  using Follow = std::function<bool(const std::vector<BuildPhase>&)>;

  // `note` is kept up to date with what is being worked on, NUL-terminated, so that whoever shares
  // that memory can read it after a crash. Both may be empty.
  BuildWatch(Follow follow, std::span<char> note);

  // What the library is told to do next, for the note: "reading the model".
  void enter(std::string_view stage) noexcept;

  // What the note says.
  std::string doing() noexcept;
  bool stopped() const noexcept { return stopped_.load(); }
  // Throws what `follow` threw, if it did.
  void rethrow();

  void phaseStart(const char* phase, const char* parent, int32_t steps) noexcept override;
  bool stepComplete(const char* phase, int32_t step) noexcept override;
  void phaseFinish(const char* phase) noexcept override;

 private:
  // Messages of the parser name the node it has come to.
  void see_message(const char* message) noexcept override;
  void write_note(std::string_view text) noexcept;
  bool tell(bool due) noexcept;

  Follow follow_;
  std::span<char> note_;
  std::atomic<bool> stopped_{false};
  std::atomic<unsigned> messages_{0};
  std::mutex mutex_;  // guards what follows, and the note
  std::vector<BuildPhase> phases_;
  std::string doing_;
  std::chrono::steady_clock::time_point told_{};
  std::exception_ptr failure_;
  std::mutex follow_mutex_;  // one call of follow_ at a time; taken alone
};

}  // namespace zerolane::trt

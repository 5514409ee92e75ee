// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstddef>
#include <mutex>
#include <string>
#include <vector>

#include "core/log.h"
#include "trt/calls.h"

namespace zerolane::trt {

// An error as the library told it.
struct ReportedError {
  ErrorCode code;
  std::string text;
};

// The logger that a library gets: one for all of its objects, in the layout of its family. What the
// library says goes to core/log at its level, if that is at least the threshold (warnings by
// default). Any thread.
class LibraryLogger : private Logger10, private Logger {
 public:
  explicit LibraryLogger(std::string source) : source_(std::move(source)) {}

  // What the library takes for its logger.
  void* address(Family family) noexcept;

 private:
  friend class Verbosity;
  void log(Severity severity, const char* message) noexcept final;
  void request(LogLevel level, int count) noexcept;

  const std::string source_;
  std::atomic<int> threshold_{static_cast<int>(LogLevel::kWarning)};
  std::mutex mutex_;      // guards requests_
  int requests_[5] = {};  // by level: how many Verbosity objects ask for it
};

// Lets the messages of a library from `level` on through while it lives. The most talkative of all
// living ones counts; warnings and errors always pass.
class Verbosity {
 public:
  Verbosity(LibraryLogger& logger, LogLevel level);
  ~Verbosity();
  Verbosity(const Verbosity&) = delete;
  Verbosity& operator=(const Verbosity&) = delete;

 private:
  LibraryLogger& logger_;
  LogLevel level_;
};

// Takes the errors that libraries log on this thread while it lives, instead of core/log: for calls
// that fail before an error recorder can be set. Lives on the stack; the innermost one gets them.
class LoggedErrors {
 public:
  LoggedErrors() noexcept;
  ~LoggedErrors();
  LoggedErrors(const LoggedErrors&) = delete;
  LoggedErrors& operator=(const LoggedErrors&) = delete;

  const std::vector<ReportedError>& errors() const noexcept { return errors_; }

 private:
  friend class LibraryLogger;
  LoggedErrors* outer_;
  std::vector<ReportedError> errors_;
};

// Sees every message that libraries log on this thread while it lives, whatever the threshold; they
// go on to where they go otherwise. Lives on the stack; the innermost one sees them.
class MessageTap {
 public:
  MessageTap(const MessageTap&) = delete;
  MessageTap& operator=(const MessageTap&) = delete;

 protected:
  MessageTap() noexcept;
  ~MessageTap();

 private:
  friend class LibraryLogger;
  virtual void see_message(const char* message) noexcept = 0;
  MessageTap* outer_;
};

// An error recorder that keeps what is reported (the first 64 errors), for setErrorRecorder of any
// object. Must outlive the objects it is set on, or be unset by passing null. Any thread.
class ErrorCollector final : public ErrorRecorder {
 public:
  // What was reported since the last call.
  std::vector<ReportedError> take();

  int32_t getNbErrors() const noexcept override;
  ErrorCode getErrorCode(int32_t index) const noexcept override;
  const char* getErrorDesc(int32_t index) const noexcept override;
  bool hasOverflowed() const noexcept override;
  void clear() noexcept override;
  bool reportError(ErrorCode code, const char* text) noexcept override;
  int32_t incRefCount() noexcept override;
  int32_t decRefCount() noexcept override;

 private:
  static constexpr size_t kMost = 64;
  mutable std::mutex mutex_;  // guards errors_, overflowed_
  std::vector<ReportedError> errors_;
  bool overflowed_ = false;
  std::atomic<int32_t> references_{0};
};

}  // namespace zerolane::trt

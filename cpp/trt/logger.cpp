// SPDX-License-Identifier: Apache-2.0
#include "trt/logger.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <utility>

namespace zerolane::trt {
namespace {

thread_local LoggedErrors* t_logged = nullptr;
thread_local MessageTap* t_tap = nullptr;

LogLevel level_of(Severity severity) {
  switch (severity) {
    case Severity::kInternalError:
    case Severity::kError:
      return LogLevel::kError;
    case Severity::kWarning:
      return LogLevel::kWarning;
    case Severity::kInfo:
      return LogLevel::kInfo;
    case Severity::kVerbose:
      break;
  }
  return LogLevel::kVerbose;
}

// Messages carry the number of their error: "...: Error Code 6: ...".
ErrorCode code_in(const char* message) {
  static constexpr char kMark[] = "Error Code ";
  const char* found = std::strstr(message, kMark);
  int code = found != nullptr ? std::atoi(found + sizeof(kMark) - 1) : 0;
  bool known = code > 0 && code <= static_cast<int>(ErrorCode::kUnsupportedState);
  return known ? static_cast<ErrorCode>(code) : ErrorCode::kUnspecifiedError;
}

}  // namespace

void* LibraryLogger::address(Family family) noexcept {
  return family == Family::k10 ? static_cast<void*>(static_cast<Logger10*>(this))
                               : static_cast<void*>(static_cast<Logger*>(this));
}

void LibraryLogger::log(Severity severity, const char* message) noexcept {
  try {
    if (message == nullptr) return;
    if (t_tap != nullptr) t_tap->see_message(message);
    LogLevel level = level_of(severity);
    if (level == LogLevel::kError && t_logged != nullptr) {
      t_logged->errors_.push_back({code_in(message), message});
      return;
    }
    if (static_cast<int>(level) < threshold_.load(std::memory_order_relaxed)) return;
    zerolane::log(level, source_, "", message);
  } catch (...) {  // out of memory: a lost log line is the least of it
  }
}

void LibraryLogger::request(LogLevel level, int count) noexcept {
  std::lock_guard lock(mutex_);
  requests_[static_cast<int>(level)] += count;
  int lowest = static_cast<int>(LogLevel::kWarning);
  for (int i = lowest - 1; i >= 0; --i) {
    if (requests_[i] > 0) lowest = i;
  }
  threshold_.store(lowest, std::memory_order_relaxed);
}

Verbosity::Verbosity(LibraryLogger& logger, LogLevel level) : logger_(logger), level_(level) {
  logger_.request(level_, 1);
}

Verbosity::~Verbosity() { logger_.request(level_, -1); }

LoggedErrors::LoggedErrors() noexcept : outer_(std::exchange(t_logged, this)) {}

LoggedErrors::~LoggedErrors() { t_logged = outer_; }

MessageTap::MessageTap() noexcept : outer_(std::exchange(t_tap, this)) {}

MessageTap::~MessageTap() { t_tap = outer_; }

std::vector<ReportedError> ErrorCollector::take() {
  std::lock_guard lock(mutex_);
  overflowed_ = false;
  return std::exchange(errors_, {});
}

int32_t ErrorCollector::getNbErrors() const noexcept {
  std::lock_guard lock(mutex_);
  return static_cast<int32_t>(errors_.size());
}

ErrorCode ErrorCollector::getErrorCode(int32_t index) const noexcept {
  std::lock_guard lock(mutex_);
  bool known = index >= 0 && static_cast<size_t>(index) < errors_.size();
  return known ? errors_[static_cast<size_t>(index)].code : ErrorCode::kSuccess;
}

const char* ErrorCollector::getErrorDesc(int32_t index) const noexcept {
  std::lock_guard lock(mutex_);
  bool known = index >= 0 && static_cast<size_t>(index) < errors_.size();
  return known ? errors_[static_cast<size_t>(index)].text.c_str() : "";
}

bool ErrorCollector::hasOverflowed() const noexcept {
  std::lock_guard lock(mutex_);
  return overflowed_;
}

void ErrorCollector::clear() noexcept {
  std::lock_guard lock(mutex_);
  errors_.clear();
  overflowed_ = false;
}

bool ErrorCollector::reportError(ErrorCode code, const char* text) noexcept {
  std::lock_guard lock(mutex_);
  try {
    if (errors_.size() < kMost) {
      errors_.push_back({code, text != nullptr ? text : ""});
    } else {
      overflowed_ = true;
    }
  } catch (...) {
    overflowed_ = true;
  }
  return false;  // the library fails the call by itself
}

int32_t ErrorCollector::incRefCount() noexcept { return ++references_; }

int32_t ErrorCollector::decRefCount() noexcept { return --references_; }

}  // namespace zerolane::trt

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <exception>
#include <string>
#include <string_view>

namespace zerolane {

// What went wrong. Python has one exception class for each (python/zerolane/errors.py).
enum class Code {
  kInvalidArgument,
  kShapeMismatch,
  kUnsupported,
  kNotFound,
  kUnavailable,
  kOutOfMemory,
  kDeadlineExceeded,
  kCancelled,
  kInvalidModel,
  kBackend,
  kDevice,
  kInternal,
};

// The name of a code as users see it: "invalid_argument", ...
const char* code_name(Code code);

// The one exception of the native core. `message` has three parts: what was being done, what was
// found against what was expected, what to do. `subject` names the tensor, option, file or library
// it is about.
class Error : public std::exception {
 public:
  Error(Code code, std::string message, std::string subject = {});
  const char* what() const noexcept override { return message_.c_str(); }
  Code code() const noexcept { return code_; }
  const std::string& message() const noexcept { return message_; }
  const std::string& subject() const noexcept { return subject_; }

 private:
  Code code_;
  std::string message_;
  std::string subject_;
};

// Joins the three parts: "doing: found; remedy".
Error make_error(Code code, std::string_view doing, std::string_view found, std::string_view remedy,
                 std::string subject = {});

}  // namespace zerolane

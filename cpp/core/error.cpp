// SPDX-License-Identifier: Apache-2.0
#include "core/error.h"

#include <utility>

namespace zerolane {

const char* code_name(Code code) {
  switch (code) {
    case Code::kInvalidArgument:
      return "invalid_argument";
    case Code::kShapeMismatch:
      return "shape_mismatch";
    case Code::kUnsupported:
      return "unsupported";
    case Code::kNotFound:
      return "not_found";
    case Code::kUnavailable:
      return "unavailable";
    case Code::kOutOfMemory:
      return "out_of_memory";
    case Code::kDeadlineExceeded:
      return "deadline_exceeded";
    case Code::kCancelled:
      return "cancelled";
    case Code::kInvalidModel:
      return "invalid_model";
    case Code::kBackend:
      return "backend";
    case Code::kDevice:
      return "device";
    case Code::kInternal:
      break;
  }
  return "internal";
}

Error::Error(Code code, std::string message, std::string subject)
    : code_(code), message_(std::move(message)), subject_(std::move(subject)) {}

Error make_error(Code code, std::string_view doing, std::string_view found, std::string_view remedy,
                 std::string subject) {
  std::string message;
  message.reserve(doing.size() + found.size() + remedy.size() + 4);
  message.append(doing).append(": ").append(found);
  if (!remedy.empty()) message.append("; ").append(remedy);
  return Error(code, std::move(message), std::move(subject));
}

}  // namespace zerolane

// SPDX-License-Identifier: Apache-2.0
#include "bindings/logging.h"

#include "bindings/gil.h"
#include "core/log.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

int python_level(LogLevel level) {
  switch (level) {
    case LogLevel::kVerbose:
      return 10;
    case LogLevel::kInfo:
      return 20;
    case LogLevel::kWarning:
      return 30;
    case LogLevel::kError:
      return 40;
    case LogLevel::kFatal:
      break;
  }
  return 50;
}

// The thread that logs may hold anything but the GIL, so Python is only asked to come by.
void ask_python() {
  Py_AddPendingCall(
      [](void*) {
        drain_log();
        return 0;
      },
      nullptr);
}

}  // namespace

void drain_log() {
  if (!log_waiting()) return;
  py::error_scope keep;  // an error on its way must survive the logging calls
  try {
    py::module_ logging = py::module_::import("logging");
    py::object get_logger = logging.attr("getLogger");
    static bool quiet = false;
    if (!quiet) {  // as libraries do: nothing on stderr unless the program sets logging up
      get_logger("zerolane").attr("addHandler")(logging.attr("NullHandler")());
      quiet = true;
    }
    for (const LogRecord& record : take_log()) {
      py::object logger = get_logger("zerolane." + record.source);
      logger.attr("log")(
          python_level(record.level), "%s [%s]",
          py::reinterpret_steal<py::object>(PyUnicode_DecodeUTF8(
              record.message.data(), static_cast<Py_ssize_t>(record.message.size()), "replace")),
          record.where);
    }
  } catch (py::error_already_set& error) {
    error.discard_as_unraisable("zerolane log");
  }
}

void bind_logging() {
  set_log_notifier(ask_python);
  // Vendor threads may log while the interpreter goes down.
  py::module_::import("atexit").attr("register")(
      py::cpp_function([] { set_log_notifier(nullptr); }));
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "bindings/measure.h"

#include <string>
#include <vector>

#include "bindings/gil.h"
#include "core/trace.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

py::list stop_trace() {
  std::vector<std::string> pieces;
  {
    ReleaseGil release;
    trace::stop([&](std::string_view piece) { pieces.emplace_back(piece); });
  }
  py::list out;
  for (std::string& piece : pieces) {
    out.append(py::bytes(piece));
    std::string().swap(piece);  // a trace may be large: not all of it twice
  }
  return out;
}

}  // namespace

void bind_measure(py::module_& module) {
  using namespace py::literals;
  module.def("start_trace", &trace::start, "max_events"_a = trace::kDefaultEvents);
  module.def("stop_trace", &stop_trace,
             "The trace as pieces of JSON; none where no trace runs, as in a forked child.");
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "bindings/measure.h"

#include <pybind11/stl.h>

#include <functional>
#include <string>
#include <utility>
#include <vector>

#include "bindings/gil.h"
#include "bindings/text.h"
#include "core/buffer.h"
#include "core/metric_registry.h"
#include "core/trace.h"
#include "cuda/device.h"
#include "cuda/memory.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

py::list stop_trace(const trace::ThreadNames& threads) {
  std::vector<std::string> pieces;
  {
    ReleaseGil release;
    trace::stop([&](std::string_view piece) { pieces.emplace_back(piece); }, threads);
  }
  py::list out;
  for (std::string& piece : pieces) {
    out.append(py::bytes(piece));
    std::string().swap(piece);  // a trace may be large: not all of it twice
  }
  return out;
}

py::object describe(const metrics::Series& series) {
  py::dict labels;
  for (const auto& [name, value] : series.labels) labels[text(name)] = text(value);
  if (series.family->type != metrics::Type::kHistogram) {
    return py::make_tuple(series.family->name, labels, series.value);
  }
  const HistogramCounts& held = series.histogram;
  return py::make_tuple(series.family->name, labels, held.count(), held.sum_ns(), held.buckets());
}

py::list read_metrics() {
  std::vector<metrics::Series> all;
  {
    ReleaseGil release;
    all = metrics::read();
  }
  py::list out;
  for (const metrics::Series& series : all) out.append(describe(series));
  return out;
}

py::list metric_families() {
  static const char* const kTypes[] = {"counter", "gauge", "histogram"};
  py::list out;
  for (const metrics::Family& family : metrics::families()) {
    out.append(py::make_tuple(family.name, kTypes[static_cast<size_t>(family.type)], family.unit,
                              py::tuple(py::cast(family.labels)), family.meaning));
  }
  return out;
}

using Emit = std::function<void(const char*, metrics::Labels, int64_t)>;

void emit_pool(const Emit& emit, const std::string& device, const char* pool,
               const PoolStats& stats) {
  metrics::Labels labels = {{"device", device}, {"pool", pool}};
  emit("zerolane_memory_used_bytes", labels, static_cast<int64_t>(stats.bytes_in_use));
  emit("zerolane_memory_cached_bytes", labels, static_cast<int64_t>(stats.bytes_cached));
  emit("zerolane_memory_peak_bytes", labels, static_cast<int64_t>(stats.peak_bytes));
}

// Gauges that others hold, read when somebody asks.
void emit_process(const Emit& emit) {
  emit_pool(emit, "cpu", "host", host_pool()->stats());
  for (auto [name, kind] : {std::pair{"session", LiveKind::kSession},
                            {"context", LiveKind::kContext},
                            {"binding", LiveKind::kBinding},
                            {"future", LiveKind::kFuture}}) {
    emit("zerolane_live_objects", {{"kind", name}}, LiveCount::of(kind));
  }
  if (cuda::forked()) return;  // the GPUs are the parent's
  for (cuda::CudaDevice* gpu : cuda::opened_devices()) {
    const std::string device = gpu->id().text();
    emit_pool(emit, device, "device", gpu->pool().stats());
    emit_pool(emit, device, "tensors", gpu->tensor_pool()->stats());
    emit_pool(emit, device, "pinned", gpu->pinned_pool()->stats());
  }
}

}  // namespace

void bind_measure(py::module_& module) {
  using namespace py::literals;
  module.def("start_trace", &trace::start, "max_events"_a = trace::kDefaultEvents);
  module.def("stop_trace", &stop_trace, "threads"_a,
             "The trace as pieces of JSON; none where no trace runs, as in a forked child.");
  metrics::add_source(emit_process);
  module.def("metric_families", &metric_families, "(name, type, unit, labels, meaning) of each.");
  module.def(
      "read_metrics", &read_metrics,
      "(name, labels, value), of a histogram (name, labels, count, sum, [(most, count)]), in "
      "nanoseconds.");
  module.def(
      "count_metric",
      [](const char* family, const std::string& label, const std::string& value) {
        metrics::count(family, {{label, value}});
      },
      "family"_a, "label"_a, "value"_a, "Adds one to a counter with one label.");
}

}  // namespace zerolane::bindings

// SPDX-License-Identifier: Apache-2.0
#include "bindings/build.h"

#include <pybind11/stl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <unistd.h>

#include <map>
#include <memory>

#include "bindings/gil.h"
#include "bindings/logging.h"
#include "bindings/text.h"
#include "core/error.h"
#include "trt/build.h"
#include "trt/library.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

// The plan in the library's own memory, shown through the buffer protocol.
struct PlanMemory {
  trt::Owned<trt::HostMemory> owner;
  std::span<const std::byte> bytes;
};

// A path as the system wants it; names that are no UTF-8 come through.
std::string path_bytes(const py::object& path) {
  auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_EncodeFSDefault(path.ptr()));
  if (!encoded) throw py::error_already_set();
  return encoded;
}

const std::map<std::string, trt::BuilderFlag> kFlags = {
    {"version_compatible", trt::BuilderFlag::kVersionCompatible},
    {"exclude_lean_runtime", trt::BuilderFlag::kExcludeLeanRuntime},
    {"strip_weights", trt::BuilderFlag::kStripPlan},
    {"refit", trt::BuilderFlag::kRefit},
    {"refit_identical", trt::BuilderFlag::kRefitIdentical},
    {"refit_individual", trt::BuilderFlag::kRefitIndividual},
    {"weight_streaming", trt::BuilderFlag::kWeightStreaming},
    {"sparse_weights", trt::BuilderFlag::kSparseWeights},
    {"strict_nans", trt::BuilderFlag::kStrictNans},
    {"direct_io", trt::BuilderFlag::kDirectIo},
    {"debug", trt::BuilderFlag::kDebug},
    {"editable_timing", trt::BuilderFlag::kEditableTimingCache},
    {"reproducible_timing", trt::BuilderFlag::kErrorOnTimingCacheMiss},
};

std::optional<int> maybe_int(const py::dict& given, const char* name) {
  return given[name].cast<std::optional<int>>();
}

trt::BuildOptions read_options(const py::dict& given) {
  trt::BuildOptions options;
  for (py::handle profile : given["profiles"]) {
    auto& ranges = options.profiles.emplace_back();
    for (py::handle row : profile) {
      auto range = py::reinterpret_borrow<py::sequence>(row);
      using Sizes = std::vector<int64_t>;
      ranges.push_back(
          {utf8(range[0]), range[1].cast<Sizes>(), range[2].cast<Sizes>(), range[3].cast<Sizes>()});
    }
  }
  for (int number : given["compute_capabilities"].cast<std::vector<int>>()) {
    options.compute_capabilities.push_back(static_cast<trt::ComputeCapability>(number));
  }
  for (auto [pool, bytes] : given["memory_pools"].cast<std::vector<std::pair<int, size_t>>>()) {
    options.memory_pools.emplace_back(static_cast<trt::MemoryPoolType>(pool), bytes);
  }
  for (const auto& name : given["flags"].cast<std::vector<std::string>>()) {
    options.flags.emplace_back(kFlags.at(name), name);
  }
  options.optimization_level = maybe_int(given, "optimization_level");
  options.tiling_level = maybe_int(given, "tiling_level");
  options.avg_timing_iterations = maybe_int(given, "avg_timing_iterations");
  options.max_aux_streams = maybe_int(given, "max_aux_streams");
  options.tf32 = given["tf32"].cast<std::optional<bool>>();
  options.hardware_compatibility =
      static_cast<trt::HardwareCompatibilityLevel>(given["hardware_compatibility"].cast<int>());
  options.profiling_verbosity =
      static_cast<trt::ProfilingVerbosity>(given["profiling_verbosity"].cast<int>());
  options.log_level = static_cast<LogLevel>(given["log_level"].cast<int>());
  options.parse_only = given.contains("parse_only");
  options.plugins = given.contains("plugins");
  return options;
}

const char* dtype_name(trt::DataType type) {
  constexpr const char* kNames[] = {"float32", "float16", "int8",          "int32",
                                    "bool",    "uint8",   "float8_e4m3fn", "bfloat16",
                                    "int64",   "int4",    "float4_e2m1fn", "float8_e8m0fnu"};
  auto number = static_cast<size_t>(type);
  return number < std::size(kNames) ? kNames[number] : "unknown";
}

py::list describe(const std::vector<trt::NetworkTensor>& tensors) {
  py::list rows;
  for (const trt::NetworkTensor& tensor : tensors) {
    py::list shape;
    for (int64_t size : tensor.shape) {
      shape.append(size < 0 ? py::object(py::none()) : py::object(py::int_(size)));
    }
    rows.append(py::make_tuple(text(tensor.name), dtype_name(tensor.type), shape));
  }
  return rows;
}

py::object describe(const std::optional<trt::UnsupportedGraph>& graph) {
  if (!graph) return py::none();
  py::list nodes;
  for (const trt::ParserComplaint& node : graph->nodes) {
    nodes.append(
        py::make_tuple(node.node, text(node.node_name), text(node.node_type), text(node.text)));
  }
  py::dict out;
  out["nodes"] = nodes;
  out["parts"] = graph->parts;
  return out;
}

py::list describe(const std::vector<trt::PluginModel::Asked>& plugins) {
  py::list rows;
  for (const trt::PluginModel::Asked& plugin : plugins) {
    py::dict calls;
    for (size_t i = 0; i < plugin.calls.size(); ++i) {
      calls[trt::kPluginCallbacks[i]] = plugin.calls[i];
    }
    rows.append(py::make_tuple(text(plugin.op), text(plugin.node), calls));
  }
  return rows;
}

// Calls Python for the build, which runs without the GIL; also lets Ctrl-C end it.
trt::BuildWatch::Follow make_follow(const py::object& function) {
  return [&function](const std::vector<trt::BuildPhase>& phases) {
    AcquireGil acquire;
    drain_log();
    if (PyErr_CheckSignals() != 0) throw py::error_already_set();
    if (function.is_none()) return true;
    py::list rows;
    for (const trt::BuildPhase& phase : phases) {
      rows.append(py::make_tuple(text(phase.name), phase.done, phase.steps));
    }
    return function(rows).cast<bool>();
  };
}

py::dict build_engine(const std::string& library_path, const std::string& name,
                      const py::object& path, const py::object& content, const py::dict& given,
                      const py::object& timing_cache, const py::object& follow,
                      const py::object& note) {
  trt::BuildOptions options = read_options(given);
  options.timing_cache = !timing_cache.is_none();
  if (options.timing_cache) options.timing_cache_content = timing_cache.cast<std::string>();
  trt::ModelSource model{name, path.is_none() ? "" : path_bytes(path), {}};
  py::buffer_info bytes;
  if (!content.is_none()) {
    bytes = content.cast<py::buffer>().request();
    model.bytes = {static_cast<const std::byte*>(bytes.ptr),
                   static_cast<size_t>(bytes.size * bytes.itemsize)};
  }
  py::buffer_info page;
  std::span<char> shared;
  if (!note.is_none()) {
    page = note.cast<py::buffer>().request(/*writable=*/true);
    shared = {static_cast<char*>(page.ptr), static_cast<size_t>(page.size * page.itemsize)};
  }
  trt::BuildResult built;
  try {
    trt::BuildWatch watch(make_follow(follow), shared);
    ReleaseGil release;
    built = trt::build_engine(trt::open_library(library_path), model, options, watch);
  } catch (...) {
    drain_log();
    throw;
  }
  drain_log();
  py::dict out;
  out["plan"] = py::none();
  if (built.plan) {
    auto plan = std::make_unique<PlanMemory>();
    plan->owner = std::move(built.plan);
    plan->bytes = built.bytes;
    out["plan"] = py::cast(std::move(plan));
  }
  out["inputs"] = describe(built.inputs);
  out["outputs"] = describe(built.outputs);
  out["layers"] = built.layers;
  out["timing_cache"] =
      options.timing_cache ? py::object(py::bytes(built.timing_cache)) : py::none();
  out["parse_seconds"] = built.parse_seconds;
  out["build_seconds"] = built.build_seconds;
  out["unsupported"] = describe(built.unsupported);
  out["plugins"] = describe(built.plugins);
  return out;
}

// The kernel ends this process when the thread that started it ends; `parent` may be gone already.
void die_with_parent(int parent) {
  ::prctl(PR_SET_PDEATHSIG, SIGKILL);
  if (::getppid() != parent) ::_exit(1);
}

}  // namespace

void bind_build(py::module_& module) {
  using namespace py::literals;
  py::class_<PlanMemory>(module, "PlanMemory", py::buffer_protocol())
      .def_buffer([](PlanMemory& plan) {
        return py::buffer_info(reinterpret_cast<const uint8_t*>(plan.bytes.data()),
                               static_cast<py::ssize_t>(plan.bytes.size()), /*readonly=*/true);
      });
  module.def("build_engine", &build_engine, "library"_a, "name"_a, "path"_a, "content"_a,
             "options"_a, "timing_cache"_a, "follow"_a, "note"_a);
  module.def(
      "library_version",
      [](const std::string& path) {
        ReleaseGil release;
        return trt::open_library(path).version();
      },
      "path"_a);
  module.def("die_with_parent", &die_with_parent, "parent"_a);
}

}  // namespace zerolane::bindings

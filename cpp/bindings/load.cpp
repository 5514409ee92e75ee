// SPDX-License-Identifier: Apache-2.0
#include "bindings/load.h"

#include <pybind11/stl.h>

#include <cstdlib>

#include "bindings/address.h"
#include "bindings/cuda.h"
#include "bindings/logging.h"
#include "bindings/text.h"
#include "core/buffer.h"
#include "core/cpus.h"
#include "core/log.h"
#include "core/mapped_file.h"
#include "core/onnx_model.h"
#include "cuda/stream.h"
#include "ort/session.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

using TextPairs = std::vector<std::pair<std::string, std::string>>;

std::span<const std::byte> bytes_of(const py::bytes& data) {
  char* text = nullptr;
  Py_ssize_t size = 0;
  if (PyBytes_AsStringAndSize(data.ptr(), &text, &size) != 0) throw py::error_already_set();
  return {reinterpret_cast<const std::byte*>(text), static_cast<size_t>(size)};
}

// A path as the system wants it; names that are no UTF-8 come through.
std::string path_of(const py::object& path) {
  auto encoded = py::reinterpret_steal<py::bytes>(PyUnicode_EncodeFSDefault(path.ptr()));
  if (!encoded) throw py::error_already_set();
  return encoded;
}

ort::Options read_options(const py::dict& given) {
  ort::Options options;
  options.threads = given["threads"].cast<int>();
  options.inter_threads = given["inter_threads"].cast<int>();
  options.spin = given["spin"].cast<bool>();
  options.graph_level = given["graph_level"].cast<int>();
  options.parallel = given["parallel"].cast<bool>();
  options.arena = given["arena"].cast<bool>();
  options.memory_pattern = given["memory_pattern"].cast<bool>();
  options.free_dimensions =
      given["free_dimensions"].cast<std::vector<std::pair<std::string, int64_t>>>();
  options.config = given["config"].cast<TextPairs>();
  options.profile = given["profile"].cast<std::string>();
  options.log_level = given["log_level"].cast<int>();
  for (const auto& [name, pairs] :
       given["providers"].cast<std::vector<std::pair<std::string, TextPairs>>>()) {
    options.providers.push_back({name, pairs});
  }
  return options;
}

// With the CUDA provider, memory of its GPU is used in place: through our own CUDA module. Where
// that was not built, the provider still works, on memory of the host.
void attach_gpu(ort::Options* options) {
  ort::Provider* cuda = nullptr;
  for (ort::Provider& provider : options->providers) {
    if (provider.name == "CUDA") cuda = &provider;
    if (provider.name == "Tensorrt") return;
  }
  if (cuda == nullptr) return;
  int index = 0;
  cuda::NativeStream* callers = nullptr;
  bool given = false;
  for (const auto& [key, value] : cuda->options) {
    if (key == "device_id") index = std::atoi(value.c_str());
    if (key != "user_compute_stream") continue;
    given = true;
    char* end = nullptr;
    callers = address<cuda::NativeStream>(std::strtoull(value.c_str(), &end, 0));
    if (value.empty() || *end != '\0') {
      throw make_error(Code::kInvalidArgument, "reading the options of provider CUDA",
                       "user_compute_stream is '" + value + "', expected a stream's address",
                       "give the number, e.g. torch.cuda.Stream().cuda_stream",
                       "user_compute_stream");
    }
  }
  try {
    cuda::CudaDevice& device = cuda::open_device(index);
    std::shared_ptr<Stream> stream =
        given ? device.borrow_stream(callers) : device.make_cuda_stream();
    options->gpu = std::make_shared<ort::Gpu>(device, device.tensor_pool(), device.pinned_pool(),
                                              std::move(stream));
  } catch (const Error& error) {
    if (error.code() != Code::kUnavailable) throw;
    log(LogLevel::kWarning, "onnxruntime", "load",
        "arrays are copied through the host: " + error.message());
    return;
  }
  std::erase_if(cuda->options,
                [](const auto& pair) { return pair.first == "user_compute_stream"; });
}

py::list texts(const std::vector<std::string>& list) {
  py::list out;
  for (const std::string& item : list) out.append(text(item));
  return out;
}

py::dict describe_model(const OnnxModel& model) {
  auto values = [](const std::vector<OnnxValue>& list) {
    py::list rows;
    for (const OnnxValue& value : list) {
      py::object shape = py::none();
      if (value.has_shape) {
        py::list dims;
        for (const OnnxDim& dim : value.shape) {
          if (dim.value >= 0) {
            dims.append(dim.value);
          } else if (dim.symbol.empty()) {
            dims.append(py::none());
          } else {
            dims.append(text(dim.symbol));
          }
        }
        shape = std::move(dims);
      }
      rows.append(
          py::make_tuple(text(value.name), std::string(value.kind), value.elem_type, shape));
    }
    return rows;
  };
  auto tensors = [](const std::vector<OnnxTensor>& list) {
    py::list rows;
    for (const OnnxTensor& tensor : list) {
      py::dict row;
      row["name"] = text(tensor.name);
      row["elem_type"] = tensor.elem_type;
      row["dims"] = tensor.dims;
      row["elements"] = tensor.elements;
      row["bytes"] = tensor.bytes;
      row["external"] = tensor.external;
      row["location"] = text(tensor.location);
      rows.append(row);
    }
    return rows;
  };
  py::list nodes;
  for (const OnnxNode& node : model.nodes) {
    py::dict row;
    row["name"] = text(node.name);
    row["op_type"] = text(node.op_type);
    row["domain"] = text(node.domain);
    row["inputs"] = texts(node.inputs);
    row["outputs"] = texts(node.outputs);
    row["path"] = text(model.path(node.graph));
    nodes.append(row);
  }
  py::dict out;
  out["ir_version"] = model.ir_version;
  out["model_version"] = model.model_version;
  out["producer"] =
      model.producer_name + (model.producer_version.empty() ? "" : " ") + model.producer_version;
  out["domain"] = text(model.domain);
  out["graph_name"] = text(model.graph_name);
  out["doc"] = text(model.doc);
  py::list opsets;
  for (const auto& [domain, version] : model.opsets) {
    opsets.append(py::make_tuple(text(domain), version));
  }
  out["opsets"] = opsets;
  out["inputs"] = values(model.inputs);
  out["outputs"] = values(model.outputs);
  out["initializers"] = tensors(model.initializers);
  out["constants"] = tensors(model.constants);
  out["nodes"] = nodes;
  py::list metadata;
  for (const auto& [key, value] : model.metadata) {
    metadata.append(py::make_tuple(text(key), text(value)));
  }
  out["metadata"] = metadata;
  out["functions"] = model.function_count;
  py::list ops;
  for (const OpUse& use : model.foreign_ops()) {
    ops.append(py::make_tuple(text(use.domain), text(use.op), use.version));
  }
  out["ops"] = ops;
  return out;
}

py::dict read_model(const py::object& model) {
  OnnxModel scanned;
  if (py::isinstance<py::bytes>(model)) {
    auto data = py::reinterpret_borrow<py::bytes>(model);
    std::span<const std::byte> bytes = bytes_of(data);
    ReleaseGil release;
    scanned = read_onnx_model(bytes);
  } else {
    std::string path = path_of(model);
    ReleaseGil release;
    MappedFile file = MappedFile::open(path);
    scanned = read_onnx_model(file.bytes());
  }
  return describe_model(scanned);
}

py::dict pool_stats() {
  py::dict out = describe(host_pool()->stats());
  out["devices"] = gpu_pools();
  return out;
}

py::dict live_objects() {
  py::dict out;
  out["sessions"] = LiveCount::of(LiveKind::kSession);
  out["contexts"] = LiveCount::of(LiveKind::kContext);
  out["bindings"] = LiveCount::of(LiveKind::kBinding);
  out["futures"] = LiveCount::of(LiveKind::kFuture);
  out["buffers"] = host_pool()->stats().buffers;
  return out;
}

ort::Runtime& the_runtime() {
  ort::Runtime* rt = ort::runtime();
  if (rt == nullptr) {
    throw make_error(Code::kInternal, "using ONNX Runtime", "the library has not been opened",
                     "report this");
  }
  return *rt;
}

}  // namespace

std::unique_ptr<PySession> load_session(const py::object& model, const py::dict& options,
                                        const py::object& result_type) {
  ort::Options native = read_options(options);
  auto name = utf8(options["name"]);
  auto folder = utf8(options["folder"]);
  GilPolicy::Mode gil = parse_gil_mode(options["gil"].cast<std::string>());
  bool copy = options["copy"].cast<bool>();
  ort::Runtime& rt = the_runtime();
  std::shared_ptr<Session> session;
  try {
    if (py::isinstance<py::bytes>(model)) {
      auto data = py::reinterpret_borrow<py::bytes>(model);
      std::span<const std::byte> bytes = bytes_of(data);
      // The session may be destroyed on any thread.
      std::shared_ptr<const void> owner(data.release().ptr(), [](const void* object) {
        AcquireGil acquire;
        Py_DECREF(static_cast<PyObject*>(const_cast<void*>(object)));
      });
      ReleaseGil release;
      attach_gpu(&native);
      session = ort::load_bytes(rt, bytes, std::move(owner), name, folder, native);
    } else {
      std::string path = path_of(model);
      ReleaseGil release;
      attach_gpu(&native);
      session = ort::load_file(rt, path, native);
    }
  } catch (...) {
    drain_log();
    throw;
  }
  drain_log();
  return std::make_unique<PySession>(std::move(session), gil, copy, result_type);
}

void bind_load(py::module_& module) {
  using namespace py::literals;
  module.def(
      "open_onnxruntime",
      [](const std::string& path, int threads, bool spin) {
        ReleaseGil release;
        ort::open_runtime(path, threads, spin);
      },
      "path"_a, "threads"_a, "spin"_a);
  module.def("onnxruntime_info", []() -> py::object {
    ort::Runtime* rt = ort::runtime();
    if (rt == nullptr) return py::none();
    py::dict out;
    out["path"] = rt->path;
    out["version"] = rt->version;
    out["threads"] = rt->threads;
    out["providers"] = rt->providers();
    out["build"] = std::string(rt->api.GetBuildInfoString());
    return out;
  });
  module.def(
      "register_provider_library",
      [](const std::string& name, const std::string& path) {
        ReleaseGil release;
        ort::register_provider_library(the_runtime(), name, path);
      },
      "name"_a, "path"_a);
  module.def("read_model", &read_model, "model"_a);
  module.def("usable_cpus", &usable_cpus);
  module.def("pool_stats", &pool_stats,
             "Of the host's pool; `devices`: of each GPU in use, by its name, as in cuda_memory.");
  module.def(
      "trim_pool",
      [] {
        ReleaseGil release;
        host_pool()->trim();
        trim_gpu_pools();
      },
      "Gives memory that is kept for reuse back: the host's, and the device and pinned memory of "
      "each GPU in use. Any thread; models stay usable.");
  module.def("live_objects", &live_objects);
}

}  // namespace zerolane::bindings

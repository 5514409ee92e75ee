// SPDX-License-Identifier: Apache-2.0
#include "bindings/pipeline.h"

#include <utility>

#include "bindings/op.h"
#include "bindings/python_stage.h"
#include "bindings/text.h"
#include "cuda/device.h"
#include "runtime/pipeline.h"

namespace py = pybind11;

namespace zerolane::bindings {
namespace {

DType read_dtype(const py::handle& name) {
  const std::string given = utf8(name);
  if (given.empty()) return DType::kNone;
  const auto dtype = dtype_from_name(given);
  if (!dtype) {
    throw make_error(Code::kInvalidArgument, "reading a spec", "its dtype is '" + given + "'",
                     "use the names of NumPy and ml_dtypes, e.g. 'float32'", given);
  }
  return *dtype;
}

// A row (name, dtype or "", dimensions or None).
TensorSpec read_spec(const py::handle& row) {
  const auto fields = py::reinterpret_borrow<py::tuple>(row);
  TensorSpec spec;
  spec.name = utf8(fields[0]);
  spec.dtype = read_dtype(fields[1]);
  spec.type =
      "tensor(" + (spec.dtype == DType::kNone ? "any" : std::string(dtype_name(spec.dtype))) + ")";
  if (fields[2].is_none()) return spec;
  spec.has_shape = true;
  for (py::handle item : py::object(fields[2])) {
    Dim& dim = spec.shape.emplace_back();
    if (py::isinstance<py::str>(item)) {
      dim.symbol = utf8(item);
    } else if (!item.is_none()) {
      dim.value = item.cast<int64_t>();
    }
  }
  return spec;
}

std::vector<TensorSpec> read_specs(const py::handle& rows) {
  std::vector<TensorSpec> specs;
  for (py::handle row : rows) specs.push_back(read_spec(row));
  return specs;
}

StagePlan read_stage(const py::handle& row, const OpPlace& gpu) {
  StagePlan stage;
  stage.name = utf8(row["name"]);
  const py::object object = row["object"];
  const std::string kind = utf8(row["kind"]);
  if (kind == "op") {
    stage.kind = StageKind::kOp;
    stage.op = object.cast<PyOp&>().shared_state();
    const bool on_gpu = !row["on_cpu"].cast<bool>() && stage.op->entry().on_cuda();
    if (on_gpu) stage.place = gpu;
  } else if (kind == "python") {
    stage.kind = StageKind::kPython;
    stage.session = make_python_stage(object, stage.name, read_specs(row["input_specs"]),
                                      read_specs(row["output_specs"]));
  } else {
    auto& session = object.cast<PySession&>();
    session.check_fork();
    stage.kind = kind == "pipeline" ? StageKind::kPipeline : StageKind::kSession;
    stage.session = session.session();
  }
  for (py::handle source : row["inputs"]) {
    auto& input = stage.inputs.emplace_back();
    if (source.is_none()) continue;
    const auto pair = py::reinterpret_borrow<py::tuple>(source);
    input = TensorSource{pair[0].cast<int>(), pair[1].cast<size_t>()};
  }
  return stage;
}

py::list stats_of(const PySession& session) {
  py::list rows;
  const auto* pipeline = dynamic_cast<const Pipeline*>(session.session().get());
  if (pipeline == nullptr) {
    throw make_error(Code::kUnsupported, "reading the stages of " + session.session()->name(),
                     "it is no pipeline", "ask a zl.Pipeline", session.session()->name());
  }
  for (const StageStats& stage : pipeline->stats()) {
    py::dict row;
    row["name"] = text(stage.name);
    row["kind"] = stage_kind_name(stage.kind);
    row["count"] = stage.count;
    row["total_us"] = static_cast<double>(stage.total_ns) / 1e3;
    for (auto [name, fraction] :
         {std::pair{"p50_us", 0.5}, {"p90_us", 0.9}, {"p99_us", 0.99}, {"max_us", 1.0}}) {
      row[name] = static_cast<double>(stage.latency->percentile(fraction)) / 1e3;
    }
    rows.append(row);
  }
  return rows;
}

// Without our CUDA module, models on a GPU take and give memory of the host, and ops work there.
OpPlace gpu_of(int index) {
  if (index < 0) return {};
  try {
    cuda::CudaDevice& device = cuda::open_device(index);
    return {&device, device.tensor_pool()};
  } catch (const Error& error) {
    if (error.code() != Code::kUnavailable) throw;
    return {};
  }
}

}  // namespace

std::unique_ptr<PySession> load_pipeline(const py::dict& plan, py::object result_type) {
  PipelinePlan native;
  native.name = utf8(plan["name"]);
  native.gpu = gpu_of(plan["gpu"].cast<int>());
  for (py::handle row : plan["inputs"]) {
    TensorSpec spec = read_spec(row);
    native.inputs.push_back({spec.name, spec.dtype, spec.has_shape, spec.shape});
  }
  for (py::handle row : plan["stages"]) native.stages.push_back(read_stage(row, native.gpu));
  for (py::handle row : plan["outputs"]) {
    const auto fields = py::reinterpret_borrow<py::tuple>(row);
    native.outputs.push_back(
        {utf8(fields[0]), TensorSource{fields[1].cast<int>(), fields[2].cast<size_t>()}});
  }
  const GilPolicy::Mode gil = parse_gil_mode(utf8(plan["gil"]));
  const bool copy = plan["copy"].cast<bool>();
  std::shared_ptr<Pipeline> made;
  {
    ReleaseGil release;
    made = make_pipeline(std::move(native));
  }
  return std::make_unique<PySession>(std::move(made), gil, copy, std::move(result_type));
}

void bind_pipeline(py::module_& module) {
  using namespace py::literals;
  module.def("pipeline_stats", &stats_of, "pipeline"_a);
}

}  // namespace zerolane::bindings

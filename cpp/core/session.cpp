// SPDX-License-Identifier: Apache-2.0
#include "core/session.h"

#include <algorithm>

#include "core/error.h"

namespace zerolane {

void Context::request_output_on(size_t index, DeviceId device) {
  if (device.kind == DeviceKind::kHost) {
    request_output(index);
    return;
  }
  throw make_error(Code::kUnsupported, "asking for an output on " + device.text(),
                   "this backend gives results in memory of the host alone",
                   "ask for it there, and copy it");
}

bool TensorSpec::is_static() const {
  return has_shape &&
         std::all_of(shape.begin(), shape.end(), [](const Dim& d) { return d.value >= 0; });
}

std::string TensorSpec::shape_text() const {
  if (!has_shape) return "[...]";
  std::string text = "[";
  for (size_t i = 0; i < shape.size(); ++i) {
    if (i > 0) text += ", ";
    const Dim& dim = shape[i];
    text += dim.value >= 0 ? std::to_string(dim.value) : dim.symbol.empty() ? "?" : dim.symbol;
  }
  return text + "]";
}

void check_tensor(const TensorSpec& spec, DType dtype, const Shape& shape, const char* role,
                  const std::string& model) {
  auto doing = [&] { return std::string("binding ") + role + " '" + spec.name + "' of " + model; };
  if (spec.kind != ValueKind::kTensor) {
    throw make_error(Code::kInvalidArgument, doing(),
                     "an array was given where the model has a " + spec.type,
                     "give a list (sequence) or a dict (map)", spec.name);
  }
  if (dtype != spec.dtype) {
    throw make_error(Code::kInvalidArgument, doing(),
                     "dtype is " + std::string(dtype_name(dtype)) + ", expected " +
                         std::string(dtype_name(spec.dtype)),
                     "convert it, e.g. with .astype('" + std::string(dtype_name(spec.dtype)) + "')",
                     spec.name);
  }
  if (!spec.has_shape) return;
  bool fits = shape.rank() == spec.shape.size();
  for (size_t i = 0; fits && i < shape.rank(); ++i) {
    fits = spec.shape[i].value < 0 || spec.shape[i].value == shape[i];
  }
  if (!fits) {
    throw make_error(Code::kShapeMismatch, doing(),
                     "shape is " + shape.text() + ", expected " + spec.shape_text(),
                     shape.rank() == spec.shape.size() ? "give the fixed sizes as they are"
                                                       : "give as many dimensions as the model has",
                     spec.name);
  }
}

std::vector<PredictedShape> predict_outputs(const Session& session,
                                            const std::vector<const Shape*>& inputs) {
  const auto& specs = session.inputs();
  auto lookup = [&](const std::string& symbol) -> int64_t {
    if (symbol.empty()) return -1;
    for (size_t i = 0; i < specs.size() && i < inputs.size(); ++i) {
      if (inputs[i] == nullptr || specs[i].shape.size() != inputs[i]->rank()) continue;
      for (size_t d = 0; d < specs[i].shape.size(); ++d) {
        if (specs[i].shape[d].symbol == symbol) return (*inputs[i])[d];
      }
    }
    return -1;
  };
  std::vector<PredictedShape> predicted;
  for (const TensorSpec& spec : session.outputs()) {
    PredictedShape& entry = predicted.emplace_back();
    if (spec.kind != ValueKind::kTensor || spec.optional || !spec.has_shape ||
        !is_plain(spec.dtype) || spec.shape.size() > kMaxRank) {
      continue;
    }
    std::vector<int64_t> dims;
    for (const Dim& dim : spec.shape) {
      dims.push_back(dim.value >= 0 ? dim.value : lookup(dim.symbol));
    }
    if (std::find(dims.begin(), dims.end(), -1) != dims.end()) continue;
    entry.known = true;
    entry.shape = Shape(dims);
  }
  return predicted;
}

void Session::publish_metrics() {
  published_.push_back(metrics::publish("zerolane_runs_total", {{"model", name()}}, calls));
  published_.push_back(metrics::publish("zerolane_run_seconds", {{"model", name()}}, latency));
}

void count_failure(const Session& session, Code code) noexcept {
  try {
    metrics::count("zerolane_run_failures_total",
                   {{"model", session.name()}, {"code", code_name(code)}});
  } catch (...) {  // out of memory: the failure itself is what matters
  }
}

}  // namespace zerolane

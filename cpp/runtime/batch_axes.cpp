// SPDX-License-Identifier: Apache-2.0
#include "runtime/batch_axes.h"

#include "core/error.h"

namespace zerolane {
namespace {

[[noreturn]] void refuse(const Session& session, const std::string& found,
                         const std::string& remedy, const std::string& subject) {
  throw make_error(Code::kUnsupported, "joining requests of " + session.name(), found, remedy,
                   subject);
}

void check_plain(const Session& session, const TensorSpec& spec, const char* role) {
  if (spec.kind == ValueKind::kTensor && !spec.optional && is_plain(spec.dtype)) return;
  refuse(session, std::string(role) + " '" + spec.name + "' is a " + spec.type,
         "a batcher joins plain tensors only; call the session itself", spec.name);
}

int axis_named(const TensorSpec& spec, const std::string& name) {
  for (size_t i = 0; !name.empty() && i < spec.shape.size(); ++i) {
    if (spec.shape[i].value < 0 && spec.shape[i].symbol == name) return static_cast<int>(i);
  }
  return BatchAxes::kNone;
}

bool begins_open(const TensorSpec& spec) {
  return spec.has_shape && !spec.shape.empty() && spec.shape[0].value < 0;
}

}  // namespace

BatchAxes BatchAxes::of(const Session& session) {
  const auto& inputs = session.inputs();
  const auto& outputs = session.outputs();
  const TensorSpec* first = nullptr;
  for (size_t i = 0; i < session.required_inputs() && first == nullptr; ++i) {
    if (begins_open(inputs[i])) first = &inputs[i];
  }
  if (first == nullptr) {
    const std::string found = inputs.empty()
                                  ? "it has no inputs"
                                  : "no input begins with a dimension that is open ('" +
                                        inputs[0].name + "' is " + inputs[0].shape_text() + ")";
    refuse(session, found, "export it with a dynamic batch dimension",
           inputs.empty() ? session.name() : inputs[0].name);
  }
  BatchAxes axes;
  axes.name = first->shape[0].symbol;
  for (const TensorSpec& spec : inputs) {
    check_plain(session, spec, "input");
    int axis = axis_named(spec, axes.name);
    if (axes.name.empty() && begins_open(spec) && spec.shape[0].symbol.empty()) axis = 0;
    axes.inputs.push_back(axis);
  }
  for (const TensorSpec& spec : outputs) {
    check_plain(session, spec, "output");
    int axis = axis_named(spec, axes.name);
    // Shape inference often loses the name; each run looks whether there is a row for a row.
    if (axis == kNone && (!spec.has_shape || begins_open(spec))) axis = 0;
    if (axis == kNone) {
      refuse(session,
             "output '" + spec.name + "' " + spec.shape_text() + " has no batch dimension" +
                 (axes.name.empty() ? "" : " '" + axes.name + "'"),
             "requests that are joined could not be told apart there; call the session itself",
             spec.name);
    }
    axes.outputs.push_back(axis);
  }
  return axes;
}

}  // namespace zerolane

// SPDX-License-Identifier: Apache-2.0
#include "runtime/pipeline_specs.h"

#include <algorithm>
#include <map>
#include <utility>

#include "core/error.h"

namespace zerolane {
namespace {

std::string type_text(DType dtype) { return "tensor(" + std::string(dtype_name(dtype)) + ")"; }

// The pipeline's own names for dimensions.
class Symbols {
 public:
  // `stage` -1: the pipeline itself.
  std::string name_of(int stage, const std::string& stage_name, const std::string& symbol) {
    std::string& name = names_[{stage, symbol}];
    if (!name.empty()) return name;
    name = symbol;
    if (std::find(used_.begin(), used_.end(), name) != used_.end()) {
      name = stage_name + "." + symbol;
    }
    used_.push_back(name);
    return name;
  }

 private:
  std::map<std::pair<int, std::string>, std::string> names_;
  std::vector<std::string> used_;
};

struct Known {
  TensorSpec spec;
  bool data_decides = false;
};

class Follower {
 public:
  explicit Follower(PipelinePlan* plan) : plan_(*plan) {}

  PipelineSpecs follow() {
    for (size_t i = 0; i < plan_.inputs.size(); ++i) start_input(i);
    // What models want of the pipeline's inputs is known before any stage is followed.
    for (size_t s = 0; s < plan_.stages.size(); ++s) {
      const StagePlan& stage = plan_.stages[s];
      if (!stage.session) continue;
      for (size_t k = 0; k < stage.inputs.size(); ++k) {
        const auto& source = stage.inputs[k];
        if (source && source->stage == TensorSource::kPipelineInput) {
          meet(source->index, static_cast<int>(s), stage.session->inputs()[k]);
        }
      }
    }
    made_.resize(plan_.stages.size());
    for (size_t s = 0; s < plan_.stages.size(); ++s) {
      if (plan_.stages[s].op) make_op(s);
      follow_stage(static_cast<int>(s));
    }
    return finish();
  }

 private:
  const Known& known(const TensorSource& source) const {
    return source.stage == TensorSource::kPipelineInput
               ? inputs_[source.index]
               : made_[static_cast<size_t>(source.stage)][source.index];
  }
  std::string source_text(const TensorSource& source) const {
    const std::string& name = known(source).spec.name;
    if (source.stage == TensorSource::kPipelineInput) return "the pipeline's input '" + name + "'";
    return "output '" + name + "' of stage '" +
           plan_.stages[static_cast<size_t>(source.stage)].name + "'";
  }
  std::string input_text(const StagePlan& stage, const TensorSpec& spec) const {
    return "wiring input '" + spec.name + "' of stage '" + stage.name + "'";
  }

  void start_input(size_t index) {
    const PipelinePlan::Input& given = plan_.inputs[index];
    Known& made = inputs_.emplace_back();
    made.spec.name = given.name;
    made.spec.dtype = given.dtype;
    made.spec.has_shape = given.has_shape;
    made.spec.shape = given.shape;
    if (given.dtype != DType::kNone) made.spec.type = type_text(given.dtype);
    for (Dim& dim : made.spec.shape) {
      if (!dim.symbol.empty()) dim.symbol = symbols_.name_of(-1, "", dim.symbol);
    }
  }

  [[noreturn]] void refuse(Code code, const StagePlan& stage, const TensorSpec& wanted,
                           const std::string& from, const std::string& found,
                           const std::string& expected) const {
    throw make_error(code, input_text(stage, wanted) + " of pipeline " + plan_.name,
                     from + " is " + found + ", expected " + expected,
                     "put a stage between them that converts it, or wire another tensor",
                     stage.name);
  }

  // What a stage wants of an input of the pipeline is put into that input's spec.
  void meet(size_t index, int stage_index, const TensorSpec& wanted) {
    const StagePlan& stage = plan_.stages[static_cast<size_t>(stage_index)];
    TensorSpec& spec = inputs_[index].spec;
    const std::string from = "the pipeline's input '" + spec.name + "'";
    if (wanted.kind != ValueKind::kTensor || wanted.optional) {
      if (spec.type.empty()) {
        spec.kind = wanted.kind;
        spec.optional = wanted.optional;
        spec.dtype = wanted.dtype;
        spec.type = wanted.type;
      } else if (spec.type != wanted.type) {
        refuse(Code::kInvalidArgument, stage, wanted, from, "a " + spec.type, "a " + wanted.type);
      }
      return;
    }
    if (wanted.dtype != DType::kNone) {
      if (spec.type.empty()) {
        spec.dtype = wanted.dtype;
        spec.type = wanted.type.empty() ? type_text(wanted.dtype) : wanted.type;
      } else if (spec.dtype != wanted.dtype || spec.kind != ValueKind::kTensor) {
        refuse(Code::kInvalidArgument, stage, wanted, from, "a " + spec.type, "a " + wanted.type);
      }
    }
    if (!wanted.has_shape) return;
    if (!spec.has_shape) {
      spec.has_shape = true;
      for (const Dim& dim : wanted.shape) spec.shape.push_back(own_dim(stage_index, dim));
      return;
    }
    check_shape(stage, wanted, from, spec);
    for (size_t axis = 0; axis < spec.shape.size(); ++axis) {
      Dim& dim = spec.shape[axis];
      if (dim.value >= 0) continue;
      if (wanted.shape[axis].value >= 0 || dim.symbol.empty()) {
        dim = own_dim(stage_index, wanted.shape[axis]);
      }
    }
  }

  Dim own_dim(int stage, const Dim& dim) {
    Dim own = dim;
    if (dim.value < 0 && !dim.symbol.empty()) {
      own.symbol =
          symbols_.name_of(stage, plan_.stages[static_cast<size_t>(stage)].name, dim.symbol);
    }
    return own;
  }

  void check_shape(const StagePlan& stage, const TensorSpec& wanted, const std::string& from,
                   const TensorSpec& spec) const {
    if (!wanted.has_shape || !spec.has_shape) return;
    bool fits = spec.shape.size() == wanted.shape.size();
    for (size_t axis = 0; fits && axis < spec.shape.size(); ++axis) {
      const int64_t a = spec.shape[axis].value, b = wanted.shape[axis].value;
      fits = a < 0 || b < 0 || a == b;
    }
    if (!fits) {
      refuse(Code::kShapeMismatch, stage, wanted, from, spec.shape_text(), wanted.shape_text());
    }
  }

  // The element type that an op reads where nothing else says it: as another input of the same
  // type, or the first that the op knows.
  DType op_dtype(const StagePlan& stage, size_t input) const {
    const OpEntry& entry = stage.op->entry();
    if (entry.inputs.empty()) return DType::kFloat32;  // one input too many: refused by the op
    const size_t type = entry.input(input).type;
    for (size_t k = 0; k < stage.inputs.size(); ++k) {
      if (!stage.inputs[k] || entry.input(k).type != type) continue;
      const DType dtype = known(*stage.inputs[k]).spec.dtype;
      if (dtype != DType::kNone) return dtype;
    }
    return entry.types[type].front();
  }

  void make_op(size_t index) {
    StagePlan& stage = plan_.stages[index];
    const OpEntry& entry = stage.op->entry();
    std::vector<TensorSpec> given;
    for (size_t k = 0; k < stage.inputs.size(); ++k) {
      TensorSpec& spec = given.emplace_back();
      const auto& source = stage.inputs[k];
      spec.name = entry.inputs.empty() ? std::to_string(k) : entry.input(k).name;
      if (!source) continue;
      if (source->stage == TensorSource::kPipelineInput) {
        TensorSpec& input = inputs_[source->index].spec;
        if (input.dtype == DType::kNone) {
          input.dtype = op_dtype(stage, k);
          input.type = type_text(input.dtype);
        }
      }
      const TensorSpec& from = known(*source).spec;
      if (from.kind != ValueKind::kTensor || from.dtype == DType::kString) {
        refuse(Code::kUnsupported, stage, spec, source_text(*source), "a " + from.type,
               "a tensor of numbers, as ops take them");
      }
      // What a Python stage returns is known once it has; each run checks it.
      spec.dtype = from.dtype != DType::kNone ? from.dtype : op_dtype(stage, k);
      spec.has_shape = from.has_shape;
      spec.shape = from.shape;
      spec.type = type_text(spec.dtype);
    }
    try {
      stage.session = make_op_session(stage.op, std::move(given), stage.place);
    } catch (const Error& error) {
      throw Error(
          error.code(),
          "wiring stage '" + stage.name + "' of pipeline " + plan_.name + ": " + error.message(),
          stage.name);
    }
  }

  void follow_stage(int index) {
    const StagePlan& stage = plan_.stages[static_cast<size_t>(index)];
    const auto& specs = stage.session->inputs();
    const bool op = stage.op != nullptr;
    std::map<std::string, Dim> bound;  // the stage's names, and what they are in the pipeline
    bool data_decides = false;
    for (size_t k = 0; k < stage.inputs.size(); ++k) {
      const TensorSpec& wanted = specs[k];
      const auto& source = stage.inputs[k];
      if (!source) {
        if (!op && k < stage.session->required_inputs() && !wanted.optional) {
          throw make_error(
              Code::kInvalidArgument, "wiring stage '" + stage.name + "' of pipeline " + plan_.name,
              "its input '" + wanted.name + "' comes from nowhere",
              "wire it: zl.Stage(..., inputs={\"" + wanted.name + "\": ...})", stage.name);
        }
        continue;
      }
      const Known& from = known(*source);
      data_decides |= from.data_decides;
      if (!op) check_fit(stage, wanted, *source);
      if (!wanted.has_shape || !from.spec.has_shape) continue;
      for (size_t axis = 0; axis < wanted.shape.size(); ++axis) {
        const std::string& symbol = wanted.shape[axis].symbol;
        if (!symbol.empty()) bound.try_emplace(symbol, from.spec.shape[axis]);
      }
    }
    for (size_t k = 0; k < stage.session->outputs().size(); ++k) {
      const TensorSpec& spec = stage.session->outputs()[k];
      Known made{spec, false};
      for (Dim& dim : made.spec.shape) {
        if (dim.symbol.empty()) continue;
        // An op's specs are made of the pipeline's names already.
        const auto found = bound.find(dim.symbol);
        dim = found != bound.end() ? found->second : op ? dim : own_dim(index, dim);
      }
      const bool may_vary =
          data_decides || !stage.session->predictable(k) || (stage.kind == StageKind::kPython);
      made.data_decides = may_vary && !decided(made.spec);
      made_[static_cast<size_t>(index)].push_back(std::move(made));
    }
  }

  // Whether the shapes of the pipeline's inputs tell the shape of this tensor.
  bool decided(const TensorSpec& spec) const {
    if (!spec.has_shape) return false;
    return std::all_of(spec.shape.begin(), spec.shape.end(), [&](const Dim& dim) {
      if (dim.value >= 0) return true;
      if (dim.symbol.empty()) return false;
      return std::any_of(inputs_.begin(), inputs_.end(), [&](const Known& input) {
        return std::any_of(input.spec.shape.begin(), input.spec.shape.end(),
                           [&](const Dim& other) { return other.symbol == dim.symbol; });
      });
    });
  }

  void check_fit(const StagePlan& stage, const TensorSpec& wanted,
                 const TensorSource& source) const {
    const TensorSpec& from = known(source).spec;
    for (const TensorSpec* spec : {&wanted, &from}) {
      if (spec->kind == ValueKind::kSparse || spec->kind == ValueKind::kOpaque) {
        refuse(Code::kUnsupported, stage, wanted, source_text(source), "a " + from.type,
               "a " + wanted.type + "; sparse and opaque values do not pass between stages");
      }
    }
    if (stage.kind == StageKind::kPython && wanted.dtype == DType::kNone) return;
    const bool any = from.kind == ValueKind::kTensor && from.dtype == DType::kNone;
    if (!any && (from.kind != wanted.kind || from.dtype != wanted.dtype)) {
      refuse(Code::kInvalidArgument, stage, wanted, source_text(source), "a " + from.type,
             "a " + wanted.type);
    }
    check_shape(stage, wanted, source_text(source), from);
  }

  PipelineSpecs finish() {
    PipelineSpecs specs;
    for (const Known& input : inputs_) {
      if (input.spec.type.empty()) {
        throw make_error(
            Code::kInvalidArgument, "making pipeline " + plan_.name,
            "the element type of its input '" + input.spec.name +
                "' is not known, as only Python stages read it",
            "declare it: zl.Pipeline([...], inputs={\"" + input.spec.name + "\": \"uint8\"})",
            input.spec.name);
      }
      specs.inputs.push_back(input.spec);
    }
    for (const auto& output : plan_.outputs) {
      const Known& from = known(output.source);
      specs.outputs.push_back(from.spec);
      specs.outputs.back().name = output.name;
      specs.data_decides.push_back(from.data_decides);
    }
    return specs;
  }

  PipelinePlan& plan_;
  Symbols symbols_;
  std::vector<Known> inputs_;
  std::vector<std::vector<Known>> made_;  // outputs of each stage
};

}  // namespace

PipelineSpecs follow_specs(PipelinePlan* plan) { return Follower(plan).follow(); }

}  // namespace zerolane

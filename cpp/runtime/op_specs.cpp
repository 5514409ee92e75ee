// SPDX-License-Identifier: Apache-2.0
#include "runtime/op_specs.h"

#include <algorithm>
#include <optional>

#include "registry/call.h"
#include "registry/shapes.h"

namespace zerolane {
namespace {

// The most axes that an input of unknown rank is tried with.
constexpr size_t kMostTriedRank = 6;

// Runs the shape function on specs, and keeps the names of dimensions that it passes on.
class SpecShapes {
 public:
  explicit SpecShapes(const OpState& state) : state_(state) {}

  void run(const std::vector<TensorSpec>& inputs) {
    std::vector<OpShapes::Extents> extents;
    extents.reserve(inputs.size());
    for (const TensorSpec& input : inputs) extents.push_back(extents_of_spec(input));
    shapes_.run(state_, extents);
  }

  // False where the function did not set it.
  bool read(size_t index, std::vector<Dim>* dims, bool* counted) const {
    const OpShapes::Extents& output = shapes_.output(index);
    dims->clear();
    if (!output.present) return false;
    for (size_t axis = 0; axis < output.rank; ++axis) {
      const ZlDim dim = output.dims[axis];
      Dim& made = dims->emplace_back();
      if (OpShapes::is_number(dim)) {
        made.value = static_cast<int64_t>(dim);
      } else if (OpShapes::is_named(dim)) {
        made.symbol = names_[OpShapes::name_of(dim)];
      } else {
        *counted |= OpShapes::is_counted(dim);
      }
    }
    return true;
  }

 private:
  OpShapes::Extents extents_of_spec(const TensorSpec& spec) {
    OpShapes::Extents extents;
    extents.present = spec.dtype != DType::kNone;
    extents.rank = spec.shape.size();
    for (size_t axis = 0; axis < extents.rank; ++axis) {
      const Dim& dim = spec.shape[axis];
      extents.dims[axis] = dim.value >= 0       ? static_cast<ZlDim>(dim.value)
                           : dim.symbol.empty() ? OpShapes::kUnknown
                                                : named(dim.symbol);
    }
    return extents;
  }

  ZlDim named(const std::string& symbol) {
    const auto found = std::find(names_.begin(), names_.end(), symbol);
    const auto index = static_cast<uint32_t>(found - names_.begin());
    if (found == names_.end()) names_.push_back(symbol);
    return OpShapes::named(index);
  }

  const OpState& state_;
  OpShapes shapes_;
  std::vector<std::string> names_;
};

// What two answers agree on.
void agree(TensorSpec* spec, const std::vector<Dim>& other) {
  if (!spec->has_shape) return;
  if (spec->shape.size() != other.size()) {
    spec->has_shape = false;
    spec->shape.clear();
    return;
  }
  for (size_t axis = 0; axis < other.size(); ++axis) {
    Dim& dim = spec->shape[axis];
    if (dim.value != other[axis].value || dim.symbol != other[axis].symbol) dim = Dim{};
  }
}

}  // namespace

std::vector<TensorSpec> op_output_specs(const OpState& state, const std::vector<TensorSpec>& inputs,
                                        std::vector<bool>* counted) {
  const OpEntry& entry = state.entry();
  std::vector<OpInput> typed(inputs.size());
  std::optional<size_t> open;  // the input of unknown rank
  size_t open_count = 0;
  for (size_t i = 0; i < inputs.size(); ++i) {
    typed[i].dtype = inputs[i].dtype;
    typed[i].present = inputs[i].dtype != DType::kNone;
    if (typed[i].present && !inputs[i].has_shape) {
      open = i;
      ++open_count;
    }
  }
  std::vector<DType> types;
  resolve_types(state, typed, &types);
  std::vector<TensorSpec> outputs(entry.outputs.size());
  counted->assign(outputs.size(), false);
  for (size_t i = 0; i < outputs.size(); ++i) {
    TensorSpec& spec = outputs[i];
    spec.name = entry.outputs[i].name;
    spec.dtype = types[entry.outputs[i].type];
    spec.type = "tensor(" + std::string(dtype_name(spec.dtype)) + ")";
  }
  const auto take = [&](const SpecShapes& shapes, bool first) {
    std::vector<Dim> dims;
    for (size_t i = 0; i < outputs.size(); ++i) {
      bool data_decides = false;
      if (!shapes.read(i, &dims, &data_decides)) continue;
      (*counted)[i] = (*counted)[i] || data_decides;
      if (!first) {
        agree(&outputs[i], dims);
        continue;
      }
      outputs[i].has_shape = true;
      outputs[i].shape = dims;
    }
  };
  if (open_count == 0) {
    SpecShapes shapes(state);
    shapes.run(inputs);
    take(shapes, /*first=*/true);
    return outputs;
  }
  if (open_count > 1) return outputs;
  bool first = true;
  for (size_t rank = 0; rank <= kMostTriedRank; ++rank) {
    std::vector<TensorSpec> tried = inputs;
    tried[*open].has_shape = true;
    tried[*open].shape.assign(rank, Dim{});
    SpecShapes shapes(state);
    try {
      shapes.run(tried);
    } catch (const Error&) {
      continue;  // a rank that the op does not take
    }
    take(shapes, first);
    first = false;
  }
  return outputs;
}

}  // namespace zerolane

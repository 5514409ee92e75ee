// SPDX-License-Identifier: Apache-2.0
#include "ort/op_shapes.h"

#include <array>
#include <atomic>
#include <string>
#include <vector>

#include "registry/shapes.h"

namespace zerolane::ort {
namespace {

// The inputs' extents, with names for those that have one.
class KnownShapes {
 public:
  KnownShapes(const Runtime& rt, OrtShapeInferContext* context, const OpEntry& entry)
      : rt_(rt), context_(context), entry_(entry) {}

  // False where the rank of an input is not known.
  bool read() {
    size_t count = 0;
    ok(rt_.api.ShapeInferContext_GetInputCount(context_, &count));
    for (size_t i = 0; i < count; ++i) {
      if (!read_input(i)) return false;
    }
    return true;
  }

  const std::vector<OpShapes::Extents>& inputs() const { return inputs_; }
  const std::string& name(uint32_t index) const { return names_[index]; }
  // The element type of an output, as the inputs decide it.
  DType dtype_of(const OpEntry::Argument& output) const {
    const size_t by = entry_.decided_by[output.type];
    return by < dtypes_.size() && by < entry_.inputs.size() ? dtypes_[by]
                                                            : entry_.types[output.type].front();
  }

 private:
  void ok(OrtStatus* status) const {
    check(rt_, status, "inferring the shapes of op " + entry_.name, entry_.name);
  }

  bool read_input(size_t index) {
    OpShapes::Extents extents;
    OrtTensorTypeAndShapeInfo* info = nullptr;  // borrowed
    OrtStatus* status = rt_.api.ShapeInferContext_GetInputTypeShape(context_, index, &info);
    ONNXTensorElementDataType type = 0;
    if (status != nullptr) {
      rt_.api.ReleaseStatus(status);
    } else if (info != nullptr) {
      ok(rt_.api.GetTensorElementType(info, &type));
    }
    dtypes_.push_back(static_cast<DType>(type));
    if (type == 0) {  // an input that was left out
      inputs_.push_back(extents);
      return entry_.input(index).kind == kZlOptional;
    }
    extents.present = true;
    ok(rt_.api.GetDimensionsCount(info, &extents.rank));
    // An unknown rank reads as none, like that of a scalar.
    if (extents.rank == 0 || extents.rank > kMaxRank) return false;
    std::array<int64_t, kMaxRank> dims;
    std::array<const char*, kMaxRank> symbols{};
    ok(rt_.api.GetDimensions(info, dims.data(), extents.rank));
    ok(rt_.api.GetSymbolicDimensions(info, symbols.data(), extents.rank));
    for (size_t axis = 0; axis < extents.rank; ++axis) {
      const char* symbol = symbols[axis];
      extents.dims[axis] = dims[axis] >= 0                        ? static_cast<ZlDim>(dims[axis])
                           : symbol != nullptr && *symbol != '\0' ? named(symbol)
                                                                  : OpShapes::kUnknown;
    }
    inputs_.push_back(extents);
    return true;
  }

  ZlDim named(const char* symbol) {
    for (size_t i = 0; i < names_.size(); ++i) {
      if (names_[i] == symbol) return OpShapes::named(static_cast<uint32_t>(i));
    }
    names_.emplace_back(symbol);
    return OpShapes::named(static_cast<uint32_t>(names_.size() - 1));
  }

  const Runtime& rt_;
  OrtShapeInferContext* context_;
  const OpEntry& entry_;
  std::vector<OpShapes::Extents> inputs_;
  std::vector<DType> dtypes_;
  std::vector<std::string> names_;
};

}  // namespace

void infer_shapes(const Runtime& rt, const OpState& state, OrtShapeInferContext* context) {
  const Api& api = rt.api;
  const OpEntry& entry = state.entry();
  KnownShapes known(rt, context, entry);
  // Without ranks the library infers types alone, from the records.
  if (!known.read()) return;
  OpShapes shapes;
  shapes.run(state, known.inputs());
  const std::string doing = "inferring the shapes of op " + entry.name;
  for (size_t i = 0; i < entry.outputs.size(); ++i) {
    const OpShapes::Extents& output = shapes.output(i);
    if (!output.present) continue;
    Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
    std::array<int64_t, kMaxRank> dims;
    std::array<const char*, kMaxRank> symbols;
    std::array<std::string, kMaxRank> unknown;
    for (size_t axis = 0; axis < output.rank; ++axis) {
      const ZlDim dim = output.dims[axis];
      dims[axis] = OpShapes::is_number(dim) ? static_cast<int64_t>(dim) : -1;
      symbols[axis] = "";
      if (OpShapes::is_named(dim)) {
        symbols[axis] = known.name(OpShapes::name_of(dim)).c_str();
      } else if (!OpShapes::is_number(dim)) {
        static std::atomic<uint64_t> count{0};
        unknown[axis] = std::string(kUnknownExtent) + std::to_string(count.fetch_add(1));
        symbols[axis] = unknown[axis].c_str();
      }
    }
    check(rt, api.CreateTensorTypeAndShapeInfo(info.out()), doing, entry.name);
    check(rt,
          api.SetTensorElementType(info.get(),
                                   static_cast<int32_t>(known.dtype_of(entry.outputs[i]))),
          doing, entry.name);
    check(rt, api.SetDimensions(info.get(), dims.data(), output.rank), doing, entry.name);
    check(rt, api.SetSymbolicDimensions(info.get(), symbols.data(), output.rank), doing,
          entry.name);
    // The library refuses outputs that the node does not have.
    OrtStatus* status = api.ShapeInferContext_SetOutputTypeShape(context, i, info.get());
    if (status != nullptr) api.ReleaseStatus(status);
  }
}

}  // namespace zerolane::ort

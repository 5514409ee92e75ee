// SPDX-License-Identifier: Apache-2.0
#include "ort/values.h"

#include <algorithm>
#include <utility>

#include "ort/op_shapes.h"

namespace zerolane::ort {
namespace {

const std::string kReading = "reading an output";
const std::string kWriting = "handing an input to ONNX Runtime";

struct TensorMeta {
  DType dtype;
  Shape shape;
};

TensorMeta read_meta(const Runtime& rt, const OrtValue* value) {
  Handle<OrtTensorTypeAndShapeInfo> info(rt.api.ReleaseTensorTypeAndShapeInfo);
  check(rt, rt.api.GetTensorTypeAndShape(value, info.out()), kReading, "");
  ONNXTensorElementDataType type = 0;
  size_t rank = 0;
  check(rt, rt.api.GetTensorElementType(info.get(), &type), kReading, "");
  check(rt, rt.api.GetDimensionsCount(info.get(), &rank), kReading, "");
  std::vector<int64_t> dims(rank);
  check(rt, rt.api.GetDimensions(info.get(), dims.data(), rank), kReading, "");
  return {static_cast<DType>(type), Shape(dims)};
}

Strings read_strings(const Runtime& rt, const OrtValue* value, const Shape& shape) {
  size_t count = shape.count();
  Strings strings{shape, std::vector<std::string>(count)};
  if (count == 0) return strings;
  size_t bytes = 0;
  check(rt, rt.api.GetStringTensorDataLength(value, &bytes), kReading, "");
  std::string all(bytes, '\0');
  std::vector<size_t> offsets(count);
  check(rt, rt.api.GetStringTensorContent(value, all.data(), bytes, offsets.data(), count),
        kReading, "");
  for (size_t i = 0; i < count; ++i) {
    size_t end = i + 1 < count ? offsets[i + 1] : bytes;
    strings.items[i] = all.substr(offsets[i], end - offsets[i]);
  }
  return strings;
}

Value read_tensor(const Runtime& rt, ValueHandle value, DeviceId device = {}) {
  TensorMeta meta = read_meta(rt, value.get());
  if (meta.dtype == DType::kString) return read_strings(rt, value.get(), meta.shape);
  void* data = nullptr;
  check(rt, rt.api.GetTensorMutableData(value.get(), &data), kReading, "");
  const Runtime* runtime = &rt;
  std::shared_ptr<void> owner(value.take(), [runtime](void* object) {
    runtime->api.ReleaseValue(static_cast<OrtValue*>(object));
  });
  return Tensor(std::make_shared<Storage>(data, device, std::move(owner)), meta.dtype, meta.shape);
}

ValueHandle element(const Runtime& rt, const OrtValue* value, int index) {
  ValueHandle item(rt.api.ReleaseValue);
  check(rt, rt.api.GetValue(value, index, rt.allocator, item.out()), kReading, "");
  return item;
}

Map read_map(const Runtime& rt, const OrtValue* value) {
  Map map;
  Value keys = read_tensor(rt, element(rt, value, 0));
  if (auto* strings = std::get_if<Strings>(&keys)) {
    map.keys = std::move(strings->items);
  } else {
    const Tensor& tensor = std::get<Tensor>(keys);
    auto data = static_cast<const int64_t*>(tensor.data());
    map.keys = std::vector<int64_t>(data, data + tensor.shape().count());
  }
  map.values.push_back(read_tensor(rt, element(rt, value, 1)));
  return map;
}

ValueHandle make_strings(const Runtime& rt, const Strings& strings) {
  ValueHandle value(rt.api.ReleaseValue);
  check(rt,
        rt.api.CreateTensorAsOrtValue(rt.allocator, strings.shape.data(), strings.shape.rank(),
                                      static_cast<int32_t>(DType::kString), value.out()),
        kWriting, "");
  for (size_t i = 0; i < strings.items.size(); ++i) {
    // By buffer and length: the plain fill stops at a NUL byte.
    const std::string& text = strings.items[i];
    char* buffer = nullptr;
    check(rt, rt.api.GetResizedStringTensorElementBuffer(value.get(), i, text.size(), &buffer),
          kWriting, "");
    std::copy(text.begin(), text.end(), buffer);
  }
  return value;
}

ValueHandle combine(const Runtime& rt, const std::vector<ValueHandle>& parts, ONNXType type) {
  std::vector<const OrtValue*> raw;
  raw.reserve(parts.size());
  for (const auto& part : parts) raw.push_back(part.get());
  ValueHandle value(rt.api.ReleaseValue);
  check(rt, rt.api.CreateValue(raw.data(), raw.size(), type, value.out()), kWriting, "");
  return value;
}

ValueHandle make_map(const Runtime& rt, const Map& map) {
  std::vector<ValueHandle> parts;
  if (auto* names = std::get_if<std::vector<std::string>>(&map.keys)) {
    parts.push_back(make_strings(rt, {Shape{static_cast<int64_t>(names->size())}, *names}));
  } else {
    auto& numbers = std::get<std::vector<int64_t>>(map.keys);
    View view{const_cast<int64_t*>(numbers.data()),
              DType::kInt64,
              {},
              Shape{static_cast<int64_t>(numbers.size())}};
    parts.push_back(wrap_view(rt, view));
  }
  parts.push_back(to_ort(rt, map.values.at(0)));
  return combine(rt, parts, kOnnxMap);
}

std::string tensor_type(DType dtype) { return "tensor(" + std::string(dtype_name(dtype)) + ")"; }

void read_tensor_info(const Runtime& rt, const OrtTensorTypeAndShapeInfo* info, TensorSpec* spec) {
  const std::string doing = "reading the type of '" + spec->name + "'";
  ONNXTensorElementDataType type = 0;
  check(rt, rt.api.GetTensorElementType(info, &type), doing, spec->name);
  spec->dtype = static_cast<DType>(type);
  spec->type = tensor_type(spec->dtype);
  size_t rank = 0;
  check(rt, rt.api.GetDimensionsCount(info, &rank), doing, spec->name);
  std::vector<int64_t> dims(rank);
  std::vector<const char*> symbols(rank);
  check(rt, rt.api.GetDimensions(info, dims.data(), rank), doing, spec->name);
  check(rt, rt.api.GetSymbolicDimensions(info, symbols.data(), rank), doing, spec->name);
  // Before 1.24 the interface cannot tell a scalar from an unknown rank: leave the check to the
  // library.
  spec->has_shape = rt.api.TensorTypeAndShape_HasShape != nullptr
                        ? rt.api.TensorTypeAndShape_HasShape(info)
                        : rank > 0;
  for (size_t i = 0; i < rank; ++i) {
    const std::string symbol = symbols[i] != nullptr ? symbols[i] : "";
    spec->shape.push_back({dims[i], symbol.starts_with(kUnknownExtent) ? "" : symbol});
  }
}

}  // namespace

ValueHandle wrap_view(const Runtime& rt, const View& view, const OrtMemoryInfo* place) {
  static char nothing = 0;  // the library wants an address even for no bytes
  ValueHandle value(rt.api.ReleaseValue);
  check(rt,
        rt.api.CreateTensorWithDataAsOrtValue(place != nullptr ? place : rt.cpu,
                                              view.data != nullptr ? view.data : &nothing,
                                              view.bytes(), view.shape.data(), view.shape.rank(),
                                              static_cast<int32_t>(view.dtype), value.out()),
        kWriting, "");
  return value;
}

ValueHandle to_ort(const Runtime& rt, const Value& value) {
  if (auto* tensor = std::get_if<Tensor>(&value)) return wrap_view(rt, tensor->view());
  if (auto* strings = std::get_if<Strings>(&value)) return make_strings(rt, *strings);
  if (auto* map = std::get_if<Map>(&value)) return make_map(rt, *map);
  if (auto* sequence = std::get_if<Sequence>(&value)) {
    if (sequence->items.empty()) {
      throw make_error(Code::kUnsupported, kWriting,
                       "the sequence is empty, which ONNX Runtime's C interface cannot express",
                       "give at least one element");
    }
    std::vector<ValueHandle> parts;
    for (const Value& item : sequence->items) parts.push_back(to_ort(rt, item));
    return combine(rt, parts, kOnnxSequence);
  }
  throw make_error(Code::kInvalidArgument, kWriting, "there is no value", "give an array");
}

Value from_ort(const Runtime& rt, ValueHandle value, DeviceId device) {
  int has_value = 0;
  if (value.get() == nullptr) return {};
  check(rt, rt.api.HasValue(value.get(), &has_value), kReading, "");
  if (has_value == 0) return {};
  ONNXType type = 0;
  check(rt, rt.api.GetValueType(value.get(), &type), kReading, "");
  switch (type) {
    case kOnnxTensor:
      return read_tensor(rt, std::move(value), device);
    case kOnnxMap:
      return read_map(rt, value.get());
    case kOnnxSequence: {
      Sequence sequence;
      size_t count = 0;
      check(rt, rt.api.GetValueCount(value.get(), &count), kReading, "");
      for (size_t i = 0; i < count; ++i) {
        sequence.items.push_back(from_ort(rt, element(rt, value.get(), static_cast<int>(i))));
      }
      return sequence;
    }
    default:
      throw make_error(Code::kUnsupported, kReading,
                       "its type is number " + std::to_string(type) +
                           " (sparse tensors and opaque values cannot be handed out)",
                       "convert it inside the model");
  }
}

TensorSpec read_spec(const Runtime& rt, std::string name, const OrtTypeInfo* info) {
  TensorSpec spec;
  spec.name = std::move(name);
  const std::string doing = "reading the type of '" + spec.name + "'";
  ONNXType type = 0;
  check(rt, rt.api.GetOnnxTypeFromTypeInfo(info, &type), doing, spec.name);
  switch (type) {
    case kOnnxTensor: {
      const OrtTensorTypeAndShapeInfo* tensor = nullptr;
      check(rt, rt.api.CastTypeInfoToTensorInfo(info, &tensor), doing, spec.name);
      read_tensor_info(rt, tensor, &spec);
      break;
    }
    case kOnnxSequence: {
      const OrtSequenceTypeInfo* sequence = nullptr;
      Handle<OrtTypeInfo> item(rt.api.ReleaseTypeInfo);
      check(rt, rt.api.CastTypeInfoToSequenceTypeInfo(info, &sequence), doing, spec.name);
      check(rt, rt.api.GetSequenceElementType(sequence, item.out()), doing, spec.name);
      TensorSpec inner = read_spec(rt, spec.name, item.get());
      spec.kind = ValueKind::kSequence;
      spec.dtype = inner.dtype;
      spec.type = "sequence(" + inner.type + ")";
      break;
    }
    case kOnnxMap: {
      const OrtMapTypeInfo* map = nullptr;
      Handle<OrtTypeInfo> item(rt.api.ReleaseTypeInfo);
      ONNXTensorElementDataType key = 0;
      check(rt, rt.api.CastTypeInfoToMapTypeInfo(info, &map), doing, spec.name);
      check(rt, rt.api.GetMapKeyType(map, &key), doing, spec.name);
      check(rt, rt.api.GetMapValueType(map, item.out()), doing, spec.name);
      TensorSpec inner = read_spec(rt, spec.name, item.get());
      spec.kind = ValueKind::kMap;
      spec.dtype = inner.dtype;
      spec.type =
          "map(" + std::string(dtype_name(static_cast<DType>(key))) + ", " + inner.type + ")";
      break;
    }
    case kOnnxOptional: {
      const OrtOptionalTypeInfo* optional = nullptr;
      Handle<OrtTypeInfo> item(rt.api.ReleaseTypeInfo);
      check(rt, rt.api.CastTypeInfoToOptionalTypeInfo(info, &optional), doing, spec.name);
      check(rt, rt.api.GetOptionalContainedTypeInfo(optional, item.out()), doing, spec.name);
      TensorSpec inner = read_spec(rt, spec.name, item.get());
      inner.optional = true;
      inner.type = "optional(" + inner.type + ")";
      return inner;
    }
    case kOnnxSparseTensor:
      spec.kind = ValueKind::kSparse;
      spec.type = "sparse_tensor";
      break;
    default:
      spec.kind = ValueKind::kOpaque;
      spec.type = "opaque";
  }
  return spec;
}

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#include "ort/guard_op.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <span>
#include <string>

#include "core/dtype.h"
#include "core/shape.h"
#include "ort/guard.h"

namespace zerolane::ort {
namespace {

// The library hands callbacks no user data, so the one runtime of the process is found here.
const Runtime* g_rt = nullptr;

struct GuardKernel {
  std::string what;
  GuardCheck check;
  bool has_other = false;
};

struct Input {
  const OrtValue* value = nullptr;
  DType dtype = DType::kNone;
  Shape shape;
  const void* data = nullptr;
};

// Runs the body of a callback; an exception becomes a status, none leaves.
template <typename Body>
OrtStatus* guarded(Body body) noexcept {
  try {
    body();
    return nullptr;
  } catch (const std::exception& error) {
    return g_rt->api.CreateStatus(kOrtInvalidArgument, error.what());
  }
}

void ok(OrtStatus* status) { check(*g_rt, status, "checking an operator's input", "guard"); }

std::string read_text(const OrtKernelInfo* info, const char* name) {
  size_t size = 0;
  // The first call only asks for the size; some releases report that as an error.
  OrtStatus* status = g_rt->api.KernelInfoGetAttribute_string(info, name, nullptr, &size);
  if (status != nullptr) g_rt->api.ReleaseStatus(status);
  std::string text(size, '\0');
  ok(g_rt->api.KernelInfoGetAttribute_string(info, name, text.data(), &size));
  return std::string(text.c_str());
}

int64_t read_int(const OrtKernelInfo* info, const char* name) {
  int64_t value = 0;
  ok(g_rt->api.KernelInfoGetAttribute_int64(info, name, &value));
  return value;
}

template <bool kHasOther>
OrtStatus* create(const OrtCustomOp*, const void*, const OrtKernelInfo* info, void** kernel) {
  return guarded([&] {
    auto made = std::make_unique<GuardKernel>();
    made->what = read_text(info, "what");
    made->check = {static_cast<GuardRule>(read_int(info, "rule")), read_int(info, "argument"),
                   read_int(info, "detail"), read_int(info, "rank")};
    made->has_other = kHasOther;
    *kernel = made.release();
  });
}

Input read_input(OrtKernelContext* context, size_t index, const GuardKernel& kernel) {
  const Api& api = g_rt->api;
  Input input;
  ok(api.KernelContext_GetInput(context, index, &input.value));
  Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
  ok(api.GetTensorTypeAndShape(input.value, info.out()));
  size_t rank = 0;
  ONNXTensorElementDataType type = 0;
  std::array<int64_t, kMaxRank> dims;
  ok(api.GetDimensionsCount(info.get(), &rank));
  ok(api.GetTensorElementType(info.get(), &type));
  if (rank > kMaxRank) {
    throw Error(Code::kUnsupported, std::string(kGuardMark) + kernel.what + " has rank " +
                                        std::to_string(rank) + ", at most " +
                                        std::to_string(kMaxRank) + " is supported");
  }
  ok(api.GetDimensions(info.get(), dims.data(), rank));
  input.dtype = static_cast<DType>(type);
  input.shape = Shape(std::span<const int64_t>(dims.data(), rank));
  void* data = nullptr;
  ok(api.GetTensorMutableData(const_cast<OrtValue*>(input.value), &data));
  input.data = data;
  return input;
}

template <typename Int>
std::span<const Int> values(const Input& input) {
  return {static_cast<const Int*>(input.data), input.shape.count()};
}

template <typename Int>
bool has_value(const Input& input, Int value) {
  return std::ranges::find(values<Int>(input), value) != values<Int>(input).end();
}

// Whether some quotient of the broadcast tensors overflows: that of the smallest integer by -1.
template <typename Int>
bool overflows(const Input& below, const Input& above) {
  constexpr Int kSmallest = std::numeric_limits<Int>::min();
  if (!has_value<Int>(below, -1) || !has_value<Int>(above, kSmallest)) return false;
  const size_t rank = std::max(below.shape.rank(), above.shape.rank());
  // Extent of an axis counted from the last; 1 where a tensor has fewer.
  const auto extent = [](const Shape& shape, size_t axis) {
    return axis < shape.rank() ? shape[shape.rank() - 1 - axis] : 1;
  };
  std::array<int64_t, kMaxRank> at{};
  const auto value = [&](const Input& input) {
    size_t offset = 0, stride = 1;
    for (size_t axis = 0; axis < input.shape.rank(); ++axis) {
      const auto length = static_cast<size_t>(extent(input.shape, axis));
      if (length > 1) offset += stride * static_cast<size_t>(at[axis]);
      stride *= length;
    }
    return values<Int>(input)[offset];
  };
  for (size_t axis = 0; axis < rank; ++axis) {
    const int64_t a = extent(below.shape, axis), b = extent(above.shape, axis);
    if (a != b && a != 1 && b != 1) return false;  // the library refuses these shapes
  }
  for (size_t axis = 0; axis < rank;) {
    if (value(below) == -1 && value(above) == kSmallest) return true;
    for (axis = 0; axis < rank; ++axis) {
      const int64_t length = std::max(extent(below.shape, axis), extent(above.shape, axis));
      if (++at[axis] < length) break;
      at[axis] = 0;
    }
  }
  return rank == 0;
}

bool passes(const GuardCheck& check, const Input& input, const Input* other) {
  switch (check.rule) {
    case GuardRule::kValueNonzero:
      if (input.dtype == DType::kInt32) return !has_value<int32_t>(input, 0);
      if (input.dtype == DType::kInt64) return !has_value<int64_t>(input, 0);
      return true;
    case GuardRule::kSameRank:
      return other != nullptr && input.shape.rank() == other->shape.rank();
    case GuardRule::kDivides:
      if (other == nullptr || input.dtype != other->dtype) return false;
      if (input.dtype == DType::kInt32) return !overflows<int32_t>(input, *other);
      if (input.dtype == DType::kInt64) return !overflows<int64_t>(input, *other);
      return true;
    default:
      return holds(check, input.shape.dims()).value_or(false) ||
             (other != nullptr && other->shape.count() == 0);
  }
}

[[noreturn]] void refuse(const GuardKernel& kernel, const Input& input) {
  const bool by_value =
      kernel.check.rule == GuardRule::kValueNonzero || kernel.check.rule == GuardRule::kDivides;
  std::string found = by_value ? " has a value that ends the process" : " has shape ";
  if (!by_value) found += input.shape.text();
  throw Error(Code::kInvalidArgument,
              std::string(kGuardMark) + kernel.what + found + ", expected " +
                  requirement(kernel.check) +
                  "; skip the call for such input (ONNX Runtime would end the process here)");
}

OrtStatus* compute(void* object, OrtKernelContext* context) {
  return guarded([&] {
    const Api& api = g_rt->api;
    const auto& kernel = *static_cast<GuardKernel*>(object);
    const Input input = read_input(context, 0, kernel);
    Input other;
    if (kernel.has_other) other = read_input(context, 1, kernel);
    if (!passes(kernel.check, input, kernel.has_other ? &other : nullptr)) refuse(kernel, input);
    OrtValue* output = nullptr;
    ok(api.KernelContext_GetOutput(context, 0, input.shape.data(), input.shape.rank(), &output));
    void* to = nullptr;
    ok(api.GetTensorMutableData(output, &to));
    // Usually the same memory: the alias map below lets the library share it.
    const size_t bytes = dtype_bytes(input.dtype, input.shape.count());
    if (input.data != to && bytes > 0) std::memcpy(to, input.data, bytes);
  });
}

OrtStatus* infer(const OrtCustomOp*, OrtShapeInferContext* context) {
  return guarded([&] {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // borrowed
    ok(g_rt->api.ShapeInferContext_GetInputTypeShape(context, 0, &info));
    // An unknown rank reads as none, and would be written as that of a scalar.
    size_t rank = 0;
    ok(g_rt->api.GetDimensionsCount(info, &rank));
    if (rank == 0) return;
    ok(g_rt->api.ShapeInferContext_SetOutputTypeShape(context, 0, info));
  });
}

size_t share_memory(int** inputs, int** outputs) {
  static int zero = 0;
  *inputs = &zero;
  *outputs = &zero;
  return 1;
}

template <bool kHasOther>
OrtCustomOp make_op() {
  OrtCustomOp op{};
  op.version = 18;
  op.GetName = [](const OrtCustomOp*) { return (kHasOther ? kGuardWithOp : kGuardOp).data(); };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };  // any
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = op.GetInputType;
  op.GetOutputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.KernelDestroy = [](void* kernel) { delete static_cast<GuardKernel*>(kernel); };
  // Two inputs of any type are written as one variadic input: releases before 1.22 take only one
  // input of open type.
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t {
    return kHasOther ? /*variadic*/ 2 : /*required*/ 0;
  };
  op.GetOutputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> OrtMemType {
    return kOrtMemTypeDefault;
  };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return kHasOther ? 2 : 1; };
  op.GetVariadicInputHomogeneity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicOutputMinArity = op.GetVariadicInputHomogeneity;
  op.GetVariadicOutputHomogeneity = op.GetVariadicInputHomogeneity;
  op.CreateKernelV2 = create<kHasOther>;
  op.KernelComputeV2 = compute;
  op.InferOutputShapeFn = infer;
  op.GetStartVersion = [](const OrtCustomOp*) { return 1; };
  op.GetEndVersion = [](const OrtCustomOp*) { return 2147483647; };
  op.GetMayInplace = share_memory;
  op.ReleaseMayInplace = [](int*, int*) {};
  op.GetAliasMap = share_memory;
  op.ReleaseAliasMap = [](int*, int*) {};
  return op;
}

OrtCustomOpDomain* make_domain(const Runtime& rt, bool compares) {
  static const OrtCustomOp require = make_op<false>();
  static const OrtCustomOp require_with = make_op<true>();
  g_rt = &rt;
  OrtCustomOpDomain* domain = nullptr;
  const std::string doing = "registering the guard operators";
  check(rt, rt.api.CreateCustomOpDomain(kGuardDomain.data(), &domain), doing, "guard");
  check(rt, rt.api.CustomOpDomain_Add(domain, &require), doing, "guard");
  if (compares) check(rt, rt.api.CustomOpDomain_Add(domain, &require_with), doing, "guard");
  return domain;
}

}  // namespace

OrtCustomOpDomain* guard_domain(const Runtime& rt, bool compares) {
  static OrtCustomOpDomain* const alone = make_domain(rt, false);
  static OrtCustomOpDomain* const both = make_domain(rt, true);
  return compares ? both : alone;
}

}  // namespace zerolane::ort

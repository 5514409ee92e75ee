// SPDX-License-Identifier: Apache-2.0
#include "ort/guard_op.h"

#include <array>
#include <cstring>
#include <exception>
#include <memory>
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
  GuardRule rule;
  int64_t argument;
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

OrtStatus* create(const OrtCustomOp*, const void*, const OrtKernelInfo* info, void** kernel) {
  return guarded([&] {
    auto made = std::make_unique<GuardKernel>();
    made->what = read_text(info, "what");
    made->rule = static_cast<GuardRule>(read_int(info, "rule"));
    made->argument = read_int(info, "argument");
    *kernel = made.release();
  });
}

OrtStatus* compute(void* object, OrtKernelContext* context) {
  return guarded([&] {
    const Api& api = g_rt->api;
    const auto& kernel = *static_cast<GuardKernel*>(object);
    const OrtValue* input = nullptr;
    ok(api.KernelContext_GetInput(context, 0, &input));
    Handle<OrtTensorTypeAndShapeInfo> info(api.ReleaseTensorTypeAndShapeInfo);
    ok(api.GetTensorTypeAndShape(input, info.out()));
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
    Shape shape(std::span<const int64_t>(dims.data(), rank));
    if (!holds(kernel.rule, kernel.argument, shape.dims())) {
      throw Error(Code::kInvalidArgument,
                  std::string(kGuardMark) + kernel.what + " has shape " + shape.text() +
                      ", expected " + requirement(kernel.rule, kernel.argument) +
                      "; skip the call for such input (ONNX Runtime would end the process here)");
    }
    OrtValue* output = nullptr;
    ok(api.KernelContext_GetOutput(context, 0, dims.data(), rank, &output));
    void* from = nullptr;
    void* to = nullptr;
    ok(api.GetTensorMutableData(const_cast<OrtValue*>(input), &from));
    ok(api.GetTensorMutableData(output, &to));
    // Usually the same memory: the alias map below lets the library share it.
    size_t bytes = dtype_bytes(static_cast<DType>(type), shape.count());
    if (from != to && bytes > 0) std::memcpy(to, from, bytes);
  });
}

OrtStatus* infer(const OrtCustomOp*, OrtShapeInferContext* context) {
  return guarded([&] {
    OrtTensorTypeAndShapeInfo* info = nullptr;  // borrowed
    ok(g_rt->api.ShapeInferContext_GetInputTypeShape(context, 0, &info));
    ok(g_rt->api.ShapeInferContext_SetOutputTypeShape(context, 0, info));
  });
}

size_t share_memory(int** inputs, int** outputs) {
  static int zero = 0;
  *inputs = &zero;
  *outputs = &zero;
  return 1;
}

OrtCustomOp make_op() {
  OrtCustomOp op{};
  op.version = 18;
  op.GetName = [](const OrtCustomOp*) { return kGuardOp.data(); };
  op.GetExecutionProviderType = [](const OrtCustomOp*) -> const char* { return nullptr; };
  op.GetInputType = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };  // any
  op.GetInputTypeCount = [](const OrtCustomOp*) -> size_t { return 1; };
  op.GetOutputType = op.GetInputType;
  op.GetOutputTypeCount = op.GetInputTypeCount;
  op.KernelDestroy = [](void* kernel) { delete static_cast<GuardKernel*>(kernel); };
  op.GetInputCharacteristic = [](const OrtCustomOp*, size_t) -> int32_t { return 0; };
  op.GetOutputCharacteristic = op.GetInputCharacteristic;
  op.GetInputMemoryType = [](const OrtCustomOp*, size_t) -> OrtMemType {
    return kOrtMemTypeDefault;
  };
  op.GetVariadicInputMinArity = [](const OrtCustomOp*) { return 1; };
  op.GetVariadicInputHomogeneity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputMinArity = op.GetVariadicInputMinArity;
  op.GetVariadicOutputHomogeneity = op.GetVariadicInputMinArity;
  op.CreateKernelV2 = create;
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

OrtCustomOpDomain* make_domain(const Runtime& rt) {
  static const OrtCustomOp op = make_op();
  g_rt = &rt;
  OrtCustomOpDomain* domain = nullptr;
  const std::string doing = "registering the guard operator";
  check(rt, rt.api.CreateCustomOpDomain(kGuardDomain.data(), &domain), doing, "guard");
  check(rt, rt.api.CustomOpDomain_Add(domain, &op), doing, "guard");
  return domain;
}

}  // namespace

OrtCustomOpDomain* guard_domain(const Runtime& rt) {
  static OrtCustomOpDomain* domain = make_domain(rt);
  return domain;
}

}  // namespace zerolane::ort

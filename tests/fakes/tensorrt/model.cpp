// SPDX-License-Identifier: Apache-2.0
#include "model.h"

#include <dlfcn.h>

#include <cstdlib>
#include <cstring>
#include <stdexcept>

#include "onnxruntime/types.h"
#include "tensorrt/types.h"

namespace fake {
namespace {

// The functions we use, by their index in the interface.
struct Api {
#define ZL_ORT(index, since, name, result, parameters) result(*name) parameters;
#include "onnxruntime/functions.inc"
#undef ZL_ORT
  OrtStatus* (*CreateEnv)(OrtLoggingLevel, const char*, OrtEnv**);
  OrtStatus* (*AddInitializer)(OrtSessionOptions*, const char*, const OrtValue*);
  OrtEnv* env;
  OrtMemoryInfo* memory;
};

void check(const Api& api, OrtStatus* status) {
  if (status == nullptr) return;
  std::string text = api.GetErrorMessage(status);
  api.ReleaseStatus(status);
  throw std::runtime_error(text);
}

const Api& open_api() {
  static const Api* api = [] {
    const char* path = std::getenv("ZEROLANE_FAKE_ONNXRUNTIME");
    void* library = ::dlopen(path != nullptr ? path : "libonnxruntime.so.1", RTLD_NOW | RTLD_LOCAL);
    void* get = library != nullptr ? ::dlsym(library, "OrtGetApiBase") : nullptr;
    if (get == nullptr) throw std::runtime_error("ZEROLANE_FAKE_ONNXRUNTIME names no library");
    struct ApiBase {
      const void* const* (*GetApi)(uint32_t);
      const char* (*GetVersionString)();
    };
    const void* const* table = reinterpret_cast<const ApiBase* (*)()>(get)()->GetApi(18);
    auto* out = new Api{};
#define ZL_ORT(index, since, name, result, parameters) \
  if ((since) <= 18) std::memcpy(&out->name, &table[index], sizeof(void*));
#include "onnxruntime/functions.inc"
#undef ZL_ORT
    std::memcpy(&out->CreateEnv, &table[3], sizeof(void*));
    std::memcpy(&out->AddInitializer, &table[150], sizeof(void*));
    check(*out, out->CreateEnv(4, "stand-in", &out->env));
    check(*out, out->CreateCpuMemoryInfo(1, 0, &out->memory));
    return out;
  }();
  return *api;
}

int32_t onnx_type(int32_t type) {
  using zerolane::trt::DataType;
  switch (static_cast<DataType>(type)) {
    case DataType::kFloat:
      return 1;
    case DataType::kHalf:
      return 10;
    case DataType::kInt8:
      return 3;
    case DataType::kInt32:
      return 6;
    case DataType::kBool:
      return 9;
    case DataType::kUint8:
      return 2;
    case DataType::kFp8:
      return 17;
    case DataType::kBf16:
      return 16;
    case DataType::kInt64:
      return 7;
    default:
      break;
  }
  throw std::runtime_error("no such element type");
}

int64_t element_bytes(int32_t type) {
  using zerolane::trt::DataType;
  switch (static_cast<DataType>(type)) {
    case DataType::kInt64:
      return 8;
    case DataType::kFloat:
    case DataType::kInt32:
      return 4;
    case DataType::kHalf:
    case DataType::kBf16:
      return 2;
    default:
      return 1;
  }
}

OrtValue* wrap(const Api& api, int32_t type, const std::vector<int64_t>& dims, const void* data) {
  OrtValue* value = nullptr;
  static char nothing;
  void* address = data != nullptr ? const_cast<void*>(data) : &nothing;
  check(api, api.CreateTensorWithDataAsOrtValue(api.memory, address,
                                                static_cast<size_t>(bytes_of(type, dims)),
                                                dims.data(), dims.size(), onnx_type(type), &value));
  return value;
}

}  // namespace

int64_t volume(const std::vector<int64_t>& dims) {
  int64_t count = 1;
  for (int64_t d : dims) count *= d;
  return count;
}

int64_t bytes_of(int32_t type, const std::vector<int64_t>& dims) {
  return element_bytes(type) * volume(dims);
}

struct Model::Held {
  OrtSession* session = nullptr;
  std::vector<OrtValue*> weights;
  std::vector<std::string> bytes;
};

Model::Model(const std::string& onnx, const std::map<std::string, NewWeights>& weights)
    : held_(new Held) {
  const Api& api = open_api();
  OrtSessionOptions* options = nullptr;
  check(api, api.CreateSessionOptions(&options));
  check(api, api.SetIntraOpNumThreads(options, 1));
  check(api, api.SetSessionLogSeverityLevel(options, 4));
  held_->bytes.reserve(weights.size());
  for (const auto& [name, weight] : weights) {
    held_->bytes.push_back(weight.bytes);
    held_->weights.push_back(wrap(api, weight.type, weight.dims, held_->bytes.back().data()));
    check(api, api.AddInitializer(options, name.c_str(), held_->weights.back()));
  }
  OrtStatus* status =
      api.CreateSessionFromArray(api.env, onnx.data(), onnx.size(), options, &held_->session);
  api.ReleaseSessionOptions(options);
  check(api, status);
}

Model::~Model() {
  const Api& api = open_api();
  if (held_->session != nullptr) api.ReleaseSession(held_->session);
  for (OrtValue* weight : held_->weights) api.ReleaseValue(weight);
  delete held_;
}

std::vector<ModelOutput> Model::run(const std::vector<ModelInput>& inputs,
                                    const std::vector<std::string>& outputs) const {
  const Api& api = open_api();
  struct Values {
    const Api& api;
    std::vector<OrtValue*> list;
    ~Values() {
      for (OrtValue* value : list) {
        if (value != nullptr) api.ReleaseValue(value);
      }
    }
  };
  Values in{api, {}};
  std::vector<const char*> in_names;
  std::vector<const char*> out_names;
  for (const ModelInput& input : inputs) {
    in.list.push_back(wrap(api, input.type, input.dims, input.data));
    in_names.push_back(input.name.c_str());
  }
  for (const std::string& name : outputs) out_names.push_back(name.c_str());
  Values out{api, std::vector<OrtValue*>(outputs.size())};
  OrtIoBinding* binding = nullptr;
  check(api, api.CreateIoBinding(held_->session, &binding));
  struct Release {
    const Api& api;
    OrtIoBinding* binding;
    ~Release() { api.ReleaseIoBinding(binding); }
  } release{api, binding};
  for (size_t i = 0; i < inputs.size(); ++i) {
    check(api, api.BindInput(binding, in_names[i], in.list[i]));
  }
  for (const char* name : out_names) check(api, api.BindOutputToDevice(binding, name, api.memory));
  OrtRunOptions* options = nullptr;
  check(api, api.CreateRunOptions(&options));
  OrtStatus* status = api.RunWithBinding(held_->session, options, binding);
  api.ReleaseRunOptions(options);
  check(api, status);
  OrtAllocator* allocator = nullptr;
  check(api, api.GetAllocatorWithDefaultOptions(&allocator));
  OrtValue** bound = nullptr;
  size_t count = 0;
  check(api, api.GetBoundOutputValues(binding, allocator, &bound, &count));
  for (size_t i = 0; i < count; ++i) out.list[i] = bound[i];
  check(api, api.AllocatorFree(allocator, bound));
  std::vector<ModelOutput> results;
  for (OrtValue* value : out.list) {
    OrtTensorTypeAndShapeInfo* info = nullptr;
    check(api, api.GetTensorTypeAndShape(value, &info));
    ModelOutput result;
    size_t rank = 0;
    check(api, api.GetDimensionsCount(info, &rank));
    result.dims.resize(rank);
    check(api, api.GetDimensions(info, result.dims.data(), rank));
    ONNXTensorElementDataType type = 0;
    check(api, api.GetTensorElementType(info, &type));
    api.ReleaseTensorTypeAndShapeInfo(info);
    void* data = nullptr;
    check(api, api.GetTensorMutableData(value, &data));
    int64_t size = type == 7 ? 8 : type == 1 || type == 6 ? 4 : type == 10 || type == 16 ? 2 : 1;
    result.bytes.assign(static_cast<const char*>(data),
                        static_cast<size_t>(size * volume(result.dims)));
    results.push_back(std::move(result));
  }
  return results;
}

}  // namespace fake

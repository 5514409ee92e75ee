// SPDX-License-Identifier: Apache-2.0
// A real ONNX Runtime (ZEROLANE_FAKE_ONNXRUNTIME: its path) that says it has the CUDA provider. The
// provider's work is done by the processor, on the memory of the stand-in for CUDA and in the order
// of the stream it is given: a run that is not ordered behind its producer computes wrong numbers.
// Like the real one it replays a graph number without looking at addresses; here that is counted as
// a violation instead.
#include <dlfcn.h>

#include <atomic>
#include <cstdlib>
#include <cstring>
#include <future>
#include <map>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "cuda/table.h"
#include "onnxruntime/types.h"

namespace {

using zerolane::cuda::MemoryKind;
using zerolane::cuda::NativeStream;
using zerolane::cuda::PointerInfo;
using zerolane::cuda::Table;

struct Real {
#define ZL_ORT(index, since, name, result, parameters) result(*name) parameters = nullptr;
#include "onnxruntime/functions.inc"
#undef ZL_ORT
};

struct Cuda {
  std::map<std::string, std::string> options;
  void* stream = nullptr;
  bool has_stream = false;
};

struct State {
  std::mutex mutex;
  Real real;
  std::vector<void*> table;
  std::string version;
  std::map<OrtSessionOptions*, Cuda> appended;
  std::map<const OrtSession*, Cuda> sessions;
  std::set<const OrtMemoryInfo*> cuda_infos;
  std::map<const OrtIoBinding*, std::map<std::string, std::vector<int64_t>>> bound;
  std::map<const OrtIoBinding*, const OrtSession*> binding_of;
  std::map<const OrtRunOptions*, std::string> graph_of;
  std::map<std::pair<const OrtSession*, std::string>, std::map<std::string, std::vector<int64_t>>>
      graphs;
  std::map<std::string, int64_t> counts;
  std::set<const OrtSession*> running;
};

State& state() {
  static auto* state = new State;
  return *state;
}

void count(const std::string& name) {
  std::lock_guard lock(state().mutex);
  ++state().counts[name];
}

const Table& cuda() {
  static const Table* table = [] {
    void* library = dlopen(std::getenv("ZEROLANE_CUDA_LIBRARY"), RTLD_NOW | RTLD_LOCAL);
    auto get = reinterpret_cast<zerolane::cuda::TableFunction>(
        dlsym(library, zerolane::cuda::kTableSymbol));
    return get();
  }();
  return *table;
}

bool on_device(const void* data) {
  PointerInfo info{};
  return cuda().pointer_info(0, data, &info) == 0 && info.kind == MemoryKind::kDevice;
}

OrtStatus* get_available_providers(char*** names, int* count) {
  char** list = nullptr;
  OrtStatus* status = state().real.GetAvailableProviders(&list, count);
  if (status != nullptr) return status;
  auto** all = new char*[static_cast<size_t>(*count) + 1];
  all[0] = strdup("CUDAExecutionProvider");
  for (int i = 0; i < *count; ++i) all[i + 1] = strdup(list[i]);
  status = state().real.ReleaseAvailableProviders(list, *count);
  *names = all;
  ++*count;
  return status;
}

OrtStatus* release_available_providers(char** names, int count) {
  for (int i = 0; i < count; ++i) std::free(names[i]);
  delete[] names;
  return nullptr;
}

OrtStatus* create_options(OrtCUDAProviderOptionsV2** options) {
  *options = reinterpret_cast<OrtCUDAProviderOptionsV2*>(new Cuda);
  return nullptr;
}

OrtStatus* update_options(OrtCUDAProviderOptionsV2* options, const char* const* keys,
                          const char* const* values, size_t count) {
  auto* cuda = reinterpret_cast<Cuda*>(options);
  for (size_t i = 0; i < count; ++i) cuda->options[keys[i]] = values[i];
  return nullptr;
}

OrtStatus* update_options_with_value(OrtCUDAProviderOptionsV2* options, const char* key,
                                     void* value) {
  if (std::strcmp(key, "user_compute_stream") != 0) count("violations.option");
  auto* cuda = reinterpret_cast<Cuda*>(options);
  cuda->stream = value;
  cuda->has_stream = true;
  return nullptr;
}

void release_options(OrtCUDAProviderOptionsV2* options) { delete reinterpret_cast<Cuda*>(options); }

OrtStatus* append(OrtSessionOptions* target, const OrtCUDAProviderOptionsV2* options) {
  std::lock_guard lock(state().mutex);
  state().appended[target] = *reinterpret_cast<const Cuda*>(options);
  return nullptr;
}

void note_session(const OrtSessionOptions* options, const OrtSession* session) {
  std::lock_guard lock(state().mutex);
  auto found = state().appended.find(const_cast<OrtSessionOptions*>(options));
  if (found == state().appended.end()) return;
  state().sessions[session] = found->second;
  state().appended.erase(found);
}

OrtStatus* create_session(const OrtEnv* env, const char* path, const OrtSessionOptions* options,
                          OrtSession** session) {
  OrtStatus* status = state().real.CreateSession(env, path, options, session);
  if (status == nullptr) note_session(options, *session);
  return status;
}

OrtStatus* create_session_from_array(const OrtEnv* env, const void* data, size_t bytes,
                                     const OrtSessionOptions* options, OrtSession** session) {
  OrtStatus* status = state().real.CreateSessionFromArray(env, data, bytes, options, session);
  if (status == nullptr) note_session(options, *session);
  return status;
}

void release_session(OrtSession* session) {
  {
    std::lock_guard lock(state().mutex);
    state().sessions.erase(session);
    std::erase_if(state().graphs, [&](const auto& row) { return row.first.first == session; });
  }
  state().real.ReleaseSession(session);
}

OrtStatus* create_memory_info(const char* name, OrtAllocatorType allocator, int device,
                              OrtMemType kind, OrtMemoryInfo** info) {
  if (std::strcmp(name, "Cuda") != 0) {
    return state().real.CreateMemoryInfo(name, allocator, device, kind, info);
  }
  OrtStatus* status = state().real.CreateCpuMemoryInfo(allocator, kind, info);
  std::lock_guard lock(state().mutex);
  if (status == nullptr) state().cuda_infos.insert(*info);
  return status;
}

void release_memory_info(OrtMemoryInfo* info) {
  {
    std::lock_guard lock(state().mutex);
    state().cuda_infos.erase(info);
  }
  state().real.ReleaseMemoryInfo(info);
}

bool is_cuda(const OrtMemoryInfo* info) {
  std::lock_guard lock(state().mutex);
  return state().cuda_infos.contains(info);
}

OrtStatus* memory_info_name(const OrtMemoryInfo* info, const char** name) {
  if (!is_cuda(info)) return state().real.MemoryInfoGetName(info, name);
  *name = "Cuda";
  return nullptr;
}

const OrtMemoryInfo* place(bool on_host) {
  static const OrtMemoryInfo* infos[2] = {};
  static std::once_flag once;
  std::call_once(once, [] {
    OrtMemoryInfo* made = nullptr;
    state().real.CreateCpuMemoryInfo(kOrtDeviceAllocator, kOrtMemTypeDefault, &made);
    infos[1] = made;
    create_memory_info("Cuda", kOrtDeviceAllocator, 0, kOrtMemTypeDefault, &made);
    infos[0] = made;
  });
  return infos[on_host ? 1 : 0];
}

// Numbers of 64 bits are read and left on the host, as shapes are; so are strings, lists and maps.
template <typename GetType>
OrtStatus* places(GetType get_type, const OrtSession* session, const OrtMemoryInfo** infos,
                  size_t count) {
  const Real& real = state().real;
  for (size_t i = 0; i < count; ++i) {
    OrtTypeInfo* type = nullptr;
    OrtStatus* status = get_type(session, i, &type);
    if (status != nullptr) return status;
    const OrtTensorTypeAndShapeInfo* tensor = nullptr;
    ONNXTensorElementDataType element = 0;
    if (OrtStatus* none = real.CastTypeInfoToTensorInfo(type, &tensor)) real.ReleaseStatus(none);
    if (tensor != nullptr) real.GetTensorElementType(tensor, &element);
    infos[i] = place(tensor == nullptr || element == 7 || element == 8);
    real.ReleaseTypeInfo(type);
  }
  return nullptr;
}

OrtStatus* input_places(const OrtSession* session, const OrtMemoryInfo** infos, size_t count) {
  return places(state().real.SessionGetInputTypeInfo, session, infos, count);
}

OrtStatus* output_places(const OrtSession* session, const OrtMemoryInfo** infos, size_t count) {
  return places(state().real.SessionGetOutputTypeInfo, session, infos, count);
}

OrtStatus* create_tensor(const OrtMemoryInfo* info, void* data, size_t bytes, const int64_t* dims,
                         size_t rank, ONNXTensorElementDataType type, OrtValue** value) {
  if (bytes > 0 && on_device(data) != is_cuda(info)) count("violations.memory");
  if (is_cuda(info)) info = place(true);
  return state().real.CreateTensorWithDataAsOrtValue(info, data, bytes, dims, rank, type, value);
}

void note_bound(const OrtIoBinding* binding, const char* name, const OrtValue* value) {
  const Real& real = state().real;
  std::vector<int64_t> facts;
  ONNXType kind = 0;
  OrtTensorTypeAndShapeInfo* info = nullptr;
  real.GetValueType(value, &kind);
  if (kind == kOnnxTensor && real.GetTensorTypeAndShape(value, &info) == nullptr) {
    size_t rank = 0;
    ONNXTensorElementDataType type = 0;
    real.GetTensorElementType(info, &type);
    real.GetDimensionsCount(info, &rank);
    facts.resize(rank);
    real.GetDimensions(info, facts.data(), rank);
    void* data = nullptr;
    if (type != 8) real.GetTensorMutableData(const_cast<OrtValue*>(value), &data);
    facts.push_back(reinterpret_cast<int64_t>(data));
    real.ReleaseTensorTypeAndShapeInfo(info);
  }
  std::lock_guard lock(state().mutex);
  state().bound[binding][name] = facts;
}

OrtStatus* bind_input(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  note_bound(binding, name, value);
  return state().real.BindInput(binding, name, value);
}

OrtStatus* bind_output(OrtIoBinding* binding, const char* name, const OrtValue* value) {
  note_bound(binding, name, value);
  return state().real.BindOutput(binding, name, value);
}

OrtStatus* bind_output_to_device(OrtIoBinding* binding, const char* name,
                                 const OrtMemoryInfo* info) {
  {
    std::lock_guard lock(state().mutex);
    state().bound[binding][name] = {-1};  // other memory each time
  }
  return state().real.BindOutputToDevice(binding, name, is_cuda(info) ? place(true) : info);
}

OrtStatus* add_run_config(OrtRunOptions* options, const char* key, const char* value) {
  {
    std::lock_guard lock(state().mutex);
    if (std::strcmp(key, "gpu_graph_id") == 0) state().graph_of[options] = value;
  }
  return state().real.AddRunConfigEntry(options, key, value);
}

void release_run_options(OrtRunOptions* options) {
  {
    std::lock_guard lock(state().mutex);
    state().graph_of.erase(options);
  }
  state().real.ReleaseRunOptions(options);
}

void release_binding(OrtIoBinding* binding) {
  {
    std::lock_guard lock(state().mutex);
    state().bound.erase(binding);
  }
  state().real.ReleaseIoBinding(binding);
}

void note_graph(const OrtSession* session, const OrtRunOptions* options,
                const OrtIoBinding* binding) {
  std::lock_guard lock(state().mutex);
  if (!state().running.insert(session).second) ++state().counts["violations.concurrent"];
  auto found = state().graph_of.find(options);
  std::string number = found == state().graph_of.end() ? "0" : found->second;
  if (number == "-1") return;
  auto& facts = state().bound[binding];
  for (const auto& [name, fact] : facts) {
    if (fact.empty() || !on_device(reinterpret_cast<void*>(fact.back()))) {
      ++state().counts["violations.graph_memory"];
    }
  }
  auto [graph, made] = state().graphs.try_emplace({session, number}, facts);
  ++state().counts[made ? "graphs" : "replays"];
  if (!made && graph->second != facts) ++state().counts["violations.graph"];
}

OrtStatus* run(OrtSession* session, const OrtRunOptions* options, const OrtIoBinding* binding) {
  Cuda provider;
  {
    std::lock_guard lock(state().mutex);
    auto found = state().sessions.find(session);
    if (found != state().sessions.end()) provider = found->second;
  }
  if (!provider.has_stream) return state().real.RunWithBinding(session, options, binding);
  count("runs");
  const bool graphs = provider.options["enable_cuda_graph"] == "1";
  if (graphs) note_graph(session, options, binding);
  std::promise<OrtStatus*> done;
  auto work = [&] { done.set_value(state().real.RunWithBinding(session, options, binding)); };
  using Work = decltype(work);
  int32_t status = cuda().launch_host(
      0, static_cast<NativeStream*>(provider.stream),
      [](void* argument) { (*static_cast<Work*>(argument))(); }, &work);
  OrtStatus* result = nullptr;
  if (status == 0) {
    result = done.get_future().get();
  } else {
    result = state().real.CreateStatus(1, cuda().error_text(status));
  }
  if (graphs) {
    std::lock_guard lock(state().mutex);
    state().running.erase(session);
  }
  return result;
}

struct Replacement {
  int index;
  void* function;
};

const void* get_api(uint32_t version);
const char* get_version() { return state().version.c_str(); }
OrtApiBase g_base = {get_api, get_version};

const OrtApiBase* real_base() {
  static const OrtApiBase* base = [] {
    void* library = dlopen(std::getenv("ZEROLANE_FAKE_ONNXRUNTIME"), RTLD_NOW | RTLD_LOCAL);
    auto get = reinterpret_cast<const OrtApiBase* (*)()>(dlsym(library, "OrtGetApiBase"));
    return get();
  }();
  return base;
}

const void* get_api(uint32_t version) {
  static std::once_flag once;
  std::call_once(once, [version] {
    auto slots = static_cast<void* const*>(real_base()->GetApi(version));
    State& all = state();
    int minor = std::atoi(all.version.c_str() + 2);
    size_t length = 0;
#define ZL_ORT(index, since, name, result, parameters)                    \
  if (minor >= (since)) {                                                 \
    all.real.name = reinterpret_cast<result(*) parameters>(slots[index]); \
    length = std::max<size_t>(length, (index) + 1);                       \
  }
#include "onnxruntime/functions.inc"
#undef ZL_ORT
    all.table.assign(slots, slots + length);
    std::map<std::string, void*> ours = {
        {"GetAvailableProviders", reinterpret_cast<void*>(get_available_providers)},
        {"ReleaseAvailableProviders", reinterpret_cast<void*>(release_available_providers)},
        {"CreateCUDAProviderOptions", reinterpret_cast<void*>(create_options)},
        {"UpdateCUDAProviderOptions", reinterpret_cast<void*>(update_options)},
        {"UpdateCUDAProviderOptionsWithValue", reinterpret_cast<void*>(update_options_with_value)},
        {"ReleaseCUDAProviderOptions", reinterpret_cast<void*>(release_options)},
        {"SessionOptionsAppendExecutionProvider_CUDA_V2", reinterpret_cast<void*>(append)},
        {"CreateSession", reinterpret_cast<void*>(create_session)},
        {"CreateSessionFromArray", reinterpret_cast<void*>(create_session_from_array)},
        {"ReleaseSession", reinterpret_cast<void*>(release_session)},
        {"CreateMemoryInfo", reinterpret_cast<void*>(create_memory_info)},
        {"ReleaseMemoryInfo", reinterpret_cast<void*>(release_memory_info)},
        {"MemoryInfoGetName", reinterpret_cast<void*>(memory_info_name)},
        {"SessionGetMemoryInfoForInputs", reinterpret_cast<void*>(input_places)},
        {"SessionGetMemoryInfoForOutputs", reinterpret_cast<void*>(output_places)},
        {"CreateTensorWithDataAsOrtValue", reinterpret_cast<void*>(create_tensor)},
        {"BindInput", reinterpret_cast<void*>(bind_input)},
        {"BindOutput", reinterpret_cast<void*>(bind_output)},
        {"BindOutputToDevice", reinterpret_cast<void*>(bind_output_to_device)},
        {"AddRunConfigEntry", reinterpret_cast<void*>(add_run_config)},
        {"ReleaseRunOptions", reinterpret_cast<void*>(release_run_options)},
        {"ReleaseIoBinding", reinterpret_cast<void*>(release_binding)},
        {"RunWithBinding", reinterpret_cast<void*>(run)},
    };
#define ZL_ORT(index, since, name, result, parameters) \
  if (minor >= (since) && ours.contains(#name)) all.table[index] = ours[#name];
#include "onnxruntime/functions.inc"
#undef ZL_ORT
    // Releases before 1.23 do not tell where inputs and outputs are; so can this one be told not
    // to.
    if (std::getenv("ZEROLANE_FAKE_NO_PLACES") != nullptr) {
      all.version = "1.22.0";
    }
  });
  return state().table.data();
}

}  // namespace

extern "C" {

__attribute__((visibility("default"))) const OrtApiBase* OrtGetApiBase() {
  State& all = state();
  if (all.version.empty()) {
    all.version = real_base()->GetVersionString();
    get_api(18);
  }
  return &g_base;
}

__attribute__((visibility("default"))) int64_t zerolane_fake_ort_get(const char* name) {
  std::lock_guard lock(state().mutex);
  auto found = state().counts.find(name);
  return found == state().counts.end() ? 0 : found->second;
}

}  // extern "C"

// SPDX-License-Identifier: Apache-2.0
#include "ort/options.h"

#include <algorithm>

#include "core/fork.h"

namespace zerolane::ort {
namespace {

struct KeyValues {
  std::vector<const char*> keys;
  std::vector<const char*> values;
  explicit KeyValues(const Pairs& pairs) {
    for (const auto& [key, value] : pairs) {
      keys.push_back(key.c_str());
      values.push_back(value.c_str());
    }
  }
};

// Providers with a record of their own in the C interface. `finish` sets what is no text.
template <typename Record, typename Create, typename Update, typename Append, typename Finish>
void append_with_record(const Runtime& rt, OrtSessionOptions* target, const Provider& provider,
                        const std::string& doing, Create create, Update update, Append append,
                        void (*release)(Record*), Finish finish) {
  Handle<Record> record(release);
  check(rt, create(record.out()), doing, provider.name);
  KeyValues options(provider.options);
  check(rt, update(record.get(), options.keys.data(), options.values.data(), options.keys.size()),
        doing, provider.name);
  finish(record.get());
  check(rt, append(target, record.get()), doing, provider.name);
}

// A provider of a plugin library, by the devices it reports. False if there is none of that name.
bool append_plugin(const Runtime& rt, OrtSessionOptions* target, const Provider& provider,
                   const std::string& doing) {
  if (rt.api.GetEpDevices == nullptr) return false;
  const OrtEpDevice* const* devices = nullptr;
  size_t count = 0;
  check(rt, rt.api.GetEpDevices(rt.env, &devices, &count), doing, provider.name);
  std::vector<const OrtEpDevice*> chosen;
  for (size_t i = 0; i < count; ++i) {
    if (provider.name == rt.api.EpDevice_EpName(devices[i])) chosen.push_back(devices[i]);
  }
  if (chosen.empty()) return false;
  KeyValues options(provider.options);
  check(rt,
        rt.api.SessionOptionsAppendExecutionProvider_V2(target, rt.env, chosen.data(),
                                                        chosen.size(), options.keys.data(),
                                                        options.values.data(), options.keys.size()),
        doing, provider.name);
  return true;
}

void append_provider(const Runtime& rt, OrtSessionOptions* target, const Provider& provider,
                     const Gpu* gpu) {
  const Api& api = rt.api;
  const std::string doing = "adding execution provider '" + provider.name + "'";
  if (append_plugin(rt, target, provider, doing)) return;
  std::vector<std::string> built_in = rt.providers();
  std::string full = provider.name + "ExecutionProvider";
  auto same = [&](const std::string& name) { return name == full || name == provider.name; };
  if (std::none_of(built_in.begin(), built_in.end(), same)) {
    std::string list;
    for (const auto& name : built_in) list += (list.empty() ? "" : ", ") + name;
    throw make_error(
        Code::kUnavailable, doing,
        "ONNX Runtime " + rt.version + " at '" + rt.path + "' has only: " + list,
        "install a build that has it (for CUDA: pip install onnxruntime-gpu), or allow "
        "fallback=True",
        provider.name);
  }
  if (provider.name == "CUDA") {
    append_with_record(rt, target, provider, doing, api.CreateCUDAProviderOptions,
                       api.UpdateCUDAProviderOptions,
                       api.SessionOptionsAppendExecutionProvider_CUDA_V2,
                       api.ReleaseCUDAProviderOptions, [&](OrtCUDAProviderOptionsV2* record) {
                         if (gpu == nullptr) return;
                         check(rt,
                               api.UpdateCUDAProviderOptionsWithValue(record, "user_compute_stream",
                                                                      gpu->stream->native_handle()),
                               doing, provider.name);
                       });
  } else if (provider.name == "Tensorrt" || provider.name == "TensorRT") {
    append_with_record(rt, target, provider, doing, api.CreateTensorRTProviderOptions,
                       api.UpdateTensorRTProviderOptions,
                       api.SessionOptionsAppendExecutionProvider_TensorRT_V2,
                       api.ReleaseTensorRTProviderOptions, [](OrtTensorRTProviderOptionsV2*) {});
  } else {
    KeyValues options(provider.options);
    auto keys = options.keys.data();
    auto values = options.values.data();
    check(rt,
          provider.name == "OpenVINO"
              ? api.SessionOptionsAppendExecutionProvider_OpenVINO_V2(target, keys, values,
                                                                      options.keys.size())
              : api.SessionOptionsAppendExecutionProvider(target, provider.name.c_str(), keys,
                                                          values, options.keys.size()),
          doing, provider.name);
  }
}

}  // namespace

bool Options::cuda_graphs() const {
  for (const Provider& provider : providers) {
    if (provider.name != "CUDA") continue;
    for (const auto& [key, value] : provider.options) {
      if (key == "enable_cuda_graph") return value == "1" || value == "true" || value == "True";
    }
  }
  return false;
}

Handle<OrtSessionOptions> make_session_options(const Runtime& rt, const Options& options,
                                               const std::string& model) {
  const Api& api = rt.api;
  const std::string doing = "setting options for " + model;
  Handle<OrtSessionOptions> handle(api.ReleaseSessionOptions);
  check(rt, api.CreateSessionOptions(handle.out()), doing, model);
  OrtSessionOptions* target = handle.get();
  auto set = [&](OrtStatus* status, const char* option) { check(rt, status, doing, option); };

  // The shared pool has no threads between operators, so parallel execution gets pools of its own;
  // and a forked child has no shared pool.
  if (options.threads == 0 && !options.parallel && !forked_since(rt.generation)) {
    set(api.DisablePerSessionThreads(target), "threads");
  } else {
    int threads = options.threads > 0 ? options.threads : rt.threads;
    set(api.SetIntraOpNumThreads(target, threads), "threads");
    set(api.SetInterOpNumThreads(target,
                                 options.inter_threads > 0 ? options.inter_threads : threads),
        "inter_threads");
    const char* spin = options.spin ? "1" : "0";
    set(api.AddSessionConfigEntry(target, "session.intra_op.allow_spinning", spin), "spin");
    set(api.AddSessionConfigEntry(target, "session.inter_op.allow_spinning", spin), "spin");
  }
  set(api.SetSessionGraphOptimizationLevel(target, options.graph_level), "graph_level");
  set(api.SetSessionExecutionMode(target, options.parallel ? 1 : 0), "execution_mode");
  set(options.arena ? api.EnableCpuMemArena(target) : api.DisableCpuMemArena(target), "arena");
  // Patterns are of no use to parallel execution; the library warns about the pair.
  set(options.memory_pattern && !options.parallel ? api.EnableMemPattern(target)
                                                  : api.DisableMemPattern(target),
      "memory_pattern");
  for (const auto& [name, size] : options.free_dimensions) {
    set(api.AddFreeDimensionOverrideByName(target, name.c_str(), size), "free_dimensions");
  }
  for (const auto& [key, value] : options.config) {
    set(api.AddSessionConfigEntry(target, key.c_str(), value.c_str()), "config");
  }
  if (!options.profile.empty())
    set(api.EnableProfiling(target, options.profile.c_str()), "profile");
  set(api.SetSessionLogSeverityLevel(target, options.log_level), "log_level");
  for (const Provider& provider : options.providers) {
    if (provider.name != "CPU") append_provider(rt, target, provider, options.gpu.get());
  }
  return handle;
}

void register_provider_library(const Runtime& rt, const std::string& name,
                               const std::string& path) {
  const std::string doing = "registering execution provider library '" + path + "'";
  if (rt.api.RegisterExecutionProviderLibrary == nullptr) {
    throw make_error(Code::kUnavailable, doing,
                     "ONNX Runtime is " + rt.version + ", plugin libraries need 1.22",
                     "pip install -U onnxruntime", name);
  }
  check(rt, rt.api.RegisterExecutionProviderLibrary(rt.env, name.c_str(), path.c_str()), doing,
        name);
}

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
// Calls a real TensorRT-RTX by the tables and prints what it answers, one "key=value" a line. No
// GPU or driver is needed. Arguments: the library, a model with the dynamic input x [N, 64], and a
// file that is no model.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <functional>
#include <iterator>
#include <mutex>
#include <string>
#include <vector>

#include "trt/library.h"

using namespace zerolane;
using namespace zerolane::trt;

namespace {

template <typename T>
void say(const std::string& key, const T& value) {
  if constexpr (std::is_enum_v<T>) {
    std::printf("%s=%lld\n", key.c_str(), static_cast<long long>(value));
  } else if constexpr (std::is_arithmetic_v<T>) {
    std::printf("%s=%s\n", key.c_str(), std::to_string(value).c_str());
  } else {
    std::printf("%s=%s\n", key.c_str(), std::string(value).c_str());
  }
}

std::string shape(const Dims& dims) {
  std::string out;
  for (int i = 0; i < dims.nbDims; ++i) out += (i != 0 ? "," : "") + std::to_string(dims.d[i]);
  return out;
}

std::string read(const char* path) {
  std::ifstream file(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(file), {}};
}

class Monitor final : public ProgressMonitor {
 public:
  explicit Monitor(int stop_after) : stop_after_(stop_after) {}
  void phaseStart(const char* phase, const char*, int32_t steps) noexcept override {
    std::lock_guard lock(mutex_);
    ++starts;
    announced += steps;
    if (phase == nullptr) ++nameless;
  }
  bool stepComplete(const char*, int32_t) noexcept override {
    std::lock_guard lock(mutex_);
    ++steps;
    return stop_after_ < 0 || steps < stop_after_;
  }
  void phaseFinish(const char*) noexcept override {
    std::lock_guard lock(mutex_);
    ++ends;
  }
  int starts = 0, steps = 0, ends = 0, announced = 0, nameless = 0;

 private:
  std::mutex mutex_;
  int stop_after_;
};

class Writer final : public StreamWriter {
 public:
  int64_t write(const void*, int64_t size) noexcept override {
    bytes += size;
    ++calls;
    return size;
  }
  int64_t bytes = 0, calls = 0;
};

struct Model {
  Owned<Builder> builder;
  Owned<NetworkDefinition> network;
  Owned<BuilderConfig> config;
  Owned<Parser> parser;
};

Model parse(Library& library, const std::function<bool(const Calls&, Parser*)>& how) {
  const Calls& calls = library.calls;
  Model model;
  model.builder = make_builder(library);
  uint32_t typed = 1u << calls.number(NetworkFlag::kStronglyTyped);
  model.network = Owned(calls.Builder_createNetworkV2(model.builder.get(), typed));
  model.config = Owned(calls.Builder_createBuilderConfig(model.builder.get()));
  model.parser = make_parser(library, model.network.get());
  say("parsed", how(calls, model.parser.get()));
  return model;
}

void look_at(const Calls& calls, const Model& model) {
  NetworkDefinition* network = model.network.get();
  say("network.flags", calls.NetworkDefinition_getFlags(network));
  say("network.typed",
      calls.NetworkDefinition_getFlag(network, calls.number(NetworkFlag::kStronglyTyped)));
  say("network.inputs", calls.NetworkDefinition_getNbInputs(network));
  say("network.outputs", calls.NetworkDefinition_getNbOutputs(network));
  say("network.builder", calls.NetworkDefinition_getBuilder(network) == model.builder.get());
  calls.NetworkDefinition_setName(network, "renamed");
  say("network.name", calls.NetworkDefinition_getName(network));
  Tensor* input = calls.NetworkDefinition_getInput(network, 0);
  say("input.name", calls.Tensor_getName(input));
  say("input.shape", shape(calls.Tensor_getDimensions(input)));
  say("input.type", calls.Tensor_getType(input));
  say("input.is_input", calls.Tensor_isNetworkInput(input));
  say("input.is_output", calls.Tensor_isNetworkOutput(input));
  say("input.is_shape", calls.Tensor_isShapeTensor(input));
  const char* axis = calls.Tensor_getDimensionName(input, 0);
  say("input.axis", axis != nullptr ? axis : "");
  calls.Tensor_setAllowedFormats(input, 1u << static_cast<int>(TensorFormat::kLinear));
  say("input.formats", calls.Tensor_getAllowedFormats(input));
  Tensor* output = calls.NetworkDefinition_getOutput(network, 0);
  say("output.is_output", calls.Tensor_isNetworkOutput(output));
  say("output.shape", shape(calls.Tensor_getDimensions(output)));
  const std::string before = calls.Tensor_getName(output);
  calls.Tensor_setName(output, "other");
  say("output.renamed", calls.Tensor_getName(output));
  calls.Tensor_setName(output, before.c_str());
  int32_t layers = calls.NetworkDefinition_getNbLayers(network);
  say("layers", layers);
  int multiplies = 0, named = 0;
  for (int32_t i = 0; i < layers; ++i) {
    Layer* layer = calls.NetworkDefinition_getLayer(network, i);
    multiplies += calls.Layer_getType(layer) == LayerType::kMatrixMultiply;
    const char* name = calls.Layer_getName(layer);
    named += name != nullptr && name[0] != '\0';
    if (calls.Layer_getNbInputs(layer) > 0 && calls.Layer_getInput(layer, 0) == input) {
      calls.Layer_setName(layer, "first");
      say("layer.renamed", calls.Layer_getName(layer));
      say("layer.outputs", calls.Layer_getNbOutputs(layer));
      say("layer.output_type", calls.Layer_getOutputType(layer, 0));
      calls.Layer_setMetadata(layer, "note");
      say("layer.metadata", calls.Layer_getMetadata(layer));
    }
  }
  say("layers.multiply", multiplies);
  say("layers.named", named == layers);
}

bool add_profile(const Calls& calls, const Model& model) {
  OptimizationProfile* profile = calls.Builder_createOptimizationProfile(model.builder.get());
  Dims low{2, {1, 64}}, best{2, {4, 64}}, high{2, {16, 64}};
  bool set =
      calls.OptimizationProfile_setDimensions(profile, "x", OptProfileSelector::kMin, low) &&
      calls.OptimizationProfile_setDimensions(profile, "x", OptProfileSelector::kOpt, best) &&
      calls.OptimizationProfile_setDimensions(profile, "x", OptProfileSelector::kMax, high);
  say("profile.set", set);
  say("profile.max",
      shape(calls.OptimizationProfile_getDimensions(profile, "x", OptProfileSelector::kMax)));
  say("profile.valid", calls.OptimizationProfile_isValid(profile));
  calls.OptimizationProfile_setExtraMemoryTarget(profile, 0.5f);
  say("profile.target", calls.OptimizationProfile_getExtraMemoryTarget(profile));
  return calls.BuilderConfig_addOptimizationProfile(model.config.get(), profile) == 0;
}

void configure(const Calls& calls, const Model& model) {
  BuilderConfig* config = model.config.get();
  say("config.profile", add_profile(calls, model));
  say("config.profiles", calls.BuilderConfig_getNbOptimizationProfiles(config));
  for (BuilderFlag flag : {BuilderFlag::kRefit, BuilderFlag::kStripPlan, BuilderFlag::kTf32,
                           BuilderFlag::kVersionCompatible, BuilderFlag::kStrictNans}) {
    int32_t number = calls.number(flag);
    calls.BuilderConfig_clearFlag(config, number);
    bool off = !calls.BuilderConfig_getFlag(config, number);
    calls.BuilderConfig_setFlag(config, number);
    bool on = calls.BuilderConfig_getFlag(config, number) &&
              (calls.BuilderConfig_getFlags(config) >> number & 1) != 0;
    calls.BuilderConfig_clearFlag(config, number);
    say("config.flag." + std::to_string(number), off && on);
  }
  calls.BuilderConfig_setMemoryPoolLimit(config, MemoryPoolType::kWorkspace, 64 << 20);
  say("config.workspace",
      calls.BuilderConfig_getMemoryPoolLimit(config, MemoryPoolType::kWorkspace));
  calls.BuilderConfig_setBuilderOptimizationLevel(config, 2);
  say("config.level", calls.BuilderConfig_getBuilderOptimizationLevel(config));
  calls.BuilderConfig_setProfilingVerbosity(config, ProfilingVerbosity::kDetailed);
  say("config.verbosity", calls.BuilderConfig_getProfilingVerbosity(config));
  calls.BuilderConfig_setAvgTimingIterations(config, 3);
  say("config.iterations", calls.BuilderConfig_getAvgTimingIterations(config));
  calls.BuilderConfig_setMaxAuxStreams(config, 2);
  say("config.aux_streams", calls.BuilderConfig_getMaxAuxStreams(config));
  calls.BuilderConfig_setMaxNbTactics(config, 7);
  say("config.tactics", calls.BuilderConfig_getMaxNbTactics(config));
  calls.BuilderConfig_setTilingOptimizationLevel(config, TilingOptimizationLevel::kFast);
  say("config.tiling", calls.BuilderConfig_getTilingOptimizationLevel(config));
  calls.BuilderConfig_setTilingOptimizationLevel(config, TilingOptimizationLevel::kNone);
  calls.BuilderConfig_setHardwareCompatibilityLevel(config, HardwareCompatibilityLevel::kNone);
  say("config.hardware", calls.BuilderConfig_getHardwareCompatibilityLevel(config));
  say("config.capabilities", calls.BuilderConfig_setNbComputeCapabilities(config, 2));
  say("config.capability.0",
      calls.BuilderConfig_setComputeCapability(config, ComputeCapability::kSm86, 0));
  calls.BuilderConfig_setComputeCapability(config, ComputeCapability::kSm120, 1);
  say("config.capabilities.count", calls.BuilderConfig_getNbComputeCapabilities(config));
  say("config.capability.0.is", calls.BuilderConfig_getComputeCapability(config, 0));
  say("config.capability.1.is", calls.BuilderConfig_getComputeCapability(config, 1));
}

void build(Library& library, const char* path) {
  const Calls& calls = library.calls;
  ErrorCollector errors;
  Monitor monitor(-1);
  Model model = parse(library, [&](const Calls& c, Parser* parser) {
    return c.Parser_parseFromFile(parser, path, static_cast<int32_t>(Severity::kWarning));
  });
  Builder* builder = model.builder.get();
  say("builder.logger", calls.Builder_getLogger(builder) == library.logger.address(library.family));
  calls.Builder_setMaxThreads(builder, 2);
  say("builder.threads", calls.Builder_getMaxThreads(builder));
  calls.Builder_setErrorRecorder(builder, &errors);
  say("builder.recorder", calls.Builder_getErrorRecorder(builder) == &errors);
  say("builder.registry", calls.Builder_getPluginRegistry(builder) != nullptr);
  look_at(calls, model);
  configure(calls, model);
  calls.BuilderConfig_setProgressMonitor(model.config.get(), &monitor);
  say("config.monitor", calls.BuilderConfig_getProgressMonitor(model.config.get()) == &monitor);
  TimingCache* raw = calls.BuilderConfig_createTimingCache(model.config.get(), nullptr, 0);
  {
    Owned<TimingCache> cache(raw);
    say("cache.set", calls.BuilderConfig_setTimingCache(model.config.get(), cache.get(), false));
    say("supported",
        calls.Builder_isNetworkSupported(builder, model.network.get(), model.config.get()));
    Owned<HostMemory> plan(
        calls.Builder_buildSerializedNetwork(builder, model.network.get(), model.config.get()));
    say("plan", static_cast<bool>(plan));
    if (!plan) {
      for (const ReportedError& error : errors.take()) say("error", error.text);
      return;
    }
    say("plan.size", calls.HostMemory_size(plan.get()));
    say("plan.type", calls.HostMemory_type(plan.get()));
    say("plan.data", calls.HostMemory_data(plan.get()) != nullptr);
    Owned<HostMemory> times(calls.TimingCache_serialize(cache.get()));
    say("cache.serialized", times && calls.HostMemory_size(times.get()) > 0);
    Writer writer;
    say("stream.built", calls.Builder_buildSerializedNetworkToStream(builder, model.network.get(),
                                                                     model.config.get(), &writer));
    say("stream.size", writer.bytes);
    say("stream.calls", writer.calls);

    // The plan outlives the builder.
    model.parser.reset();
    model.config.reset();
    model.network.reset();
    model.builder.reset();
    std::string copy(static_cast<const char*>(calls.HostMemory_data(plan.get())),
                     calls.HostMemory_size(plan.get()));
    say("plan.after", copy.size());

    Owned<Runtime> runtime = make_runtime(library);
    say("runtime.logger",
        calls.Runtime_getLogger(runtime.get()) == library.logger.address(library.family));
    say("runtime.threads", calls.Runtime_getMaxThreads(runtime.get()));
    calls.Runtime_setEngineHostCodeAllowed(runtime.get(), true);
    say("runtime.host_code", calls.Runtime_getEngineHostCodeAllowed(runtime.get()));
    calls.Runtime_setTemporaryDirectory(runtime.get(), "/tmp");
    say("runtime.temporary", calls.Runtime_getTemporaryDirectory(runtime.get()));
    int64_t header = calls.Runtime_getEngineHeaderSize(runtime.get());
    say("runtime.header", header);
    uint64_t diagnostics = 0;
    say("runtime.validity",
        calls.Runtime_getEngineValidity(runtime.get(), copy.data(),
                                        static_cast<int64_t>(copy.size()), &diagnostics));
    ErrorCollector told;
    calls.Runtime_setErrorRecorder(runtime.get(), &told);
    LoggedErrors logged;
    Owned<CudaEngine> engine(
        calls.Runtime_deserializeCudaEngine(runtime.get(), copy.data(), copy.size()));
    say("engine", static_cast<bool>(engine));
    if (!engine) {
      std::vector<ReportedError> all = told.take();
      say("engine.recorded", all.size());
      all.insert(all.end(), logged.errors().begin(), logged.errors().end());
      Error error = failure(library, "loading the engine", all, "plan");
      say("engine.code", code_name(error.code()));
      say("engine.error", error.message());
    }
  }
  say("monitor.starts", monitor.starts);
  say("monitor.steps", monitor.steps);
  say("monitor.ends", monitor.ends);
  say("monitor.nameless", monitor.nameless);
}

void cancel(Library& library, const std::string& bytes) {
  const Calls& calls = library.calls;
  Monitor monitor(3);
  Model model = parse(library, [&](const Calls& c, Parser* parser) {
    return c.Parser_parse(parser, bytes.data(), bytes.size(), nullptr);
  });
  add_profile(calls, model);
  calls.BuilderConfig_setNbComputeCapabilities(model.config.get(), 1);
  calls.BuilderConfig_setComputeCapability(model.config.get(), ComputeCapability::kSm86, 0);
  calls.BuilderConfig_setProgressMonitor(model.config.get(), &monitor);
  Owned<HostMemory> plan(calls.Builder_buildSerializedNetwork(
      model.builder.get(), model.network.get(), model.config.get()));
  say("cancelled", !plan);
}

// A dynamic input without profile is an error that the recorder gets.
void report(Library& library, const std::string& bytes) {
  const Calls& calls = library.calls;
  ErrorCollector errors;
  Model model = parse(library, [&](const Calls& c, Parser* parser) {
    return c.Parser_parse(parser, bytes.data(), bytes.size(), nullptr);
  });
  calls.Builder_setErrorRecorder(model.builder.get(), &errors);
  Owned<HostMemory> plan(calls.Builder_buildSerializedNetwork(
      model.builder.get(), model.network.get(), model.config.get()));
  say("report.refused", !plan);
  std::vector<ReportedError> reported = errors.take();
  say("report.count", reported.size());
  if (!reported.empty()) say("report.first", reported[0].code);
  say("report.code", code_name(failure(library, "building", reported, "").code()));
}

// A file that is no model: the parser tells why.
void refuse(Library& library, const char* path) {
  const Calls& calls = library.calls;
  LoggedErrors logged;
  Model model = parse(library, [&](const Calls& c, Parser* parser) {
    return c.Parser_parseFromFile(parser, path, 0);
  });
  say("refuse.errors", calls.Parser_getNbErrors(model.parser.get()));
  const ParserError* error = calls.Parser_getError(model.parser.get(), 0);
  if (error == nullptr) return;
  say("refuse.code", calls.ParserError_code(error));
  say("refuse.desc", calls.ParserError_desc(error));
  say("refuse.line", calls.ParserError_line(error) > 0);
  calls.Parser_clearErrors(model.parser.get());
  say("refuse.cleared", calls.Parser_getNbErrors(model.parser.get()));
  say("refuse.relu", calls.Parser_supportsOperator(model.parser.get(), "Relu"));
  say("refuse.nonsense", calls.Parser_supportsOperator(model.parser.get(), "Nonsense"));
}

// Verbose messages reach core/log in the layout that the library expects of its logger.
void listen(Library& library) {
  take_log();
  make_builder(library);
  say("log.quiet", take_log().size());
  Verbosity verbosity(library.logger, LogLevel::kVerbose);
  Owned<Builder> builder = make_builder(library);
  Owned<NetworkDefinition> network(library.calls.Builder_createNetworkV2(
      builder.get(), 1u << library.calls.number(NetworkFlag::kStronglyTyped)));
  Owned<BuilderConfig> config(library.calls.Builder_createBuilderConfig(builder.get()));
  Owned<HostMemory> plan(
      library.calls.Builder_buildSerializedNetwork(builder.get(), network.get(), config.get()));
  std::vector<LogRecord> records = take_log();
  say("log.talkative", !records.empty());
  say("log.source", records.empty() ? "" : records[0].source);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 4) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // so that a crash keeps what was printed
  try {
    Library& library = open_library(argv[1]);
    say("title", library.title());
    say("family", library.family);
    say("soname", library.soname);
    say("can_build", library.can_build);
    say("can_run", library.can_run);
    say("same", &open_library(argv[1]) == &library);
    say("parser.version", open_parser(library).version);
    say("registry", plugin_registry(library) != nullptr);
    say("plugins", open_plugins(library));
    const std::string bytes = read(argv[2]);
    build(library, argv[2]);
    cancel(library, bytes);
    report(library, bytes);
    refuse(library, argv[3]);
    listen(library);
  } catch (const Error& error) {
    std::printf("Error=%s: %s\n", code_name(error.code()), error.what());
    return 1;
  }
  return 0;
}

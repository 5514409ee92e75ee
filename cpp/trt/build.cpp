// SPDX-License-Identifier: Apache-2.0
#include "trt/build.h"

#include <chrono>
#include <exception>
#include <memory>
#include <optional>
#include <utility>

#include "core/error.h"
#include "core/mapped_file.h"
#include "trt/build_config.h"
#include "trt/library.h"

namespace zerolane::trt {
namespace {

using Clock = std::chrono::steady_clock;

double seconds_since(Clock::time_point start) {
  return std::chrono::duration<double>(Clock::now() - start).count();
}

// The ops of a model as plugins, and the model that the parser reads.
struct Plugins {
  Plugins(const Library& library, const ModelSource& source)
      : file(source.bytes.empty() ? std::make_optional(MappedFile::open(source.path))
                                  : std::nullopt),
        model(file ? file->bytes() : source.bytes, source.name),
        failures(std::make_shared<PluginFailures>(library.name())) {}

  std::optional<MappedFile> file;
  PluginModel model;
  std::vector<std::byte> rewritten;
  std::shared_ptr<PluginFailures> failures;
};

// The objects of one build. Members are deleted from the last to the first, as the library wants
// it; the collector and what plugins refer to outlive them all.
struct Build {
  explicit Build(Library& opened) : library(opened), calls(opened.calls) {}

  // The source with plugins in it, where there are some.
  ModelSource to_parse(const ModelSource& source) {
    if (!plugins || plugins->model.empty()) return source;
    plugins->rewritten = plugins->model.rewrite();
    return {source.name, source.path, plugins->rewritten};
  }
  void rethrow_failures() {
    if (plugins) plugins->failures->rethrow();
  }

  Library& library;
  const Calls& calls;
  ErrorCollector errors;
  std::optional<Plugins> plugins;
  Owned<Builder> builder;
  std::optional<PluginCreators> creators;
  Owned<NetworkDefinition> network;
  Owned<BuilderConfig> config;
  Owned<Parser> parser;
  Owned<TimingCache> timing_cache;
};

std::vector<ReportedError> without_echoes(std::vector<ReportedError> errors) {
  auto echo = [](const ReportedError& error) { return is_echo(error.text); };
  if (!errors.empty() && !echo(errors.front())) std::erase_if(errors, echo);
  return errors;
}

[[noreturn]] void throw_failure(Build& build, const std::string& doing, const std::string& subject,
                                const LoggedErrors& logged) {
  std::vector<ReportedError> reported = without_echoes(build.errors.take());
  if (reported.empty()) reported = without_echoes(logged.errors());
  throw failure(build.library, doing, reported, subject);
}

// Strongly typed always: since TensorRT 11 there is nothing else.
Owned<NetworkDefinition> make_network(Build& build) {
  int32_t number = build.calls.number(NetworkFlag::kStronglyTyped);
  uint32_t mask = number >= 0 ? 1u << number : 0;
  LoggedErrors logged;
  Owned<NetworkDefinition> network(build.calls.Builder_createNetworkV2(build.builder.get(), mask));
  if (!network) throw_failure(build, "making a network", build.library.path, logged);
  return network;
}

bool parse(Build& build, const ModelSource& model, const Parser* parser) {
  if (model.bytes.empty()) {
    return build.calls.Parser_parseFromFile(parser, model.path.c_str(),
                                            static_cast<int32_t>(Severity::kWarning));
  }
  return build.calls.Parser_parse(parser, model.bytes.data(), model.bytes.size(),
                                  model.path.empty() ? nullptr : model.path.c_str());
}

UnsupportedGraph ask_support(Build& build, const ModelSource& model) {
  build.parser.reset();
  build.network = make_network(build);
  Owned<Parser> parser = make_parser(build.library, build.network.get());
  const char* path = model.path.empty() ? nullptr : model.path.c_str();
  if (!model.bytes.empty()) return ask_support(build.calls, parser.get(), model.bytes, path);
  MappedFile file = MappedFile::open(model.path);
  return ask_support(build.calls, parser.get(), file.bytes(), path);
}

std::vector<NetworkTensor> read_tensors(Build& build, int32_t count,
                                        const Slot<NetworkDefinition, Tensor*(int32_t)>& get) {
  std::vector<NetworkTensor> found;
  for (int32_t i = 0; i < count; ++i) {
    const Tensor* tensor = get(build.network.get(), i);
    if (tensor == nullptr) continue;
    Dims dims = build.calls.Tensor_getDimensions(tensor);
    const char* name = build.calls.Tensor_getName(tensor);
    found.push_back({name == nullptr ? "" : name, build.calls.Tensor_getType(tensor), {}});
    NetworkTensor& last = found.back();
    if (build.plugins && build.plugins->model.is_uint8(last.name)) last.type = DataType::kUint8;
    for (int32_t axis = 0; axis < dims.nbDims; ++axis) {
      last.shape.push_back(dims.d[axis]);
    }
  }
  return found;
}

// What the parser sees of nodes that are plugins.
void prepare_plugins(Build& build, const ModelSource& model) {
  const std::string doing = "building " + model.name + ", which uses custom ops";
  check_takes_plugins(build.library, doing);
  build.plugins.emplace(build.library, model);
  if (build.plugins->model.empty()) return;
  if (const std::string& problem = open_parser(build.library).plugin_problem; !problem.empty()) {
    throw make_error(Code::kUnavailable, doing,
                     problem +
                         ", without which the parser would end "
                         "the process",
                     "build it elsewhere", build.library.path);
  }
}

void register_plugins(Build& build) {
  if (!build.plugins || build.plugins->model.empty()) return;
  const Plugins& plugins = *build.plugins;
  build.creators.emplace(build.library, build.calls.Builder_getPluginRegistry(build.builder.get()),
                         plugins.model.ops(), plugins.failures,
                         plugins.model.make_plugins(build.library, plugins.failures));
}

// Has the library ask for the shapes of all tensors, which it may put off.
void ask_for_shapes(Build& build) {
  const int32_t count = build.calls.NetworkDefinition_getNbLayers(build.network.get());
  for (int32_t i = 0; i < count; ++i) {
    const Layer* layer = build.calls.NetworkDefinition_getLayer(build.network.get(), i);
    const int32_t outputs = layer == nullptr ? 0 : build.calls.Layer_getNbOutputs(layer);
    for (int32_t k = 0; k < outputs; ++k) {
      const Tensor* tensor = build.calls.Layer_getOutput(layer, k);
      if (tensor != nullptr) (void)build.calls.Tensor_getDimensions(tensor);
    }
  }
}

// A shape can only be read from whole numbers along at most one axis.
bool may_be_shape(const NetworkTensor& tensor) {
  return tensor.shape.size() <= 1 &&
         (tensor.type == DataType::kInt32 || tensor.type == DataType::kInt64);
}

// Inputs whose values decide shapes would need ranges of values; the library's own complaint comes
// late and tells of a profile.
void refuse_shape_inputs(Build& build, const ModelSource& model, const BuildResult& result) {
  if (!build.calls.Tensor_isShapeTensor) return;
  for (size_t i = 0; i < result.inputs.size(); ++i) {
    if (!may_be_shape(result.inputs[i])) continue;
    const Tensor* tensor =
        build.calls.NetworkDefinition_getInput(build.network.get(), static_cast<int32_t>(i));
    if (!build.calls.Tensor_isShapeTensor(tensor)) continue;
    const std::string& name = result.inputs[i].name;
    throw make_error(Code::kUnsupported, "building " + model.name,
                     "the values of input '" + name + "' decide the shape of another tensor, " +
                         "expected shapes that follow from the shapes of inputs",
                     "make it a constant, or compute it in the graph from an input's shape", name);
  }
}

void use_timing_cache(Build& build, const BuildOptions& options) {
  const Calls& calls = build.calls;
  const std::string& content = options.timing_cache_content;
  LoggedErrors logged;
  build.timing_cache = Owned<TimingCache>(
      calls.BuilderConfig_createTimingCache(build.config.get(), content.data(), content.size()));
  if (!build.timing_cache ||
      !calls.BuilderConfig_setTimingCache(build.config.get(), build.timing_cache.get(),
                                          /*ignoreMismatch=*/false)) {
    throw_failure(build, "using the timing cache of " + std::to_string(content.size()) + " bytes",
                  "timing_cache", logged);
  }
}

std::string read_timing_cache(Build& build) {
  Owned<HostMemory> memory(build.calls.TimingCache_serialize(build.timing_cache.get()));
  if (!memory) return "";
  return {static_cast<const char*>(build.calls.HostMemory_data(memory.get())),
          build.calls.HostMemory_size(memory.get())};
}

// The library's own errors where it has told some; the watch's where that ended the build.
void check_stopped(const ModelSource& model, BuildWatch& watch) {
  watch.rethrow();
  if (watch.stopped()) {
    throw make_error(Code::kCancelled, "building " + model.name, "it was cancelled", "", "build");
  }
}

}  // namespace

BuildResult build_engine(Library& library, const ModelSource& source, const BuildOptions& options,
                         BuildWatch& watch) {
  Verbosity verbosity(library.logger, options.log_level);
  Build build(library);
  const Calls& calls = library.calls;
  BuildResult result;
  Clock::time_point start = Clock::now();
  if (options.plugins) {
    watch.enter("making ops");
    prepare_plugins(build, source);
  }
  ModelSource model = build.to_parse(source);
  watch.enter("making a builder");
  build.builder = make_builder(library);
  calls.Builder_setErrorRecorder(build.builder.get(), &build.errors);
  open_plugins(library);
  register_plugins(build);
  LoggedErrors logged;
  bool parsed = false;
  for (bool again = true; again;) {
    build.parser.reset();
    build.network.reset();
    build.network = make_network(build);
    build.parser = make_parser(library, build.network.get());
    watch.enter("reading the model");
    parsed = parse(build, model, build.parser.get());
    check_stopped(model, watch);
    if (parsed && build.plugins) ask_for_shapes(build);
    build.rethrow_failures();
    // How many extents the data decides is known once the shapes are.
    again = parsed && build.plugins && build.plugins->model.take_in_counted();
    if (again) model = build.to_parse(source);
  }
  if (!parsed) {
    std::vector<ParserComplaint> complaints = read_complaints(calls, build.parser.get());
    if (!about_support(complaints)) {
      throw_complaints(library, model.name, complaints, watch.doing());
    }
    watch.enter("asking which nodes are supported");
    result.unsupported = ask_support(build, model);
    if (result.unsupported->nodes.empty()) result.unsupported->nodes = std::move(complaints);
    return result;
  }
  result.parse_seconds = seconds_since(start);
  const NetworkDefinition* network = build.network.get();
  result.layers = calls.NetworkDefinition_getNbLayers(network);
  result.inputs = read_tensors(build, calls.NetworkDefinition_getNbInputs(network),
                               calls.NetworkDefinition_getInput);
  result.outputs = read_tensors(build, calls.NetworkDefinition_getNbOutputs(network),
                                calls.NetworkDefinition_getOutput);
  refuse_shape_inputs(build, model, result);
  if (options.parse_only) return result;
  build.config = Owned<BuilderConfig>(calls.Builder_createBuilderConfig(build.builder.get()));
  if (!build.config) throw_failure(build, "making a builder config", library.path, logged);
  watch.enter("setting up the build");
  configure(library, build.builder.get(), build.config.get(), options);
  if (options.timing_cache) use_timing_cache(build, options);
  if (std::vector<ReportedError> reported = without_echoes(build.errors.take());
      !reported.empty()) {
    throw failure(library, "setting up the build of " + model.name, reported, model.name);
  }
  if (calls.BuilderConfig_setProgressMonitor) {
    calls.BuilderConfig_setProgressMonitor(build.config.get(), &watch);
  }
  watch.enter("building");
  start = Clock::now();
  result.plan = Owned<HostMemory>(calls.Builder_buildSerializedNetwork(
      build.builder.get(), build.network.get(), build.config.get()));
  result.build_seconds = seconds_since(start);
  if (build.plugins && build.plugins->model.take_in_counted()) {
    throw make_error(Code::kInternal, "building " + model.name,
                     "an op counted more extents while it was built than when it was read",
                     "mend the op: how many it counts must not hang on known()", model.name);
  }
  if (!result.plan) {
    build.rethrow_failures();
    check_stopped(model, watch);
    throw_failure(build, "building " + model.name, model.name, logged);
  }
  result.bytes = {static_cast<const std::byte*>(calls.HostMemory_data(result.plan.get())),
                  calls.HostMemory_size(result.plan.get())};
  if (options.timing_cache) result.timing_cache = read_timing_cache(build);
  if (build.plugins) result.plugins = build.plugins->model.asked();
  watch.enter("ending");
  return result;
}

}  // namespace zerolane::trt

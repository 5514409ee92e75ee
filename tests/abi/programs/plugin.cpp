// SPDX-License-Identifier: Apache-2.0
// Registers a plugin with a real TensorRT-RTX and builds a model whose only node is that plugin: an
// op that doubles the last dimension. Prints what the library asked for, one "key=value" a line.
// Arguments: the library, a model with the op Widen.
#include <cstdio>
#include <cstring>
#include <fstream>
#include <iterator>
#include <map>
#include <string>

#include "trt/library.h"

using namespace zerolane;
using namespace zerolane::trt;

namespace {

const Calls* g_calls = nullptr;
std::map<std::string, int> g_asked;
int g_made = 0, g_deleted = 0;
float g_factor = 0;

class Widen final : public PluginV3,
                    public PluginV3OneCore,
                    public PluginV3OneBuildV2,
                    public PluginV3OneRuntime {
 public:
  Widen() { ++g_made; }
  ~Widen() override { ++g_deleted; }
  PluginCapability* getCapabilityInterface(PluginCapabilityType type) noexcept override;
  PluginV3* clone() noexcept override { return new Widen; }

  const char* getPluginName() const noexcept override { return "Widen"; }
  const char* getPluginVersion() const noexcept override { return "1"; }
  const char* getPluginNamespace() const noexcept override { return ""; }

  int32_t configurePlugin(const DynamicPluginTensorDesc*, int32_t inputs,
                          const DynamicPluginTensorDesc*, int32_t outputs) noexcept override {
    ++g_asked["configure"];
    return inputs == 1 && outputs == 1 ? 0 : 1;
  }
  int32_t getOutputDataTypes(DataType* outputs, int32_t count, const DataType* inputs,
                             int32_t) const noexcept override {
    ++g_asked["types"];
    for (int32_t i = 0; i < count; ++i) outputs[i] = inputs[0];
    return 0;
  }
  int32_t getOutputShapes(const DimsExprs* inputs, int32_t, const DimsExprs*, int32_t,
                          DimsExprs* outputs, int32_t, ExprBuilder& builder) noexcept override {
    ++g_asked["shapes"];
    outputs[0] = inputs[0];
    const DimensionExpr* two = g_calls->ExprBuilder_constant(&builder, 2);
    int32_t last = inputs[0].nbDims - 1;
    if (g_calls->DimensionExpr_isConstant(two) &&
        g_calls->DimensionExpr_getConstantValue(two) == 2) {
      ++g_asked["constant"];
    }
    outputs[0].d[last] =
        g_calls->ExprBuilder_operation(&builder, DimensionOperation::kProd, inputs[0].d[last], two);
    return 0;
  }
  bool supportsFormatCombination(int32_t position, const DynamicPluginTensorDesc* tensors, int32_t,
                                 int32_t) noexcept override {
    ++g_asked["formats"];
    const PluginTensorDesc& desc = tensors[position].desc;
    return desc.format == TensorFormat::kLinear && desc.type == DataType::kFloat;
  }
  int32_t getNbOutputs() const noexcept override { return 1; }
  size_t getWorkspaceSize(const DynamicPluginTensorDesc*, int32_t, const DynamicPluginTensorDesc*,
                          int32_t) const noexcept override {
    ++g_asked["workspace"];
    return 1024;
  }

  int32_t onShapeChange(const PluginTensorDesc*, int32_t, const PluginTensorDesc*,
                        int32_t) noexcept override {
    return 0;
  }
  int32_t enqueue(const PluginTensorDesc*, const PluginTensorDesc*, const void* const*,
                  void* const*, void*, StreamHandle) noexcept override {
    return 0;
  }
  PluginV3* attachToContext(PluginResourceContext*) noexcept override { return clone(); }
  const PluginFieldCollection* getFieldsToSerialize() noexcept override {
    ++g_asked["fields"];
    return &none_;
  }

 private:
  PluginFieldCollection none_{0, nullptr};
};

PluginCapability* Widen::getCapabilityInterface(PluginCapabilityType type) noexcept {
  switch (type) {
    case PluginCapabilityType::kCore:
      return static_cast<PluginV3OneCore*>(this);
    case PluginCapabilityType::kBuild:
      return static_cast<PluginV3OneBuildV2*>(this);
    case PluginCapabilityType::kRuntime:
      return static_cast<PluginV3OneRuntime*>(this);
  }
  return nullptr;
}

class Creator final : public PluginCreatorV3One {
 public:
  PluginV3* createPlugin(const char*, const PluginFieldCollection* fields,
                         TensorRTPhase phase) noexcept override {
    ++g_asked[phase == TensorRTPhase::kBuild ? "create" : "create at run time"];
    for (int32_t i = 0; i < fields->nbFields; ++i) {
      const PluginField& field = fields->fields[i];
      if (std::strcmp(field.name, "factor") == 0 && field.type == PluginFieldType::kFloat32) {
        std::memcpy(&g_factor, field.data, sizeof(g_factor));
      }
    }
    return new Widen;
  }
  const PluginFieldCollection* getFieldNames() noexcept override { return &names_; }
  const char* getPluginName() const noexcept override { return "Widen"; }
  const char* getPluginVersion() const noexcept override { return "1"; }
  const char* getPluginNamespace() const noexcept override { return ""; }

 private:
  PluginField factor_{"factor", nullptr, PluginFieldType::kFloat32, 1};
  PluginFieldCollection names_{1, &factor_};
};

void say(const std::string& key, long value) { std::printf("%s=%ld\n", key.c_str(), value); }

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // so that a crash keeps what was printed
  try {
    Library& library = open_library(argv[1]);
    const Calls& calls = library.calls;
    g_calls = &calls;
    Creator creator;
    {
      Owned<Builder> builder = make_builder(library);
      PluginRegistry* registry = calls.Builder_getPluginRegistry(builder.get());
      say("registered", calls.PluginRegistry_registerCreator(registry, &creator, ""));
      say("found", calls.PluginRegistry_getCreator(registry, "Widen", "1", "") == &creator);
      int32_t count = 0;
      calls.PluginRegistry_getAllCreators(registry, &count);
      say("listed", count > 0);
      Owned<NetworkDefinition> network(calls.Builder_createNetworkV2(
          builder.get(), 1u << calls.number(NetworkFlag::kStronglyTyped)));
      Owned<BuilderConfig> config(calls.Builder_createBuilderConfig(builder.get()));
      calls.BuilderConfig_setNbComputeCapabilities(config.get(), 1);
      calls.BuilderConfig_setComputeCapability(config.get(), ComputeCapability::kSm86, 0);
      Owned<Parser> parser = make_parser(library, network.get());
      std::ifstream file(argv[2], std::ios::binary);
      const std::string bytes{std::istreambuf_iterator<char>(file), {}};
      bool parsed = calls.Parser_parse(parser.get(), bytes.data(), bytes.size(), nullptr);
      say("parsed", parsed);
      for (int32_t i = 0; i < calls.Parser_getNbErrors(parser.get()); ++i) {
        const ParserError* error = calls.Parser_getError(parser.get(), i);
        std::string text = calls.ParserError_desc(error);
        for (char& c : text) c = c == '\n' ? ' ' : c;
        std::printf("error=%s (code %d)\n", text.c_str(),
                    static_cast<int>(calls.ParserError_code(error)));
      }
      if (parsed) {
        Tensor* output = calls.NetworkDefinition_getOutput(network.get(), 0);
        Dims dims = calls.Tensor_getDimensions(output);
        say("output.last", static_cast<long>(dims.d[dims.nbDims - 1]));
        Owned<HostMemory> plan(
            calls.Builder_buildSerializedNetwork(builder.get(), network.get(), config.get()));
        say("plan", static_cast<bool>(plan));
      }
      parser.reset();
      network.reset();
      say("deregistered", calls.PluginRegistry_deregisterCreator(registry, &creator));
    }
    for (const auto& [what, times] : g_asked) say(what, times);
    say("factor", static_cast<long>(g_factor));
    say("made", g_made);
    say("deleted", g_deleted);
  } catch (const Error& error) {
    std::printf("Error=%s\n", error.what());
    return 1;
  }
  return 0;
}

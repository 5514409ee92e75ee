// SPDX-License-Identifier: Apache-2.0
// The build side, for models of plugins and of a few operators: what the parser fills and the
// builder turns into a plan.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <tuple>
#include <vector>

#include "expressions.h"
#include "objects.h"

namespace fake {

struct LayerFake;

struct TensorFake : Base {
  TensorFake() : Base("Tensor") {}
  std::string name;
  DataType type{};
  std::vector<Expr> dims;     // numbers; what is dynamic, as an extent of this tensor itself
  std::vector<Expr> made_of;  // of a plugin's output: how its extents follow from the inputs'
  LayerFake* from = nullptr;
  bool input = false;
};

struct LayerFake : Base {
  LayerFake() : Base("Layer") {}
  ~LayerFake() override { delete plugin; }
  std::string name;
  std::string op_type;
  PluginV3* plugin = nullptr;
  std::vector<TensorFake*> inputs;
  std::vector<TensorFake*> outputs;
  bool has_shapes = false;

  PluginV3OneBuild& build() const;
  PluginV3OneRuntime& runtime() const;
  PluginV3OneCore& core() const;
};

struct BuilderFake;

struct NetworkFake : Base {
  explicit NetworkFake(BuilderFake& of) : Base("NetworkDefinition"), builder(of) {}
  BuilderFake& builder;
  std::vector<std::unique_ptr<TensorFake>> tensors;
  std::vector<std::unique_ptr<LayerFake>> layers;
  std::vector<TensorFake*> inputs;
  std::vector<TensorFake*> outputs;
  ExprBuilderFake expressions;

  TensorFake* find(const std::string& name) const;
  TensorFake* add(const std::string& name);
  // Has the plugin infer the shapes of its outputs. False after an error was reported.
  bool infer(LayerFake& layer);
};

struct ProfileFake : Base {
  ProfileFake() : Base("OptimizationProfile") {}
  std::map<std::string, std::vector<int64_t>> dims[3];  // by OptProfileSelector
};

struct BuilderConfigFake : Base {
  BuilderConfigFake() : Base("BuilderConfig") {}
  std::vector<const ProfileFake*> profiles;
};

struct BuilderFake : Base {
  explicit BuilderFake(void* logger) : Base("Builder") { report.logger = logger; }
  Reporter report;
  RegistryFake registry;
  std::vector<std::unique_ptr<ProfileFake>> profiles;
};

}  // namespace fake

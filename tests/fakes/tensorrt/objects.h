// SPDX-License-Identifier: Apache-2.0
// Objects laid out as TensorRT's, and the tables behind them.
#pragma once

#include <atomic>
#include <cstdint>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <tuple>
#include <vector>

#include "cuda/table.h"
#include "model.h"
#include "plan.h"
#include "tensorrt/interfaces.h"
#include "tensorrt/types.h"

#define FAKE_STRING_(x) #x
#define FAKE_STRING(x) FAKE_STRING_(x)
#define FAKE_VERSION \
  FAKE_STRING(FAKE_FAMILY) "." FAKE_STRING(FAKE_MINOR) "." FAKE_STRING(FAKE_PATCH)

namespace fake {

using namespace zerolane::trt;  // NOLINT: the names of the interface
namespace cuda = zerolane::cuda;

// What the application holds: own table (two destructors), then the implementation.
struct Base;
struct Callee {  // what a call gets as `this`: its table stands first
  const void* const* table;
  Base* self;
};
struct Public {
  const void* const* own_table;
  Callee* implementation;
};

struct Base {
  Base(const char* klass);
  virtual ~Base();
  Base(const Base&) = delete;

  // The address the application gets.
  template <typename Class>
  Class* address() {
    return reinterpret_cast<Class*>(&handle);
  }

  const char* klass;
  Public handle;
  Callee callee;
};

template <typename T>
T& self_of(const void* callee) {
  return static_cast<T&>(*static_cast<const Callee*>(callee)->self);
}
// The implementation behind an object of the application's.
template <typename T>
T& behind(const void* object) {
  return self_of<T>(static_cast<const Public*>(object)->implementation);
}

const void* const* table_of(const char* klass);

template <typename Signature>
struct WithSelf;
template <typename Result, typename... Parameters>
struct WithSelf<Result(Parameters...)> {
  using Function = Result (*)(void*, Parameters...);
};
#define ZL_TRT_CALL(klass, method, result, parameters) \
  using klass##_##method##_function = WithSelf<result parameters>::Function;
#include "tensorrt/calls.inc"
#undef ZL_TRT_CALL

struct Method {
  Method(const char* name, void* function);
};
// Defines a method of a class; the compiler checks its signature against calls.inc.
#define FAKE(klass, method, ...)                     \
  static const Method klass##_##method##_definition( \
      #klass "." #method,                            \
      reinterpret_cast<void*>(static_cast<klass##_##method##_function>(__VA_ARGS__)))

// Counts and planned failures, by name.
std::atomic<int64_t>& number(const std::string& name);
// True if a failure of this name is planned; uses it up.
bool planned(const char* name);

const cuda::Table& cuda_table();

struct Reporter {  // to the recorder, if there is one, and to the logger
  void* logger = nullptr;
  ErrorRecorder* recorder = nullptr;
  void error(ErrorCode code, const std::string& text) const;
  void set(ErrorRecorder* to);
  ~Reporter() { set(nullptr); }
};

// Creators by name, version and namespace; each builder and each runtime has its own.
struct RegistryFake : Base {
  RegistryFake() : Base("PluginRegistry") {}
  ~RegistryFake() override;
  std::map<std::tuple<std::string, std::string, std::string>, PluginCreatorV3One*> creators;
  PluginCreatorV3One* find(const std::string& name, const std::string& version,
                           const std::string& space) const;
  // The application calls it without a wrapper around it.
  PluginRegistry* direct() { return reinterpret_cast<PluginRegistry*>(&callee); }
};

struct RuntimeFake : Base {
  RuntimeFake(void* logger) : Base("Runtime") { report.logger = logger; }
  Reporter report;
  RegistryFake registry;
  bool host_code_allowed = false;
};

struct HostMemoryFake : Base {
  explicit HostMemoryFake(std::string text) : Base("HostMemory"), bytes(std::move(text)) {}
  std::string bytes;
};

struct CacheFake : Base {
  CacheFake() : Base("RuntimeCache") {}
  std::mutex mutex;
  std::map<std::string, int> kernels;
};

struct ConfigFake : Base {
  ConfigFake() : Base("RuntimeConfig") {}
  ExecutionContextAllocationStrategy strategy = ExecutionContextAllocationStrategy::kStatic;
  CacheFake* cache = nullptr;
};

struct EngineFake : Base {
  EngineFake(Plan plan, void* logger, const RegistryFake& registry);
  ~EngineFake() override;
  Reporter report;
  Plan plan;
  std::shared_ptr<Model> model;    // null for a plan of nodes
  std::vector<PluginV3*> plugins;  // by node of the plan; null for an operator
  int64_t streaming_budget;
  std::mutex mutex;  // guards shapes
  std::map<std::string, std::vector<std::vector<int64_t>>> shapes;
  std::atomic<int> running{0};
  std::atomic<int> contexts{0};
  std::atomic<bool> lacks_weights{false};
};

struct RefitterFake : Base {
  RefitterFake(EngineFake& of, void* logger) : Base("Refitter"), engine(of) {
    report.logger = logger;
  }
  EngineFake& engine;
  Reporter report;
  std::map<std::string, NewWeights> given;
  std::string replacement;  // a whole model in place of the engine's; empty: its weights are given

  const Plan::Weight* find(const char* name) const {
    for (const Plan::Weight& weight : engine.plan.weights) {
      if (weight.name == name) return &weight;
    }
    return nullptr;
  }
};

// What a parser or its refitter complains of. node: its place in the graph, -1 for none.
struct ErrorFake : Base {
  ErrorFake(ParserErrorCode is, std::string says, int32_t at)
      : Base("ParserError"), code(is), text(std::move(says)), node(at) {}
  const ParserError* direct() const { return reinterpret_cast<const ParserError*>(&callee); }
  ParserErrorCode code;
  std::string text;
  int32_t node;
  std::string name, op_type;
};

Dims to_dims(const std::vector<int64_t>& dims);
std::vector<int64_t> from_dims(const Dims& dims);

}  // namespace fake

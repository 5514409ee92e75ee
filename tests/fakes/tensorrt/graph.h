// SPDX-License-Identifier: Apache-2.0
// Running a plan of nodes: plugins on the stream, operators as host functions on it.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "expressions.h"
#include "objects.h"

namespace fake {

// The plugin of a node through its creator; null for an operator. Throws std::runtime_error.
PluginV3* make_plugin(const NodeFact& node, const RegistryFake& registry);

// The nodes of one execution context, with attached plugins and memory between nodes. Throws
// std::runtime_error.
class GraphRun {
 public:
  explicit GraphRun(EngineFake& engine);
  ~GraphRun();

  void set_shapes(const std::map<std::string, std::vector<int64_t>>& inputs);
  // -1 where the data decides, until a run has told.
  const std::vector<int64_t>& dims(const std::string& tensor) const { return dims_.at(tensor); }
  void enqueue(cuda::NativeStream* stream, const std::map<std::string, void*>& addresses,
               bool capturing);
  // Where a tensor without an address of its own is.
  const void* data(const std::string& tensor) const { return memory_.at(tensor).data(); }

 private:
  struct Work;
  PluginTensorDesc describe(const std::string& tensor, bool most) const;
  void infer(const NodeFact& node, const std::map<int64_t, int64_t>* counts);
  void tell_shapes(size_t node);
  void* place(const std::string& tensor, const std::map<std::string, void*>& addresses);
  void run_operator(const NodeFact& node, const void* in, void* out, cuda::NativeStream* stream);

  EngineFake& engine_;
  std::vector<PluginV3*> attached_;
  std::map<std::string, int32_t> types_;
  std::map<std::string, std::vector<int64_t>> dims_;  // as far as known
  std::map<std::string, std::vector<int64_t>> most_;
  std::map<std::string, std::vector<char>> memory_;
  std::vector<std::vector<char>> workspaces_;
  std::vector<std::unique_ptr<Work>> works_;  // graphs run them again
};

}  // namespace fake

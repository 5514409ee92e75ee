// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <iterator>
#include <memory>
#include <string>
#include <vector>

#include "registry/attributes.h"
#include "tensorrt/interfaces.h"

namespace zerolane::trt {

// Callbacks of a build, counted: so that a test can tell a plugin that took part from one that was
// merely made.
enum class PluginCallback { kTypes, kShapes, kFormats, kConfigure, kWorkspace, kSerialize };
inline constexpr const char* kPluginCallbacks[] = {"types",     "shapes",    "formats",
                                                   "configure", "workspace", "serialize"};
using PluginCounts = std::array<std::atomic<uint32_t>, std::size(kPluginCallbacks)>;

// A node as an op computes it: what all copies of its plugin share.
struct PluginFacts {
  std::shared_ptr<const OpState> state;
  std::vector<bool> present;    // inputs as the node has them; false: left out, so not the plugin's
  std::vector<size_t> outputs;  // which of the op's each output of the plugin is, in order
  // Outputs behind those, one for each extent that the data decides.
  size_t counted = 0;
  // TensorRT's plugins take no uint8, so such tensors go through the network as int8: by input and
  // output of the plugin.
  std::vector<bool> uint8_inputs;
  std::vector<bool> uint8_outputs;
  // Filled in by complete().
  std::vector<size_t> inputs;  // which of the node's each input of the plugin is
  std::string version;         // of the op's definition
  std::string timing_id;       // plugins with the same one do the same work
  // The most counted extents that the shape function has made so far.
  mutable std::atomic<size_t> counted_found{0};
  mutable PluginCounts counts{};

  void complete();
  size_t output_count() const noexcept { return outputs.size() + counted; }
};

// Names of fields that are no attributes; no attribute can have such a name.
inline constexpr const char* kNodeField = "zl:node";  // the number of a node of the model
inline constexpr const char* kCallField = "zl:call";
inline constexpr const char* kWhereField = "zl:where";

// Facts as fields of an engine: integers as kInt64, floats as kFloat64, strings with their zero
// byte as kChar, lists with their length before them, so that no field is empty.
class PluginFields {
 public:
  PluginFields(const PluginFacts& facts, size_t scratch);
  const PluginFieldCollection* get() const noexcept { return &all_; }

 private:
  void add(const char* name, std::vector<int64_t> numbers);
  void add(const char* name, std::vector<double> numbers);
  void add(const char* name, std::string text);

  std::deque<std::vector<int64_t>> integers_;
  std::deque<std::vector<double>> reals_;
  std::deque<std::string> texts_;
  std::vector<PluginField> fields_;
  PluginFieldCollection all_{};
};

// The facts that PluginFields wrote, and the scratch memory that was granted. Throws kInvalidModel
// for other fields: an engine may be damaged; and what OpState throws.
std::shared_ptr<const PluginFacts> read_fields(const OpEntry& entry,
                                               const PluginFieldCollection& fields,
                                               size_t* scratch);

// The number in the field kNodeField; -1 where there is none.
int64_t node_of(const PluginFieldCollection& fields);

}  // namespace zerolane::trt

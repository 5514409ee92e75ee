// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "core/buffer.h"
#include "core/error.h"
#include "registry/library.h"

namespace zerolane {

// In the order of kZlInt to kZlFloats.
using AttributeValue =
    std::variant<int64_t, double, std::string, std::vector<int64_t>, std::vector<double>>;
using Attributes = std::vector<std::pair<std::string, AttributeValue>>;

// The code that a function of an op failed with; kInternal for numbers that mean nothing here.
Code op_failure_code(int32_t code) noexcept;

// An op with its attributes: the state that its library made of them. Immutable; any thread.
class OpState {
 public:
  // Checks names, types and bounds, fills in fallbacks and makes the state. An integer serves where
  // a float is wanted, and a number where a list is. `where` says whose attributes they are: "op
  // my::Scale", "node 'n' (my::Scale) of m.onnx". Throws kInvalidArgument, and what the op's own
  // checks fail with.
  OpState(const OpEntry& entry, const Attributes& given, const std::string& where);
  ~OpState();
  OpState(const OpState&) = delete;
  OpState& operator=(const OpState&) = delete;

  const OpEntry& entry() const noexcept { return entry_; }
  const void* get() const noexcept { return state_; }
  const std::string& where() const noexcept { return where_; }
  // One for each attribute of the op, fallbacks included, in its order.
  const std::vector<AttributeValue>& values() const noexcept { return values_; }
  // The op's constants, in host memory.
  const std::vector<const void*>& constants() const noexcept { return constants_; }
  const std::vector<uint64_t>& constant_bytes() const noexcept { return constant_bytes_; }

 private:
  const OpEntry& entry_;
  std::string where_;
  std::vector<AttributeValue> values_;
  void* state_ = nullptr;
  std::vector<const void*> constants_;
  std::vector<uint64_t> constant_bytes_;
};

// A copy of a state's constants in a device's memory; blocks while it is made. Immutable.
class DeviceConstants {
 public:
  DeviceConstants(std::shared_ptr<const OpState> state, Device& device);
  const std::vector<const void*>& addresses() const noexcept { return addresses_; }

 private:
  std::shared_ptr<const OpState> state_;
  std::vector<Buffer> memory_;
  std::vector<const void*> addresses_;
};

}  // namespace zerolane

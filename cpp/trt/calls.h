// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <array>
#include <cassert>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "tensorrt/interfaces.h"
#include "tensorrt/types.h"

namespace zerolane::trt {

// The layouts of the interface that zerolane knows.
enum class Family { k10, k11, kRtx1 };

// Where an object keeps the pointer to its implementation. Direct objects are their own.
template <typename Class>
inline constexpr size_t kImplementationOffset = 8;
template <>
inline constexpr size_t kImplementationOffset<PluginV3Layer> = 16;
template <>
inline constexpr size_t kImplementationOffset<PluginRegistry> = 0;
template <>
inline constexpr size_t kImplementationOffset<Parser> = 0;
template <>
inline constexpr size_t kImplementationOffset<ParserError> = 0;
template <>
inline constexpr size_t kImplementationOffset<ParserRefitter> = 0;

// One method of a class of the library: the slot it has in the loaded release. A call is one
// indirect call.
template <typename Class, typename Signature>
class Slot;

template <typename Class, typename Result, typename... Parameters>
class Slot<Class, Result(Parameters...)> {
 public:
  static constexpr uint32_t kAbsent = UINT32_MAX;

  // Whether the loaded release has the method. Calling one that is absent is undefined.
  explicit operator bool() const noexcept { return slot_ != kAbsent; }
  uint32_t slot() const noexcept { return slot_; }
  void set(uint32_t slot) noexcept { slot_ = slot; }

  Result operator()(const Class* object, Parameters... parameters) const {
    assert(slot_ != kAbsent);
    const void* self = object;
    if constexpr (kImplementationOffset<Class> != 0) {
      std::memcpy(&self, reinterpret_cast<const char*>(object) + kImplementationOffset<Class>,
                  sizeof(self));
    }
    using Function = Result (*)(const void*, Parameters...);
    const Function* table;
    std::memcpy(&table, self, sizeof(table));
    return table[slot_](self, parameters...);
  }

 private:
  uint32_t slot_ = kAbsent;
};

// The library's numbers of an enumeration of ours.
template <typename Enum>
class Numbers {
 public:
  static constexpr int32_t kAbsent = -1;
  Numbers() { numbers_.fill(kAbsent); }
  int32_t operator[](Enum value) const noexcept { return numbers_[static_cast<size_t>(value)]; }
  void set(Enum value, int32_t number) noexcept { numbers_[static_cast<size_t>(value)] = number; }

 private:
  std::array<int32_t, static_cast<size_t>(Enum::kCount)> numbers_;
};

// Every method of one loaded library, by class and name: calls.Builder_createNetworkV2(builder,
// mask). Immutable once filled; any thread. What a method may be called with is the library's rule.
struct Calls {
#define ZL_TRT_CALL(klass, method, result, parameters) \
  Slot<klass, result parameters> klass##_##method;
#include "tensorrt/calls.inc"
#undef ZL_TRT_CALL

  // The library's number of a flag, or -1 if this release has none. The only numbers that may be
  // passed for one; where a mask is asked for, it is 1 << number.
  int32_t number(BuilderFlag flag) const noexcept { return builder_flags[flag]; }
  int32_t number(NetworkFlag flag) const noexcept { return network_flags[flag]; }
  int32_t number(PreviewFeature feature) const noexcept { return preview_features[feature]; }
  int32_t number(TacticSource source) const noexcept { return tactic_sources[source]; }
  int32_t number(SerializationFlag flag) const noexcept { return serialization_flags[flag]; }
  int32_t number(ParserFlag flag) const noexcept { return parser_flags[flag]; }

  Numbers<BuilderFlag> builder_flags;
  Numbers<NetworkFlag> network_flags;
  Numbers<PreviewFeature> preview_features;
  Numbers<TacticSource> tactic_sources;
  Numbers<SerializationFlag> serialization_flags;
  Numbers<ParserFlag> parser_flags;
};

// The calls of one release. Rows newer than `minor` stay absent.
Calls make_calls(Family family, int minor);

// The minor releases that a table covers.
struct Covered {
  int oldest;
  int newest;
};
Covered covered_minors(Family family) noexcept;

}  // namespace zerolane::trt

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <type_traits>

#include "trt/calls.h"

namespace zerolane::trt {

// Whether the application deletes objects of a class. The others belong to the object they came
// from (tensors and layers to the network, a profile to its builder, parser errors to the parser).
template <typename Class>
inline constexpr bool kDeletable =
    std::is_same_v<Class, Builder> || std::is_same_v<Class, BuilderConfig> ||
    std::is_same_v<Class, NetworkDefinition> || std::is_same_v<Class, Runtime> ||
    std::is_same_v<Class, RuntimeConfig> || std::is_same_v<Class, RuntimeCache> ||
    std::is_same_v<Class, CudaEngine> || std::is_same_v<Class, ExecutionContext> ||
    std::is_same_v<Class, EngineInspector> || std::is_same_v<Class, Refitter> ||
    std::is_same_v<Class, SerializationConfig> || std::is_same_v<Class, HostMemory> ||
    std::is_same_v<Class, TimingCache> || std::is_same_v<Class, Parser> ||
    std::is_same_v<Class, ParserRefitter>;

// Owns one object of the library and deletes it through the object's own table. Which objects must
// outlive it is the caller's to keep: network and config before their builder, parser before its
// network, context before its engine, engine before its runtime.
template <typename Class>
class Owned {
  static_assert(kDeletable<Class>, "objects of this class belong to the library");

 public:
  Owned() = default;
  // Takes what a factory returned. A failed factory of a release may return a small number instead
  // of null; both make an empty one.
  explicit Owned(Class* object)
    requires(kImplementationOffset<Class> != 0)
      : Owned(object, /*destroy_slot=*/1) {}
  // For the parser and its refitter, whose destructor has another slot:
  // calls.Parser_destroy.slot().
  Owned(Class* object, uint32_t destroy_slot)
      : object_(reinterpret_cast<uintptr_t>(object) < kSmallestAddress ? nullptr : object),
        destroy_slot_(destroy_slot) {}
  Owned(Owned&& other) noexcept : object_(other.release()), destroy_slot_(other.destroy_slot_) {}
  Owned& operator=(Owned&& other) noexcept {
    if (this != &other) {
      reset();
      object_ = other.release();
      destroy_slot_ = other.destroy_slot_;
    }
    return *this;
  }
  ~Owned() { reset(); }

  Class* get() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  Class* release() noexcept {
    Class* object = object_;
    object_ = nullptr;
    return object;
  }
  void reset() noexcept {
    Class* object = release();
    if (object == nullptr) return;
    using Delete = void (*)(void*);
    const Delete* table;
    std::memcpy(&table, object, sizeof(table));
    table[destroy_slot_](object);
  }

 private:
  static constexpr uintptr_t kSmallestAddress = 4096;
  Class* object_ = nullptr;
  uint32_t destroy_slot_ = 1;
};

// Receives the time of each layer, in either layout of the vendor's profiler. Derive from it and
// pass address(family) to ExecutionContext_setProfiler; keep it alive while it is set.
class LayerTimes : private Profiler10, private Profiler {
 public:
  virtual void layer_time(const char* layer, float milliseconds) noexcept = 0;
  void* address(Family family) noexcept {
    return family == Family::k10 ? static_cast<void*>(static_cast<Profiler10*>(this))
                                 : static_cast<void*>(static_cast<Profiler*>(this));
  }

 private:
  void reportLayerTime(const char* layer, float milliseconds) noexcept final {
    layer_time(layer, milliseconds);
  }
};

}  // namespace zerolane::trt

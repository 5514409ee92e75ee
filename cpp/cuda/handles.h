// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <utility>

#include "cuda/library.h"

namespace zerolane::cuda {

// Owns one object of the runtime; move-only; empty when moved from. Destroying never throws, and
// does nothing in a forked child.
template <class T, int32_t (*Table::*kDestroy)(int32_t, T*) noexcept>
class Handle {
 public:
  Handle() = default;
  Handle(int device, T* object) noexcept : object_(object), device_(device) {}
  Handle(Handle&& other) noexcept
      : object_(std::exchange(other.object_, nullptr)), device_(other.device_) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      object_ = std::exchange(other.object_, nullptr);
      device_ = other.device_;
    }
    return *this;
  }
  ~Handle() { reset(); }

  T* get() const noexcept { return object_; }
  explicit operator bool() const noexcept { return object_ != nullptr; }
  void reset() noexcept {
    T* object = std::exchange(object_, nullptr);
    if (object != nullptr && !forked()) (opened_library()->*kDestroy)(device_, object);
  }

 private:
  T* object_ = nullptr;
  int device_ = 0;
};

using StreamHandle = Handle<NativeStream, &Table::stream_destroy>;
using EventHandle = Handle<NativeEvent, &Table::event_destroy>;
using GraphHandle = Handle<NativeGraph, &Table::graph_destroy>;
using GraphExecHandle = Handle<NativeGraphExec, &Table::graph_exec_destroy>;
using PoolHandle = Handle<NativePool, &Table::pool_destroy>;

}  // namespace zerolane::cuda

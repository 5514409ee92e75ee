// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>

namespace zerolane {

class Stream;

enum class DeviceKind : uint8_t { kHost, kCuda };

// Which device, by kind and number. The host is {kHost, 0}.
struct DeviceId {
  DeviceKind kind = DeviceKind::kHost;
  int index = 0;
  bool operator==(const DeviceId&) const = default;
  std::string text() const;  // "cpu", "cuda:0"
};

// Allocates, copies, makes streams. Thread-safe. Devices live as long as the process.
class Device {
 public:
  virtual ~Device() = default;
  virtual DeviceId id() const = 0;

  // Raw memory, aligned to kAlignment; throws kOutOfMemory. Zero bytes give a valid, unusable
  // address.
  virtual void* allocate(size_t bytes) = 0;
  virtual void release(void* data, size_t bytes) noexcept = 0;

  // Copies between memory of this device and of the host, or within this device; blocks.
  virtual void copy(void* to, const void* from, size_t bytes) = 0;

  // Whether a stream of this device copies from and to this host memory without staging.
  virtual bool is_pinned(const void* /*data*/) const { return false; }

  virtual std::unique_ptr<Stream> make_stream() = 0;
};

inline constexpr size_t kAlignment = 64;

Device& host_device();

}  // namespace zerolane

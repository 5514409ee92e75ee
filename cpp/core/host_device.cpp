// SPDX-License-Identifier: Apache-2.0
#include <cstdlib>
#include <cstring>

#include "core/device.h"
#include "core/error.h"
#include "core/stream.h"

namespace zerolane {
namespace {

class HostDevice final : public Device {
 public:
  DeviceId id() const override { return {}; }

  void* allocate(size_t bytes) override {
    if (bytes > SIZE_MAX - 2 * kAlignment) fail(bytes);
    size_t rounded = bytes == 0 ? kAlignment : (bytes + kAlignment - 1) / kAlignment * kAlignment;
    void* data = std::aligned_alloc(kAlignment, rounded);
    if (data == nullptr) fail(bytes);
    return data;
  }

  void release(void* data, size_t) noexcept override { std::free(data); }

  void copy(void* to, const void* from, size_t bytes) override {
    if (bytes > 0) std::memcpy(to, from, bytes);
  }

  std::unique_ptr<Stream> make_stream() override { return make_host_stream(); }

 private:
  [[noreturn]] static void fail(size_t bytes) {
    throw make_error(Code::kOutOfMemory, "allocating host memory",
                     std::to_string(bytes) + " bytes could not be had",
                     "use smaller shapes or free other buffers", "cpu");
  }
};

}  // namespace

std::string DeviceId::text() const {
  return kind == DeviceKind::kHost ? "cpu" : "cuda:" + std::to_string(index);
}

Device& host_device() {
  static auto* device =
      new HostDevice;  // lives as long as the process: buffers may outlive every static
  return *device;
}

}  // namespace zerolane

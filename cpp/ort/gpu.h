// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <mutex>

#include "core/buffer.h"
#include "core/device.h"
#include "core/stream.h"

namespace zerolane::ort {

// What sessions of the CUDA provider work with: one a model, shared with its twin. ONNX Runtime
// takes one stream a session, so all contexts of a session run on `stream`, one after the other;
// each has a stream of its own for its copies and for the order with producers.
struct Gpu {
  Gpu(Device& where, std::shared_ptr<Pool> device_memory, std::shared_ptr<Pool> pinned_memory,
      std::shared_ptr<Stream> compute)
      : device(where),
        memory(std::move(device_memory)),
        pinned(std::move(pinned_memory)),
        stream(std::move(compute)) {}

  Device& device;
  std::shared_ptr<Pool> memory;    // of the device
  std::shared_ptr<Pool> pinned;    // of the host
  std::shared_ptr<Stream> stream;  // user_compute_stream
  // Held while work is put on `stream`; with CUDA graphs for the whole run, as ONNX Runtime takes
  // one run at a time then.
  std::mutex mutex;
  std::atomic<int64_t> next_graph{1};
};

}  // namespace zerolane::ort

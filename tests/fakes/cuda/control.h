// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

#include "cuda/table.h"

// What tests can ask of the stand-in besides the table: counts, failures, gates.
namespace zerolane::cuda::fake {

// Statuses have the numbers and names of the CUDA runtime.
inline constexpr int32_t kInvalidValue = 1;
inline constexpr int32_t kOutOfMemory = 2;
inline constexpr int32_t kInsufficientDriver = 35;
inline constexpr int32_t kInvalidDevice = 101;
inline constexpr int32_t kNoDevice = 100;
inline constexpr int32_t kInvalidHandle = 400;
inline constexpr int32_t kNotReady = 600;
inline constexpr int32_t kIllegalAddress = 700;
inline constexpr int32_t kLaunchFailure = 719;
inline constexpr int32_t kCaptureUnsupported = 900;
inline constexpr int32_t kCaptureInvalidated = 901;
inline constexpr int32_t kCaptureUnmatched = 903;
inline constexpr int32_t kCaptureUnjoined = 904;
inline constexpr int32_t kCaptureIsolation = 905;
inline constexpr int32_t kCaptureWrongThread = 908;

struct Counts {
  uint64_t copies_to_device, bytes_to_device;  // counted when they are run, graphs included
  uint64_t copies_to_host, bytes_to_host;
  uint64_t copies_on_device, bytes_on_device;
  uint64_t copies_on_host, bytes_on_host;
  uint64_t strided_copies, fills, host_functions;
  uint64_t stream_synchronizes, event_synchronizes, event_records, event_waits;
  uint64_t device_allocations, pinned_allocations;
  uint64_t captures, graph_instantiations, graph_updates, graph_launches;
  uint64_t calls;  // of all functions that take a device
  // What exists now.
  int64_t live_streams, live_events, live_graphs, live_execs, live_pools;
  int64_t live_device_blocks, live_pinned_blocks;
  uint64_t live_device_bytes;  // of all devices
};

struct Control {
  void (*counts)(Counts* counts) noexcept;
  // Sets the counts of what happened to zero; what exists stays.
  void (*clear_counts)() noexcept;
  // The function of the table with this name fails with `status`, after `skip` more calls that
  // succeed, `times` times. "execution": an enqueued piece of work fails when its turn comes, and
  // every call after that, as after an illegal address, until heal().
  void (*fail)(const char* function, int32_t status, int64_t skip, int64_t times) noexcept;
  // Forgets all of fail() and what came of it.
  void (*heal)() noexcept;
  // Device memory, for each device; what is in use stays.
  void (*set_memory)(uint64_t bytes) noexcept;
  // Work enqueued on the stream from now on waits until release().
  void (*hold)(int32_t device, NativeStream* stream) noexcept;
  void (*release)(int32_t device, NativeStream* stream) noexcept;
  // How many copies have been run from or to exactly this host address.
  uint64_t (*copies_of)(const void* host) noexcept;
};

using ControlFunction = const Control* (*)();
inline constexpr const char* kControlSymbol = "zerolane_fake_cuda_control";

}  // namespace zerolane::cuda::fake

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <vector>

#include "ort/api.h"
#include "ort/gpu.h"
#include "registry/call.h"

namespace zerolane::ort {

// An op's CUDA body inside the CUDA provider: works on the provider's stream, in its order. Waits
// only for ops whose output sizes the data decides. Any thread.
class OpOnCuda {
 public:
  OpOnCuda(const Runtime& rt, std::shared_ptr<Gpu> gpu, std::shared_ptr<const OpState> state);
  // The call is planned; gives the node's first `outputs` outputs their memory and runs the body.
  void run(OpCall& call, OrtKernelContext* context, size_t outputs);

 private:
  void* output(OrtKernelContext* context, size_t index, const Shape& shape) const;

  const Runtime& rt_;
  std::shared_ptr<Gpu> gpu_;
  std::shared_ptr<const OpState> state_;
  DeviceConstants constants_;
};

}  // namespace zerolane::ort

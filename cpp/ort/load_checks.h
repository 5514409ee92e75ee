// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/onnx_model.h"
#include "ort/guard_rules.h"

namespace zerolane::ort {

// What a model means for the way it is loaded.
struct Examined {
  std::optional<std::vector<std::byte>> guarded;  // what to load in its place
  bool compares = false;                          // a guard in there looks at two tensors
  bool external_data = true;                      // weights may stand in files beside it
  bool pools = false;                             // has windows that images may be too small for
  bool quantized_convolutions = false;            // perhaps, as its operators' names go
  std::vector<OpUse> ops;           // that no standard domain and no function of the model defines
  bool transposes_empties = false;  // a tensor emptied by data may meet a fused transposition
};

// Refuses a model that would end the process, or never end, while onnxruntime loads it or in every
// run: nodes without an input that a kernel reads unasked, attributes that it divides or counts by,
// constants that break a rule of guard_rules.h. Throws kUnsupported, naming `name` and the node.
// Then guards it (guard.h). Bytes that are no readable model are left to the vendor library.
// Linear in the size of the file. Thread-safe.
Examined examine(std::span<const std::byte> model, const std::string& name, GuardFor runs);

}  // namespace zerolane::ort

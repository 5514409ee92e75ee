// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "ort/guard_rules.h"

namespace zerolane::ort {

// Some kernels of onnxruntime end the whole process on inputs that the model allows. Such an input
// is put behind a node of ours that hands it on, or fails the run with a message instead:
//
//     x --> LSTM        becomes        x --> zerolane.guard::Require --> LSTM
//
// Require: one tensor in, the same tensor out. RequireWith: two in, the first one out; the rule may
// look at the second, and rules about shapes hold where that is empty. Attributes: `what` (string)
// names the guarded node and input for the message; `rule`, `argument`, `detail` and `rank` (ints)
// say what must hold, see GuardCheck.
inline constexpr std::string_view kGuardDomain = "zerolane.guard";
inline constexpr std::string_view kGuardOp = "Require";
inline constexpr std::string_view kGuardWithOp = "RequireWith";
inline constexpr std::int64_t kGuardVersion = 1;

// The model with its guards, in all graphs and function bodies; nothing else is changed. Nullopt
// where nothing needs a guard, and for bytes that are no readable model, so that the vendor
// library reports those itself. ORT-format files are not rewritten. Linear in the size of the
// file. Throws kOutOfMemory only. Thread-safe.
std::optional<std::vector<std::byte>> guard_model(std::span<const std::byte> model);
// The same where the model was read already; throws nothing but kOutOfMemory either.
std::optional<std::vector<std::byte>> guard_model(std::span<const std::byte> model,
                                                  const ModelView& view,
                                                  std::vector<PlannedGuard> plans);

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace zerolane::ort {

// Some kernels of onnxruntime end the whole process on inputs that the model allows. Such an input
// is put behind a node of ours that hands it on, or fails the run with a message instead:
//
//     x --> LSTM        becomes        x --> zerolane.guard::Require --> LSTM
//
// Require: one tensor in, the same tensor out. Attributes: `what` (string) names the guarded node
// and input for the message; `rule` and `argument` (ints) say what must hold, see GuardRule.
inline constexpr std::string_view kGuardDomain = "zerolane.guard";
inline constexpr std::string_view kGuardOp = "Require";
inline constexpr std::int64_t kGuardVersion = 1;

// The numbers stand in rewritten models: never change one.
enum class GuardRule : std::int64_t {
  kNonzero = 0,      // no axis of the bit mask `argument` has length zero; bit 63: all from 63 on
  kRankIs = 1,       // exactly `argument` dimensions
  kRankAtLeast = 2,  // `argument` dimensions or more
};
inline constexpr std::int64_t kAllAxes = -1;

// Whether a tensor of this shape may be handed on. False for a rule that does not exist.
bool holds(GuardRule rule, std::int64_t argument, std::span<const std::int64_t> shape) noexcept;

// What the rule wants, for messages: "4 dimensions", "no axis of length zero", ...
std::string requirement(GuardRule rule, std::int64_t argument);

struct GuardedInput {
  std::string_view domain;  // "" for the standard operators
  std::string_view op_type;
  std::size_t input;
  GuardRule rule;
  std::int64_t argument;
  std::string_view only_with = {};  // attribute that the node must have for this to matter
};

// The inputs that are guarded, at most one rule each.
std::span<const GuardedInput> guarded_inputs() noexcept;

// The model with its guards, in all graphs and function bodies; nothing else is changed. Nullopt
// where nothing needs a guard, and for bytes that are no readable model, so that the vendor
// library reports those itself. ORT-format files are not rewritten. Linear in the size of the
// file. Throws kOutOfMemory only. Thread-safe.
std::optional<std::vector<std::byte>> guard_model(std::span<const std::byte> model);

}  // namespace zerolane::ort

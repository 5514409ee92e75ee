// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "ort/model_view.h"

namespace zerolane::ort {

// What an input must be so that the kernel behind it does not end the process, or never ends.
// The numbers stand in rewritten models: never change one.
enum class GuardRule : std::int64_t {
  kNonzero = 0,        // no axis of the bit mask `argument` has length zero; bit 63: all from 63 on
  kRankIs = 1,         // exactly `argument` dimensions
  kRankAtLeast = 2,    // `argument` dimensions or more
  kInnerNonzero = 3,   // no axis from `argument` on (below 0: counted from the end) has length
                       // zero; if `detail` is 0, save where one before it has
  kSquare = 4,         // the last two axes have one length
  kExtentAtLeast = 5,  // axis `detail` has length `argument` or more
  kValueNonzero = 6,   // no element of an int32 or int64 tensor is 0
  kSameRank = 7,       // as many dimensions as the other tensor
  kDivides = 8,        // as a divisor of the other tensor, no int32 or int64 quotient overflows
};
inline constexpr std::int64_t kAllAxes = -1;

struct GuardCheck {
  GuardRule rule = GuardRule::kNonzero;
  std::int64_t argument = 0;
  // kNonzero: holds also where an axis of this bit mask has length zero. kExtentAtLeast: the axis.
  // kInnerNonzero: see there.
  std::int64_t detail = 0;
  std::int64_t rank = 0;  // not 0: only tensors of this rank are looked at
};

// Whether a tensor of this shape may be handed on. An extent of -1 is not known; nullopt where the
// answer depends on one. Rules about values or another tensor: nullopt. False for a rule that does
// not exist.
std::optional<bool> holds(const GuardCheck& check, std::span<const std::int64_t> shape) noexcept;

// What the check wants, for messages: "4 dimensions", "no axis of length zero", ...
std::string requirement(const GuardCheck& check);

// When a row of the table applies to a node.
struct When {
  enum class Kind : std::uint8_t {
    kAlways,
    kHasAttribute,  // `name` is given
    kIsSet,         // `name` is given and not 0, or not known
    kIsNot,         // `name` is given as anything but `number`, or left out
    kGiven,         // input `number` is given
    kLeftOut,       // input `number` is left out
    kLacksAny,      // attribute `name` or `other_name` is left out
    kOpenRank,      // the caller of the model decides the rank of the input, or it is a constant
    kRankMayBe,     // the rank of input `number` of a constant is not known to be other than `more`
    kNeedsIndices,  // Einsum: the equation is not one whose products need no transpose
    kConstant,      // the input is a constant: checked when the model is loaded only
  };
  Kind kind = Kind::kAlways;
  std::string_view name = {};
  std::int64_t number = 0;
  std::int64_t more = 0;
  std::string_view other_name = {};
};

// Where the argument of the check comes from.
enum class ArgumentFrom : std::uint8_t {
  kTable,
  kAxis,       // attribute `axis`, else the table's argument
  kAfterAxis,  // one more than that; no guard for the last axis
  kSubscript,  // Einsum: letters of the operand; no guard where it has an ellipsis
  kScales,     // elements of the constant input `scales`, or of the attribute
  kPool,       // one check a spatial axis, channels last: what the window needs
};

struct GuardedInput {
  std::string_view domain;  // "" for the standard operators
  std::string_view op_type;
  std::size_t input = 0;
  GuardCheck check;
  When when = {};
  ArgumentFrom from = ArgumentFrom::kTable;
  std::size_t step = 0;       // not 0: every so many inputs from `input` on
  std::size_t other = kNone;  // the tensor that the rule compares with; see Require below
};

// In guard_table.cpp, sorted by operator. Several rows may be about one input; they are checked in
// this order.
std::span<const GuardedInput> guard_table() noexcept;

// The rows about inputs that end the process when they are empty, without those about weights: for
// files that cannot be rewritten.
std::span<const GuardedInput> guarded_inputs();

// A check that one input of a node needs at run time, or that is known to fail.
struct PlannedGuard {
  std::size_t node = kNone;
  std::size_t input = kNone;
  std::size_t other = kNone;  // kSameRank, kDivides: with which input; kNonzero: holds where that
                              // one is empty
  GuardCheck check;
  bool fails = false;                    // the input is a constant that breaks the rule
  bool at_load = false;                  // needs no guard besides: only a constant can be fatal
  std::vector<std::int64_t> shape = {};  // of that constant
};

// Which runs a session is loaded for, see twin.h.
enum class GuardFor : std::uint8_t {
  kAll,   // every run
  kFed,   // those that are fed no tensor with an extent of zero; a twin has the others
  kTwin,  // every run, and images smaller than a pooling window, which kAll leaves out: guards
          // there would cost ordinary models their speed
};

// All guards that a model needs, in the order of its nodes. Leaves out what is known to hold.
std::vector<PlannedGuard> plan_guards(const ModelView& model, GuardFor runs = GuardFor::kAll);

// "input 0 \"x\" of the LSTM node \"encoder\"", names cut to a readable length.
std::string describe_input(const ModelView& model, const NodeView& node, std::size_t input);
std::string describe_node(const ModelView& model, const NodeView& node);

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ort/model_view.h"

namespace zerolane::ort {

// What can be told of a value in every run that is fed no tensor of extent zero, by following it
// back to constants, inputs and operators that are known. Every answer is a promise or "not known";
// a look-up follows a limited number of values and then gives up.
class FedFacts {
 public:
  explicit FedFacts(const ModelView& model) : model_(model) {}

  // No extent is ever zero in such a run.
  bool never_empty(std::size_t graph, std::string_view name) const;

 private:
  // Values that one look-up may visit, and how deep.
  struct Budget {
    int values = 150;
    int depth = 0;
  };
  // Each above zero, or kSome (fed_facts.cpp). Nullopt where one may be zero, or nothing is known.
  using Extents = std::optional<std::vector<std::int64_t>>;

  bool fills(std::size_t graph, std::string_view name, Budget& budget) const;
  bool fills_from(const ValueSource& source, Budget& budget) const;
  Extents extents(std::size_t graph, std::string_view name, Budget& budget) const;
  Extents extents_from(const ValueSource& source, Budget& budget) const;
  Extents of_constant(const NodeView& node) const;
  Extents of_conv(const NodeView& node, Budget& budget) const;
  Extents of_slice(const NodeView& node, Budget& budget) const;
  Extents of_unsqueeze(const NodeView& node, Budget& budget) const;
  Extents of_transpose(const NodeView& node, Budget& budget) const;
  // The numbers of an attribute, of a constant input where `input` is given, or `otherwise` where
  // the node has neither. Nullopt where they are not known.
  std::optional<std::vector<std::int64_t>> numbers(const NodeView& node, std::string_view attribute,
                                                   std::size_t input,
                                                   std::vector<std::int64_t> otherwise) const;

  const ModelView& model_;
};

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <optional>
#include <string_view>
#include <vector>

#include "ort/model_view.h"

namespace zerolane::ort {

// What can be told of a value before a run, by following it back to constants, inputs and
// operators that are known. Every answer is a promise or "not known"; a look-up follows a limited
// number of values and then gives up.
class ValueFacts {
 public:
  explicit ValueFacts(const ModelView& model) : model_(model) {}

  // Extents, -1 where not known: of constants, and of inputs whose feeds the library checks.
  std::optional<std::vector<std::int64_t>> shape(std::size_t graph, std::string_view name) const;
  std::optional<std::size_t> rank(std::size_t graph, std::string_view name) const;
  bool is_constant(std::size_t graph, std::string_view name) const;

  bool is_float(std::size_t graph, std::string_view name) const;
  // No element is ever `value`, which is negative.
  bool never_holds(std::size_t graph, std::string_view name, std::int64_t value) const;
  // No extent is ever zero.
  bool never_empty(std::size_t graph, std::string_view name) const;
  // The caller of the model decides its rank. False where that is not known.
  bool has_open_rank(std::size_t graph, std::string_view name) const;

 private:
  // Values that one look-up may visit, and how deep.
  struct Budget {
    int values = 150;
    int depth = 0;
  };
  enum class Question : std::uint8_t { kFloat, kNever, kNeverEmpty, kOpenRank };
  struct Asked {
    Question question;
    std::int64_t value = 0;
  };

  bool ask(Asked asked, std::size_t graph, std::string_view name, Budget& budget) const;
  bool ask_source(Asked asked, const ValueSource& source, Budget& budget) const;
  bool ask_callers(Asked asked, const ValueSource& source, Budget& budget) const;
  bool ask_node(Asked asked, const ValueSource& source, Budget& budget) const;

  const ModelView& model_;
};

}  // namespace zerolane::ort

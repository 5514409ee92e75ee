// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace zerolane::ort {

// Refuses a model that would end the process, or never end, while onnxruntime loads it or in every
// run: nodes without an input that a kernel reads unasked, attributes that it divides or counts by,
// constants that break a rule of guard_rules.h. Throws kUnsupported, naming `name` and the node.
// Bytes that are no readable model are left to the vendor library. Linear in the size of the file.
// Thread-safe.
void check_loadable(std::span<const std::byte> model, const std::string& name);

// check_loadable and guard_model in one, which reads the model once: what to load in its place, or
// nullopt to load it as it is. `pools`: see plan_guards.
std::optional<std::vector<std::byte>> check_and_guard(std::span<const std::byte> model,
                                                      const std::string& name, bool pools);

}  // namespace zerolane::ort

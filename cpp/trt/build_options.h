// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/log.h"
#include "tensorrt/types.h"

namespace zerolane::trt {

// The shapes that one input may have. All three have the same rank, 8 at most.
struct ShapeRange {
  std::string input;
  std::vector<int64_t> least;
  std::vector<int64_t> best;
  std::vector<int64_t> greatest;
};

// What a build is asked for; python/zerolane/builder/options.py says what each means. Empty
// optionals leave the choice to the library.
struct BuildOptions {
  std::vector<std::vector<ShapeRange>> profiles;
  std::vector<ComputeCapability> compute_capabilities;
  std::optional<int> optimization_level;
  std::vector<std::pair<MemoryPoolType, size_t>> memory_pools;
  HardwareCompatibilityLevel hardware_compatibility = HardwareCompatibilityLevel::kNone;
  ProfilingVerbosity profiling_verbosity = ProfilingVerbosity::kLayerNamesOnly;
  std::vector<std::pair<BuilderFlag, std::string>> flags;  // to set, each with its name for users
  std::optional<bool> tf32;
  std::optional<int> tiling_level;
  std::optional<int> avg_timing_iterations;
  std::optional<int> max_aux_streams;
  // Whether a timing cache takes part, and what it begins with (may be empty).
  bool timing_cache = false;
  std::string timing_cache_content;
  LogLevel log_level = LogLevel::kWarning;
  bool parse_only = false;  // no plan: only what the parser says
  bool plugins = false;     // the model uses ops of the registry
};

}  // namespace zerolane::trt

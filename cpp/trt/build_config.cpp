// SPDX-License-Identifier: Apache-2.0
#include "trt/build_config.h"

#include <string>
#include <string_view>

#include "core/error.h"
#include "trt/library.h"

namespace zerolane::trt {
namespace {

constexpr std::string_view kDoing = "setting up the build";
constexpr const char* kPools[] = {"workspace",       "dla_managed_sram", "dla_local_dram",
                                  "dla_global_dram", "tactic_dram",      "tactic_shared_memory"};

[[noreturn]] void throw_absent(const Library& library, const std::string& option) {
  throw make_error(Code::kUnsupported, kDoing, library.title() + " has no '" + option + "'",
                   "leave that option out, or build with another backend or release", option);
}

[[noreturn]] void throw_refused(const Library& library, const std::string& option,
                                const std::string& value) {
  throw make_error(Code::kInvalidArgument, kDoing,
                   library.title() + " refuses " + value + " for '" + option + "'",
                   "its messages in the log say why; choose another value", option);
}

std::string shape_text(const std::vector<int64_t>& sizes) {
  std::string out = "[";
  for (int64_t size : sizes) out += (out.size() > 1 ? ", " : "") + std::to_string(size);
  return out + "]";
}

template <typename Call>
void require(const Library& library, const Call& call, const char* option) {
  if (!call) throw_absent(library, option);
}

Dims make_dims(const std::vector<int64_t>& sizes, const std::string& input) {
  if (sizes.size() > static_cast<size_t>(kMaxDims)) {
    throw make_error(Code::kShapeMismatch, kDoing,
                     "the shape of input '" + input + "' has " + std::to_string(sizes.size()) +
                         " dimensions, expected 8 at most",
                     "reshape inside the model", input);
  }
  Dims dims;
  dims.nbDims = static_cast<int32_t>(sizes.size());
  for (size_t i = 0; i < sizes.size(); ++i) dims.d[i] = sizes[i];
  return dims;
}

void add_profile(const Library& library, Builder* builder, BuilderConfig* config,
                 const std::vector<ShapeRange>& ranges) {
  const Calls& calls = library.calls;
  OptimizationProfile* profile = calls.Builder_createOptimizationProfile(builder);
  for (const ShapeRange& range : ranges) {
    const std::pair<OptProfileSelector, const std::vector<int64_t>*> bounds[] = {
        {OptProfileSelector::kMin, &range.least},
        {OptProfileSelector::kMax, &range.greatest},
        {OptProfileSelector::kOpt, &range.best}};
    for (auto [which, sizes] : bounds) {
      if (!calls.OptimizationProfile_setDimensions(profile, range.input.c_str(), which,
                                                   make_dims(*sizes, range.input))) {
        throw_refused(library, "shapes", shape_text(*sizes) + " of input '" + range.input + "'");
      }
    }
  }
  if (calls.BuilderConfig_addOptimizationProfile(config, profile) < 0) {
    throw_refused(library, "profiles", "a profile");
  }
}

void set_flags(const Library& library, BuilderConfig* config, const BuildOptions& options) {
  const Calls& calls = library.calls;
  for (const auto& [flag, name] : options.flags) {
    int32_t number = calls.number(flag);
    if (number < 0) throw_absent(library, name);
    calls.BuilderConfig_setFlag(config, number);
  }
  if (options.tf32) {
    int32_t number = calls.number(BuilderFlag::kTf32);
    if (number < 0) throw_absent(library, "tf32");
    if (*options.tf32) {
      calls.BuilderConfig_setFlag(config, number);
    } else {
      calls.BuilderConfig_clearFlag(config, number);
    }
  }
}

void set_targets(const Library& library, BuilderConfig* config,
                 const std::vector<ComputeCapability>& targets) {
  if (targets.empty()) return;
  const Calls& calls = library.calls;
  require(library, calls.BuilderConfig_setNbComputeCapabilities, "compute_capabilities");
  // The number of them comes first: the places do not exist before.
  bool ok = calls.BuilderConfig_setNbComputeCapabilities(config, static_cast<int>(targets.size()));
  for (size_t i = 0; ok && i < targets.size(); ++i) {
    ok = calls.BuilderConfig_setComputeCapability(config, targets[i], static_cast<int32_t>(i));
  }
  if (!ok) throw_refused(library, "compute_capabilities", "these");
}

}  // namespace

void configure(const Library& library, Builder* builder, BuilderConfig* config,
               const BuildOptions& options) {
  const Calls& calls = library.calls;
  set_flags(library, config, options);
  set_targets(library, config, options.compute_capabilities);
  calls.BuilderConfig_setProfilingVerbosity(config, options.profiling_verbosity);
  for (auto [pool, bytes] : options.memory_pools) {
    calls.BuilderConfig_setMemoryPoolLimit(config, pool, bytes);
    if (calls.BuilderConfig_getMemoryPoolLimit(config, pool) != bytes) {
      throw_refused(library, "memory_pools",
                    std::to_string(bytes) + " bytes of " + kPools[static_cast<size_t>(pool)]);
    }
  }
  if (options.optimization_level) {
    calls.BuilderConfig_setBuilderOptimizationLevel(config, *options.optimization_level);
    if (calls.BuilderConfig_getBuilderOptimizationLevel(config) != *options.optimization_level) {
      throw_refused(library, "optimization_level", std::to_string(*options.optimization_level));
    }
  }
  if (options.hardware_compatibility != HardwareCompatibilityLevel::kNone) {
    require(library, calls.BuilderConfig_setHardwareCompatibilityLevel, "hardware_compatibility");
    calls.BuilderConfig_setHardwareCompatibilityLevel(config, options.hardware_compatibility);
    if (calls.BuilderConfig_getHardwareCompatibilityLevel(config) !=
        options.hardware_compatibility) {
      throw_refused(library, "hardware_compatibility", "that level");
    }
  }
  if (options.tiling_level) {
    require(library, calls.BuilderConfig_setTilingOptimizationLevel, "tiling_level");
    if (!calls.BuilderConfig_setTilingOptimizationLevel(
            config, static_cast<TilingOptimizationLevel>(*options.tiling_level))) {
      throw_refused(library, "tiling_level", std::to_string(*options.tiling_level));
    }
  }
  if (options.avg_timing_iterations) {
    calls.BuilderConfig_setAvgTimingIterations(config, *options.avg_timing_iterations);
  }
  if (options.max_aux_streams) {
    require(library, calls.BuilderConfig_setMaxAuxStreams, "max_aux_streams");
    calls.BuilderConfig_setMaxAuxStreams(config, *options.max_aux_streams);
  }
  for (const auto& ranges : options.profiles) add_profile(library, builder, config, ranges);
}

}  // namespace zerolane::trt

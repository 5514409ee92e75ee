// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "trt/build_options.h"
#include "trt/build_report.h"
#include "trt/build_watch.h"
#include "trt/objects.h"
#include "trt/plugin_model.h"

namespace zerolane::trt {

struct Library;

// An ONNX model, named for users: the file at `path`, or, where `bytes` is not empty, those, with
// `path` then a place inside the folder of its external data (or empty).
struct ModelSource {
  std::string name;
  std::string path;
  std::span<const std::byte> bytes;
};

// One input or output of the network as the library typed it, but for uint8 of plugins, which the
// library sees as int8. -1: a free dimension.
struct NetworkTensor {
  std::string name;
  DataType type;
  std::vector<int64_t> shape;
};

// What a build gives. `plan` is empty where the graph has nodes that the library cannot build
// (`unsupported` then holds them) and where only the parser was asked.
struct BuildResult {
  Owned<HostMemory> plan;
  std::span<const std::byte> bytes;  // of the plan
  std::vector<NetworkTensor> inputs;
  std::vector<NetworkTensor> outputs;
  int layers = 0;            // of the network that was parsed, before the library fuses them
  std::string timing_cache;  // what it holds after the build; empty unless asked for
  double parse_seconds = 0;
  double build_seconds = 0;
  std::optional<UnsupportedGraph> unsupported;
  std::vector<PluginModel::Asked> plugins;
};

// Parses and builds on the calling thread; blocks. Any number of threads may build at once.
// Throws kInvalidModel, kUnsupported, kInvalidArgument, kOutOfMemory, kCancelled (the watch ended
// it), kBackend; what the watch's function threw, and what ops of the model failed with. The
// library may crash on a damaged model.
BuildResult build_engine(Library& library, const ModelSource& model, const BuildOptions& options,
                         BuildWatch& watch);

}  // namespace zerolane::trt

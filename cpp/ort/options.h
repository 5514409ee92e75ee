// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "ort/api.h"
#include "ort/gpu.h"

namespace zerolane::ort {

using Pairs = std::vector<std::pair<std::string, std::string>>;

struct Provider {
  std::string name;  // "CPU", "CUDA", "TensorRT", "OpenVINO", or what a plugin library registers
  Pairs options;
};

struct Options {
  int threads = 0;        // inside an operator; 0: the process's shared pool
  int inter_threads = 0;  // between operators, for parallel execution; 0: like threads
  bool spin = false;      // let idle workers spin
  int graph_level = 99;   // 0 none, 1 basic, 2 extended, 99 all
  bool parallel = false;
  bool arena = true;
  bool memory_pattern = true;
  std::vector<std::pair<std::string, int64_t>> free_dimensions;  // by name
  Pairs config;                                                  // session config entries
  std::string profile;                                           // file prefix; "" is off
  int log_level = 2;                                             // 0 verbose .. 4 fatal
  std::vector<Provider> providers;                               // in order; CPU is always last
  // For the CUDA provider: its memory is used in place. Null: memory is the host's, and the library
  // copies.
  std::shared_ptr<Gpu> gpu;

  // The CUDA provider was asked to capture graphs.
  bool cuda_graphs() const;
};

// Throws kUnavailable for a provider that this library lacks or that does not start;
// kInvalidArgument for a bad value.
Handle<OrtSessionOptions> make_session_options(const Runtime& rt, const Options& options,
                                               const std::string& model);

// Makes the execution providers of a plugin library known under `name`. Needs ONNX Runtime 1.22.
void register_provider_library(const Runtime& rt, const std::string& name, const std::string& path);

}  // namespace zerolane::ort

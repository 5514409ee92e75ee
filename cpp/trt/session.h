// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/log.h"
#include "core/session.h"
#include "trt/engine.h"

namespace zerolane::trt {

struct SessionSettings {
  std::string name;  // for messages and traces
  // Execution contexts with their CUDA graphs that one Context keeps, one for each set of input
  // shapes, the least recently used given up first. 0: no graphs, one execution context.
  size_t graphs = 4;
  std::string profile;  // file prefix for the layers' times; "": off. Graphs are off then.
  LogLevel log_level = LogLevel::kWarning;  // from which on the library's messages are kept
  // Names of dynamic dimensions, which a plan does not keep: by tensor, "" for none.
  std::map<std::string, std::vector<std::string>> symbols;
  ModelInfo info;
};

// A session over an engine. Throws kUnsupported where the engine has an input or output that is
// neither linear in memory nor of a known element type.
std::shared_ptr<Session> make_session(std::shared_ptr<Engine> engine, SessionSettings settings);

// The engine behind a session, or null for one of another backend.
Engine* engine_of(Session& session) noexcept;

}  // namespace zerolane::trt

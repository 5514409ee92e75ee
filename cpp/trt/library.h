// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "trt/calls.h"
#include "trt/logger.h"
#include "trt/objects.h"

namespace zerolane::trt {

// What a library was made for. Lean and dispatch only run engines.
enum class Edition { kFull, kLean, kDispatch };

// An open TensorRT or TensorRT-RTX. Opened once a file, never closed; immutable except for the
// logger; any thread.
struct Library {
  explicit Library(const char* log_source) : logger(log_source) {}

  Family family = Family::k10;
  Edition edition = Edition::kFull;
  int major = 0;
  int minor = 0;
  int patch = 0;
  int32_t number = 0;  // what getInferLibVersion says
  std::string path;    // of the file that was really opened
  std::string soname;
  bool can_build = false;  // has a builder (which may still need a driver)
  bool can_run = false;    // has a runtime (which needs a driver to run)
  Calls calls;
  LibraryLogger logger;

  const char* name() const noexcept;  // "TensorRT", "TensorRT-RTX"
  std::string version() const;        // "1.7.1"
  std::string title() const;          // "TensorRT-RTX 1.7.1", "TensorRT 10.16.1 (lean)"

  // Entry points; null where the library has none.
  void* (*create_builder)(void* logger, int32_t version) = nullptr;
  void* (*create_runtime)(void* logger, int32_t version) = nullptr;
  void* (*create_refitter)(void* engine, void* logger, int32_t version) = nullptr;
  void* (*get_registry)() = nullptr;
};

// The ONNX parser of a library, a library of its own.
struct ParserLibrary {
  std::string path;
  int version = 0;             // what getNvOnnxParserVersion says
  std::string plugin_problem;  // why it would end the process with a plugin; empty: it does not
  void* (*create)(void* network, void* logger, int32_t version) = nullptr;
  void* (*create_refitter)(void* refitter, void* logger, int32_t version) = nullptr;
};

// Opens a library, or returns the open one. Throws kUnavailable: no such file, not a TensorRT, a
// release whose layout is not known, or another file of the same soname is already open.
Library& open_library(const std::string& path);

// Opens the ONNX parser that lies beside the library (or at `path`), once a library. Throws
// kUnavailable.
const ParserLibrary& open_parser(Library& library, const std::string& path = {});

// Opens the standard plugins that TensorRT ships beside the library and registers them, once a
// library. False where there are none; TensorRT-RTX has its own built in.
bool open_plugins(Library& library);

// Objects of a library, with its logger. Never empty. Throw kUnsupported where the edition has no
// such object, else what failure() makes of the library's words.
Owned<Builder> make_builder(Library& library);
Owned<Runtime> make_runtime(Library& library);
Owned<Refitter> make_refitter(Library& library, CudaEngine* engine);
Owned<Parser> make_parser(Library& library, NetworkDefinition* network);
Owned<ParserRefitter> make_parser_refitter(Library& library, Refitter* refitter);

// The global plugin registry. Not that of a builder (Builder_getPluginRegistry).
PluginRegistry* plugin_registry(Library& library);

// The Error for a call that failed, from what the library reported. The only place where a status
// of a library becomes an Error. Out of memory, a missing driver and bad arguments get their own
// codes.
Error failure(const Library& library, std::string_view doing,
              const std::vector<ReportedError>& reported, const std::string& subject);

}  // namespace zerolane::trt

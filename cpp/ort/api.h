// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "core/error.h"
#include "onnxruntime/types.h"

namespace zerolane::ort {

// The functions of the loaded library, by their own names. Rows newer than the library are null.
struct Api {
#define ZL_ORT(index, since, name, result, parameters) result(*name) parameters = nullptr;
#include "onnxruntime/functions.inc"
#undef ZL_ORT
};

// The one ONNX Runtime of this process: library, function table, environment with the shared thread
// pools.
struct Runtime {
  Api api;
  std::string path;
  std::string version;  // "1.31.1"
  int minor = 0;        // 31; equals the interface version
  OrtEnv* env = nullptr;
  OrtMemoryInfo* cpu = nullptr;
  OrtAllocator* allocator = nullptr;
  const void* table = nullptr;  // the OrtApi itself, for callbacks that hand it on
  int threads = 1;              // of the shared pool, the calling thread included
  unsigned generation = 0;      // of the process; after a fork the shared pool's threads are gone

  std::vector<std::string> providers() const;  // built into the library, in its order
};

inline constexpr int kOldestMinor = 19;

// Opens the library and makes the environment, once a process; later calls return it. Throws
// kUnavailable if the file is no ONNX Runtime, is older than 1.19, or another file is already in
// use. `threads` 0: as many as usable_cpus().
Runtime& open_runtime(const std::string& path, int threads, bool spin);
// The open one, or null.
Runtime* runtime() noexcept;

// True while this thread has the library write an optimized model that it will read again itself:
// the library's warning that such a file is for one kind of CPU is then of no use to anyone.
inline thread_local bool writes_for_itself = false;

// Stands in front of the messages of our own operators, so that check() can tell them from the
// library's.
inline constexpr std::string_view kGuardMark = "[zerolane] ";

// Stands in front of the messages of ops, followed by the code's number, ']' and a space.
inline constexpr std::string_view kOpMark = "[zerolane op ";

// Throws for a status that is not null, and releases it. With check_load the only place where a
// status becomes an Error.
void check(const Runtime& rt, OrtStatus* status, const std::string& doing,
           const std::string& subject);
// The same for the status of loading a model. `only_model`: nothing but the model can be at fault,
// as no provider but the CPU's and no config entry takes part. Then what is not kUnsupported,
// kNotFound (a file of weights) or kOutOfMemory is kInvalidModel, which the library's own numbers
// tell in a few cases only.
void check_load(const Runtime& rt, OrtStatus* status, bool only_model, const std::string& doing,
                const std::string& subject);

// Owns one object of the library.
template <typename T>
class Handle {
 public:
  using Release = void (*)(T*);
  explicit Handle(Release release) : release_(release) {}
  Handle(T* object, Release release) : object_(object), release_(release) {}
  Handle(Handle&& other) noexcept : object_(other.take()), release_(other.release_) {}
  Handle& operator=(Handle&& other) noexcept {
    if (this != &other) {
      reset();
      object_ = other.take();
      release_ = other.release_;
    }
    return *this;
  }
  ~Handle() { reset(); }

  T* get() const noexcept { return object_; }
  // For functions that fill in a new object.
  T** out() noexcept {
    reset();
    return &object_;
  }
  T* take() noexcept {
    T* object = object_;
    object_ = nullptr;
    return object;
  }
  void reset() noexcept {
    if (object_ != nullptr) release_(object_);
    object_ = nullptr;
  }

 private:
  T* object_ = nullptr;
  Release release_;
};

}  // namespace zerolane::ort

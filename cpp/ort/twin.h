// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <vector>

#include "core/session.h"
#include "ort/options.h"

namespace zerolane::ort {

class SessionImpl;

// What a session was loaded from, to load it once more.
struct ModelSource {
  std::string path;                   // empty for a model in memory
  std::span<const std::byte> bytes;   // of a model in memory
  std::shared_ptr<const void> owner;  // keeps `bytes` alive
  std::string name;
  std::string folder;
  int64_t file_size = 0;  // of `path` when it was loaded; it must still be that file
  int64_t file_time_ns = 0;
};

// ONNX Runtime's graph rewriting makes operators that end the process on shapes which the model as
// it was written handles well: a transposed matrix product with an empty batch, a pooling of
// blocked layout over an image smaller than its window, a fused skip connection whose inputs
// differ. Calls with such shapes go to a twin: the same model loaded without rewriting, when first
// needed. As empty inputs go there anyway, the main session has no guards against what only they
// can bring about (GuardFor::kFed): guards cost time at load and the fusions around them.
class TwinKeeper {
 public:
  // `rewritten`: the session's graph was rewritten. `small_images_matter`: the model pools over
  // images of dynamic size.
  TwinKeeper(Runtime& rt, ModelSource source, Options options, bool rewritten,
             bool small_images_matter);
  ~TwinKeeper();

  // The model's images turned out to have fixed sizes. Before the first route() only.
  void ignore_small_images() { small_images_matter_ = false; }

  enum class Route {
    kMain,
    kTwin,   // only the twin may run this
    kProve,  // the twin must have run it before the main session may
  };
  // For inputs of these shapes (null: not given, or no tensor).
  Route route(const std::vector<TensorSpec>& specs, const std::vector<const Shape*>& shapes);
  // The twin ran these shapes: they, and all larger ones, may go to the main session.
  void proven(const std::vector<const Shape*>& shapes);

  // Loads the twin at the first call. Throws what loading throws, kUnavailable if the file has
  // changed since.
  std::shared_ptr<SessionImpl> twin();

 private:
  Runtime& rt_;
  ModelSource source_;
  Options options_;
  bool rewritten_;
  bool small_images_matter_;
  std::mutex mutex_;  // guards twin_ and proven_
  std::shared_ptr<SessionImpl> twin_;
  std::vector<std::vector<int64_t>> proven_;
};

// Size and time of change of a file, for ModelSource.
void stamp(ModelSource* source);

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#include "ort/twin.h"

#include <sys/stat.h>

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "ort/session_impl.h"

namespace zerolane::ort {
namespace {

std::vector<int64_t> flatten(const std::vector<const Shape*>& shapes) {
  std::vector<int64_t> dims;
  for (const Shape* shape : shapes) {
    if (shape != nullptr) dims.insert(dims.end(), shape->dims().begin(), shape->dims().end());
  }
  return dims;
}

bool covers(const std::vector<int64_t>& proven, const std::vector<int64_t>& dims) {
  if (proven.size() != dims.size()) return false;
  for (size_t i = 0; i < dims.size(); ++i) {
    if (proven[i] > dims[i]) return false;
  }
  return true;
}

// Whether two dimensions of one name were given different sizes. ONNX Runtime does not look at
// that.
bool symbols_differ(const std::vector<TensorSpec>& specs, const std::vector<const Shape*>& shapes) {
  std::unordered_map<std::string_view, int64_t> sizes;
  for (size_t i = 0; i < specs.size() && i < shapes.size(); ++i) {
    if (shapes[i] == nullptr || shapes[i]->rank() != specs[i].shape.size()) continue;
    for (size_t d = 0; d < specs[i].shape.size(); ++d) {
      const std::string& symbol = specs[i].shape[d].symbol;
      if (symbol.empty()) continue;
      auto [entry, is_new] = sizes.emplace(symbol, (*shapes[i])[d]);
      if (!is_new && entry->second != (*shapes[i])[d]) return true;
    }
  }
  return false;
}

}  // namespace

void stamp(ModelSource* source) {
  struct stat info{};
  if (source->path.empty() || ::stat(source->path.c_str(), &info) != 0) return;
  source->file_size = info.st_size;
  source->file_time_ns =
      static_cast<int64_t>(info.st_mtim.tv_sec) * 1000000000 + info.st_mtim.tv_nsec;
}

TwinKeeper::TwinKeeper(Runtime& rt, ModelSource source, Options options, bool rewritten,
                       bool small_images_matter)
    : rt_(rt),
      source_(std::move(source)),
      options_(std::move(options)),
      rewritten_(rewritten),
      small_images_matter_(small_images_matter) {}

TwinKeeper::~TwinKeeper() = default;

TwinKeeper::Route TwinKeeper::route(const std::vector<TensorSpec>& specs,
                                    const std::vector<const Shape*>& shapes) {
  if (!rewritten_) return Route::kMain;
  std::vector<int64_t> dims = flatten(shapes);
  if (std::find(dims.begin(), dims.end(), 0) != dims.end()) return Route::kTwin;
  if (symbols_differ(specs, shapes)) return Route::kTwin;
  if (!small_images_matter_) return Route::kMain;
  std::lock_guard lock(mutex_);
  bool known = std::any_of(proven_.begin(), proven_.end(),
                           [&](const auto& proven) { return covers(proven, dims); });
  return known ? Route::kMain : Route::kProve;
}

void TwinKeeper::proven(const std::vector<const Shape*>& shapes) {
  std::vector<int64_t> dims = flatten(shapes);
  std::lock_guard lock(mutex_);
  std::erase_if(proven_, [&](const auto& other) { return covers(dims, other); });
  // Shapes that grow in one dimension and shrink in another each need an entry; a proof can always
  // be made again.
  if (proven_.size() >= 256) proven_.erase(proven_.begin());
  proven_.push_back(std::move(dims));
}

std::shared_ptr<SessionImpl> TwinKeeper::twin() {
  std::lock_guard lock(mutex_);
  if (twin_) return twin_;
  ModelSource now = source_;
  stamp(&now);
  if (now.file_size != source_.file_size || now.file_time_ns != source_.file_time_ns) {
    throw make_error(Code::kUnavailable, "running " + source_.name + " on a shape of its own",
                     "the file '" + source_.path + "' has changed since it was loaded",
                     "load it again", source_.name);
  }
  Options plain = options_;
  plain.graph_level = 0;
  plain.profile.clear();
  twin_ = load_model_source(rt_, source_, plain, /*is_twin=*/true);
  return twin_;
}

}  // namespace zerolane::ort

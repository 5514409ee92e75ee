// SPDX-License-Identifier: Apache-2.0
#include "ort/tile_load.h"

#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <exception>
#include <utility>

#include "core/log.h"
#include "core/mapped_file.h"

namespace zerolane::ort {
namespace {

// A file in memory, gone when closed.
class MemoryFile {
 public:
  MemoryFile() : descriptor_(::memfd_create("zerolane-optimized", MFD_CLOEXEC)) {}
  ~MemoryFile() {
    if (descriptor_ >= 0) ::close(descriptor_);
  }
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;

  bool is_open() const { return descriptor_ >= 0; }
  std::string path() const { return "/proc/self/fd/" + std::to_string(descriptor_); }

 private:
  int descriptor_;
};

struct Writing {
  Writing() { writes_for_itself = true; }
  ~Writing() { writes_for_itself = false; }
};

constexpr std::size_t kMostBytes = std::size_t{1} << 30;
constexpr int kLayoutLevel = 3;  // of optimization, from which on there are NHWC convolutions
constexpr int kWarnings = 2;     // the usual level of logs

// The file that a user wants of the optimized model is for the library alone.
bool writes_model(const Options& options) {
  return std::ranges::any_of(options.config, [](const auto& entry) {
    return entry.first == "session.optimized_model_filepath";
  });
}

bool wants_tiles(const Options& options) {
  return options.graph_level >= kLayoutLevel && !writes_model(options) &&
         std::ranges::all_of(options.providers,
                             [](const Provider& provider) { return provider.name == "CPU"; }) &&
         kernels::has_tile_conv();
}

// Has the library write the optimized model into `file`.
Options for_writing(const Options& options) {
  Options first = options;
  first.threads = first.inter_threads = 1;
  first.parallel = false;
  first.profile.clear();
  first.config.emplace_back("session.disable_prepacking", "1");
  first.config.emplace_back("session.save_model_format", "ONNX");
  return first;
}

void tell(const Options& options, const std::string& text) {
  if (options.log_level <= kWarnings) log(LogLevel::kInfo, "zerolane", "tiles", text);
}

void create(const Runtime& rt, std::span<const std::byte> model, const OrtSessionOptions* options,
            const std::string& name, Handle<OrtSession>* session) {
  check(rt,
        rt.api.CreateSessionFromArray(rt.env, model.data(), model.size(), options, session->out()),
        "loading " + name, name);
}

}  // namespace

std::unique_ptr<const TileOp> load_with_tiles(
    const Runtime& rt, const Options& options, const std::string& name,
    std::span<const std::byte> model,
    const std::function<Handle<OrtSessionOptions>(const Options&)>& complete,
    Handle<OrtSession>* session) {
  if (model.size() > kMostBytes || !wants_tiles(options)) return nullptr;
  std::unique_ptr<const TileOp> op;
  try {
    std::vector<std::byte> rewritten;
    {
      const MemoryFile file;
      if (!file.is_open()) return nullptr;
      Handle<OrtSessionOptions> writing = complete(for_writing(options));
      check(rt, rt.api.SetOptimizedModelFilePath(writing.get(), file.path().c_str()),
            "loading " + name, name);
      {
        const Writing now;
        create(rt, model, writing.get(), name, session);
      }
      session->reset();
      TileModel found = tile_model(MappedFile::open(file.path()).bytes());
      if (found.nodes.empty()) return nullptr;
      rewritten = std::move(found.bytes);
      const int threads = options.threads > 0 ? options.threads : rt.threads;
      op = std::make_unique<const TileOp>(rt, std::move(found), threads, name);
    }
    Options done = options;
    done.graph_level = 0;
    Handle<OrtSessionOptions> loading = complete(done);
    op->add_to(loading.get());
    create(rt, rewritten, loading.get(), name, session);
    tell(options, name + ": " + std::to_string(op->count()) + " INT8 convolutions on AMX tiles");
    return op;
  } catch (const std::exception& error) {
    session->reset();
    tell(options, name + ": no convolution on AMX tiles: " + error.what());
    return nullptr;
  }
}

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#include "trt/runtime_cache.h"

#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/log.h"
#include "core/mapped_file.h"

namespace zerolane::trt {
namespace {

void warn(const std::string& text) { log(LogLevel::kWarning, "zerolane", "tensorrt", text); }

}  // namespace

RuntimeCacheFile::RuntimeCacheFile(Library& library, const CudaEngine* engine, std::string file)
    : library_(library), file_(std::move(file)) {
  const Calls& calls = library_.calls;
  if (!calls.CudaEngine_createRuntimeConfig) return;
  config_ = Owned<RuntimeConfig>(calls.CudaEngine_createRuntimeConfig(engine));
  if (!config_) return;
  calls.RuntimeConfig_setExecutionContextAllocationStrategy(
      config_.get(), ExecutionContextAllocationStrategy::kUserManaged);
  if (file_.empty() || !calls.RuntimeConfig_createRuntimeCache) return;
  cache_ = Owned<RuntimeCache>(calls.RuntimeConfig_createRuntimeCache(config_.get()));
  if (!cache_) return;
  if (::access(file_.c_str(), F_OK) == 0) {
    try {
      MappedFile stored = MappedFile::open(file_);
      if (calls.RuntimeCache_deserialize(cache_.get(), stored.bytes().data(),
                                         stored.bytes().size())) {
        saved_bytes_ = stored.bytes().size();
      } else {
        warn("reading the kernel cache '" + file_ + "': " + library_.title() +
             " does not accept it; it will be written anew");
      }
    } catch (const Error& error) {
      warn("reading the kernel cache: " + error.message());
    }
  }
  if (!calls.RuntimeConfig_setRuntimeCache(config_.get(), cache_.get())) {
    warn("using the kernel cache '" + file_ + "': " + library_.title() + " refused it");
    cache_.reset();
  }
}

void RuntimeCacheFile::save() noexcept {
  if (!cache_) return;
  try {
    std::lock_guard lock(mutex_);
    const Calls& calls = library_.calls;
    Owned<HostMemory> memory(calls.RuntimeCache_serialize(cache_.get()));
    if (!memory) return;
    size_t size = calls.HostMemory_size(memory.get());
    // It only ever grows: by kernels compiled since.
    if (size == 0 || size == saved_bytes_) return;
    std::string temporary = file_ + "." + std::to_string(::getpid()) + ".tmp";
    std::FILE* out = std::fopen(temporary.c_str(), "wb");
    bool written =
        out != nullptr && std::fwrite(calls.HostMemory_data(memory.get()), 1, size, out) == size;
    if (out != nullptr) written &= std::fclose(out) == 0;
    if (written && std::rename(temporary.c_str(), file_.c_str()) == 0) {
      saved_bytes_ = size;
      return;
    }
    int reason = errno;
    if (out != nullptr) std::remove(temporary.c_str());
    warn("writing the kernel cache '" + file_ + "': " + std::strerror(reason) +
         "; the next process compiles its kernels again");
    saved_bytes_ = size;             // one warning is enough
  } catch (const std::exception&) {  // out of memory: the file stays as it was
  }
}

}  // namespace zerolane::trt

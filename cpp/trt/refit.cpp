// SPDX-License-Identifier: Apache-2.0
#include <algorithm>
#include <chrono>
#include <thread>

#include "core/error.h"
#include "cuda/current.h"
#include "trt/build_report.h"
#include "trt/engine.h"

namespace zerolane::trt {

std::vector<std::string> Engine::refittable_weights() const {
  const Calls& calls = library_.calls;
  if (!calls.CudaEngine_isRefittable(engine_.get())) return {};
  Owned<Refitter> refitter = make_refitter(library_, engine_.get());
  int32_t count = calls.Refitter_getAllWeights(refitter.get(), 0, nullptr);
  std::vector<const char*> names(static_cast<size_t>(std::max(count, 0)));
  count = calls.Refitter_getAllWeights(refitter.get(), count, names.data());
  names.resize(static_cast<size_t>(std::max(count, 0)));
  return {names.begin(), names.end()};
}

void Engine::refit_with(
    const std::string& doing,
    const std::function<Owned<ParserRefitter>(Refitter*, ErrorCollector&)>& give) {
  const Calls& calls = library_.calls;
  if (!calls.CudaEngine_isRefittable(engine_.get())) {
    throw make_error(Code::kUnsupported, doing, "the engine was not built for it",
                     "build it with refit=True", name_);
  }
  std::lock_guard one(refit_mutex_);
  struct Hold {
    std::atomic<bool>& flag;
    explicit Hold(std::atomic<bool>& f) : flag(f) { flag.store(true); }
    ~Hold() { flag.store(false); }
  } hold(refitting_);
  while (running_.load() != 0) std::this_thread::sleep_for(std::chrono::microseconds(20));
  cuda::CurrentDevice current(device_);
  Owned<Refitter> refitter = make_refitter(library_, engine_.get());
  ErrorCollector errors;
  calls.Refitter_setErrorRecorder(refitter.get(), &errors);
  struct Unset {  // the collector dies before the refitter
    const Calls& calls;
    Owned<Refitter>& refitter;
    ~Unset() { calls.Refitter_setErrorRecorder(refitter.get(), nullptr); }
  } unset{calls, refitter};
  // Holds the weights until they are used, and is gone before the refitter.
  Owned<ParserRefitter> parser = give(refitter.get(), errors);
  const char* missing[8] = {};
  int32_t count = calls.Refitter_getMissingWeights(refitter.get(), 8, missing);
  if (count > 0) {
    std::string found = std::to_string(count) + " other weights must be given with these: ";
    for (int32_t i = 0; i < std::min(count, 8); ++i)
      found += (i > 0 ? ", '" : "'") + std::string(missing[i]) + "'";
    throw make_error(Code::kInvalidArgument, doing, found, "give them too", missing[0]);
  }
  bool done = calls.Refitter_refitCudaEngine(refitter.get());
  generation_.fetch_add(1, std::memory_order_release);
  if (!done) throw failure(library_, doing, errors.take(), name_);
  lacks_weights_.store(false);
}

void Engine::refit(const std::vector<NamedWeights>& weights) {
  const Calls& calls = library_.calls;
  const std::string doing = "refitting " + name_;
  refit_with(doing, [&](Refitter* refitter, ErrorCollector& errors) {
    for (const NamedWeights& given : weights) {
      Weights native{to_trt(given.dtype, doing + " with '" + given.name + "'"), given.data,
                     given.count};
      if (calls.Refitter_setNamedWeights(refitter, given.name.c_str(), native)) continue;
      Weights wanted{};
      if (calls.Refitter_getWeightsPrototype) {
        wanted = calls.Refitter_getWeightsPrototype(refitter, given.name.c_str());
      }
      std::string found = "the library refused '" + given.name + "' (" +
                          std::string(dtype_name(given.dtype)) + ", " +
                          std::to_string(given.count) + " elements)";
      if (wanted.count > 0) {
        found += ", expected " + std::string(dtype_name(from_trt(wanted.type))) + ", " +
                 std::to_string(wanted.count) + " elements";
      }
      for (const ReportedError& error : errors.take()) found += "; " + error.text;
      throw make_error(Code::kInvalidArgument, doing, found,
                       "give weights of the same name, type and size as the engine's", given.name);
    }
    return Owned<ParserRefitter>();
  });
}

void Engine::refit_from(const std::string& model, const std::string& path,
                        std::span<const std::byte> bytes) {
  const Calls& calls = library_.calls;
  const std::string doing = "refitting " + name_ + " from " + model;
  refit_with(doing, [&](Refitter* refitter, ErrorCollector&) {
    Owned<ParserRefitter> parser = make_parser_refitter(library_, refitter);
    bool taken = bytes.empty()
                     ? calls.ParserRefitter_refitFromFile(parser.get(), path.c_str())
                     : calls.ParserRefitter_refitFromBytes(parser.get(), bytes.data(), bytes.size(),
                                                           path.empty() ? nullptr : path.c_str());
    if (taken) return parser;
    std::string found;
    for (const ParserComplaint& complaint : read_complaints(calls, parser.get())) {
      found += (found.empty() ? "" : "; ") + complaint.text;
    }
    throw make_error(Code::kInvalidModel, doing,
                     found.empty() ? library_.title() + " does not take it" : found,
                     "give the model that the engine was built from, as it was then", model);
  });
}

}  // namespace zerolane::trt

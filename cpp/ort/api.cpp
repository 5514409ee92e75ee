// SPDX-License-Identifier: Apache-2.0
#include "ort/api.h"

#include <pthread.h>
#include <unistd.h>

#include <cstdio>
#include <cstdlib>
#include <mutex>
#include <optional>

#include "core/cpus.h"
#include "core/dynlib.h"
#include "core/fork.h"
#include "core/log.h"

namespace zerolane::ort {
namespace {

constexpr uint32_t kInterfaceVersion = 18;

void log_from_library(void*, OrtLoggingLevel severity, const char* category, const char*,
                      const char* location, const char* message) {
  try {
    std::string where = location != nullptr && location[0] != '\0' ? location : category;
    const std::string text = message != nullptr ? message : "";
    // A run that was ended on purpose is no error; the caller gets its own.
    const bool ended = text.find("terminate flag being set") != std::string::npos;
    const bool written = writes_for_itself && text.starts_with("Serializing optimized model");
    log(ended || written ? LogLevel::kInfo : static_cast<LogLevel>(severity), "onnxruntime", where,
        text);
  } catch (...) {  // out of memory: a lost log line is the least of it
  }
}

Error refused(const std::string& path, const std::string& found, const std::string& remedy) {
  return make_error(Code::kUnavailable, "opening ONNX Runtime at '" + path + "'", found, remedy,
                    path);
}

void fill(Api* api, const void* table, int minor) {
  auto slots = static_cast<void* const*>(table);
#define ZL_ORT(index, since, name, result, parameters) \
  if (minor >= (since)) api->name = reinterpret_cast<result(*) parameters>(slots[index]);
#include "onnxruntime/functions.inc"
#undef ZL_ORT
}

// The library's own clean-up at exit waits for pool threads, which a forked child does not have.
// Such a child leaves before it: handlers run in the reverse order of their registration.
void leave_child_early() {
  ::on_exit(
      [](int status, void*) {
        std::fflush(nullptr);
        ::_exit(status);
      },
      nullptr);
}

std::mutex g_mutex;  // guards opening
Runtime* g_runtime = nullptr;

Runtime* open_new(const std::string& path, int threads, bool spin) {
  DynLib library = DynLib::open(path);
  using GetApiBase = const OrtApiBase* (*)();
  auto get_base = reinterpret_cast<GetApiBase>(library.find("OrtGetApiBase"));
  if (get_base == nullptr) {
    throw refused(path, "the library has no symbol OrtGetApiBase, so it is no ONNX Runtime",
                  "give the path of libonnxruntime.so");
  }
  const OrtApiBase* base = get_base();
  const char* version = base != nullptr ? base->GetVersionString() : nullptr;
  if (version == nullptr) {
    throw refused(path, "it does not tell its version",
                  "give the path of a complete libonnxruntime.so");
  }
  // Never freed: sessions, and vendor threads at exit, may outlive any owner.
  auto* rt = new Runtime;
  rt->path = library.path();
  rt->version = version;
  int major = 0;
  if (std::sscanf(rt->version.c_str(), "%d.%d", &major, &rt->minor) != 2 || major != 1 ||
      rt->minor < kOldestMinor) {
    delete rt;
    throw refused(path,
                  "it is version " + std::string(version) + ", expected 1." +
                      std::to_string(kOldestMinor) + " or a later 1.x",
                  "pip install -U onnxruntime");
  }
  rt->table = base->GetApi(kInterfaceVersion);
  if (rt->table == nullptr) {
    throw refused(
        path, "version " + rt->version + " has no interface " + std::to_string(kInterfaceVersion),
        "pip install -U onnxruntime");
  }
  rt->generation = fork_generation.load();
  fill(&rt->api, rt->table, rt->minor);
  const Api& api = rt->api;
  const std::string doing = "starting ONNX Runtime " + rt->version;
  rt->threads = threads > 0 ? threads : usable_cpus();
  Handle<OrtThreadingOptions> pools(api.ReleaseThreadingOptions);
  check(*rt, api.CreateThreadingOptions(pools.out()), doing, path);
  check(*rt, api.SetGlobalIntraOpNumThreads(pools.get(), rt->threads), doing, path);
  check(*rt, api.SetGlobalInterOpNumThreads(pools.get(), 1), doing, path);
  check(*rt, api.SetGlobalSpinControl(pools.get(), spin ? 1 : 0), doing, path);
  // Everything is let through here; each session sets its own level.
  check(*rt,
        api.CreateEnvWithCustomLoggerAndGlobalThreadPools(log_from_library, nullptr, /*warning*/ 2,
                                                          "zerolane", pools.get(), &rt->env),
        doing, path);
  ::pthread_atfork(nullptr, nullptr, leave_child_early);
  check(*rt, api.DisableTelemetryEvents(rt->env), doing, path);
  check(*rt, api.CreateCpuMemoryInfo(kOrtDeviceAllocator, kOrtMemTypeDefault, &rt->cpu), doing,
        path);
  check(*rt, api.GetAllocatorWithDefaultOptions(&rt->allocator), doing, path);
  return rt;
}

}  // namespace

Runtime* runtime() noexcept { return g_runtime; }

Runtime& open_runtime(const std::string& path, int threads, bool spin) {
  std::lock_guard lock(g_mutex);
  if (g_runtime == nullptr) {
    g_runtime = open_new(path, threads, spin);
    return *g_runtime;
  }
  char* asked = ::realpath(path.c_str(), nullptr);
  char* open = ::realpath(g_runtime->path.c_str(), nullptr);
  bool same = asked == nullptr || open == nullptr || std::string(asked) == open;
  std::free(asked);
  std::free(open);
  if (!same) {
    throw refused(path,
                  "this process already uses ONNX Runtime " + g_runtime->version + " from '" +
                      g_runtime->path + "'",
                  "choose the library before the first model is loaded");
  }
  return *g_runtime;
}

std::vector<std::string> Runtime::providers() const {
  char** names = nullptr;
  int count = 0;
  check(*this, api.GetAvailableProviders(&names, &count), "listing execution providers", path);
  std::vector<std::string> out(names, names + count);
  check(*this, api.ReleaseAvailableProviders(names, count), "listing execution providers", path);
  return out;
}

namespace {

// A status, read and released.
struct Failure {
  OrtErrorCode number;
  std::string message;
  bool of_guard = false;  // one of our own operators refused an input, and says what to do
  std::optional<Code> of_op = std::nullopt;  // an op of the registry failed so, and says why

  bool says(std::string_view words) const { return message.find(words) != std::string::npos; }
};

struct Verdict {
  Code code;
  std::string remedy;
};

constexpr const char* kExportAgain = "the file is damaged or no valid ONNX model: export it again";

Failure read_failure(const Runtime& rt, OrtStatus* status) {
  Failure failure{rt.api.GetErrorCode(status), rt.api.GetErrorMessage(status)};
  rt.api.ReleaseStatus(status);
  size_t mark = failure.message.find(kGuardMark);
  failure.of_guard = mark != std::string::npos;
  if (failure.of_guard) failure.message.erase(0, mark + kGuardMark.size());
  mark = failure.message.find(kOpMark);
  if (mark != std::string::npos) {
    failure.message.erase(0, mark + kOpMark.size());
    char* end = nullptr;
    const long code = std::strtol(failure.message.c_str(), &end, 10);
    failure.of_op = code >= 0 && code <= static_cast<long>(Code::kInternal)
                        ? static_cast<Code>(code)
                        : Code::kInternal;
    const size_t text = failure.message.find("] ");
    if (text != std::string::npos) failure.message.erase(0, text + 2);
  }
  return failure;
}

Verdict judge(const Runtime& rt, const Failure& failure) {
  if (failure.of_guard) return {Code::kInvalidArgument, ""};
  if (failure.of_op) return {*failure.of_op, ""};
  // Above the numbers, which are too coarse for these.
  if (failure.says("bad_alloc") || failure.says("Failed to allocate memory")) {
    return {Code::kOutOfMemory, "use smaller shapes or free other memory"};
  }
  if (failure.says("is not currently registered or supported")) {  // an element type
    return {Code::kUnsupported, "convert that tensor's type in the model"};
  }
  // The words of the releases before and from 1.23 on for "this output has another shape".
  if (failure.says("shape verification failed") || failure.says("OrtValue provided for output")) {
    return {Code::kShapeMismatch, "give memory of the shape that the model computes, or none"};
  }
  const std::string see = "see the message of ONNX Runtime " + rt.version;
  switch (failure.number) {
    case kOrtInvalidArgument:
      return {Code::kInvalidArgument, see};
    case kOrtNoSuchFile:
      return {Code::kNotFound, "check the path"};
    case kOrtNoModel:
    case kOrtInvalidProtobuf:
    case kOrtInvalidGraph:
      return {Code::kInvalidModel, kExportAgain};
    case kOrtNotImplemented:
      return {Code::kUnsupported, "another backend or a newer onnxruntime may have it"};
    default:
      return {Code::kBackend, see};
  }
}

bool lacks_file(const Failure& failure) {
  return failure.says("External data path does not exist") ||
         failure.says("No such file or directory");
}

// What the library says of models that are newer than it, or for another build of it.
bool is_beyond(const Failure& failure) {
  return failure.says("is not a registered function/op") ||
         failure.says("ONNX Runtime only *guarantees* support") ||
         failure.says("Unsupported model IR version");
}

}  // namespace

void check(const Runtime& rt, OrtStatus* status, const std::string& doing,
           const std::string& subject) {
  if (status == nullptr) [[likely]]
    return;
  Failure failure = read_failure(rt, status);
  Verdict verdict = judge(rt, failure);
  throw make_error(verdict.code, doing, failure.message, verdict.remedy, subject);
}

void check_load(const Runtime& rt, OrtStatus* status, bool only_model, const std::string& doing,
                const std::string& subject) {
  if (status == nullptr) return;
  Failure failure = read_failure(rt, status);
  Verdict verdict = judge(rt, failure);
  if (verdict.code == Code::kInvalidArgument || verdict.code == Code::kBackend) {
    if (failure.of_guard || failure.of_op) {  // folding constants runs them at load
      verdict.code = Code::kInvalidModel;
    } else if (is_beyond(failure)) {
      verdict = {Code::kUnsupported,
                 "export it for an older opset, or install a newer or another onnxruntime"};
    } else if (lacks_file(failure)) {
      verdict = {Code::kNotFound, "put its files of weights beside it; in memory it can have none"};
    } else if (only_model || failure.says("invalid model") ||
               failure.says("External initializer")) {  // its file of weights is too short
      verdict = {Code::kInvalidModel, kExportAgain};
    }
  }
  throw make_error(verdict.code, doing, failure.message, verdict.remedy, subject);
}

}  // namespace zerolane::ort

// SPDX-License-Identifier: Apache-2.0
#include "trt/library.h"

#include <dlfcn.h>
#include <elf.h>
#include <link.h>

#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>

#include "core/dynlib.h"
#include "core/log.h"
#include "trt/link_name.h"

namespace zerolane::trt {
namespace {

constexpr int32_t kParserInterface = 100;  // every public release takes it
constexpr char kNoDriver[] =
    "this needs an NVIDIA driver and GPU, new enough for the library's CUDA release (nvidia-smi "
    "tells)";

Error refused(const std::string& path, const std::string& found, const std::string& remedy) {
  return make_error(Code::kUnavailable, "opening TensorRT at '" + path + "'", found, remedy, path);
}

template <typename Function>
void find(const DynLib& library, const char* symbol, Function* function) {
  *function = reinterpret_cast<Function>(library.find(symbol));
}

// The soname of the library that holds an address; empty if it has none.
std::string soname_of(void* address) {
  Dl_info info{};
  link_map* map = nullptr;
  if (::dladdr1(address, &info, reinterpret_cast<void**>(&map), RTLD_DL_LINKMAP) == 0 ||
      map == nullptr) {
    return "";
  }
  const char* strings = nullptr;
  ElfW(Xword) name = 0;
  for (const ElfW(Dyn)* entry = map->l_ld; entry->d_tag != DT_NULL; ++entry) {
    if (entry->d_tag == DT_STRTAB) {
      strings =
          reinterpret_cast<const char*>(entry->d_un.d_ptr);  // NOLINT(performance-no-int-to-ptr)
    }
    if (entry->d_tag == DT_SONAME) name = entry->d_un.d_val;
  }
  return strings != nullptr && name != 0 ? strings + name : "";
}

std::string file_of(const std::string& path) {
  char* real = ::realpath(path.c_str(), nullptr);
  std::string out = real != nullptr ? real : path;
  std::free(real);
  return out;
}

bool begins(const std::string& text, std::string_view start) { return text.rfind(start, 0) == 0; }

// Chooses the layout by what the library says of itself.
void identify(Library* library) {
  int32_t number = library->number;
  // Releases before 10 counted the major in thousands.
  int unit = number >= 10000 ? 10000 : 1000;
  library->major = number / unit;
  library->minor = number % unit / 100;
  library->patch = number % 100;
  bool rtx = begins(library->soname, "libtensorrt_rtx") ||
             (!begins(library->soname, "libnvinfer") && library->major == 1);
  if (begins(library->soname, "libnvinfer_lean")) library->edition = Edition::kLean;
  if (begins(library->soname, "libnvinfer_dispatch")) library->edition = Edition::kDispatch;
  library->family = rtx ? Family::kRtx1 : library->major == 10 ? Family::k10 : Family::k11;
  const std::string found = "it is " + library->title() + " (" + library->soname + "), expected ";
  if (rtx && (library->major != 1 || library->minor < covered_minors(Family::kRtx1).oldest)) {
    throw refused(library->path, found + "TensorRT-RTX 1.5 or a later 1.x",
                  "install a release that zerolane knows, or a newer zerolane: "
                  "pip install 'zerolane[tensorrt-rtx]'");
  }
  if (!rtx && library->major != 10 && library->major != 11) {
    throw refused(library->path, found + "TensorRT 10 or 11",
                  "install a release that zerolane knows, or a newer zerolane: "
                  "pip install 'zerolane[tensorrt]'");
  }
  int newest = covered_minors(library->family).newest;
  if (library->minor > newest) {
    log(LogLevel::kWarning, "zerolane", "tensorrt",
        library->title() + " is newer than " + std::to_string(library->major) + "." +
            std::to_string(newest) + ", the last release whose interface zerolane knows");
  }
}

std::unique_ptr<Library> open_new(const std::string& path) {
  DynLib file = DynLib::open(path);
  int32_t (*get_version)() = nullptr;
  find(file, "getInferLibVersion", &get_version);
  if (get_version == nullptr) {
    throw refused(path, "the library has no symbol getInferLibVersion, so it is no TensorRT",
                  "give the path of libnvinfer.so.10, libnvinfer.so.11 or libtensorrt_rtx.so.1");
  }
  const std::string soname = soname_of(reinterpret_cast<void*>(get_version));
  const bool rtx = begins(soname, "libtensorrt_rtx");
  auto library = std::make_unique<Library>(rtx ? "tensorrt-rtx" : "tensorrt");
  library->path = file.path();
  library->soname = soname;
  library->number = get_version();
  identify(library.get());
  library->calls = make_calls(library->family, library->minor);
  find(file, "createInferBuilder_INTERNAL", &library->create_builder);
  find(file, "createInferRuntime_INTERNAL", &library->create_runtime);
  find(file, "createInferRefitter_INTERNAL", &library->create_refitter);
  find(file, "getPluginRegistry", &library->get_registry);
  library->can_build = library->edition == Edition::kFull && library->create_builder != nullptr;
  library->can_run = library->create_runtime != nullptr;
  if (!library->can_build && !library->can_run) {
    throw refused(path,
                  "the library has neither createInferBuilder_INTERNAL nor "
                  "createInferRuntime_INTERNAL, so it is no complete " +
                      library->title(),
                  "install it again");
  }
  return library;
}

// Guards the maps below; their objects are never freed: vendor threads may outlive any owner.
std::mutex g_mutex;
std::map<std::string, Library*> g_libraries;  // by real path
std::map<const Library*, ParserLibrary*> g_parsers;
std::map<const Library*, bool> g_plugins;

std::string parser_name(const Library& library) {
  if (library.family == Family::kRtx1) return "libtensorrt_onnxparser_rtx.so.1";
  return "libnvonnxparser.so." + std::to_string(library.major);
}

// Opens a library that ships with another: in the folder of its path, of its real file, or wherever
// the loader finds it.
DynLib open_beside(const Library& library, const std::string& name, const std::string& doing) {
  std::string reasons;
  for (const std::string& path : {library.path, file_of(library.path), std::string()}) {
    size_t slash = path.rfind('/');
    const std::string file = slash == std::string::npos ? name : path.substr(0, slash + 1) + name;
    try {
      return DynLib::open(file);
    } catch (const Error& error) {
      const std::string reason = error.what();
      if (reasons.find(reason) == std::string::npos) reasons += "\n  " + reason;
    }
  }
  throw make_error(Code::kUnavailable, doing,
                   "'" + name + "' of " + library.title() + " could not be opened:" + reasons,
                   "install the complete package of the library", name);
}

// Whether both libraries mean the same file by the vendor's name: a companion of another release
// would call into the wrong layout. A companion that needs no such library (RTX) says nothing.
bool belongs(const Library& library, const DynLib& companion) {
  void* version = companion.find("getInferLibVersion");
  if (version == nullptr) return true;
  Dl_info info{};
  return ::dladdr(version, &info) == 0 || info.dli_fname == nullptr ||
         file_of(info.dli_fname) == file_of(library.path);
}

void check_belongs(const Library& library, const DynLib& companion, const std::string& doing) {
  if (belongs(library, companion)) return;
  throw make_error(
      Code::kUnavailable, doing,
      "'" + companion.path() + "' is bound to another " + library.soname +
          " that this process opened before, not to '" + library.path + "'",
      "use one release of TensorRT in a process: open it before the other package does",
      companion.path());
}

template <typename Class, typename Make>
Owned<Class> make_object(Library& library, const std::string& what, bool has, const Make& make) {
  const std::string doing = "making a " + what + " of " + library.title();
  if (!has) {
    throw make_error(Code::kUnsupported, doing, "this library has none",
                     library.edition == Edition::kFull
                         ? "install the complete library"
                         : "lean and dispatch libraries only run engines: install the full one",
                     library.path);
  }
  LoggedErrors logged;
  Owned<Class> object = make();
  if (!object) throw failure(library, doing, logged.errors(), library.path);
  return object;
}

bool contains(const std::string& text, std::string_view part) {
  return text.find(part) != std::string::npos;
}

}  // namespace

const char* Library::name() const noexcept {
  return family == Family::kRtx1 ? "TensorRT-RTX" : "TensorRT";
}

std::string Library::version() const {
  return std::to_string(major) + "." + std::to_string(minor) + "." + std::to_string(patch);
}

std::string Library::title() const {
  const char* kind = edition == Edition::kLean       ? " (lean)"
                     : edition == Edition::kDispatch ? " (dispatch)"
                                                     : "";
  return name() + (" " + version()) + kind;
}

Library& open_library(const std::string& path) {
  std::lock_guard lock(g_mutex);
  const std::string file = file_of(path);
  auto found = g_libraries.find(file);
  if (found != g_libraries.end()) return *found->second;
  std::unique_ptr<Library> library = open_new(path);
  const std::string real = file_of(library->path);
  found = g_libraries.find(real);
  if (found != g_libraries.end()) return *found->second;
  for (const auto& [other_file, other] : g_libraries) {
    if (!library->soname.empty() && other->soname == library->soname) {
      throw refused(path,
                    "this process already uses " + other->title() + " from '" + other_file +
                        "', which has the same soname " + library->soname,
                    "choose the library before the first one is opened");
    }
  }
  return *(g_libraries[real] = library.release());
}

const ParserLibrary& open_parser(Library& library, const std::string& path) {
  std::lock_guard lock(g_mutex);
  const std::string doing = "opening the ONNX parser of " + library.title();
  ParserLibrary*& open = g_parsers[&library];
  if (open != nullptr) {
    if (!path.empty() && file_of(path) != file_of(open->path)) {
      throw make_error(Code::kUnavailable, doing, "this process already uses '" + open->path + "'",
                       "choose the parser before the first one is opened", path);
    }
    return *open;
  }
  DynLib file =
      path.empty() ? open_beside(library, parser_name(library), doing) : DynLib::open(path);
  check_belongs(library, file, doing);
  auto parser = std::make_unique<ParserLibrary>();
  parser->path = file.path();
  int (*get_version)() = nullptr;
  find(file, "getNvOnnxParserVersion", &get_version);
  find(file, "createNvOnnxParser_INTERNAL", &parser->create);
  find(file, "createNvOnnxParserRefitter_INTERNAL", &parser->create_refitter);
  if (get_version == nullptr || parser->create == nullptr) {
    throw make_error(Code::kUnavailable, doing,
                     "'" + parser->path + "' has no symbol createNvOnnxParser_INTERNAL",
                     "give the path of " + parser_name(library), parser->path);
  }
  parser->version = get_version();
  if (library.family == Family::kRtx1) {
    // For plugins the parser opens the library under this name, and ends the process if it fails.
    try {
      provide_link_name("libtensorrt_rtx.so", library.soname);
    } catch (const Error& error) {
      parser->plugin_problem = error.what();
      log(LogLevel::kWarning, "zerolane", "tensorrt",
          std::string(error.what()) + " (models with custom ops cannot be built)");
    }
  }
  open = parser.release();
  return *open;
}

bool open_plugins(Library& library) {
  std::lock_guard lock(g_mutex);
  if (library.family == Family::kRtx1 || library.edition != Edition::kFull) return false;
  auto known = g_plugins.find(&library);
  if (known != g_plugins.end()) return known->second;
  bool& done = g_plugins[&library];
  const std::string doing = "opening the standard plugins of " + library.title();
  try {
    DynLib file =
        open_beside(library, "libnvinfer_plugin.so." + std::to_string(library.major), doing);
    check_belongs(library, file, doing);
    bool (*init)(void*, const char*) = nullptr;
    find(file, "initLibNvInferPlugins", &init);
    done = init != nullptr && init(library.logger.address(library.family), "");
  } catch (const Error& error) {
    log(LogLevel::kInfo, "zerolane", "tensorrt", error.what());
  }
  return done;
}

Owned<Builder> make_builder(Library& library) {
  return make_object<Builder>(library, "builder", library.can_build, [&] {
    return Owned<Builder>(static_cast<Builder*>(
        library.create_builder(library.logger.address(library.family), library.number)));
  });
}

Owned<Runtime> make_runtime(Library& library) {
  return make_object<Runtime>(library, "runtime", library.can_run, [&] {
    return Owned<Runtime>(static_cast<Runtime*>(
        library.create_runtime(library.logger.address(library.family), library.number)));
  });
}

Owned<Refitter> make_refitter(Library& library, CudaEngine* engine) {
  return make_object<Refitter>(library, "refitter", library.create_refitter != nullptr, [&] {
    return Owned<Refitter>(static_cast<Refitter*>(
        library.create_refitter(engine, library.logger.address(library.family), library.number)));
  });
}

Owned<Parser> make_parser(Library& library, NetworkDefinition* network) {
  const ParserLibrary& parser = open_parser(library);
  return make_object<Parser>(library, "parser", true, [&] {
    return Owned<Parser>(static_cast<Parser*>(parser.create(
                             network, library.logger.address(library.family), kParserInterface)),
                         library.calls.Parser_destroy.slot());
  });
}

Owned<ParserRefitter> make_parser_refitter(Library& library, Refitter* refitter) {
  const ParserLibrary& parser = open_parser(library);
  return make_object<ParserRefitter>(
      library, "refitter from ONNX", parser.create_refitter != nullptr, [&] {
        return Owned<ParserRefitter>(
            static_cast<ParserRefitter*>(parser.create_refitter(
                refitter, library.logger.address(library.family), kParserInterface)),
            library.calls.ParserRefitter_destroy.slot());
      });
}

PluginRegistry* plugin_registry(Library& library) {
  void* registry = library.get_registry != nullptr ? library.get_registry() : nullptr;
  if (registry == nullptr) {
    throw make_error(Code::kUnsupported, "asking " + library.title() + " for its plugin registry",
                     "this library has none", "install the complete library", library.path);
  }
  return static_cast<PluginRegistry*>(registry);
}

Error failure(const Library& library, std::string_view doing,
              const std::vector<ReportedError>& reported, const std::string& subject) {
  Code code = Code::kBackend;
  std::string found;
  std::string remedy = "see the message of " + library.title();
  // The first error is the cause; later ones tell how it came up.
  for (size_t i = reported.size(); i-- > 0;) {
    switch (reported[i].code) {
      case ErrorCode::kInvalidArgument:
      case ErrorCode::kInvalidConfig:
        code = Code::kInvalidArgument;
        break;
      case ErrorCode::kUnsupportedState:
        code = Code::kUnsupported;
        break;
      case ErrorCode::kFailedExecution:
      case ErrorCode::kFailedComputation:
        code = Code::kDevice;
        break;
      default:
        code = Code::kBackend;
        break;
    }
  }
  for (const ReportedError& error : reported) {
    if (found.find(error.text) == std::string::npos) {
      found += (found.empty() ? "" : "; ") + error.text;
    }
    if (error.code == ErrorCode::kFailedAllocation || contains(error.text, "out of memory") ||
        contains(error.text, "OutOfMemory")) {
      code = Code::kOutOfMemory;
      remedy = "use smaller shapes or a memory limit, or free other memory";
    } else if (contains(error.text, "CUDA initialization failure") ||
               contains(error.text, "driver version is insufficient") ||
               contains(error.text, "CHECK(status == CUDA_SUCCESS)") ||
               contains(error.text, "no CUDA-capable device")) {
      code = Code::kUnavailable;
      remedy = kNoDriver;
    }
  }
  if (found.empty()) found = "the library gave no reason";
  return make_error(code, doing, found, remedy, subject);
}

}  // namespace zerolane::trt

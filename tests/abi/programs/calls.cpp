// SPDX-License-Identifier: Apache-2.0
// Makes every call that the tables have for a recording library, and compares what the library
// wrote down: class and method, object, arguments, result. Prints one line a row: "ok", "absent" or
// "wrong".
#include <dlfcn.h>

#include <cstdio>
#include <string>
#include <tuple>

#include "trace.h"
#include "trt/library.h"

using namespace zerolane;
using namespace zerolane::trt;

namespace {

struct Fake {
  const char* (*last)();
  void (*forget)();
  void* (*object)(const char*);
  const void* (*implementation)(const char*);
};

Fake g_fake;

template <typename Class, typename Signature>
struct Caller;

template <typename Class, typename Result, typename... Parameters>
struct Caller<Class, Result(Parameters...)> {
  static void check(const Slot<Class, Result(Parameters...)>& slot, const std::string& owner,
                    const std::string& method) {
    const std::string name = owner + "." + method;
    if (!slot) {
      std::printf("absent %s\n", name.c_str());
      return;
    }
    if (method == "destroy") return;  // see owned()
    auto* object = static_cast<Class*>(g_fake.object(owner.c_str()));
    uint64_t seed = trace::seed_of(method.c_str());
    std::tuple<Parameters...> arguments{trace::make<Parameters>(++seed)...};
    g_fake.forget();
    auto call = [&](Parameters... values) -> Result { return slot(object, values...); };
    std::string returned, wanted_return;
    if constexpr (std::is_void_v<Result>) {
      std::apply(call, arguments);
    } else {
      returned = trace::text<Result>(std::apply(call, arguments));
      wanted_return = trace::text<Result>(trace::make<Result>(trace::seed_of(name.c_str())));
    }
    const std::string wanted = std::apply(
        [&](const auto&... values) {
          return trace::call(name.c_str(), g_fake.implementation(owner.c_str()), values...);
        },
        arguments);
    bool right = wanted == g_fake.last() && returned == wanted_return;
    std::printf("%s %s\n", right ? "ok" : "wrong", name.c_str());
    if (!right) {
      std::printf("  reached %s\n  wanted  %s\n  result %s, wanted %s\n", g_fake.last(),
                  wanted.c_str(), returned.c_str(), wanted_return.c_str());
    }
  }
};

template <typename Class>
void owned(const char* owner, uint32_t slot) {
  void* object = g_fake.object(owner);
  if (object == nullptr) return;  // this release has no such class
  g_fake.forget();
  {
    Owned<Class> first(static_cast<Class*>(object), slot);
    Owned<Class> second = std::move(first);
    first = std::move(second);
    if (g_fake.last()[0] != '\0') std::printf("wrong moved %s\n", owner);
  }
  bool right = std::string("delete ") + owner == g_fake.last();
  std::printf("%s delete %s\n", right ? "ok" : "wrong", owner);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  std::setvbuf(stdout, nullptr, _IOLBF, 0);  // so that a crash keeps what was printed
  try {
    Library& library = open_library(argv[1]);
    void* handle = ::dlopen(argv[1], RTLD_NOW);
    auto find = [&](const char* symbol, auto* function) {
      *function =
          reinterpret_cast<std::remove_pointer_t<decltype(function)>>(::dlsym(handle, symbol));
      return *function != nullptr;
    };
    if (!find("fake_last", &g_fake.last) || !find("fake_forget", &g_fake.forget) ||
        !find("fake_object", &g_fake.object) ||
        !find("fake_implementation", &g_fake.implementation)) {
      return 3;
    }
    const Calls& calls = library.calls;
#define ZL_TRT_CALL(klass, method, result, parameters) \
  Caller<klass, result parameters>::check(calls.klass##_##method, #klass, #method);
#include "tensorrt/calls.inc"
#undef ZL_TRT_CALL
#define OWNED(klass) owned<klass>(#klass, 1)
    OWNED(Builder);
    OWNED(BuilderConfig);
    OWNED(NetworkDefinition);
    OWNED(Runtime);
    OWNED(RuntimeConfig);
    OWNED(RuntimeCache);
    OWNED(CudaEngine);
    OWNED(ExecutionContext);
    OWNED(EngineInspector);
    OWNED(Refitter);
    OWNED(SerializationConfig);
    OWNED(HostMemory);
    OWNED(TimingCache);
#undef OWNED
    owned<Parser>("Parser", calls.Parser_destroy.slot());
    owned<ParserRefitter>("ParserRefitter", calls.ParserRefitter_destroy.slot());

    // The factories pass the logger in the layout of the family, and the library's own version.
    void* logger = library.logger.address(library.family);
    Owned<Builder> builder = make_builder(library);
    bool right = g_fake.last() == trace::call("builder", logger, library.number);
    Owned<Refitter> refitter = make_refitter(library, nullptr);
    right &= g_fake.last() ==
             trace::call("refitter", static_cast<void*>(nullptr), logger, library.number);
    Owned<Runtime> runtime = make_runtime(library);
    right &= g_fake.last() == trace::call("runtime", logger, library.number);
    std::printf("%s factories\n", right ? "ok" : "wrong");
  } catch (const Error& error) {
    std::printf("error %s\n", error.what());
    return 1;
  }
  return 0;
}

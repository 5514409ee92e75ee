"""Source of a library that plays a release of TensorRT: its objects write down what is called.

The virtual tables are laid out by the compiler, from classes whose methods stand in the order of
the layouts. So a wrapper that reaches the method it is named after has the right slot, offset and
calling convention.
"""

from __future__ import annotations

from tests.abi import tables
from tests.abi.tables import FAMILIES

HEAD = """
#include <dlfcn.h>
#include <cstdlib>
#include <string>
#include "trace.h"
using namespace zerolane::trt;
namespace {
std::string g_last;

template <typename Result, typename... Arguments>
Result hit(const char* name, const void* self, const Arguments&... arguments) {
  g_last = trace::call(name, self, arguments...);
  if constexpr (!std::is_void_v<Result>) return trace::make<Result>(trace::seed_of(name));
}
"""

# A public object: table of its own, then the pointer to the implementation.
OBJECT = """
struct {owner}Object{base} {{
  virtual ~{owner}Object() {{ g_last = "delete {owner}"; }}
  {extra}
  Fake{owner}* implementation = &g_{owner};
}};
"""

TAIL = """
}  // namespace

extern "C" {
const char* fake_last() { return g_last.c_str(); }
void fake_forget() { g_last.clear(); }
void* fake_object(const char* name) {
  std::string wanted = name;
#define CLASS(owner) if (wanted == #owner) return MAKE_##owner;
CLASSES
  return nullptr;
}
const void* fake_implementation(const char* name) {
  std::string wanted = name;
#undef CLASS
#define CLASS(owner) if (wanted == #owner) return &g_##owner;
CLASSES
  return nullptr;
}
"""

CORE = """
int32_t getInferLibVersion() { return NUMBER; }
void* createInferBuilder_INTERNAL(void* logger, int32_t version) {
  g_last = trace::call("builder", logger, version);
  return new BuilderObject;
}
void* createInferRefitter_INTERNAL(void* engine, void* logger, int32_t version) {
  g_last = trace::call("refitter", engine, logger, version);
  return new RefitterObject;
}
void* getPluginRegistry() { return &g_PluginRegistry; }
"""

RUNTIME = """
// FAKE_RUNTIME: "small" as the lean library fails, "null" as others do; both tell why.
void* createInferRuntime_INTERNAL(void* logger, int32_t version) {
  g_last = trace::call("runtime", logger, version);
  const char* how = std::getenv("FAKE_RUNTIME");
  if (how == nullptr) return new RuntimeObject;
  static_cast<LOGGER*>(logger)->log(
      Severity::kError,
      "createInferRuntime: Error Code 6: API Usage Error "
      "(CUDA initialization failure with error: 35)");
  return std::string(how) == "small" ? reinterpret_cast<void*>(0x228) : nullptr;
}
"""

PRIVATE = """
int getPrivateApi_INTERNAL() { return 42; }
"""

END = """
}  // extern "C"
"""

PARSER = """
#include <dlfcn.h>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
extern "C" {
int getNvOnnxParserVersion() { return 100; }
static void* object(const char* name) {
  void* core = FIND_CORE;
  auto make = reinterpret_cast<void* (*)(const char*)>(dlsym(core, "fake_object"));
  return make == nullptr ? nullptr : make(name);
}
void* createNvOnnxParser_INTERNAL(void*, void*, int32_t) { return object("Parser"); }
void* createNvOnnxParserRefitter_INTERNAL(void*, void*, int32_t) {
  return object("ParserRefitter");
}
// What the parser of TensorRT-RTX does before it makes a plugin.
int fake_private() {
  void* core = dlopen("libtensorrt_rtx.so", RTLD_LAZY);
  auto find = core == nullptr ? nullptr : dlsym(core, "getPrivateApi_INTERNAL");
  return find == nullptr ? -1 : reinterpret_cast<int (*)()>(find)();
}
}
"""


def _class(owner: str, methods: list[str]) -> str:
    rows = {call.method: call for call in tables.calls() if call.owner == owner}
    body = []
    for method in methods:
        if method == "~":
            note = f'g_last = "delete {owner}";' if owner in tables.DIRECT else ""
            body.append(f"  virtual ~Fake{owner}() {{ {note} }}")
        elif method == "~free":
            continue
        elif method in rows:
            row = rows[method]
            named = [f"{kind} a{i}" for i, kind in enumerate(row.parameters)]
            passed = "".join(f", a{i}" for i in range(len(named)))
            body.append(
                f"  virtual {row.result} {method}({', '.join(named)}) "
                f'{{ return hit<{row.result}>("{owner}.{method}", this{passed}); }}'
            )
        else:
            body.append(f'  virtual void {method}() {{ hit<void>("{owner}.{method}", this); }}')
    # Where the library deletes it, it must stay: it is a static object.
    body.append("  static void operator delete(void*) {}")
    return f"struct Fake{owner} {{\n" + "\n".join(body) + f"\n}};\nFake{owner} g_{owner};\n"


def library(
    family: str, minor: int, *, runtime_only: bool = False, number: int | None = None
) -> str:
    """The source for one release. `number`: what it says its version is, if not the truth."""
    order = tables.order_of(family, minor)
    parts = [HEAD]
    for owner, methods in order.items():
        parts.append(_class(owner, methods))
    makers = []
    for owner in order:
        if owner in tables.DIRECT:
            makers.append(f"#define MAKE_{owner} &g_{owner}")
            continue
        base, extra = "", ""
        if owner == "PluginV3Layer":  # its Layer comes first
            base = " : LayerObject"
        if owner == "NetworkDefinition":
            extra = "virtual int getBuilder() { return 0; }"
        if owner == "BuilderConfig":
            extra = "virtual void setAvgTimingIterations(int) {}"
        parts.append(OBJECT.format(owner=owner, base=base, extra=extra))
        makers.append(f"#define MAKE_{owner} new {owner}Object")
    parts += makers
    classes = " ".join(f"CLASS({owner})" for owner in order)
    parts.append(TAIL.replace("CLASSES", classes))
    logger = "Logger10" if family == "10" else "Logger"
    made = RUNTIME.replace("LOGGER", logger)
    said = FAMILIES[family].number(minor) if number is None else number
    core = CORE if not runtime_only else CORE[: CORE.index("void* createInferBuilder")]
    parts += [core.replace("NUMBER", str(said)), made, PRIVATE if family == "rtx" else "", END]
    return "\n".join(parts)


def parser(family: str) -> str:
    """The source of the parser beside it. Only that of RTX is not linked with its core."""
    core = '"libtensorrt_rtx.so.1"' if family == "rtx" else f'"{FAMILIES[family].soname}"'
    return PARSER.replace("FIND_CORE", f"dlopen({core}, RTLD_LAZY | RTLD_NOLOAD)")

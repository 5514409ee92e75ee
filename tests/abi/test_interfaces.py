"""Classes that we hand to the library: places of the methods, destructor, kind and version."""

from __future__ import annotations

from tests.abi import tables
from tests.abi.compiler import Compiler, run

PROGRAM = """
#include <cstdio>
#include <cstring>
#include <string>
#include "trt/objects.h"
using namespace zerolane::trt;

// Itanium: a pointer to a virtual method holds 1 + 8 * slot.
template <typename Method>
void place(const char* name, Method method) {
  size_t word;
  std::memcpy(&word, &method, sizeof(word));
  std::printf("%s %zu\\n", name, (word - 1) / 8);
}

// Calls an object by slot, as the library does.
struct Names { const char* kind; int32_t major; int32_t minor; };
template <typename Class>
void info(const char* name, Class* object) {
  using Function = Names (*)(const void*);
  const Function* table;
  std::memcpy(&table, object, sizeof(table));
  using Language = int32_t (*)(const void*);
  int32_t language = reinterpret_cast<Language>(reinterpret_cast<void*>(table[0]))(object);
  Names names = table[1](object);
  std::printf("%s = %s %d.%d language %d\\n", name, names.kind, names.major, names.minor, language);
}

int g_destroyed = 0;
template <typename Class>
void destroy(const char* name, Class* object, int slot) {
  g_destroyed = 0;
  using Function = void (*)(void*);
  const Function* table;
  std::memcpy(&table, object, sizeof(table));
  table[slot](object);
  std::printf("%s ~free %d\\n", name, g_destroyed);
}
"""

# How a class is completed so that it can be made.
PURE = {
    "Logger": "void log(Severity, const char*) noexcept override {}",
    "Logger10": "void log(Severity, const char*) noexcept override {}",
    "Profiler": "void reportLayerTime(const char*, float) noexcept override {}",
    "Profiler10": "void reportLayerTime(const char*, float) noexcept override {}",
    "StreamWriter": "int64_t write(const void*, int64_t n) noexcept override { return n; }",
    "StreamReader": "int64_t read(void*, int64_t n) noexcept override { return n; }",
    "StreamReaderV2": (
        "int64_t read(void*, int64_t n, StreamHandle) noexcept override { return n; }"
        "bool seek(int64_t, SeekPosition) noexcept override { return true; }"
    ),
    "ProgressMonitor": (
        "void phaseStart(const char*, const char*, int32_t) noexcept override {}"
        "bool stepComplete(const char*, int32_t) noexcept override { return true; }"
        "void phaseFinish(const char*) noexcept override {}"
    ),
    "OutputAllocator": "void notifyShape(const char*, const Dims&) noexcept override {}",
    "GpuAllocator": (
        "void* allocate(uint64_t, uint64_t, uint32_t) noexcept override { return nullptr; }"
        "bool deallocate(void*) noexcept override { return true; }"
    ),
    "GpuAsyncAllocator": (
        "void* allocateAsync(uint64_t, uint64_t, uint32_t, StreamHandle) noexcept override"
        " { return nullptr; }"
        "bool deallocateAsync(void*, StreamHandle) noexcept override { return true; }"
    ),
    "DebugListener": (
        "bool processDebugTensor(const void*, TensorLocation, DataType, const Dims&, const char*,"
        " StreamHandle) noexcept override { return true; }"
    ),
    "PluginV3": (
        "PluginCapability* getCapabilityInterface(PluginCapabilityType) noexcept override"
        " { return nullptr; }"
        "PluginV3* clone() noexcept override { return nullptr; }"
    ),
    "PluginV3OneCore": (
        "const char* getPluginName() const noexcept override { return nullptr; }"
        "const char* getPluginVersion() const noexcept override { return nullptr; }"
        "const char* getPluginNamespace() const noexcept override { return nullptr; }"
    ),
    "PluginResource": (
        "int32_t release() noexcept override { return 0; }"
        "PluginResource* clone() noexcept override { return nullptr; }"
    ),
    "PluginCreatorV3One": (
        "PluginV3* createPlugin(const char*, const PluginFieldCollection*, TensorRTPhase)"
        " noexcept override { return nullptr; }"
        "const PluginFieldCollection* getFieldNames() noexcept override { return nullptr; }"
        "const char* getPluginName() const noexcept override { return nullptr; }"
        "const char* getPluginVersion() const noexcept override { return nullptr; }"
        "const char* getPluginNamespace() const noexcept override { return nullptr; }"
    ),
    "PluginV3OneRuntime": (
        "int32_t onShapeChange(const PluginTensorDesc*, int32_t, const PluginTensorDesc*, int32_t)"
        " noexcept override { return 0; }"
        "int32_t enqueue(const PluginTensorDesc*, const PluginTensorDesc*, const void* const*,"
        " void* const*, void*, StreamHandle) noexcept override { return 0; }"
        "PluginV3* attachToContext(PluginResourceContext*) noexcept override { return nullptr; }"
        "const PluginFieldCollection* getFieldsToSerialize() noexcept override { return nullptr; }"
    ),
}
BUILD = (
    "int32_t configurePlugin(const DynamicPluginTensorDesc*, int32_t,"
    " const DynamicPluginTensorDesc*, int32_t) noexcept override { return 0; }"
    "int32_t getOutputDataTypes(DataType*, int32_t, const DataType*, int32_t)"
    " const noexcept override { return 0; }"
    "int32_t getOutputShapes(const DimsExprs*, int32_t, const DimsExprs*, int32_t, DimsExprs*,"
    " int32_t, ExprBuilder&) noexcept override { return 0; }"
    "bool supportsFormatCombination(int32_t, const DynamicPluginTensorDesc*, int32_t, int32_t)"
    " noexcept override { return true; }"
    "int32_t getNbOutputs() const noexcept override { return 1; }"
)
PURE |= {"PluginV3OneBuild": BUILD, "PluginV3OneBuildV2": BUILD}


def blocks() -> dict[str, tuple[str, list[str]]]:
    """Class to (kind and version, methods in order); the destructor stands as two entries."""
    found = {}
    for head, places in tables.layout_file("interfaces.txt").items():
        name, _, kind = head.partition(" = ")
        flat = [
            m
            for place in places
            for m in (tables.DESTRUCTOR if place.method == "~" else [place.method])
        ]
        found[name] = (kind, flat)
    return found


def printed(compiler: Compiler) -> list[str]:
    text = [PROGRAM]
    for name, body in PURE.items():
        text.append(
            f"struct My{name} final : {name} {{ ~My{name}() {{ ++g_destroyed; }} {body} }};"
        )
    text.append("int main() {")
    for name, (kind, methods) in blocks().items():
        for method in methods:
            if not method.startswith("~"):
                text.append(f'  place("{name}.{method}", &{name}::{method});')
        if name in PURE:
            if kind:
                text.append(f'  {{ My{name} it; info("{name}", static_cast<{name}*>(&it)); }}')
            slot = methods.index("~free")
            text.append(f'  destroy("{name}", static_cast<{name}*>(new My{name}), {slot});')
    text.append("}")
    return run(compiler.compile("\n".join(text), ["-O1"], "interfaces")).splitlines()


def test_methods_stand_where_the_library_looks(compiler: Compiler) -> None:
    told = dict(line.split(" ") for line in printed(compiler) if line.count(" ") == 1)
    wanted = {
        f"{name}.{method}": str(slot)
        for name, (_, methods) in blocks().items()
        for slot, method in enumerate(methods)
        if not method.startswith("~")
    }
    assert told == wanted


def test_the_freeing_destructor_stands_where_the_library_looks(compiler: Compiler) -> None:
    told = [line for line in printed(compiler) if "~free" in line]
    assert told == [f"{name} ~free 1" for name in blocks() if name in PURE]


def test_kinds_and_versions(compiler: Compiler) -> None:
    told = {line for line in printed(compiler) if " = " in line}
    wanted = {
        f"{name} = {kind} language 0"
        for name, (kind, _) in blocks().items()
        if kind and name in PURE
    }
    assert told == wanted
    assert len(wanted) > 12


LAYER_TIMES = """
#include <cstdio>
#include <cstring>
#include <string>
#include "trt/objects.h"
using namespace zerolane::trt;
struct Times final : LayerTimes {
  void layer_time(const char* layer, float ms) noexcept override {
    std::printf("%s %.1f\\n", layer, ms);
  }
};
template <typename Interface>
void report(void* address, int slot, const char* layer) {
  using Function = void (*)(void*, const char*, float);
  const Function* table;
  std::memcpy(&table, address, sizeof(table));
  table[slot](address, layer, 1.5f);
}
int main() {
  Times times;
  report<Profiler10>(times.address(Family::k10), 0, "ten");
  report<Profiler>(times.address(Family::k11), 4, "eleven");
  report<Profiler>(times.address(Family::kRtx1), 4, "rtx");
}
"""


def test_one_profiler_serves_both_layouts(compiler: Compiler) -> None:
    out = run(compiler.compile(LAYER_TIMES, ["-O1"], "layer_times"))
    assert out == "ten 1.5\neleven 1.5\nrtx 1.5\n"

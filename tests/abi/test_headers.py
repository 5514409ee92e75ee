"""The tables against TensorRT's own headers, where TENSORRT_INCLUDE_DIR names their folder.

The compiler tells where a virtual method stands: a pointer to it holds 1 + 8 * slot. The same is
done with headers made from the layouts, so that the comparison is known to work, and to fail.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import pytest

from tests.abi import tables
from tests.abi.compiler import Compiler, run
from tests.abi.tables import DIRECT, FAMILIES

# Methods that the vendor overloads, and the one that our row means.
OVERLOADS = {
    ("PluginRegistry", "registerCreator"): (
        "bool (nvinfer1::IPluginRegistry::*)"
        "(nvinfer1::IPluginCreatorInterface&, char const*) noexcept"
    ),
    ("PluginRegistry", "deregisterCreator"): (
        "bool (nvinfer1::IPluginRegistry::*)(nvinfer1::IPluginCreatorInterface const&) noexcept"
    ),
    ("Runtime", "deserializeCudaEngine"): (
        "nvinfer1::ICudaEngine* (nvinfer1::apiv::VRuntime::*)(void const*, std::size_t) noexcept"
    ),
    ("Runtime", "deserializeCudaEngineFromReader"): (
        "nvinfer1::ICudaEngine* (nvinfer1::apiv::VRuntime::*)(nvinfer1::IStreamReader&) noexcept"
    ),
}
VENDOR_NAMES = {"deserializeCudaEngineFromReader": "deserializeCudaEngine"}

PROGRAM = """
#include <cstddef>
#include <cstdio>
#include <cstring>
#include "NvInfer.h"
#include "NvOnnxParser.h"
template <typename Method>
void place(const char* owner, const char* name, Method method) {
  std::size_t word;
  std::memcpy(&word, &method, sizeof(word));
  std::printf("%s %s %zu\\n", owner, name, (word - 1) / 8);
}
int main() {
"""
VERSION = """
#include <cstdio>
#include "NvInferVersion.h"
int main() { std::printf("%d %d\\n", NV_TENSORRT_MAJOR, NV_TENSORRT_MINOR); }
"""
# For headers without CUDA's own beside them.
CUDA = """
#pragma once
typedef struct CUstream_st* cudaStream_t;
typedef struct CUevent_st* cudaEvent_t;
"""


def vendor_class(owner: str) -> str:
    if owner.startswith("Parser"):
        return f"nvonnxparser::I{owner}"
    return f"nvinfer1::I{owner}" if owner in DIRECT else f"nvinfer1::apiv::V{owner}"


def release_of(compiler: Compiler, include: Path) -> tuple[str, int]:
    """Family and minor release of a folder of headers."""
    made = compiler.compile(VERSION, ["-I", str(include)], "version", dict(headers_of(include)))
    major, minor = map(int, run(made).split())
    return {10: "10", 11: "11", 1: "rtx"}[major], minor


def headers_of(include: Path) -> list[tuple[str, str]]:
    """The headers as a part of what a made file depends on."""
    return [(f"{p.name}.copy", p.read_text()) for p in sorted(include.glob("Nv*.h"))]


def complaints(compiler: Compiler, include: Path) -> list[str]:
    """What the headers place elsewhere than the tables do."""
    family, minor = release_of(compiler, include)
    ours = {
        place: slot
        for place, slot in tables.slots_of(family, minor).items()
        if place[1] != "destroy"
    }
    lines = [PROGRAM]
    for owner, method in ours:
        name = VENDOR_NAMES.get(method, method)
        pointer = f"&{vendor_class(owner)}::{name}"
        cast = OVERLOADS.get((owner, method))
        if cast is not None and family == "10":  # later releases have one each
            pointer = f"static_cast<{cast}>({pointer})"
        lines.append(f'  place("{owner}", "{method}", {pointer});')
    lines.append("}")
    beside = dict(headers_of(include))
    if not (include / "cuda_runtime_api.h").exists():
        beside["cuda_runtime_api.h"] = CUDA
    made, text = compiler.try_compile(
        "\n".join(lines), ["-w", "-I", str(include)], "headers", beside
    )
    if made is None:
        return re.findall(r"error: .*", text) or [text]
    told = {}
    for line in run(made).splitlines():
        owner, method, slot = line.split()
        told[owner, method] = int(slot)
    return [
        f"{owner}.{method} is slot {told[owner, method]} in the headers, {slot} in the tables"
        for (owner, method), slot in ours.items()
        if told[owner, method] != slot
    ]


def test_the_tables_agree_with_the_vendors_headers(compiler: Compiler) -> None:
    folder = os.environ.get("TENSORRT_INCLUDE_DIR")
    if not folder:
        pytest.skip("TENSORRT_INCLUDE_DIR names no folder with TensorRT's headers")
    assert complaints(compiler, Path(folder)) == []


def mock(folder: Path, family: str, minor: int, order: dict[str, list[str]] | None = None) -> Path:
    """Headers with nothing but the methods, in the order of the layouts."""
    out = [
        "#pragma once\n#include <cstddef>\n#include <cuda_runtime_api.h>",
        "namespace nvinfer1 { class ICudaEngine; class IPluginCreatorInterface;",
        "class IPluginCreator; class IStreamReader;",
    ]
    parser = ['#pragma once\n#include "NvInfer.h"\nnamespace nvonnxparser {']
    for owner, methods in (order or tables.order_of(family, minor)).items():
        body = []
        for method in methods:
            cast = OVERLOADS.get((owner, method))
            name = VENDOR_NAMES.get(method, method).removesuffix("V1")
            if method == "~":
                body.append(f"virtual ~{vendor_class(owner).split('::')[-1]}() noexcept = default;")
            elif method == "~free":
                continue
            elif cast is not None:
                result, parameters = re.fullmatch(r"(.*?) \(.*?\)\((.*)\) noexcept", cast).groups()  # type: ignore[union-attr]
                body.append(f"virtual {result} {name}({parameters}) noexcept = 0;")
            elif method.endswith("CreatorV1"):
                body.append(f"virtual bool {name}(IPluginCreator&, int) noexcept = 0;")
            else:
                body.append(f"virtual void {name}() noexcept = 0;")
        text = (
            f"class {vendor_class(owner).split('::')[-1]} {{ public:\n" + "\n".join(body) + "\n};"
        )
        if owner.startswith("Parser"):
            parser.append(text)
        else:
            out.append(text if owner in DIRECT else f"namespace apiv {{\n{text}\n}}")
    major = FAMILIES[family].major
    version = f"#define NV_TENSORRT_MAJOR {major}\n#define NV_TENSORRT_MINOR {minor}\n"
    folder.mkdir(exist_ok=True)
    (folder / "NvInfer.h").write_text("\n".join([*out, "}"]) + "\n")
    (folder / "NvOnnxParser.h").write_text("\n".join([*parser, "}"]) + "\n")
    (folder / "NvInferVersion.h").write_text(version)
    return folder


@pytest.mark.parametrize(
    ("family", "minor"), [("10", 7), ("10", 8), ("10", 16), ("11", 1), ("11", 4), ("rtx", 7)]
)
def test_the_comparison_works(compiler: Compiler, tmp_path: Path, family: str, minor: int) -> None:
    assert complaints(compiler, mock(tmp_path, family, minor)) == []


def test_a_moved_method_is_named(compiler: Compiler, tmp_path: Path) -> None:
    order = tables.order_of("11", 4)
    methods = order["ExecutionContext"]
    at = methods.index("enqueueV3")
    methods[at - 1], methods[at] = methods[at], methods[at - 1]
    assert complaints(compiler, mock(tmp_path, "11", 4, order)) == [
        "ExecutionContext.getTemporaryStorageAllocator is slot 36 in the headers, 35 in the tables",
        "ExecutionContext.enqueueV3 is slot 35 in the headers, 36 in the tables",
    ]


def test_the_order_of_10_8_is_not_that_of_10_9(compiler: Compiler, tmp_path: Path) -> None:
    """Headers of one release that call themselves another."""
    told = complaints(compiler, mock(tmp_path, "10", 9, tables.order_of("10", 8)))
    assert "NetworkDefinition.getFlags is slot 65 in the headers, 64 in the tables" in told


def test_a_missing_method_is_named(compiler: Compiler, tmp_path: Path) -> None:
    order = tables.order_of("11", 4)
    order["Refitter"].remove("releaseRefitResources")
    told = complaints(compiler, mock(tmp_path, "11", 4, order))
    assert any("releaseRefitResources" in line for line in told)

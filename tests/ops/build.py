"""Builds libraries of ops for tests, and models of one node."""

from __future__ import annotations

import os
import subprocess
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np
import pytest

ROOT = Path(__file__).parents[2]


def compile_ops(source: Path, folder: Path, *flags: str) -> Path:
    """A library of ops from one source file, against the headers of this checkout."""
    out = folder / f"lib{source.stem}.so"
    command = [
        *(
            os.environ.get("CXX", "g++"),
            "-std=c++17",
            "-O1",
            "-fPIC",
            "-shared",
            "-Wall",
            "-Wextra",
        ),
        *(f"-I{ROOT / 'cpp' / 'include'}", f"-I{ROOT / 'third_party'}"),
        *(str(source), "-o", str(out), *flags),
    ]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        pytest.skip(f"no C++ compiler: {error}")
    assert done.returncode == 0, done.stderr
    return out


@cache
def ops_library() -> Path:
    """The library of tests/ops/library.cpp."""
    return compile_ops(Path(__file__).with_name("library.cpp"), Path(mkdtemp(prefix="zl-ops-")))


@cache
def plugin_library() -> Path:
    """The library of tests/ops/plugins.cpp, whose CUDA bodies run on the stand-in for CUDA.

    Kept between processes, as many of them use it.
    """
    from tests.fakes.tensorrt import libraries

    if (reason := libraries.missing()) is not None:
        pytest.skip(reason)
    source = Path(__file__).with_name("plugins.cpp")
    include = ROOT / "cpp" / "include"
    parts = [source, ROOT / "cpp/cuda/table.h", *include.rglob("*.h")]
    return libraries._compile("libplugins.so", [source], ["-shared", f"-I{include}"], parts)


def graph(
    nodes: list[Any],
    inputs: dict[str, tuple[int, list[int | str]]],
    outputs: dict[str, tuple[int, list[int | str] | None]],
    *,
    versions: dict[str, int] | None = None,
    functions: tuple[Any, ...] = (),
) -> bytes:
    """A model. inputs, outputs: name to element type (of TensorProto) and shape.

    versions: of the domains that it imports; 1 where not given.
    """
    from onnx import helper

    domains = sorted({node.domain for node in nodes} | {f.domain for f in functions})
    imports = dict.fromkeys(domains, 1) | {"": 18} | (versions or {})
    made = helper.make_graph(
        nodes,
        "graph",
        [helper.make_tensor_value_info(name, *spec) for name, spec in inputs.items()],
        [helper.make_tensor_value_info(name, *spec) for name, spec in outputs.items()],
    )
    model = helper.make_model(
        made,
        ir_version=9,
        opset_imports=[helper.make_opsetid(*pair) for pair in imports.items()],
        functions=functions,
    )
    data: bytes = model.SerializeToString()
    return data


def op_node(
    op: str, inputs: list[str], outputs: list[str], name: str = "node", **attributes: Any
) -> Any:
    """A node of "domain::Op". An empty list is one of integers."""
    from onnx import AttributeProto, helper

    domain, _, op_type = op.rpartition("::")
    empty = [key for key, value in attributes.items() if value == []]
    given = {key: value for key, value in attributes.items() if key not in empty}
    node = helper.make_node(op_type, inputs, outputs, name=name, domain=domain, **given)
    node.attribute.extend(AttributeProto(name=key, type=AttributeProto.INTS) for key in empty)
    return node


def one_node(
    op: str,
    inputs: dict[str, tuple[Any, Any] | None],
    outputs: list[str],
    *,
    version: int = 1,
    node_name: str = "node",
    **attributes: Any,
) -> bytes:
    """A model of one node. inputs: name to (dtype, shape), None for one that is left out."""
    import onnx
    from onnx import helper

    domain, _, op_type = op.rpartition("::")  # none: a standard operator
    node = helper.make_node(
        op_type,
        [name if spec is not None else "" for name, spec in inputs.items()],
        outputs,
        name=node_name,
        domain=domain,
        **attributes,
    )
    graph = helper.make_graph(
        [node],
        "graph",
        [
            helper.make_tensor_value_info(
                name, helper.np_dtype_to_tensor_dtype(np.dtype(spec[0])), spec[1]
            )
            for name, spec in inputs.items()
            if spec is not None
        ],
        [onnx.ValueInfoProto(name=name) for name in outputs if name],
    )
    model = helper.make_model(
        graph,
        ir_version=9,
        opset_imports=[
            helper.make_opsetid("", 18),
            *([helper.make_opsetid(domain, version)] if domain else []),
        ],
    )
    data: bytes = model.SerializeToString()
    return data
